// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resync: what a volume's stream lacks is read from the origin into the ring,
 * between the writes that go on.
 *
 * One work item a group does all that is decided here: it leaves TRACK, begins
 * and ends resyncs, and starts reads. A read goes through these steps:
 *
 *   1. a run of dirty bits is picked, and a struct rep_rio
 *   2. its range is taken in the interval set; from here on no write is on its
 *      way there, and none can begin
 *   3. a record is reserved, and the bits are cleared: a later write of the
 *      range has a later number
 *   4. the origin is read straight into the ring
 *   5. the record is committed; or, if the read failed, it is void and the bits
 *      are set again
 *
 * A range that cannot be read is tried again in another pass, a bit at a time,
 * with a growing pause between passes.
 */
#include <linux/slab.h>
#include "repagent.h"
#include "trace.h"

#define DWELL_MIN	HZ		/* in TRACK at least, doubled for each flap */
#define DWELL_SHIFT_MAX	4
#define VERIFIES_MAX	4		/* on their way, of a volume */
#define RETRY		(HZ / 10)	/* where room or memory was short */
#define BACKOFF_MIN	HZ		/* between passes over unreadable ranges */
#define BACKOFF_MAX	(60 * HZ)

/* One resync read, or the read of a VERIFY. */
struct rep_rio {
	struct rep_range	range;
	struct rep_volume	*v;
	struct rep_record	rec;
	struct block_device	*bdev;
	sector_t		sector;
	sector_t		nr_sectors;
	bool			verify;
	unsigned long		*spare;		/* a page for rep_dirty_clear() */
	struct bio		bio;
	struct bio_vec		vecs[REP_RESYNC_SECTORS >> (PAGE_SHIFT - SECTOR_SHIFT)];
};

/**
 * rep_resync_kick - there may be something to do
 * @g: the group
 *
 * Context: any.
 */
void rep_resync_kick(struct rep_group *g)
{
	mod_delayed_work(g->wq, &g->work, 0);
}

/* A rep_rio is done with. */
static void rio_put(struct rep_rio *rio)
{
	struct rep_volume *v = rio->v;
	struct rep_group *g = v->group;
	bool verify = rio->verify;
	unsigned long irq;

	rep_range_unlock(v, &rio->range);
	free_page((unsigned long)rio->spare);
	rio->spare = NULL;
	spin_lock_irqsave(&g->lock, irq);
	v->reads--;
	if (verify) {
		v->verifies--;
	} else {
		v->read_sectors -= rio->nr_sectors;
		__clear_bit(rio - g->rio, &g->rio_busy);
	}
	/* Under the lock: a volume without reads may go at any moment, and g->rio with it. */
	mod_delayed_work(g->wq, &g->work, 0);
	wake_up_all(&g->idle);
	spin_unlock_irqrestore(&g->lock, irq);
	if (verify)
		kfree(rio);
}

static void read_endio(struct bio *bio)
{
	struct rep_rio *rio = bio->bi_private;
	struct rep_volume *v = rio->v;
	struct rep_group *g = v->group;
	int error = blk_status_to_errno(bio->bi_status);
	unsigned long irq;

	bio_uninit(bio);
	if (error && !rio->verify) {
		spin_lock_irqsave(&g->lock, irq);
		rep_dirty_set(&v->dirty, rio->sector, rio->nr_sectors);
		v->bad_reads++;
		spin_unlock_irqrestore(&g->lock, irq);
	}
	if (error)
		DMERR_LIMIT("%s/%s: %s read of sectors %llu + %llu failed: %d",
			    g->name, v->name, rio->verify ? "verify" : "resync",
			    (unsigned long long)rio->sector,
			    (unsigned long long)rio->nr_sectors, error);
	trace_repagent_resync_read(v, rio->sector, rio->nr_sectors, error);
	rep_commit(g, &rio->rec, error ? REPAGENT_SLOT_VOID : REPAGENT_SLOT_READY);
	rio_put(rio);
}

