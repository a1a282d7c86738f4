// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * test-map - a random model of the write-intent map.
 *
 * Guests write to a few small volumes, the stream goes to a hub, the cleaner
 * clears regions; and power, hub, daemon and meta devices fail when chance has
 * it. After each power cut what the map says is read again, and then every
 * sector of the hub is as on the disk, or the rule is wrong.
 *
 * What stands here follows kernel/intent.c, ring.c, resync.c and group.c,
 * function by function, without locks: a task goes on until it gives way, which
 * it does at every request, and wherever it waits. README.md says what is left out.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

/* ---- the rule, and how it can be weakened ------------------------------------ */

enum weakness {
	NONE,
	HUB_ACK_ALONE,
	OTHER_VOLUMES_FLUSH,
	SAMPLE_AFTER_FLUSH,
	READ_IN_FLIGHT,
	CLEARED_ON_DISK_FIRST,
	NO_FUA_ON_LOG,
	NO_FUA_ON_BITS,
	WRITE_BEFORE_LOG,
	LOG_FOLDED_BEFORE_BITS,
	CLEAN_FLAG_KEPT,
	FINE_WITHOUT_CLEAN,
	STOP_WITHOUT_FLUSH,
	OWED_LEFT_OUT,
	FAILED_RESUMED,
	REQUEST_FORGOTTEN,
	BYPASS_UNNOTICED,
	CLEANED_BEFORE_DIRTY,
	FLUSH_FAILURE_FORGIVEN,
	GUEST_FLUSH_FAILURE,
	NO_INCARNATION,
	CLEAR_BEFORE_D,
	UNCHECKED_D,
	GAP_FORGOTTEN,
	NR_WEAK,
	/* which make no difference */
	READ_CHECK_ALONE = NR_WEAK,
	COLD_AT_ONCE,
	NR_ALL,
};

static const struct {
	const char	*name, *what;
} weak[NR_ALL] = {
	[NONE] = { "none", "the rule as it is" },
	[HUB_ACK_ALONE] = { "hub-ack-alone", "cleared once the hub has it, durable here or not" },
	[OTHER_VOLUMES_FLUSH] = { "other-volumes-flush", "a flush of any volume counts for all" },
	[SAMPLE_AFTER_FLUSH] = { "sample-after-flush", "S is sampled when the flush is done" },
	[READ_IN_FLIGHT] = { "cleared-while-resync-read-in-flight",
		"neither the read nor its record keeps the region set" },
	[CLEARED_ON_DISK_FIRST] = { "cleared-on-disk-first", "bits are cleared in memory once they are on the device" },
	[NO_FUA_ON_LOG] = { "no-fua-on-log", "log sectors are written without FUA" },
	[NO_FUA_ON_BITS] = { "no-fua-on-bits", "bits sectors are written without FUA" },
	[WRITE_BEFORE_LOG] = { "write-before-log", "a write goes on before the log has its region" },
	[LOG_FOLDED_BEFORE_BITS] = { "log-folded-before-bits", "log_tail goes on before the bits are written" },
	[CLEAN_FLAG_KEPT] = { "clean-flag-kept", "CLEAN stays when writes begin" },
	[FINE_WITHOUT_CLEAN] = { "fine-without-clean", "the fine area counts after any stop" },
	[STOP_WITHOUT_FLUSH] = { "stop-without-flush", "a clean stop does not flush the origin" },
	[OWED_LEFT_OUT] = { "owed-left-out", "a meta device that fails is not told that it owes a resync" },
	[FAILED_RESUMED] = { "failed-resumed", "a resume says that nothing is owed, though the map has failed" },
	[REQUEST_FORGOTTEN] = { "request-forgotten",
		"a map that has failed is made anew without what a request for a resync wants" },
	[BYPASS_UNNOTICED] = { "bypass-unnoticed", "what was written to the origin meanwhile is not looked at" },
	[CLEANED_BEFORE_DIRTY] = { "cleaned-before-dirty",
		"at a resume the cleaner may run before the dirty bits are set" },
	[FLUSH_FAILURE_FORGIVEN] = { "flush-failure-forgiven", "a resume forgets that a flush had failed" },
	[GUEST_FLUSH_FAILURE] = { "guests-flush-failure-ignored", "a flush of the guest's that failed is nobody's business" },
	[NO_INCARNATION] = { "no-incarnation", "positions are compared without their incarnation" },
	[CLEAR_BEFORE_D] = { "clear-before-d", "D is written after the bits that it is for" },
	[UNCHECKED_D] = { "unchecked-d",
		"D is written anew before the hub was held against the old one, and acknowledged something" },
	[GAP_FORGOTTEN] = { "gap-forgotten", "a hub that lost records and goes on counts as one that has them" },
	[READ_CHECK_ALONE] = { "read-check-alone", "the read does not keep the region set, its record does" },
	[COLD_AT_ONCE] = { "cold-at-once", "cleared without waiting for a cycle without writes" },
};

static enum weakness weakened;

/* ---- the world ---------------------------------------------------------------- */

#define MAX_VOLUMES	3
#define MAX_REGIONS	6
#define MAX_REGION	3	/* sectors */
#define MAX_SECTORS	(MAX_REGIONS * MAX_REGION)
#define MAX_RING	16
#define MAX_BOOTS	256
#define GUESTS		4
#define READS		2

/* The meta device, as in Documentation/map.md, but smaller. */
#define SUPERS		2
#define LOG_AT		2
#define LOG_NR		6
#define LOG_BATCH	2
#define FINE_AT		8
#define FINE_NR		2
#define BITS_AT		10
#define MAX_BITS	(MAX_REGIONS / BITS_REGIONS)
#define META_SECTORS	(BITS_AT + MAX_BITS)

#define CLEAN		1
#define OWED		2

enum broken { BROKEN_NOT, BROKEN_LOG, BROKEN_BITS, BROKEN_BUT_SUPERS, BROKEN_ALL, NR_BROKEN };

/* ---- what lasts --- */

static unsigned int nr_volumes, nr_regions, region_sectors, nr_sectors, nr_bits;
static bool log_hub;		/* it has a position, and copies of it can be restored */
static uint32_t stamps;

static struct disk origin[MAX_VOLUMES], meta[MAX_VOLUMES], hub[MAX_VOLUMES];

/* A position that the hub's log has, durable with what it is of. */
struct hub_log {
	uint32_t	passed[MAX_BOOTS];	/* the last record of each incarnation */
	uint32_t	incarnation;		/* the last one it was given records of */
	uint32_t	gap_incarnation, gap_seq; /* from here on it has all, unless zeroes */
};
static struct hub_log hub_log;
static unsigned int hub_epoch;		/* raised when it is killed */

static struct copy {
	bool		there;
	struct hub_log	log;
	struct sector	is[MAX_VOLUMES][MAX_SECTORS];
} copy;

static uint32_t boot;		/* also the ring's incarnation */
static bool bypassed[MAX_VOLUMES];
static bool spoiled[MAX_VOLUMES];	/* the replica; no request for a resync was answered since */

/* what the device had when the power was cut, as told by map_says() */
static struct says {
	bool		known, clean, all;
	bool		set[MAX_SECTORS];
} says[MAX_VOLUMES];

/* ---- what is gone with the power --- */

struct waiter {
	unsigned int	first, last;	/* regions */
	bool		waiting;
	bool		taken;		/* by the committer */
};

struct map {
	bool		live;
	bool		set[MAX_REGIONS], pend[MAX_REGIONS], going[MAX_REGIONS];
	uint32_t	last_seq[MAX_REGIONS];
	uint32_t	cold_seq;
	bool		failed, missed, want_all;

	bool		locked;		/* io_lock */
	bool		changed[MAX_BITS];
	uint32_t	log_head, log_tail;
	bool		clean;
	struct super	super;
	struct run	run[LOG_BATCH * LOG_RUNS];
	uint32_t	local_durable;

	bool		armed, cleaning;	/* the cleaner: its work is planned, is done */
	bool		queued, committing;	/* the committer: the same */
	enum { BLANK, FOUND_CLEAN, FOUND_UNCLEAN, FOUND_OWED } found;
	struct run	extent[FINE_NR * FINE_EXTENTS];
	unsigned int	nr_extents;
};

