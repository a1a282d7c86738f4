// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which requests of the VM are answered, durable, and done with.
 *
 * A request goes through
 *
 *	begun ──► answered			a read
 *	begun ──► made and answered		a change of the disk
 *	begun ──► made ──► held ──► answered	... with FUA: a flush comes between
 *	held ──► answered			a flush
 *
 * A flush of the hub covers the changes that were made before it was sent.  So
 * that one number says which these are, it covers all up to the first change that
 * is still under way (@written).  What is answered, and durable if it is a change,
 * is done with: the kernel may let it go (window_ack()).
 */
#include <stdlib.h>
#include <string.h>

#include "window.h"

enum {
	CHANGE		= 1 << 0,	/* of the disk: must become durable */
	MADE		= 1 << 1,
	ANSWERED	= 1 << 2,
	FLUSH		= 1 << 3,
};

static uint8_t *state_of(const struct window *w, uint64_t seq)
{
	return &w->state[seq & (w->nr - 1)];
}

/**
 * window_init - make one that is empty
 * @w: the window
 * @nr: requests it can hold; a power of two
 *
 * Return: false without memory.
 */
bool window_init(struct window *w, uint32_t nr)
{
	memset(w, 0, sizeof(*w));
	w->nr = nr;
	w->state = calloc(nr, 1);
	return w->state;
}

/**
 * window_exit - free it
 * @w: the window, or zeroes
 */
void window_exit(struct window *w)
{
	free(w->state);
	w->state = NULL;
}

/**
 * window_rewind - begin again behind what the kernel has let go of
 * @w: the window
 * @acked: the last of that
 *
 * What was under way, or made and not yet durable, must be sent again.
 */
void window_rewind(struct window *w, uint64_t acked)
{
	w->acked = w->answered = w->written = w->durable = w->settled = acked;
	w->next = acked + 1;
	w->flushing = w->dirty = false;
	w->nr_held = 0;
}

/* What is behind the pointers may have ended before what is at them. */
static void advance(struct window *w)
{
	uint8_t s;

	while (w->written + 1 < w->next) {
		s = *state_of(w, w->written + 1);
		if ((s & CHANGE) && !(s & MADE))
			break;
		w->written++;
	}
	while (w->answered + 1 < w->next && *state_of(w, w->answered + 1) & ANSWERED)
		w->answered++;
	/* Where nothing was changed there is nothing to be made durable. */
	if (!w->dirty && !w->flushing)
		w->durable = w->written;
}

/**
 * window_begin - the next request is on its way
 * @w: the window, which has room
 * @change: it changes the disk
 */
void window_begin(struct window *w, bool change)
{
	*state_of(w, w->next++) = change ? CHANGE : 0;
	advance(w);
}

/**
 * window_skip - the next request was answered long ago
 * @w: the window, which has room
 */
void window_skip(struct window *w)
{
	*state_of(w, w->next++) = ANSWERED;
	advance(w);
}

/**
 * window_has_room - may a request be begun, skipped or held?
 * @w: the window
 */
bool window_has_room(const struct window *w)
{
	return w->next - w->acked < w->nr && w->nr_held + WINDOW_BEGUN_MAX < WINDOW_HELD_MAX;
}

/**
 * window_hold_flush - the next request is a flush
 * @w: the window, which has room
 *
 * It is held until what was changed before is durable.
 */
void window_hold_flush(struct window *w)
{
	w->held[w->nr_held++] = w->next;
	*state_of(w, w->next++) = FLUSH;
	advance(w);
}

/**
 * window_made - the hub has carried out a change
 * @w: the window
 * @seq: the request
 * @fua: it is to be durable before it is answered
 * @now: ns
 *
 * Return: whether it can be answered now.
 */
bool window_made(struct window *w, uint64_t seq, bool fua, uint64_t now)
{
	*state_of(w, seq) |= MADE;
	if (!w->dirty)
		w->dirty_since = now;
	w->dirty = true;
	if (fua)
		w->held[w->nr_held++] = seq;	/* window_has_room() left a place for it */
	advance(w);
	return !fua;
}

/**
 * window_answered - the kernel has the answer
 * @w: the window
 * @seq: to this request
 */
void window_answered(struct window *w, uint64_t seq)
{
	*state_of(w, seq) |= ANSWERED;
	advance(w);
}

static uint64_t needs(const struct window *w, uint64_t seq)
{
	return *state_of(w, seq) & FLUSH ? seq - 1 : seq;
}

/**
 * window_wants_flush - is a flush to be sent?
 * @w: the window
 * @soon: there is a reason beside what is held
 */
bool window_wants_flush(const struct window *w, bool soon)
{
	unsigned int i;

	if (w->flushing || !w->dirty)
		return false;
	for (i = 0; i < w->nr_held && !soon; i++)
		soon = needs(w, w->held[i]) > w->durable && needs(w, w->held[i]) <= w->written;
	return soon;
}

/**
 * window_flush_sent - a flush is on its way
 * @w: the window
 */
void window_flush_sent(struct window *w)
{
	w->flushing = true;
	w->dirty = false;
	w->covers = w->written;
}

/**
 * window_flush_done - the hub has answered it
 * @w: the window
 */
void window_flush_done(struct window *w)
{
	w->flushing = false;
	w->durable = w->covers;
	advance(w);
}

/**
 * window_release - which of those that are held can be answered?
 * @w: the window
 * @seq: out: the first of them; it is not held any more. In their order: the kernel takes what comes before an
 *	answered flush for durable, and does not send it again
 *
 * Return: false if there is none.
 */
bool window_release(struct window *w, uint64_t *seq)
{
	unsigned int i, first = w->nr_held;

	for (i = 0; i < w->nr_held; i++)
		if (needs(w, w->held[i]) <= w->durable && (first == w->nr_held || w->held[i] < w->held[first]))
			first = i;
	if (first == w->nr_held)
		return false;
	*seq = w->held[first];
	w->held[first] = w->held[--w->nr_held];
	return true;
}

/**
 * window_ack - how far is all done with?
 * @w: the window
 *
 * Return: the last request that the kernel may let go of; it is to be told.
 */
uint64_t window_ack(struct window *w)
{
	while (w->settled < w->answered &&
	       (w->settled + 1 <= w->durable || !(*state_of(w, w->settled + 1) & CHANGE)))
		w->settled++;
	return w->settled;
}
