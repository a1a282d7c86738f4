// SPDX-License-Identifier: GPL-2.0-or-later
/* The hub as its clients see it: over NBD, through the exports log/GROUP and view/GROUP/VOLUME@POINT. */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cmocka.h>

#include <fcntl.h>

#include "repctl/pull.h"
#include "rephub/export.h"
#include "simagent.h"

static char *dir, path[128];
static struct hub *hub;
static struct nbds_server *server;
static struct exports exports;
static struct nbd_handle *nbd;
static struct simagent a;

static int setup(void **state)
{
	struct nbds_config cfg;
	char error[512];

	(void)state;
	srandom(5);
	dir = sim_dir();
	hub = exports.hub = sim_hub(dir, 4u << 20, 0);
	nbds_config_init(&cfg);
	cfg.ops = &exports_ops;
	cfg.data = &exports;
	cfg.log = hub->o.log;
	server = nbds_start(&cfg, error, sizeof(error));
	assert_non_null(server);
	snprintf(path, sizeof(path), "%s/sock", dir);
	assert_int_equal(nbds_listen_fd(server, nbds_listen_on(path, error, sizeof(error))), 0);
	sim_init(&a, hub, 0xa);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (nbd)
		nbd_close(nbd);
	nbd = NULL;
	nbds_stop(server);
	hub_close(hub);
	free(a.op);
	sim_remove(dir);
	free(dir);
	return 0;
}

static struct nbd_handle *connect_to(const char *name)
{
	struct nbd_handle *h = nbd_create();

	assert_non_null(h);
	assert_int_equal(nbd_set_export_name(h, name), 0);
	assert_int_equal(nbd_add_meta_context(h, "base:allocation"), 0);
	if (!nbd_connect_unix(h, path))
		return h;
	snprintf(a.reason, sizeof(a.reason), "%s", nbd_get_error());
	nbd_close(h);
	return NULL;
}

static int result(struct simagent *x, int r)
{
	if (!r)
		return 0;
	snprintf(x->reason, sizeof(x->reason), "%s", nbd_get_error());
	return nbd_get_errno() ? nbd_get_errno() : EIO;
}

static int over_write(struct simagent *x, uint64_t offset, const void *buf, size_t len)
{
	return result(x, nbd_pwrite(nbd, buf, len, offset, 0));
}

static int over_read(struct simagent *x, uint64_t offset, void *buf, size_t len)
{
	return result(x, nbd_pread(nbd, buf, len, offset, 0));
}

static int over_flush(struct simagent *x)
{
	return result(x, nbd_flush(nbd, 0));
}

static void start(void)
{
	nbd = connect_to("log/vm0");
	assert_non_null(nbd);
	a.write = over_write;
	a.read = over_read;
	a.flush = over_flush;
	sim_start(&a);
}

static int note_extent(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t nr, int *error)
{
	uint8_t *holes = data;

	(void)context;
	(void)error;
	for (size_t i = 0; i + 1 < nr; i += 2) {
		if (offset + entries[i] > SIM_SECTORS * 512)
			entries[i] = (uint32_t)(SIM_SECTORS * 512 - offset);
		memset(holes + offset, entries[i + 1] & 3 ? 1 : 0, entries[i]);
		offset += entries[i];
	}
	return 0;
}

static void compare(const char *name, unsigned int volume, uint64_t seq)
{
	static uint8_t want[SIM_SECTORS * 512], got[SIM_SECTORS * 512], holes[SIM_SECTORS * 512];
	struct nbd_handle *v = connect_to(name);
	uint64_t at;
	size_t len;

	if (!v)
		fail_msg("%s: %s", name, a.reason);
	assert_int_equal(nbd_get_size(v), sizeof(got));
	assert_true(nbd_is_read_only(v));
	sim_model(&a, seq, volume, want);
	for (at = 0; at < sizeof(got); at += len) {
		len = 1 + (size_t)random() % 400000;
		if (len > sizeof(got) - at)
			len = sizeof(got) - at;
		assert_int_equal(nbd_pread(v, got + at, len, at, 0), 0);
	}
	assert_memory_equal(got, want, sizeof(got));
	memset(holes, 2, sizeof(holes));
	assert_int_equal(nbd_block_status(v, sizeof(holes), 0, (nbd_extent_callback){ note_extent, holes, NULL }, 0), 0);
	for (at = 0; at < sizeof(holes); at++)
		if (holes[at] == 2 || (holes[at] && want[at]))
			fail_msg("%s: byte %" PRIu64 ": a hole with data, or not told", name, at);
	nbd_close(v);
}

