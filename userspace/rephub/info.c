// SPDX-License-Identifier: GPL-2.0-or-later
/* What there is, for those who ask. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine.h"

#define TIMED	"@timed"	/* the label of a checkpoint that is the agent's own */

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
	point_position(g, g->durable.id, &incarnation, &seq, &info->newest_time);
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
	struct group *g, *next;

	pthread_mutex_lock(&hub->lock);
	g = LIST_FIRST(&hub->list);
	pthread_mutex_unlock(&hub->lock);
	while (g) {
		char trouble[SEGMENT_ERROR_MAX];

		pthread_mutex_lock(&g->lock);
		fill(&info, g);
		memcpy(trouble, g->trouble, sizeof(trouble));
		pthread_mutex_unlock(&g->lock);
		if (info.trouble)
			info.trouble = trouble;
		each(data, &info);
		pthread_mutex_lock(&hub->lock);
		next = LIST_NEXT(g, link);
		pthread_mutex_unlock(&hub->lock);
		g = next;
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
	struct hub_volume_info info;
	unsigned int i;
	bool ok = g && r;

	if (ok) {
		pthread_mutex_lock(&g->lock);
		ok = hubgroup_state(g, g->durable.id, r);
		pthread_mutex_unlock(&g->lock);
	}
	for (i = 0; ok && i < r->nr; i++) {
		info = (struct hub_volume_info){ g->name, r->volume[i].name, r->volume[i].sectors,
						 r->volume[i].removed, replay_state(&r->volume[i]) };
		each(data, &info);
	}
	free(r);
	return g;
}

static const char *const words[REPAGENT_NR_TYPES] = {
	[REPAGENT_REC_CHECKPOINT]	= "checkpoint",
	[REPAGENT_REC_RESYNC_BEGIN]	= "resync-begin",
	[REPAGENT_REC_RESYNC_END]	= "resync-end",
	[REPAGENT_REC_GAP]		= "gap",
	[REPAGENT_REC_VOLUME_ADD]	= "volume-add",
	[REPAGENT_REC_VOLUME_REMOVE]	= "volume-remove",
	[REPAGENT_REC_VOLUME_RESIZE]	= "volume-resize",
	[REPAGENT_REC_FAILED]		= "write-failed",
	[REPAGENT_REC_SHUTDOWN]		= "shutdown",
	[REPAGENT_REC_MAP_ERROR]	= "map-error",
	[REPAGENT_REC_MAP_OK]		= "map-ok",
};

static bool fill_point(struct hub_point_info *p, const struct group *g, const struct segment *s, uint32_t i,
		       bool timed, void *scratch)
{
	const struct log_record *rec = &s->record[i];
	const struct log_frame *f = &s->frame[rec->frame];
	char error[SEGMENT_ERROR_MAX];

	if (!words[rec->type])
		return false;
	*p = (struct hub_point_info){ f->incarnation, rec->seq, rec->time, words[rec->type], "" };
	if (rec->type == REPAGENT_REC_GAP && f->flags & REPLAY_JUMP && f->record == i)
		p->what = "lost";	/* records before it never came */
	if (rec->type == REPAGENT_REC_CHECKPOINT && rec->len <= sizeof(p->text) &&
	    segment_read(s, rec, p->text, scratch, error))
		snprintf(p->text, sizeof(p->text), "(its label is damaged)");
	else if (rec->type != REPAGENT_REC_CHECKPOINT && rec->type != REPAGENT_REC_GAP &&
		 rec->type != REPAGENT_REC_SHUTDOWN)
		snprintf(p->text, sizeof(p->text), "%s", g->now.volume[rec->slot].name);
	p->text[sizeof(p->text) - 1] = '\0';
	return timed || rec->type != REPAGENT_REC_CHECKPOINT || strcmp(p->text, TIMED);
}

/**
 * hub_points - places in a group's log that are of interest, the newest first
 * @hub: the hub
 * @group: its name
 * @timed: the agent's own checkpoints too, of which there is one each second
 * @most: at most so many
 * @each: called for each, with no lock held
 * @data: for @each
 *
 * Return: whether there is such a group.
 */
bool hub_points(struct hub *hub, const char *group, bool timed, unsigned int most,
		void (*each)(void *data, const struct hub_point_info *p), void *data)
{
	struct group *g = hub_find(hub, group);
	struct hub_point_info *points = calloc(most, sizeof(*points));
	void *scratch = malloc(2 * (size_t)FRAME_MAX);
	unsigned int nr = 0, i;
	const struct segment *s;
	size_t at;
	uint32_t k;

	if (g && points && scratch) {
		pthread_mutex_lock(&g->lock);
		for (at = g->nr_segments; at-- > 0 && nr < most;) {
			s = g->segment[at];
			for (k = s->nr_records; k-- > 0 && nr < most;)
				if (s->first_id + k < g->durable.id && s->first_id + k + 1 >= g->floor)
					nr += fill_point(&points[nr], g, s, k, timed, scratch);
		}
		pthread_mutex_unlock(&g->lock);
		for (i = 0; i < nr; i++)
			each(data, &points[i]);
	}
	free(points);
	free(scratch);
	return g;
}
