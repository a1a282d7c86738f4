// SPDX-License-Identifier: GPL-2.0-or-later
/* What a person asks the hub, and tells it: events, retention, space, views, groups that are forgotten. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "hubfixture.h"

#define SEGMENT	(1u << 20)

static int setup(void **state)
{
	(void)state;
	fixture_begin(11, SEGMENT, 0xa, 0xb);
	return 0;
}

static void run(unsigned int frames)
{
	while (frames--)
		sim_random(&a, 40);
	assert_int_equal(sim_flush(&a), 0);
}

/* ---- events --------------------------------------------------------------- */

static struct hub_event seen[3000];
static unsigned int nr_seen;

static void see(void *data, const struct hub_event *e)
{
	(void)data;
	assert_true(nr_seen < 3000);
	seen[nr_seen++] = *e;
}

static unsigned int look(const char *group, uint64_t after, uint64_t before, unsigned int most)
{
	const struct hub_event_query q = { group, after, before, most };

	nr_seen = 0;
	hub_events(hub, &q, see, NULL);
	for (unsigned int i = 1; i < nr_seen; i++)
		assert_true(seen[i].serial > seen[i - 1].serial);
	return nr_seen;
}

static const struct hub_event *find(const char *what)
{
	unsigned int i;

	for (i = nr_seen; i-- > 0;)
		if (!strcmp(seen[i].what, what))
			return &seen[i];
	fail_msg("there is no event %s", what);
	return NULL;
}

static void add_gap(unsigned int reason)
{
	struct frame_record r = { .type = REPAGENT_REC_GAP, .seq = a.next++, .aux = (int32_t)reason, .time = a.next };

	assert_true(frame_add_record(&a.b, &r, NULL));
}

static void test_events(void **state)
{
	uint64_t serial;

	(void)state;
	sim_start(&a);
	sim_begin(&a, true);
	sim_label(&a, "before-upgrade");
	sim_label(&a, "@timed");
	add_gap(REPAGENT_REASON_RING_FULL);
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	a.next += 7;		/* refused */
	sim_begin(&a, true);
	sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1);
	assert_int_equal(sim_send(&a), EINVAL);
	sim_disconnect(&a);
	look("vm0", 0, 0, 1000);
	assert_string_equal(seen[0].what, "created");
	assert_string_equal(find("session-opened")->text, "sim");
	assert_string_equal(find("resync-begin")->text, "disk2");
	assert_true(find("resync-begin")->incarnation == 0xa && find("resync-begin")->seq == 3);
	assert_string_equal(find("checkpoint")->text, "before-upgrade");
	assert_string_equal(find("gap")->text, "ring full");
	assert_non_null(strstr(find("refused")->text, "number after the last frame"));
	assert_string_equal(seen[nr_seen - 1].what, "session-closed");
	/* The agent's own checkpoints are none. */
	for (unsigned int i = 0; i < nr_seen; i++)
		assert_string_not_equal(seen[i].text, "@timed");

	/* They are there again after a restart, and what comes has higher numbers. */
	serial = seen[nr_seen - 1].serial;
	reopen(0);
	look("vm0", 0, 0, 1000);
	assert_int_equal(seen[nr_seen - 1].serial, serial);
	assert_string_equal(find("gap")->text, "ring full");
	assert_int_equal(look(NULL, serial, 0, 1000), 2);
	assert_string_equal(seen[0].what, "stopped");
	assert_string_equal(seen[1].what, "started");
	/* In parts, either way. */
	assert_int_equal(look(NULL, 0, 4, 2), 2);
	assert_int_equal(seen[0].serial, 2);
	assert_int_equal(look(NULL, 1, 0, 3), 3);
	assert_int_equal(seen[0].serial, 2);
	/* As if the file had been taken away under one who follows. */
	assert_true(look(NULL, 100000, 0, 3) == 3);
}

/* A line that was torn, or changed, costs itself and nothing else. */
static void test_events_file(void **state)
{
	unsigned int all;
	char path[256];
	int fd;

	(void)state;
	sim_start(&a);
	reopen(0);
	all = look(NULL, 0, 0, 1000);
	sim_disconnect(&a);
	hub_close(hub);
	snprintf(path, sizeof(path), "%s/events", dir);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, 30), 1);
	assert_true(lseek(fd, 0, SEEK_END) > 0);
	assert_int_equal(write(fd, "01234567 99 torn", 16), 16);
	close(fd);
	hub = a.hub = sim_hub(dir, SEGMENT, 0);
	/* One is gone, "stopped" and "started" came. */
	assert_int_equal(look(NULL, 0, 0, 1000), all - 1 + 2);
	reopen(0);
	assert_int_equal(look(NULL, 0, 0, 1000), all - 1 + 4);
	for (unsigned int i = 1; i < nr_seen; i++)
		assert_int_equal(seen[i].serial, seen[i - 1].serial + 1);
}

