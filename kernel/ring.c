// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring of a group: descriptors ("slots") and payload, many producers, one
 * consumer in userspace. Documentation/abi.md describes what the consumer sees.
 *
 * The scheme is that of the BPF ring buffer (kernel/bpf/ringbuf.c): a
 * reservation takes a place and a number under one spinlock, the payload is
 * copied without a lock, and the consumer stops at the first place that is
 * still busy. So the order of the stream is the order of the reservations,
 * while a record is seen only once it is complete. Other than there the consumer
 * frees space by a call, and not by a word in shared memory: nothing that
 * userspace can write is ever read.
 *
 * Barriers:
 *
 *   head:	smp_store_release() in rep_ring_fill() pairs with the consumer's
 *		load-acquire of the header's head.
 *   commit:	smp_store_release() in rep_commit() pairs with the consumer's
 *		load-acquire of slot.commit and with smp_load_acquire() in
 *		rep_ring_is_committed().
 *   wakeup:	smp_mb() in rep_commit(), between the store of slot.commit and
 *		the load of wait_seq, pairs with smp_mb() in the WAIT ioctl,
 *		between the store of wait_seq and the load of slot.commit.
 */
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "repagent.h"
#include "compat.h"
#include "trace.h"

static unsigned int ring_total_mib;
module_param(ring_total_mib, uint, 0644);
MODULE_PARM_DESC(ring_total_mib,
		 "MiB that all rings together may take (0: a quarter of the memory)");

static DEFINE_SPINLOCK(rings_lock);	/* guards rings_mib */
static unsigned int rings_mib;		/* of payload, of all rings */

static unsigned int rings_mib_max(void)
{
	unsigned int max = READ_ONCE(ring_total_mib);

	return max ?: totalram_pages() >> (20 - PAGE_SHIFT + 2);
}

/* Whether there may be @mib more; then they are counted. */
static bool rings_grow(unsigned int mib)
{
	unsigned int max = rings_mib_max(), are;
	bool ok;

	spin_lock(&rings_lock);
	are = rings_mib;
	ok = mib <= max && are <= max - mib;
	if (ok)
		rings_mib += mib;
	spin_unlock(&rings_lock);
	if (!ok)
		DMERR("a ring of %u MiB: the rings have %u MiB already, and ring_total_mib allows %u",
		      mib, are, max);
	return ok;
}

static void rings_shrink(unsigned int mib)
{
	spin_lock(&rings_lock);
	rings_mib -= mib;
	spin_unlock(&rings_lock);
}

static struct repagent_slot *slot_of(struct rep_ring *r, u64 seq)
{
	return &r->slots[seq & (r->nr_slots - 1)];
}

/* ---- memory -------------------------------------------------------------- */

/*
 * Fill pages[from..to) with zeroed pages, contiguous in as long runs as can be
 * had cheaply: a bounce write needs one bvec a run.
 */
static int alloc_pages_run(struct page **pages, unsigned int from, unsigned int to)
{
	unsigned int order = 9, i = from, k;

	while (i < to) {
		struct page *page;

		while (order && (1U << order) > to - i)
			order--;
		page = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN |
				   (order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL),
				   order);
		if (!page) {
			if (!order)
				return -ENOMEM;
			order--;
			continue;
		}
		split_page(page, order);
		for (k = 0; k < 1U << order; k++)
			pages[i++] = page + k;
		cond_resched();
	}
	return 0;
}

static void note_runs(struct rep_ring *r)
{
	unsigned int n = r->payload_size >> PAGE_SHIFT, i = n;
	struct page **p = r->pages + r->nr_meta_pages;

	while (i--) {
		bool joined = i + 1 < n &&
			      page_to_pfn(p[i + 1]) == page_to_pfn(p[i]) + 1;

		r->run[i] = joined ? min(r->run[i + 1] + 1, U16_MAX) : 1;
	}
}

/**
 * rep_ring_init - make a ring
 * @r: zeroed memory
 * @mib: MiB of payload
 *
 * Context: may sleep.
 * Return: 0, -ENOMEM, or -ENOSPC if ring_total_mib would be exceeded.
 */
