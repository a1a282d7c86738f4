// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Points: from a person's words to a place in the log.  All of it is about what is
 * durable and what is not yet folded; the group is locked.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

static bool number(const char *s, uint64_t *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	*v = strtoull(s, &end, 0);
	return !*end;
}

/* As it is shown, 16 hexadecimal digits; or as any number. */
static bool incarnation_of(const char *s, uint64_t *v)
{
	char *end;

	if (strlen(s) != 16)
		return number(s, v);
	*v = strtoull(s, &end, 16);
	return !*end && strspn(s, "0123456789abcdefABCDEF") == 16;
}

/* 2026-11-25T22:41:07Z, perhaps with a fraction; or seconds since the epoch, with or without one. */
static bool parse_time(const char *s, uint64_t *ns)
{
	uint64_t fraction = 0, unit = 100000000;
	bool seconds = !strncmp(s, "time:", 5);
	struct tm tm = { 0 };
	char *end;
	time_t t;

	if (seconds) {
		s += 5;
		if (*s < '0' || *s > '9')
			return false;
		t = (time_t)strtoull(s, &end, 10);
	} else {
		end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
		if (!end)
			return false;
		t = timegm(&tm);
	}
	if (*end == '.')
		for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10)
			fraction += (uint64_t)(*end - '0') * unit;
	if (!seconds && *end == 'Z')
		end++;
	if (*end || t < 0 || t > 18000000000)
		return false;
	*ns = (uint64_t)t * 1000000000 + fraction;
	return true;
}

/* How many records come up to this number, in the last frame of its incarnation that begins at or before. */
static bool find_position(const struct group *g, uint64_t incarnation, uint64_t seq, uint64_t *id, char *reason)
{
	const struct log_frame *f = NULL, *later = NULL;
	const struct segment *s = NULL;
	size_t i = g->nr_segments;
	uint32_t k, low, high;

	while (i-- > 0 && !f) {
		s = g->segment[i];
		/* Frames of an incarnation are together, and rise. */
		for (k = s->nr_frames; k-- > 0 && !f;) {
			const struct log_frame *at = &s->frame[k];

			if (at->incarnation != incarnation)
				continue;
			if (at->first <= seq)
				f = at;
			else
				later = at;
		}
	}
	if (!f && g->segment[0]->begin.incarnation == incarnation && g->segment[0]->begin.seq == seq) {
		*id = g->segment[0]->first_id;	/* the base, and nothing of the journal */
		return true;
	}
	if (!f) {
		snprintf(reason, HUB_REASON_MAX, later ? "position %016" PRIx64 ":%" PRIu64
			 ": it is older than what is kept" : "position %016" PRIx64 ":%" PRIu64
			 ": the log has nothing of that incarnation", incarnation, seq);
		return false;
	}
	if (seq > f->last) {
		snprintf(reason, HUB_REASON_MAX, "position %016" PRIx64 ":%" PRIu64 ": %s %" PRIu64, incarnation, seq,
			 later ? "it was never received; before it is" : "the log of that incarnation ends at",
			 f->last);
		return false;
	}
	for (low = f->record, high = f->record + f->nr_records; low < high;) {
		k = low + (high - low) / 2;
		if (s->record[k].seq <= seq)
			low = k + 1;
		else
			high = k;
	}
	*id = s->first_id + low;
	return true;
}

/* Up to the last record that is not later. */
static bool find_time(const struct group *g, uint64_t time, uint64_t *id, char *reason)
{
	const struct segment *s;
	size_t i = g->nr_segments;
	bool later = false;
	uint32_t k;

	while (i-- > 0) {
		s = g->segment[i];
		if (!s->nr_records)
			continue;
		if (s->first_time > time) {
			later = true;
			continue;
		}
		for (k = s->nr_records; k-- > 0;) {
			if (s->first_id + k >= g->durable.id)
				continue;
			if (s->record[k].time > time) {
				later = true;
				continue;
			}
			if (!later)
				goto ahead;
			*id = s->first_id + k + 1;
			return true;
		}
	}
	if (later) {
		snprintf(reason, HUB_REASON_MAX, "that time is before the oldest point that is kept");
		return false;
	}
ahead:
	snprintf(reason, HUB_REASON_MAX, "the log has not come to that time yet: expected an earlier one, or latest");
	return false;
}

