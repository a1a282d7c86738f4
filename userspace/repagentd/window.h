/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has become of the requests of a volume that is answered from the hub.  Pure
 * bookkeeping: no I/O happens here.
 */
#ifndef REPAGENT_WINDOW_H
#define REPAGENT_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_BEGUN_MAX 64	/* changes that may be under way */
#define WINDOW_HELD_MAX	512	/* requests that wait for a flush */

/*
 * struct window - the requests between what the kernel was told of and what is next.
 * @state:	of each, at seq % @nr; see window.c
 * @acked:	the kernel has let go of all up to it
 * @next:	the first that was not begun
 * @answered:	all up to it are answered
 * @written:	no change of the disk up to it is under way
 * @durable:	all changes up to it are durable at the hub
 * @settled:	all up to it are done with
 * @covers:	what the flush that is under way will make durable
 * @flushing:	one is
 * @dirty:	a change was made since a flush was sent
 * @dirty_since: when the first of these was made, ns
 * @held:	flushes, and writes with FUA that were made, @nr_held of them
 */
struct window {
	uint8_t *state;
	uint32_t nr;
	uint64_t acked;
	uint64_t next;
	uint64_t answered;
	uint64_t written;
	uint64_t durable;
	uint64_t settled;
	uint64_t covers;
	bool flushing;
	bool dirty;
	uint64_t dirty_since;
	unsigned int nr_held;
	uint64_t held[WINDOW_HELD_MAX];
};

bool window_init(struct window *w, uint32_t nr);
void window_exit(struct window *w);
void window_rewind(struct window *w, uint64_t acked);
void window_begin(struct window *w, bool change);
void window_skip(struct window *w);
void window_hold_flush(struct window *w);
bool window_made(struct window *w, uint64_t seq, bool fua, uint64_t now);
bool window_has_room(const struct window *w);
void window_answered(struct window *w, uint64_t seq);
bool window_wants_flush(const struct window *w, bool soon);
void window_flush_sent(struct window *w);
void window_flush_done(struct window *w);
bool window_release(struct window *w, uint64_t *seq);
uint64_t window_ack(struct window *w);

#endif /* REPAGENT_WINDOW_H */