/* One group cannot drive out what happened to others, and the file stays small. */
static void test_many_events(void **state)
{
	struct stat st;
	char path[256], name[16];
	unsigned int i, k;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 3000; i++) {
		sim_begin(&a, true);
		add_gap(i % 12);
		assert_int_equal(sim_send(&a), 0);
	}
	assert_in_range(look("vm0", 0, 0, 3000), 120, 240);	/* a minute may have ended */
	find("too-many");
	look(NULL, 0, 0, 3000);
	find("started");
	snprintf(path, sizeof(path), "%s/events", dir);
	for (i = 0; i < 300; i++) {
		for (k = 0; k < 100; k++) {
			snprintf(name, sizeof(name), "g%u", i);
			events_add(hub->events, name, "refused", i, k, "%0150u", k);
		}
		events_tend(hub->events);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size < 3 << 20);
	}
	assert_int_equal(look(NULL, 0, 0, 3000), 2000);
	reopen(0);
	assert_int_equal(look(NULL, 0, 0, 3000), 2000);
	/* What was just said is not said again. */
	i = look("again", 0, 0, 10);
	for (k = 0; k < 10; k++)
		events_add(hub->events, "again", "full", 0, 0, "no space");
	assert_int_equal(look("again", 0, 0, 10), i + 1);
}

/* ---- points: holes and their reasons --------------------------------------- */

static struct hub_point_info points[50];
static unsigned int nr_points;

static void note_point(void *data, const struct hub_point_info *p)
{
	(void)data;
	points[nr_points++] = *p;
}

static void test_holes(void **state)
{
	(void)state;
	for (int level = 0; level < 2; level++) {
		a.level = level;
		if (!level)
			sim_start(&a);
		else
			assert_int_equal(sim_connect(&a), 0);
		sim_begin(&a, true);
		for (unsigned int i = 0; i < 1000; i++)
			sim_label(&a, i == 500 ? "this" : "@timed");
		add_gap(REPAGENT_REASON_RING_FULL);
		assert_int_equal(sim_send(&a), 0);
		a.next += 10;
		sim_begin(&a, false);
		add_gap(REPAGENT_REASON_HUB_REFUSED);
		assert_int_equal(sim_send(&a), 0);
		assert_int_equal(sim_flush(&a), 0);
		nr_points = 0;
		assert_true(hub_points(hub, "vm0", false, 3, note_point, NULL));
		assert_int_equal(nr_points, 3);
		assert_string_equal(points[0].what, "lost");
		assert_string_equal(points[0].why, "hub refuses");
		assert_string_equal(points[1].what, "gap");
		assert_string_equal(points[1].why, "ring full");
		assert_string_equal(points[2].what, "checkpoint");
		assert_string_equal(points[2].text, "this");
		nr_points = 0;
		assert_true(hub_points(hub, "vm0", true, 4, note_point, NULL));
		assert_string_equal(points[2].text, "@timed");
		/* As the index has them, too. */
		pthread_mutex_lock(&hub_find(hub, "vm0")->lock);
		assert_int_equal(hubgroup_roll(hub_find(hub, "vm0"), why), 0);
		pthread_mutex_unlock(&hub_find(hub, "vm0")->lock);
		reopen(0);
		assert_true(hub_find(hub, "vm0")->segment[level]->sealed);
		nr_points = 0;
		assert_true(hub_points(hub, "vm0", false, 3, note_point, NULL));
		assert_string_equal(points[0].why, "hub refuses");
		assert_string_equal(points[2].text, "this");
	}
	assert_false(hub_points(hub, "vm9", false, 3, note_point, NULL));
}

/* ---- retention ------------------------------------------------------------- */

