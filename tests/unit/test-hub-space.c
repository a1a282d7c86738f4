// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk that is full: each group does what was said of it, nothing that was acknowledged is lost, and all goes on by
 * itself when there is room. The disk is a file system in memory of a size, seen by this process alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cmocka.h>

#include "rephub/view.h"
#include "hubfixture.h"

#define SEGMENT	(1u << 20)
#define MIB	(UINT64_C(1) << 20)
#define DISK	(24 * MIB)
#define RESERVE	(8 * MIB)

static struct group *ga, *gb;
static uint64_t disk_size;

static void set_size(uint64_t bytes, unsigned long flags)
{
	char options[64];

	disk_size = bytes;
	snprintf(options, sizeof(options), "size=%" PRIu64, bytes);
	assert_int_equal(mount("none", dir, "tmpfs", flags, options), 0);
}

static void with_reserve(uint64_t reserve)
{
	hub->o.reserve = reserve;
	ga = hub_find(hub, "vm0");
	gb = hub_find(hub, "vm1");
}

static int setup(void **state)
{
	(void)state;
	dir = sim_dir();
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	set_size(DISK, 0);
	fixture_begin(13, SEGMENT, 0xa, 0xb);
	with_reserve(RESERVE);
	return 0;
}

static int teardown(void **state)
{
	close_hub();
	umount2(dir, MNT_DETACH);
	return fixture_end(state);
}

static void start_anew(uint64_t reserve)
{
	reopen(0);
	with_reserve(reserve);
}

/* The other group's agent. */
static void start_b(void)
{
	b.session = hub_session_new(hub, "vm1", "sim");
	sim_start(&b);
	gb = hub_find(hub, "vm1");
}

static void start_a(void)
{
	sim_start(&a);
	ga = hub_find(hub, "vm0");
}

static uint64_t free_bytes(void)
{
	struct statvfs v;

	assert_int_equal(statvfs(dir, &v), 0);
	return (uint64_t)v.f_bavail * v.f_frsize;
}

/* The disk is as large as what is used, and so much. */
static void leave_free(uint64_t bytes)
{
	set_size(disk_size - free_bytes() + bytes, MS_REMOUNT);
}

static void when_full(const char *group, enum hub_when_full w)
{
	struct hub_retention keep;

	assert_int_equal(hub_get_retention(hub, group, &keep), 0);
	keep.when_full = w;
	keep.own_when_full = true;
	/* That has to be written down: the reserve is for such things, where there is one. */
	if (!free_bytes())
		leave_free(65536);
	assert_int_equal(hub_set_retention(hub, group, &keep, why), 0);
}

/* A frame of writes, which make some 60 KiB. Return what the hub says. */
static int send_some(struct simagent *x)
{
	sim_begin(x, false);
	while (x->b.len < 60000)
		assert_true(sim_add(x, REPAGENT_REC_WRITE, (unsigned int)random() % SIM_VOLUMES, (uint64_t)random() % 2000, 8));
	return sim_send(x);
}

/* Until it is refused, or so many frames; the hub is tended meanwhile. Return how many were taken. */
static unsigned int fill(struct simagent *x, unsigned int frames)
{
	unsigned int n;
	int err;

	for (n = 0; n < frames; n++) {
		err = send_some(x);
		if (err) {
			assert_int_equal(err, ENOSPC);
			return n;
		}
		assert_int_equal(sim_flush(x), 0);
		if (n % 8 == 7)
			hub_tend(hub);
	}
	return n;
}

/* What was refused is not there: the model forgets it. */
static void go_on(struct simagent *x)
{
	assert_int_equal(sim_connect(x), 0);
	if (x->block.state != SESSION_ACCEPTING)
		fail_msg("%s", x->block.reason);
	assert_true(x->block.seq >= x->acked);
	x->next = x->block.seq + 1;
	x->sent = x->acked = x->block.seq;
	while (x->op[x->nr_ops - 1].seq > x->block.seq)
		x->nr_ops--;
}

struct count { const char *what; unsigned int nr; };

static void count_event(void *data, const struct hub_event *e)
{
	struct count *c = data;

	c->nr += !strcmp(e->what, c->what);
}

/* How often that is an event of a group; NULL: of the hub. */
static unsigned int told(const char *group, const char *what)
{
	const struct hub_event_query q = { .group = group ? group : "", .most = 2000 };
	struct count c = { what, 0 };

	hub_events(hub, &q, count_event, &c);
	return c.nr;
}

