// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Epochs.
 *
 * A stock NBD server may carry out what is in flight in any order, and keeps
 * what it has answered in a volatile cache until a FLUSH.  Hence:
 *
 *   1. Two requests that overlap are never in flight together.
 *   2. A record is acknowledged only when a FLUSH was answered that was sent
 *      after all replies of that record and of all before it.
 *
 * Records are gathered in the open epoch.  When it is full, or there is
 * nothing more to be had, it is closed and the other one opens:
 *
 *	stage of the closed one	  leaves it when		   and then
 *	NONE			  the open one is closed	   DRAINING
 *	DRAINING		  its last reply is in: FLUSH	   FLUSHING
 *	FLUSHING		  its last flush is answered: ACK  NONE
 *
 * Requests of the open epoch go out meanwhile.  The FLUSH may cover some of
 * them as well, which does no harm: the ACK names the closed epoch's last
 * record, and rule 2 holds for that one.
 */
#include <string.h>

#include "epoch.h"

/**
 * inflight_overlaps - whether a range meets one that is in flight
 * @f: what is in flight
 * @start: the range's first byte
 * @end: the byte behind its last
 */
bool inflight_overlaps(const struct inflight *f, uint64_t start, uint64_t end)
{
	uint64_t left;

	for (left = f->used; left; left &= left - 1) {
		int i = __builtin_ctzll(left);

		if (f->start[i] < end && start < f->end[i])
			return true;
	}
	return false;
}

/**
 * inflight_add - note a request
 * @f: what is in flight
 * @start: its first byte
 * @end: the byte behind its last; @start for a request without a range
 *
 * Return: its index, or -1 when INFLIGHT_MAX are in flight.
 */
int inflight_add(struct inflight *f, uint64_t start, uint64_t end)
{
	int i;

	if (!~f->used)
		return -1;
	i = __builtin_ctzll(~f->used);
	f->used |= 1ULL << i;
	f->start[i] = start;
	f->end[i] = end;
	return i;
}

/**
 * inflight_del - forget a request that was answered
 * @f: what is in flight
 * @i: its index
 */
void inflight_del(struct inflight *f, int i)
{
	f->used &= ~(1ULL << i);
}

static struct epoch *open_one(struct epochs *e)
{
	return &e->epoch[e->open];
}

static struct epoch *closed_one(struct epochs *e)
{
	return &e->epoch[!e->open];
}

/**
 * epochs_init - begin, or begin anew after a failure
 * @e: both epochs, emptied
 * @limits: when one is full; may be those in @e
 */
void epochs_init(struct epochs *e, const struct epoch_limits *limits)
{
	struct epoch_limits keep = *limits;

	memset(e, 0, sizeof(*e));
	e->limits = keep;
}

static bool is_full(const struct epochs *e)
{
	const struct epoch *o = &e->epoch[e->open];

	return o->records >= e->limits.records || o->bytes >= e->limits.bytes;
}

/**
 * epochs_room - whether the open epoch takes another record
 * @e: the epochs
 */
bool epochs_room(const struct epochs *e)
{
	return !is_full(e);
}

/**
 * epochs_add - put the next record into the open epoch
 * @e: the epochs
 * @seq: its sequence number
 * @bytes: of its payload
 * @now: the time, ns
 */
void epochs_add(struct epochs *e, uint64_t seq, uint64_t bytes, uint64_t now)
{
	struct epoch *o = open_one(e);

	if (!o->last)
		o->opened = now;
	o->last = seq;
	o->records++;
	o->bytes += bytes;
}

/**
 * epochs_send - a request of the open epoch's newest record is sent
 * @e: the epochs
 * @volume: index of the volume it changes
 *
 * Return: the tag to give to epochs_reply().
 */
unsigned int epochs_send(struct epochs *e, unsigned int volume)
{
	open_one(e)->pending++;
	open_one(e)->touched |= 1ULL << volume;
	return e->open;
}

/**
 * epochs_reply - a request was answered
 * @e: the epochs
 * @tag: what epochs_send() returned
 */
void epochs_reply(struct epochs *e, unsigned int tag)
{
	e->epoch[tag].pending--;
}

/**
 * epochs_close - close the open epoch if it is time
 * @e: the epochs
 * @dry: no further record is to be had now
 * @now: the time, ns
 *
 * Must not be called while the newest record is only partly sent.
 *
 * Return: whether it was closed.
 */
bool epochs_close(struct epochs *e, bool dry, uint64_t now)
{
	const struct epoch *o = open_one(e);

	if (e->stage != EPOCH_NONE || !o->last)
		return false;
	if (!dry && !is_full(e) && now - o->opened < e->limits.ns)
		return false;
	e->open = !e->open;
	e->stage = EPOCH_DRAINING;
	return true;
}

/**
 * epochs_flush - ask whether the closed epoch is to be flushed
 * @e: the epochs
 * @touched: the volumes to be flushed, possibly none
 *
 * Return: true once per epoch, when its last reply is in.  One FLUSH per bit
 * of @touched is to be sent then.
 */
bool epochs_flush(struct epochs *e, uint64_t *touched)
{
	const struct epoch *c = closed_one(e);

	if (e->stage != EPOCH_DRAINING || c->pending)
		return false;
	*touched = c->touched;
	e->flushes = (unsigned int)__builtin_popcountll(c->touched);
	e->stage = EPOCH_FLUSHING;
	return true;
}

/**
 * epochs_flushed - one FLUSH of the closed epoch was answered
 * @e: the epochs
 */
void epochs_flushed(struct epochs *e)
{
	e->flushes--;
}

/**
 * epochs_done - ask what can be acknowledged
 * @e: the epochs
 *
 * Return: the closed epoch's last sequence number, once; 0 while it is not
 * durable yet.
 */
uint64_t epochs_done(struct epochs *e)
{
	struct epoch *c = closed_one(e);
	uint64_t seq = c->last;

	if (e->stage != EPOCH_FLUSHING || e->flushes)
		return 0;
	memset(c, 0, sizeof(*c));
	e->stage = EPOCH_NONE;
	return seq;
}

/**
 * epochs_idle - whether there is nothing that waits to be acknowledged
 * @e: the epochs
 */
bool epochs_idle(const struct epochs *e)
{
	return e->stage == EPOCH_NONE && !e->epoch[e->open].last;
}
