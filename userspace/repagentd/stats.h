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
 */
struct stats {
	uint64_t time;
	uint64_t head, acked, produced, settled;
	uint64_t left;
};

/*
 * struct figures - what a status shows, worked out.
 * @in_bytes ...: a second: into the ring, and acknowledged
 * @lag_bytes, @lag_records, @lag_ns: what the hub lacks: in the ring and dirty;
 *		in the ring; the age of what it lacks longest
 * @left, @total: bytes of the resyncs under way
 * @resyncing, @torn: volumes that are resynced; whose image is not clean
 * @resync_rate: bytes a second, smoothed; 0: not known yet
 */
struct figures {
	double in_bytes, in_records;
	double out_bytes, out_records;
	uint64_t lag_bytes, lag_records, lag_ns;
	uint64_t left, total;
	unsigned int resyncing, torn;
	double resync_rate;
};

void stats_lag(struct figures *f, const struct stream *s, const struct report *rep,
	       uint64_t now);
void stats_take(struct stats *st, struct figures *f, const struct stream *s,
		const struct report *rep, uint64_t now);
void stats_begin(struct stats *st, const struct stream *s, uint64_t now);
void stats_line(const struct figures *f, char *line, const struct stream *s,
		const struct tap *tap);

#endif /* REPAGENT_STATS_H */