static struct volume {
	bool		active, suspended, stopped;
	unsigned int	inflight, reads;
	bool		locked[MAX_SECTORS];	/* the interval set */
	bool		dirty[MAX_SECTORS];
	uint32_t	writes;			/* sectors written to the origin in this boot */
	uint32_t	suspended_writes;
	bool		flush_failed;		/* in this boot */
	bool		checked;		/* D was held against the hub's position */
	bool		unknowable;		/* the map has failed, and its device does not say so */
	bool		stopped_clean;		/* lacks is what the device has to say */
	bool		lacks[MAX_SECTORS];
	struct map	map;
} vol[MAX_VOLUMES];

static struct slot {
	unsigned int	volume, at, n;
	uint32_t	data[MAX_SECTORS];
	enum { BUSY, READY, VOID } state;	/* VOID: also FAILED */
} slots[MAX_RING];
static uint32_t ring_size, ring_head, ring_acked;
static bool streaming, connected;

static struct waiter waiters[GUESTS];	/* of each guest */
static unsigned int waiter_volume[GUESTS];
static struct { bool busy; unsigned int volume, at, n; } reading[READS];
static bool guest_busy[GUESTS], admin_busy, messenger_busy;
static bool quiet;			/* nothing new is begun */
static struct {				/* how often in this run: one in so many */
	unsigned int fault, message, table, flush_failure, restore, cut;
} often;
static bool soon;			/* the power is to be cut soon */
static int daemon_task;
static unsigned int daemon_epoch;	/* the hub's that it has connected to */

/* ---- what is found ------------------------------------------------------------ */

static enum { FINE, DIVERGED, WRONG } verdict;
static char reason[200];

static struct {
	unsigned long runs, cuts, drains, clears, commits, folds, overflows, hub_kills, daemon_kills, restores, lost, stops,
		clean_starts, reloads, meta_failures, repaired, flush_failures, unclean_starts,
		all_starts, compared;
} count;