/* Stop-ingest: the reserve stays, so does all history, and others who drop theirs go on. */
static void test_stop_ingest(void **state)
{
	uint64_t first, acked;

	(void)state;
	start_a();
	start_b();
	when_full("vm1", HUB_DROP_HISTORY);
	assert_int_equal(fill(&b, 40), 40);
	assert_in_range(fill(&a, 1000), 100, 250);
	assert_non_null(strstr(a.reason, "its reserve is 8"));
	assert_true(free_bytes() > RESERVE - 2 * MIB);
	assert_int_equal(ga->space.state, SPACE_FULL);
	assert_int_equal(told("vm0", "full"), 1);
	acked = a.acked;
	first = ga->segment[0]->start;
	/* The agent asks again, and is told why. */
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FULL);
	assert_non_null(strstr(a.block.reason, "reserve"));
	assert_true(a.block.seq == acked);
	/* The other one has half as much more to say as there is disk, and says it. */
	assert_int_equal(fill(&b, 600), 600);
	assert_true(gb->segment[0]->begin.seq > 100);
	assert_true(free_bytes() > RESERVE / 4);
	assert_int_equal(ga->segment[0]->start, first);
	sim_compare(&a, acked);
	sim_compare(&a, 50);
	/* That it is full is known after a restart, too. */
	start_anew(RESERVE);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FULL);
	/* There is room: a little is not enough, for it would be full again at once. */
	leave_free(RESERVE + MIB);
	hub_tend(hub);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FULL);
	set_size(2 * DISK, MS_REMOUNT);
	hub_tend(hub);
	assert_int_equal(told("vm0", "has-room"), 1);
	go_on(&a);
	assert_true(a.acked == acked);
	assert_int_equal(fill(&a, 20), 20);
	sim_compare(&a, a.acked);
}

/* Drop-history: the group goes on with what it has, and takes nothing from others. */
static void test_drop_history(void **state)
{
	uint64_t first, seq;
	struct hub_view *v;

	(void)state;
	start_b();
	when_full("vm1", HUB_DROP_HISTORY);
	assert_int_equal(fill(&b, 60), 60);
	first = gb->segment[0]->start;
	start_a();
	when_full("vm0", HUB_DROP_HISTORY);
	assert_int_equal(fill(&a, 1000), 1000);
	assert_true(told("vm0", "dropping") >= 1);
	assert_int_equal(told("vm0", "full"), 0);
	assert_true(free_bytes() > RESERVE / 2);
	assert_true(ga->segment[0]->begin.seq > a.acked / 2);
	/* Who only stands by loses nothing. */
	assert_int_equal(gb->segment[0]->start, first);
	sim_compare(&a, a.acked);
	/* Never past a view: then there is nothing to be had, and it stops. */
	seq = a.acked;
	v = hub_view_open(hub, "vm0", "disk0", "latest", why);
	assert_non_null(v);
	assert_in_range(fill(&a, 1000), 20, 300);
	assert_true(ga->segment[0]->first_id <= v->id);
	assert_int_equal(ga->space.state, SPACE_FULL);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FULL);
	sim_compare(&a, seq);
	assert_int_equal(gb->segment[0]->start, first);
	/* Without it all goes on by itself. */
	hub_view_close(v);
	hub_tend(hub);
	hub_tend(hub);
	go_on(&a);
	assert_int_equal(fill(&a, 200), 200);
	sim_compare(&a, a.acked);
	assert_int_equal(gb->segment[0]->start, first);
}

/*
 * A source that is faster than history goes, for nobody tends while it is not told to wait: then it has answers for all that
 * it sends but the last dozen of frames, and waits. It waits as long as segments go, and nothing is refused ever.
 */
static void test_slowed(void **state)
{
	unsigned int waits = 0, beyond, n;
	struct hub_view *v;

	(void)state;
	start_b();
	when_full("vm1", HUB_DROP_HISTORY);
	assert_int_equal(fill(&b, 60), 60);
	start_a();
	when_full("vm0", HUB_DROP_HISTORY);
	for (n = 0, beyond = 0; n < 1500; n++) {
		if (send_some(&a))
			fail_msg("frame %u: %s", n, a.reason);
		if (!hub_session_slowed(a.session)) {
			beyond = 0;
			continue;
		}
		/* Others do not wait. */
		assert_false(hub_session_slowed(b.session));
		if (++beyond < 12)
			continue;
		assert_int_equal(ga->space.state, SPACE_SLOWED);
		assert_int_equal(sim_flush(&a), 0);
		hub_tend(hub);
		assert_false(hub_session_slowed(a.session));
		waits++;
	}
	assert_true(waits > 3);
	assert_int_equal(told("vm0", "full"), 0);
	/* Not with each segment. */
	assert_int_equal(told("vm0", "slowed"), 1);
	assert_int_equal(told("vm1", "slowed"), 0);
	assert_int_equal(fill(&b, 10), 10);
	assert_int_equal(sim_flush(&a), 0);
	sim_compare(&a, a.acked);
	/* Where nothing can go there is nothing to wait for: it is as with stop-ingest. */
	v = hub_view_open(hub, "vm0", "disk0", "latest", why);
	assert_non_null(v);
	while (!send_some(&a))
		assert_false(hub_session_slowed(a.session) && ga->segment[1]->first_id > v->id);
	assert_int_equal(ga->space.state, SPACE_FULL);
	assert_false(hub_session_slowed(a.session));
	hub_view_close(v);
}

/*
 * There is no reserve, or others have it: writes and folding end anywhere for want of space. What was acknowledged is
 * there, in this life and in the next.
 */