static void test_views(void **state)
{
	char name[128];
	uint64_t seq;

	(void)state;
	start();
	for (int i = 0; i < 200; i++) {
		sim_random(&a, 1 + (unsigned int)random() % 60);
		if (!(random() % 8))
			assert_int_equal(sim_flush(&a), 0);
	}
	assert_int_equal(sim_flush(&a), 0);
	for (unsigned int v = 0; v < SIM_VOLUMES; v++) {
		snprintf(name, sizeof(name), "view/vm0/disk%u@latest", v);
		compare(name, v, a.acked);
		for (int i = 0; i < 10; i++) {
			seq = 10 + (uint64_t)random() % (a.acked - 10);
			snprintf(name, sizeof(name), "view/vm0/disk%u@10:%" PRIu64, v, seq);
			compare(name, v, seq);
		}
	}
	/* Only a fixed point may be seen over several connections as one. */
	struct nbd_handle *h = connect_to("view/vm0/disk0@latest");

	assert_int_equal(nbd_can_multi_conn(h), 0);
	assert_int_equal(nbd_pwrite(h, name, sizeof(name), 0, 0), -1);
	nbd_close(h);
	h = connect_to("view/vm0/disk0@10:50");
	assert_int_equal(nbd_can_multi_conn(h), 1);
	nbd_close(h);
}

/* The dependent writes of a guest, as whoever opens an export sees them: B's number is never above A's, nor two below. */
static void test_dependent_writes(void **state)
{
	uint64_t n = sim_many("HUB_WRITES", 5000), points = sim_many("HUB_POINTS", 20), i, at[2];
	struct nbd_handle *h;
	char name[64];
	unsigned int v;
	uint64_t seq;

	(void)state;
	start();
	sim_dependent_writes(&a, n);
	for (i = 0; i < points; i++) {
		seq = 3 * SIM_VOLUMES + 1 + (uint64_t)random() % (a.acked - 3 * SIM_VOLUMES);
		for (v = 0; v < 2; v++) {
			snprintf(name, sizeof(name), "view/vm0/disk%u@10:%" PRIu64, v, seq);
			h = connect_to(name);
			if (!h)
				fail_msg("%s: %s", name, a.reason);
			assert_int_equal(nbd_pread(h, &at[v], sizeof(at[v]), SIM_COUNTER, 0), 0);
			nbd_close(h);
		}
		if (at[0] < at[1] || at[0] > at[1] + 1)
			fail_msg("at %" PRIu64 " A is %" PRIu64 " and B is %" PRIu64, seq, at[0], at[1]);
	}
	print_message("# %" PRIu64 " points of %" PRIu64 " records\n", points, a.acked);
}

/* What was refused is told with its reason, by structured replies and at the opening. */
static void test_refusals(void **state)
{
	static const struct { const char *name, *word; } bad[] = {
		{ "vm0", "expected log/GROUP" }, { "log/", "expected log/GROUP" }, { "log/../x", "expected log/GROUP" },
		{ "view/vm0/disk0", "expected log/GROUP" }, { "view/vm0/disk0@", "expected log/GROUP" },
		{ "view/vm0/disk0@4", "resynchronised" }, { "view/vm0/disk9@latest", "no volume" },
		{ "view/vm9/disk0@latest", "no group" }, { "view/vm0/disk0@1000000", "ends at" },
		{ "view/vm0/disk0@never", "no checkpoint" },
		{ "view/vm0/0123456789012345678901234567890123456789@latest", "expected log/GROUP" },
	};
	uint8_t buf[SESSION_SIZE];

	(void)state;
	start();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		/* The client is told, but libnbd keeps it to itself: so look at the server's log. */
		*sim_log = '\0';
		if (connect_to(bad[i].name))
			fail_msg("%s was opened", bad[i].name);
		if (!strstr(sim_log, bad[i].word))
			fail_msg("%s: \"%s\" lacks \"%s\"", bad[i].name, sim_log, bad[i].word);
	}
	assert_int_equal(nbd_pread(nbd, buf, sizeof(buf), 8192, 0), -1);
	assert_int_equal(nbd_get_errno(), EINVAL);
	a.next += 5;
	sim_begin(&a, true);
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(&a), EINVAL);
	assert_int_equal(sim_flush(&a), EINVAL);
	assert_int_equal(sim_connect(&a), 0);
	a.next = a.block.seq + 1;
	a.nr_ops--;
	sim_random(&a, 10);
	assert_int_equal(sim_flush(&a), 0);
}

