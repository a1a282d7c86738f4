// SPDX-License-Identifier: GPL-2.0-or-later
/* What the groups take of the disk, how fast that grows, and when it is full. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "engine.h"

#define SMOOTH		60.0		/* seconds: rates are means over some minutes */
#define STILL		1.0		/* bytes a second, below which nothing comes */

/**
 * space_measure - look how much has come since the last time
 * @g: the group, locked
 *
 * Context: every second or so.
 */
void space_measure(struct group *g)
{
	uint64_t end = hubgroup_last(g)->end, now;
	struct timespec ts;
	double dt;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
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

static void fill(struct hub_space_info *s, const struct group *g)
{
	char index[SEGMENT_NAME_MAX];
	struct stat st;
	unsigned int v;
	size_t i;

	*s = (struct hub_space_info){ .group = g->name, .rate = g->rate.bytes, .keep = retention_of(g) };
	for (i = 0; i < g->nr_segments; i++) {
		s->journal += segment_size(g->segment[i]);
		snprintf(index, sizeof(index), "%.16s.index", g->segment[i]->name);
		if (g->segment[i]->sealed && !fstatat(g->journal, index, &st, 0))
			s->index += (uint64_t)st.st_blocks * 512;
	}
	for (v = 0; v < g->now.nr; v++)
		if (!fstatat(g->base, g->now.volume[v].name, &st, 0))
			s->base += (uint64_t)st.st_blocks * 512;
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
	struct growth *growth = NULL, *more;
	struct hub_space_info s;
	struct group *g;
	struct statvfs v;
	size_t nr = 0;
	bool there;

	*total = (struct hub_space_total){ .full = -1 };
	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		pthread_mutex_lock(&g->lock);
		there = !g->forgotten;
		if (there) {
			fill(&s, g);
			more = s.rate >= STILL ? realloc(growth, (nr + 1) * sizeof(*growth)) : NULL;
			if (more) {
				growth = more;
				growth[nr++] = (struct growth){ s.rate, room(g, &s) };
			}
		}
		pthread_mutex_unlock(&g->lock);
		if (there)
			each(data, &s);
	}
	if (!fstatvfs(hub->dir, &v)) {
		total->size = (uint64_t)v.f_blocks * v.f_frsize;
		total->free = (uint64_t)v.f_bavail * v.f_frsize;
		total->full = when_full(growth, nr, (double)total->free);
	}
	free(growth);
}
