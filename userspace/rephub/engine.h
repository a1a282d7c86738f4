/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine's parts share. */
#ifndef REPHUB_ENGINE_H
#define REPHUB_ENGINE_H

#include <pthread.h>
#include <semaphore.h>
#include <sys/queue.h>

#include "cache.h"
#include "events.h"
#include "extents.h"
#include "hub.h"
#include "lineage.h"
#include "segment.h"

/*
 * struct place - up to where something counts
 * @offset:	in the log
 * @id:		how many records of the group come before
 * @incarnation, @seq: position
 */
struct place {
	uint64_t offset;
	uint64_t id;
	uint64_t incarnation, seq;
};

/*
 * enum failover_state - where the group's truth is
 *
 *	state		means						next
 *	FAILOVER_NONE	at an agent, whose stream comes			LIVE by a fail-over
 *	FAILOVER_LIVE	at live/GROUP; no agent has a session		COMMITTED, ROLLBACK
 *	FAILOVER_COMMITTED  the same, and for good			NONE by an agent's session that says the
 *									present generation; LIVE by another fail-over
 *	FAILOVER_ROLLBACK  what live had is being taken away		NONE
 *
 * Each change is one write of the group's file; whatever has to be done besides comes behind it, and
 * is done again at the next start.
 */
enum failover_state { FAILOVER_NONE, FAILOVER_LIVE, FAILOVER_COMMITTED, FAILOVER_ROLLBACK, FAILOVER_NR_STATES };

/*
 * struct failover - part of the group's file
 * @before:	the generation that was before
 * @since:	when the present generation was made
 * @start:	where live's writes begin in the log
 * @incarnation, @seq: the point
 * @live:	incarnation of live's writes
 * @commit_at:	when it commits by itself; 0: never
 */
struct failover {
	uint32_t state, reserved;
	uint64_t before;
	uint64_t since;
	uint64_t start;
	uint64_t incarnation, seq;
	uint64_t live;
	uint64_t commit_at;
};

/*
 * struct fork - what has changed since a fail-over's point, see fork.c
 * @generation:	that the fail-over made
 * @start:	where its live's writes begin in the log, which names it
 * @offset:	no frame before that has a record behind the point. With the group's lock, and while nothing is folded, a later
 *		fail-over sets this back, and the point
 * @incarnation, @seq: the last record of who wrote before
 * @point_incarnation, @point_seq: the point, or where what was written before it had parted from that
 * @changed:	of each slot: sectors that changed in what was folded. The folding thread changes it, with the group's lock
 * @gone:	it counts no more; guarded by that lock
 */
struct fork {
	SLIST_ENTRY(fork) link;
	uint64_t generation;
	uint64_t start, offset;
	uint64_t incarnation, seq;
	uint64_t point_incarnation, point_seq;
	struct extents changed[REPAGENT_MAX_VOLUMES];
	bool gone;
};

struct overlay;
struct order;
struct verify_report;
struct verify_state;

/*
 * enum space_state - what a group does about the disk: Documentation/segments.md, A full disk, has the table
 */
enum space_state { SPACE_ROOM, SPACE_SHORT, SPACE_SLOWED, SPACE_FULL };

/*
 * struct space - part of a group
 * @ran_out:	a write found no space, whatever is said to be free
 * @level:	bytes that the group had when the disk became short
 * @unseen:	bytes that came since it was looked what is free
 * @told_slowed: when it was last said that it is SLOWED, ns of CLOCK_MONOTONIC; 0: not since there was room
 */
struct space {
	enum space_state state;
	bool ran_out;
	uint64_t level;
	uint64_t unseen;
	uint64_t told_slowed;
};

/* struct tested - what became of a test that was made at a point: @text. */
struct tested {
	uint64_t incarnation, seq, time, id;
	char text[HUB_TEXT_MAX];
};

