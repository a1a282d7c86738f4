// SPDX-License-Identifier: GPL-2.0-only
/*
 * The write-intent map: which regions of a volume the hub may lack after a crash.
 *
 * Documentation/map.md has the format, the order of the writes, and what each
 * crash leaves. In short:
 *
 *   A region's bit is durable before the first write to it. Writes to regions
 *   whose bit is not wait for the committer, which writes the regions of all
 *   that wait as one piece of a small log; later the log is folded into the bits.
 *
 *   It is cleared by the cleaner, long after, if the hub and the disk have made
 *   durable what was last written there:
 *
 *	no dirty fine bit, no resync read on its way,
 *	not written for a full cycle, and
 *	last_seq <= min(acknowledged by the hub, local_durable)
 *
 *   local_durable is S, the last record before the first busy slot, sampled
 *   before a flush of this volume's origin that succeeded: the writes of all
 *   records up to S had completed when it began.
 *
 * Region, on the disk and in memory:
 *
 *	from	to	when
 *	CLEAR	WANTED	a write came: it waits for the committer
 *	WANTED	SET	the log sector that names it is on the disk
 *	SET	CLEAR	the cleaner: CLEAR in memory first, so that a write that
 *			comes now waits; then D, then the bits sector
 *
 * The committer and the cleaner, and whoever starts or stops the map, write
 * under rep_map.io_lock, one at a time: so a bit that was cleared and is wanted
 * again is in the log, which counts on top of the bits, after it left them.
 *
 * When the meta device fails, writes go on at once. What was written since is
 * kept in memory, and the map is made anew when it can be.
 */
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/crc32c.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/part_stat.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uuid.h>
#include <linux/dm-repagent-map.h>
#include "repagent.h"

static unsigned int map_clear_ms = 10000;
module_param(map_clear_ms, uint, 0644);
MODULE_PARM_DESC(map_clear_ms,
		 "ms between two looks for regions of the write-intent map that can be cleared");

#define LOG_BATCH	8		/* log sectors of a commit */
#define IO_SECTORS	128U		/* of a write of bits; one buffer */
#define CHUNK		1024U		/* regions, or words of them, that are looked at under the lock */
#define BOOT_SLACK	60		/* s by which the clock of a boot may be set */

struct rep_map {
	/* constant while writes go on */
	struct rep_volume	*v;
	struct block_device	*bdev;
	struct block_device	*origin;
	sector_t		sectors;	/* of the volume */
	unsigned int		region_shift;	/* sectors */
	u32			nr_regions;
	u32			nr_bits;	/* sectors of the bits area */

	/* rep_group.lock */
	unsigned long		*set;		/* the region's bit is durable, or the map has failed */
	unsigned long		*pend;		/* ... is being made so; io_lock is enough */
	u64			*last_seq;	/* the last record that wrote there */
	u32			nr_set;
	u64			cold_seq;	/* older than a full cycle */
	int			failed;		/* 0, or why the meta device is not to be had */
	bool			missed;		/* ... and a bit was set in memory alone */
	bool			want_all;	/* all regions are to be set */

	spinlock_t		lock;		/* guards waiters */
	struct list_head	waiters;	/* rep_range.queue: writes to clear regions */

	struct mutex		io_lock;	/* guards what follows, and the device */
	unsigned long		*changed;	/* bits sectors that are not as in memory */
	u64			log_head;	/* next sequence number of the log */
	u64			log_tail;	/* what is older is in the bits */
	bool			clean;		/* the superblock says CLEAN */
	u8			*buffer;	/* IO_SECTORS */
	struct repagent_map_run	run[LOG_BATCH * REPAGENT_MAP_LOG_RUNS];	/* of a commit */
	struct repagent_map_super super;	/* as last written */

	u64			local_durable;	/* the cleaner's */
	bool			flush_failed;	/* of the origin, whosever: in this boot */

	struct workqueue_struct	*wq;
	struct work_struct	commit;
	struct delayed_work	clear;

	/* what the device had, for the activation */
	enum { REP_MAP_BLANK, REP_MAP_CLEAN, REP_MAP_UNCLEAN, REP_MAP_DAMAGED, REP_MAP_OWED } found;
	struct repagent_map_extent *extent;
	unsigned int		nr_extents;
};

/* ---- sectors -------------------------------------------------------------- */

static void seal(void *sector, u64 magic, u32 index)
{
	struct repagent_map_head *head = sector;

	head->magic = cpu_to_le64(magic);
	head->index = cpu_to_le32(index);
	head->crc = 0;
	head->crc = cpu_to_le32(~crc32c(~0, sector, REPAGENT_MAP_SECTOR));
}

static bool sealed(void *sector, u64 magic, u32 index)
{
	struct repagent_map_head *head = sector;
	__le32 crc = head->crc;
	u32 is;

	head->crc = 0;
	is = ~crc32c(~0, sector, REPAGENT_MAP_SECTOR);
	head->crc = crc;
	return head->magic == cpu_to_le64(magic) && head->index == cpu_to_le32(index) &&
	       crc == cpu_to_le32(is);
}

/* Read or write up to IO_SECTORS of the buffer. May sleep; never for this volume's own writes. */
static int meta_io(struct rep_map *m, blk_opf_t opf, sector_t at, unsigned int nr)
{
	struct bio_vec vecs[DIV_ROUND_UP(IO_SECTORS << SECTOR_SHIFT, PAGE_SIZE)];
	unsigned int len = nr << SECTOR_SHIFT, done;
	struct bio bio;
	int err;

	bio_init(&bio, m->bdev, vecs, ARRAY_SIZE(vecs), opf);
	bio.bi_iter.bi_sector = at;
	for (done = 0; done < len; done += PAGE_SIZE)
		__bio_add_page(&bio, virt_to_page(m->buffer + done),
			       min_t(unsigned int, len - done, PAGE_SIZE), 0);
	err = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return err;
}

static int meta_read(struct rep_map *m, sector_t at, unsigned int nr)
{
	return meta_io(m, REQ_OP_READ | REQ_META, at, nr);
}

/* When this returns 0 it is durable. */
static int meta_write(struct rep_map *m, sector_t at, unsigned int nr)
{
	return meta_io(m, REQ_OP_WRITE | REQ_META | REQ_SYNC | REQ_FUA, at, nr);
}

/* s of CLOCK_REALTIME, as far as the clock was not set since. */
static s64 boot_time(void)
{
	return ktime_get_real_seconds() - ktime_get_boottime_seconds();
}

static bool same_boot(const struct rep_map *m)
{
	return abs(boot_time() - (s64)le64_to_cpu(m->super.boot_time)) < BOOT_SLACK;
}

