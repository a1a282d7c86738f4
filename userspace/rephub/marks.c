// SPDX-License-Identifier: GPL-2.0-or-later
/* Places in a group's log that are of interest to a person. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/reason.h"
#include "engine.h"
#include "events.h"

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

/* What a mark is; its label is read. Return false for what is none. */
static bool fill_point(struct hub_point_info *p, const struct replay *names, const struct segment *s, uint32_t i,
		       void *scratch)
{
	const struct log_record *rec = &s->record[i];
	const struct log_frame *f = &s->frame[rec->frame];
	char error[SEGMENT_ERROR_MAX];
	int err;

	if (!words[rec->type])
		return false;
	*p = (struct hub_point_info){ f->incarnation, rec->seq, rec->time, words[rec->type], "", "" };
	switch (rec->type) {
	case REPAGENT_REC_CHECKPOINT:
		err = rec->len > sizeof(p->text) ? EBADMSG : segment_read(s, rec, p->text, scratch, error);
		if (err)
			snprintf(p->text, sizeof(p->text), err == ENOMEM ? "(its label cannot be read now)" : "(its label is damaged)");
		break;
	case REPAGENT_REC_GAP:
		snprintf(p->why, sizeof(p->why), "%s", reason_words((unsigned int)rec->aux));
		if (f->flags & REPLAY_JUMP && f->record == i)
			p->what = "lost";	/* records before it never came */
		break;
	case REPAGENT_REC_FAILED:
	case REPAGENT_REC_MAP_ERROR:
		snprintf(p->why, sizeof(p->why), "%s", strerror(rec->aux < 0 ? -rec->aux : rec->aux));
		snprintf(p->text, sizeof(p->text), "%s", names->volume[rec->slot].name);
		break;
	case REPAGENT_REC_SHUTDOWN:
		break;
	default:
		snprintf(p->text, sizeof(p->text), "%s", names->volume[rec->slot].name);
	}
	p->text[sizeof(p->text) - 1] = '\0';
	return true;
}

/* What is needed of a segment without the group's lock. */
struct held {
	struct segment *s;
	uint32_t nr_marks;
};

/* What became of a test. */
static void fill_tested(struct hub_point_info *p, const struct tested *m)
{
	*p = (struct hub_point_info){ m->incarnation, m->seq, m->time, "tested", "", "" };
	memcpy(p->text, m->text, sizeof(p->text));
}

/* All segments, the newest first, with what is durable of them, and the tests. */
static struct held *hold(struct group *g, size_t *nr, uint64_t *end, uint64_t *floor, struct replay *names,
			 struct tested **tested, size_t *nr_tested)
{
	struct held *held;
	size_t i;

	pthread_mutex_lock(&g->lock);
	*nr = g->nr_segments;
	held = calloc(*nr + 1, sizeof(*held));
	for (i = 0; held && i < *nr; i++) {
		struct segment *s = g->segment[*nr - 1 - i];

		segment_get(s);
		held[i] = (struct held){ s, s->nr_marks };
	}
	*end = g->durable.id;
	*floor = g->floor;
	*names = g->now;
	*nr_tested = scratch_marks(g, tested);
	pthread_mutex_unlock(&g->lock);
	return held;
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
	struct replay *names = malloc(sizeof(*names));
	void *scratch = malloc(FRAME_BODY_MAX);
	struct hub_point_info p;
	struct held *held = NULL;
	struct tested *tested = NULL;
	uint64_t end, floor;
	unsigned int nr = 0;
	size_t nr_held, nr_tested = 0, i;
	uint32_t k;

	if (g && names && scratch)
		held = hold(g, &nr_held, &end, &floor, names, &tested, &nr_tested);
	for (i = 0; held && i < nr_held; i++) {
		const struct segment *s = held[i].s;

		for (k = held[i].nr_marks; k-- > 0 && nr < most;) {
			uint64_t id = s->first_id + s->mark[k];

			for (; nr_tested && nr < most && tested[nr_tested - 1].id > id; nr_tested--, nr++) {
				fill_tested(&p, &tested[nr_tested - 1]);
				each(data, &p);
			}
			if (nr == most)
				break;
			if (id >= end || id + 1 < floor || (!timed && s->record[s->mark[k]].flags & RECORD_TIMED) ||
			    !fill_point(&p, names, s, s->mark[k], scratch))
				continue;
			each(data, &p);
			nr++;
		}
		segment_put(held[i].s);
	}
	for (; held && nr_tested && nr < most; nr_tested--, nr++) {
		fill_tested(&p, &tested[nr_tested - 1]);
		each(data, &p);
	}
	free(tested);
	free(held);
	free(scratch);
	free(names);
	return g;
}

/**
 * marks_note - the last segment has marks that nobody knew of: tell of them
 * @g: the group, locked
 * @from: the first of them, of the segment's
 */
void marks_note(const struct group *g, uint32_t from)
{
	const struct segment *s = hubgroup_last(g);
	void *scratch = malloc(FRAME_BODY_MAX);
	struct hub_point_info p;

	for (; scratch && from < s->nr_marks; from++) {
		if (s->record[s->mark[from]].flags & RECORD_TIMED || !fill_point(&p, &g->now, s, s->mark[from], scratch))
			continue;
		hubgroup_event(g, p.what, p.incarnation, p.seq, "%s%s%s", p.text, *p.text && *p.why ? ": " : "", p.why);
	}
	free(scratch);
}