static void test_no_space_at_all(void **state)
{
	unsigned int i, full = 0;

	(void)state;
	start_anew(1);
	start_a();
	for (i = 0; i < 60; i++) {
		when_full("vm0", i % 8 < 3 ? HUB_STOP_INGEST : HUB_DROP_HISTORY);
		full += fill(&a, 30) < 30;
		/* Others write at any time. */
		if (i % 4 == 3)
			leave_free((uint64_t)random() % 100000);
		if (i % 5 == 4)
			start_anew(1);
		assert_string_equal(ga->trouble, "");
		for (int k = 0; k < 2; k++) {
			ga->fold_next = 0;
			hub_tend(hub);
		}
		assert_int_equal(sim_connect(&a), 0);
		assert_true(a.block.seq >= a.acked);
		if (a.block.state == SESSION_FULL) {
			leave_free(3 * MIB);
			hub_tend(hub);
		}
		go_on(&a);
		if (i % 6 == 0)
			sim_compare(&a, a.acked);
	}
	assert_true(full > 10);
	sim_compare(&a, a.acked);
	start_anew(1);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	sim_compare(&a, a.acked);
}

/* Folding finds no space: the segment stays, its points go, and it is folded when there is some, also after a restart. */
static void test_fold_without_space(void **state)
{
	struct hub_retention two = { .bytes = 2 * SEGMENT, .own = true };
	(void)state;
	start_a();
	assert_int_equal(fill(&a, 100), 100);
	assert_int_equal(hub_set_retention(hub, "vm0", &two, why), 0);
	for (int i = 0; i < 3; i++) {
		leave_free(8 * 4096);
		ga->fold_next = 0;
		if (i == 1)
			start_anew(RESERVE);
		else
			hub_tend(hub);
		assert_true(ga->half);
		assert_true(ga->nr_segments > 2);
		assert_string_equal(ga->trouble, "");
		assert_null(hub_view_open(hub, "vm0", "disk0", "10:12", why));
		sim_compare(&a, a.acked);
		/* Not again and again. */
		set_size(DISK, MS_REMOUNT);
		hub_tend(hub);
		assert_true(ga->half);
	}
	assert_int_equal(told("vm0", "folded"), 0);
	ga->fold_next = 0;
	hub_tend(hub);
	assert_false(ga->half);
	assert_true(hubgroup_last(ga)->end - ga->segment[0]->start <= 2 * SEGMENT);
	sim_compare(&a, a.acked);
}

static void note_nothing(void *data, const struct hub_space_info *s)
{
	(void)data;
	(void)s;
}

/* The warning comes long before, with the time that is left, and goes. */
static void test_warning(void **state)
{
	struct hub_space_total t;
	char text[HUB_REASON_MAX];

	(void)state;
	set_size(8 * DISK, MS_REMOUNT);
	start_a();
	assert_int_equal(fill(&a, 10), 10);
	hub_tend(hub);
	assert_false(hub_space_low(hub, text));
	/* Five hours of it, and no longer. */
	pthread_mutex_lock(&ga->lock);
	ga->rate.bytes = (double)(free_bytes() - RESERVE) / (5 * 3600);
	pthread_mutex_unlock(&ga->lock);
	space_warn(hub);
	assert_true(hub_space_low(hub, text));
	assert_non_null(strstr(text, "at the present rates it is reached in "));
	assert_int_equal(told(NULL, "space-low"), 1);
	ga->rate.bytes /= 2;
	space_warn(hub);
	assert_true(hub_space_low(hub, text));
	ga->rate.bytes /= 2;
	space_warn(hub);
	assert_false(hub_space_low(hub, text));
	assert_int_equal(told(NULL, "space-ok"), 1);
	/* Without a rate, when little is left. */
	ga->rate.bytes = 0;
	set_size(DISK, MS_REMOUNT);
	assert_true(fill(&a, 120) > 20);
	space_warn(hub);
	assert_true(hub_space_low(hub, text));
	hub_space(hub, &t, note_nothing, NULL);
	assert_string_equal(t.warning, text);
}

/* What was said of a group is kept, each part by itself. */
static void test_what_was_said(void **state)
{
	struct hub_retention keep;

	(void)state;
	start_a();
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_true(keep.when_full == HUB_STOP_INGEST && !keep.own && !keep.own_when_full);
	when_full("vm0", HUB_DROP_HISTORY);
	start_anew(RESERVE);
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_true(keep.when_full == HUB_DROP_HISTORY && !keep.own && keep.own_when_full);
	keep.own = true;
	keep.bytes = 5;
	assert_int_equal(hub_set_retention(hub, "vm0", &keep, why), 0);
	start_anew(RESERVE);
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_true(keep.when_full == HUB_DROP_HISTORY && keep.own && keep.bytes == 5);
	assert_int_equal(hub_set_retention(hub, "vm0", &(struct hub_retention){ 0 }, why), 0);
	hub->o.keep.when_full = HUB_DROP_HISTORY;
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_true(keep.when_full == HUB_DROP_HISTORY && !keep.own && !keep.own_when_full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stop_ingest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop_history, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_space_at_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fold_without_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_warning, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_said, setup, teardown),
	};

	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