static sector_t super_at(u64 seq)
{
	return seq % REPAGENT_MAP_SUPERS * REPAGENT_MAP_SUPER_STEP;
}

static int write_super(struct rep_map *m, u32 flags)
{
	struct repagent_map_super *s = &m->super;
	int err;

	lockdep_assert_held(&m->io_lock);
	if (READ_ONCE(m->flush_failed)) {
		flags |= REPAGENT_MAP_FLUSH_FAILED;
		s->boot_time = cpu_to_le64(boot_time());
	}
	s->seq = cpu_to_le64(le64_to_cpu(s->seq) + 1);
	s->flags = cpu_to_le32(flags);
	s->log_tail = cpu_to_le64(m->log_tail);
	seal(s, REPAGENT_MAP_SUPER, 0);
	memcpy(m->buffer, s, sizeof(*s));
	err = meta_write(m, super_at(le64_to_cpu(s->seq)), 1);
	if (!err)
		m->clean = flags & REPAGENT_MAP_CLEAN;
	return err;
}

/*
 * Write the bits sectors that have changed. One write takes what lies between them, up to a
 * buffer: it is there as it was already, and costs less than the writes that it spares.
 */
static int write_bits(struct rep_map *m)
{
	struct rep_group *g = m->v->group;
	u32 first, last, i;
	int err;

	lockdep_assert_held(&m->io_lock);
	for (first = 0; ; first = last) {
		first = find_next_bit(m->changed, m->nr_bits, first);
		if (first >= m->nr_bits)
			return 0;
		last = find_last_bit(m->changed, min(m->nr_bits, first + IO_SECTORS)) + 1;
		for (i = first; i < last; i++) {
			struct repagent_map_bits *b = (void *)m->buffer +
						      ((i - first) << SECTOR_SHIFT);

			spin_lock_irq(&g->lock);
			memcpy(b->bits, (u8 *)m->set + i * REPAGENT_MAP_BITS_BYTES,
			       REPAGENT_MAP_BITS_BYTES);
			spin_unlock_irq(&g->lock);
			seal(b, REPAGENT_MAP_BITS, i);
		}
		err = meta_write(m, REPAGENT_MAP_BITS_AT + first, last - first);
		if (err)
			return err;
		bitmap_clear(m->changed, first, last - first);
	}
}

/* The log is in the bits: it can begin anew. */
static int fold(struct rep_map *m)
{
	int err;

	lockdep_assert_held(&m->io_lock);
	err = write_bits(m);
	if (err)
		return err;
	m->log_tail = m->log_head;
	return write_super(m, 0);
}

/*
 * Everything as it is in memory, on a device that may hold anything; whatever was
 * there does not count any more once it has begun, in neither place.
 */
static int write_all(struct rep_map *m)
{
	u32 i;
	int err;

	lockdep_assert_held(&m->io_lock);
	err = write_super(m, REPAGENT_MAP_OWED) ?: write_super(m, REPAGENT_MAP_OWED);
	if (err)
		return err;
	memset(m->buffer, 0, REPAGENT_MAP_LOG_NR << SECTOR_SHIFT);
	for (i = 0; i < REPAGENT_MAP_LOG_NR; i++)
		seal(m->buffer + (i << SECTOR_SHIFT), REPAGENT_MAP_LOG, i);
	err = meta_write(m, REPAGENT_MAP_LOG_AT, REPAGENT_MAP_LOG_NR);
	if (err)
		return err;
	m->log_head = m->log_tail = 1;
	bitmap_fill(m->changed, m->nr_bits);
	return write_bits(m);
}

/* ---- bits ----------------------------------------------------------------- */

static u32 region_of(const struct rep_map *m, sector_t sector)
{
	return sector >> m->region_shift;
}

static void set_region(struct rep_map *m, u32 region)
{
	if (!__test_and_set_bit(region, m->set))
		m->nr_set++;
}

static void set_regions(struct rep_map *m, u32 first, u32 count)
{
	while (count--)
		set_region(m, first++);
}

/* The bits sectors of some regions are to be written. */
static void note_changed(struct rep_map *m, u32 first, u32 count)
{
	u32 from = first / REPAGENT_MAP_REGIONS;

	bitmap_set(m->changed, from, (first + count - 1) / REPAGENT_MAP_REGIONS - from + 1);
}

/*
 * Set regions whose writes are still to come: they are not to be cleared before
 * these. The lock is not held for all of a large volume: writes wait for it.
 */
static void set_fresh(struct rep_map *m, u32 first, u32 count)
{
	struct rep_group *g = m->v->group;
	u32 end = first + count, stop;

	while (first < end) {
		stop = min(end - first, CHUNK) + first;
		spin_lock_irq(&g->lock);
		for (; first < stop; first++) {
			set_region(m, first);
			m->last_seq[first] = g->ring.head;
		}
		spin_unlock_irq(&g->lock);
		cond_resched();
	}
}

/* All regions are to be set, and the log could not be told so. */
static void set_all_in_memory(struct rep_map *m)
{
	lockdep_assert_held(&m->io_lock);
	set_fresh(m, 0, m->nr_regions);
	spin_lock_irq(&m->v->group->lock);
	m->missed = true;
	spin_unlock_irq(&m->v->group->lock);
}

/* Perhaps it is only one place that can be written. What counts is that none says otherwise. */
static void owe(struct rep_map *m)
{
	write_super(m, REPAGENT_MAP_OWED);
	write_super(m, REPAGENT_MAP_OWED);
}

static void mark_failed(struct rep_map *m, int err)
{
	struct rep_volume *v = m->v;
	struct rep_group *g = v->group;

	lockdep_assert_held(&m->io_lock);
	if (READ_ONCE(m->failed))
		return;
	DMERR("%s/%s: the write-intent map cannot be written (%pe): writes go on, and after a crash all of the volume has to be read",
	      g->name, v->name, ERR_PTR(err));
	owe(m);
	spin_lock_irq(&g->lock);
	WRITE_ONCE(m->failed, err);
	rep_event(g);
	rep_resync_kick(g);
	spin_unlock_irq(&g->lock);
}

