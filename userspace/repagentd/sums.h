/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta resync: what a rephub has of a volume need not be sent (Documentation/sums.md). */
#ifndef REPAGENTD_SUMS_H
#define REPAGENTD_SUMS_H

#include "../common/sums.h"
#include "conn.h"
#include "stream.h"

#define SUMS_RUNS	4	/* stretches of sums that are there, or on their way */
#define SUMS_RUN	256u	/* sums of the longest: 16 MiB of the volume */

/*
 *	state	  means					leaves it by			to
 *	OFF	  no resync				sums_begin()			WAIT
 *	WAIT	  the place from which on all passes	it is durable at the hub	CONNECT
 *		  us is not known to be at the hub
 *	CONNECT	  the connection is made		ready: the header is read	HEADER
 *	HEADER	  ... and awaited			it is right			READY
 *	READY	  sums are read as they are needed	a minute has gone		HEADER
 *	FAILED	  what is read again is all sent	after a while			CONNECT
 *
 * and from all but OFF and WAIT by any fault to FAILED, and from each by sums_end() to OFF.
 * In HEADER, when the sums were taken before, they go on to be used.
 */
enum sums_state { SUMS_OFF, SUMS_WAIT, SUMS_CONNECT, SUMS_HEAD, SUMS_READY, SUMS_FAILED };

/* What sums_compare() says of a record. */
enum sums_verdict {
	SUMS_SEND,	/* send it; perhaps it was cut */
	SUMS_SAME,	/* the hub has all of it */
	SUMS_LATER,	/* that is not known yet */
};

enum run_state { RUN_FREE, RUN_ASKED, RUN_THERE, RUN_BAD };

/*
 * struct run - sums of blocks from @first on, @nr of them
 * RUN_BAD: they could not be read, so nothing there is the same
 */
struct run {
	enum run_state state;
	uint64_t first;
	unsigned int nr;
	uint8_t sum[SUMS_RUN][SUM_SIZE];
};

/*
 * struct sums_of_whom - what the sums have to be of; the texts outlive the sums
 * @hub, @group_uuid: of the session
 */
struct sums_of_whom {
	const struct config *cfg;
	struct loop *loop;
	uint8_t hub[16], group_uuid[16];
	uint64_t incarnation;
	char volume[REPAGENT_NAME_MAX + 1];
};

/*
 * struct sums - of a volume, for one resync within one session
 * @id:		of the volume
 * @blocks:	of the volume; @touched: a bit each: a record that was sent since @floor touches it
 * @floor:	from behind this record on, all that changes the replica was seen
 * @deadline:	of the state, ns
 * @taken:	the header was right, once
 * @got:	the header was answered; @error: why not, or 0
 * @next, @ask:	where reading ahead goes on, and by how many sums; @end: of the stretch that was used
 *		last; @straight: the one behind it was used, too
 * @looked, @same: blocks that were compared of late, and those that were the same; @blind: so
 *		many are not compared, for it is not worth it
 * @told:	that there are none was said
 * @left_out:	bytes that were not sent
 */
struct sums {
	struct sums_of_whom of;
	enum sums_state state;
	uint16_t id;
	uint64_t blocks;
	uint8_t *touched;
	uint64_t floor;
	uint64_t deadline;
	struct conn conn;
	unsigned char block[SUMS_HEADER];
	struct sums_header header;
	bool taken, got, told;
	int error;
	struct run run[SUMS_RUNS];
	uint64_t next, end;
	unsigned int ask;
	bool straight;
	unsigned int looked, same, blind;
	uint64_t left_out;
};

bool sums_begin(struct sums *s, const struct sums_of_whom *of, uint16_t id, uint64_t bytes, uint64_t floor);
void sums_end(struct sums *s);
void sums_touch(struct sums *s, uint64_t offset, uint64_t length);
enum sums_verdict sums_compare(struct sums *s, struct record *rec);
void sums_give_up(struct sums *s, const char *why);
void sums_run(struct sums *s, uint64_t durable);
void sums_tick(struct sums *s);
uint64_t sums_deadline(const struct sums *s);

#endif /* REPAGENTD_SUMS_H */
