/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VERIFY records of the log tap, beside what a rephub has at their place in the stream (Documentation/sums.md). */
#ifndef REPAGENTD_COMPARE_H
#define REPAGENTD_COMPARE_H

#include "../common/sums.h"
#include "conn.h"
#include "verify.h"

#define COMPARE_CHECKS	(2 * VERIFY_CHUNKS)	/* some may be of a comparison that was stopped */
#define COMPARE_SUMS	(REPAGENT_MAX_VERIFY / SUMS_BLOCK)

/*
 *	state	 means						leaves it by		to
 *	OFF	 nothing is to be compared			a check is durable	CONNECT
 *	CONNECT	 the connection to the volume's sums is made	ready			IDLE
 *	IDLE	 it is there					a check is durable	WANT
 *	WANT	 the hub takes the sums at the check's place	done: they are read	READ
 *	READ	 ... and awaited				they are there: compared IDLE
 *
 * and from each by a fault, or a check of another volume, to OFF.
 */
enum compare_state { COMPARE_OFF, COMPARE_CONNECT, COMPARE_IDLE, COMPARE_WANT, COMPARE_READ };

/*
 * struct check - a record that was taken; @rec.seq 0: none. Its payload is gone.
 * @sum:	of its blocks
 */
struct check {
	struct record rec;
	uint8_t sum[COMPARE_SUMS][SUM_SIZE];
};

/*
 * struct compare
 * @verify:	is told what came of it
 * @volume:	whose sums the connection leads to, by its name
 * @now:	the check that is being compared
 * @answered:	the request of the state; @error: why not, or 0
 * @deadline:	of the state; in OFF: not to be tried before, ns
 */
struct compare {
	const struct config *cfg;
	struct loop *loop;
	struct stream *stream;
	struct verify *verify;
	enum compare_state state;
	struct conn conn;
	char volume[REPAGENT_NAME_MAX + 1];
	struct check check[COMPARE_CHECKS], *now;
	bool answered;
	int error;
	uint64_t deadline;
	uint8_t want[SUMS_WANT];
	uint8_t got[COMPARE_SUMS][SUM_SIZE];
};

void compare_add(struct compare *c, const struct record *rec);
void compare_run(struct compare *c, uint64_t durable);
void compare_drop(struct compare *c);
void compare_resized(struct compare *c);
uint64_t compare_deadline(const struct compare *c);

#endif /* REPAGENTD_COMPARE_H */