int rep_ring_init(struct rep_ring *r, unsigned int mib)
{
	unsigned int slot_pages, payload_pages, i;
	struct page **twice;

	if (!rings_grow(mib))
		return -ENOSPC;
	r->payload_size = (u64)mib << 20;
	r->nr_slots = max(1024UL, roundup_pow_of_two(r->payload_size / 2048));
	r->max_len = min_t(u64, REPAGENT_MAX_RECORD, r->payload_size / 4);
	slot_pages = DIV_ROUND_UP(r->nr_slots * sizeof(*r->slots), PAGE_SIZE);
	payload_pages = r->payload_size >> PAGE_SHIFT;
	r->nr_meta_pages = 1 + slot_pages;
	r->nr_pages = r->nr_meta_pages + payload_pages;

	r->pages = kvcalloc(r->nr_pages, sizeof(*r->pages), GFP_KERNEL);
	r->run = kvcalloc(payload_pages, sizeof(*r->run), GFP_KERNEL);
	twice = kvcalloc(2 * payload_pages, sizeof(*twice), GFP_KERNEL);
	if (!r->pages || !r->run || !twice)
		goto fail;
	if (alloc_pages_run(r->pages, 0, r->nr_meta_pages) ||
	    alloc_pages_run(r->pages, r->nr_meta_pages, r->nr_pages))
		goto fail;
	note_runs(r);
	for (i = 0; i < payload_pages; i++)
		twice[i] = twice[i + payload_pages] = r->pages[r->nr_meta_pages + i];
	r->hdr = vmap(r->pages, r->nr_meta_pages, VM_MAP, PAGE_KERNEL);
	r->payload = vmap(twice, 2 * payload_pages, VM_MAP, PAGE_KERNEL);
	if (!r->hdr || !r->payload)
		goto fail;
	kvfree(twice);

	r->slots = (void *)r->hdr + PAGE_SIZE;
	r->incarnation = get_random_u64() ?: 1;
	r->head = 1;
	*r->hdr = (struct repagent_ring_header) {
		.magic		= REPAGENT_ABI_MAGIC,
		.version	= REPAGENT_ABI_VERSION,
		.header_size	= sizeof(*r->hdr),
		.incarnation	= r->incarnation,
		.nr_slots	= r->nr_slots,
		.slot_size	= sizeof(*r->slots),
		.payload_size	= r->payload_size,
		.slots_offset	= PAGE_SIZE,
		.payload_offset	= (u64)r->nr_meta_pages << PAGE_SHIFT,
		.map_size	= (u64)(r->nr_pages + payload_pages) << PAGE_SHIFT,
		.head		= r->head,
	};
	return 0;

fail:
	kvfree(twice);
	rep_ring_exit(r);
	return -ENOMEM;
}

/**
 * rep_ring_exit - free a ring
 * @r: the ring, or what rep_ring_init() left of it
 *
 * Context: may sleep. The pages that the consumer still maps live on until it
 * unmaps them.
 */
void rep_ring_exit(struct rep_ring *r)
{
	unsigned int i;

	vunmap(r->payload);
	vunmap(r->hdr);
	for (i = 0; r->pages && i < r->nr_pages; i++)
		if (r->pages[i])
			put_page(r->pages[i]);
	kvfree(r->pages);
	kvfree(r->run);
	rings_shrink(r->payload_size >> 20);
	memset(r, 0, sizeof(*r));
}

/**
 * rep_ring_mmap - map a ring into the consumer
 * @r: the ring
 * @vma: what it asks for
 *
 * Context: mmap of the character device.
 * Return: 0, -EACCES unless it is read-only, -EINVAL unless it is shared and of
 * the whole size, or another negative errno.
 */
int rep_ring_mmap(struct rep_ring *r, struct vm_area_struct *vma)
{
	unsigned long left = r->nr_pages;
	int err;

	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_pgoff ||
	    vma->vm_end - vma->vm_start != r->hdr->map_size)
		return -EINVAL;
	rep_vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTCOPY | VM_DONTDUMP, VM_MAYWRITE | VM_MAYEXEC);
	err = vm_insert_pages(vma, vma->vm_start, r->pages, &left);
	if (err)
		return err;
	left = r->nr_pages - r->nr_meta_pages;
	return vm_insert_pages(vma, vma->vm_start + ((unsigned long)r->nr_pages << PAGE_SHIFT),
			       r->pages + r->nr_meta_pages, &left);
}

