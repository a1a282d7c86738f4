// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fail-over and its tests, at the engine: what is written goes where it should and nowhere else, the
 * side that was failed over from changes nothing, and whenever the hub ends, it is one or the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "rephub/overlay.h"
#include "badread.h"
#include "hubfixture.h"

#define SEGMENT		(1u << 20)
#define BYTES		(SIM_SECTORS * 512)

typedef uint8_t image[SIM_VOLUMES][BYTES];

static image model, before, got;

static int setup(void **state)
{
	(void)state;
	fixture_begin(11, SEGMENT, 0xabc, 0xdef);
	return 0;
}

static void run(struct simagent *x, unsigned int frames)
{
	while (frames--)
		sim_random(x, 1 + (unsigned int)random() % 40);
	assert_int_equal(sim_flush(x), 0);
}

/* After the records of sim_start(), where all volumes can be used. */
static uint64_t some_point(void)
{
	return 3 * SIM_VOLUMES + (uint64_t)random() % (a.acked - 3 * SIM_VOLUMES) + 1;
}

static void model_at(uint64_t seq, image *m)
{
	unsigned int v;

	for (v = 0; v < SIM_VOLUMES; v++)
		sim_model(&a, seq, v, (*m)[v]);
}

static const char *point_name(uint64_t seq)
{
	static char point[64];

	snprintf(point, sizeof(point), "%016" PRIx64 ":%" PRIu64, a.incarnation, seq);
	return point;
}

static void differ(const image *want, const char *what)
{
	size_t i;

	for (i = 0; i < sizeof(*want); i += 512)
		if (memcmp((const uint8_t *)want + i, (uint8_t *)got + i, 512))
			fail_msg("%s: volume %zu differs at sector %zu", what, i / BYTES, i % BYTES / 512);
}

/* All of a test, or of live: in reads of all sizes, and where it says that there is nothing. */
static void compare(const char *test, const image *want)
{
	uint64_t at, next, i;
	struct hub_disk *d;
	unsigned int v;
	size_t len;

	for (v = 0; v < SIM_VOLUMES; v++) {
		d = open_disk(test, v);
		assert_int_equal(hub_disk_size(d), BYTES);
		for (at = 0; at < BYTES; at += len) {
			len = random() % 2 ? 1 + (size_t)random() % 5000 : 65536;
			if (len > BYTES - at)
				len = BYTES - at;
			if (hub_disk_read(d, at, got[v] + at, len, why))
				fail_msg("%s", why);
		}
		for (at = 0; at < BYTES; at = next) {
			bool data = hub_disk_next(d, at, BYTES, &next);

			assert_true(next > at && next <= BYTES);
			for (i = at; !data && i < next; i++)
				assert_int_equal((*want)[v][i], 0);
		}
		hub_disk_close(d);
	}
	differ(want, test ? test : "live");
}

static void compare_view(const char *point, const image *want)
{
	unsigned int v;

	for (v = 0; v < SIM_VOLUMES; v++)
		read_view(point, v, got[v]);
	differ(want, point);
}

/* A random write of a guest, or zeroes, and the model has it too. Return the errno. */
static int write_random(const char *test, image *m)
{
	static uint8_t buf[256 * 512];
	static uint64_t number = 1000000;
	unsigned int v = (unsigned int)random() % SIM_VOLUMES, kind = (unsigned int)random() % 8;
	uint64_t nr = random() % 10 ? 1 + (uint64_t)random() % 16 : 1 + (uint64_t)random() % 256;
	uint64_t sector = (uint64_t)random() % (SIM_SECTORS - nr);
	struct hub_disk *d = open_disk(test, v);
	int err;

	sim_fill(buf, 0x777, number++, sector, nr);
	err = kind < 2 ? hub_disk_zero(d, NULL, sector * 512, nr * 512, kind, why) :
			 hub_disk_write(d, NULL, sector * 512, buf, nr * 512, why);
	if (!err && kind < 2)
		memset((*m)[v] + sector * 512, 0, nr * 512);
	else if (!err)
		memcpy((*m)[v] + sector * 512, buf, nr * 512);
	hub_disk_close(d);
	return err;
}

static void write_many(const char *test, unsigned int nr, image *m)
{
	while (nr--)
		if (write_random(test, m))
			fail_msg("%s", why);
}

static void flush_live(void)
{
	struct hub_disk *d = open_disk(NULL, 0);

	if (hub_disk_flush(d, why))
		fail_msg("%s", why);
	hub_disk_close(d);
}

static int fail_over(const char *point)
{
	return hub_failover(hub, "vm0", &(struct hub_order){ .point = point }, why);
}

/* ---- tests of a fail-over ------------------------------------------------ */

struct found {
	unsigned int nr;
	char text[HUB_TEXT_MAX];
	uint64_t seq;
};

static void note_mark(void *data, const struct hub_point_info *p)
{
	struct found *f = data;

	if (strcmp(p->what, "tested"))
		return;
	f->nr++;
	memcpy(f->text, p->text, sizeof(f->text));
	f->seq = p->seq;
}

/* Several at once, and the replication goes on; the hub is started anew; each has what was written to it. */
static void test_scratch(void **state)
{
	enum { TESTS = 3 };
	static image own[TESTS];
	char id[TESTS][HUB_TEST_ID];
	uint64_t seq[TESTS];
	struct found f = { 0 };
	struct stat st;
	char path[128];
	int i, k;

	(void)state;
	sim_start(&a);
	run(&a, 60);
	for (i = 0; i < TESTS; i++) {
		seq[i] = i ? some_point() : a.acked;
		if (hub_test_start(hub, "vm0", i ? point_name(seq[i]) : "latest", 0, id[i], why))
			fail_msg("%s", why);
		model_at(seq[i], &own[i]);
	}
	for (k = 0; k < 4; k++) {
		for (i = 0; i < TESTS; i++) {
			compare(id[i], &own[i]);
			write_many(id[i], 150, &own[i]);
			compare(id[i], &own[i]);
		}
		run(&a, 20);
		sim_compare(&a, seq[k % TESTS]);
		sim_compare(&a, a.acked);
		if (k % 2) {
			reopen(0);
			assert_int_equal(sim_connect(&a), 0);
			assert_int_equal(a.block.seq, a.acked);
		}
	}
	/* What holds the point is what keeps it from being folded. */
	for (k = 0; k < 20; k++)
		hub_tend(hub);
	struct hub_disk *open = open_disk(id[1], 0);

	assert_int_equal(hub_test_stop(hub, id[0], "passed", "all well", why), 0);
	assert_int_equal(hub_test_stop(hub, id[0], "passed", NULL, why), ENOENT);
	assert_int_equal(hub_test_stop(hub, id[1], NULL, NULL, why), 0);
	assert_true(hub_disk_over(open, why));
	assert_int_equal(hub_disk_write(open, NULL, 0, own[1], 512, why), ESHUTDOWN);
	assert_int_equal(hub_disk_read(open, 0, got, 512, why), ESHUTDOWN);
	hub_disk_close(open);
	snprintf(path, sizeof(path), "%s/groups/vm0/tests/%s", dir, id[1]);
	assert_int_equal(stat(path, &st), -1);
	compare(id[2], &own[2]);
	reopen(0);
	compare(id[2], &own[2]);
	assert_null(hub_test_open(hub, id[0], "disk0", why));
	assert_true(hub_points(hub, "vm0", false, 200, note_mark, &f));
	assert_int_equal(f.nr, 1);
	assert_int_equal(f.seq, seq[0]);
	assert_non_null(strstr(f.text, "passed"));
	assert_non_null(strstr(f.text, "all well"));
}

