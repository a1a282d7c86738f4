/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may be sent, flushed and acknowledged when the server reorders what is
 * in flight.  Pure planning: no I/O happens here.
 */
#ifndef REPAGENT_EPOCH_H
#define REPAGENT_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * libnbd searches what is in flight linearly, and so do we: a bit mask of one
 * word is all that is needed.
 */
#define INFLIGHT_MAX	64

/*
 * struct inflight - the requests under way on one connection.
 * @used:	bit i: entry i is one
 * @start, @end: its range in bytes; empty for a flush
 */
struct inflight {
	uint64_t used;
	uint64_t start[INFLIGHT_MAX];
	uint64_t end[INFLIGHT_MAX];
};

bool inflight_overlaps(const struct inflight *f, uint64_t start, uint64_t end);
int inflight_add(struct inflight *f, uint64_t start, uint64_t end);
void inflight_del(struct inflight *f, int i);

/* When an epoch is full; each at least 1. */
struct epoch_limits {
	uint64_t records;
	uint64_t bytes;
	uint64_t ns;
};

/*
 * struct epoch - records that are flushed and acknowledged together.
 * @last:	the last record's sequence number; 0: the epoch is empty
 * @records, @bytes: how much it holds
 * @opened:	when its first record came, ns
 * @pending:	requests without a reply
 * @touched:	bit v: the volume at index v was written to
 */
struct epoch {
	uint64_t last;
	uint64_t records;
	uint64_t bytes;
	uint64_t opened;
	uint64_t pending;
	uint64_t touched;
};

/* What becomes of the closed epoch. */
enum epoch_stage {
	EPOCH_NONE,		/* there is none */
	EPOCH_DRAINING,		/* its replies are awaited */
	EPOCH_FLUSHING,		/* ... and now those of its flushes */
};

/*
 * struct epochs - two at a time: the open one takes records while the closed
 * one is made durable.
 * @epoch:	both
 * @open:	index of the open one; the other is the closed one
 * @stage:	of the closed one
 * @flushes:	replies it still awaits when FLUSHING
 */
struct epochs {
	struct epoch_limits limits;
	struct epoch epoch[2];
	unsigned int open;
	enum epoch_stage stage;
	unsigned int flushes;
};

void epochs_init(struct epochs *e, const struct epoch_limits *limits);
bool epochs_room(const struct epochs *e);
void epochs_add(struct epochs *e, uint64_t seq, uint64_t bytes, uint64_t now);
unsigned int epochs_send(struct epochs *e, unsigned int volume);
void epochs_reply(struct epochs *e, unsigned int tag);
bool epochs_close(struct epochs *e, bool dry, uint64_t now);
bool epochs_flush(struct epochs *e, uint64_t *touched);
void epochs_flushed(struct epochs *e);
uint64_t epochs_done(struct epochs *e);
bool epochs_idle(const struct epochs *e);

#endif /* REPAGENT_EPOCH_H */
