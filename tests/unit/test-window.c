// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/repagentd/window.h"

static void test_read(void **state)
{
	struct window w;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 0);
	window_begin(&w, false);
	window_begin(&w, false);
	assert_int_equal(window_ack(&w), 0);
	window_answered(&w, 2);
	assert_int_equal(window_ack(&w), 0);
	window_answered(&w, 1);
	assert_int_equal(window_ack(&w), 2);
	assert_false(window_wants_flush(&w, true));
	window_exit(&w);
}

/* A change is answered at once, and kept until a flush that was sent behind it is answered. */
static void test_kept_until_flushed(void **state)
{
	struct window w;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 0);
	window_begin(&w, true);
	window_begin(&w, true);
	assert_true(window_made(&w, 2, false, 1));
	window_answered(&w, 2);
	assert_true(window_wants_flush(&w, true));
	assert_false(window_wants_flush(&w, false));
	window_flush_sent(&w);		/* covers nothing: 1 is under way */
	assert_true(window_made(&w, 1, false, 2));
	window_answered(&w, 1);
	window_flush_done(&w);
	assert_int_equal(window_ack(&w), 0);
	assert_true(window_wants_flush(&w, true));
	window_flush_sent(&w);
	assert_int_equal(window_ack(&w), 0);
	window_flush_done(&w);
	assert_int_equal(window_ack(&w), 2);
	assert_false(window_wants_flush(&w, true));
	window_exit(&w);
}

/* One flush covers several writes with FUA: they are answered in their order, whichever was made first. */
static void test_release_in_order(void **state)
{
	static const uint64_t made[] = { 2, 4, 1, 3 };
	struct window w;
	uint64_t seq, i;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 0);
	for (i = 0; i < 4; i++)
		window_begin(&w, true);
	for (i = 0; i < 4; i++)
		assert_false(window_made(&w, made[i], true, i + 1));
	assert_true(window_wants_flush(&w, false));
	window_flush_sent(&w);
	window_flush_done(&w);
	for (i = 1; i <= 4; i++) {
		assert_true(window_release(&w, &seq));
		assert_int_equal(seq, i);
		window_answered(&w, seq);
	}
	assert_false(window_release(&w, &seq));
	assert_int_equal(window_ack(&w), 4);
	window_exit(&w);
}

/* A flush is answered when what came before is durable; at once if it is. */
static void test_flush(void **state)
{
	struct window w;
	uint64_t seq;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 7);
	window_hold_flush(&w);		/* 8 */
	assert_true(window_release(&w, &seq));
	assert_int_equal(seq, 8);
	window_answered(&w, 8);
	assert_int_equal(window_ack(&w), 8);

	window_begin(&w, true);		/* 9 */
	window_hold_flush(&w);		/* 10 */
	assert_false(window_release(&w, &seq));
	assert_false(window_wants_flush(&w, false));
	assert_true(window_made(&w, 9, false, 1));
	window_answered(&w, 9);
	assert_false(window_release(&w, &seq));
	assert_true(window_wants_flush(&w, false));
	window_begin(&w, true);		/* 11: later than the flush, which does not wait for it */
	window_flush_sent(&w);
	assert_false(window_release(&w, &seq));
	window_flush_done(&w);
	assert_true(window_release(&w, &seq));
	assert_int_equal(seq, 10);
	window_answered(&w, 10);
	assert_int_equal(window_ack(&w), 10);
	window_exit(&w);
}

static void test_fua(void **state)
{
	struct window w;
	uint64_t seq;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 0);
	window_begin(&w, true);
	assert_false(window_made(&w, 1, true, 1));
	assert_false(window_release(&w, &seq));
	assert_true(window_wants_flush(&w, false));
	window_flush_sent(&w);
	window_flush_done(&w);
	assert_true(window_release(&w, &seq));
	assert_int_equal(seq, 1);
	assert_int_equal(window_ack(&w), 0);
	window_answered(&w, 1);
	assert_int_equal(window_ack(&w), 1);
	window_exit(&w);
}