/*
 * struct group - @name, @uuid, the directories and @hub stay as they are; all else
 * is guarded by @lock.
 * @segment:	in the order of the log; the last one is added to, and is never sealed
 * @now:	what the log has said up to its end; @durable: what of it is durable
 * @floor:	points before this id are gone, for the base holds later data
 * @broken:	the journal could not be written or synced: it must be cut to @durable
 * @cuts:	how often it was
 * @syncing:	somebody has the journal synced, and has let go of @lock for that: others wait for @synced
 * @disk:	taken, behind @lock or without it, by whoever has the kernel sync the last segment: the kernel tells of an
 *		error once, and so nobody else may ask until the segment says it
 * @session:	the one that may write
 * @mark:	file that says what was durable, see group_mark()
 * @folding:	a segment is being folded, by one thread
 * @half:	the first segment's data is in part in the base, for there was no space; not to be tried again
 *		before @fold_next, ns of CLOCK_MONOTONIC
 * @trouble:	what a person should know of; empty: nothing
 * @keep:	how much of the journal; not own: what holds for all
 * @rate:	of what comes, see space.c
 * @space:	what it does about a full disk
 * @scratch:	it is the log of a test, of which nothing is told as an event
 * @forgotten:	it was taken away, and is of no use but to be freed at the hub's end
 * @admitted:	a generation of an agent that counts as the present one, for its fail-over was rolled
 *		back; 0: none
 * @stopping:	no session may be opened, for a fail-over is being made
 * @unsure:	it is not known what the group's file says
 * @before:	what the log had said when live's writes began
 * @hold:	nothing behind this id may be folded, for a rollback returns to what goes on from there, or live does; UINT64_MAX: that is
 *		all the same
 * @torn:	the journal was damaged at the start, so that live may lack what it had
 * @live:	takes the writes of the fail-over VM; NULL: there are none
 * @tests:	see scratch.c
 * @forks:	the newest first; none is taken out before the end
 * @verify:	see verify.c; NULL of a test
 */
struct group {
	struct hub *hub;
	LIST_ENTRY(group) link;
	SLIST_ENTRY(group) gone;
	char name[REPAGENT_NAME_MAX + 1];
	uint8_t uuid[16];
	int dir, journal, base, mark;

	pthread_mutex_t lock;
	uint64_t generation;
	struct segment **segment;
	size_t nr_segments, room;
	struct replay now;
	struct place durable;
	uint64_t floor;
	bool broken;
	unsigned int cuts;
	bool syncing;
	pthread_cond_t synced;
	pthread_mutex_t disk;
	struct hub_session *session;
	LIST_HEAD(view_list, hub_view) views;
	unsigned int nr_views;
	bool folding, half;
	uint64_t fold_next;
	char trouble[SEGMENT_ERROR_MAX];
	struct hub_retention keep;
	struct { uint64_t offset, when; double bytes; } rate;
	struct space space;
	bool scratch, forgotten;
	uint64_t admitted;
	struct failover failover;
	bool stopping, unsure, torn;
	struct replay before;
	uint64_t hold;
	struct overlay *live;
	LIST_HEAD(test_list, test) tests;
	SLIST_HEAD(fork_list, fork) forks;
	struct verify_state *verify;
};

/*
 * struct first - what the file `first` says: the base is the log up to @start, where the first
 * segment begins
 * @folding:	that segment is being folded: the base may have some of its data
 */
struct first {
	uint64_t start;
	uint64_t folding;
};

#define FIRST_MAGIC	UINT64_C(0x7473726966627067)

/*
 * struct hub
 * @lock:	guards the rest. Taken before any group's lock
 * @list:	of groups; a group stays until the end
 * @gone:	those that were forgotten, and may still be known to a session
 * @sweep:	there may be directories of such; @sweep_told: that one cannot be removed, the tender's own
 * @wake:	hub_tend() is not to wait
 * @cache:	what was read of the journals; has a lock of its own
 * @low:	the warning of a full disk; empty: there is none
 */
struct hub {
	struct hub_options o;
	int dir, groups;
	uint8_t uuid[16];
	struct events *events;
	struct cache *cache;
	pthread_mutex_t lock;
	LIST_HEAD(group_list, group) list;
	SLIST_HEAD(gone_list, group) gone;
	bool sweep, sweep_told;
	sem_t wake;
	char low[HUB_REASON_MAX];
};

/* Something of a group happened: what, incarnation, seq, a format and more. */
#define hubgroup_event(g, ...) \
	do { \
		if (!(g)->scratch) \
			events_add((g)->hub->events, (g)->name, __VA_ARGS__); \
	} while (0)

