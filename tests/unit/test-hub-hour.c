// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * I12 over an hour of the hub's life: all that is done by the clock is done, and the clock is the test's. HUB_SECONDS=N: so
 * many seconds of it.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "simagent.h"

#define SEGMENT	(1u << 20)
#define VIEWS	12u

static atomic_long skew;	/* seconds */

/* In the place of libc's, also for the engine. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);

	if (!r && (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC))
		t->tv_sec += skew;
	return r;
}

static char *dir, why[HUB_REASON_MAX];
static struct hub *hub;
static struct group *g;
static struct simagent a;

/* @floor: that the group had when it was opened */
static struct look {
	struct hub_view *view;
	unsigned int disk;
	uint64_t seq, floor;
	uint32_t sum;
} looks[VIEWS];

static uint8_t bytes[SIM_SECTORS * 512], want[SIM_SECTORS * 512];
static unsigned int compared, folded_under;

static void look_all_over(const struct look *l)
{
	uint64_t at;

	for (at = 0; at < sizeof(bytes); at += 65536)
		if (hub_view_read(l->view, at, bytes + at, 65536, why))
			fail_msg("%s", why);
}

static void open_look(struct look *l)
{
	uint64_t incarnation, time, first;
	char name[16], point[64];

	l->disk = (unsigned int)random() % SIM_VOLUMES;
	/* Of the newer half, for what is older is not folded while there is a view of it. */
	first = g->segment[0]->begin.seq;
	l->seq = a.acked - (uint64_t)random() % ((a.acked - first) / 2 + 1);
	snprintf(name, sizeof(name), "disk%u", l->disk);
	snprintf(point, sizeof(point), "%" PRIu64 ":%" PRIu64, a.incarnation, l->seq);
	l->view = hub_view_open(hub, "vm0", name, point, why);
	if (!l->view)
		fail_msg("%s at %s: %s", name, point, why);
	hub_view_position(l->view, &incarnation, &l->seq, &time);
	l->floor = g->floor;
	look_all_over(l);
	sim_model(&a, l->seq, l->disk, want);
	assert_memory_equal(bytes, want, sizeof(want));
	l->sum = frame_crc(bytes, sizeof(bytes));
}

static void compare(const struct look *l)
{
	look_all_over(l);
	if (frame_crc(bytes, sizeof(bytes)) != l->sum)
		fail_msg("a view of disk%u at %" PRIu64 " has changed", l->disk, l->seq);
	compared++;
	folded_under += g->floor > l->floor;
}

/* Each second something comes, each is tended; views come and go, one stays for a third of the time. */
static void test_hour(void **state)
{
	uint64_t seconds = sim_many("HUB_SECONDS", 300), s, folds = 0, floor = 0;
	struct hub_retention keep = { .own = true };
	unsigned int i, turn = 0;

	(void)state;
	srandom(17);
	dir = sim_dir();
	hub = sim_hub(dir, SEGMENT, 0);
	sim_init(&a, hub, 0xa);
	sim_start(&a);
	g = hub_find(hub, "vm0");
	for (s = 0; s < seconds; s++) {
		skew++;
		sim_random(&a, 2 + (unsigned int)random() % 10);
		assert_int_equal(sim_flush(&a), 0);
		/* At first all is kept, so that much is folded below the views that are there by then. */
		if (s == seconds / 6)
			for (i = 0; i < VIEWS / 2; i++)
				open_look(&looks[i]);
		if (s > seconds / 6 && s % (seconds / 30) == 0) {
			keep.bytes = random() % 2 ? (2 + (uint64_t)random() % 6) * SEGMENT : 0;
			keep.ns = keep.bytes && random() % 2 ? 0 : seconds / 8 * 1000000000;
			assert_int_equal(hub_set_retention(hub, "vm0", &keep, why), 0);
			for (i = 0; i < VIEWS; i++)
				if (looks[i].view)
					compare(&looks[i]);
			/* The first one holds up folding; the others go in turn. */
			i = 1 + turn++ % (VIEWS - 1);
			if (looks[i].view)
				hub_view_close(looks[i].view);
			open_look(&looks[i]);
		}
		if (s == seconds / 2) {
			hub_view_close(looks[0].view);
			looks[0].view = NULL;
		}
		hub_tend(hub);
		folds += g->floor > floor;
		floor = g->floor;
	}
	for (i = 0; i < VIEWS; i++) {
		if (looks[i].view) {
			compare(&looks[i]);
			hub_view_close(looks[i].view);
		}
	}
	print_message("# %" PRIu64 " seconds, %" PRIu64 " records; folded in %" PRIu64 " of them; %u times a view was looked at again, %u times something had been folded since it was opened\n",
		      seconds, a.acked, folds, compared, folded_under);
	assert_true(folds > 3 && folded_under > 3);
	assert_string_equal(g->trouble, "");
	sim_compare(&a, a.acked);
	sim_disconnect(&a);
	hub_close(hub);
	free(a.op);
	sim_remove(dir);
	free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_hour) };

	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