/* What may be written has an end; what was refused has changed nothing, and the replica has none of it. */
static void test_scratch_limit(void **state)
{
	char id[HUB_TEST_ID];
	unsigned int refused = 0;

	(void)state;
	sim_start(&a);
	run(&a, 20);
	assert_int_equal(hub_test_start(hub, "vm0", "latest", 2u << 20, id, why), 0);
	model_at(a.acked, &model);
	for (int i = 0; i < 2000 && refused < 20; i++) {
		int err = write_random(id, &model);

		if (err && err != ENOSPC)
			fail_msg("error %d: %s", err, why);
		refused += err == ENOSPC;
	}
	assert_int_equal(refused, 20);
	compare(id, &model);
	assert_int_equal(hub_test_start(hub, "vm0", "never", 0, id, why), ENOENT);
	assert_int_equal(hub_test_start(hub, "vm9", "latest", 0, id, why), ENOENT);
	assert_int_equal(hub_test_start(hub, "vm0", point_name(2), 0, id, why), ENOENT);
	assert_non_null(strstr(why, "resynchronised"));
	sim_compare(&a, a.acked);
}

/* ---- fail-over ----------------------------------------------------------- */

static void nothing_more(struct simagent *x)
{
	uint64_t end = hubgroup_last(vm0())->end;

	sim_begin(x, true);
	assert_true(sim_add(x, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(x), ESHUTDOWN);
	assert_int_equal(sim_flush(x), ESHUTDOWN);
	assert_non_null(strstr(x->reason, "fenced by generation"));
	assert_true(hub_session_over(x->session, why));
	assert_int_equal(sim_connect(x), ESHUTDOWN);
	sim_disconnect(x);
	assert_int_equal(sim_connect(x), 0);
	assert_int_equal(x->block.state, SESSION_FENCED);
	assert_non_null(strstr(x->block.reason, "fenced by generation"));
	assert_true(x->block.since != 0);
	assert_int_equal(sim_send(x), EINVAL);
	assert_int_equal(hubgroup_last(vm0())->end, end);
	sim_disconnect(x);
}

/*
 * At the latest point, and at earlier ones: live is what it was, has what is written to it, also after the hub was started anew,
 * and the history stays as it was. Then either end.
 */
static void test_live(void **state)
{
	uint64_t seq, generation;
	int i;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 6; i++) {
		run(&a, 60);
		seq = i % 2 ? some_point() : a.acked;
		generation = a.block.generation;
		model_at(seq, &model);
		model_at(a.acked, &before);
		failed_over(i % 2 ? point_name(seq) : "latest");
		assert_int_equal(vm0()->generation, generation + 1);
		assert_int_equal(fail_over("latest"), EBUSY);
		nothing_more(&a);
		a.next = a.acked + 1;
		a.nr_ops--;
		compare(NULL, &model);
		write_many(NULL, 300, &model);
		compare(NULL, &model);
		flush_live();
		compare_view("latest", &model);
		sim_compare(&a, seq);
		sim_compare(&a, a.acked);
		reopen(0);
		compare(NULL, &model);
		write_many(NULL, 300, &model);
		compare(NULL, &model);
		sim_compare(&a, some_point());
		sim_compare(&a, a.acked);
		/* Whatever generation it says. */
		for (unsigned int k = 0; k < 3; k++) {
			a.block.generation = k ? generation + k - 1 : 0;
			assert_int_equal(sim_connect(&a), 0);
			assert_int_equal(a.block.state, SESSION_FENCED);
			sim_disconnect(&a);
		}
		if (i == 5)
			break;
		if (hub_rollback(hub, "vm0", why))
			fail_msg("%s", why);
		assert_int_equal(hub_rollback(hub, "vm0", why), EBUSY);
		assert_null(hub_live_open(hub, "vm0", "disk0", why));
		compare_view("latest", &before);
		if (i > 2)
			reopen(0);
		compare_view("latest", &before);
		sim_compare(&a, some_point());
		/* Its source goes on where it was, and is told the new generation. */
		a.block.generation = generation;
		assert_int_equal(sim_connect(&a), 0);
		assert_int_equal(a.block.state, SESSION_ACCEPTING);
		assert_int_equal(a.block.seq, a.acked);
		assert_int_equal(a.block.generation, generation + 2);
	}
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	assert_int_equal(hub_rollback(hub, "vm0", why), EBUSY);
	compare(NULL, &model);
	write_many(NULL, 50, &model);
	flush_live();
	reopen(0);
	compare(NULL, &model);
	compare_view("latest", &model);
	/* The old side says its own generation, none, or even the present one. */
	for (i = 0; i < 3; i++) {
		a.block.generation = i == 0 ? generation : i == 1 ? 0 : generation + 1;
		assert_int_equal(sim_connect(&a), 0);
		assert_int_equal(a.block.state, i == 2 ? SESSION_STALE : SESSION_FENCED);
		sim_disconnect(&a);
	}
	/* One who was told that it is his has it, but not while live is in use. */
	struct hub_disk *d = open_disk(NULL, 1);

	memcpy(b.block.group, a.block.group, sizeof(b.block.group));
	b.block.generation = generation + 1;
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.state, SESSION_FENCED);
	assert_non_null(strstr(b.block.reason, "in use"));
	assert_int_equal(hub_disk_write(d, NULL, 0, model[1], 512, why), 0);
	hub_disk_close(d);
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.state, SESSION_ACCEPTING);
	assert_null(hub_live_open(hub, "vm0", "disk0", why));
	hub_tend(hub);
	sim_begin(&b, true);
	assert_true(sim_add(&b, REPAGENT_REC_WRITE, 2, 5, 1));
	assert_int_equal(sim_send(&b), 0);
	assert_int_equal(sim_flush(&b), 0);
	sim_fill(model[2] + 5 * 512, b.incarnation, 1, 5, 1);
	compare_view("latest", &model);
	reopen(0);
	compare_view("latest", &model);
	assert_null(hub_live_open(hub, "vm0", "disk0", why));
}

