// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What has changed since a place of the log, whoever changed it: what came behind it from
 * the agents, abandoned or not, and what live wrote.  A disk that was the volume at that
 * place differs from the volume as it is now there alone.
 *
 * A place that was abandoned itself counts as the point where the log went on without it:
 *
 *	segment   A           B           C: from p
 *	records   0...    p...|...d...    |......now
 *
 * The disk at d has what is between p and d, and the volume now has not: so all behind p
 * may differ.  The log may go on from what was abandoned, too: all behind the last place counts
 * that both d and the log's end go on from.  Where the journal does not go back so far, a fork
 * is asked (fork.c); but for who wrote there himself alone, and knows what of his own came
 * behind d: for it may be that p is behind d.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"

/* All ranges that any record behind the place is of. The group is locked. */
static bool collect(const struct group *g, unsigned int slot, uint64_t id, struct extents *x)
{
	size_t i = segment_index(g->segment, g->nr_segments, id + 1);
	const struct log_record *rec;
	const struct segment *s;
	uint32_t k;

	for (; i < g->nr_segments; i++) {
		s = g->segment[i];
		for (k = id > s->first_id ? (uint32_t)(id - s->first_id) : 0; k < s->nr_records; k++) {
			rec = &s->record[k];
			if (rec->slot == slot &&
			    (rec->type == REPAGENT_REC_WRITE || rec->type == REPAGENT_REC_RESYNC ||
			     rec->type == REPAGENT_REC_ZEROES || rec->type == REPAGENT_REC_DISCARD) &&
			    !extents_put(x, rec->sector, rec->sector + rec->nr_sectors, 0))
				return false;
		}
	}
	return true;
}

/*
 * Those of a volume since a point; or, with a + behind it, since a position of who knows what he wrote behind that, and which may be
 * folded. The group is locked. Return 0 or a positive errno.
 */
static int since(const struct group *g, unsigned int slot, const char *what, struct extents *x, char *reason)
{
	size_t len = strlen(what);
	bool own = len && what[len - 1] == '+', ok;
	uint64_t id, incarnation, seq;
	const struct fork *f = NULL;
	char point[REPAGENT_LABEL_MAX + 32];
	int used = 0;

	snprintf(point, sizeof(point), "%.*s", (int)(own ? len - 1 : len), what);
	id = point_find(g, point, &id, reason) ? lineage_common(g->segment, g->nr_segments, hubgroup_latest(g), id) : UINT64_MAX;
	if (id == UINT64_MAX && own && sscanf(point, "%16" SCNx64 ":%" SCNu64 "%n", &incarnation, &seq, &used) == 2 && !point[used])
		f = fork_find(g, incarnation, seq);
	if (id == UINT64_MAX && !f) {
		if (!*reason)
			snprintf(reason, HUB_REASON_MAX, "%.64s: it is older than what is kept", point);
		return ENOENT;
	}
	ok = f ? extents_add(x, &f->changed[slot], 0) && fork_collect(f, g->segment, g->nr_segments, slot, x) : collect(g, slot, id, x);
	if (!ok)
		snprintf(reason, HUB_REASON_MAX, "out of memory");
	return ok ? 0 : ENOMEM;
}

/* The group is locked. */
static int find_volume(const struct group *g, const char *volume, unsigned int *slot, char *reason)
{
	for (*slot = 0; *slot < g->now.nr; ++*slot)
		if (!strcmp(g->now.volume[*slot].name, volume))
			return 0;
	snprintf(reason, HUB_REASON_MAX, "group %s has no volume %s", g->name, volume);
	return ENOENT;
}

/**
 * hub_changed - which ranges of a volume were written since a point
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume
 * @point: see point_find(), and since()
 * @each: called for each, with no lock held; bytes. Ranges rise, and do not touch. False: it is enough
 * @data: for @each
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0, ENOENT (group, volume or point), or ENOMEM.
 */
int hub_changed(struct hub *hub, const char *group, const char *volume, const char *point,
		bool (*each)(void *data, uint64_t offset, uint64_t length), void *data, char *reason)
{
	struct group *g = hub_find(hub, group);
	uint64_t start, end = 0;
	struct extents x = { 0 };
	const struct extent *e;
	unsigned int slot;
	int err;

	*reason = '\0';
	if (!g) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		return ENOENT;
	}
	pthread_mutex_lock(&g->lock);
	err = find_volume(g, volume, &slot, reason);
	if (!err)
		err = since(g, slot, point, &x, reason);
	pthread_mutex_unlock(&g->lock);
	while (!err && (e = extents_find(&x, end))) {
		start = e->start;
		for (end = e->end; (e = extents_find(&x, end)) && e->start == end; end = e->end)
			;
		if (!each(data, start * 512, (end - start) * 512))
			break;
	}
	extents_free(&x);
	return err;
}

/* ---- for a disk that is to become the volume again ------------------------- */

/*
 * struct hub_back - the volume at the latest point, and what of it has changed
 * @view:	NULL: it cannot be had
 * @changed:	sectors; @all: not known, so that all may have
 * @text:	for who asks
 */