/* Try to make it whole again, if it has failed. On the disk it owes a resync until it is. */
static void try_again(struct rep_map *m)
{
	struct rep_group *g = m->v->group;
	bool missed = true;
	int tries;

	lockdep_assert_held(&m->io_lock);
	if (!READ_ONCE(m->failed))
		return;
	for (tries = 0; missed && tries < 8; tries++) {
		spin_lock_irq(&g->lock);
		m->missed = false;
		spin_unlock_irq(&g->lock);
		if (write_all(m))
			return;
		spin_lock_irq(&g->lock);
		missed = m->missed;
		if (!missed)
			WRITE_ONCE(m->failed, 0);
		rep_event(g);
		rep_resync_kick(g);
		spin_unlock_irq(&g->lock);
	}
	if (missed)
		return;
	if (write_super(m, 0) || write_super(m, 0))
		mark_failed(m, -EIO);
	else
		DMINFO("%s/%s: the write-intent map can be written again", g->name, m->v->name);
}

/**
 * rep_map_covers - may a range be written, as far as the map is concerned?
 * @m: the map
 * @sector: first sector
 * @nr_sectors: length, not 0
 *
 * Context: under rep_group.lock. Where the map has failed the range is noted.
 * Return: false if the write has to go through rep_map_wait().
 */
bool rep_map_covers(struct rep_map *m, sector_t sector, sector_t nr_sectors)
{
	u32 first = region_of(m, sector), last = region_of(m, sector + nr_sectors - 1);

	if (likely(first == last ? test_bit(first, m->set) :
		   find_next_zero_bit(m->set, last + 1, first) > last))
		return true;
	if (!m->failed)
		return false;
	set_regions(m, first, last - first + 1);
	m->missed = true;
	return true;
}

/**
 * rep_map_note - a range has its place in the stream
 * @m: the map
 * @sector: first sector
 * @nr_sectors: length, not 0
 * @seq: the record
 *
 * Context: under rep_group.lock.
 */
void rep_map_note(struct rep_map *m, sector_t sector, sector_t nr_sectors, u64 seq)
{
	u32 region = region_of(m, sector), last = region_of(m, sector + nr_sectors - 1);

	do {
		m->last_seq[region] = seq;
	} while (unlikely(region++ < last));
}

/* ---- the committer --------------------------------------------------------- */

/**
 * rep_map_wait - a write waits until its regions' bits are durable
 * @v: the volume
 * @range: the write's, granted; @granted is called by the volume's worker then
 *
 * Context: any but interrupts; takes rep_map.lock.
 */
void rep_map_wait(struct rep_volume *v, struct rep_range *range)
{
	struct rep_map *m = v->map;

	spin_lock(&m->lock);
	list_add_tail(&range->queue, &m->waiters);
	spin_unlock(&m->lock);
	/* The write is on its way, so that the map cannot go. */
	queue_work(m->wq, &m->commit);
}

/* Add what a write needs to the batch. Returns false if that is full. Under rep_group.lock. */
static bool batch_add(struct rep_map *m, u32 first, u32 count, unsigned int *nr)
{
	u32 end = first + count;

	if (find_next_zero_bit(m->set, end, first) >= end ||
	    find_next_zero_bit(m->pend, end, first) >= end)
		return true;
	if (*nr == ARRAY_SIZE(m->run))
		return false;
	m->run[*nr].first = cpu_to_le32(first);
	m->run[*nr].count = cpu_to_le32(count);
	++*nr;
	bitmap_set(m->pend, first, count);
	return true;
}

/* Write runs to the log, which has room for them. */
static int write_log(struct rep_map *m, unsigned int nr)
{
	unsigned int done, n;
	int err = 0;

	for (done = 0; done < nr && !err; done += n) {
		unsigned int at = m->log_head % REPAGENT_MAP_LOG_NR, k = 0;

		/* As many sectors as there are, up to where the log wraps. */
		for (n = 0; done + n < nr && at + k < REPAGENT_MAP_LOG_NR; k++) {
			struct repagent_map_log *log = (void *)m->buffer + (k << SECTOR_SHIFT);
			unsigned int here = min_t(unsigned int, nr - done - n,
						  REPAGENT_MAP_LOG_RUNS);

			memset(log, 0, sizeof(*log));
			memcpy(log->run, &m->run[done + n], here * sizeof(*log->run));
			log->seq = cpu_to_le64(m->log_head + k);
			log->nr = cpu_to_le32(here);
			seal(log, REPAGENT_MAP_LOG, at + k);
			n += here;
		}
		err = meta_write(m, REPAGENT_MAP_LOG_AT + at, k);
		m->log_head += k;
	}
	return err;
}

/*
 * Make the regions of some of @waiting durable and move these to @done. After a
 * failure they go on all the same: the map owes a full resync then.
 */
static void commit_batch(struct rep_map *m, struct list_head *waiting,
			 struct list_head *done)
{
	struct rep_group *g = m->v->group;
	unsigned int nr = 0, i;
	bool all;
	int err = 0;

	if (m->clean)
		err = write_super(m, 0);
	if (!err && m->log_head + LOG_BATCH - m->log_tail > REPAGENT_MAP_LOG_NR)
		err = fold(m);

	spin_lock_irq(&g->lock);
	all = m->want_all;
	if (all)
		batch_add(m, 0, m->nr_regions, &nr);
	m->want_all = false;
	while (!list_empty(waiting)) {
		struct rep_range *range = list_first_entry(waiting, struct rep_range, queue);
		u32 first = region_of(m, range->node.start);
		u32 last = region_of(m, range->node.last);

		if (!batch_add(m, first, last - first + 1, &nr))
			break;
		list_move_tail(&range->queue, done);
	}
	spin_unlock_irq(&g->lock);

	if (!err)
		err = write_log(m, nr);
	if (err)
		mark_failed(m, err);
	for (i = 0; i < nr; i++) {
		u32 first = le32_to_cpu(m->run[i].first), count = le32_to_cpu(m->run[i].count);

		bitmap_clear(m->pend, first, count);
		if (err)
			continue;
		note_changed(m, first, count);
		set_fresh(m, first, count);
	}
	if (err && all)
		set_all_in_memory(m);
}

/* The map has failed: nothing waits for it. */
static void pass_all(struct rep_map *m, struct list_head *waiting, struct list_head *done)
{
	struct rep_group *g = m->v->group;
	bool all;

	spin_lock_irq(&g->lock);
	all = m->want_all;
	m->want_all = false;
	spin_unlock_irq(&g->lock);
	if (all)
		set_all_in_memory(m);
	list_splice_tail_init(waiting, done);
}

static void commit_work(struct work_struct *work)
{
	struct rep_map *m = container_of(work, struct rep_map, commit);
	LIST_HEAD(waiting);
	LIST_HEAD(done);

	mutex_lock(&m->io_lock);
	spin_lock(&m->lock);
	list_splice_init(&m->waiters, &waiting);
	spin_unlock(&m->lock);
	do {
		if (READ_ONCE(m->failed))
			pass_all(m, &waiting, &done);
		else
			commit_batch(m, &waiting, &done);
		rep_volume_queue(m->v, &done);
	} while (!list_empty(&waiting));
	mutex_unlock(&m->io_lock);
	queue_delayed_work(m->wq, &m->clear, msecs_to_jiffies(map_clear_ms));
}

