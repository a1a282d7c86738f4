// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the groups take of the disk, how fast that grows, when it is full, and what is done about that:
 * Documentation/segments.md, A full disk, has the table of the states.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <syslog.h>
#include <time.h>

#include "../common/parse.h"
#include "engine.h"

#define SMOOTH		60.0		/* seconds: rates are means over some minutes */
#define STILL		1.0		/* bytes a second, below which nothing comes */
#define LOOK		MIB		/* bytes of a group's stream, after which it is looked what is free */
#define RESERVE_PART	20u		/* of the disk, but */
#define RESERVE_LEAST	(64 * MIB)
#define RESERVE_MOST	(4096 * MIB)

static const char *const state_names[] = {
	[SPACE_ROOM] = "room", [SPACE_SHORT] = "short", [SPACE_SLOWED] = "slowed", [SPACE_FULL] = "full",
};

static const char *const when_full_names[] = {
	[HUB_STOP_INGEST] = "stop-ingest", [HUB_DROP_HISTORY] = "drop-history",
};

/**
 * hub_when_full_name - the word for it
 * @w: what is done when the disk is full
 */
const char *hub_when_full_name(enum hub_when_full w)
{
	return when_full_names[w];
}

/**
 * hub_when_full_parse - what a word means
 * @name: the word
 * @w: out
 *
 * Return: whether it is one.
 */
bool hub_when_full_parse(const char *name, enum hub_when_full *w)
{
	for (*w = HUB_STOP_INGEST; *w <= HUB_DROP_HISTORY; ++*w)
		if (!strcmp(name, when_full_names[*w]))
			return true;
	return false;
}

static uint64_t monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/**
 * space_measure - look how much has come since the last time
 * @g: the group, locked
 *
 * Context: every second or so.
 */
void space_measure(struct group *g)
{
	uint64_t end = hubgroup_last(g)->end, now = monotonic();
	double dt;

	if (g->rate.when && now > g->rate.when && end >= g->rate.offset) {
		dt = (double)(now - g->rate.when) / 1e9;
		g->rate.bytes += ((double)(end - g->rate.offset) / dt - g->rate.bytes) * dt / (SMOOTH + dt);
	}
	g->rate.offset = end;
	g->rate.when = now;
}

/* What can still grow, and how fast. */
struct growth {
	double rate, room;
};

static int by_end(const void *a, const void *b)
{
	const struct growth *x = a, *y = b;
	double d = x->room / x->rate - y->room / y->rate;

	return (d > 0) - (d < 0);
}

/*
 * The journal up to what is kept, and a segment more; then the base, up to the sizes of the volumes, of
 * which nobody knows how much will be written: so this is the earliest that the disk can be full.
 */
static double room(const struct group *g, const struct hub_space_info *s)
{
	double most = -1, limit, volumes = 0;
	unsigned int i;

	if (s->keep.bytes)
		most = (double)s->keep.bytes + (double)g->hub->o.segment;
	limit = s->rate * (double)s->keep.ns / 1e9 * 1.25;
	if (s->keep.ns && (most < 0 || limit < most))
		most = limit;
	if (most < 0)
		return -1;	/* no end */
	for (i = 0; i < g->now.nr; i++)
		volumes += (double)g->now.volume[i].sectors * 512;
	most = most > (double)s->journal ? most - (double)s->journal : 0;
	return volumes > (double)s->base ? most + volumes - (double)s->base : most;
}

/* Seconds until so much is used; negative: that never comes. */
static double when_full(struct growth *w, size_t nr, double free)
{
	double now = 0, rate = 0, end;
	size_t i;

	for (i = 0; i < nr; i++) {
		if (w[i].room < 0)
			w[i].room = 1e30;
		rate += w[i].rate;
	}
	if (nr)
		qsort(w, nr, sizeof(*w), by_end);
	for (i = 0; i < nr; i++) {
		end = w[i].room / w[i].rate;
		if ((end - now) * rate >= free)
			return now + free / rate;
		free -= (end - now) * rate;
		rate -= w[i].rate;
		now = end;
	}
	return -1;
}