/* What a client sent that lost its connection does not come behind what is sent again. */
static void test_one_writer(void **state)
{
	static const struct hub_writer first = { .client = 1 }, second = { .client = 2 }, here = { 3, 0xa }, here_again = { 5, 0xa },
				       there = { 4, 0xb }, third = { 6, 0xc };
	struct hub_disk *old, *new;
	uint8_t got[512];

	(void)state;
	sim_start(&a);
	run(&a, 20);
	assert_int_equal(hub_failover(hub, "vm0", &(struct hub_order){ .point = "latest" }, why), 0);
	old = open_disk(NULL, 0);
	new = open_disk(NULL, 0);
	assert_int_equal(hub_disk_write(old, &first, 0, model[0], 512, why), 0);
	assert_int_equal(hub_disk_write(new, &second, 0, model[1], 512, why), 0);
	assert_int_equal(hub_disk_write(old, &first, 0, model[0], 512, why), ESHUTDOWN);
	assert_non_null(strstr(why, "one writer"));
	assert_int_equal(hub_disk_zero(old, &first, 0, 512, false, why), ESHUTDOWN);
	assert_int_equal(hub_disk_read(old, 0, got, 512, why), 0);
	assert_memory_equal(got, model[1], 512);

	/* A host that was replaced does not come back, however it connects. */
	assert_int_equal(hub_disk_write(old, &here, 0, model[0], 512, why), 0);
	assert_false(hub_disk_displaced(old, here.token, why));
	assert_int_equal(hub_disk_write(new, &there, 0, model[1], 512, why), 0);
	assert_true(hub_disk_displaced(old, here.token, why));
	assert_int_equal(hub_disk_write(old, &here_again, 0, model[0], 512, why), EPERM);
	assert_non_null(strstr(why, "taken this volume over"));
	assert_int_equal(hub_disk_write(new, &there, 512, model[1], 512, why), 0);

	/* The other volume has a writer of its own. */
	hub_disk_close(old);
	old = open_disk(NULL, 1);
	assert_int_equal(hub_disk_write(old, &first, 0, model[1], 512, why), 0);
	assert_int_equal(hub_disk_write(old, &here, 0, model[1], 512, why), 0);
	hub_disk_close(old);
	hub_disk_close(new);

	/* A hub that was started anew knows all that, also who wrote last, and for as long as the fail-over is. */
	for (int i = 0; i < 2; i++) {
		reopen(0);
		old = open_disk(NULL, 0);
		assert_true(hub_disk_displaced(old, here.token, why));
		assert_int_equal(hub_disk_write(old, &here_again, 0, model[0], 512, why), EPERM);
		assert_false(hub_disk_displaced(old, there.token, why));
		assert_false(hub_disk_displaced(old, third.token, why));
		hub_disk_close(old);
		old = open_disk(NULL, 1);
		assert_false(hub_disk_displaced(old, here.token, why));
		hub_disk_close(old);
		if (!i)
			assert_int_equal(hub_commit(hub, "vm0", why), 0);
	}
	new = open_disk(NULL, 0);
	assert_int_equal(hub_disk_write(new, &third, 0, model[0], 512, why), 0);
	assert_int_equal(hub_disk_write(new, &there, 0, model[0], 512, why), EPERM);
	hub_disk_close(new);
	/* The next fail-over begins with nobody. */
	assert_int_equal(hub_failover(hub, "vm0", &(struct hub_order){ .point = "latest" }, why), 0);
	for (int i = 0; i < 2; i++) {
		new = open_disk(NULL, 0);
		assert_false(hub_disk_displaced(new, here.token, why));
		assert_false(hub_disk_displaced(new, there.token, why));
		hub_disk_close(new);
		reopen(0);
	}
	new = open_disk(NULL, 0);
	assert_int_equal(hub_disk_write(new, &here, 0, model[0], 512, why), 0);
	hub_disk_close(new);
}

/*
 * A read of the journal or the base that fails for want of something is tried again; then the answer is one that has the
 * client ask again, and never EIO, which would be passed on to the VM. That is said of a disk that cannot read.
 */
static void test_reads_that_fail(void **state)
{
	static const int passing[] = { ENOMEM, EAGAIN, EMFILE, ETIMEDOUT }, lasting[] = { EIO, EUCLEAN, ENODATA };
	struct hub_retention two = { .bytes = 2 * SEGMENT, .own = true };
	static uint8_t bytes[BYTES];
	struct group *g;
	struct hub_disk *d;
	unsigned int v;
	size_t i;

	(void)state;
	sim_start(&a);
	run(&a, 200);
	g = hub_find(hub, "vm0");
	/* Folding is put off, and not ended. */
	assert_int_equal(hub_set_retention(hub, "vm0", &two, why), 0);
	bad_read = (struct bad_read){ ENOMEM, UINT_MAX, 0 };
	hub_tend(hub);
	assert_true(bad_read.failed > 0);
	bad_read.err = 0;
	assert_true(g->half);
	assert_string_equal(g->trouble, "");
	g->fold_next = 0;
	hub_tend(hub);
	assert_false(g->half);
	model_at(a.acked, &model);
	assert_int_equal(fail_over("latest"), 0);
	for (v = 0; v < SIM_VOLUMES; v++) {
		d = open_disk(NULL, v);
		for (i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
			bad_read = (struct bad_read){ passing[i], 3, 0 };
			assert_int_equal(hub_disk_read(d, 0, bytes, BYTES, why), 0);
			assert_int_equal(bad_read.failed, 3);
			assert_memory_equal(bytes, model[v], BYTES);
		}
		bad_read = (struct bad_read){ EINTR, 1000, 0 };
		assert_int_equal(hub_disk_read(d, 0, bytes, BYTES, why), 0);
		assert_memory_equal(bytes, model[v], BYTES);
		if (!v) {
			bad_read = (struct bad_read){ EMFILE, UINT_MAX, 0 };
			assert_int_equal(hub_disk_read(d, 0, bytes, BYTES, why), ENOMEM);
			assert_non_null(strstr(why, strerror(EMFILE)));
		}
		bad_read = (struct bad_read){ lasting[v], UINT_MAX, 0 };
		assert_int_equal(hub_disk_read(d, 0, bytes, BYTES, why), EIO);
		assert_int_equal(bad_read.failed, 1);
		bad_read.err = 0;
		hub_disk_close(d);
	}
	compare(NULL, &model);
}

/* A typo disturbs nobody; neither does a point that cannot be used. */
static void test_refused(void **state)
{
	static const char *const bad[] = { "never", "999999", "3", "time:99999999" };
	struct hub_order o = { .point = "latest", .planned = true };
	size_t i;

	(void)state;
	sim_start(&a);
	run(&a, 5);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(fail_over(bad[i]), ENOENT);
	assert_int_equal(hub_failover(hub, "vm9", &o, why), ENOENT);
	assert_int_equal(hub_failover(hub, "vm0", &o, why), EAGAIN);
	assert_non_null(strstr(why, "has not said that it ended"));
	assert_int_equal(hub_commit(hub, "vm0", why), EBUSY);
	assert_int_equal(hub_rollback(hub, "vm0", why), EBUSY);
	assert_null(hub_live_open(hub, "vm0", "disk0", why));
	run(&a, 5);
	/* A volume in the midst of its resync: not without saying so. */
	sim_begin(&a, false);
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, 1, 0, SIM_SECTORS));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	assert_int_equal(fail_over("latest"), ENOENT);
	assert_non_null(strstr(why, "volume disk1 is being resynchronised"));
	o = (struct hub_order){ .point = "latest", .partial = true };
	assert_int_equal(hub_failover(hub, "vm0", &o, why), 0);
	assert_null(hub_live_open(hub, "vm0", "disk1", why));
	hub_disk_close(open_disk(NULL, 2));
}

/* A planned move takes place once the source has said that it ended, and loses nothing. */
static void test_planned(void **state)
{
	struct hub_order o = { .point = "latest", .planned = true };

	(void)state;
	sim_start(&a);
	run(&a, 30);
	sim_begin(&a, false);
	sim_label(&a, "moving");
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	assert_int_equal(hub_failover(hub, "vm0", &o, why), EAGAIN);
	/* A point behind which nothing came is as good. */
	o.point = "moving";
	assert_int_equal(hub_failover(hub, "vm0", &o, why), 0);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	sim_disconnect(&a);
	assert_int_equal(sim_connect(&a), 0);
	run(&a, 1);
	assert_int_equal(hub_failover(hub, "vm0", &o, why), EAGAIN);
	assert_non_null(strstr(why, "writes behind"));
	o.point = "latest";
	sim_begin(&a, false);
	assert_true(sim_add(&a, REPAGENT_REC_SHUTDOWN, 0, 0, 0));
	assert_true(sim_add(&a, REPAGENT_REC_MAP_ERROR, 0, 0, 0));
	sim_label(&a, "@timed");
	assert_int_equal(sim_send(&a), 0);	/* and no flush */
	model_at(a.next - 1, &model);
	assert_int_equal(hub_failover(hub, "vm0", &o, why), 0);
	compare(NULL, &model);
}