void hub_say(const struct hub *hub, int priority, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void hub_step(const struct hub *hub, const char *what);
struct group *hub_find(struct hub *hub, const char *name);
struct group *hub_next(struct hub *hub, const struct group *g);
struct group *hub_create(struct hub *hub, const char *name, char *error);
bool seal_write(int dir, const char *name, uint64_t magic, const void *data, size_t len);
int seal_read(int dir, const char *name, uint64_t magic, void *data, size_t len);

struct group *hubgroup_open(struct hub *hub, int dir, const char *name, char *error);
bool hubgroup_make(int dir, const char *name, char *error);
void hubgroup_end(struct group *g);
void hubgroup_close(struct group *g);
int hubgroup_add(struct group *g, const struct frame_header *h, const uint8_t *frame, uint8_t *raw,
	      char *reason);
int hubgroup_roll(struct group *g, char *reason);
int hubgroup_begin(struct group *g, uint64_t start, const struct replay *begin, uint64_t from, char *reason);
int hubgroup_cut(struct group *g, uint64_t start, const struct replay *now, char *reason);
bool hubgroup_save(const struct group *g);
int hubgroup_sync(struct group *g, char *reason);
bool hubgroup_mend(struct group *g, char *reason);
struct segment *hubgroup_last(const struct group *g);
struct segment *hubgroup_at(const struct group *g, uint64_t id);
uint64_t hubgroup_latest(const struct group *g);
bool hubgroup_state(const struct group *g, uint64_t id, struct replay *r);

/* point.c */
bool point_find(const struct group *g, const char *point, uint64_t *id, char *reason);
void point_position(const struct group *g, uint64_t id, uint64_t *incarnation, uint64_t *seq,
		    uint64_t *time);
bool point_of(const struct group *g, uint64_t incarnation, uint64_t seq, uint64_t *id, char *reason);

/* view.c, for folding */
bool views_keep(const struct group *g, size_t gone, uint64_t to);

/* marks.c */
void marks_note(const struct group *g, uint32_t from);

/* retention.c */
void retention_load(struct group *g);
struct hub_retention retention_of(const struct group *g);

/* space.c */
void space_measure(struct group *g);
void space_tend(struct group *g);
void space_warn(struct hub *hub);
void space_ran_out(struct group *g, const char *where);
void space_given(struct group *g);
bool space_to_drop(struct group *g);
bool space_full(struct group *g, char *reason);
int space_admit(struct group *g, size_t size, char *reason);
bool space_slowed(struct group *g);

/* verify.c */
bool verify_open(struct group *g, char *error);
void verify_close(struct group *g);
void verify_tend(struct group *g);
void verify_order(const struct group *g, struct order *o);
void verify_report(struct group *g, const struct verify_report *r);
void verify_info(const struct group *g, unsigned int i, struct hub_verify_info *info);

/* forget.c */
bool remove_tree(int dir, const char *name, unsigned int depth);
void forget_sweep(struct hub *hub);

/* fold.c */
bool fold_finish(struct group *g, char *error);
void fold_some(struct group *g);
bool fold_can(const struct group *g);

/* fork.c */
bool forks_remove(struct group *g);
void forks_open(struct group *g);
void forks_close(struct group *g);
bool fork_may_begin(const struct group *g, uint64_t id);
int fork_begin(struct group *g, const struct failover *to, uint64_t id, char *reason);
void fork_end(struct group *g, uint64_t start);
const struct fork *fork_find(const struct group *g, uint64_t incarnation, uint64_t seq);
bool fork_collect(const struct fork *f, struct segment *const *segment, size_t nr, unsigned int slot, struct extents *x);
int forks_fold(struct group *g, struct segment *const *segment, size_t nr, char *error);

/* failover.c */
bool failover_open(struct group *g, char *error);
void failover_tend(struct group *g);
void failover_close(struct group *g);
bool failover_ended(struct group *g, char *reason);
bool failover_at_rest(const struct group *g, char *reason);
const char *failover_why(const struct group *g, char *reason);

/* scratch.c */
void scratch_open(struct group *g);
void scratch_close(struct group *g);
bool scratch_beyond(const struct group *g, uint64_t offset, char *test);
size_t scratch_marks(const struct group *g, struct tested **marks);

#endif /* REPHUB_ENGINE_H */