struct reply {
	unsigned int *answered, *refused;
};

static int replied(void *data, int *error)
{
	struct reply *r = data;

	++*(*error ? r->refused : r->answered);
	return 1;
}

/* Many large frames in flight; in the midst of them one that is refused, and all behind it with it. */
static void test_frames_in_flight(void **state)
{
	enum { FRAMES = 24, BAD = 17 };
	unsigned int answered = 0, refused = 0, i;
	struct reply reply = { &answered, &refused };
	uint8_t *buf[FRAMES];
	size_t size;

	(void)state;
	start();
	for (i = 0; i < FRAMES; i++) {
		if (i == BAD)
			a.next++;
		sim_begin(&a, false);
		while (sim_add(&a, REPAGENT_REC_WRITE, i % 3, (uint64_t)random() % 1000, 600 + (uint64_t)random() % 400))
			;
		size = frame_end(&a.b, 0, NULL);
		frame_place(a.frame, a.offset, 0);
		buf[i] = malloc(size);
		memcpy(buf[i], a.frame, size);
		assert_true(nbd_aio_pwrite(nbd, buf[i], size, a.offset,
					   (nbd_completion_callback){ replied, &reply, NULL }, 0) >= 0);
		a.offset += size;
		if (i < BAD)
			a.sent = a.next - 1;
	}
	while (answered + refused < FRAMES)
		assert_true(nbd_poll(nbd, -1) > 0);
	assert_int_equal(answered, BAD);
	assert_int_equal(refused, FRAMES - BAD);
	for (i = 0; i < FRAMES; i++)
		free(buf[i]);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.seq, a.sent);
	compare("view/vm0/disk0@latest", 0, a.sent);
	compare("view/vm0/disk2@latest", 2, a.sent);
}

/* A second connection takes the group over; the first one's ends by itself. */
static void test_takeover(void **state)
{
	struct nbd_handle *first;

	(void)state;
	start();
	first = nbd;
	nbd = connect_to("log/vm0");
	a.block.generation = 0;
	assert_int_equal(sim_connect(&a), 0);
	a.next = a.block.seq + 1;
	sim_random(&a, 10);
	assert_int_equal(sim_flush(&a), 0);
	assert_int_equal(nbd_flush(first, 0), -1);
	assert_int_equal(nbd_get_errno(), ESHUTDOWN);
	for (int i = 0; i < 50 && nbd_aio_is_ready(first); i++)
		nbd_poll(first, 100);
	assert_false(nbd_aio_is_ready(first));
	nbd_close(first);
}

static int note_name(void *data, const char *name, const char *description)
{
	char *all = data;

	(void)description;
	strcat(strcat(all, name), " ");
	return 0;
}

static void test_list(void **state)
{
	char all[1024] = "";
	struct nbd_handle *h = nbd_create();

	(void)state;
	start();
	nbd_set_opt_mode(h, true);
	assert_int_equal(nbd_connect_unix(h, path), 0);
	assert_int_equal(nbd_opt_list(h, (nbd_list_callback){ note_name, all, NULL }), 4);
	assert_string_equal(all, "log/vm0 view/vm0/disk0@latest view/vm0/disk1@latest view/vm0/disk2@latest ");
	nbd_opt_abort(h);
	nbd_close(h);
}

static int group_setup(void **state)
{
	(void)state;
	return exports_start(4) ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	exports_stop();
	return 0;
}