/* What the closed session had sent counts; it gets no answer, and a frame of the generation before is refused for ever. */
static void test_old_frames(void **state)
{
	(void)state;
	sim_start(&a);
	run(&a, 5);
	sim_random(&a, 3);
	assert_int_equal(hub_find(hub, "vm0")->durable.seq, a.acked);
	failed_over("latest");
	/* What was not flushed was made durable, and counts. */
	model_at(a.next - 1, &model);
	compare(NULL, &model);
	assert_int_equal(sim_flush(&a), ESHUTDOWN);
	sim_disconnect(&a);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FENCED);
	uint64_t generation = a.block.generation;

	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	sim_disconnect(&a);
	b.incarnation = 0xb0b;
	memcpy(b.block.group, a.block.group, sizeof(b.block.group));
	b.block.generation = generation;
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.state, SESSION_ACCEPTING);
	b.block.generation = generation - 1;
	sim_begin(&b, true);
	assert_true(sim_add(&b, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(&b), EPERM);
	assert_non_null(strstr(b.reason, "generation"));
}

/* ---- the end of the hub, at any step -------------------------------------- */

static unsigned int steps_left;

static void count_step(void *data, const char *what)
{
	(void)data;
	(void)what;
	if (!--steps_left)
		_exit(0);
}

static void silent(void *data, int priority, const char *line)
{
	(void)data;
	(void)priority;
	(void)line;
}

/* In a process of its own, which ends after so many steps. Return whether it came to its end. */
static bool do_and_die(int (*what)(struct hub *h), unsigned int steps)
{
	char error[HUB_ERROR_MAX];
	struct hub_options o;
	struct hub *h;
	pid_t pid;
	int status;

	close_hub();
	pid = fork();
	if (!pid) {
		hub_options_init(&o);
		o.segment = SEGMENT;
		o.keep.bytes = 0;
		o.log = silent;
		steps_left = steps;
		o.step = count_step;
		h = hub_open(dir, &o, error);
		if (!h || what(h))
			_exit(2);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	open_hub(0);
	assert_string_equal(vm0()->trouble, "");
	return WEXITSTATUS(status) == 1;
}

static char chosen[64];

static int do_failover(struct hub *h)
{
	return hub_failover(h, "vm0", &(struct hub_order){ .point = chosen }, why);
}

static int do_commit(struct hub *h)
{
	return hub_commit(h, "vm0", why);
}

static int do_rollback(struct hub *h)
{
	return hub_rollback(h, "vm0", why);
}

static void agent_goes_on(uint64_t generation)
{
	a.block.generation = generation;
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_ACCEPTING);
	assert_int_equal(a.block.seq, a.acked);
	run(&a, 10);
	sim_compare(&a, a.acked);
}

/* After each step of each change: it is the one or the other, and goes on from there. */
static void test_ends(void **state)
{
	uint64_t generation, seq;
	unsigned int n, round;
	bool done;

	(void)state;
	sim_start(&a);
	run(&a, 60);
	for (round = 0; round < 2; round++) {
		for (n = 1, done = false; !done; n++) {
			generation = a.block.generation;
			seq = round ? some_point() : a.acked;
			snprintf(chosen, sizeof(chosen), "%s", point_name(seq));
			done = do_and_die(do_failover, n);
			model_at(seq, &model);
			if (vm0()->failover.state == FAILOVER_NONE) {
				assert_false(done);
				assert_int_equal(vm0()->generation, generation);
				agent_goes_on(generation);
				continue;
			}
			assert_int_equal(vm0()->generation, generation + 1);
			compare(NULL, &model);
			write_many(NULL, 20, &model);
			assert_int_equal(hub_rollback(hub, "vm0", why), 0);
			agent_goes_on(generation);
		}
		assert_true(n > 4);
		for (n = 1, done = false; !done; n++) {
			generation = a.block.generation;
			seq = round ? some_point() : a.acked;
			model_at(seq, &model);
			model_at(a.acked, &before);
			failed_over(point_name(seq));
			/* Several segments of it. */
			write_many(NULL, n % 3 ? 40 : 400, &model);
			flush_live();
			done = do_and_die(do_rollback, n);
			if (vm0()->failover.state == FAILOVER_LIVE) {
				assert_false(done);
				compare(NULL, &model);
				assert_int_equal(hub_rollback(hub, "vm0", why), 0);
			}
			assert_int_equal(vm0()->failover.state, FAILOVER_NONE);
			compare_view("latest", &before);
			agent_goes_on(generation);
		}
		assert_true(n > 4);
	}
	failed_over(point_name(seq));
	model_at(seq, &model);
	write_many(NULL, 100, &model);
	flush_live();
	for (n = 1, done = false; !done && vm0()->failover.state == FAILOVER_LIVE; n++) {
		done = do_and_die(do_commit, n);
		compare(NULL, &model);
	}
	assert_int_equal(vm0()->failover.state, FAILOVER_COMMITTED);
	compare_view("latest", &model);
}

/* ---- power cuts and kills under load -------------------------------------- */

#define LOG_WRITES	400

static struct sim_op written[LOG_WRITES];

static void apply(unsigned int from, unsigned int to)
{
	for (; from < to; from++)
		sim_fill(model[written[from].volume] + written[from].sector * 512, 0x999, from, written[from].sector,
			 written[from].nr);
}

static off_t last_size(const struct segment *s)
{
	struct stat st;

	assert_int_equal(fstat(s->fd, &st), 0);
	return st.st_size;
}

/*
 * A guest writes, and flushes now and then; then the power goes, and of what was not flushed the disk has any beginning, with
 * whatever behind it. All that was flushed is there, and all is as it was after some write behind that.
 */
static void test_power_cut(void **state)
{
	static uint8_t buf[64 * 512];
	unsigned int round, i, flushed, k;
	char path[256];
	off_t safe, size;

	(void)state;
	sim_start(&a);
	run(&a, 30);
	model_at(a.acked, &model);
	failed_over("latest");
	for (round = 0; round < 12; round++) {
		flushed = 0;
		safe = last_size(hubgroup_last(vm0()));
		for (i = 0; i < LOG_WRITES / 4; i++) {
			struct hub_disk *d;

			written[i] = (struct sim_op){ .volume = (unsigned int)random() % SIM_VOLUMES, .nr = 1 + (uint64_t)random() % 40 };
			written[i].sector = (uint64_t)random() % (SIM_SECTORS - written[i].nr);
			sim_fill(buf, 0x999, i, written[i].sector, written[i].nr);
			d = open_disk(NULL, written[i].volume);
			assert_int_equal(hub_disk_write(d, NULL, written[i].sector * 512, buf, written[i].nr * 512, why), 0);
			if (!(random() % 30)) {
				assert_int_equal(hub_disk_flush(d, why), 0);
				flushed = i + 1;
				safe = last_size(hubgroup_last(vm0()));
			} else if (hubgroup_last(vm0())->nr_frames == 1) {
				flushed = i;	/* a segment is begun when all before is durable */
				safe = SEGMENT_HEADER;
			}
			hub_disk_close(d);
		}
		snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, hubgroup_last(vm0())->name);
		size = last_size(hubgroup_last(vm0()));
		close_hub();
		/* What hub_close() did for good measure, the power cut undoes. */
		size = safe + random() % (size - safe + 1);
		assert_int_equal(truncate(path, size), 0);
		char mark[256];

		snprintf(mark, sizeof(mark), "%s/groups/vm0/mark", dir);
		assert_int_equal(truncate(mark, 0), 0);
		open_hub(0);
		assert_string_equal(vm0()->trouble, "");
		/* After which write is that? */
		apply(0, flushed);
		for (k = flushed;; k++) {
			unsigned int v;

			for (v = 0; v < SIM_VOLUMES; v++) {
				struct hub_disk *d = open_disk(NULL, v);

				assert_int_equal(hub_disk_read(d, 0, got[v], BYTES, why), 0);
				hub_disk_close(d);
			}
			if (!memcmp(got, model, sizeof(model)))
				break;
			if (k == i)
				fail_msg("round %u: it is none of the images after write %u to %u", round, flushed, i);
			apply(k, k + 1);
		}
	}
}