/**
 * rep_ring_vecs - how many bvecs a piece of payload needs
 * @r: the ring
 * @pos: where it begins, bytes from the start of the payload
 * @len: bytes, not 0
 *
 * Return: the number of runs of contiguous pages.
 */
unsigned int rep_ring_vecs(struct rep_ring *r, u64 pos, unsigned int len)
{
	unsigned int nr = r->payload_size >> PAGE_SHIFT, n = 0;
	unsigned int i = pos >> PAGE_SHIFT, off = offset_in_page(pos);

	for (;;) {
		u64 bytes = ((u64)r->run[i] << PAGE_SHIFT) - off;

		n++;
		if (bytes >= len)
			return n;
		len -= bytes;
		i += r->run[i];
		off = 0;
		if (i >= nr)
			i -= nr;
	}
}

/**
 * rep_ring_fill_bio - make a bio of a piece of payload
 * @r: the ring
 * @bio: empty, with room for rep_ring_vecs() bvecs
 * @pos: where the payload begins
 * @len: bytes, not 0
 */
void rep_ring_fill_bio(struct rep_ring *r, struct bio *bio, u64 pos,
		       unsigned int len)
{
	unsigned int nr = r->payload_size >> PAGE_SHIFT;
	unsigned int i = pos >> PAGE_SHIFT, off = offset_in_page(pos);

	bio->bi_iter.bi_size = len;
	while (len) {
		struct bio_vec *bv = &bio->bi_io_vec[bio->bi_vcnt++];

		bv->bv_page = r->pages[r->nr_meta_pages + i];
		bv->bv_offset = off;
		bv->bv_len = min_t(u64, len, ((u64)r->run[i] << PAGE_SHIFT) - off);
		len -= bv->bv_len;
		i += r->run[i];
		off = 0;
		if (i >= nr)
			i -= nr;
	}
}

/**
 * rep_ring_copy - copy the payload of a write
 * @r: the ring
 * @pos: where it has its place
 * @bio: the write
 */
void rep_ring_copy(struct rep_ring *r, u64 pos, struct bio *bio)
{
	u8 *to = r->payload + pos;
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		memcpy_from_bvec(to, &bv);
		to += bv.bv_len;
	}
}

/* ---- reservation --------------------------------------------------------- */

/* Where a payload of @len would begin: larger ones on a page. */
static u64 payload_start(struct rep_ring *r, unsigned int len)
{
	return len >= PAGE_SIZE ? ALIGN(r->payload_head, PAGE_SIZE) : r->payload_head;
}

/**
 * rep_ring_has_room - may a record be reserved?
 * @r: the ring
 * @len: bytes of its payload
 * @keep: slots that must be left
 *
 * Context: under the lock that guards the ring's positions.
 */
bool rep_ring_has_room(struct rep_ring *r, unsigned int len, unsigned int keep)
{
	return r->head - r->acked + keep < r->nr_slots &&
	       payload_start(r, len) + len - r->payload_tail <= r->payload_size;
}

/**
 * rep_ring_fill - reserve a record; there is room for it
 * @r: the ring
 * @rec: out: its place, still busy
 * @type: and all the others: as in struct repagent_slot
 *
 * Context: under the lock that guards the ring's positions.
 */
void rep_ring_fill(struct rep_ring *r, struct rep_record *rec, u8 type, u8 flags, u16 volume,
		   s32 aux, sector_t sector, sector_t nr_sectors, unsigned int len)
{
	u64 start = payload_start(r, len);
	struct repagent_slot *slot;

	rec->seq = r->head;
	rec->pos = start % r->payload_size;
	rec->slot = slot = slot_of(r, rec->seq);
	if (len)
		r->payload_head = ALIGN(start + len, SECTOR_SIZE);

	/* Busy first: what follows belongs to the new number. */
	WRITE_ONCE(slot->commit, REPAGENT_SLOT_WORD(rec->seq, REPAGENT_SLOT_BUSY));
	smp_wmb();	/* pairs with the consumer's load-acquire of commit */
	slot->type = type;
	slot->flags = flags;
	slot->volume = volume;
	slot->aux = aux;
	slot->sector = sector;
	slot->nr_sectors = nr_sectors;
	slot->pos = rec->pos;
	slot->len = len;
	slot->time = ktime_to_ns(ktime_get_coarse_real());
	slot->end = r->payload_head;
	r->head++;
	/* pairs with the consumer's, and rep_committed()'s, load-acquire */
	smp_store_release(&r->hdr->head, r->head);
}

