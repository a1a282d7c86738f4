// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One line that a person takes in at a glance: the columns keep their places.
 *
 *	vm0  streaming  hub up    in   12.3 MiB/s   3150/s  out   12.3 MiB/s   3149/s  lag   1.2 MiB   60 ms
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../common/parse.h"
#include "stats.h"

#define SHORTEST	(50 * NSEC_PER_MSEC)	/* that a rate is taken of */

static uint64_t growth(uint64_t new, uint64_t old)
{
	return new > old ? new - old : 0;
}

static double per_second(uint64_t n, uint64_t ns)
{
	return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* How far the hub is behind in time: the age of what it lacks longest. */
static uint64_t lag_time(const struct stream *s, const struct report *rep, uint64_t now)
{
	struct timespec ts;
	uint64_t oldest = stream_oldest_time(s), real;

	if (s->info.capture != REPAGENT_CAPTURE_STREAM)
		return growth(now, rep->capture_since);
	clock_gettime(CLOCK_REALTIME, &ts);
	real = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	return oldest ? growth(real, oldest) : 0;
}

/**
 * stats_begin - start counting
 * @st: the counters
 * @s: the stream, refreshed
 * @now: the time, ns of CLOCK_MONOTONIC
 */
void stats_begin(struct stats *st, const struct stream *s, uint64_t now)
{
	st->time = now;
	st->head = s->info.head;
	st->acked = s->acked;
	st->produced = s->produced;
	st->settled = s->settled;
}

/**
 * stats_lag - how far the hub is behind, and the resyncs
 * @f: out: these; what is a rate stays as it is
 * @s: the stream, refreshed
 * @rep: what is known of the states' ages
 * @now: the time, ns of CLOCK_MONOTONIC
 */
void stats_lag(struct figures *f, const struct stream *s, const struct report *rep,
	       uint64_t now)
{
	unsigned int i;

	f->lag_bytes = growth(s->produced, s->settled);
	f->lag_records = growth(s->info.head, s->acked + 1);
	f->lag_ns = lag_time(s, rep, now);
	f->left = f->total = 0;
	f->resyncing = f->torn = 0;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &s->volume[i].info;

		if (!v->id)
			continue;
		f->lag_bytes += v->dirty << 9;
		f->torn += v->image != REPAGENT_IMAGE_CLEAN;
		if (v->image != REPAGENT_IMAGE_RESYNC)
			continue;
		f->left += v->resync_left << 9;
		f->total += rep->volume[i].total;
		f->resyncing++;
	}
}

/**
 * stats_take - work out the figures, and start counting anew; where too little time has passed for a rate, only the lag
 * @st: the counters
 * @f: in and out, for rates are smoothed
 * @s: the stream, refreshed
 * @rep: what is known of the states' ages
 * @now: the time, ns of CLOCK_MONOTONIC
 */
void stats_take(struct stats *st, struct figures *f, const struct stream *s,
		const struct report *rep, uint64_t now)
{
	uint64_t passed = growth(now, st->time);
	double rate;

	stats_lag(f, s, rep, now);
	if (passed < SHORTEST)
		return;
	f->in_bytes = per_second(growth(s->produced, st->produced), passed);
	f->in_records = per_second(growth(s->info.head, st->head), passed);
	f->out_bytes = per_second(growth(s->settled, st->settled), passed);
	f->out_records = per_second(growth(s->acked, st->acked), passed);
	rate = per_second(growth(st->left, f->left), passed);
	f->resync_rate = f->resync_rate > 0 ? f->resync_rate * 0.7 + rate * 0.3 : rate;
	if (!f->resyncing)
		f->resync_rate = 0;
	st->left = f->left;
	stats_begin(st, s, now);
}

static int progress_text(const struct figures *f, char *buf, size_t size)
{
	char left[HUMAN_MAX], eta[HUMAN_MAX];

	if (!f->total)
		return snprintf(buf, size, "  resync begins");
	snprintf(eta, sizeof(eta), "?");
	if (f->resync_rate >= 1)
		human_duration(eta, (uint64_t)((double)f->left / f->resync_rate * 1e9));
	return snprintf(buf, size, "  resync %5.1f %%, %s left, %s to go",
			100.0 * (double)growth(f->total, f->left) / (double)f->total,
			human_size(left, f->left), eta);
}

/**
 * stats_line - make the status line
 * @f: the figures
 * @line: STATS_LINE_MAX bytes for the line, without a newline
 * @s: the stream, refreshed
 * @tap: its tap
 */
void stats_line(const struct figures *f, char *line, const struct stream *s,
		const struct tap *tap)
{
	char in_text[HUMAN_MAX], out_text[HUMAN_MAX], lag[HUMAN_MAX], age[HUMAN_MAX];
	char state[64];
	int n;

	if (s->info.capture == REPAGENT_CAPTURE_STREAM || !s->info.reason)
		snprintf(state, sizeof(state), "%s", capture_word(s->info.capture));
	else
		snprintf(state, sizeof(state), "%s: %s", capture_word(s->info.capture),
			 reason_words(s->info.reason));

	n = snprintf(line, STATS_LINE_MAX,
		     "%-8s %-20s hub %-4s  in %9s/s %6.0f/s  out %9s/s %6.0f/s  lag %9s %7s",
		     s->info.group, state, tap->connected ? "up" : "down",
		     human_size(in_text, (uint64_t)f->in_bytes), f->in_records,
		     human_size(out_text, (uint64_t)f->out_bytes), f->out_records,
		     human_size(lag, f->lag_bytes), human_duration(age, f->lag_ns));
	if (n > 0 && n < STATS_LINE_MAX) {
		if (f->resyncing)
			n += progress_text(f, line + n, (size_t)(STATS_LINE_MAX - n));
		else if (f->torn)
			n += snprintf(line + n, (size_t)(STATS_LINE_MAX - n), "  resync owed");
		else
			n += snprintf(line + n, (size_t)(STATS_LINE_MAX - n), "  %s",
				      s->produced > s->settled ? "behind" : "in sync");
	}
	if (!tap->connected && n > 0 && n < STATS_LINE_MAX)
		snprintf(line + n, (size_t)(STATS_LINE_MAX - n), "  (%s)", tap->why);
}