static int64_t begin_frame(void)
{
	size_t size;
	int64_t cookie;

	sim_begin(&a, false);
	while (sim_add(&a, REPAGENT_REC_WRITE, (unsigned int)random() % SIM_VOLUMES, (uint64_t)random() % 1000, 1000))
		;
	size = frame_end(&a.b, 0, a.scratch);
	frame_place(a.frame, a.offset, a.acked);
	cookie = nbd_aio_pwrite(nbd, a.frame, size, a.offset, NBD_NULL_COMPLETION, 0);
	assert_true(cookie > 0);
	a.offset += size;
	a.sent = a.b.h.last;
	return cookie;
}

static void end_frame(int64_t cookie)
{
	while (!nbd_aio_command_completed(nbd, (uint64_t)cookie))
		assert_int_not_equal(nbd_poll(nbd, -1), -1);
}

/* A frame of a group that is slowed is taken, and answered when room was made; others, and FLUSH, do not wait. */
static void test_slowed(void **state)
{
	struct hub_retention drop = { .when_full = HUB_DROP_HISTORY, .own_when_full = true };
	char reason[HUB_REASON_MAX];
	struct nbd_handle *other;
	struct statvfs v;
	struct group *g;
	int64_t cookie;
	int i;

	(void)state;
	start();
	assert_int_equal(hub_set_retention(hub, "vm0", &drop, reason), 0);
	/* Three segments; then the disk is said to be short, and a little more comes. */
	for (i = 0; i < 14; i++)
		end_frame(begin_frame());
	assert_int_equal(statvfs(dir, &v), 0);
	hub->o.reserve = 3 * (uint64_t)v.f_bavail * v.f_frsize;
	g = hub_find(hub, "vm0");
	pthread_mutex_lock(&g->lock);
	assert_false(space_full(g, reason));
	pthread_mutex_unlock(&g->lock);
	end_frame(begin_frame());	/* it is looked once a MiB */
	cookie = begin_frame();
	/* The answers to what was sent behind it come. */
	assert_int_equal(nbd_flush(nbd, 0), 0);
	assert_int_equal(nbd_flush(nbd, 0), 0);
	assert_true(hub_session_slowed(g->session));
	other = connect_to("view/vm0/disk0@latest");
	assert_non_null(other);
	nbd_close(other);
	assert_int_equal(nbd_aio_command_completed(nbd, (uint64_t)cookie), 0);
	assert_true(g->durable.seq >= a.sent);
	hub_tend(hub);
	assert_false(hub_session_slowed(g->session));
	end_frame(cookie);
	assert_int_equal(sim_flush(&a), 0);
	compare("view/vm0/disk0@latest", 0, a.acked);
}

/* ---- the way back ---------------------------------------------------------- */

#define BYTES	(SIM_SECTORS * 512)

static uint8_t now[BYTES], on_disk[BYTES];
static struct pull_disk disk = { .fd = -1, .size = BYTES };
static struct pull_hub source = { .group = "vm0" };

static void write_live(uint64_t at, uint8_t byte, size_t len)
{
	struct hub_disk *d = hub_live_open(hub, "vm0", "disk0", a.reason);

	assert_non_null(d);
	memset(now + at, byte, len);
	assert_int_equal(hub_disk_write(d, NULL, at, now + at, len, a.reason), 0);
	assert_int_equal(hub_disk_flush(d, a.reason), 0);
	hub_disk_close(d);
}

static void disk_is_now(void)
{
	assert_int_equal(pread(disk.fd, on_disk, BYTES, 0), BYTES);
	assert_memory_equal(on_disk, now, BYTES);
}

/* What has changed since a position goes to the disk. Return where that is then. */
static const char *bring(const char *since, uint64_t most)
{
	static char at[PULL_AT_MAX];
	struct spans what = { 0 };
	char error[PULL_ERROR_MAX];
	struct pull p;

	if (!pull_open(&p, &source, "disk0", since, error) || !pull_changed(&p, &what, error))
		fail_msg("%s", error);
	assert_string_equal(p.unknown, "");
	assert_int_equal(p.size, BYTES);
	spans_tidy(&what, PULL_ALIGN, BYTES);
	assert_true(spans_bytes(&what) <= most);
	disk.moved = 0;
	if (!pull_copy(&p, &disk, &what, error))
		fail_msg("%s", error);
	assert_int_equal(disk.moved, spans_bytes(&what));
	snprintf(at, sizeof(at), "%s", p.at);
	pull_close(&p);
	spans_free(&what);
	return at;
}