/* All but the indexes, which take long to be looked at. */
static void fill(struct hub_space_info *s, const struct group *g)
{
	struct stat st;
	unsigned int v;
	size_t i;

	*s = (struct hub_space_info){ .group = g->name, .rate = g->rate.bytes, .keep = retention_of(g),
				      .state = state_names[g->space.state] };
	for (i = 0; i < g->nr_segments; i++)
		s->journal += segment_size(g->segment[i]);
	for (v = 0; v < g->now.nr; v++)
		if (!fstatat(g->base, g->now.volume[v].name, &st, 0))
			s->base += (uint64_t)st.st_blocks * 512;
}

static void fill_indexes(struct hub_space_info *s, const struct group *g)
{
	char index[SEGMENT_NAME_MAX];
	struct stat st;
	size_t i;

	for (i = 0; i < g->nr_segments; i++) {
		snprintf(index, sizeof(index), "%.16s.index", g->segment[i]->name);
		if (g->segment[i]->sealed && !fstatat(g->journal, index, &st, 0))
			s->index += (uint64_t)st.st_blocks * 512;
	}
}

/* Return whether it is known what is free. */
static bool measure_disk(const struct hub *hub, int fd, struct hub_space_total *t)
{
	struct statvfs v;

	if (fstatvfs(fd, &v))
		return false;
	t->size = (uint64_t)v.f_blocks * v.f_frsize;
	t->free = (uint64_t)v.f_bavail * v.f_frsize;
	t->reserve = hub->o.reserve;
	if (!t->reserve) {
		t->reserve = t->size / RESERVE_PART;
		if (t->reserve > RESERVE_MOST)
			t->reserve = RESERVE_MOST;
		if (t->reserve < RESERVE_LEAST)
			t->reserve = RESERVE_LEAST;
	}
	return true;
}

/* ---- what a group does about it ------------------------------------------- */

static uint64_t taken(const struct group *g)
{
	struct hub_space_info s;

	fill(&s, g);
	return s.journal + s.base;
}

static enum space_state next_state(const struct group *g, const struct hub_space_total *t, bool drop)
{
	enum space_state now = g->space.state;
	uint64_t had = g->space.level, has;
	bool making;

	if (g->space.ran_out)
		return SPACE_FULL;
	if (t->free >= t->reserve + t->reserve / 4)
		return SPACE_ROOM;
	if (now == SPACE_ROOM && t->free >= t->reserve)
		return SPACE_ROOM;
	if (!drop)
		return SPACE_FULL;
	if (now == SPACE_ROOM)
		return SPACE_SHORT;
	has = taken(g);
	if (now != SPACE_FULL) {
		making = has > had && fold_can(g);
		if (t->free < t->reserve / 16 || (t->free < t->reserve / 4 && has > had + g->hub->o.segment && !making))
			return SPACE_FULL;
		return making && t->free < t->reserve / 2 ? SPACE_SLOWED : SPACE_SHORT;
	}
	return t->free >= t->reserve / 2 || (has <= had && t->free >= t->reserve / 8) ? SPACE_SHORT : SPACE_FULL;
}

static void tell_state(const struct group *g, const struct hub_space_total *t)
{
	static const struct { int priority; const char *event, *text; } tell[] = {
		[SPACE_ROOM] = { LOG_NOTICE, "has-room", "all is taken, and nothing dropped for want of room" },
		[SPACE_SHORT] = { LOG_WARNING, "dropping", "its oldest history goes from now on" },
		[SPACE_SLOWED] = { LOG_WARNING, "slowed", "what comes waits until its oldest history is gone" },
		[SPACE_FULL] = { LOG_ERR, "full", "nothing is taken until there is room" },
	};
	char free[HUMAN_MAX], reserve[HUMAN_MAX];

	human_size(free, t->free);
	human_size(reserve, t->reserve);
	hub_say(g->hub, tell[g->space.state].priority, "group %s: %s of the disk are free, the reserve is %s: %s", g->name,
		free, reserve, tell[g->space.state].text);
	hubgroup_event(g, tell[g->space.state].event, 0, 0, "%s of the disk are free, the reserve is %s: %s", free, reserve,
		       tell[g->space.state].text);
}