static void test_retention(void **state)
{
	struct hub_retention keep, two = { .bytes = 2 * SEGMENT, .own = true }, def = { .own = false };
	struct group *g;
	char path[256];
	int fd;

	(void)state;
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), ENOENT);
	assert_int_equal(hub_set_retention(hub, "vm0", &two, why), ENOENT);
	sim_start(&a);
	run(100);
	g = hub_find(hub, "vm0");
	hub_tend(hub);
	assert_int_equal(g->segment[0]->first_id, 0);
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_true(!keep.own && !keep.bytes && !keep.ns);
	assert_int_equal(hub_set_retention(hub, "vm0", &two, why), 0);
	hub_tend(hub);
	assert_true(g->segment[0]->begin.seq > 0 && hubgroup_last(g)->end - g->segment[0]->start <= 2 * SEGMENT);
	sim_compare(&a, a.acked);
	/* Over a restart. */
	reopen(0);
	g = hub_find(hub, "vm0");
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_true(keep.own && keep.bytes == 2 * SEGMENT && !keep.ns);
	assert_int_equal(sim_connect(&a), 0);
	run(60);
	hub_tend(hub);
	assert_true(hubgroup_last(g)->end - g->segment[0]->start <= 2 * SEGMENT);
	/* What cannot be read keeps all. */
	sim_disconnect(&a);
	hub_close(hub);
	snprintf(path, sizeof(path), "%s/groups/vm0/retention", dir);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, 20), 1);
	close(fd);
	hub = a.hub = sim_hub(dir, SEGMENT, SEGMENT);
	assert_non_null(strstr(sim_log, "everything is kept"));
	hub_tend(hub);
	assert_true(hub_find(hub, "vm0")->nr_segments > 1);
	/* And back to what holds for all, which is a segment. */
	assert_int_equal(hub_set_retention(hub, "vm0", &def, why), 0);
	hub_tend(hub);
	assert_int_equal(hub_find(hub, "vm0")->nr_segments, 1);
	reopen(0);
	assert_int_equal(hub_get_retention(hub, "vm0", &keep), 0);
	assert_false(keep.own);
	sim_compare(&a, a.acked);
}

/* By the hub's own clock, whatever the agent's is: its records are of 1970. */
static void test_retention_by_age(void **state)
{
	struct hub_retention hour = { .ns = 3600000000000, .own = true }, half = { .ns = 500000000, .own = true };
	struct group *g;
	uint64_t last;

	(void)state;
	sim_start(&a);
	run(100);
	g = hub_find(hub, "vm0");
	assert_int_equal(hub_set_retention(hub, "vm0", &hour, why), 0);
	hub_tend(hub);
	assert_int_equal(g->segment[0]->first_id, 0);
	assert_int_equal(hub_set_retention(hub, "vm0", &half, why), 0);
	last = a.acked;
	for (int i = 0; i < 1000 && g->segment[0]->begin.seq < last; i++) {
		hub_tend(hub);
		usleep(10000);
	}
	/* All of it, and what is left is what is. */
	assert_int_equal(g->segment[0]->begin.seq, last);
	sim_compare(&a, a.acked);
	run(3);
	sim_compare(&a, a.acked);
	look("vm0", 0, 0, 1000);
	find("folded");
}

/* ---- views, space ----------------------------------------------------------- */

static struct hub_view_info views[10];
static unsigned int nr_views;

static void note_view(void *data, const struct hub_view_info *v)
{
	(void)data;
	views[nr_views++] = *v;
}

static void test_views(void **state)
{
	struct hub_view *v;

	(void)state;
	sim_start(&a);
	run(3);
	v = hub_view_open(hub, "vm0", "disk1", "20", why);
	assert_non_null(v);
	hub_view_for(v, "somebody");
	nr_views = 0;
	hub_views(hub, note_view, NULL);
	assert_int_equal(nr_views, 1);
	assert_string_equal(views[0].group, "vm0");
	assert_string_equal(views[0].volume, "disk1");
	assert_string_equal(views[0].who, "somebody");
	assert_true(views[0].seq <= 20 && views[0].seq > 10 && views[0].since > 1700000000000000000);
	hub_view_close(v);
	nr_views = 0;
	hub_views(hub, note_view, NULL);
	assert_int_equal(nr_views, 0);
}

static struct hub_space_info space[10];
static unsigned int nr_space;

static void note_space(void *data, const struct hub_space_info *s)
{
	(void)data;
	space[nr_space++] = *s;
}

static void test_space(void **state)
{
	struct hub_retention keep = { .bytes = SEGMENT, .own = true }, all = { .own = true };
	struct hub_space_total total;
	struct group *g;

	(void)state;
	sim_start(&a);
	hub_tend(hub);
	run(50);
	nr_space = 0;
	hub_space(hub, &total, note_space, NULL);
	g = hub_find(hub, "vm0");
	assert_int_equal(nr_space, 1);
	assert_true(space[0].journal >= hubgroup_last(g)->end - SESSION_SIZE && space[0].index > 0 && !space[0].base);
	assert_true(total.size > total.free && total.free > 0 && total.full < 0);
	/* Something comes, and all of it is kept: there is an end. */
	pthread_mutex_lock(&g->lock);
	g->rate.bytes = (double)total.free / 100;
	pthread_mutex_unlock(&g->lock);
	hub_space(hub, &total, note_space, NULL);
	assert_true(total.full > 50 && total.full < 200);
	/* If little of it is kept, and volumes are small, there is none. */
	assert_int_equal(hub_set_retention(hub, "vm0", &keep, why), 0);
	hub_space(hub, &total, note_space, NULL);
	assert_true(total.full < 0);
	assert_int_equal(hub_set_retention(hub, "vm0", &all, why), 0);
	/* The rate is that of what came. */
	pthread_mutex_lock(&g->lock);
	g->rate.bytes = 0;
	for (int i = 0; i < 600; i++) {
		g->rate.when -= 1000000000;
		g->rate.offset -= 1000000;
		space_measure(g);
	}
	assert_true(g->rate.bytes > 900000 && g->rate.bytes < 1000001);
	pthread_mutex_unlock(&g->lock);
}