/* Fold all that may be. */
static void fold_all(void)
{
	for (int i = 0; i < 50; i++)
		hub_tend(hub);
}

/*
 * A fail-over to an earlier point, committed; then folding passes the place where the log went on from there. What is kept
 * stays what it was; before the commit nothing is folded that either end needs.
 */
static void test_fold(void **state)
{
	uint64_t seq, generation = 0;
	unsigned int round;

	(void)state;
	sim_start(&a);
	run(&a, 120);
	close_hub();
	open_hub(2 * SEGMENT);
	seq = a.acked - 20;
	model_at(seq, &model);
	model_at(a.acked, &before);
	failed_over(point_name(seq));
	write_many(NULL, 800, &model);
	fold_all();
	assert_true(vm0()->segment[0]->start > SESSION_SIZE);
	compare(NULL, &model);
	sim_compare(&a, seq);
	sim_compare(&a, a.acked);
	/* Back, and there again. */
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	compare_view("latest", &before);
	model_at(seq, &model);
	failed_over(point_name(seq));
	write_many(NULL, 400, &model);
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	compare(NULL, &model);
	fold_all();
	sim_compare(&a, seq);
	generation = vm0()->generation;
	memcpy(b.block.group, a.block.group, sizeof(b.block.group));
	if (!b.block.group[0] && !b.block.group[1])
		memcpy(b.block.group, vm0()->uuid, sizeof(b.block.group));
	b.block.generation = generation;
	flush_live();
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.state, SESSION_ACCEPTING);
	/* A view of the abandoned end, open all the while. */
	static image abandoned;
	struct hub_view *view = hub_view_open(hub, "vm0", "disk1", point_name(a.acked), why);

	assert_non_null(view);
	memcpy(abandoned[1], before[1], BYTES);
	for (round = 0; round < 30; round++) {
		sim_begin(&b, !round);
		for (int i = 0; i < 12; i++) {
			uint64_t nr = 1 + (uint64_t)random() % 30, at = (uint64_t)random() % (SIM_SECTORS - nr);
			unsigned int v = (unsigned int)random() % SIM_VOLUMES;

			sim_fill(model[v] + at * 512, b.incarnation, b.next, at, nr);
			assert_true(sim_add(&b, REPAGENT_REC_WRITE, v, at, nr));
		}
		assert_int_equal(sim_send(&b), 0);
		assert_int_equal(sim_flush(&b), 0);
		hub_tend(hub);
		compare_view("latest", &model);
		if (round % 7 == 3) {
			assert_int_equal(hub_view_read(view, 0, got[1], BYTES, why), 0);
			assert_memory_equal(got[1], abandoned[1], BYTES);
		}
	}
	hub_view_close(view);
	for (round = 0; round < 400 && !vm0()->segment[0]->branch && vm0()->segment[0]->begin.incarnation == a.incarnation; round++) {
		sim_begin(&b, false);
		for (int i = 0; i < 30; i++) {
			sim_fill(model[0] + 100 * 512, b.incarnation, b.next, 100, 60);
			assert_true(sim_add(&b, REPAGENT_REC_WRITE, 0, 100, 60));
		}
		assert_int_equal(sim_send(&b), 0);
		assert_int_equal(sim_flush(&b), 0);
		hub_tend(hub);
		if (round % 10 == 0)
			compare_view("latest", &model);
	}
	assert_true(round < 400);
	assert_string_equal(vm0()->trouble, "");
	compare_view("latest", &model);
	reopen(0);
	assert_string_equal(vm0()->trouble, "");
	compare_view("latest", &model);
}

struct ranges {
	uint8_t changed[BYTES];
	unsigned int nr;
};

static bool note_range(void *data, uint64_t offset, uint64_t length)
{
	struct ranges *r = data;

	memset(r->changed + offset, 1, length);
	r->nr++;
	return true;
}

/* The old side has its disk as it was at its end; with what is told, and nothing else, it has what live has. */
static void test_changed(void **state)
{
	static struct ranges r;
	uint64_t seq, i;
	unsigned int v;

	(void)state;
	sim_start(&a);
	run(&a, 40);
	seq = a.acked;
	run(&a, 3);
	model_at(seq, &model);
	model_at(a.acked, &before);
	failed_over(point_name(seq));
	write_many(NULL, 30, &model);
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	reopen(0);
	for (v = 0; v < SIM_VOLUMES; v++) {
		char name[16];
		unsigned int sectors = 0;

		snprintf(name, sizeof(name), "disk%u", v);
		memset(&r, 0, sizeof(r));
		if (hub_changed(hub, "vm0", name, point_name(seq), note_range, &r, why))
			fail_msg("%s", why);
		for (i = 0; i < BYTES; i++) {
			sectors += i % 512 == 0 && r.changed[i];
			if (before[v][i] != model[v][i] && !r.changed[i])
				fail_msg("%s: byte %" PRIu64 " differs, and is not told", name, i);
		}
		assert_in_range(sectors, 1, SIM_SECTORS / 2 + SIM_SECTORS / 4);
	}
	assert_int_equal(hub_changed(hub, "vm0", "disk9", "latest", note_range, &r, why), ENOENT);
	assert_int_equal(hub_changed(hub, "vm9", "disk0", "latest", note_range, &r, why), ENOENT);
	assert_int_equal(hub_changed(hub, "vm0", "disk0", "never", note_range, &r, why), ENOENT);
	memset(&r, 0, sizeof(r));
	assert_int_equal(hub_changed(hub, "vm0", "disk0", "latest", note_range, &r, why), 0);
	assert_int_equal(r.nr, 0);
}

/* Where the two images differ is told; return how many sectors are. */
static unsigned int told(const char *point, const image *old, const image *now)
{
	static struct ranges r;
	unsigned int v, sectors = 0;
	char name[16];
	uint64_t i;

	for (v = 0; v < SIM_VOLUMES; v++) {
		snprintf(name, sizeof(name), "disk%u", v);
		memset(&r, 0, sizeof(r));
		if (hub_changed(hub, "vm0", name, point, note_range, &r, why))
			fail_msg("%s: %s", point, why);
		for (i = 0; i < BYTES; i++) {
			sectors += i % 512 == 0 && r.changed[i];
			if ((*old)[v][i] != (*now)[v][i] && !r.changed[i])
				fail_msg("since %s: byte %" PRIu64 " of %s differs, and is not told", point, i, name);
		}
	}
	return sectors;
}

/* Another agent has the group, and writes until nothing is left of what was in the journal before. */
static void go_on_and_fold(struct simagent *x, image *m)
{
	unsigned int round, i;

	x->block.generation = vm0()->generation;
	memcpy(x->block.group, vm0()->uuid, sizeof(x->block.group));
	assert_int_equal(sim_connect(x), 0);
	assert_int_equal(x->block.state, SESSION_ACCEPTING);
	for (round = 0; round < 400 && vm0()->segment[0]->begin.incarnation != x->incarnation; round++) {
		sim_begin(x, !round);
		for (i = 0; i < 30; i++) {
			uint64_t at = 100 + (uint64_t)random() % 200;

			sim_fill((*m)[0] + at * 512, x->incarnation, x->next, at, 60);
			assert_true(sim_add(x, REPAGENT_REC_WRITE, 0, at, 60));
		}
		assert_int_equal(sim_send(x), 0);
		assert_int_equal(sim_flush(x), 0);
		hub_tend(hub);
	}
	assert_true(round < 400);
	assert_string_equal(vm0()->trouble, "");
}