/**
 * rep_map_set_all - all regions are to be read again, also after a crash
 * @m: the map
 *
 * Context: process; waits for the meta device, and not for the volume.
 */
void rep_map_set_all(struct rep_map *m)
{
	struct rep_group *g = m->v->group;

	spin_lock_irq(&g->lock);
	m->want_all = true;
	spin_unlock_irq(&g->lock);
	queue_work(m->wq, &m->commit);
	flush_work(&m->commit);
}

/* ---- the cleaner ------------------------------------------------------------ */

/* May it be cleared, as far as @durable goes? Under rep_group.lock. */
static bool is_cold(struct rep_map *m, u32 region, u64 durable)
{
	sector_t start = (sector_t)region << m->region_shift;
	sector_t n = min_t(sector_t, 1ULL << m->region_shift, m->sectors - start);

	return m->last_seq[region] < m->cold_seq && m->last_seq[region] <= durable &&
	       !rep_dirty_any(&m->v->dirty, start, n) && !rep_resync_reads(m->v, start, n);
}

/*
 * Count the regions that can be cleared, or clear them. @unflushed: out: those
 * among them that the origin may not have made durable yet.
 */
static u32 look(struct rep_map *m, u64 local, bool clear, u32 *unflushed)
{
	struct rep_group *g = m->v->group;
	u32 region = 0, n = 0, steps;

	*unflushed = 0;
	while (region < m->nr_regions) {
		spin_lock_irq(&g->lock);
		for (steps = CHUNK; steps; steps--, region++) {
			region = find_next_bit(m->set, m->nr_regions, region);
			if (region >= m->nr_regions)
				break;
			if (!is_cold(m, region, g->ring.acked))
				continue;
			if (m->last_seq[region] > local) {
				++*unflushed;
				if (clear)
					continue;
			}
			n++;
			if (clear) {
				__clear_bit(region, m->set);
				m->nr_set--;
				note_changed(m, region, 1);
			}
		}
		spin_unlock_irq(&g->lock);
		cond_resched();
	}
	return n;
}

/**
 * rep_map_flush_failed - the origin has failed a flush
 * @m: the map of the active volume
 * @err: negative errno
 *
 * What it has lost nobody knows, and no later flush makes up for it: it may have
 * forgotten what it could not write, and still give it to who reads. So that holds
 * for the volume as long as the host is up, also if it is removed and made again.
 *
 * Context: any.
 */
void rep_map_flush_failed(struct rep_map *m, int err)
{
	if (xchg(&m->flush_failed, true))
		return;
	DMERR("%s/%s: a flush of the origin failed (%pe): no region of the write-intent map is cleared until the host is booted again",
	      m->v->group->name, m->v->name, ERR_PTR(err));
}

/* local_durable = S, if a flush succeeds. */
static void flush_origin(struct rep_map *m)
{
	struct rep_volume *v = m->v;
	u64 s;
	int err;

	if (READ_ONCE(m->flush_failed))
		return;
	mutex_lock(&v->group->consumer_lock);
	s = rep_committed(v->group);
	mutex_unlock(&v->group->consumer_lock);
	err = blkdev_issue_flush(m->origin);
	if (err)
		rep_map_flush_failed(m, err);
	/* The VM's own may have failed just before. */
	else if (!READ_ONCE(m->flush_failed))
		m->local_durable = s;
}

/*
 * D, on the strength of which bits are cleared: to be written before them. While
 * nothing of this incarnation is acknowledged that of the one before stays: all
 * that was written since is set, or dirty.
 */
static void take_durable(struct rep_map *m)
{
	struct rep_group *g = m->v->group;
	u64 acked;

	spin_lock_irq(&g->lock);
	acked = g->ring.acked;
	spin_unlock_irq(&g->lock);
	if (!acked)
		return;
	m->super.durable_incarnation = cpu_to_le64(g->ring.incarnation);
	m->super.durable_seq = cpu_to_le64(acked);
}

static void clear_work(struct work_struct *work)
{
	struct rep_map *m = container_of(to_delayed_work(work), struct rep_map, clear);
	struct rep_group *g = m->v->group;
	u32 unflushed;
	u64 head;
	int err;

	spin_lock_irq(&g->lock);
	head = g->ring.head;
	spin_unlock_irq(&g->lock);
	if (READ_ONCE(m->failed)) {
		mutex_lock(&m->io_lock);
		try_again(m);
		mutex_unlock(&m->io_lock);
	} else if (look(m, m->local_durable, false, &unflushed)) {
		if (unflushed)
			flush_origin(m);
		mutex_lock(&m->io_lock);
		if (!READ_ONCE(m->failed) && look(m, m->local_durable, true, &unflushed)) {
			take_durable(m);
			err = write_super(m, 0) ?: fold(m);
			if (err)
				mark_failed(m, err);
		}
		mutex_unlock(&m->io_lock);
	}
	spin_lock_irq(&g->lock);
	m->cold_seq = head;
	if (m->nr_set || m->failed)
		queue_delayed_work(m->wq, &m->clear, msecs_to_jiffies(map_clear_ms));
	spin_unlock_irq(&g->lock);
}

/* ---- reading ---------------------------------------------------------------- */

static bool is_zero(const u8 *p, unsigned int n)
{
	return !memchr_inv(p, 0, n);
}

static int read_bits(struct rep_map *m)
{
	u32 at, n, i;
	int err;

	for (at = 0; at < m->nr_bits; at += n) {
		n = min(IO_SECTORS, m->nr_bits - at);
		err = meta_read(m, REPAGENT_MAP_BITS_AT + at, n);
		if (err)
			return err;
		for (i = 0; i < n; i++) {
			struct repagent_map_bits *b = (void *)m->buffer + (i << SECTOR_SHIFT);

			if (!sealed(b, REPAGENT_MAP_BITS, at + i))
				return -EBADMSG;
			memcpy((u8 *)m->set + (at + i) * REPAGENT_MAP_BITS_BYTES, b->bits,
			       REPAGENT_MAP_BITS_BYTES);
		}
		cond_resched();
	}
	/* What lies beyond the last region is nothing. */
	bitmap_clear(m->set, m->nr_regions, m->nr_bits * REPAGENT_MAP_REGIONS - m->nr_regions);
	m->nr_set = bitmap_weight(m->set, m->nr_regions);
	return 0;
}