/* Parts of the disk that differ from what the hub has, by sums. */
static void differs(struct spans *out, bool rest)
{
	const struct spans all = { .nr = 1, .span = &(struct span){ 0, BYTES } };
	char error[PULL_ERROR_MAX];
	struct pull p;

	if (!pull_open(&p, &source, "disk0", NULL, error))
		fail_msg("%s", error);
	assert_string_not_equal(p.unknown, "");
	assert_int_equal(p.rest, rest);
	if (!pull_differing(&p, &source, "disk0", &disk, &all, out, error))
		fail_msg("%s", error);
	pull_close(&p);
}

/*
 * A disk as its host had it at the end, whose volume was failed over to before that and written to: it becomes the volume by
 * what is told over the network, and no more of it moves than has changed; and what differs is found by sums.
 */
static void test_changed(void **state)
{
	struct hub_order order = { 0 };
	char point[32], old[48], file[160], uri[160], error[PULL_ERROR_MAX];
	struct spans out = { 0 };
	struct hub_disk *open;
	struct pull p;
	uint64_t seq;

	(void)state;
	start();
	while (a.acked < 60) {
		sim_random(&a, 10);
		assert_int_equal(sim_flush(&a), 0);
	}
	seq = a.acked;
	sim_begin(&a, false);
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 64, 100));	/* this is abandoned */
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	snprintf(old, sizeof(old), "%016" PRIx64 ":%" PRIu64, a.incarnation, a.acked);
	snprintf(file, sizeof(file), "%s/disk", dir);
	snprintf(uri, sizeof(uri), "rephub+unix:///?socket=%s", path);
	source.taps.all = uri;
	disk.fd = open64(file, O_RDWR | O_CREAT, 0600);
	assert_true(disk.fd >= 0);
	sim_model(&a, a.acked, 0, on_disk);
	assert_int_equal(pwrite(disk.fd, on_disk, BYTES, 0), BYTES);
	assert_false(pull_open(&p, &source, "disk0", old, error));
	assert_non_null(strstr(error, "never failed over"));
	snprintf(point, sizeof(point), "%" PRIu64, seq);
	order.point = point;
	if (hub_failover(hub, "vm0", &order, a.reason))
		fail_msg("%s", a.reason);
	sim_model(&a, seq, 0, now);
	write_live(300 * 512, 0x31, 5000 / 512 * 512);
	assert_false(pull_open(&p, &source, "disk0", old, error));
	assert_non_null(strstr(error, "not committed"));
	assert_false(pull_open(&p, &source, "disk9", old, error));
	assert_int_equal(hub_commit(hub, "vm0", a.reason), 0);
	write_live(900 * 512, 0x32, 4096);
	snprintf(old, sizeof(old), "%s", bring(old, 100 * 512 + 5000 + 4096 + 6 * PULL_ALIGN));
	disk_is_now();
	write_live(1000 * 512, 0x33, 512);
	write_live(64 * 512, 0, 65536);
	snprintf(old, sizeof(old), "%s", bring(old, 65536 + 2 * PULL_ALIGN));
	disk_is_now();
	bring(old, 0);
	differs(&out, true);
	assert_int_equal(out.nr, 0);
	assert_int_equal(pwrite(disk.fd, "x", 1, 3 * 65536 + 7), 1);
	open = hub_live_open(hub, "vm0", "disk0", a.reason);
	differs(&out, false);
	hub_disk_close(open);
	assert_int_equal(out.nr, 1);
	assert_int_equal(out.span[0].start, 3 * 65536);
	assert_int_equal(out.span[0].end, 4 * 65536);
	spans_free(&out);
	close(disk.fd);
	unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_views, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dependent_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frames_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_takeover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed, setup, teardown),
	};

	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