/**
 * rep_commit - a record is complete
 * @g: the group
 * @rec: from one of the reservations; not to be used afterwards
 * @state: REPAGENT_SLOT_READY or REPAGENT_SLOT_VOID
 *
 * Context: any.
 */
void rep_commit(struct rep_group *g, struct rep_record *rec, u8 state)
{
	/* pairs with the consumer's, and rep_ring_is_committed()'s, load-acquire */
	smp_store_release(&rec->slot->commit, REPAGENT_SLOT_WORD(rec->seq, state));
	smp_mb();	/* pairs with smp_mb() in the WAIT ioctl */
	if (unlikely(READ_ONCE(g->wait_seq) == rec->seq))
		wake_up_interruptible_poll(&g->wait, EPOLLIN);
}

/* STREAM is left: the last word in the stream until it is entered again. */
static void overflow(struct rep_group *g)
{
	lockdep_assert_held(&g->lock);
	rep_set_capture(g, REPAGENT_CAPTURE_TRACK, REPAGENT_REASON_RING_FULL);
}

/**
 * rep_reserve_write - a write asks for its place in the stream
 * @v: its volume
 * @rec: out: the place
 * @type: WRITE, ZEROES or DISCARD
 * @flags: REPAGENT_REC_*
 * @sector: first sector
 * @nr_sectors: length
 * @len: bytes of payload
 *
 * The caller holds the range in the interval set.
 *
 * Context: process, as map() is; takes rep_group.lock.
 * Return: REP_CAPTURED with @rec filled: it must be committed whatever becomes of
 * the write. REP_TRACKED if the group does not stream, or stopped doing so because
 * there was no room: the range is dirty then. REP_NEED_INTENT, and nothing has
 * changed, if the write-intent map does not have the range.
 */
enum rep_reserved rep_reserve_write(struct rep_volume *v, struct rep_record *rec,
				    u8 type, u8 flags, sector_t sector,
				    sector_t nr_sectors, unsigned int len)
{
	struct rep_group *g = v->group;

	spin_lock_irq(&g->lock);
	if (v->map && unlikely(!rep_map_covers(v->map, sector, nr_sectors))) {
		spin_unlock_irq(&g->lock);
		return REP_NEED_INTENT;
	}
	if (likely(g->capture == REPAGENT_CAPTURE_STREAM)) {
		if (likely(rep_ring_has_room(&g->ring, len, REP_CTRL_SLOTS))) {
			rep_ring_fill(&g->ring, rec, type, flags, v->id, 0,
				  sector, nr_sectors, len);
			if (v->map)
				rep_map_note(v->map, sector, nr_sectors, rec->seq);
			spin_unlock_irq(&g->lock);
			trace_repagent_reserve(v, rec->seq, type, sector, nr_sectors);
			return REP_CAPTURED;
		}
		overflow(g);
	}
	rep_dirty_set(&v->dirty, sector, nr_sectors);
	if (v->image == REPAGENT_IMAGE_CLEAN)
		rep_set_image(v, REPAGENT_IMAGE_DIRTY, g->reason);
	spin_unlock_irq(&g->lock);
	return REP_TRACKED;
}

/**
 * rep_room_for_read - may a resync read be started?
 * @r: the ring
 * @len: bytes
 *
 * All of them together take at most a quarter of the ring.
 *
 * Context: under rep_group.lock.
 */
bool rep_room_for_read(struct rep_ring *r, unsigned int len)
{
	return r->resync_bytes + len <= r->payload_size / 4 &&
	       rep_ring_has_room(r, len, REP_CTRL_SLOTS);
}