/* Steps 3 and 4: the range is ours. Process context. */
static void rio_granted(struct rep_range *range)
{
	struct rep_rio *rio = container_of(range, struct rep_rio, range);
	struct rep_volume *v = rio->v;
	struct rep_group *g = v->group;
	unsigned int len = rio->nr_sectors << SECTOR_SHIFT;
	struct bio *bio = &rio->bio;
	bool reserved = false;

	spin_lock_irq(&g->lock);
	if (rio->verify) {
		reserved = g->capture == REPAGENT_CAPTURE_STREAM && !v->stopped &&
			   rep_reserve_read(v, &rio->rec, REPAGENT_REC_VERIFY,
					    rio->sector, rio->nr_sectors);
	} else if (v->image == REPAGENT_IMAGE_RESYNC && !v->stopped &&
		   !rep_dirty_clear(&v->dirty, rio->sector, rio->nr_sectors,
				    &rio->spare)) {
		reserved = rep_reserve_read(v, &rio->rec, REPAGENT_REC_RESYNC,
					    rio->sector, rio->nr_sectors);
		if (!reserved)
			rep_dirty_set(&v->dirty, rio->sector, rio->nr_sectors);
	}
	if (!reserved && !rio->verify)
		v->retry_at = jiffies + RETRY;
	spin_unlock_irq(&g->lock);
	if (!reserved) {
		rio_put(rio);
		return;
	}
	/* A run takes a page at least, but for the ends of what is less than one. */
	bio_init(bio, rio->bdev, rio->vecs, ARRAY_SIZE(rio->vecs), REQ_OP_READ);
	bio->bi_iter.bi_sector = rio->sector;
	bio->bi_private = rio;
	bio->bi_end_io = read_endio;
	rep_ring_fill_bio(&g->ring, bio, rio->rec.pos, len);
	submit_bio_noacct(bio);
}

/* Step 2. The range lies within one chunk. Returns whether it is ours. */
static bool rio_start(struct rep_rio *rio)
{
	rio->range.wide = NULL;
	rio->range.granted = rio_granted;
	return rep_range_lock(rio->v, &rio->range, rio->sector, rio->nr_sectors);
}

/**
 * rep_verify - read a range into the stream, for the hub to compare
 * @v: the volume
 * @sector: first sector
 * @nr_sectors: length, up to REPAGENT_MAX_VERIFY bytes; within one MiB
 *
 * The volume's worker reads it when no write is on its way there any more; if
 * the group does not stream or has no room then, nothing comes of it.
 *
 * Context: process; under rep_group.mutex. Does not wait for the origin.
 * Return: 0, -EINVAL for a range that is none, -EAGAIN if the group does not
 * stream, the volume is suspended, or too many are on their way, -ENOSPC if
 * there is no room, -ENOMEM.
 */
int rep_verify(struct rep_volume *v, sector_t sector, sector_t nr_sectors)
{
	struct rep_group *g = v->group;
	struct rep_rio *rio;
	int err = 0;

	if (!nr_sectors || nr_sectors > REPAGENT_MAX_VERIFY >> SECTOR_SHIFT ||
	    nr_sectors > g->ring.max_len >> SECTOR_SHIFT ||
	    sector >= v->dirty.sectors || nr_sectors > v->dirty.sectors - sector ||
	    rep_range_is_wide(sector, nr_sectors))
		return -EINVAL;
	rio = kzalloc(sizeof(*rio), GFP_NOIO);
	if (!rio)
		return -ENOMEM;
	rio->v = v;
	rio->verify = true;
	rio->sector = sector;
	rio->nr_sectors = nr_sectors;
	spin_lock_irq(&g->lock);
	if (g->capture != REPAGENT_CAPTURE_STREAM || !v->active || v->stopped ||
	    v->verifies == VERIFIES_MAX) {
		err = -EAGAIN;
	} else if (!rep_room_for_read(&g->ring, nr_sectors << SECTOR_SHIFT)) {
		err = -ENOSPC;
	} else {
		rio->bdev = v->active->origin->bdev;
		v->reads++;
		v->verifies++;
	}
	spin_unlock_irq(&g->lock);
	if (err) {
		kfree(rio);
	} else if (rio_start(rio)) {
		LIST_HEAD(list);

		list_add(&rio->range.queue, &list);
		rep_volume_queue(v, &list);
	}
	return err;
}