/* ---- forget ----------------------------------------------------------------- */

static unsigned int entries(void)
{
	unsigned int nr = 0;
	char path[256];
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "%s/groups", dir);
	d = opendir(path);
	assert_non_null(d);
	while ((de = readdir(d)))
		nr += strcmp(de->d_name, ".") && strcmp(de->d_name, "..");
	closedir(d);
	return nr;
}

static void count_group(void *data, const struct hub_group_info *g)
{
	(void)g;
	++*(unsigned int *)data;
}

/* A directory that is left of a group, with more below it than is ever removed; or less again. */
static void deep(bool make)
{
	char path[PATH_MAX];
	int n, depth;

	for (depth = make ? 0 : 12; make ? depth <= 12 : depth >= 3; depth += make ? 1 : -1) {
		n = snprintf(path, sizeof(path), "%s/groups/.gone-deep", dir);
		for (int i = 0; i < depth; i++)
			n += snprintf(path + n, sizeof(path) - (size_t)n, "/d");
		assert_int_equal(make ? mkdir(path, 0700) : rmdir(path), 0);
	}
}

static void test_forget(void **state)
{
	struct hub_session *early;
	uint8_t block[SESSION_SIZE], uuid[16];
	unsigned int nr = 0;
	struct hub_view *v;
	struct group *g;

	(void)state;
	assert_int_equal(hub_forget(hub, "vm0", why), ENOENT);
	sim_start(&a);
	run(60);
	assert_int_equal(hub_set_retention(hub, "vm0", &(struct hub_retention){ .bytes = SEGMENT, .own = true }, why), 0);
	hub_tend(hub);
	run(20);
	assert_int_equal(hub_forget(hub, "vm0", why), EBUSY);
	assert_non_null(strstr(why, "agent is connected"));
	sim_disconnect(&a);
	v = hub_view_open(hub, "vm0", "disk1", "latest", why);
	assert_int_equal(hub_forget(hub, "vm0", why), EBUSY);
	assert_non_null(strstr(why, "1 view is"));
	hub_view_close(v);
	/* One that said hello and has no session yet knows of it still. */
	early = hub_session_new(hub, "vm0", "early");
	frame_hello(block, NULL, 0, 5);
	assert_int_equal(hub_session_write(early, 0, block, FRAME_ALIGN, why), 0);
	g = hub_find(hub, "vm0");
	memcpy(uuid, g->uuid, sizeof(uuid));
	assert_int_equal(hub_forget(hub, "vm0", why), 0);
	assert_null(hub_find(hub, "vm0"));
	assert_int_equal(hub_session_read(early, 0, block, sizeof(block), why), ESHUTDOWN);
	assert_int_equal(hub_session_flush(early, why), EINVAL);
	assert_null(hub_view_open(hub, "vm0", "disk1", "latest", why));
	hub_groups(hub, count_group, &nr);
	hub_views(hub, note_view, NULL);
	assert_int_equal(nr, 0);
	fold_some(g);		/* as if it had been about to be tended */
	assert_int_equal(entries(), 1);
	hub_tend(hub);
	assert_int_equal(entries(), 0);
	hub_session_free(early);
	/* What cannot be removed at once, as when somebody writes a file into it meanwhile, is tried again. */
	deep(true);
	hub->sweep = true;
	hub_tend(hub);
	assert_int_equal(entries(), 1);
	deep(false);
	hub_tend(hub);
	assert_int_equal(entries(), 0);
	/* One of the same name is another one. */
	sim_disconnect(&a);
	memset(&a.block, 0, sizeof(a.block));
	a.next = 1;
	a.nr_ops = 0;
	sim_start(&a);
	assert_memory_not_equal(uuid, a.block.group, sizeof(uuid));
	run(5);
	sim_compare(&a, a.acked);
	/* The hub ends before all is removed. */
	sim_disconnect(&a);
	assert_int_equal(hub_forget(hub, "vm0", why), 0);
	reopen(0);
	assert_null(hub_find(hub, "vm0"));
	assert_int_equal(entries(), 1);
	hub_tend(hub);
	assert_int_equal(entries(), 0);
	look("vm0", 0, 0, 1000);
	find("forgotten");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_events, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_events_file, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_many_events, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_holes, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_retention, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_retention_by_age, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_views, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_space, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_forget, setup, fixture_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
