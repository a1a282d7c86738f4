// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What has changed since a point, whoever changed it: what came behind it from the
 * agents, abandoned or not, and what live wrote.  A disk that once was the volume at
 * some later place of the agents' stream differs from the volume as it is now there
 * alone, and where its own map says so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

/* All ranges that any record behind the point is of. The group is locked. */
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

/**
 * hub_changed - which ranges of a volume were written since a point
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume
 * @point: see point_find()
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
	uint64_t id, start, end = 0;
	struct extents x = { 0 };
	const struct extent *e;
	unsigned int i;
	int err = 0;

	if (!g) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		return ENOENT;
	}
	pthread_mutex_lock(&g->lock);
	for (i = 0; i < g->now.nr && strcmp(g->now.volume[i].name, volume); i++)
		;
	if (i == g->now.nr) {
		snprintf(reason, HUB_REASON_MAX, "group %s has no volume %s", group, volume);
		err = ENOENT;
	} else if (!point_find(g, point, &id, reason)) {
		err = ENOENT;
	} else if (!collect(g, i, id, &x)) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		err = ENOMEM;
	}
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