static unsigned int forks_there(void)
{
	char path[256];
	unsigned int nr = 0;
	struct fork *f;
	struct stat st;

	SLIST_FOREACH(f, &vm0()->forks, link) {
		/* cppcheck-suppress uninitvar ; the macro sets it */
		snprintf(path, sizeof(path), "%s/groups/vm0/fork.%016" PRIx64, dir, f->start);
		assert_int_equal(!stat(path, &st), !f->gone);
		nr += !f->gone;
	}
	return nr;
}

static char said[HUB_BACK_MAX];

static void back_says(const char *since, const char *what)
{
	struct hub_back *back = hub_back_open(hub, "vm0", "disk0", since, why);

	assert_non_null(back);
	snprintf(said, sizeof(said), "%s", hub_back_text(back));
	hub_back_close(back);
	if (!strstr(said, what))
		fail_msg("'%s': expected '%s'", said, what);
}

/*
 * The old side is away for so long that the journal has nothing of it, nor of live, any more: what has changed since is known
 * all the same, also to a hub that was started anew, and of what the old side was brought up to on the way.
 */
static void test_fork(void **state)
{
	static image end, pulled;
	static struct ranges r;
	char old[64], own[80], on_the_way[64];
	uint64_t seq;

	(void)state;
	sim_start(&a);
	run(&a, 40);
	seq = a.acked;
	run(&a, 3);
	snprintf(old, sizeof(old), "%s", point_name(a.acked));
	model_at(seq, &model);
	model_at(a.acked, &end);
	back_says(old, "refused: group vm0 was never failed over");
	failed_over(point_name(seq));
	assert_int_equal(forks_there(), 1);
	write_many(NULL, 10, &model);
	back_says(old, "refused: the fail-over is not committed");
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	assert_int_equal(forks_there(), 0);
	model_at(seq, &model);
	failed_over(point_name(seq));
	write_many(NULL, 30, &model);
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	flush_live();
	back_says(old, ", at rest");
	assert_int_equal(sscanf(said, "at %63[^,]", on_the_way), 1);
	back_says(NULL, ", at rest; unknown: no position");
	back_says(point_name(a.acked + 1), ", at rest; unknown: ");
	memcpy(pulled, model, sizeof(pulled));
	/* Another fail-over, to before that: what was pulled is abandoned too. */
	write_many(NULL, 5, &model);
	flush_live();
	assert_true(told(on_the_way, &pulled, &model));
	failed_over(on_the_way);
	memcpy(model, pulled, sizeof(model));
	write_many(NULL, 5, &model);
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	flush_live();
	told(on_the_way, &pulled, &model);
	assert_in_range(told(old, &end, &model), 1, SIM_VOLUMES * SIM_SECTORS / 2);
	close_hub();
	open_hub(2 * SEGMENT);
	go_on_and_fold(&b, &model);
	snprintf(own, sizeof(own), "%s+", old);
	assert_in_range(told(own, &end, &model), 1, SIM_VOLUMES * SIM_SECTORS / 2);
	snprintf(own, sizeof(own), "%s+", point_name(seq));
	assert_int_equal(told(own, &end, &model), told(own, &end, &model));
	/* Of what was never at its end, or was not its writer, nothing can be said. */
	snprintf(own, sizeof(own), "%s+", point_name(a.acked + 1));
	assert_int_equal(hub_changed(hub, "vm0", "disk0", own, note_range, &r, why), ENOENT);
	assert_int_equal(hub_changed(hub, "vm0", "disk0", old, note_range, &r, why), ENOENT);
	assert_int_equal(hub_changed(hub, "vm0", "disk0", on_the_way, note_range, &r, why), ENOENT);
	snprintf(own, sizeof(own), "%s+", old);
	close_hub();
	open_hub(2 * SEGMENT);
	assert_int_equal(forks_there(), 2);
	told(own, &end, &model);
	back_says(own, ", in use: its source has not ended");
	assert_null(strstr(said, "unknown"));
	assert_int_equal(sim_connect(&b), 0);
	sim_begin(&b, true);
	assert_true(sim_add(&b, REPAGENT_REC_SHUTDOWN, 0, 0, 0));
	assert_int_equal(sim_send(&b), 0);
	back_says(own, ", in use");
	assert_int_equal(sim_flush(&b), 0);
	back_says(own, ", at rest");
}

/* A file of what has changed that is not what was written, or of a journal that was damaged, is worth nothing. */
static void test_fork_damaged(void **state)
{
	struct ranges *r = calloc(1, sizeof(*r));
	char old[80], path[256];
	uint8_t byte;
	int fd;

	(void)state;
	sim_start(&a);
	run(&a, 40);
	snprintf(old, sizeof(old), "%s+", point_name(a.acked));
	model_at(a.acked, &model);
	failed_over("latest");
	write_many(NULL, 30, &model);
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	flush_live();
	close_hub();
	open_hub(2 * SEGMENT);
	go_on_and_fold(&b, &model);
	assert_int_equal(hub_changed(hub, "vm0", "disk0", old, note_range, r, why), 0);
	snprintf(path, sizeof(path), "%s/groups/vm0/fork.%016" PRIx64, dir, SLIST_FIRST(&vm0()->forks)->start);
	close_hub();
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, 200), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 200), 1);
	close(fd);
	open_hub(2 * SEGMENT);
	assert_int_equal(forks_there(), 0);
	assert_int_equal(hub_changed(hub, "vm0", "disk0", old, note_range, r, why), ENOENT);
	free(r);
}

static bool meet_rollback;

/*
 * struct slow_sync - fdatasync(), while @on
 * @calls:	so many came
 * @others:	the first waits for so many more, but for 0.2 s at most
 * @err:	of the first, and of no other, as the kernel has it
 */
static struct {
	bool on;
	atomic_uint calls;
	unsigned int others;
	int err;
} slow_sync;

static int sync_slowly(void)
{
	if (slow_sync.calls++)
		return 0;
	for (unsigned int i = 0; i < 200 && slow_sync.calls <= slow_sync.others; i++)
		usleep(1000);
	errno = slow_sync.err;
	return slow_sync.err ? -1 : 0;
}

