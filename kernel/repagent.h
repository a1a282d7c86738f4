/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dm-repagent: what its parts share.
 *
 * Locks, in the order they are taken:
 *
 *   rep_groups_lock (mutex)	the list of groups, their birth and death; a
 *				method of a group's attributes only tries it
 *   rep_group.mutex		a group's volumes, their active targets
 *   rep_group.consumer_lock	(mutex) acknowledgement; innermost mutex
 *   rep_group.lock (spin, irq)	reservation, capture and image states, dirty bits
 *
 * and on their own, with none of the above taken inside:
 *
 *   rep_map.io_lock		(mutex) the meta device; takes consumer_lock and
 *				rep_group.lock
 *   rep_map.lock		writes that wait for the map
 *   rep_volume.wide_lock	serialises the insertion of wide ranges;
 *				takes rep_shard.lock
 *   rings_lock (spin)		how much the rings have, of ring.c
 *   rec_lock (mutex)		the volumes of rep-recover; takes rec_volume.consumer_lock
 *   rec_volume.consumer_lock	(mutex) answers and acknowledgement; takes
 *				rec_volume.lock
 *   rec_volume.lock (spin, irq) requests of one
 *   rep_shard.lock		one shard of a volume's in-flight ranges
 *   rep_volume.queue_lock	ranges and writes that wait for the worker
 */
#ifndef DM_REPAGENT_H
#define DM_REPAGENT_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/cdev.h>
#include <linux/device-mapper.h>
#include <linux/device.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/dm-repagent.h>

#define DM_MSG_PREFIX "repagent"

#if !defined(CONFIG_64BIT) || !defined(__LITTLE_ENDIAN)
#error "dm-repagent is for 64-bit little-endian machines: its stream is little-endian"
#endif

struct rep_group;
struct rep_volume;
struct rep_target;
struct rep_map;

/* ---- interval.c: ranges with I/O on the way ------------------------------ */

#define REP_SHARDS		32
#define REP_SHARD_SHIFT		11	/* sectors: one shard per MiB, in turn */
#define REP_SHARD_SECTORS	(1UL << REP_SHARD_SHIFT)

/* A range's presence in one shard. All under the shard's lock. */
struct rep_node {
	struct rb_node		rb;
	sector_t		start;
	sector_t		last;		/* inclusive */
	sector_t		subtree_last;
	struct rep_range	*range;
};

/*
 * A range of sectors that is being written, or read for a resync. It waits
 * until every range that overlaps it and came earlier is gone.
 */
struct rep_range {
	struct rep_node		node;		/* in the shard of its first sector */
	struct rep_node		*wide;		/* or one for each shard */
	atomic_t		blockers;	/* earlier overlapping ranges */
	void			(*granted)(struct rep_range *range);
	struct list_head	queue;		/* rep_volume.granted, queue_lock */
};

struct rep_shard {
	spinlock_t		lock;		/* guards lone and ranges */
	struct rep_node		*lone;		/* one of the ranges, or NULL */
	struct rb_root_cached	ranges;		/* the others */
} ____cacheline_aligned_in_smp;

void rep_intervals_init(struct rep_volume *v);
bool rep_range_is_wide(sector_t sector, sector_t nr_sectors);
int rep_range_widen(struct rep_range *range);
bool rep_range_lock(struct rep_volume *v, struct rep_range *range,
		    sector_t sector, sector_t nr_sectors);
void rep_range_unlock(struct rep_volume *v, struct rep_range *range);

/* ---- dirty.c: what the stream lacks -------------------------------------- */

#define REP_FINE_SHIFT		3			/* sectors: 4 KiB a bit */
#define REP_LEAF_BITS		(PAGE_SIZE * 8)		/* 128 MiB a leaf */

/* The bits of one leaf. No page: none are set (count 0), or all. */
struct rep_leaf {
	unsigned long		*bits;
	u32			count;
};

/* Volatile fine bits of a volume; all under rep_group.lock. */
struct rep_dirty {
	sector_t		sectors;
	u64			nr_bits;
	unsigned int		nr_leaves;
	u64			count;		/* bits set */
	struct rep_leaf		*leaf;
};