static void found(int what, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void found(int what, const char *fmt, ...)
{
	va_list ap;

	if (verdict != FINE)
		return;
	verdict = what;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	say("%s", reason);
}

static bool any(const bool *of, unsigned int n)
{
	while (n && !*of) {
		of++;
		n--;
	}
	return n;
}

/* What has just happened is done in part: a power cut now may show what is missing. */
static void interesting(void)
{
	soon |= !quiet && chance(1, 6);
}

/* ---- ring.c -------------------------------------------------------------------- */

static struct slot *slot_of(uint32_t seq)
{
	return &slots[seq % MAX_RING];
}

static bool has_room(void)
{
	return ring_head - ring_acked <= ring_size;
}

static uint32_t committed(void)
{
	uint32_t seq = ring_acked;

	while (seq + 1 < ring_head && slot_of(seq + 1)->state != BUSY)
		seq++;
	return seq;
}

static unsigned int region_of(unsigned int sector)
{
	return sector / region_sectors;
}

static void map_note(struct map *m, unsigned int at, unsigned int n, uint32_t seq)
{
	unsigned int r;

	for (r = region_of(at); r <= region_of(at + n - 1); r++)
		m->last_seq[r] = seq;
}

static bool map_covers(struct map *m, unsigned int at, unsigned int n)
{
	unsigned int r, first = region_of(at), last = region_of(at + n - 1);

	for (r = first; r <= last && m->set[r]; r++)
		;
	if (r > last)
		return true;
	if (!m->failed)
		return false;
	for (r = first; r <= last; r++)
		m->set[r] = true;
	m->missed = true;
	return true;
}

static uint32_t fill_slot(unsigned int volume, unsigned int at, unsigned int n)
{
	struct slot *s = slot_of(ring_head);

	*s = (struct slot){ .volume = volume, .at = at, .n = n, .state = BUSY };
	return ring_head++;
}

static void set_dirty(struct volume *v, unsigned int at, unsigned int n, bool to)
{
	memset(&v->dirty[at], to, n);
}

static enum { CAPTURED, TRACKED, NEED_INTENT } reserve_write(unsigned int i, unsigned int at, unsigned int n,
							     uint32_t *seq)
{
	struct volume *v = &vol[i];

	if (!map_covers(&v->map, at, n))
		return NEED_INTENT;
	if (streaming) {
		if (has_room()) {
			*seq = fill_slot(i, at, n);
			map_note(&v->map, at, n, *seq);
			return CAPTURED;
		}
		say("ring full");
		streaming = false;
		count.overflows++;
	}
	set_dirty(v, at, n, true);
	return TRACKED;
}

/* ---- intent.c: sectors ----------------------------------------------------------- */

static bool meta_fails(struct disk *d, unsigned int at)
{
	switch ((enum broken)d->broken) {
	case BROKEN_LOG:	return at >= LOG_AT && at < FINE_AT;
	case BROKEN_BITS:	return at >= BITS_AT;
	case BROKEN_BUT_SUPERS:	return at >= LOG_AT;
	case BROKEN_ALL:	return true;
	default:		return false;
	}
}

static void new_meta(unsigned int i)
{
	disk_init(&meta[i], "meta", i, META_SECTORS);
	meta[i].fails = meta_fails;
}

static void map_lock(struct map *m)
{
	while (m->locked)
		give_way();
	m->locked = true;
}

static void map_unlock(struct map *m)
{
	m->locked = false;
}

static int write_super(unsigned int i, uint32_t flags)
{
	struct map *m = &vol[i].map;
	struct sector s = { .kind = SECTOR_SUPER };
	int err;

	m->super.seq++;
	m->super.flags = flags;
	m->super.log_tail = m->log_tail;
	s.super = m->super;
	say("meta%u: superblock %u%s%s, log_tail %u, D %u.%u", i, m->super.seq, flags & CLEAN ? " CLEAN" : "",
	    flags & OWED ? " OWED" : "", m->log_tail, m->super.d_incarnation, m->super.d_seq);
	err = disk_write(&meta[i], m->super.seq % SUPERS, 1, &s, true);
	if (!err)
		m->clean = flags & CLEAN;
	return err;
}

static int write_bits(unsigned int i)
{
	struct map *m = &vol[i].map;
	struct sector s[MAX_BITS];
	unsigned int first, last, b, r;
	int err;

	for (first = 0; ; first = last) {
		while (first < nr_bits && !m->changed[first])
			first++;
		if (first >= nr_bits)
			return 0;
		memset(s, 0, sizeof(s));
		for (last = first; last < nr_bits && m->changed[last]; last++) {
			s[last - first].kind = SECTOR_BITS;
			for (b = 0; b < BITS_REGIONS; b++) {
				r = last * BITS_REGIONS + b;
				s[last - first].bits[b] = m->set[r] && !m->going[r];
			}
		}
		say("meta%u: bits %u..%u", i, first, last - 1);
		err = disk_write(&meta[i], BITS_AT + first, last - first, s, weakened != NO_FUA_ON_BITS);
		if (err)
			return err;
		memset(&m->changed[first], 0, last - first);
	}
}

static int fold(unsigned int i)
{
	struct map *m = &vol[i].map;
	int err;

	count.folds++;
	if (weakened == LOG_FOLDED_BEFORE_BITS) {
		m->log_tail = m->log_head;
		err = write_super(i, 0);
		return err ? err : write_bits(i);
	}
	err = write_bits(i);
	if (err)
		return err;
	m->log_tail = m->log_head;
	return write_super(i, 0);
}

static int write_all(unsigned int i)
{
	struct map *m = &vol[i].map;
	struct sector log[LOG_NR] = { };
	unsigned int k;
	int err;

	err = write_super(i, OWED);
	err = err ? err : write_super(i, OWED);
	if (err)
		return err;
	for (k = 0; k < LOG_NR; k++)
		log[k].kind = SECTOR_LOG;
	err = disk_write(&meta[i], LOG_AT, LOG_NR, log, true);
	if (err)
		return err;
	/* The number 0 stands in the first sector only, and is never used. */
	m->log_head = m->log_tail = 1;
	memset(m->changed, true, sizeof(m->changed));
	return write_bits(i);
}

static void note_changed(struct map *m, unsigned int first, unsigned int n)
{
	for (; n--; first++)
		m->changed[first / BITS_REGIONS] = true;
}

static void mark_failed(unsigned int i)
{
	struct map *m = &vol[i].map;

	if (m->failed)
		return;
	say("meta%u: failed", i);
	count.meta_failures++;
	vol[i].unknowable = true;
	if (weakened == OWED_LEFT_OUT) {
		vol[i].unknowable = false;
	} else if (!write_super(i, OWED)) {
		vol[i].unknowable = false;
		write_super(i, OWED);
	}
	m->failed = true;
}

static void try_again(unsigned int i)
{
	struct map *m = &vol[i].map;
	bool missed = true;
	int tries;

	for (tries = 0; missed && tries < 8; tries++) {
		m->missed = false;
		if (write_all(i))
			return;
		/* The device says OWED now. */
		vol[i].unknowable = false;
		missed = m->missed;
		if (!missed)
			m->failed = false;
	}
	if (missed)
		return;
	if (write_super(i, 0) || write_super(i, 0)) {
		mark_failed(i);
	} else {
		say("meta%u: whole again", i);
		count.repaired++;
		interesting();
	}
}

/* ---- intent.c: the committer ------------------------------------------------------ */

static bool batch_add(struct map *m, unsigned int first, unsigned int n, unsigned int *nr)
{
	unsigned int r;
	bool all_set = true, all_pend = true;

	for (r = first; r < first + n; r++) {
		all_set &= m->set[r];
		all_pend &= m->pend[r];
	}
	if (all_set || all_pend)
		return true;
	if (*nr == LOG_BATCH * LOG_RUNS)
		return false;
	m->run[*nr].first = first;
	m->run[*nr].count = n;
	++*nr;
	memset(&m->pend[first], true, n);
	return true;
}

static int write_log(unsigned int i, unsigned int nr)
{
	struct map *m = &vol[i].map;
	unsigned int done, n, k, here;
	struct sector s[LOG_BATCH];
	int err = 0;

	for (done = 0; done < nr && !err; done += n) {
		unsigned int at = m->log_head % LOG_NR;

		memset(s, 0, sizeof(s));
		k = 0;
		for (n = 0; done + n < nr && at + k < LOG_NR; k++) {
			here = nr - done - n < LOG_RUNS ? nr - done - n : LOG_RUNS;
			s[k].kind = SECTOR_LOG;
			s[k].log.seq = m->log_head + k;
			s[k].log.nr = here;
			memcpy(s[k].log.run, &m->run[done + n], here * sizeof(struct run));
			n += here;
		}
		say("meta%u: log %u, %u sectors, from region %u+%u", i, m->log_head, k, m->run[done].first,
		    m->run[done].count);
		err = disk_write(&meta[i], LOG_AT + at, k, s, weakened != NO_FUA_ON_LOG);
		m->log_head += k;
	}
	return err;
}

static bool is_waiting(unsigned int i, int g)
{
	return waiters[g].waiting && waiter_volume[g] == i;
}

/* Returns whether some are still to be done. */
static bool commit_batch(unsigned int i)
{
	struct map *m = &vol[i].map;
	bool done[GUESTS] = { }, more = false, all;
	unsigned int nr = 0, k, r;
	int g, err = 0;

	count.commits++;
	if (m->clean && weakened != CLEAN_FLAG_KEPT)
		err = write_super(i, 0);
	if (!err && m->log_head + LOG_BATCH - m->log_tail > LOG_NR)
		err = fold(i);
	all = m->want_all;
	if (all)
		batch_add(m, 0, nr_regions, &nr);
	m->want_all = false;
	for (g = 0; g < GUESTS; g++) {
		if (!is_waiting(i, g) || !waiters[g].taken)
			continue;
		if (!batch_add(m, waiters[g].first, waiters[g].last - waiters[g].first + 1, &nr)) {
			more = true;
			break;
		}
		done[g] = true;
	}
	if (weakened == WRITE_BEFORE_LOG) {
		for (k = 0; k < nr; k++)
			memset(&m->set[m->run[k].first], true, m->run[k].count);
		for (g = 0; g < GUESTS; g++)
			if (done[g])
				waiters[g].waiting = false;
	}
	if (!err)
		err = write_log(i, nr);
	if (err)
		mark_failed(i);
	if (err && all)
		m->want_all = true;
	for (k = 0; k < nr; k++) {
		unsigned int first = m->run[k].first, n = m->run[k].count;

		memset(&m->pend[first], false, n);
		if (err)
			continue;
		note_changed(m, first, n);
		for (r = first; r < first + n; r++) {
			m->set[r] = true;
			m->last_seq[r] = ring_head;
		}
	}
	for (g = 0; g < GUESTS; g++)
		if (done[g])
			waiters[g].waiting = false;
	return more;
}

/* flush_work() */
static void commit_wait(struct map *m)
{
	while (m->queued || m->committing)
		give_way();
}

/* Neither has anything to do, nor is at it. */
static void map_quiesce(struct map *m)
{
	while (m->queued || m->committing || m->cleaning) {
		m->armed = false;
		give_way();
	}
	m->armed = false;
}

static void committer(int arg)
{
	unsigned int i = arg;
	struct map *m = &vol[i].map;
	bool more;
	int g;

	for (;; give_way()) {
		if (!m->live || !m->queued)
			continue;
		m->queued = false;
		m->committing = true;
		map_lock(m);
		for (g = 0; g < GUESTS; g++)
			waiters[g].taken |= is_waiting(i, g);
		do {
			more = false;
			if (m->failed) {
				for (g = 0; g < GUESTS; g++)
					if (is_waiting(i, g) && waiters[g].taken)
						waiters[g].waiting = false;
			} else {
				more = commit_batch(i);
			}
		} while (more);
		/* The memory has to know what the device shall have once it can be written. */
		if (m->failed && m->want_all && weakened != REQUEST_FORGOTTEN)
			memset(m->set, true, nr_regions);
		if (m->failed)
			m->want_all = false;
		map_unlock(m);
		m->armed = true;
		m->committing = false;
	}
}

/* ---- intent.c: the cleaner --------------------------------------------------------- */

static bool resync_reads(unsigned int i, unsigned int at, unsigned int n)
{
	int k;

	for (k = 0; k < READS; k++)
		if (reading[k].busy && reading[k].volume == i && reading[k].at < at + n &&
		    at < reading[k].at + reading[k].n)
			return true;
	return false;
}

static bool is_cold(unsigned int i, unsigned int r, uint32_t durable)
{
	struct map *m = &vol[i].map;
	unsigned int at = r * region_sectors;

	return (m->last_seq[r] < m->cold_seq || weakened == COLD_AT_ONCE) && m->last_seq[r] <= durable &&
	       !any(&vol[i].dirty[at], region_sectors) &&
	       (weakened == READ_IN_FLIGHT || weakened == READ_CHECK_ALONE || !resync_reads(i, at, region_sectors));
}

static uint32_t local_durable(unsigned int i)
{
	uint32_t local = vol[i].map.local_durable;
	unsigned int k;

	for (k = 0; weakened == OTHER_VOLUMES_FLUSH && k < nr_volumes; k++)
		if (vol[k].map.local_durable > local)
			local = vol[k].map.local_durable;
	return weakened == HUB_ACK_ALONE ? UINT32_MAX : local;
}

static unsigned int look(unsigned int i, bool clear, unsigned int *unflushed)
{
	struct map *m = &vol[i].map;
	unsigned int r, n = 0;

	*unflushed = 0;
	for (r = 0; r < nr_regions; r++) {
		if (!m->set[r] || !is_cold(i, r, ring_acked))
			continue;
		if (m->last_seq[r] > local_durable(i)) {
			++*unflushed;
			if (clear)
				continue;
		}
		n++;
		if (clear) {
			say("map%u: region %u cleared, last written by %u; acknowledged %u, flushed %u", i, r,
			    m->last_seq[r], ring_acked, m->local_durable);
			count.clears++;
			if (weakened == CLEARED_ON_DISK_FIRST)
				m->going[r] = true;
			else
				m->set[r] = false;
			note_changed(m, r, 1);
		}
	}
	return n;
}

static void origin_flush_failed(struct volume *v)
{
	count.flush_failures++;
	v->flush_failed = true;
}

static void flush_origin(unsigned int i)
{
	struct volume *v = &vol[i];
	uint32_t s;

	if (v->flush_failed)
		return;
	s = committed();
	if (disk_flush(&origin[i])) {
		origin_flush_failed(v);
		return;
	}
	/* One of the guest's may have failed meanwhile. */
	if (v->flush_failed)
		return;
	v->map.local_durable = weakened == SAMPLE_AFTER_FLUSH ? committed() : s;
	say("map%u: local_durable %u", i, v->map.local_durable);
}

/*
 * May D be written anew? Not before the hub was held against the one before; and
 * that it passed record 0 of this incarnation says nothing either.
 */
static bool d_is_due(const struct volume *v)
{
	return weakened == UNCHECKED_D || !log_hub || (v->checked && ring_acked);
}

static void take_durable(unsigned int i)
{
	struct volume *v = &vol[i];

	if (!d_is_due(v))
		return;
	v->map.super.d_incarnation = boot;
	v->map.super.d_seq = ring_acked;
}

static int clear_regions(unsigned int i)
{
	struct map *m = &vol[i].map;
	unsigned int r;
	int err = 0;

	if (weakened != CLEAR_BEFORE_D) {
		take_durable(i);
		err = write_super(i, 0);
	}
	err = err ? err : fold(i);
	if (!err && weakened == CLEAR_BEFORE_D) {
		take_durable(i);
		err = write_super(i, 0);
	}
	for (r = 0; r < nr_regions; r++) {
		m->set[r] &= !m->going[r];
		m->going[r] = false;
	}
	return err;
}

static void cleaner(int arg)
{
	unsigned int i = arg, unflushed;
	struct volume *v = &vol[i];
	struct map *m = &v->map;
	uint32_t head;

	for (;; give_way()) {
		if (!m->live || !m->armed)
			continue;
		m->cleaning = true;
		head = ring_head;
		if (m->failed) {
			map_lock(m);
			if (m->failed)
				try_again(i);
			map_unlock(m);
		} else if (d_is_due(v) && look(i, false, &unflushed)) {
			if (unflushed)
				flush_origin(i);
			map_lock(m);
			if (!m->failed && look(i, true, &unflushed) && clear_regions(i))
				mark_failed(i);
			map_unlock(m);
		}
		m->cold_seq = head;
		m->cleaning = false;
	}
}

/* ---- intent.c: reading, and life ----------------------------------------------------- */

static const struct super *best_super(const struct disk *d)
{
	const struct super *best = NULL;
	unsigned int k;

	for (k = 0; k < SUPERS; k++)
		if (d->cell[k].now.kind == SECTOR_SUPER && (!best || d->cell[k].now.super.seq > best->seq))
			best = &d->cell[k].now.super;
	return best;
}

static void read_map(unsigned int i)
{
	struct map *m = &vol[i].map;
	const struct super *best = best_super(&meta[i]);
	unsigned int k, n, b;

	memset(m, 0, sizeof(*m));
	m->log_head = m->log_tail = 1;
	m->found = BLANK;
	if (!best)
		return;
	m->super = *best;
	for (b = 0; b < nr_bits; b++)
		for (k = 0; k < BITS_REGIONS; k++)
			m->set[b * BITS_REGIONS + k] = meta[i].cell[BITS_AT + b].now.bits[k];
	m->log_tail = m->log_head = best->log_tail;
	for (k = 0; k < LOG_NR; k++) {
		const struct sector *s = &meta[i].cell[LOG_AT + k].now;

		if (s->kind != SECTOR_LOG || s->log.seq < m->log_tail)
			continue;
		if (s->log.seq - m->log_tail >= LOG_NR)
			found(WRONG, "meta%u: the log sector %u is beyond the tail %u", i, s->log.seq, m->log_tail);
		if (s->log.seq + 1 > m->log_head)
			m->log_head = s->log.seq + 1;
		for (n = 0; n < s->log.nr; n++) {
			memset(&m->set[s->log.run[n].first], true, s->log.run[n].count);
			note_changed(m, s->log.run[n].first, s->log.run[n].count);
		}
	}
	if ((best->flags & CLEAN) || weakened == FINE_WITHOUT_CLEAN)
		for (k = 0; k < best->nr_fine; k++)
			for (n = 0; n < meta[i].cell[FINE_AT + k].now.fine.nr; n++)
				m->extent[m->nr_extents++] = meta[i].cell[FINE_AT + k].now.fine.extent[n];
	m->found = best->flags & OWED ? FOUND_OWED :
		   (best->flags & CLEAN) || (weakened == FINE_WITHOUT_CLEAN && best->nr_fine) ? FOUND_CLEAN : FOUND_UNCLEAN;
}

static bool map_trusted(unsigned int i)
{
	struct map *m = &vol[i].map;
	uint32_t writes = vol[i].writes;

	if (weakened == BYPASS_UNNOTICED)
		writes = 0;
	switch (m->found) {
	case FOUND_CLEAN:
		return !writes || (m->super.boot == boot && m->super.origin_writes == writes);
	case FOUND_UNCLEAN:
		return !writes;
	default:
		return false;
	}
}

static bool map_dirty(unsigned int i)
{
	struct volume *v = &vol[i];
	struct map *m = &v->map;
	unsigned int k;

	if (m->found == FOUND_CLEAN) {
		for (k = 0; k < m->nr_extents; k++)
			set_dirty(v, m->extent[k].first, m->extent[k].count, true);
		return true;
	}
	for (k = 0; k < nr_regions; k++)
		if (m->set[k])
			set_dirty(v, k * region_sectors, region_sectors, true);
	return false;
}

static void map_start(unsigned int i, bool all, bool other)
{
	struct map *m = &vol[i].map;
	bool anew = all || other;
	int err = 0;

	if (all)
		memset(m->set, true, nr_regions);
	map_lock(m);
	m->live = true;
	if (weakened == FLUSH_FAILURE_FORGIVEN)
		vol[i].flush_failed = false;
	m->local_durable = 0;
	if (weakened != FINE_WITHOUT_CLEAN)
		m->super.nr_fine = 0;
	m->super.boot = 0;
	m->super.origin_writes = 0;
	/* One that has failed, and is resumed, owes a resync until it was made anew. */
	if (m->failed && weakened != FAILED_RESUMED) {
		try_again(i);
		goto out;
	}
	if (anew)
		err = write_all(i);
	if (!err && (weakened != CLEAN_FLAG_KEPT || anew))
		err = write_super(i, 0);
	if (!err && anew)
		err = write_super(i, 0);
	if (err)
		mark_failed(i);
	else if (anew)
		vol[i].unknowable = false;
out:
	map_unlock(m);
	if (weakened == CLEANED_BEFORE_DIRTY) {
		m->armed = true;
		give_way();
	}
}

static void collect(unsigned int i, bool *lacks)
{
	uint32_t seq;

	memcpy(lacks, vol[i].dirty, sizeof(vol[i].dirty));
	for (seq = ring_acked + 1; seq < ring_head; seq++)
		if (slot_of(seq)->volume == i)
			memset(&lacks[slot_of(seq)->at], true, slot_of(seq)->n);
}

static void set_only(struct map *m, const bool *lacks)
{
	unsigned int r;

	for (r = 0; r < nr_regions; r++) {
		bool is = any(&lacks[r * region_sectors], region_sectors);

		if (is != m->set[r])
			note_changed(m, r, 1);
		m->set[r] = is;
	}
}

static int write_fine(unsigned int i, const bool *lacks)
{
	struct map *m = &vol[i].map;
	struct sector s[FINE_NR] = { };
	struct run *last = NULL;
	unsigned int at, n, nr = 0;

	for (at = 0; at < nr_sectors; at += n) {
		n = 1;
		if (!lacks[at])
			continue;
		while (at + n < nr_sectors && lacks[at + n])
			n++;
		if (last && nr == FINE_NR * FINE_EXTENTS) {
			last->count = at + n - last->first;
			continue;
		}
		last = &s[nr / FINE_EXTENTS].fine.extent[nr % FINE_EXTENTS];
		last->first = at;
		last->count = n;
		s[nr / FINE_EXTENTS].kind = SECTOR_FINE;
		s[nr / FINE_EXTENTS].fine.nr = nr % FINE_EXTENTS + 1;
		nr++;
	}
	nr = (nr + FINE_EXTENTS - 1) / FINE_EXTENTS;
	m->super.nr_fine = nr;
	return nr ? disk_write(&meta[i], FINE_AT, nr, s, true) : 0;
}

static int save(unsigned int i, const bool *lacks)
{
	struct map *m = &vol[i].map;
	int err;

	take_durable(i);
	err = write_super(i, 0);
	if (err)
		return err;
	set_only(m, lacks);
	err = write_bits(i);
	err = err ? err : write_fine(i, lacks);
	if (err)
		return err;
	m->log_tail = m->log_head;
	m->super.boot = boot;
	m->super.origin_writes = vol[i].suspended_writes;
	return write_super(i, CLEAN);
}

static void map_stop(unsigned int i)
{
	struct volume *v = &vol[i];
	struct map *m = &v->map;
	bool lacks[MAX_SECTORS] = { };

	commit_wait(m);
	m->armed = false;
	while (m->cleaning)
		give_way();
	map_lock(m);
	if (m->failed)
		try_again(i);
	if (m->failed)
		goto out;
	if (v->flush_failed)
		goto out;
	if (weakened != STOP_WITHOUT_FLUSH && disk_flush(&origin[i])) {
		origin_flush_failed(v);
		goto out;
	}
	collect(i, lacks);
	if (save(i, lacks)) {
		mark_failed(i);
		goto out;
	}
	memcpy(v->lacks, lacks, sizeof(lacks));
	v->stopped_clean = !m->queued && !m->committing;
	say("vol%u: stopped cleanly", i);
out:
	map_unlock(m);
}

/* An own reading of the device, with no regard to the above. */
static void map_says(unsigned int i, struct says *to)
{
	const struct cell *c = meta[i].cell;
	const struct super *a = &c[0].now.super, *b = &c[1].now.super;
	unsigned int r, k, n;

	memset(to, 0, sizeof(*to));
	to->known = true;
	if (c[0].now.kind != SECTOR_SUPER)
		a = b;
	if (c[1].now.kind != SECTOR_SUPER)
		b = a;
	if (b->seq > a->seq)
		a = b;
	if (!a->seq || (a->flags & OWED)) {
		to->all = true;
		memset(to->set, true, nr_sectors);
		return;
	}
	if (a->flags & CLEAN) {
		to->clean = true;
		for (k = 0; k < a->nr_fine; k++)
			for (n = 0; n < c[FINE_AT + k].now.fine.nr; n++)
				memset(&to->set[c[FINE_AT + k].now.fine.extent[n].first], true,
				       c[FINE_AT + k].now.fine.extent[n].count);
		return;
	}
	for (r = 0; r < nr_regions; r++) {
		bool is = c[BITS_AT + r / BITS_REGIONS].now.bits[r % BITS_REGIONS];

		for (k = 0; k < LOG_NR; k++)
			for (n = 0; n < c[LOG_AT + k].now.log.nr && c[LOG_AT + k].now.log.seq >= a->log_tail; n++)
				is |= r - c[LOG_AT + k].now.log.run[n].first < c[LOG_AT + k].now.log.run[n].count;
		memset(&to->set[r * region_sectors], is, region_sectors);
	}
}

/* ---- group.c and dm-repagent.c: tables ------------------------------------------------ */

/* What a start makes of the device, beside what map_says() made of it. */
static void check_start(unsigned int i, bool all, bool clean)
{
	struct volume *v = &vol[i];
	unsigned int at, extents = 0;

	for (at = 0; at < nr_sectors; at++)
		extents += v->lacks[at] && (!at || !v->lacks[at - 1]);
	count.clean_starts += clean;
	count.all_starts += all;
	count.unclean_starts += !all && !clean;
	if (weakened)
		return;
	/* After a stop in this boot that was not clean the origin's count says that it was written. */
	for (at = 0; at < nr_sectors && says[i].known && !(all && v->writes); at++)
		if (v->dirty[at] && !says[i].set[at])
			found(WRONG, "vol%u: sector %u is read again, which the map has not", i, at);
	if (!v->stopped_clean)
		return;
	if (!clean && !bypassed[i])
		found(WRONG, "vol%u: was stopped cleanly, and is not started so", i);
	for (at = 0; at < nr_sectors && clean; at++)
		if (v->lacks[at] ? !v->dirty[at] : v->dirty[at] && extents <= FINE_NR * FINE_EXTENTS)
			found(WRONG, "vol%u: after a clean stop sector %u is %sread again", i, at, v->dirty[at] ? "" : "not ");
}

static void volume_start(unsigned int i)
{
	struct volume *v = &vol[i];
	bool all, clean = false;

	read_map(i);
	all = !map_trusted(i);
	say("vol%u: starts, %s", i, all ? "all dirty" : v->map.found == FOUND_CLEAN ? "clean" : "unclean");
	map_start(i, all, false);
	memset(v->dirty, false, sizeof(v->dirty));
	if (all)
		set_dirty(v, 0, nr_sectors, true);
	else
		clean = map_dirty(i);
	check_start(i, all, clean);
	v->stopped_clean = false;
	says[i].known = false;
	bypassed[i] = false;
	v->checked = !log_hub;
	v->map.armed = true;
	v->active = true;
	v->stopped = v->suspended = false;
}

static void volume_suspend(unsigned int i)
{
	struct volume *v = &vol[i];

	say("vol%u: is suspended", i);
	v->stopped = v->suspended = true;
	while (v->inflight || v->reads)
		give_way();
	v->suspended_writes = v->writes;
	map_stop(i);
}

/* Somebody writes to the origin past the target. */
static void bypass(unsigned int i)
{
	unsigned int at = rnd(nr_sectors);
	struct sector s = { .data = ++stamps };

	say("vol%u: sector %u is written past the target", i, at);
	disk_put(&origin[i], at, &s);
	vol[i].writes++;
	bypassed[i] = true;
}

static void volume_reload(unsigned int i)
{
	struct volume *v = &vol[i];
	bool other, all;
	unsigned int k;

	count.reloads++;
	volume_suspend(i);
	for (k = rnd(20); k; k--)
		give_way();
	if (chance(1, 10))
		bypass(i);
	other = chance(1, 5);
	all = v->suspended_writes != v->writes && weakened != BYPASS_UNNOTICED;
	if (other) {
		/* What is on its way goes to the one before; dm lets a message end before the tables change. */
		map_quiesce(&v->map);
		say("vol%u: another meta device", i);
		new_meta(i);
	}
	map_start(i, all, other);
	if (all)
		set_dirty(v, 0, nr_sectors, true);
	v->stopped_clean = bypassed[i] = false;
	v->map.armed = true;
	v->stopped = v->suspended = false;
	say("vol%u: resumed", i);
	interesting();
}

static void volume_remove(unsigned int i)
{
	struct volume *v = &vol[i];

	count.stops++;
	volume_suspend(i);
	v->active = false;
	say("vol%u: is removed", i);
	/* rep_map_free(): somebody may have asked for a resync meanwhile. */
	map_quiesce(&v->map);
	v->map.live = false;
	/* As at a power cut, see there: a request that came last may be in the memory alone, which goes. */
	if (v->unknowable)
		new_meta(i);
	v->unknowable = false;
	map_says(i, &says[i]);
}

static void require_resync(unsigned int i)
{
	struct volume *v = &vol[i];

	say("vol%u: all is to be read again", i);
	set_dirty(v, 0, nr_sectors, true);
	v->stopped_clean = false;
	v->map.want_all = true;
	v->map.queued = true;
	commit_wait(&v->map);
}

static void admin(int arg)
{
	unsigned int i, k, n;

	(void)arg;
	n = rnd(nr_volumes);
	for (k = 0; k < nr_volumes; k++) {
		i = (n + k) % nr_volumes;
		admin_busy = true;
		if (chance(1, 20))
			bypass(i);
		volume_start(i);
	}
	for (;; give_way()) {
		admin_busy = false;
		if (quiet || !chance(1, often.table))
			continue;
		i = rnd(nr_volumes);
		admin_busy = true;
		if (chance(1, 2)) {
			volume_reload(i);
			continue;
		}
		volume_remove(i);
		for (k = rnd(60); k; k--)
			give_way();
		if (chance(1, 5))
			bypass(i);
		volume_start(i);
	}
}

/* Somebody asks for a resync, whatever the volume's state; and may have a reason. */
static void messenger(int arg)
{
	unsigned int i, at;
	struct sector s;

	(void)arg;
	for (;; give_way()) {
		messenger_busy = false;
		i = rnd(nr_volumes);
		if (!vol[i].active || (!spoiled[i] && (quiet || !chance(1, often.message))))
			continue;
		messenger_busy = true;
		if (!quiet && chance(1, 3))
			meta[i].broken = rnd(NR_BROKEN);
		if (!spoiled[i] && chance(1, 2)) {
			at = rnd(nr_sectors);
			s = (struct sector){ .data = ++stamps };
			disk_put(&hub[i], at, &s);
			disk_destage(&hub[i], at);
			spoiled[i] = true;
			say("hub%u: sector %u is spoiled", i, at);
			give_way();
			if (!vol[i].active)
				continue;
		}
		require_resync(i);
		spoiled[i] = false;
		if (chance(1, 2))
			meta[i].broken = BROKEN_NOT;
		interesting();
	}
}

/* ---- the guests' writes ------------------------------------------------------------------ */

static void range_lock(struct volume *v, unsigned int at, unsigned int n)
{
	while (any(&v->locked[at], n))
		give_way();
	memset(&v->locked[at], true, n);
}

static void range_unlock(struct volume *v, unsigned int at, unsigned int n)
{
	memset(&v->locked[at], false, n);
}

static void guest_write(int g, unsigned int i)
{
	struct volume *v = &vol[i];
	unsigned int n = 1 + rnd(MAX_REGION), at = rnd(nr_sectors), k;
	struct sector s[MAX_REGION];
	uint32_t seq = 0, data;
	bool captured;
	int err;

	if (n > nr_sectors - at)
		n = nr_sectors - at;
	range_lock(v, at, n);
	for (;;) {
		int got = reserve_write(i, at, n, &seq);

		captured = got == CAPTURED;
		if (got != NEED_INTENT)
			break;
		waiter_volume[g] = i;
		waiters[g] = (struct waiter){ region_of(at), region_of(at + n - 1), true, false };
		v->map.queued = true;
		say("guest%d: vol%u %u+%u waits for the map", g, i, at, n);
		while (waiters[g].waiting)
			give_way();
	}
	data = ++stamps;
	memset(s, 0, sizeof(s));
	for (k = 0; k < n; k++)
		s[k].data = data;
	for (k = 0; k < n && captured; k++)
		slot_of(seq)->data[k] = data;
	say("guest%d: vol%u %u+%u becomes %u, record %u%s", g, i, at, n, data, seq, captured ? "" : " (dirty)");
	err = disk_write(&origin[i], at, n, s, chance(1, 10));
	v->writes += n;
	if (err)
		set_dirty(v, at, n, true);
	if (captured)
		slot_of(seq)->state = err ? VOID : READY;
	range_unlock(v, at, n);
}

static void guest(int g)
{
	unsigned int i;

	for (;; give_way()) {
		guest_busy[g] = false;
		i = rnd(nr_volumes);
		if (quiet || !vol[i].active || vol[i].suspended)
			continue;
		guest_busy[g] = true;
		vol[i].inflight++;
		if (chance(1, 8)) {
			if (disk_flush(&origin[i]) && weakened != GUEST_FLUSH_FAILURE)
				origin_flush_failed(&vol[i]);
		} else {
			guest_write(g, i);
		}
		vol[i].inflight--;
	}
}

/* ---- resync.c ---------------------------------------------------------------------------- */

static void resync_read(int k, unsigned int i, unsigned int at, unsigned int n)
{
	struct volume *v = &vol[i];
	unsigned int s;
	uint32_t seq;

	range_lock(v, at, n);
	if (streaming && !v->stopped && ring_head - ring_acked <= (ring_size + 1) / 2) {
		set_dirty(v, at, n, false);
		seq = fill_slot(i, at, n);
		if (weakened != READ_IN_FLIGHT)
			map_note(&v->map, at, n, seq);
		say("resync%d: vol%u %u+%u, record %u", k, i, at, n, seq);
		give_way();
		if (chance(1, 50)) {
			set_dirty(v, at, n, true);
			slot_of(seq)->state = VOID;
			say("resync%d: record %u FAILED", k, seq);
		} else {
			for (s = 0; s < n; s++)
				slot_of(seq)->data[s] = origin[i].cell[at + s].now.data;
			slot_of(seq)->state = READY;
		}
	}
	range_unlock(v, at, n);
}

static void resync(int k)
{
	unsigned int i, at, n;

	for (;; give_way()) {
		if (!streaming) {
			if (!connected || ring_head - 1 - ring_acked > ring_size / 4)
				continue;
			say("streams");
			streaming = true;
		}
		i = rnd(nr_volumes);
		if (!vol[i].active || vol[i].stopped)
			continue;
		at = rnd(nr_sectors);
		for (n = 0; n < 1 + rnd(4) && at + n < nr_sectors && vol[i].dirty[at + n]; n++)
			;
		if (!n)
			continue;
		vol[i].reads++;
		reading[k].volume = i;
		reading[k].at = at;
		reading[k].n = n;
		reading[k].busy = true;
		resync_read(k, i, at, n);
		reading[k].busy = false;
		vol[i].reads--;
	}
}

/* ---- the daemon and the hub ------------------------------------------------------------------ */

/* Has the hub all that stood in the stream up to D? */
static bool hub_passed(const struct super *s)
{
	const struct hub_log *h = &hub_log;

	if (weakened == NO_INCARNATION)
		return h->passed[h->incarnation] >= s->d_seq;
	if (s->d_incarnation < h->gap_incarnation ||
	    (s->d_incarnation == h->gap_incarnation && s->d_seq < h->gap_seq))
		return false;
	return h->passed[s->d_incarnation] >= s->d_seq;
}

static void hub_lost(unsigned int i)
{
	count.lost++;
	say("vol%u: the hub lost something", i);
	require_resync(i);
}

/* Returns where to go on after. */
static uint32_t connect_hub(void)
{
	uint32_t at = hub_log.passed[boot], jump;
	unsigned int i;

	if (!log_hub)
		return ring_acked;
	if (weakened == NO_INCARNATION)
		at = hub_log.passed[hub_log.incarnation];
	if (at > committed())
		at = committed();	/* no other than this is accepted */
	if (at < ring_acked) {
		/* What was acknowledged is gone from the ring. From the next record on it has all again. */
		jump = ring_acked;
		for (i = 0; i < nr_volumes; i++)
			if (vol[i].active)
				hub_lost(i);
		if (weakened != GAP_FORGOTTEN) {
			hub_log.gap_incarnation = boot;
			hub_log.gap_seq = jump + 1;
		}
		return jump;
	}
	say("daemon: the hub has %u.%u", boot, at);
	for (i = 0; i < nr_volumes; i++)
		if (vol[i].active && vol[i].checked && !hub_passed(&vol[i].map.super))
			hub_lost(i);
	ring_acked = at;
	return at;
}

static void apply(uint32_t seq)
{
	const struct slot *s = slot_of(seq);
	struct sector is = { };
	unsigned int k;

	if (s->state != READY)
		return;
	for (k = 0; k < s->n; k++) {
		is.data = s->data[k];
		disk_put(&hub[s->volume], s->at + k, &is);
	}
}

static void check_new(void)
{
	unsigned int i;

	for (i = 0; i < nr_volumes; i++) {
		struct volume *v = &vol[i];

		if (!v->active || v->checked)
			continue;
		if (!hub_passed(&v->map.super))
			hub_lost(i);
		v->checked = true;
	}
}

static void daemon_run(int arg)
{
	unsigned int epoch, i;
	uint32_t sent, s;
	bool lost;

	(void)arg;
	for (;;) {
		connected = false;
		give_way();
		epoch = daemon_epoch = hub_epoch;
		sent = connect_hub();
		connected = epoch == hub_epoch;
		for (; epoch == hub_epoch; give_way()) {
			check_new();
			if (chance(1, 400)) {
				say("hub refuses");
				streaming = false;
			}
			if (sent < committed() && !chance(1, 5)) {
				apply(++sent);
				say("hub: record %u", sent);
				continue;
			}
			if (sent == ring_acked)
				continue;
			s = sent;
			lost = false;
			for (i = 0; i < nr_volumes && !lost; i++)
				lost = disk_flush(&hub[i]);
			if (lost || epoch != hub_epoch)
				break;
			hub_log.passed[boot] = s;
			hub_log.incarnation = boot;
			give_way();
			if (epoch != hub_epoch)
				break;
			ring_acked = s;
			say("acknowledged %u", s);
		}
	}
}

static void hub_kill(void)
{
	unsigned int i;

	count.hub_kills++;
	say("hub killed");
	for (i = 0; i < nr_volumes; i++)
		disk_lose_power(&hub[i]);
	hub_epoch++;
}

static void hub_copy(void)
{
	unsigned int i, s;

	say("hub copied");
	copy.there = true;
	copy.log = hub_log;
	for (i = 0; i < nr_volumes; i++)
		for (s = 0; s < nr_sectors; s++)
			copy.is[i][s] = hub[i].cell[s].safe;
}

static void hub_restore(void)
{
	unsigned int i, s;

	count.restores++;
	say("hub restored");
	hub_log = copy.log;
	for (i = 0; i < nr_volumes; i++) {
		for (s = 0; s < nr_sectors; s++) {
			disk_put(&hub[i], s, &copy.is[i][s]);
			disk_destage(&hub[i], s);
		}
		hub[i].epoch++;
	}
	hub_epoch++;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static bool origin_fails(struct disk *d, unsigned int at)
{
	return d->broken && (at + d->broken) % 3;
}

static void host_boot(void)
{
	int i;

	boot++;
	say("boot: incarnation %u", boot);
	memset(vol, 0, sizeof(vol));
	memset(slots, 0, sizeof(slots));
	memset(waiters, 0, sizeof(waiters));
	memset(reading, 0, sizeof(reading));
	memset(guest_busy, 0, sizeof(guest_busy));
	admin_busy = true;
	messenger_busy = streaming = connected = false;
	ring_head = 1;
	ring_acked = 0;
	ring_size = 3 + rnd(MAX_RING - 4);
	tasks_reset();
	for (i = 0; i < (int)nr_volumes; i++) {
		task_add(committer, i);
		task_add(cleaner, i);
	}
	for (i = 0; i < GUESTS; i++)
		task_add(guest, i);
	for (i = 0; i < READS; i++)
		task_add(resync, i);
	daemon_task = task_add(daemon_run, 0);
	task_add(admin, 0);
	task_add(messenger, 0);
}

/* As a format and a clean stop left it. */
static void format(unsigned int i)
{
	struct sector s = { .kind = SECTOR_SUPER };
	unsigned int k;

	for (k = 0; k < META_SECTORS; k++) {
		s.kind = k < LOG_AT ? SECTOR_SUPER : k < FINE_AT ? SECTOR_LOG : k < BITS_AT ? SECTOR_FINE : SECTOR_BITS;
		memset(&s.super, 0, sizeof(s.super));
		if (k < LOG_AT)
			s.super = (struct super){ .seq = 2 + k, .flags = CLEAN, .log_tail = 1 };
		disk_put(&meta[i], k, &s);
		disk_destage(&meta[i], k);
	}
}

/* While nobody writes to the device, and it is well: what it has is what the memory has. */
static void check_map(unsigned int i)
{
	struct map *m = &vol[i].map;
	struct says is;
	unsigned int r;

	if (weakened || !vol[i].active || vol[i].suspended || m->locked || m->failed)
		return;
	map_says(i, &is);
	if (is.clean || is.all)
		found(WRONG, "meta%u: the superblock is not that of a volume in use", i);
	for (r = 0; r < nr_regions; r++)
		if (is.set[r * region_sectors] != m->set[r])
			found(WRONG, "meta%u: region %u is %sset on the device alone", i, r, m->set[r] ? "not " : "");
}

static void power_cut(void)
{
	bool blank[MAX_VOLUMES];
	unsigned int i;

	count.cuts++;
	say("POWER CUT");
	for (i = 0; i < nr_volumes; i++) {
		check_map(i);
		/*
		 * A failing device that took not even OWED, or an origin that was written past a target that is
		 * not there yet: that a resync is due has to be said by who knows of it.
		 */
		blank[i] = vol[i].unknowable || bypassed[i];
		disk_lose_power(&origin[i]);
		disk_lose_power(&meta[i]);
		origin[i].broken = meta[i].broken = 0;
		origin[i].flush_fails = false;
		if (blank[i])
			new_meta(i);
		map_says(i, &says[i]);
		bypassed[i] = false;
	}
	if (chance(1, 4))
		hub_kill();
	if (log_hub && copy.there && chance(1, 4))
		hub_restore();
	host_boot();
}

static bool is_quiet(void)
{
	unsigned int i;

	if (admin_busy || messenger_busy || !streaming || !connected || daemon_epoch != hub_epoch ||
	    ring_acked != ring_head - 1)
		return false;
	for (i = 0; i < GUESTS; i++)
		if (guest_busy[i])
			return false;
	for (i = 0; i < nr_volumes; i++)
		if (!vol[i].active || vol[i].reads || spoiled[i] || !vol[i].checked ||
		    any(vol[i].dirty, nr_sectors))
			return false;
	return true;
}

/* Nothing new comes; in the end the hub has everything. */
static void drain(void)
{
	unsigned int i, s, steps;

	count.drains++;
	say("drains");
	quiet = true;
	for (i = 0; i < nr_volumes; i++)
		origin[i].broken = meta[i].broken = 0;
	for (steps = 0; !is_quiet() && verdict == FINE; steps++) {
		if (steps == 400000) {
			found(WRONG, "it never comes to rest");
			return;
		}
		task_step();
	}
	quiet = false;
	count.compared += nr_volumes * nr_sectors;
	for (i = 0; i < nr_volumes; i++)
		for (s = 0; s < nr_sectors; s++)
			if (origin[i].cell[s].now.data != hub[i].cell[s].now.data)
				found(DIVERGED, "vol%u: sector %u is %u on the disk, %u on the hub", i, s,
				      origin[i].cell[s].now.data, hub[i].cell[s].now.data);
}

static void fault(void)
{
	unsigned int i = rnd(nr_volumes);

	switch (rnd(12)) {
	case 0:
	case 1:
		hub_kill();
		break;
	case 2:
	case 3:
		count.daemon_kills++;
		say("daemon killed");
		connected = false;
		task_restart(daemon_task);
		break;
	case 4:
		meta[i].broken = rnd(NR_BROKEN);
		say("meta%u: broken %u", i, meta[i].broken);
		break;
	case 5:
	case 6:
		for (i = 0; i < nr_volumes; i++)
			meta[i].broken = BROKEN_NOT;
		break;
	case 7:
		origin[i].broken = chance(1, 4);
		break;
	case 8:
		origin[i].broken = 0;
		origin[i].flush_fails = chance(1, often.flush_failure);
		break;
	case 9:
	case 10:
		if (log_hub)
			hub_copy();
		break;
	case 11:
		if (copy.there && chance(1, often.restore))
			hub_restore();
		break;
	}
}

#define RUN_PHASES	8

/* Returns the verdict of one run, which is all in its seed. */
static int run(uint64_t seed)
{
	unsigned int i, s, phase, left;
	bool cut;

	rnd_seed(seed);
	verdict = FINE;
	reason[0] = 0;
	step = 0;
	stamps = 0;
	boot = 0;
	quiet = soon = false;
	hub_epoch = 0;
	count.runs++;
	nr_volumes = 1 + rnd(MAX_VOLUMES);
	nr_regions = BITS_REGIONS * (1 + rnd(MAX_BITS));
	region_sectors = 1 + rnd(MAX_REGION);
	nr_sectors = nr_regions * region_sectors;
	nr_bits = nr_regions / BITS_REGIONS;
	log_hub = chance(1, 2);
	often.fault = 20u << rnd(6);
	often.message = 16u << rnd(6);
	often.table = 8u << rnd(5);
	often.flush_failure = 1u << rnd(5);
	often.restore = 1u << rnd(3);
	often.cut = 4 + rnd(9);
	memset(&hub_log, 0, sizeof(hub_log));
	memset(&copy, 0, sizeof(copy));
	memset(says, 0, sizeof(says));
	memset(spoiled, 0, sizeof(spoiled));
	memset(bypassed, 0, sizeof(bypassed));
	for (i = 0; i < nr_volumes; i++) {
		disk_init(&origin[i], "origin", i, nr_sectors);
		disk_init(&hub[i], "hub", i, nr_sectors);
		origin[i].fails = origin_fails;
		new_meta(i);
		if (!chance(1, 10)) {
			format(i);
			continue;
		}
		/* A hub that knows nothing of the volume. */
		for (s = 0; s < nr_sectors; s++) {
			struct sector is = { .data = ++stamps };

			disk_put(&hub[i], s, &is);
		}
	}
	say("%u volumes of %u regions of %u sectors, a %s hub", nr_volumes, nr_regions, region_sectors,
	    log_hub ? "log" : "stock");
	host_boot();
	for (phase = 0; phase < RUN_PHASES && verdict == FINE; phase++) {
		cut = chance(3, 4);
		soon = false;
		for (left = rnd(1u << often.cut); left && verdict == FINE; left--) {
			task_step();
			if (soon && left > 64)
				left = 1 + rnd(64);
			cut |= soon;
			soon = false;
			if (chance(1, often.fault))
				fault();
			if (chance(1, 16)) {
				i = rnd(nr_volumes);
				switch (rnd(3)) {
				case 0:
					disk_destage(&origin[i], rnd(nr_sectors));
					break;
				case 1:
					disk_destage(&hub[i], rnd(nr_sectors));
					break;
				default:
					disk_destage(&meta[i], rnd(META_SECTORS));
					check_map(i);
				}
			}
		}
		if (cut)
			power_cut();
		if (chance(1, 2))
			drain();
	}
	if (verdict == FINE) {
		power_cut();
		drain();
	}
	return verdict;
}

/* ---- the test --------------------------------------------------------------------------------- */

static uint64_t first_seed;
static int passed, failed, number;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static uint64_t run_seed(unsigned long n)
{
	return (first_seed << 24) + n;
}

static void result(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void result(bool ok, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", ok ? "" : "not ", ++number);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	if (ok)
		passed++;
	else
		failed++;
}

/* Runs until one of them fails. Returns it, or -1 when the time, or the steps, are over. */
static long search(double seconds, unsigned long steps, unsigned long *taken)
{
	double end = now() + seconds;
	unsigned long n;

	*taken = 0;
	for (n = 0; *taken < steps && (n % 16 || now() < end); n++) {
		int is = run(run_seed(n));

		*taken += step;
		if (is != FINE)
			return n;
	}
	return -1;
}

static void show(uint64_t seed)
{
	trace_on = true;
	run(seed);
	trace_on = false;
	printf("# %s\n", verdict == FINE ? "nothing is wrong" : reason);
}

#define BOUND	500000000ul	/* steps within which each weakening shows */

static void test_weak(enum weakness w)
{
	unsigned long taken;
	long n;

	weakened = w;
	n = search(1e9, BOUND, &taken);
	if (n >= 0 && verdict == DIVERGED)
		result(true, "%s diverges, after %ld runs, %lu steps", weak[w].name, n + 1, taken);
	else
		result(false, "%s diverges: %s", weak[w].name, n < 0 ? "it did not" : reason);
	weakened = NONE;
}

static void test_rule(double seconds)
{
	unsigned long taken;
	long n;

	weakened = NONE;
	memset(&count, 0, sizeof(count));
	n = search(seconds, -1ul, &taken);
	if (n >= 0)
		printf("# run %" PRIu64 " failed: %s; see it all with --run %" PRIu64 "\n", run_seed(n), reason, run_seed(n));
	printf("# %lu runs, %lu steps, %lu power cuts, %lu drains, %lu sectors compared\n", count.runs, taken, count.cuts,
	       count.drains, count.compared);
	printf("# %lu commits, %lu regions cleared, %lu folds; %lu removals, %lu reloads;"
	       " %lu starts clean, %lu unclean, %lu with all dirty\n",
	       count.commits, count.clears, count.folds, count.stops, count.reloads, count.clean_starts, count.unclean_starts,
	       count.all_starts);
	printf("# killed: hub %lu, daemon %lu; hub restored %lu, found out %lu; meta device failed %lu, mended %lu;"
	       " flush failed %lu; ring full %lu\n",
	       count.hub_kills, count.daemon_kills, count.restores, count.lost, count.meta_failures, count.repaired,
	       count.flush_failures, count.overflows);
	result(n < 0, "the rule as it is: the replica is the disk after each power cut");
}

static const char usage[] =
"usage: test-map [--seconds N] [--seed S] [--rule | --weaken NAME | --run N [--weaken NAME]]\n"
"\n"
"  --seconds N    for the rule as it is; default: 12\n"
"  --seed S       of all that is random; default: $SEED, or the time\n"
"  --weaken NAME  only that: runs until it diverges, and shows that run\n"
"  --rule         only the rule as it is\n"
"  --run N        one run, with all that happened\n"
"  --list         the weakenings\n";

static void fail_usage(const char *what, const char *value)
{
	fprintf(stderr, "test-map: %s \"%s\"\n%s", what, value, usage);
	exit(2);
}

static uint64_t parse_number(const char *option, const char *value)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(value, &end, 0);
	if (errno || *end || !*value || *value == '-')
		fail_usage(option, value);
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 's' },
		{ "weaken", required_argument, NULL, 'w' },
		{ "rule", no_argument, NULL, 'o' },
		{ "run", required_argument, NULL, 'r' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const char *env = getenv("SEED");
	double seconds = 12;
	uint64_t one = 0;
	bool is_one = false, rule = false;
	unsigned long taken;
	int c, w = NONE;
	long n;

	first_seed = env && *env ? parse_number("SEED", env) : (uint64_t)time(NULL);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't':
			seconds = parse_number("--seconds", optarg);
			break;
		case 's':
			first_seed = parse_number("--seed", optarg);
			break;
		case 'w':
			for (w = NONE; w < NR_ALL && strcmp(weak[w].name, optarg); w++)
				;
			if (w == NR_ALL)
				fail_usage("--weaken: there is no", optarg);
			break;
		case 'r':
			one = parse_number("--run", optarg);
			is_one = true;
			break;
		case 'o':
			rule = true;
			break;
		case 'l':
			for (w = NONE; w < NR_ALL; w++)
				printf("%-36s %s\n", weak[w].name, weak[w].what);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc)
		fail_usage("expected no word", argv[optind]);
	first_seed &= 0xffffffffff;
	weakened = w;
	if (is_one) {
		show(one);
		return verdict != FINE;
	}
	if (rule) {
		printf("TAP version 13\n1..1\n# seed %" PRIu64 "\n", first_seed);
		test_rule(seconds);
		return failed != 0;
	}
	if (w != NONE) {
		n = search(seconds, -1ul, &taken);
		printf("# seed %" PRIu64 ", %lu steps\n", first_seed, taken);
		if (n >= 0)
			show(run_seed(n));
		return n >= 0;
	}
	printf("TAP version 13\n1..%d\n# seed %" PRIu64 "\n", NR_WEAK, first_seed);
	for (w = NONE + 1; w < NR_WEAK; w++)
		test_weak(w);
	test_rule(seconds);
	printf("# %d passed, %d failed, 0 skipped\n", passed, failed);
	return failed != 0;
}