/* A commit is just being synced, with no lock held: a rollback has been noted, and has yet to do its work. */
int fdatasync(int fd)
{
	if (slow_sync.on)
		return sync_slowly();
	if (meet_rollback) {
		meet_rollback = false;
		pthread_mutex_lock(&vm0()->lock);
		vm0()->failover.state = FAILOVER_ROLLBACK;
		pthread_mutex_unlock(&vm0()->lock);
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static void test_commit_meets_rollback(void **state)
{
	(void)state;
	sim_start(&a);
	run(&a, 5);
	model_at(a.acked, &before);
	model_at(a.acked, &model);
	failed_over("latest");
	write_many(NULL, 10, &model);
	meet_rollback = true;
	assert_int_equal(hub_commit(hub, "vm0", why), EBUSY);
	assert_false(meet_rollback);
	assert_int_equal(vm0()->failover.state, FAILOVER_ROLLBACK);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	compare_view("latest", &before);
}

static void *flush_disk(void *disk)
{
	char reason[HUB_REASON_MAX];

	return (void *)(intptr_t)hub_disk_flush(disk, reason);
}

static void *flush_session(void *session)
{
	char reason[HUB_REASON_MAX];

	return (void *)(intptr_t)hub_session_flush(session, reason);
}

/* A flush in a thread, whose fdatasync() is under way then. */
static pthread_t begin_flush(void *(*flush)(void *), void *of, unsigned int others, int err)
{
	pthread_t thread;

	slow_sync.calls = 0;
	slow_sync.others = others;
	slow_sync.err = err;
	slow_sync.on = true;
	assert_int_equal(pthread_create(&thread, NULL, flush, of), 0);
	while (!slow_sync.calls)
		usleep(1000);
	return thread;
}

static int end_flush(pthread_t thread)
{
	void *err;

	assert_int_equal(pthread_join(thread, &err), 0);
	return (int)(intptr_t)err;
}

/* The kernel tells one of those who ask that something could not be written; none of them is told that it is durable. */
static void test_failed_sync(void **state)
{
	struct hub_disk *d[2];
	pthread_t thread;
	int err;

	(void)state;
	sim_start(&a);
	run(&a, 3);
	/* A segment is begun meanwhile: that says that all before it is durable. */
	sim_random(&a, 5);
	thread = begin_flush(flush_session, a.session, 1, EIO);
	pthread_mutex_lock(&vm0()->lock);
	err = hubgroup_roll(vm0(), why);
	pthread_mutex_unlock(&vm0()->lock);
	assert_int_equal(end_flush(thread), EIO);
	slow_sync.on = false;
	assert_int_equal(err, EIO);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_ACCEPTING);
	assert_int_equal(a.block.seq, a.acked);
	a.next = a.acked + 1;
	while (a.op[a.nr_ops - 1].seq > a.acked)
		a.nr_ops--;
	run(&a, 3);
	sim_compare(&a, a.acked);
	/* Two disks. */
	failed_over("latest");
	write_many(NULL, 10, &model);
	d[0] = open_disk(NULL, 0);
	d[1] = open_disk(NULL, 1);
	thread = begin_flush(flush_disk, d[0], 1, EIO);
	err = hub_disk_flush(d[1], why);
	assert_int_equal(end_flush(thread), EIO);
	slow_sync.on = false;
	assert_int_equal(err, EIO);
	assert_int_equal(hub_disk_flush(d[1], why), EIO);
	hub_disk_close(d[0]);
	hub_disk_close(d[1]);
}

/* Those who ask while a sync is under way share the next one. */
static void test_shared_sync(void **state)
{
	enum { MORE = 4 };
	pthread_t thread[1 + MORE];
	struct hub_disk *d;
	unsigned int i;

	(void)state;
	sim_start(&a);
	run(&a, 3);
	model_at(a.acked, &model);
	failed_over("latest");
	write_many(NULL, 10, &model);
	d = open_disk(NULL, 0);
	thread[0] = begin_flush(flush_disk, d, MORE, 0);
	write_many(NULL, 10, &model);
	for (i = 1; i <= MORE; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, flush_disk, d), 0);
	for (i = 0; i <= MORE; i++)
		assert_int_equal(end_flush(thread[i]), 0);
	slow_sync.on = false;
	assert_int_equal(slow_sync.calls, 2);
	assert_int_equal(vm0()->durable.offset, hubgroup_last(vm0())->end);
	hub_disk_close(d);
	compare(NULL, &model);
}

/* A fail-over to an earlier point is committed, and another agent has the group then, and writes. */
static void another_has_it(uint64_t seq)
{
	model_at(seq, &model);
	failed_over(point_name(seq));
	write_many(NULL, 10, &model);
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	b.block.generation = vm0()->generation;
	memcpy(b.block.group, vm0()->uuid, sizeof(b.block.group));
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.state, SESSION_ACCEPTING);
	sim_begin(&b, true);
	sim_fill(model[1] + 7 * 512, b.incarnation, b.next, 7, 3);
	assert_true(sim_add(&b, REPAGENT_REC_WRITE, 1, 7, 3));
	assert_int_equal(sim_send(&b), 0);
	assert_int_equal(sim_flush(&b), 0);
	assert_true(hubgroup_last(vm0())->branch);
}

/* What goes on from an earlier point is cut, for a write failed: it goes on from there all the same. */
static void test_branch_is_cut(void **state)
{
	struct rlimit old, less;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	sim_start(&a);
	run(&a, 30);
	another_has_it(some_point());
	less = old;
	less.rlim_cur = (rlim_t)last_size(hubgroup_last(vm0())) + 700;
	sim_begin(&b, false);
	assert_true(sim_add(&b, REPAGENT_REC_WRITE, 0, 0, 8));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
	assert_int_equal(sim_send(&b), EIO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.seq, b.acked);
	assert_true(hubgroup_last(vm0())->branch);
	compare_view("latest", &model);
	b.next = b.acked + 1;
	close_hub();
	open_hub(2 * SEGMENT);
	go_on_and_fold(&b, &model);
	compare_view("latest", &model);
}

/* It went on from an earlier point, and that cannot be read any more: what came then is worth nothing, and that is said. */
static void test_branch_from_damage(void **state)
{
	char path[256], index[256];
	struct stat st;
	uint8_t byte;
	int fd;

	(void)state;
	sim_start(&a);
	run(&a, 3);
	another_has_it(a.acked - 1);
	assert_int_equal(vm0()->nr_segments, 2);
	snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, vm0()->segment[0]->name);
	snprintf(index, sizeof(index), "%.*s.index", (int)strlen(path) - 4, path);
	close_hub();
	fd = open(path, O_RDWR);
	assert_true(fd >= 0 && !fstat(fd, &st));
	assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
	close(fd);
	assert_int_equal(unlink(index), 0);
	open_hub(0);
	assert_string_not_equal(vm0()->trouble, "");
	assert_non_null(strstr(sim_log, "it is set aside"));
	assert_true(vm0()->now.incarnation == a.incarnation);
}

/* ---- a fail-over that comes to nothing ------------------------------------- */

static uint64_t old_floor;

/* The point cannot be had any more. */
static void raise_floor(void *data, const char *what)
{
	(void)data;
	if (strcmp(what, "the generation is raised"))
		return;
	old_floor = vm0()->floor;
	vm0()->floor = UINT64_MAX;
}

/* What was before it is known, and not what was before another one. */
static void test_back_from_nothing(void **state)
{
	uint64_t generation;

	(void)state;
	sim_start(&a);
	run(&a, 5);
	failed_over("latest");
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	a.block.generation = vm0()->admitted;
	assert_int_equal(sim_connect(&a), ESHUTDOWN);
	sim_disconnect(&a);
	assert_int_equal(sim_connect(&a), 0);
	run(&a, 5);
	generation = a.block.generation;
	model_at(a.acked, &before);
	hub->o.step = raise_floor;
	assert_int_equal(fail_over(point_name(a.acked - 3)), ENOENT);
	hub->o.step = NULL;
	vm0()->floor = old_floor;
	assert_int_equal(vm0()->failover.state, FAILOVER_LIVE);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	sim_disconnect(&a);
	reopen(0);
	assert_string_equal(vm0()->trouble, "");
	compare_view("latest", &before);
	agent_goes_on(generation);
}

/* There is something where live's segment is to be. Return what the fail-over says. */
static int without_segment(const char *point)
{
	char path[256];
	int fd, err;

	snprintf(path, sizeof(path), "%s/groups/vm0/journal/%016" PRIx64 ".log", dir, hubgroup_last(vm0())->end + FRAME_ALIGN);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	err = fail_over(point);
	assert_int_equal(unlink(path), 0);
	return err;
}

/*
 * Live could not be begun. Its point stays, whatever is to be dropped; and once that is rolled back, also by a hub that was
 * started anew, folding goes on.
 */