struct hub_back {
	struct hub_view *view;
	struct extents changed;
	bool all;
	char text[HUB_BACK_MAX];
};

/*
 * Whether a disk may be brought to the latest point: what may yet be rolled back would stay on it. So it is asked before the view
 * is opened, and again, at the same generation, when it is there. The group is locked.
 */
static bool may_go_back(const struct group *g, char *reason)
{
	if (g->forgotten || g->generation == 1)
		snprintf(reason, HUB_REASON_MAX, "group %s was never failed over", g->name);
	else if (g->failover.state == FAILOVER_LIVE || g->failover.state == FAILOVER_ROLLBACK || g->stopping || g->unsure)
		snprintf(reason, HUB_REASON_MAX, "the fail-over is not committed, and may be rolled back: rephubctl commit");
	else
		return true;
	return false;
}

/* What is so, behind the position. The group is locked. */
static void describe(struct hub_back *b, const struct group *g, const char *unknown)
{
	char who[HUB_REASON_MAX] = "more is coming";
	bool rest = failover_at_rest(g, who) && b->view->id == hubgroup_latest(g) && hubgroup_last(g)->end == g->durable.offset;

	snprintf(b->text, sizeof(b->text), "at %016" PRIx64 ":%" PRIu64 ", %s%.30s%s%.60s", b->view->through_incarnation,
		 b->view->through_seq, rest ? "at rest" : "in use: ", rest ? "" : who, *unknown ? "; unknown: " : "", unknown);
}

/* Return whether it can be had; else why not. */
static bool fill(struct hub_back *b, struct group *g, const char *volume, const char *point, uint64_t generation, char *reason)
{
	unsigned int slot;
	bool ok;

	*reason = '\0';
	pthread_mutex_lock(&g->lock);
	ok = may_go_back(g, reason);
	if (ok && g->generation != generation) {
		snprintf(reason, HUB_REASON_MAX, "there was a fail-over meanwhile, or a rollback: open it again");
		ok = false;
	}
	ok = ok && !find_volume(g, volume, &slot, reason);
	b->all = ok && point && since(g, slot, point, &b->changed, reason);
	if (ok && !point) {
		b->all = true;
		snprintf(reason, HUB_REASON_MAX, "no position was given");
	}
	if (ok)
		describe(b, g, b->all ? reason : "");
	pthread_mutex_unlock(&g->lock);
	return ok;
}

/**
 * hub_back_open - see a volume at the latest point, and what of it differs from a disk that was left behind
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume
 * @point: the disk is the volume as it was there, see point_find() and since(); NULL: that is not known
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: what there is, or what it says of why there is nothing; NULL if there is no such group, or no memory.
 */
struct hub_back *hub_back_open(struct hub *hub, const char *group, const char *volume, const char *point, char *reason)
{
	struct group *g = hub_find(hub, group);
	struct hub_back *b = g ? calloc(1, sizeof(*b)) : NULL;
	uint64_t generation;
	bool may;

	if (!b) {
		snprintf(reason, HUB_REASON_MAX, g ? "out of memory" : "there is no group %s here", group);
		return NULL;
	}
	pthread_mutex_lock(&g->lock);
	may = may_go_back(g, reason);
	generation = g->generation;
	pthread_mutex_unlock(&g->lock);
	b->view = may ? hub_view_open(hub, group, volume, "latest", reason) : NULL;
	if (b->view && fill(b, g, volume, point, generation, reason))
		return b;
	if (b->view)
		hub_view_close(b->view);
	b->view = NULL;
	snprintf(b->text, sizeof(b->text), "refused: %.118s", reason);
	return b;
}

/**
 * hub_back_view - the volume, or NULL
 * @b: what hub_back_open() gave
 */
struct hub_view *hub_back_view(const struct hub_back *b)
{
	return b->view;
}

/**
 * hub_back_text - at which position it is, and whether anybody may go on from there; Documentation/segments.md, Back
 * @b: what hub_back_open() gave
 */
const char *hub_back_text(const struct hub_back *b)
{
	return b->text;
}

/**
 * hub_back_next - has a range changed, or not?
 * @b: what hub_back_open() gave
 * @offset: from there on, in bytes
 * @end: up to there at most
 * @next: out: as far as that is so
 *
 * Return: whether it may have changed.
 */
bool hub_back_next(const struct hub_back *b, uint64_t offset, uint64_t end, uint64_t *next)
{
	const struct extent *e = extents_find(&b->changed, offset / 512);
	bool changed = b->all || (e && e->start * 512 <= offset);

	*next = end;
	if (!b->all && e && (changed ? e->end : e->start) * 512 < end)
		*next = (changed ? e->end : e->start) * 512;
	return changed;
}

/**
 * hub_back_close - no more of it
 * @b: what hub_back_open() gave
 */
void hub_back_close(struct hub_back *b)
{
	if (b->view)
		hub_view_close(b->view);
	extents_free(&b->changed);
	free(b);
}