static int read_log(struct rep_map *m)
{
	u64 tail = le64_to_cpu(m->super.log_tail);
	u32 i, k;
	int err;

	m->log_tail = m->log_head = tail;
	err = meta_read(m, REPAGENT_MAP_LOG_AT, REPAGENT_MAP_LOG_NR);
	if (err)
		return err;
	for (i = 0; i < REPAGENT_MAP_LOG_NR; i++) {
		struct repagent_map_log *log = (void *)m->buffer + (i << SECTOR_SHIFT);
		u64 seq = le64_to_cpu(log->seq);
		u32 nr = le32_to_cpu(log->nr);

		if (!sealed(log, REPAGENT_MAP_LOG, i) || nr > REPAGENT_MAP_LOG_RUNS)
			return -EBADMSG;
		if (seq < tail)
			continue;
		if (seq - tail >= REPAGENT_MAP_LOG_NR || seq % REPAGENT_MAP_LOG_NR != i)
			return -EBADMSG;
		m->log_head = max(m->log_head, seq + 1);
		for (k = 0; k < nr; k++) {
			u32 first = le32_to_cpu(log->run[k].first);
			u32 count = le32_to_cpu(log->run[k].count);

			if (!count || first >= m->nr_regions || count > m->nr_regions - first)
				return -EBADMSG;
			set_regions(m, first, count);
			note_changed(m, first, count);
		}
	}
	return 0;
}

static int read_fine(struct rep_map *m)
{
	u32 nr_fine = le32_to_cpu(m->super.nr_fine), i, k;
	u64 end = 0;
	int err;

	if (nr_fine > REPAGENT_MAP_FINE_NR)
		return -EBADMSG;
	m->extent = kvmalloc_array(nr_fine ?: 1, REPAGENT_MAP_EXTENTS * sizeof(*m->extent),
				   GFP_KERNEL);
	if (!m->extent)
		return -ENOMEM;
	err = nr_fine ? meta_read(m, REPAGENT_MAP_FINE_AT, nr_fine) : 0;
	if (err)
		return err;
	for (i = 0; i < nr_fine; i++) {
		struct repagent_map_fine *f = (void *)m->buffer + (i << SECTOR_SHIFT);
		u32 nr = le32_to_cpu(f->nr);

		if (!sealed(f, REPAGENT_MAP_FINE, i) || nr > REPAGENT_MAP_EXTENTS)
			return -EBADMSG;
		for (k = 0; k < nr; k++) {
			u64 sector = le64_to_cpu(f->extent[k].sector);
			u64 n = le64_to_cpu(f->extent[k].nr_sectors);

			if (!n || sector < end || sector >= m->sectors || n > m->sectors - sector)
				return -EBADMSG;
			end = sector + n;
			m->extent[m->nr_extents++] = f->extent[k];
		}
	}
	return 0;
}

static bool name_is(const u8 *field, const char *name)
{
	return strnlen((const char *)field, 32) < 32 && !strcmp((const char *)field, name);
}

/* Is this map this volume's? Sets ti->error. */
static int check_super(struct rep_map *m, struct rep_target *t,
		       const struct repagent_map_super *s)
{
	const char *group = t->volume->group->name, *name = t->volume->name;

	if (le32_to_cpu(s->version) != REPAGENT_MAP_VERSION) {
		DMERR("meta %pg: a write-intent map of version %u: expected version %u", m->bdev,
		      le32_to_cpu(s->version), REPAGENT_MAP_VERSION);
		t->ti->error = "meta: its write-intent map has a version that this module does not know";
		return -EINVAL;
	}
	if (!name_is(s->group, group) || !name_is(s->volume, name)) {
		DMERR("meta %pg: the write-intent map of %.31s/%.31s: expected that of %s/%s",
		      m->bdev, s->group, s->volume, group, name);
		t->ti->error = "meta: the write-intent map there is another volume's; expected this volume's, or zeroes";
		return -EINVAL;
	}
	if (le64_to_cpu(s->sectors) != m->sectors) {
		DMERR("meta %pg: the write-intent map of a volume of %llu sectors: expected %llu",
		      m->bdev, le64_to_cpu(s->sectors), (u64)m->sectors);
		t->ti->error = "meta: the write-intent map there is of a volume of another size; resize while the volume is active, or expected zeroes";
		return -EINVAL;
	}
	if (le32_to_cpu(s->region_sectors) != 1U << m->region_shift ||
	    le32_to_cpu(s->nr_bits) != m->nr_bits) {
		DMERR("meta %pg: the write-intent map has regions of %u KiB: expected %u", m->bdev,
		      le32_to_cpu(s->region_sectors) / 2, (1U << m->region_shift) / 2);
		t->ti->error = "meta: the write-intent map there has another region size; expected the same, or zeroes";
		return -EINVAL;
	}
	return 0;
}

static int read_map(struct rep_map *m, struct rep_target *t)
{
	struct repagent_map_super *s[REPAGENT_MAP_SUPERS], *best = NULL;
	bool good[REPAGENT_MAP_SUPERS], ours = false;
	unsigned int i;
	u32 flags;
	int err;

	err = meta_read(m, 0, REPAGENT_MAP_LOG_AT);
	if (err) {
		DMERR("meta %pg: cannot be read: %pe", m->bdev, ERR_PTR(err));
		t->ti->error = "meta: the device cannot be read";
		return err;
	}
	if (is_zero(m->buffer, REPAGENT_MAP_LOG_AT << SECTOR_SHIFT)) {
		m->found = REP_MAP_BLANK;
		return 0;
	}
	for (i = 0; i < REPAGENT_MAP_SUPERS; i++) {
		s[i] = (void *)m->buffer + (super_at(i) << SECTOR_SHIFT);
		good[i] = sealed(s[i], REPAGENT_MAP_SUPER, 0) &&
			  le64_to_cpu(s[i]->seq) % REPAGENT_MAP_SUPERS == i;
		ours |= s[i]->head.magic == cpu_to_le64(REPAGENT_MAP_SUPER);
		if (good[i] && (!best || le64_to_cpu(s[i]->seq) > le64_to_cpu(best->seq)))
			best = s[i];
	}
	if (!ours) {
		DMERR("meta %pg: holds something that is no write-intent map", m->bdev);
		t->ti->error = "meta: the device holds something else; expected zeroes at its beginning, or this volume's write-intent map";
		return -EINVAL;
	}
	if (!best) {
		m->found = REP_MAP_DAMAGED;
		return 0;
	}
	err = check_super(m, t, best);
	if (err)
		return err;
	m->super = *best;
	flags = le32_to_cpu(best->flags);
	m->flush_failed = (flags & REPAGENT_MAP_FLUSH_FAILED) && same_boot(m);
	/* A write leaves the old or the new. Else it is damage, and may hide a newer one. */
	if (!good[0] || !good[1]) {
		m->found = REP_MAP_DAMAGED;
		return 0;
	}
	err = read_bits(m) ?: read_log(m);
	if (!err && (flags & REPAGENT_MAP_CLEAN))
		err = read_fine(m);
	if (err == -ENOMEM) {
		t->ti->error = "no memory for the write-intent map";
		return err;
	}
	m->found = err ? REP_MAP_DAMAGED : flags & REPAGENT_MAP_OWED ? REP_MAP_OWED :
		   flags & REPAGENT_MAP_CLEAN ? REP_MAP_CLEAN : REP_MAP_UNCLEAN;
	return 0;
}