/* It may be slowed, and not, with each segment that goes: that is said once a minute. */
static bool is_news(struct group *g, enum space_state before)
{
	uint64_t now = monotonic();

	if (g->space.state == SPACE_SHORT && before == SPACE_SLOWED)
		return false;
	if (g->space.state == SPACE_ROOM || g->space.state == SPACE_FULL)
		g->space.told_slowed = 0;
	if (g->space.state != SPACE_SLOWED)
		return true;
	if (g->space.told_slowed && now - g->space.told_slowed < 60 * NSEC_PER_SEC)
		return false;
	g->space.told_slowed = now;
	return true;
}

/* The group is locked. */
static void look(struct group *g)
{
	struct hub_space_total t;
	enum space_state before = g->space.state;

	g->space.unseen = 0;
	if (!measure_disk(g->hub, g->journal, &t))
		return;
	g->space.state = next_state(g, &t, retention_of(g).when_full == HUB_DROP_HISTORY);
	if (before == SPACE_ROOM && g->space.state != SPACE_ROOM)
		g->space.level = taken(g);
	if (g->space.state == SPACE_ROOM)
		g->space.told_slowed = 0;
	if (g->space.state != before && is_news(g, before))
		tell_state(g, &t);
}

/**
 * space_ran_out - a write of the group found no space
 * @g: the group, locked
 * @where: a sentence
 */
void space_ran_out(struct group *g, const char *where)
{
	if (!g->space.ran_out)
		hubgroup_event(g, "full", 0, 0, "%s", where);
	g->space.ran_out = true;
	look(g);
}

/**
 * space_given - a segment of the group was folded
 * @g: the group, locked
 */
void space_given(struct group *g)
{
	g->space.ran_out = false;
}

/**
 * space_to_drop - is the group to drop its oldest segment, for want of room?
 * @g: the group, locked
 */
bool space_to_drop(struct group *g)
{
	if (retention_of(g).when_full != HUB_DROP_HISTORY)
		return false;
	look(g);
	return g->space.ran_out || (g->space.state != SPACE_ROOM && taken(g) > g->space.level);
}

/**
 * space_tend - look what is free
 * @g: the group
 *
 * A write that found no space may be tried again: what can be folded was folded by now.
 *
 * Context: every second or so, after fold_some().
 */
void space_tend(struct group *g)
{
	pthread_mutex_lock(&g->lock);
	if (!g->forgotten) {
		g->space.ran_out = false;
		look(g);
	}
	pthread_mutex_unlock(&g->lock);
}

/**
 * space_full - does the group take nothing more?
 * @g: the group, locked
 * @reason: HUB_REASON_MAX bytes for why
 */
bool space_full(struct group *g, char *reason)
{
	struct hub_space_total t;
	char free[HUMAN_MAX], reserve[HUMAN_MAX];

	look(g);
	if (g->space.state != SPACE_FULL)
		return false;
	if (g->space.ran_out || !measure_disk(g->hub, g->journal, &t))
		snprintf(reason, HUB_REASON_MAX, "no space is left for the journal");
	else
		snprintf(reason, HUB_REASON_MAX, "%s of the hub's disk are free, and its reserve is %s", human_size(free, t.free),
			 human_size(reserve, t.reserve));
	return true;
}

/**
 * space_admit - may this come into the journal?
 * @g: the group, locked
 * @size: bytes
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0 or ENOSPC.
 */
int space_admit(struct group *g, size_t size, char *reason)
{
	g->space.unseen += size;
	if (g->space.state != SPACE_FULL && g->space.unseen < LOOK)
		return 0;
	if (space_full(g, reason))
		return ENOSPC;
	/* What is to go goes at once, or it would not keep up with what comes. */
	if (g->space.state != SPACE_ROOM)
		hub_wake(g->hub);
	return 0;
}

/**
 * space_slowed - is what comes to wait, for room is being made?
 * @g: the group, locked
 */
bool space_slowed(struct group *g)
{
	if (g->space.state != SPACE_SLOWED)
		return false;
	look(g);
	return g->space.state == SPACE_SLOWED;
}

/* ---- the disk -------------------------------------------------------------- */