/* ---- what is decided ------------------------------------------------------ */

static bool ring_is_low(struct rep_ring *r)
{
	return r->payload_head - r->payload_tail < r->payload_size / 4 &&
	       r->head - 1 - r->acked < r->nr_slots / 4;
}

/*
 * INIT or TRACK -> STREAM, with RESYNC_BEGIN for every volume that lacks
 * something as the first records; if none does, for all, so that the stream
 * always says where it goes on. Then VOLUME_REMOVE for those that went
 * meanwhile. Returns jiffies to wait before the next try, 0 if there is none or
 * it is done.
 */
static unsigned long enter_stream(struct rep_group *g)
{
	unsigned long dwell = DWELL_MIN << min_t(unsigned int, g->flaps, DWELL_SHIFT_MAX);
	bool dirty = false;
	int i;

	lockdep_assert_held(&g->lock);
	if (g->capture == REPAGENT_CAPTURE_STREAM || !g->connected ||
	    !ring_is_low(&g->ring))
		return 0;
	if (g->capture == REPAGENT_CAPTURE_TRACK && time_before(jiffies, g->since + dwell))
		return g->since + dwell - jiffies;

	rep_set_capture(g, REPAGENT_CAPTURE_STREAM, REPAGENT_REASON_NONE);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (g->volumes[i] && g->volumes[i]->active &&
		    g->volumes[i]->image == REPAGENT_IMAGE_DIRTY)
			dirty = true;
	for (i = 0; i < REPAGENT_MAX_VOLUMES && !dirty; i++)
		if (g->volumes[i] && g->volumes[i]->active)
			rep_image_dirty(g->volumes[i], REPAGENT_REASON_NONE);
	rep_begin_resyncs(g);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		struct rep_volume *v = g->volumes[i];

		/* The ring is low: there is room. */
		if (v && v->remove_seq == REP_REMOVE_OWED)
			rep_emit(g, v, REPAGENT_REC_VOLUME_REMOVE, 0, 0, &v->remove_seq);
	}
	return 0;
}

/**
 * rep_resync_restart - a volume's resync is to look at all of it anew
 * @v: the volume
 *
 * Context: under rep_group.lock.
 */
void rep_resync_restart(struct rep_volume *v)
{
	lockdep_assert_held(&v->group->lock);
	v->cursor = 0;
	v->bad_reads = 0;
	v->careful = false;
	v->backoff = BACKOFF_MIN;
	v->retry_at = jiffies;
}

/**
 * rep_begin_resyncs - DIRTY -> RESYNC, of all volumes of a streaming group
 * @g: the group
 *
 * Context: under rep_group.lock.
 * Return: false if there was no room for a RESYNC_BEGIN.
 */
bool rep_begin_resyncs(struct rep_group *g)
{
	int i;

	lockdep_assert_held(&g->lock);
	if (g->capture != REPAGENT_CAPTURE_STREAM)
		return true;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		struct rep_volume *v = g->volumes[i];

		if (!v || !v->active || v->image != REPAGENT_IMAGE_DIRTY)
			continue;
		if (rep_emit(g, v, REPAGENT_REC_RESYNC_BEGIN, 0, v->dirty.sectors, NULL))
			return false;
		rep_set_image(v, REPAGENT_IMAGE_RESYNC, v->reason);
		rep_resync_restart(v);
	}
	return true;
}

/* The hub is to know whose map is not kept, for it may outlive what the map's own device remembers. */
static void tell_maps(struct rep_group *g)
{
	int i;

	lockdep_assert_held(&g->lock);
	for (i = 0; i < REPAGENT_MAX_VOLUMES && g->capture == REPAGENT_CAPTURE_STREAM; i++) {
		struct rep_volume *v = g->volumes[i];
		int error;

		if (!v || !v->active)
			continue;
		error = rep_map_error(v->map);
		if (!error != !v->map_error &&
		    !rep_emit(g, v, error ? REPAGENT_REC_MAP_ERROR : REPAGENT_REC_MAP_OK, -error, 0, NULL))
			v->map_error = error;
	}
}