/**
 * rep_reserve_read - a resync read asks for its place in the stream
 * @v: its volume
 * @rec: out: the place
 * @type: RESYNC or VERIFY
 * @sector: first sector
 * @nr_sectors: length
 *
 * Context: under rep_group.lock; the caller holds the range in the interval set.
 * Return: whether there is room.
 */
bool rep_reserve_read(struct rep_volume *v, struct rep_record *rec, u8 type,
		      sector_t sector, sector_t nr_sectors)
{
	struct rep_ring *r = &v->group->ring;
	unsigned int len = nr_sectors << SECTOR_SHIFT;

	if (!rep_room_for_read(r, len))
		return false;
	r->resync_bytes += len;
	rep_ring_fill(r, rec, type, 0, v->id, 0, sector, nr_sectors, len);
	if (v->map && type == REPAGENT_REC_RESYNC)
		rep_map_note(v->map, sector, nr_sectors, rec->seq);
	return true;
}

/**
 * rep_emit - put a record without payload into the stream
 * @g: the group
 * @v: the volume it names, or NULL
 * @type: enum repagent_type
 * @aux: as in struct repagent_slot
 * @nr_sectors: as in struct repagent_slot
 * @seq: out: its number; may be NULL
 *
 * GAP always finds room: the last slots are kept for it, and between two of
 * them three quarters of the ring are freed.
 *
 * Context: under rep_group.lock, in STREAM.
 * Return: 0 or -ENOSPC.
 */
int rep_emit(struct rep_group *g, struct rep_volume *v, u8 type, s32 aux,
	     sector_t nr_sectors, u64 *seq)
{
	struct rep_record rec;

	lockdep_assert_held(&g->lock);
	if (!rep_ring_has_room(&g->ring, 0, type == REPAGENT_REC_GAP ? 0 : REP_CTRL_LAST))
		return -ENOSPC;
	rep_ring_fill(&g->ring, &rec, type, 0, v ? v->id : 0, aux, 0, nr_sectors, 0);
	if (seq)
		*seq = rec.seq;
	rep_commit(g, &rec, REPAGENT_SLOT_READY);
	return 0;
}

/**
 * rep_emit_checkpoint - put a labelled point into the stream
 * @g: the group
 * @label: up to REPAGENT_LABEL_MAX bytes
 * @seq: out: its number
 *
 * Context: process; takes rep_group.lock.
 * Return: 0, -EAGAIN if the group does not stream, -ENOSPC if there is no room.
 */
int rep_emit_checkpoint(struct rep_group *g, const char *label, u64 *seq)
{
	unsigned int len = strlen(label) + 1;
	struct rep_record rec;
	int err = -EAGAIN;

	spin_lock_irq(&g->lock);
	if (g->capture == REPAGENT_CAPTURE_STREAM) {
		err = -ENOSPC;
		if (rep_ring_has_room(&g->ring, SECTOR_SIZE, REP_CTRL_SLOTS)) {
			rep_ring_fill(&g->ring, &rec, REPAGENT_REC_CHECKPOINT, 0, 0,
				  0, 0, 0, len);
			memcpy(g->ring.payload + rec.pos, label, len);
			*seq = rec.seq;
			rep_commit(g, &rec, REPAGENT_SLOT_READY);
			err = 0;
		}
	}
	spin_unlock_irq(&g->lock);
	return err;
}

/**
 * rep_emit_flush - a flush of the writer succeeded
 * @v: the volume
 *
 * The record is advisory: it is left out rather than make the ring overflow.
 *
 * Context: any; takes rep_group.lock.
 */
void rep_emit_flush(struct rep_volume *v)
{
	struct rep_group *g = v->group;
	struct rep_record rec;
	unsigned long irq;

	spin_lock_irqsave(&g->lock, irq);
	if (g->capture == REPAGENT_CAPTURE_STREAM &&
	    rep_ring_has_room(&g->ring, 0, REP_CTRL_SLOTS)) {
		rep_ring_fill(&g->ring, &rec, REPAGENT_REC_FLUSH, 0, v->id, 0, 0, 0, 0);
		rep_commit(g, &rec, REPAGENT_SLOT_READY);
	}
	spin_unlock_irqrestore(&g->lock, irq);
}