/* After a new connection what was made and not flushed counts for nothing. */
static void test_rewind(void **state)
{
	struct window w;
	uint64_t seq;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 0);
	window_begin(&w, true);
	assert_true(window_made(&w, 1, false, 1));
	window_answered(&w, 1);
	window_hold_flush(&w);
	window_flush_sent(&w);
	window_rewind(&w, w.acked);
	assert_int_equal(w.next, 1);
	assert_false(window_release(&w, &seq));
	window_begin(&w, true);
	window_hold_flush(&w);
	assert_false(window_release(&w, &seq));
	assert_int_equal(window_ack(&w), 0);
	assert_true(window_made(&w, 1, false, 1));
	window_answered(&w, 1);
	assert_int_equal(window_ack(&w), 0);
	assert_true(window_wants_flush(&w, false));
	window_exit(&w);
}

static void test_room(void **state)
{
	struct window w;
	unsigned int n = 0;

	(void)state;
	assert_true(window_init(&w, 16));
	window_rewind(&w, 0);
	while (window_has_room(&w)) {
		window_begin(&w, false);
		n++;
	}
	assert_int_equal(n, 15);
	window_exit(&w);
	/* What is under way must find a place among what is held. */
	assert_true(window_init(&w, 1024));
	window_rewind(&w, 0);
	window_begin(&w, true);
	while (window_has_room(&w))
		window_hold_flush(&w);
	assert_true(w.nr_held + WINDOW_BEGUN_MAX <= WINDOW_HELD_MAX);
	window_exit(&w);
}

/*
 * Many requests in a random order, against the rules themselves: nothing is let go of, no flush and no FUA answered,
 * before a flush that was sent when the change had been made was answered.
 */
#define RUN 4096u

static void test_random(void **state)
{
	static uint8_t type[RUN], made[RUN], durable[RUN], covered[RUN], answered[RUN];
	uint64_t seq, ack, k;
	unsigned int steps;
	struct window w;

	(void)state;
	srandom(7);
	assert_true(window_init(&w, 256));
	window_rewind(&w, 0);
	for (steps = 0; steps < 2000000 && w.acked < RUN - 300; steps++) {
		switch (random() % 6) {
		case 0:
			if (!window_has_room(&w) || w.next >= RUN)
				break;
			type[w.next] = (uint8_t)(random() % 4);	/* read, change, FUA, flush */
			if (type[w.next] == 3)
				window_hold_flush(&w);
			else
				window_begin(&w, type[w.next]);
			break;
		case 1:
		case 2:
			seq = w.acked + 1 + (uint64_t)random() % 256;
			if (seq >= w.next || made[seq] || type[seq] == 3)
				break;
			made[seq] = 1;
			if (type[seq] && !window_made(&w, seq, type[seq] == 2, 1)) {
				assert_int_equal(type[seq], 2);
				break;
			}
			window_answered(&w, seq);
			answered[seq] = 1;
			break;
		case 3:
			if (!window_wants_flush(&w, random() % 2))
				break;
			memcpy(covered, made, sizeof(covered));
			window_flush_sent(&w);
			break;
		case 4:
			if (!w.flushing)
				break;
			memcpy(durable, covered, sizeof(durable));
			window_flush_done(&w);
			break;
		default:
			while (window_release(&w, &seq)) {
				for (k = 1; k < seq + (type[seq] == 2); k++)
					if (type[k] == 1 || type[k] == 2)
						assert_true(durable[k] || (type[seq] == 2 && k != seq));
				window_answered(&w, seq);
				answered[seq] = 1;
			}
			ack = window_ack(&w);
			for (k = w.acked + 1; k <= ack; k++) {
				assert_true(answered[k]);
				assert_true(durable[k] || !type[k] || type[k] == 3);
			}
			w.acked = ack;
			break;
		}
	}
	assert_true(w.acked >= RUN - 300);
	window_exit(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_kept_until_flushed),
		cmocka_unit_test(test_release_in_order),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_fua),
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