/* RESYNC -> CLEAN. */
static void end_resync(struct rep_group *g, struct rep_volume *v)
{
	lockdep_assert_held(&g->lock);
	if (v->dirty.count || v->read_sectors ||
	    rep_emit(g, v, REPAGENT_REC_RESYNC_END, 0, v->dirty.sectors, NULL))
		return;
	v->resyncs++;
	rep_set_image(v, REPAGENT_IMAGE_CLEAN, REPAGENT_REASON_NONE);
}

/*
 * Step 1. Returns NULL if there is nothing to read now; then *delay may say when
 * there is.
 */
static struct rep_rio *pick(struct rep_group *g, struct rep_volume *v,
			    unsigned long *delay)
{
	sector_t max = v->careful ? 1 << REP_FINE_SHIFT :
		       min_t(sector_t, REP_RESYNC_SECTORS,
			     g->ring.payload_size >> (SECTOR_SHIFT + 4));
	struct rep_rio *rio;
	unsigned int i;
	sector_t n;

	lockdep_assert_held(&g->lock);
	if (v->image != REPAGENT_IMAGE_RESYNC || v->stopped || !v->active)
		return NULL;
	if (v->cursor >= v->dirty.sectors) {
		/* The pass is over once its last read is. */
		if (v->reads)
			return NULL;
		if (v->bad_reads) {
			v->careful = true;
			v->retry_at = jiffies + v->backoff;
			v->backoff = min(2 * v->backoff, BACKOFF_MAX + 0UL);
			v->bad_reads = 0;
		}
		v->cursor = 0;
	}
	if (time_before(jiffies, v->retry_at)) {
		*delay = min(*delay, v->retry_at - jiffies);
		return NULL;
	}
	i = find_first_zero_bit(&g->rio_busy, REP_RIOS);
	if (i == REP_RIOS || !rep_room_for_read(&g->ring, max << SECTOR_SHIFT))
		return NULL;
	v->cursor = rep_dirty_next(&v->dirty, v->cursor, max, &n);
	if (v->cursor >= v->dirty.sectors) {
		/* Let the check above decide, with or without reads on the way. */
		if (!v->reads && v->dirty.count)
			*delay = 0;
		return NULL;
	}
	__set_bit(i, &g->rio_busy);
	rio = &g->rio[i];
	rio->v = v;
	rio->bdev = v->active->origin->bdev;
	rio->sector = v->cursor;
	rio->nr_sectors = n;
	v->cursor += n;
	v->reads++;
	v->read_sectors += n;
	return rio;
}

/**
 * rep_resync_work - decide what a group is to do next, and do it
 * @work: rep_group.work
 *
 * Context: the group's workqueue, one at a time.
 */
void rep_resync_work(struct work_struct *work)
{
	struct rep_group *g = container_of(to_delayed_work(work), struct rep_group, work);
	unsigned long delay = MAX_SCHEDULE_TIMEOUT, dwell;
	bool more;
	int i;

	spin_lock_irq(&g->lock);
	dwell = enter_stream(g);
	if (dwell)
		delay = dwell;
	do {
		more = false;
		rep_begin_resyncs(g);
		tell_maps(g);
		for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
			struct rep_volume *v = g->volumes[i];
			struct rep_rio *rio;

			if (!v || v->image != REPAGENT_IMAGE_RESYNC)
				continue;
			end_resync(g, v);
			rio = pick(g, v, &delay);
			if (!rio)
				continue;
			spin_unlock_irq(&g->lock);
			/* Best effort: without it the range stays dirty for now. */
			rio->spare = (unsigned long *)__get_free_page(GFP_NOIO |
								      __GFP_NOWARN);
			if (rio_start(rio))
				rio_granted(&rio->range);
			more = true;
			spin_lock_irq(&g->lock);
		}
	} while (more);
	spin_unlock_irq(&g->lock);
	if (delay != MAX_SCHEDULE_TIMEOUT)
		queue_delayed_work(g->wq, &g->work, delay);
}

