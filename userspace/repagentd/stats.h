/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The status line. */
#ifndef REPAGENT_STATS_H
#define REPAGENT_STATS_H

#include "report.h"
#include "tap.h"

#define STATS_LINE_MAX	1024

/*
 * struct stats - counters as they were when the last line was made.
 * @head, @acked, @produced, @settled: of the stream
 * @left:	bytes left to resync
 * @resync_rate: of the resync, bytes a second, smoothed
 */
struct stats {
	uint64_t time;
	uint64_t head, acked, produced, settled;
	uint64_t left;
	double resync_rate;
};

void stats_begin(struct stats *st, const struct stream *s, uint64_t now);
void stats_line(struct stats *st, char *line, const struct stream *s,
		const struct tap *tap, const struct report *rep, uint64_t now);

#endif /* REPAGENT_STATS_H */