/* ---- life ------------------------------------------------------------------- */

/**
 * rep_map_free - free a map
 * @m: nothing uses it any more; may be NULL
 *
 * Context: may sleep.
 */
void rep_map_free(struct rep_map *m)
{
	if (!m)
		return;
	if (m->wq) {
		/* the one begins the other */
		cancel_work_sync(&m->commit);
		cancel_delayed_work_sync(&m->clear);
		destroy_workqueue(m->wq);
	}
	kvfree(m->set);
	kvfree(m->pend);
	kvfree(m->last_seq);
	kvfree(m->changed);
	kvfree(m->extent);
	free_pages((unsigned long)m->buffer, get_order(IO_SECTORS << SECTOR_SHIFT));
	kfree(m);
}

static bool same_place(const struct rep_map *a, const struct rep_map *b)
{
	return a->bdev->bd_dev == b->bdev->bd_dev && a->sectors == b->sectors &&
	       a->region_shift == b->region_shift;
}

/**
 * rep_map_new - make the map of a target, and read what its meta device has
 * @t: attached to its volume; its ti->error is set on failure
 *
 * Where the volume is active with the same device what is on it is of no
 * interest: memory knows better.
 *
 * Context: process, from ctr. Nothing is written.
 * Return: 0 with @t->map set, or a negative errno.
 */
int rep_map_new(struct rep_target *t)
{
	unsigned int kib = t->region_kib ?: 1024;
	sector_t have = bdev_nr_sectors(t->meta->bdev), need;
	struct rep_map *m;
	u64 regions;
	int err = -ENOMEM;

	m = kzalloc(sizeof(*m), GFP_KERNEL);
	if (!m)
		goto no_memory;
	m->v = t->volume;
	m->bdev = t->meta->bdev;
	m->sectors = t->ti->len;
	m->region_shift = ilog2(kib) + 1;
	regions = (m->sectors + (1ULL << m->region_shift) - 1) >> m->region_shift;
	/* last_seq takes 8 bytes of each, and kvcalloc() gives no 2 GiB */
	if (regions > 128 << 20) {
		DMERR("region %u: %llu regions are more than the %u that a map can have", kib,
		      regions, 128 << 20);
		t->ti->error = "region: too small for a volume of this size; expected a larger one";
		err = -EINVAL;
		goto fail;
	}
	m->nr_regions = regions;
	m->nr_bits = DIV_ROUND_UP(m->nr_regions, REPAGENT_MAP_REGIONS);
	need = REPAGENT_MAP_BITS_AT + m->nr_bits;
	if (have < need) {
		DMERR("meta %pg: %llu sectors are too few: expected %llu", m->bdev, (u64)have,
		      (u64)need);
		t->ti->error = "meta: the device is too small for the write-intent map";
		err = -EINVAL;
		goto fail;
	}
	spin_lock_init(&m->lock);
	INIT_LIST_HEAD(&m->waiters);
	mutex_init(&m->io_lock);
	INIT_WORK(&m->commit, commit_work);
	INIT_DELAYED_WORK(&m->clear, clear_work);
	m->log_head = m->log_tail = 1;
	m->set = kvcalloc(BITS_TO_LONGS((size_t)m->nr_bits * REPAGENT_MAP_REGIONS),
			  sizeof(long), GFP_KERNEL);
	m->pend = kvcalloc(BITS_TO_LONGS(m->nr_regions), sizeof(long), GFP_KERNEL);
	m->last_seq = kvcalloc(m->nr_regions, sizeof(u64), GFP_KERNEL);
	m->changed = kvcalloc(BITS_TO_LONGS(m->nr_bits), sizeof(long), GFP_KERNEL);
	m->buffer = (void *)__get_free_pages(GFP_KERNEL, get_order(IO_SECTORS << SECTOR_SHIFT));
	m->wq = alloc_workqueue("repm/%s", WQ_MEM_RECLAIM | WQ_UNBOUND | WQ_HIGHPRI, 2,
				m->v->name);
	if (!m->set || !m->pend || !m->last_seq || !m->changed || !m->buffer || !m->wq)
		goto no_memory;
	if (m->v->active && m->v->map && m->v->map->bdev->bd_dev == m->bdev->bd_dev) {
		m->found = REP_MAP_BLANK;
	} else {
		err = read_map(m, t);
		if (err)
			goto fail;
	}
	t->map = m;
	return 0;

no_memory:
	t->ti->error = "no memory for the write-intent map";
fail:
	rep_map_free(m);
	return err;
}

/* The map that a volume in use had goes over into one of another shape or place. */
static void carry_over(struct rep_map *to, struct rep_map *from)
{
	u32 r = 0, i;
	u64 seq;

	for (;;) {
		sector_t start, end;
		u32 last;

		r = find_next_bit(from->set, from->nr_regions, r);
		if (r >= from->nr_regions)
			break;
		start = (sector_t)r << from->region_shift;
		end = min(((sector_t)r + 1) << from->region_shift, to->sectors);
		if (start >= end)
			break;
		last = region_of(to, end - 1);
		for (i = region_of(to, start); i <= last; i++) {
			set_region(to, i);
			to->last_seq[i] = max(to->last_seq[i], from->last_seq[r]);
		}
		r++;
	}
	if (to->sectors > from->sectors) {
		i = region_of(to, from->sectors);
		set_regions(to, i, to->nr_regions - i);
	}
	/* What the device has of an earlier life must not be the newer one. */
	seq = max(le64_to_cpu(to->super.seq), le64_to_cpu(from->super.seq));
	to->super = from->super;
	to->super.seq = cpu_to_le64(seq);
	to->flush_failed = from->flush_failed;
}