int rep_dirty_init(struct rep_dirty *d, sector_t sectors);
void rep_dirty_exit(struct rep_dirty *d);
void rep_dirty_set(struct rep_dirty *d, sector_t sector, sector_t nr_sectors);
void rep_dirty_set_all(struct rep_dirty *d);
int rep_dirty_clear(struct rep_dirty *d, sector_t sector, sector_t nr_sectors,
		    unsigned long **spare);
sector_t rep_dirty_run(struct rep_dirty *d, sector_t from, sector_t *nr_sectors);
sector_t rep_dirty_next(struct rep_dirty *d, sector_t from, sector_t max,
			sector_t *nr_sectors);
bool rep_dirty_any(const struct rep_dirty *d, sector_t sector, sector_t nr_sectors);
void rep_dirty_clear_all(struct rep_dirty *d);
void rep_dirty_resize(struct rep_dirty *d, struct rep_dirty *to);
sector_t rep_dirty_sectors(const struct rep_dirty *d);

/* ---- ring.c: descriptors and payload ------------------------------------- */

#define REP_CTRL_SLOTS		128	/* kept back from writes */
#define REP_CTRL_LAST		2	/* kept back from all but GAP */

struct rep_ring {
	/* constant */
	struct repagent_ring_header *hdr;
	struct repagent_slot	*slots;
	u8			*payload;	/* mapped twice in a row */
	struct page		**pages;	/* header, slots, payload */
	u16			*run;		/* pages contiguous from here, payload only */
	unsigned int		nr_pages;
	unsigned int		nr_meta_pages;	/* header and slots */
	unsigned int		nr_slots;
	unsigned int		max_len;	/* bytes of a record */
	u64			payload_size;
	u64			incarnation;

	/* rep_group.lock */
	u64			head;		/* next sequence number */
	u64			acked;
	u64			payload_head;	/* bytes ever reserved */
	u64			payload_tail;	/* bytes ever freed */
	u64			resync_bytes;	/* of RESYNC and VERIFY, not freed */

	/* rep_group.consumer_lock */
	u64			committed;
};

/* What reserve() gave. */
struct rep_record {
	struct repagent_slot	*slot;
	u64			seq;
	u64			pos;		/* of the payload in the ring */
};

int rep_ring_init(struct rep_ring *r, unsigned int mib);
void rep_ring_exit(struct rep_ring *r);
int rep_ring_mmap(struct rep_ring *r, struct vm_area_struct *vma);
unsigned int rep_ring_vecs(struct rep_ring *r, u64 pos, unsigned int len);
void rep_ring_fill_bio(struct rep_ring *r, struct bio *bio, u64 pos,
		       unsigned int len);
void rep_ring_copy(struct rep_ring *r, u64 pos, struct bio *bio);
bool rep_ring_has_room(struct rep_ring *r, unsigned int len, unsigned int keep);
void rep_ring_fill(struct rep_ring *r, struct rep_record *rec, u8 type, u8 flags, u16 volume,
		   s32 aux, sector_t sector, sector_t nr_sectors, unsigned int len);
u64 rep_ring_end(struct rep_ring *r, u64 seq);
bool rep_ring_is_committed(struct rep_ring *r, u64 seq);

/* What became of a write that asked for its place in the stream. */
enum rep_reserved {
	REP_CAPTURED,		/* it has one, and must be committed */
	REP_TRACKED,		/* it has none: its range is dirty */
	REP_NEED_INTENT,	/* rep_map_wait(), then ask again */
};

enum rep_reserved rep_reserve_write(struct rep_volume *v, struct rep_record *rec,
				    u8 type, u8 flags, sector_t sector,
				    sector_t nr_sectors, unsigned int len);
bool rep_room_for_read(struct rep_ring *r, unsigned int len);
bool rep_reserve_read(struct rep_volume *v, struct rep_record *rec, u8 type,
		      sector_t sector, sector_t nr_sectors);
int rep_emit(struct rep_group *g, struct rep_volume *v, u8 type, s32 aux,
	     sector_t nr_sectors, u64 *seq);