/* How the groups grow. */
struct growths {
	struct growth *growth;
	size_t nr;
};

static void add_growth(struct growths *all, const struct group *g, const struct hub_space_info *s)
{
	struct growth *more = s->rate >= STILL ? realloc(all->growth, (all->nr + 1) * sizeof(*more)) : NULL;

	if (!more)
		return;
	all->growth = more;
	all->growth[all->nr++] = (struct growth){ s->rate, room(g, s) };
}

/* The growths are freed. */
static void foresee(const struct hub *hub, struct growths *all, struct hub_space_total *total)
{
	total->full = -1;
	if (measure_disk(hub, hub->dir, total))
		total->full = when_full(all->growth, all->nr,
					total->free > total->reserve ? (double)(total->free - total->reserve) : 0);
	free(all->growth);
}

/**
 * hub_space - what all groups take of the disk
 * @hub: the hub
 * @total: out
 * @each: called for each group, with no lock held
 * @data: for @each
 */
void hub_space(struct hub *hub, struct hub_space_total *total,
	       void (*each)(void *data, const struct hub_space_info *s), void *data)
{
	struct growths all = { NULL, 0 };
	struct hub_space_info s;
	struct group *g;
	bool there;

	*total = (struct hub_space_total){ .full = -1 };
	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		pthread_mutex_lock(&g->lock);
		there = !g->forgotten;
		if (there) {
			fill(&s, g);
			fill_indexes(&s, g);
			add_growth(&all, g, &s);
		}
		pthread_mutex_unlock(&g->lock);
		if (there)
			each(data, &s);
	}
	foresee(hub, &all, total);
	hub_space_low(hub, total->warning);
}

/* Is it to be warned of? A warning that is there stays until it is twice as far away. */
static bool is_low(const struct hub *hub, const struct hub_space_total *t)
{
	double more = *hub->low ? 2 : 1;

	return (double)t->free < (1 + more) * (double)t->reserve ||
	       (t->full >= 0 && t->full < more * (double)hub->o.warn / 1e9);
}

/**
 * space_warn - warn of a disk that will be full
 * @hub: the hub
 *
 * Context: every second or so.
 */
void space_warn(struct hub *hub)
{
	struct growths all = { NULL, 0 };
	struct hub_space_total t = { 0 };
	struct hub_space_info s;
	struct group *g;
	char text[HUB_REASON_MAX] = "", free[HUMAN_MAX], reserve[HUMAN_MAX], left[HUMAN_MAX];
	bool was;

	if (!hub->o.warn)
		return;
	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		pthread_mutex_lock(&g->lock);
		if (!g->forgotten) {
			fill(&s, g);
			add_growth(&all, g, &s);
		}
		pthread_mutex_unlock(&g->lock);
	}
	foresee(hub, &all, &t);
	if (!t.size)
		return;
	pthread_mutex_lock(&hub->lock);
	was = *hub->low;
	if (is_low(hub, &t))
		snprintf(text, sizeof(text), "%s of the disk are free, the reserve is %s%s%s", human_size(free, t.free),
			 human_size(reserve, t.reserve), t.free < t.reserve ? ", which is used now" : t.full < 0 ? "" :
			 "; at the present rates it is reached in ",
			 t.full < 0 || t.free < t.reserve ? "" : human_duration(left, (uint64_t)(t.full * 1e9)));
	memcpy(hub->low, text, sizeof(text));
	pthread_mutex_unlock(&hub->lock);
	if (was == (*text != '\0'))
		return;
	hub_say(hub, was ? LOG_NOTICE : LOG_WARNING, "%s", was ? "the disk has room again" : text);
	events_add(hub->events, NULL, was ? "space-ok" : "space-low", 0, 0, "%s", was ? "the disk has room again" : text);
}

/**
 * hub_space_low - is the disk about to be full?
 * @hub: the hub
 * @text: HUB_REASON_MAX bytes; empty if not
 */
bool hub_space_low(struct hub *hub, char *text)
{
	pthread_mutex_lock(&hub->lock);
	memcpy(text, hub->low, sizeof(hub->low));
	pthread_mutex_unlock(&hub->lock);
	return *text;
}
