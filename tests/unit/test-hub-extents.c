// SPDX-License-Identifier: GPL-2.0-or-later
/* The map of extents, beside an array that has a word for each sector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "rephub/extents.h"

#define SECTORS	20000u

static uint64_t model[SECTORS];

static void compare(const struct extents *x)
{
	uint64_t at = 0, end = 0;
	const struct extent *e;
	size_t n = 0;

	while (at < SECTORS) {
		e = extents_find(x, at);
		if (e) {
			assert_true(e->end > at && e->start < e->end && (e->start >= end || e->start <= at));
			end = e->end;
			n++;
		}
		for (; at < (e ? e->start : SECTORS); at++)
			assert_int_equal(model[at], 0);
		for (; e && at < e->end; at++)
			assert_int_equal(model[at], e->id);
	}
	assert_int_equal(n, x->nr);
}

static void run(unsigned int seed, unsigned int rounds, unsigned int longest)
{
	struct extents x = { 0 };
	uint64_t i, j, start, len;

	memset(model, 0, sizeof(model));
	srandom(seed);
	for (i = 1; i <= rounds; i++) {
		len = 1 + (uint64_t)random() % longest;
		start = (uint64_t)random() % (SECTORS - len);
		assert_true(extents_put(&x, start, start + len, i));
		for (j = start; j < start + len; j++)
			model[j] = i;
		if (!(i % (rounds / 20)))
			compare(&x);
	}
	extents_free(&x);
}

static void test_random(void **state)
{
	unsigned int seed;

	(void)state;
	for (seed = 1; seed <= 10; seed++) {
		run(seed, 20000, 8);
		run(seed, 5000, 300);
		run(seed, 1000, 10000);
	}
}

static void test_orders(void **state)
{
	struct extents x = { 0 };
	uint64_t i;

	(void)state;
	for (i = 0; i < SECTORS; i++) {
		assert_true(extents_put(&x, i, i + 1, i + 1));
		model[i] = i + 1;
	}
	compare(&x);
	assert_int_equal(x.nr_leaves, (SECTORS + EXTENTS_LEAF - 1) / EXTENTS_LEAF);
	for (i = SECTORS; i-- > 0;) {
		assert_true(extents_put(&x, i, i + 1, i + 7));
		model[i] = i + 7;
	}
	compare(&x);
	assert_true(extents_put(&x, 0, UINT64_MAX, 5));
	assert_int_equal(x.nr, 1);
	assert_int_equal(extents_find(&x, UINT64_MAX - 1)->id, 5);
	assert_null(extents_find(&x, UINT64_MAX));
	assert_true(extents_put(&x, 9, 9, 6));
	assert_int_equal(x.nr, 1);
	extents_free(&x);
	assert_null(extents_find(&x, 0));
}

/* A view of 1,000,000 records is to open within 2 s. */
static void test_million(void **state)
{
	struct timespec a, b;
	struct extents x = { 0 };
	uint64_t i, s;

	(void)state;
	srandom(1);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < 1000000; i++) {
		s = ((uint64_t)random() << 8 ^ (uint64_t)random()) % (1u << 28) * 8;
		assert_true(extents_put(&x, s, s + 8, i));
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("# %zu extents in %.3f s\n", x.nr,
		      (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
	extents_free(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_million),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
