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

struct sums {
	uint64_t dirty, left, total;	/* bytes */
	unsigned int resyncing, torn;	/* volumes */
};

static struct sums add_up(const struct stream *s, const struct report *rep)
{
	struct sums sum = { 0 };
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &s->volume[i].info;

		if (!v->id)
			continue;
		sum.dirty += v->dirty << 9;
		sum.torn += v->image != REPAGENT_IMAGE_CLEAN;
		if (v->image != REPAGENT_IMAGE_RESYNC)
			continue;
		sum.left += v->resync_left << 9;
		sum.total += rep->volume[i].total;
		sum.resyncing++;
	}
	return sum;
}

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

static int progress_text(struct stats *st, char *buf, size_t size,
			 const struct sums *sum, uint64_t passed)
{
	double rate = per_second(growth(st->left, sum->left), passed);
	char left[HUMAN_MAX], eta[HUMAN_MAX];

	st->resync_rate = st->resync_rate > 0 ? st->resync_rate * 0.7 + rate * 0.3 : rate;
	st->left = sum->left;
	if (!sum->total)
		return snprintf(buf, size, "  resync begins");
	snprintf(eta, sizeof(eta), "?");
	if (st->resync_rate >= 1)
		human_duration(eta, (uint64_t)((double)sum->left / st->resync_rate * 1e9));
	return snprintf(buf, size, "  resync %5.1f %%, %s left, %s to go",
			100.0 * (double)growth(sum->total, sum->left) / (double)sum->total,
			human_size(left, sum->left), eta);
}

/**
 * stats_line - make the status line and start counting anew
 * @st: the counters
 * @line: STATS_LINE_MAX bytes for the line, without a newline
 * @s: the stream, refreshed
 * @tap: its tap
 * @rep: what is known of the states' ages
 * @now: the time, ns of CLOCK_MONOTONIC
 */
void stats_line(struct stats *st, char *line, const struct stream *s,
		const struct tap *tap, const struct report *rep, uint64_t now)
{
	uint64_t passed = growth(now, st->time);
	uint64_t in = growth(s->produced, st->produced);
	uint64_t out = growth(s->settled, st->settled);
	struct sums sum = add_up(s, rep);
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
		     human_size(in_text, (uint64_t)per_second(in, passed)),
		     per_second(growth(s->info.head, st->head), passed),
		     human_size(out_text, (uint64_t)per_second(out, passed)),
		     per_second(growth(s->acked, st->acked), passed),
		     human_size(lag, growth(s->produced, s->settled) + sum.dirty),
		     human_duration(age, lag_time(s, rep, now)));
	if (n > 0 && n < STATS_LINE_MAX) {
		if (sum.resyncing)
			n += progress_text(st, line + n, (size_t)(STATS_LINE_MAX - n), &sum, passed);
		else if (sum.torn)
			n += snprintf(line + n, (size_t)(STATS_LINE_MAX - n), "  resync owed");
		else
			n += snprintf(line + n, (size_t)(STATS_LINE_MAX - n), "  %s",
				      s->produced > s->settled ? "behind" : "in sync");
	}
	if (!sum.resyncing)
		st->resync_rate = 0;
	if (!tap->connected && n > 0 && n < STATS_LINE_MAX)
		snprintf(line + n, (size_t)(STATS_LINE_MAX - n), "  (%s)", tap->why);
	stats_begin(st, s, now);
}