/**
 * rep_resync_wait - wait until no resync read of a volume is on its way
 * @v: the volume, with @stopped set
 *
 * Context: process, from postsuspend.
 */
void rep_resync_wait(struct rep_volume *v)
{
	wait_event(v->group->idle, !READ_ONCE(v->reads));
}

/**
 * rep_resync_init - make what a group's resync needs
 * @g: the group
 *
 * Return: 0 or -ENOMEM.
 */
int rep_resync_init(struct rep_group *g)
{
	INIT_DELAYED_WORK(&g->work, rep_resync_work);
	g->rio = kvcalloc(REP_RIOS, sizeof(*g->rio), GFP_KERNEL);
	if (!g->rio)
		return -ENOMEM;
	g->wq = alloc_ordered_workqueue("repg/%s", WQ_MEM_RECLAIM, g->name);
	if (!g->wq) {
		kvfree(g->rio);
		return -ENOMEM;
	}
	return 0;
}

/**
 * rep_resync_exit - undo rep_resync_init()
 * @g: the group; no volume is left
 */
void rep_resync_exit(struct rep_group *g)
{
	cancel_delayed_work_sync(&g->work);
	destroy_workqueue(g->wq);
	kvfree(g->rio);
}

/**
 * rep_resync_reads - is a resync reading any of a range?
 * @v: the volume
 * @sector: first sector
 * @nr_sectors: length
 *
 * Context: under rep_group.lock.
 */
bool rep_resync_reads(struct rep_volume *v, sector_t sector, sector_t nr_sectors)
{
	struct rep_group *g = v->group;
	unsigned int i;

	for_each_set_bit(i, &g->rio_busy, REP_RIOS)
		if (g->rio[i].v == v && g->rio[i].sector < sector + nr_sectors &&
		    sector < g->rio[i].sector + g->rio[i].nr_sectors)
			return true;
	return false;
}

/**
 * rep_dirty_ranges - tell what the stream lacks, and what is being read for it
 * @v: the volume
 * @d: in and out, see the header
 *
 * A read that a resync has begun has left the dirty bits, but may still fail.
 *
 * Context: under rep_group.mutex; takes rep_group.lock for a bounded number of
 * steps, so that a large volume takes several calls.
 */
void rep_dirty_ranges(struct rep_volume *v, struct repagent_dirty *d)
{
	struct repagent_range *last = NULL;
	struct rep_group *g = v->group;
	sector_t from = d->sector, dirty = 0, dirty_end = 0, start, end, n;
	unsigned int steps = 64, i;

	d->nr = 0;
	spin_lock_irq(&g->lock);
	while (steps-- && from < v->dirty.sectors) {
		/* What lies behind reads on the way needs no second search. */
		if (from >= dirty_end) {
			dirty = rep_dirty_next(&v->dirty, from, REP_SHARD_SECTORS, &n);
			dirty_end = dirty < v->dirty.sectors ? dirty + n : dirty;
		}
		start = max(dirty, from);
		end = dirty_end;
		for_each_set_bit(i, &g->rio_busy, REP_RIOS) {
			struct rep_rio *rio = &g->rio[i];

			if (rio->v != v || rio->sector + rio->nr_sectors <= from ||
			    max(rio->sector, from) >= start)
				continue;
			start = max(rio->sector, from);
			end = rio->sector + rio->nr_sectors;
		}
		end = min(end, v->dirty.sectors);
		if (start >= end) {
			from = v->dirty.sectors;
			break;
		}
		if (last && last->sector + last->nr_sectors == start) {
			last->nr_sectors += end - start;
		} else {
			if (d->nr == REPAGENT_DIRTY_RANGES)
				break;
			last = &d->range[d->nr++];
			last->sector = start;
			last->nr_sectors = end - start;
		}
		from = end;
	}
	d->sector = from;
	spin_unlock_irq(&g->lock);
}