int rep_emit_checkpoint(struct rep_group *g, const char *label, u64 *seq);
void rep_emit_flush(struct rep_volume *v);
void rep_commit(struct rep_group *g, struct rep_record *rec, u8 state);
void rep_write_failed(struct rep_volume *v, struct rep_record *rec,
		      sector_t sector, sector_t nr_sectors, blk_status_t status);
int rep_ack(struct rep_group *g, u64 seq);
u64 rep_committed(struct rep_group *g);

/* ---- group.c: groups, volumes, states, the character device -------------- */

struct rep_group {
	struct list_head	list;		/* rep_groups_lock */
	char			name[REPAGENT_NAME_MAX + 1];
	struct device		dev;		/* its refcount is the group's */
	struct cdev		cdev;
	bool			registered;	/* rep_groups_lock */
	bool			dead;		/* set once, under mutex */
	unsigned int		ring_mib;

	struct mutex		mutex;
	struct rep_volume	*volumes[REPAGENT_MAX_VOLUMES];	/* mutex and lock to change */
	u16			next_id;	/* mutex */

	unsigned long		opened;		/* bit 0: the consumer's, or that of who forgets the group */
	struct pid		*consumer;	/* lock */
	char			consumer_name[TASK_COMM_LEN];	/* lock */
	struct mutex		consumer_lock;

	spinlock_t		lock;
	struct rep_ring		ring;
	enum repagent_capture	capture;	/* lock */
	enum repagent_reason	reason;		/* lock */
	bool			connected;	/* lock: the hub takes the stream */
	unsigned int		flaps;		/* lock: STREAM left soon after it was entered */
	unsigned long		since;		/* lock: jiffies of the last change of capture */
	u64			gaps;		/* lock */
	u8			uuid[16];	/* lock; zeroes: none yet */
	u64			events;		/* lock */
	u64			reasons[REPAGENT_NR_REASONS];	/* lock: how often */

	wait_queue_head_t	idle;		/* for the end of resync reads */
	wait_queue_head_t	wait;		/* the consumer's poll() */
	u64			wait_seq;	/* the consumer sleeps for this */
	u64			wait_events;

	struct workqueue_struct	*wq;
	struct delayed_work	work;		/* leaves TRACK, drives resyncs */
	struct work_struct	event_work;	/* tells dm, udev and the consumer */
	struct rep_rio		*rio;		/* resync reads; lock */
	unsigned long		rio_busy;	/* lock */
};

#define REP_REMOVE_OWED	U64_MAX	/* remove_seq: VOLUME_REMOVE is still to come */

struct rep_volume {
	struct rep_group	*group;
	char			name[REPAGENT_NAME_MAX + 1];
	u16			id;

	/* rep_group.mutex */
	unsigned int		refs;		/* targets */
	struct mapped_device	*md;		/* theirs */
	struct rep_target	*active;	/* the one that maps; lock to change */
	u64			remove_seq;	/* the last record that may name it; lock */
	u64			reach;		/* sectors before it shrank ... */
	u64			reach_seq;	/* ... the last record that may go beyond its size */
	u64			origin_writes;	/* the origin's counter when it was suspended */
	u64			map_incarnation;	/* what its map rested on when it was activated ... */
	u64			map_seq;
	u64			map_until;	/* ... told until this record is acknowledged; lock */

	/* rep_group.lock */
	enum repagent_image	image;
	enum repagent_reason	reason;
	struct rep_dirty	dirty;
	struct rep_map		*map;		/* that of the active target; may be NULL */
	int			map_error;	/* rep_map_error() as the stream has it */
	u64			failed;
	u64			resyncs;
	bool			stopped;	/* no resync reads: suspended */
	bool			wants_resync;	/* asked for between a table's swap and its resume */
	sector_t		cursor;		/* of the resync */
	unsigned int		reads;		/* resync and verify reads on the way */
	unsigned int		verifies;	/* verify reads on the way */
	u64			read_sectors;	/* the sum of the resync reads */
	unsigned int		bad_reads;	/* of this pass */
	bool			careful;	/* the last pass had some: one bit a read */
	unsigned long		retry_at;	/* jiffies: no pass before */
	unsigned long		backoff;	/* jiffies */

	struct bio_set		bounce_bios;	/* for bounces of many pieces */
	struct rep_shard	shard[REP_SHARDS];
	spinlock_t		wide_lock;