static bool find_label(const struct group *g, const char *label, uint64_t *id, char *reason)
{
	char text[REPAGENT_LABEL_MAX + 1], error[SEGMENT_ERROR_MAX];
	const struct segment *s;
	size_t i = g->nr_segments;
	void *scratch = malloc(FRAME_BODY_MAX);
	uint16_t timed = strcmp(label, SEGMENT_TIMED) ? 0 : RECORD_TIMED;
	bool found = false;
	uint32_t k;
	int err = scratch ? 0 : ENOMEM;

	snprintf(error, sizeof(error), "%s", strerror(err));
	while (!err && i-- > 0 && !found) {
		s = g->segment[i];
		for (k = s->nr_marks; !err && k-- > 0 && !found;) {
			const struct log_record *rec = &s->record[s->mark[k]];

			if (rec->type != REPAGENT_REC_CHECKPOINT || rec->flags != timed ||
			    s->first_id + s->mark[k] >= g->durable.id || rec->len > sizeof(text))
				continue;
			err = segment_read(s, rec, text, scratch, error);
			found = !err && !strcmp(text, label);
			/* One that cannot be read now may be the one; one that is damaged can never be had. */
			if (err == EBADMSG)
				err = 0;
			*id = s->first_id + s->mark[k] + 1;
		}
	}
	free(scratch);
	if (err)
		snprintf(reason, HUB_REASON_MAX, "the labels cannot be read: %.130s", error);
	else if (!found)
		snprintf(reason, HUB_REASON_MAX, "'%.64s': there is no checkpoint with this label, and it is no other kind of point",
			 label);
	return found;
}

/**
 * point_find - find a point
 * @g: the group, locked
 * @point: latest, SEQ, INCARNATION:SEQ, time:SECONDS, YYYY-MM-DDTHH:MM:SS[.fraction][Z], label:LABEL, or LABEL
 * @id: out: so many of the group's records come before it
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: whether it can be had.
 */
bool point_find(const struct group *g, const char *point, uint64_t *id, char *reason)
{
	const char *colon = strchr(point, ':');
	uint64_t seq, incarnation = g->durable.incarnation, time;
	char first[24] = "";
	bool ok;

	if (colon && colon - point < (ptrdiff_t)sizeof(first)) {
		memcpy(first, point, (size_t)(colon - point));
		first[colon - point] = '\0';
	}
	if (!strcmp(point, "latest")) {
		*id = hubgroup_latest(g);
		ok = true;
	} else if (number(point, &seq) || (colon && incarnation_of(first, &incarnation) && number(colon + 1, &seq))) {
		ok = find_position(g, incarnation, seq, id, reason);
	} else if (parse_time(point, &time)) {
		ok = find_time(g, time, id, reason);
	} else {
		ok = find_label(g, strncmp(point, "label:", 6) ? point : point + 6, id, reason);
	}
	if (ok && *id > g->durable.id) {
		snprintf(reason, HUB_REASON_MAX, "'%.64s': it is not durable yet", point);
		return false;
	}
	if (ok && *id < g->floor) {
		snprintf(reason, HUB_REASON_MAX, "'%.64s': it is older than what is kept", point);
		return false;
	}
	return ok;
}

/**
 * point_of - the point right behind a record
 * @g: the group, locked
 * @incarnation: of the record
 * @seq: its number
 * @id: out: so many of the group's records come before the point
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: whether it is there.
 */
bool point_of(const struct group *g, uint64_t incarnation, uint64_t seq, uint64_t *id, char *reason)
{
	return find_position(g, incarnation, seq, id, reason);
}

/**
 * point_position - what the last record before a point is
 * @g: the group, locked
 * @id: so many records come before the point
 * @incarnation: out
 * @seq: out
 * @time: out; 0 where no record is left that says so
 */
void point_position(const struct group *g, uint64_t id, uint64_t *incarnation, uint64_t *seq, uint64_t *time)
{
	const struct segment *s = hubgroup_at(g, id);
	const struct log_record *rec;

	if (id <= s->first_id || id > s->first_id + s->nr_records) {
		*incarnation = s->begin.incarnation;
		*seq = s->begin.seq;
		*time = 0;
		return;
	}
	rec = &s->record[id - s->first_id - 1];
	*incarnation = s->frame[rec->frame].incarnation;
	*seq = rec->seq;
	*time = rec->time;
}