static void test_no_room_for_live(void **state)
{
	struct hub_retention two = { .bytes = 2 * SEGMENT, .own = true }, all = { .own = true };
	uint64_t seq, generation;
	unsigned int round;
	size_t i;

	(void)state;
	sim_start(&a);
	for (round = 0; round < 2; round++) {
		run(&a, 40);
		generation = a.block.generation;
		seq = vm0()->segment[0]->begin.seq + 30;
		model_at(a.acked, &before);
		assert_int_equal(without_segment(point_name(seq)), EIO);
		assert_int_equal(vm0()->failover.state, FAILOVER_LIVE);
		assert_null(hub_live_open(hub, "vm0", "disk0", why));
		assert_int_equal(hub_set_retention(hub, "vm0", &two, why), 0);
		fold_all();
		sim_compare(&a, seq);
		assert_int_equal(hub_set_retention(hub, "vm0", &all, why), 0);
		sim_disconnect(&a);
		if (round) {
			/* It ends right behind the first thing that a rollback does. */
			vm0()->failover.state = FAILOVER_ROLLBACK;
			vm0()->admitted = vm0()->failover.before;
			vm0()->generation++;
			assert_true(hubgroup_save(vm0()));
			reopen(0);
			assert_int_equal(vm0()->failover.state, FAILOVER_NONE);
		} else {
			assert_int_equal(hub_rollback(hub, "vm0", why), 0);
		}
		for (i = 0; i + 1 < vm0()->nr_segments; i++)
			assert_true(vm0()->segment[i]->sealed);
		compare_view("latest", &before);
		agent_goes_on(generation);
		assert_int_equal(hub_set_retention(hub, "vm0", &two, why), 0);
		fold_all();
		assert_true(hubgroup_last(vm0())->end - vm0()->segment[0]->start < 3 * SEGMENT);
		assert_int_equal(hub_set_retention(hub, "vm0", &all, why), 0);
		sim_compare(&a, a.acked);
	}
}

static bool fold_at_close;

/* Views are closed with no lock held: little is to be kept from now on, and all else is folded that may be. */
int close(int fd)
{
	struct group *g = fold_at_close ? vm0() : NULL;

	if (g && !pthread_mutex_trylock(&g->lock)) {
		fold_at_close = false;
		g->keep = (struct hub_retention){ .bytes = 2 * SEGMENT, .own = true };
		pthread_mutex_unlock(&g->lock);
		fold_all();
	}
	return (int)syscall(SYS_close, fd);
}

/* What was live before is put away in the midst of another fail-over, whose point is not folded meanwhile. */
static void test_point_stays(void **state)
{
	struct hub_retention two = { .bytes = 2 * SEGMENT, .own = true }, all = { .own = true };
	uint64_t seq;

	(void)state;
	sim_start(&a);
	run(&a, 60);
	/* So that there is something in the bases, which the views have open. */
	assert_int_equal(hub_set_retention(hub, "vm0", &two, why), 0);
	fold_all();
	assert_int_equal(hub_set_retention(hub, "vm0", &all, why), 0);
	run(&a, 40);
	failed_over("latest");
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	seq = vm0()->segment[0]->begin.seq + 30;
	model_at(seq, &model);
	fold_at_close = true;
	if (fail_over(point_name(seq)))
		fail_msg("%s", why);
	assert_false(fold_at_close);
	compare(NULL, &model);
	sim_compare(&a, seq);
}

/* It commits by itself. */
static void test_commit_after(void **state)
{
	struct hub_order o = { .point = "latest", .commit_after = 300000000 };

	(void)state;
	sim_start(&a);
	run(&a, 5);
	assert_int_equal(hub_failover(hub, "vm0", &o, why), 0);
	hub_tend(hub);
	assert_int_equal(vm0()->failover.state, FAILOVER_LIVE);
	reopen(0);
	for (int i = 0; i < 1000 && vm0()->failover.state == FAILOVER_LIVE; i++) {
		usleep(5000);
		hub_tend(hub);
	}
	assert_int_equal(vm0()->failover.state, FAILOVER_COMMITTED);
}

/* Another life of the source wrote behind the point: it is over as well, though the log goes on from before it. */
static void test_seen_behind(void **state)
{
	uint64_t seq;

	(void)state;
	sim_start(&a);
	run(&a, 5);
	seq = a.acked;
	sim_disconnect(&a);
	b.next = 1;
	assert_int_equal(sim_connect(&b), 0);
	sim_begin(&b, true);
	assert_true(sim_add(&b, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(&b), 0);
	assert_int_equal(sim_flush(&b), 0);
	failed_over(point_name(seq));
	assert_int_equal(hub_commit(hub, "vm0", why), 0);
	reopen(0);
	b.block.generation = vm0()->generation;
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.state, SESSION_STALE);
}

static struct group *not_locked;
static unsigned int unlinks, unlinks_locked;

int unlinkat(int fd, const char *name, int flags)
{
	if (not_locked) {
		unlinks++;
		if (pthread_mutex_trylock(&not_locked->lock))
			unlinks_locked++;
		else
			pthread_mutex_unlock(&not_locked->lock);
	}
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* While a test's files are removed, its group is not locked; what a hub that ended meanwhile has left of them goes at the next start. */
static void test_stop_takes_its_time(void **state)
{
	char id[2][HUB_TEST_ID], path[128], gone[128];

	(void)state;
	sim_start(&a);
	run(&a, 10);
	model_at(a.acked, &model);
	for (int i = 0; i < 2; i++)
		assert_int_equal(hub_test_start(hub, "vm0", "latest", 0, id[i], why), 0);
	write_many(id[0], 300, &model);
	not_locked = vm0();
	assert_int_equal(hub_test_stop(hub, id[0], "passed", NULL, why), 0);
	not_locked = NULL;
	assert_in_range(unlinks, 5, 100);
	assert_int_equal(unlinks_locked, 0);
	snprintf(path, sizeof(path), "%s/groups/vm0/tests/%s", dir, id[1]);
	snprintf(gone, sizeof(gone), "%s/groups/vm0/tests/.%s", dir, id[1]);
	close_hub();
	assert_int_equal(rename(path, gone), 0);
	open_hub(0);
	assert_int_equal(access(gone, F_OK), -1);
	assert_null(hub_test_open(hub, id[1], "disk0", why));
	sim_compare(&a, a.acked);
}

/* A test of what live wrote keeps that from being rolled back. */
static void test_test_of_live(void **state)
{
	char id[HUB_TEST_ID];

	(void)state;
	sim_start(&a);
	run(&a, 10);
	model_at(a.acked, &model);
	failed_over("latest");
	write_many(NULL, 50, &model);
	flush_live();
	assert_int_equal(hub_test_start(hub, "vm0", "latest", 0, id, why), 0);
	compare(id, &model);
	assert_int_equal(hub_rollback(hub, "vm0", why), EBUSY);
	assert_non_null(strstr(why, id));
	write_many(NULL, 50, &model);
	compare(NULL, &model);
	assert_int_equal(hub_test_stop(hub, id, NULL, NULL, why), 0);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_scratch, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_scratch_limit, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_live, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_reads_that_fail, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_one_writer, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_refused, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_planned, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_old_frames, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_ends, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_power_cut, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_fold, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_changed, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_fork, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_fork_damaged, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_commit_meets_rollback, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_commit_after, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_test_of_live, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_failed_sync, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_shared_sync, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_branch_is_cut, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_branch_from_damage, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_back_from_nothing, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_no_room_for_live, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_point_stays, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_stop_takes_its_time, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_seen_behind, setup, fixture_end),
	};

	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