	spinlock_t		queue_lock;
	struct list_head	granted;	/* queue_lock: ranges whose turn has come */
	struct work_struct	work;		/* runs what is in granted */
	struct workqueue_struct	*wq;
};

/* One table's target. */
struct rep_target {
	struct list_head	list;		/* rep_groups_lock: all that are attached */
	struct dm_target	*ti;
	struct dm_dev		*origin;
	struct dm_dev		*meta;		/* may be NULL */
	const char		*meta_name;	/* while ctr reads the words */
	struct rep_map		*map;		/* goes over to the volume with the first resume */
	struct rep_volume	*volume;
	struct rep_dirty	dirty;		/* made by ctr for preresume */
	unsigned int		ring_mib;	/* 0: not given */
	unsigned int		region_kib;	/* 0: not given */
	bool			bounce;
	enum { REP_DISCARD_ZERO, REP_DISCARD_PASS, REP_DISCARD_IGNORE } discard;
	bool			discard_given;
};

extern const char * const rep_capture_names[];
extern const char * const rep_image_names[];
extern const char * const rep_reason_names[];

int rep_groups_init(void);
void rep_groups_exit(void);
int rep_volume_attach(struct rep_target *t, const char *group, const char *name,
		      struct mapped_device *md);
void rep_volume_detach(struct rep_target *t);
void rep_volume_activate(struct rep_target *t);
void rep_volume_suspended(struct rep_target *t);
void rep_volume_queue(struct rep_volume *v, struct list_head *ranges);
void rep_volume_require_resync(struct rep_target *t);
void rep_image_dirty(struct rep_volume *v, enum repagent_reason reason);
void rep_set_capture(struct rep_group *g, enum repagent_capture capture,
		     enum repagent_reason reason);
void rep_set_image(struct rep_volume *v, enum repagent_image image,
		   enum repagent_reason reason);
void rep_event(struct rep_group *g);
bool rep_name_ok(const char *name);
void rep_group_uuid(struct rep_group *g, u8 *uuid);

/* ---- intent.c: the write-intent map ---------------------------------------- */

int rep_map_new(struct rep_target *t);
void rep_map_free(struct rep_map *m);
void rep_map_leave(struct rep_map *m, const struct rep_map *next);
bool rep_map_trusted(const struct rep_map *m, u64 origin_writes);
bool rep_map_dirty(struct rep_map *m, struct rep_dirty *d);
u64 rep_map_durable(const struct rep_map *m, u64 *seq);
void rep_map_start(struct rep_target *t, bool all);
void rep_map_go(struct rep_map *m);
void rep_map_flush_failed(struct rep_map *m, int err);
void rep_map_stop(struct rep_volume *v, u64 origin_writes);
bool rep_map_covers(struct rep_map *m, sector_t sector, sector_t nr_sectors);
void rep_map_note(struct rep_map *m, sector_t sector, sector_t nr_sectors, u64 seq);
void rep_map_wait(struct rep_volume *v, struct rep_range *range);
void rep_map_set_all(struct rep_map *m);
const char *rep_map_status(const struct rep_map *m);
int rep_map_error(const struct rep_map *m);

/* ---- resync.c ------------------------------------------------------------ */

#define REP_RIOS		16
#define REP_RESYNC_SECTORS	512	/* 256 KiB a read */

int rep_resync_init(struct rep_group *g);
void rep_resync_exit(struct rep_group *g);
void rep_resync_work(struct work_struct *work);
void rep_resync_kick(struct rep_group *g);
void rep_resync_wait(struct rep_volume *v);
int rep_verify(struct rep_volume *v, sector_t sector, sector_t nr_sectors);
bool rep_begin_resyncs(struct rep_group *g);
void rep_resync_restart(struct rep_volume *v);
void rep_dirty_ranges(struct rep_volume *v, struct repagent_dirty *d);
bool rep_resync_reads(struct rep_volume *v, sector_t sector, sector_t nr_sectors);

/* ---- recover.c: the target rep-recover -------------------------------- */

int rep_recover_init(void);
void rep_recover_exit(void);

#endif /* DM_REPAGENT_H */
