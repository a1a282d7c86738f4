// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Folding: the oldest segment's data goes to the volumes' bases, and the segment.
 *
 * From the moment the first byte of it is written to a base, no point before the
 * segment's end can be had any more.  The file `first` says so before, and a hub
 * that finds that at its start folds the segment again, which does no harm, before
 * anything else.  When all is in the bases `first` names the next segment, and then
 * the files go: one that is still there, and begins before what `first` names, is
 * removed at the start.
 *
 * Where the log went on from a point within the segment, only what comes before that
 * point is folded, and all segments that were abandoned go with this one.
 *
 * What all of these have changed since a fail-over's point is noted before they go: fork.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "engine.h"

#define AGE_PARTS	8u	/* a segment lasts for so much of what is kept by age */
#define NO_SPACE_WAIT	(10 * NSEC_PER_SEC)

static bool zero_range(int fd, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[64 << 10];
	struct stat st;
	ssize_t n;

	/* What is behind the end of the file reads as zeroes already. */
	if (fstat(fd, &st))
		return false;
	if (offset >= (uint64_t)st.st_size)
		return true;
	if (len > (uint64_t)st.st_size - offset)
		len = (uint64_t)st.st_size - offset;
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len))
		return true;
	if (errno != EOPNOTSUPP)
		return false;
	while (len) {
		n = pwrite(fd, zeroes, len < sizeof(zeroes) ? len : sizeof(zeroes), (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return true;
}

static bool write_base(int fd, const uint8_t *p, uint64_t offset, size_t len)
{
	ssize_t n;

	while (len) {
		n = pwrite(fd, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

/*
 * struct portion - what is folded at a time
 * @s:		the first segment
 * @nr:		so many of its records
 * @gone:	so many segments are of no use then
 * @list:	those
 */
struct portion {
	const struct segment *s;
	uint32_t nr;
	size_t gone;
	struct segment **list;
};

/* There are two segments at least. The group is locked, or not yet in use. */
static struct portion choose_portion(const struct group *g)
{
	const struct segment *s = g->segment[0];
	struct portion p = { s, s->nr_records, 1, NULL };
	struct lineage l;
	uint64_t from, to = 0;

	lineage_begin_last(&l, g->segment, g->nr_segments);
	while (lineage_next(&l, &from, &to))
		;
	if (!l.lost && l.branch && to >= s->first_id && to <= s->first_id + s->nr_records) {
		p.nr = (uint32_t)(to - s->first_id);
		p.gone = l.branch;
	}
	return p;
}

/* Of one volume, each range once: what was written last. Return 0 or a positive errno. */
static int fold_volume(const struct group *g, const struct portion *p, unsigned int slot, const char *name,
			uint8_t *buf, char *error)
{
	const struct segment *s = p->s;
	struct extents x = { 0 };
	const struct log_record *rec;
	const struct extent *e;
	uint64_t at = 0, kept = UINT64_MAX;
	bool ok = true;
	uint32_t i;
	int fd, err;

	for (i = 0; i < p->nr && ok; i++) {
		rec = &s->record[i];
		if (rec->slot == slot && (rec->type == REPAGENT_REC_WRITE || rec->type == REPAGENT_REC_RESYNC ||
					  rec->type == REPAGENT_REC_ZEROES || rec->type == REPAGENT_REC_DISCARD))
			ok = extents_put(&x, rec->sector, rec->sector + rec->nr_sectors, i);
	}
	if (!ok)
		snprintf(error, SEGMENT_ERROR_MAX, "out of memory");
	if (!ok || !x.nr) {
		extents_free(&x);
		return ok ? 0 : ENOMEM;
	}
	fd = openat(g->base, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ok = fd >= 0;
	while (ok && (e = extents_find(&x, at))) {
		rec = &s->record[e->id];
		if (!rec->len) {
			ok = zero_range(fd, e->start * 512, (e->end - e->start) * 512);
		} else {
			err = kept != e->id ? segment_read(s, rec, buf, buf + FRAME_MAX, error) : 0;
			if (err) {
				close(fd);
				extents_free(&x);
				return err;
			}
			kept = e->id;
			ok = write_base(fd, buf + (e->start - rec->sector) * 512, e->start * 512,
					(e->end - e->start) * 512);
		}
		at = e->end;
	}
	ok = ok && !fdatasync(fd);
	err = ok ? 0 : errno;
	if (!ok)
		snprintf(error, SEGMENT_ERROR_MAX, "the base of volume %s: %s", name, strerror(err));
	if (fd >= 0)
		close(fd);
	extents_free(&x);
	return err;
}

static void remove_files(const struct group *g, const struct segment *s)
{
	char index[SEGMENT_NAME_MAX];

	snprintf(index, sizeof(index), "%.16s.index", s->name);
	unlinkat(g->journal, index, 0);
	if (unlinkat(g->journal, s->name, 0))
		hub_say(g->hub, LOG_WARNING, "group %s: segment %s cannot be removed: %s", g->name, s->name,
			strerror(errno));
}

/*
 * The first segment, in all volumes' bases; then its files go. Without the group's
 * lock: only one thread folds, and the first segment and the names of its volumes
 * stay as they are meanwhile. Return 0 or a positive errno.
 */
static int fold_segment(struct group *g, const struct portion *p, uint64_t next, const struct replay *names,
			 char *error)
{
	uint8_t *buf = malloc(2 * (size_t)FRAME_MAX);
	const struct first after = { .start = next };
	unsigned int i;
	int err = buf ? 0 : ENOMEM;

	if (err)
		snprintf(error, SEGMENT_ERROR_MAX, "out of memory");
	for (i = 0; i < names->nr && !err; i++)
		err = fold_volume(g, p, i, names->volume[i].name, buf, error);
	free(buf);
	if (!err && fsync(g->base)) {
		err = errno;
		snprintf(error, SEGMENT_ERROR_MAX, "the bases cannot be synced: %s", strerror(err));
	}
	if (!err)
		err = forks_fold(g, p->list, p->gone, error);
	if (err)
		return err;
	if (!seal_write(g->dir, "first", FIRST_MAGIC, &after, sizeof(after))) {
		err = errno;
		snprintf(error, SEGMENT_ERROR_MAX, "what was folded cannot be noted: %s", strerror(err));
		return err;
	}
	remove_files(g, p->s);
	return 0;
}

/* The first segments are no more of the group. The group is locked, or not yet in use. */
static void drop_first(struct group *g, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		if (i)
			remove_files(g, g->segment[i]);
		segment_put(g->segment[i]);
	}
	g->nr_segments -= nr;
	memmove(g->segment, g->segment + nr, g->nr_segments * sizeof(struct segment *));
	g->floor = g->segment[0]->first_id;
}

/* No point before this can be had while a portion is being folded. */
static uint64_t floor_above(const struct group *g, const struct portion *p)
{
	/* Where the log went on from an earlier point, the id of its place there is that of what was abandoned. */
	return g->segment[p->gone]->first_id + (g->segment[p->gone]->branch ? 1 : 0);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void fold_failed(struct group *g, int err, const char *error)
{
	/* What was begun does no harm, and there may be space again, or memory. */
	if (err == ENOSPC || err == EDQUOT || err == ENOMEM) {
		g->half = true;
		g->fold_next = now_ns(CLOCK_MONOTONIC) + NO_SPACE_WAIT;
		hub_say(g->hub, LOG_WARNING, "group %s: folding is put off: %s", g->name, error);
		hubgroup_event(g, "fold-failed", 0, 0, "put off: %s", error);
		return;
	}
	snprintf(g->trouble, sizeof(g->trouble), "%s", error);
	hub_say(g->hub, LOG_ERR, "group %s: folding ended: %s", g->name, error);
	hubgroup_event(g, "fold-failed", 0, 0, "%s", error);
}

/**
 * fold_finish - go on with what was being folded when the hub ended
 * @g: the group, just opened
 * @error: SEGMENT_ERROR_MAX bytes
 *
 * Return: whether the group can be used. Where folding fails, the points behind
 * the segment still can be had.
 */
bool fold_finish(struct group *g, char *error)
{
	const struct segment *s = g->segment[0];
	struct first first;
	struct portion p;
	int err;

	/* It was read before; but without it nobody knows what the base is. */
	err = seal_read(g->dir, "first", FIRST_MAGIC, &first, sizeof(first));
	if (err) {
		snprintf(error, SEGMENT_ERROR_MAX, "its file first: %s", strerror(err));
		return false;
	}
	if (!first.folding)
		return true;
	if (g->nr_segments < 2) {
		snprintf(error, SEGMENT_ERROR_MAX, "segment %s was being folded: expected another one behind it", s->name);
		return false;
	}
	p = choose_portion(g);
	p.list = g->segment;
	g->floor = floor_above(g, &p);
	err = fold_segment(g, &p, g->segment[p.gone]->start, &g->now, error);
	if (err)
		fold_failed(g, err, error);
	else
		drop_first(g, p.gone);
	return true;
}

/* Is there nothing in the way of folding the first segment? There is another one. The group is locked. */
static bool is_free(const struct group *g)
{
	const struct segment *s = g->segment[0];
	const struct portion p = choose_portion(g);
	const uint64_t to = s->first_id + p.nr;

	return !*g->trouble && s->sealed && s->end <= g->durable.offset && s->first_id + s->nr_records < g->hold &&
	       lineage_keeps(g->segment, g->nr_segments, hubgroup_latest(g), p.gone, to) && views_keep(g, p.gone, to);
}

/* Is the last segment the only one, and large enough to be ended for want of room? */
static bool is_lone(const struct group *g)
{
	return g->nr_segments == 1 && segment_size(g->segment[0]) >= g->hub->o.segment / 4 && !g->broken;
}

/**
 * fold_can - is room being made, or can it be?
 * @g: the group, locked
 *
 * Return: whether a segment is being folded, or fold_some() can fold one, if it is to.
 */
bool fold_can(const struct group *g)
{
	if (g->folding)
		return true;
	if (g->half && now_ns(CLOCK_MONOTONIC) < g->fold_next)
		return false;
	return g->nr_segments < 2 ? is_lone(g) && !*g->trouble && g->hold == UINT64_MAX && LIST_EMPTY(&g->views) : is_free(g);
}

/* Is the first segment to be folded? The group is locked. */
static bool due(struct group *g)
{
	const struct segment *s = g->segment[0], *last = hubgroup_last(g);
	const struct hub_retention keep = retention_of(g);
	uint64_t ns = now_ns(CLOCK_REALTIME), ended;

	if (g->nr_segments < 2 || g->folding || g->stopping || !is_free(g))
		return false;
	if (g->half)
		return now_ns(CLOCK_MONOTONIC) >= g->fold_next;
	if (keep.bytes && last->end - s->start > keep.bytes)
		return true;
	/* By our clock: nothing of it came after the next one was begun. */
	ended = g->segment[1]->created;
	return (keep.ns && ended < ns && ns - ended > keep.ns) || space_to_drop(g);
}

/* Is another segment to be begun, so that this one can be folded? The group is locked. */
static bool is_old(struct group *g)
{
	const struct segment *s = hubgroup_last(g);
	uint64_t now = now_ns(CLOCK_REALTIME), ns = retention_of(g).ns;

	if (!s->nr_records || g->broken)
		return false;
	/* A group that writes little must not keep all for as long as a segment lasts. */
	if (ns && now > s->created && now - s->created > ns / AGE_PARTS)
		return true;
	return is_lone(g) && space_to_drop(g);
}

/**
 * fold_some - fold what is older than is kept, segment by segment
 * @g: the group
 *
 * Context: one thread for all; waits for the disk.
 */
void fold_some(struct group *g)
{
	struct replay *names = malloc(sizeof(*names));
	char error[SEGMENT_ERROR_MAX], reason[HUB_REASON_MAX];
	struct portion p;
	struct first first;
	struct segment *s;
	uint64_t next, bytes;
	int err;

	pthread_mutex_lock(&g->lock);
	if (g->forgotten) {
		pthread_mutex_unlock(&g->lock);
		free(names);
		return;
	}
	if (is_old(g))
		(void)hubgroup_roll(g, reason);
	while (names && due(g)) {
		s = g->segment[0];
		first = (struct first){ s->start, 1 };
		p = choose_portion(g);
		/* The list may be moved when it grows, but nobody else takes these from it. */
		p.list = calloc(p.gone, sizeof(*p.list));
		if (!p.list)
			break;
		memcpy(p.list, g->segment, p.gone * sizeof(*p.list));
		next = g->segment[p.gone]->start;
		*names = g->now;
		bytes = segment_size(s);
		g->folding = true;
		g->floor = floor_above(g, &p);
		pthread_mutex_unlock(&g->lock);
		err = seal_write(g->dir, "first", FIRST_MAGIC, &first, sizeof(first)) ? 0 : errno;
		if (err)
			snprintf(error, sizeof(error), "folding cannot be noted: %s", strerror(err));
		else
			err = fold_segment(g, &p, next, names, error);
		free(p.list);
		pthread_mutex_lock(&g->lock);
		g->folding = g->half = false;
		if (!err) {
			drop_first(g, p.gone);
			space_given(g);
			hubgroup_event(g, "folded", g->segment[0]->begin.incarnation, g->segment[0]->begin.seq,
				       "%" PRIu64 " MiB; older points are gone", bytes >> 20);
		} else {
			fold_failed(g, err, error);
		}
	}
	pthread_mutex_unlock(&g->lock);
	free(names);
}
