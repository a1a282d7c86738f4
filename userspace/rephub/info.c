// SPDX-License-Identifier: GPL-2.0-or-later
/* What there is, for those who ask. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "overlay.h"

/* What the volumes' bases take of the disk. */
static uint64_t base_bytes(const struct group *g)
{
	uint64_t sum = 0;
	struct stat st;
	unsigned int i;

	for (i = 0; i < g->now.nr; i++)
		if (!fstatat(g->base, g->now.volume[i].name, &st, 0))
			sum += (uint64_t)st.st_blocks * 512;
	return sum;
}

/* What the last comparisons of all volumes together say. */
static void sum_up(struct hub_group_info *info, const struct group *g)
{
	struct hub_verify_info v;
	unsigned int i;

	info->verified = g->now.nr ? UINT64_MAX : 0;
	for (i = 0; i < g->now.nr; i++) {
		if (g->now.volume[i].removed)
			continue;
		verify_info(g, i, &v);
		if (v.ended < info->verified)
			info->verified = v.ended;
		info->differed += v.differed;
		info->unrepaired += v.unrepaired;
	}
	if (info->verified == UINT64_MAX)
		info->verified = 0;
}

static const char *const states[FAILOVER_NR_STATES] = {
	[FAILOVER_NONE]		= "none",
	[FAILOVER_LIVE]		= "live",
	[FAILOVER_COMMITTED]	= "committed",
	[FAILOVER_ROLLBACK]	= "rollback",
};

static void fill(struct hub_group_info *info, const struct group *g)
{
	uint64_t incarnation, seq;
	const struct segment *s;
	size_t i;

	memset(info, 0, sizeof(*info));
	info->name = g->name;
	memcpy(info->uuid, g->uuid, sizeof(info->uuid));
	info->generation = g->generation;
	info->incarnation = g->durable.incarnation;
	info->seq = g->durable.seq;
	point_position(g, g->floor, &info->oldest_incarnation, &info->oldest_seq, &info->oldest_time);
	point_position(g, hubgroup_latest(g), &incarnation, &seq, &info->newest_time);
	for (i = 0; i < g->nr_segments; i++) {
		s = g->segment[i];
		info->journal_bytes += segment_size(s);
		info->records += s->nr_records;
		if (!info->oldest_time && s->nr_records)
			info->oldest_time = s->record[0].time;
	}
	info->segments = g->nr_segments;
	info->base_bytes = base_bytes(g);
	info->connected = g->session;
	info->views = g->nr_views;
	info->trouble = *g->trouble ? g->trouble : NULL;
	info->failover = states[g->failover.state];
	info->fenced_since = g->failover.since;
	info->commit_at = g->failover.commit_at;
	sum_up(info, g);
	info->live = g->live && !g->live->over;
	info->live_users = g->live ? overlay_users(g->live) : 0;
}

/**
 * hub_groups - all groups
 * @hub: the hub
 * @each: called for each, with no lock held
 * @data: for @each
 */
void hub_groups(struct hub *hub, void (*each)(void *data, const struct hub_group_info *g), void *data)
{
	struct hub_group_info info;
	struct group *g;
	bool there;

	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		char trouble[SEGMENT_ERROR_MAX];

		pthread_mutex_lock(&g->lock);
		there = !g->forgotten;
		if (there)
			fill(&info, g);
		memcpy(trouble, g->trouble, sizeof(trouble));
		pthread_mutex_unlock(&g->lock);
		if (there && info.trouble)
			info.trouble = trouble;
		if (there)
			each(data, &info);
	}
}

/**
 * hub_volumes - the volumes of a group, as they are at its latest point
 * @hub: the hub
 * @group: its name
 * @each: called for each, with no lock held
 * @data: for @each
 *
 * Return: whether there is such a group.
 */
bool hub_volumes(struct hub *hub, const char *group,
		 void (*each)(void *data, const struct hub_volume_info *v), void *data)
{
	struct replay *r = malloc(sizeof(*r));
	struct group *g = hub_find(hub, group);
	struct hub_verify_info verify[REPAGENT_MAX_VOLUMES];
	struct hub_volume_info info;
	unsigned int i;
	bool ok = g && r;

	if (ok) {
		pthread_mutex_lock(&g->lock);
		ok = !g->forgotten && hubgroup_state(g, hubgroup_latest(g), r);
		for (i = 0; ok && i < r->nr; i++)
			verify_info(g, i, &verify[i]);
		pthread_mutex_unlock(&g->lock);
	}
	for (i = 0; ok && i < r->nr; i++) {
		info = (struct hub_volume_info){ g->name, r->volume[i].name, r->volume[i].sectors,
						 r->volume[i].removed, r->volume[i].map_error, replay_state(&r->volume[i]), verify[i] };
		each(data, &info);
	}
	free(r);
	return g;
}