/**
 * rep_write_failed - the origin failed a write
 * @v: the volume
 * @rec: its record, or NULL if it was not captured
 * @sector: first sector
 * @nr_sectors: length
 * @status: what the origin said
 *
 * What the disk holds in that range is unknown, so it turns dirty before the
 * record is committed and before the writer hears of it. That goes for "not
 * supported" as well: an origin that cuts a bio may have done a part of it.
 *
 * Context: any; takes rep_group.lock.
 */
void rep_write_failed(struct rep_volume *v, struct rep_record *rec,
		      sector_t sector, sector_t nr_sectors, blk_status_t status)
{
	struct rep_group *g = v->group;
	unsigned long irq;

	spin_lock_irqsave(&g->lock, irq);
	v->failed++;
	rep_dirty_set(&v->dirty, sector, nr_sectors);
	if (v->image == REPAGENT_IMAGE_CLEAN)
		rep_set_image(v, REPAGENT_IMAGE_DIRTY, REPAGENT_REASON_WRITE_FAILED);
	rep_event(g);
	spin_unlock_irqrestore(&g->lock, irq);
	trace_repagent_write_failed(v, sector, nr_sectors, blk_status_to_errno(status));
	if (rec) {
		/* Its payload stays where it is until it is acknowledged, but says nothing. */
		rec->slot->type = REPAGENT_REC_FAILED;
		rec->slot->flags = 0;
		rec->slot->len = 0;
		rec->slot->aux = -blk_status_to_errno(status);
		rep_commit(g, rec, REPAGENT_SLOT_READY);
	}
	rep_resync_kick(g);
}

/* ---- the consumer's side ------------------------------------------------- */

/**
 * rep_ring_is_committed - is a record complete?
 * @r: the ring
 * @seq: its number
 *
 * Context: any.
 * Return: false also if it was not reserved yet.
 */
bool rep_ring_is_committed(struct rep_ring *r, u64 seq)
{
	/* pairs with smp_store_release() in rep_commit() */
	u64 word = smp_load_acquire(&slot_of(r, seq)->commit);

	return seq <= READ_ONCE(r->acked) ||
	       (word >> REPAGENT_SLOT_SHIFT == seq &&
		(word & ((1 << REPAGENT_SLOT_SHIFT) - 1)) != REPAGENT_SLOT_BUSY);
}

/**
 * rep_ring_end - bytes of payload up to and including a record
 * @r: the ring
 * @seq: its number; it is not acknowledged yet, or was the last that was
 */
u64 rep_ring_end(struct rep_ring *r, u64 seq)
{
	return slot_of(r, seq)->end;
}

/**
 * rep_committed - how far the consumer can read
 * @g: the group
 *
 * Context: under rep_group.consumer_lock.
 * Return: the last record before the first busy slot.
 */
u64 rep_committed(struct rep_group *g)
{
	struct rep_ring *r = &g->ring;
	/* pairs with smp_store_release() in rep_ring_fill() */
	u64 head = smp_load_acquire(&r->hdr->head);

	while (r->committed + 1 < head && rep_ring_is_committed(r, r->committed + 1))
		r->committed++;
	return r->committed;
}

/**
 * rep_ack - the hub has made records durable
 * @g: the group
 * @seq: the last of them
 *
 * Context: process; under rep_group.consumer_lock, takes rep_group.lock.
 * Return: 0, or -EINVAL if @seq goes backwards or beyond what is committed.
 */
int rep_ack(struct rep_group *g, u64 seq)
{
	struct rep_ring *r = &g->ring;
	u64 s, resync = 0;

	if (seq < r->acked || seq > rep_committed(g))
		return -EINVAL;
	if (seq == r->acked)
		return 0;
	for (s = r->acked + 1; s <= seq; s++) {
		struct repagent_slot *slot = slot_of(r, s);

		if (slot->type == REPAGENT_REC_RESYNC ||
		    slot->type == REPAGENT_REC_VERIFY)
			resync += slot->len;
		if (!(s % 4096))
			cond_resched();
	}
	spin_lock_irq(&g->lock);
	r->payload_tail = rep_ring_end(r, seq);
	r->resync_bytes -= resync;
	WRITE_ONCE(r->acked, seq);
	spin_unlock_irq(&g->lock);
	trace_repagent_ack(g, seq);
	return 0;
}