/**
 * rep_map_trusted - can what a meta device has be relied on?
 * @m: the map that ctr has read
 * @origin_writes: sectors written to the origin since the host, or the origin, knows of it
 *
 * After a clean stop the origin's count has to be what it was, or 0 for one that was
 * made anew or whose host was booted: whatever else was written was not captured.
 *
 * Return: false if all of the volume is dirty.
 */
bool rep_map_trusted(const struct rep_map *m, u64 origin_writes)
{
	switch (m->found) {
	case REP_MAP_CLEAN:
		return !origin_writes ||
		       (same_boot(m) && origin_writes == le64_to_cpu(m->super.origin_writes));
	case REP_MAP_UNCLEAN:
		return !origin_writes;
	default:
		return false;
	}
}

/**
 * rep_map_dirty - what the hub lacks, as far as the meta device knew
 * @m: the map, trusted
 * @d: an empty set of dirty bits
 *
 * Context: under rep_group.lock, from preresume.
 * Return: whether the volume was stopped cleanly.
 */
bool rep_map_dirty(struct rep_map *m, struct rep_dirty *d)
{
	u32 first, last, i;

	if (m->found == REP_MAP_CLEAN) {
		for (i = 0; i < m->nr_extents; i++)
			rep_dirty_set(d, le64_to_cpu(m->extent[i].sector),
				      le64_to_cpu(m->extent[i].nr_sectors));
		return true;
	}
	for (first = 0; first < m->nr_regions; first = last) {
		first = find_next_bit(m->set, m->nr_regions, first);
		last = find_next_zero_bit(m->set, m->nr_regions, first);
		if (first < last)
			rep_dirty_set(d, (sector_t)first << m->region_shift,
				      (sector_t)(last - first) << m->region_shift);
	}
	return false;
}

/**
 * rep_map_durable - what the hub had made durable when a bit was last cleared
 * @m: the map, before rep_map_start()
 * @seq: out: the number
 *
 * Return: the incarnation it is of; 0: no bit was ever cleared.
 */
u64 rep_map_durable(const struct rep_map *m, u64 *seq)
{
	*seq = le64_to_cpu(m->super.durable_seq);
	return le64_to_cpu(m->super.durable_incarnation);
}

/**
 * rep_map_start - a volume is about to be written
 * @t: the target that is being resumed; has a map
 * @all: all of the volume is dirty
 *
 * Its map becomes the volume's: what its device had if the volume was not active,
 * else what the volume's map had; and if it had none, everything, for nobody knows
 * what was written and is not yet at the hub.
 *
 * Context: process, from preresume; nothing is written to the volume meanwhile.
 * Cannot fail: if the device does, the map has failed.
 */
void rep_map_start(struct rep_target *t, bool all)
{
	struct rep_volume *v = t->volume;
	struct rep_map *old = v->active ? v->map : NULL, *m = t->map;
	struct rep_group *g = v->group;
	bool anew = all;
	int err;
	u32 i;

	if (old && old != m && same_place(old, m)) {
		/* The same device, as the new table has it. */
		old->bdev = m->bdev;
		rep_map_free(m);
		t->map = m = old;
	} else if (v->active && old != m) {
		anew = true;
		if (old) {
			carry_over(m, old);
		} else {
			set_regions(m, 0, m->nr_regions);
			for (i = 0; i < m->nr_regions; i++)
				m->last_seq[i] = g->ring.head;
		}
	}
	if (all)
		set_regions(m, 0, m->nr_regions);

	mutex_lock(&m->io_lock);
	m->origin = t->origin->bdev;
	m->local_durable = 0;
	m->super.version = cpu_to_le32(REPAGENT_MAP_VERSION);
	m->super.sectors = cpu_to_le64(m->sectors);
	m->super.region_sectors = cpu_to_le32(1U << m->region_shift);
	m->super.nr_bits = cpu_to_le32(m->nr_bits);
	m->super.nr_fine = 0;
	m->super.boot_time = 0;
	m->super.origin_writes = 0;
	strscpy(m->super.group, g->name, sizeof(m->super.group));
	strscpy(m->super.volume, v->name, sizeof(m->super.volume));
	rep_group_uuid(g, m->super.group_uuid);
	if (is_zero(m->super.volume_uuid, sizeof(m->super.volume_uuid)))
		generate_random_uuid(m->super.volume_uuid);
	if (READ_ONCE(m->failed)) {
		/* The superblocks owe a resync, and go on to unless all else can be written. */
		try_again(m);
	} else {
		err = anew ? write_all(m) : 0;
		err = err ?: write_super(m, 0) ?: anew ? write_super(m, 0) : 0;
		if (err)
			mark_failed(m, err);
	}
	mutex_unlock(&m->io_lock);
}

/**
 * rep_map_leave - a table that is about to map has its map elsewhere, or none
 * @m: the map that the volume had; nothing waits for it
 * @next: the one that it has now, perhaps on the same device; may be NULL
 *
 * What its device has is right no longer as soon as something is written: it owes a resync.
 *
 * Context: process, from preresume; nothing is written to the volume meanwhile.
 */
void rep_map_leave(struct rep_map *m, const struct rep_map *next)
{
	if (next && next->bdev->bd_dev == m->bdev->bd_dev)
		return;
	cancel_work_sync(&m->commit);
	cancel_delayed_work_sync(&m->clear);
	mutex_lock(&m->io_lock);
	owe(m);
	mutex_unlock(&m->io_lock);
}

/**
 * rep_map_go - the volume has its dirty bits: from now on regions can be cleared
 * @m: its map
 *
 * Context: process.
 */
void rep_map_go(struct rep_map *m)
{
	queue_delayed_work(m->wq, &m->clear, msecs_to_jiffies(map_clear_ms));
}

/* What the hub lacks: what is dirty, and what was not acknowledged. */
static void collect(struct rep_volume *v, struct rep_dirty *lacks)
{
	struct rep_group *g = v->group;
	struct rep_ring *r = &g->ring;
	sector_t at = 0, n;
	u64 seq, head;

	/* Nothing of this volume comes any more, and nothing goes while the mutex is held. */
	mutex_lock(&g->consumer_lock);
	spin_lock_irq(&g->lock);
	head = r->head;
	spin_unlock_irq(&g->lock);
	for (seq = r->acked + 1; seq < head; seq++) {
		struct repagent_slot *slot = &r->slots[seq & (r->nr_slots - 1)];

		switch (READ_ONCE(slot->volume) == v->id ? slot->type : 0) {
		case REPAGENT_REC_WRITE:
		case REPAGENT_REC_ZEROES:
		case REPAGENT_REC_DISCARD:
		case REPAGENT_REC_RESYNC:
		case REPAGENT_REC_FAILED:
			rep_dirty_set(lacks, slot->sector, slot->nr_sectors);
		}
		if (!(seq % 4096))
			cond_resched();
	}
	mutex_unlock(&g->consumer_lock);

	for (;;) {
		spin_lock_irq(&g->lock);
		at = rep_dirty_run(&v->dirty, at, &n);
		if (at < v->dirty.sectors)
			rep_dirty_set(lacks, at, n);
		spin_unlock_irq(&g->lock);
		if (at >= v->dirty.sectors)
			break;
		at += n;
	}
}

/*
 * The regions of @lacks are those that are set. @changed gets what differs. Nothing
 * is written to the volume, and io_lock is held, so that nobody sets any meanwhile; the
 * lock is for the group's other volumes to go on between the steps.
 */
static void set_only(struct rep_map *m, struct rep_dirty *lacks)
{
	u32 words = BITS_TO_LONGS(m->nr_regions), first, i = 0, stop;
	struct rep_group *g = m->v->group;
	sector_t at = 0, n;

	lockdep_assert_held(&m->io_lock);
	for (; (at = rep_dirty_run(lacks, at, &n)) < lacks->sectors; at += n) {
		first = region_of(m, at);
		bitmap_set(m->pend, first, region_of(m, at + n - 1) - first + 1);
	}
	while (i < words) {
		stop = min(words - i, CHUNK) + i;
		spin_lock_irq(&g->lock);
		for (; i < stop; i++) {
			unsigned long differ = m->set[i] ^ m->pend[i];

			if (!differ)
				continue;
			first = i * BITS_PER_LONG;
			note_changed(m, first, min_t(u32, BITS_PER_LONG, m->nr_regions - first));
			m->nr_set += hweight_long(m->pend[i]) - hweight_long(m->set[i]);
			m->set[i] = m->pend[i];
		}
		spin_unlock_irq(&g->lock);
		cond_resched();
	}
	bitmap_zero(m->pend, m->nr_regions);
}

/* Write @lacks to the fine area; where that is full the last extent takes the rest. */
static int write_fine(struct rep_map *m, struct rep_dirty *lacks)
{
	struct repagent_map_extent *last = NULL;
	struct repagent_map_fine *f = NULL;
	unsigned int nr = 0, i;
	sector_t at = 0, n;

	memset(m->buffer, 0, REPAGENT_MAP_FINE_NR << SECTOR_SHIFT);
	for (; (at = rep_dirty_run(lacks, at, &n)) < lacks->sectors; at += n) {
		sector_t end = last ? le64_to_cpu(last->sector) + le64_to_cpu(last->nr_sectors) : 0;

		if (last && (end == at || nr == REPAGENT_MAP_FINE_NR * REPAGENT_MAP_EXTENTS)) {
			last->nr_sectors = cpu_to_le64(at + n - le64_to_cpu(last->sector));
			continue;
		}
		f = (void *)m->buffer + (nr / REPAGENT_MAP_EXTENTS << SECTOR_SHIFT);
		last = &f->extent[nr % REPAGENT_MAP_EXTENTS];
		last->sector = cpu_to_le64(at);
		last->nr_sectors = cpu_to_le64(n);
		f->nr = cpu_to_le32(nr % REPAGENT_MAP_EXTENTS + 1);
		nr++;
	}
	nr = DIV_ROUND_UP(nr, REPAGENT_MAP_EXTENTS);
	for (i = 0; i < nr; i++)
		seal(m->buffer + (i << SECTOR_SHIFT), REPAGENT_MAP_FINE, i);
	m->super.nr_fine = cpu_to_le32(nr);
	return nr ? meta_write(m, REPAGENT_MAP_FINE_AT, nr) : 0;
}

static int save(struct rep_map *m, struct rep_dirty *lacks, u64 origin_writes)
{
	int err;

	lockdep_assert_held(&m->io_lock);
	take_durable(m);
	err = write_super(m, 0);
	if (err)
		return err;
	set_only(m, lacks);
	err = write_bits(m) ?: write_fine(m, lacks);
	if (err)
		return err;
	m->log_tail = m->log_head;
	m->super.boot_time = cpu_to_le64(boot_time());
	m->super.origin_writes = cpu_to_le64(origin_writes);
	return write_super(m, REPAGENT_MAP_CLEAN);
}

/**
 * rep_map_stop - a volume has been suspended: save what the hub lacks
 * @v: the volume; all its writes and reads are done
 * @origin_writes: sectors that were written to it
 *
 * What cannot be saved is no harm: the volume was not stopped cleanly then.
 *
 * Context: process, from postsuspend; does not allocate by writing.
 */
void rep_map_stop(struct rep_volume *v, u64 origin_writes)
{
	struct rep_map *m = v->map;
	struct rep_dirty lacks = { };
	int err;

	flush_work(&m->commit);
	cancel_delayed_work_sync(&m->clear);
	mutex_lock(&m->io_lock);
	try_again(m);
	if (READ_ONCE(m->failed)) {
		if (READ_ONCE(m->flush_failed))
			write_super(m, REPAGENT_MAP_OWED);
		goto out;
	}
	if (!READ_ONCE(m->flush_failed)) {
		err = blkdev_issue_flush(m->origin);
		if (err)
			rep_map_flush_failed(m, err);
	}
	if (READ_ONCE(m->flush_failed)) {
		DMERR("%s/%s: as a flush of the origin has failed, the volume counts as not stopped cleanly",
		      v->group->name, v->name);
		/* To be told to the next one of this boot. */
		err = write_super(m, 0);
		if (err)
			mark_failed(m, err);
		goto out;
	}
	if (rep_dirty_init(&lacks, m->sectors)) {
		DMERR("%s/%s: no memory to save what the hub lacks: the volume counts as not stopped cleanly",
		      v->group->name, v->name);
		goto out;
	}
	collect(v, &lacks);
	err = save(m, &lacks, origin_writes);
	if (err)
		mark_failed(m, err);
out:
	mutex_unlock(&m->io_lock);
	rep_dirty_exit(&lacks);
}

/**
 * rep_map_status - a word for the status line
 * @m: the map, or NULL
 *
 * Context: under rep_group.lock.
 */
const char *rep_map_status(const struct rep_map *m)
{
	return !m ? "none" : m->failed ? "error" : "ok";
}

/**
 * rep_map_error - why a map cannot be written
 * @m: the map, or NULL
 *
 * Context: under rep_group.lock.
 * Return: 0 if it can, or there is none; else the (negative) error.
 */
int rep_map_error(const struct rep_map *m)
{
	return m ? m->failed : 0;
}
