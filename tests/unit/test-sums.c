// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sums, from both ends: what the hub says of its volumes, and what an agent leaves
 * out of a resync because of it. The agent is the daemon's core at a simulated ring,
 * and the hub a real one in a process of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/common/sums.h"
#include "rephub/export.h"
#include "simagent.h"
#include "simbench.h"

#define BLOCKS	(SIM_SECTORS * 512 / SUMS_BLOCK)

/* ---- the bytes ----------------------------------------------------------- */

static void test_header(void **state)
{
	struct sums_header h = { .hub = "hub", .group = "group", .incarnation = 7, .seq = 9, .bytes = 1 << 20, .volume = "v0" };
	static uint8_t block[SUMS_HEADER], bad[SUMS_HEADER];
	char error[FRAME_ERROR_MAX];
	struct sums_header got;
	size_t i;

	(void)state;
	sums_header_encode(&h, block);
	assert_true(sums_header_decode(&got, block, error));
	assert_memory_equal(&got, &h, sizeof(h));
	for (i = 0; i < sizeof(bad); i++) {
		memcpy(bad, block, sizeof(bad));
		bad[i] ^= 1u << i % 8;
		assert_false(sums_header_decode(&got, bad, error));
		assert_true(strlen(error) > 5);
	}
}

static void test_want(void **state)
{
	uint8_t buf[SUMS_WANT], bad[SUMS_WANT];
	char error[FRAME_ERROR_MAX];
	uint64_t incarnation, seq;
	size_t i;

	(void)state;
	sums_want_encode(0xabc, 17, buf);
	assert_true(sums_want_decode(&incarnation, &seq, buf, error));
	assert_int_equal(incarnation, 0xabc);
	assert_int_equal(seq, 17);
	for (i = 0; i < sizeof(bad); i++) {
		memcpy(bad, buf, sizeof(bad));
		bad[i] ^= 1u << i % 8;
		assert_false(sums_want_decode(&incarnation, &seq, bad, error));
	}
	sums_want_encode(0, 17, buf);
	assert_false(sums_want_decode(&incarnation, &seq, buf, error));
}

/* A sum tells blocks apart by every byte, and zeroes have the sum zero. */
static void test_sum(void **state)
{
	static uint8_t block[SUMS_BLOCK];
	uint8_t none[SUM_SIZE] = { 0 }, first[SUM_SIZE], sum[SUM_SIZE];

	(void)state;
	assert_true(sums_of(block, sizeof(block), sum));
	assert_memory_equal(sum, none, sizeof(sum));
	block[sizeof(block) - 1] = 1;
	assert_true(sums_of(block, sizeof(block), first));
	assert_memory_not_equal(first, none, sizeof(first));
	block[sizeof(block) - 1] = 0;
	block[0] = 1;
	assert_true(sums_of(block, sizeof(block), sum));
	assert_memory_not_equal(sum, first, sizeof(sum));
	assert_true(sums_of(block, 512, first));
	assert_memory_not_equal(sum, first, sizeof(sum));
}

/* ---- the hub ------------------------------------------------------------- */

static char *dir;
static struct hub *hub;
static struct simagent a;

static int setup(void **state)
{
	(void)state;
	srandom(7);
	dir = sim_dir();
	hub = sim_hub(dir, 4u << 20, 0);
	sim_init(&a, hub, 0xa);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sim_disconnect(&a);
	hub_close(hub);
	free(a.op);
	sim_remove(dir);
	free(dir);
	return 0;
}

/* All sums that can be read now are those of the model after a record. */
static void compare_sums(struct hub_sums *s, unsigned int volume, uint64_t seq)
{
	static uint8_t want[SIM_SECTORS * 512];
	uint8_t sum[SUM_SIZE], got[BLOCKS * SUM_SIZE];
	char reason[HUB_REASON_MAX];
	size_t i, n;
	bool hole;

	sim_model(&a, seq, volume, want);
	for (i = 0; i < sizeof(got); i += n) {
		n = 1 + (size_t)random() % 60;
		if (n > sizeof(got) - i)
			n = sizeof(got) - i;
		assert_int_equal(hub_sums_read(s, SUMS_HEADER + i, got + i, n, &hole, reason), 0);
	}
	for (i = 0; i < BLOCKS; i++) {
		assert_true(sums_of(want + i * SUMS_BLOCK, SUMS_BLOCK, sum));
		if (memcmp(sum, got + i * SUM_SIZE, SUM_SIZE))
			fail_msg("the sum of block %zu is not that of record %" PRIu64, i, seq);
	}
}

static struct sums_header take_latest(struct hub_sums *s)
{
	char reason[HUB_REASON_MAX], error[FRAME_ERROR_MAX];
	static uint8_t block[SUMS_HEADER];
	struct sums_header h;
	bool hole;

	assert_int_equal(hub_sums_read(s, 0, block, sizeof(block), &hole, reason), 0);
	assert_true(sums_header_decode(&h, block, error));
	return h;
}

static int take_at(struct hub_sums *s, uint64_t seq, char *reason)
{
	uint8_t want[SUMS_WANT];

	sums_want_encode(a.incarnation, seq, want);
	return hub_sums_want(s, 0, want, sizeof(want), reason);
}

/* Of the latest position, and of any that is asked for, forwards and back, over many segments. */
static void test_sums_of_positions(void **state)
{
	char reason[HUB_REASON_MAX];
	struct hub_sums *s[2];
	struct sums_header h;
	unsigned int i, k;
	uint64_t seq;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 2; i++) {
		s[i] = hub_sums_open(hub, "vm0", i ? "disk1" : "disk0", "test", reason);
		assert_non_null(s[i]);
		assert_int_equal(hub_sums_size(s[i]), SUMS_HEADER + BLOCKS * SUM_SIZE);
	}
	for (k = 0; k < 8; k++) {
		for (i = 0; i < 10; i++)
			sim_random(&a, 30);
		assert_int_equal(sim_flush(&a), 0);
		h = take_latest(s[k % 2]);
		assert_int_equal(h.incarnation, a.incarnation);
		assert_int_equal(h.seq, a.acked);
		assert_int_equal(h.bytes, SIM_SECTORS * 512);
		compare_sums(s[k % 2], k % 2, a.acked);
		/* Forwards from there, one record at a time; and somewhere else. */
		for (i = 0; i < 2; i++) {
			for (seq = a.acked > 200 ? a.acked - 200 : 10; seq < a.acked;
			     seq += 1 + (uint64_t)random() % 90) {
				assert_int_equal(take_at(s[i], seq, reason), 0);
				compare_sums(s[i], i, seq);
			}
		}
	}
	for (i = 0; i < 2; i++)
		hub_sums_close(s[i]);
}

/* What is not durable has no sums; nor has a volume that is not there. */
static void test_sums_refused(void **state)
{
	static uint8_t buf[SUMS_WANT];
	char reason[HUB_REASON_MAX];
	struct hub_sums *s;
	bool hole;

	(void)state;
	sim_start(&a);
	assert_null(hub_sums_open(hub, "vm1", "disk0", "test", reason));
	assert_null(hub_sums_open(hub, "vm0", "disk9", "test", reason));
	s = hub_sums_open(hub, "vm0", "disk0", "test", reason);
	assert_int_equal(hub_sums_read(s, SUMS_HEADER, buf, 16, &hole, reason), EINVAL);
	assert_non_null(strstr(reason, "expected a read from 0"));
	assert_int_equal(hub_sums_want(s, 0, buf, sizeof(buf), reason), EINVAL);
	assert_int_equal(hub_sums_want(s, 512, buf, sizeof(buf), reason), EINVAL);
	sim_random(&a, 30);
	assert_int_equal(take_at(s, a.sent, reason), EINVAL);
	assert_int_equal(sim_flush(&a), 0);
	assert_int_equal(take_at(s, a.sent, reason), 0);
	assert_int_equal(take_at(s, a.sent + 1, reason), EINVAL);
	assert_int_equal(take_latest(s).seq, a.acked);
	hub_sums_close(s);
}

/* A volume within its resync cannot be viewed, and has sums. */
static void test_sums_of_torn(void **state)
{
	char reason[HUB_REASON_MAX];
	struct hub_sums *s;

	(void)state;
	sim_start(&a);
	sim_random(&a, 30);
	sim_begin(&a, false);
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, 0, 0, SIM_SECTORS));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	assert_null(hub_view_open(hub, "vm0", "disk0", "latest", reason));
	s = hub_sums_open(hub, "vm0", "disk0", "test", reason);
	assert_non_null(s);
	assert_int_equal(take_latest(s).seq, a.acked);
	compare_sums(s, 0, a.acked);
	hub_sums_close(s);
}

static void count_wanted(void *data, const struct hub_volume_info *v)
{
	unsigned int *nr = data;

	*nr += !strcmp(v->verify.state, "wanted");
}

/* To compare all of a group is to compare what has an image by then, be all of it within a resync now. */
static void test_wanted_of_torn(void **state)
{
	char reason[HUB_REASON_MAX];
	unsigned int v, nr = 0;

	(void)state;
	sim_start(&a);
	sim_begin(&a, false);
	for (v = 0; v < SIM_VOLUMES; v++)
		assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, v, 0, SIM_SECTORS));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(hub_verify(hub, "vm0", NULL, false, 0, reason), 0);
	assert_true(hub_volumes(hub, "vm0", count_wanted, &nr));
	assert_int_equal(nr, SIM_VOLUMES);
}

/* ---- the agent ----------------------------------------------------------- */

static struct bench b;
static char *hub_dir;
static uint64_t hub_every;	/* how often the hub wants volumes to be compared, ns */

/*
 * struct remote - shared with the hub's process
 * @order:	have the volume compared; the hub's process takes it back when it is wanted
 * @info, @state: what came of it
 * @wire:	bytes that went over the hub's connections, with the headers of requests and replies; @counts: how often
 *		they were counted
 */
static struct remote {
	bool order;
	uint64_t rate;
	struct hub_verify_info info;
	char state[16];
	uint64_t wire, counts;
} *remote;

static void note_volume(void *data, const struct hub_volume_info *v)
{
	(void)data;
	remote->info = v->verify;
	snprintf(remote->state, sizeof(remote->state), "%s", v->verify.state);
}

/* What a person would do at the hub. */
static void serve_remote(struct hub *h, struct nbds_server *server)
{
	char reason[HUB_REASON_MAX];
	struct nbds_stats stats;

	for (;;) {
		if (remote->order && !hub_verify(h, "sim", "v0", false, remote->rate, reason))
			remote->order = false;
		hub_volumes(h, "sim", note_volume, NULL);
		nbds_get_stats(server, &stats);
		remote->wire = stats.read_bytes + stats.written_bytes + stats.requests * (28 + 32);
		__atomic_add_fetch(&remote->counts, 1, __ATOMIC_SEQ_CST);
		hub_tend(h);
		usleep(5000);
	}
}

/* The hub, in a process that is ended by a signal. */
static void start_hub(void)
{
	struct exports x = { 0 };
	struct nbds_server *server;
	struct nbds_config cfg;
	char path[128], error[512];

	bench_path(path, sizeof(path), "hub");
	unlink(path);
	b.server = fork();
	assert_true(b.server >= 0);
	if (!b.server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		x.hub = sim_hub(hub_dir, 64u << 20, 0);
		x.hub->o.verify_every = hub_every;
		x.hub->o.verify_rate = 0;
		nbds_config_init(&cfg);
		cfg.ops = &exports_ops;
		cfg.data = &x;
		server = exports_start(4) ? nbds_start(&cfg, error, sizeof(error)) : NULL;
		if (!server || nbds_listen_fd(server, nbds_listen_on(path, error, sizeof(error))))
			_exit(1);
		serve_remote(x.hub, server);
	}
	bench_await(path);
}

static void begin(void)
{
	hub_dir = sim_dir();
	remote = mmap(NULL, sizeof(*remote), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(remote, MAP_FAILED);
	bench_begin(&b, "rephub+unix:///?socket=%s/hub");
	b.cfg.checkpoint = 0;
	b.cfg.heartbeat = 50 * NSEC_PER_MSEC;
	bench_add_disk(&b, 0, "v0");
	start_hub();
	bench_start(&b);
}

/* The hub has what the oracle has. Return how much its journal takes. */
static uint64_t end(void)
{
	static unsigned char got[VOLUME_SIZE];
	char reason[HUB_REASON_MAX];
	struct hub_view *v;
	uint64_t bytes;
	struct hub *h;
	uint64_t n;

	bench_drained(&b);
	bench_stop(&b);
	bench_end(&b.server, SIGKILL);
	h = sim_hub(hub_dir, 64u << 20, 0);
	v = hub_view_open(h, "sim", "v0", "latest", reason);
	if (!v)
		fail_msg("%s", reason);
	assert_int_equal(hub_view_read(v, 0, got, sizeof(got), reason), 0);
	for (n = 0; n < VOLUME_SIZE; n++)
		if (got[n] != b.disk[0].oracle[n])
			fail_msg("byte %" PRIu64 ", in block %" PRIu64 ", differs", n, n / SUMS_BLOCK);
	hub_view_close(v);
	bytes = hubgroup_last(hub_find(h, "sim"))->end;
	hub_close(h);
	bench_finish(&b);
	munmap(remote, sizeof(*remote));
	sim_remove(hub_dir);
	free(hub_dir);
	return bytes;
}

static uint64_t put(unsigned int type, uint64_t offset, uint64_t length)
{
	bool data = type == REPAGENT_REC_WRITE || type == REPAGENT_REC_RESYNC;

	/* As the kernel reads: of a resync at most a quarter of the ring waits. */
	if (type == REPAGENT_REC_RESYNC && simring_head(b.sim) > 4)
		assert_true(simring_wait_acked(b.sim, simring_head(b.sim) - 4, 60));
	return simring_put(b.sim, type, b.disk[0].id, offset, length, data ? b.disk[0].oracle + offset : NULL);
}

static void resync_all(void)
{
	uint64_t at;

	put(REPAGENT_REC_RESYNC_BEGIN, 0, VOLUME_SIZE);
	for (at = 0; at < VOLUME_SIZE; at += 4 * SUMS_BLOCK)
		put(REPAGENT_REC_RESYNC, at, 4 * SUMS_BLOCK);
	put(REPAGENT_REC_RESYNC_END, 0, 0);
}

static uint64_t journal_now(void)
{
	char path[256];
	FILE *p;
	uint64_t n = 0;

	snprintf(path, sizeof(path), "cat %s/groups/sim/journal/*.log | wc -c", hub_dir);
	p = popen(path, "r");
	assert_int_equal(fscanf(p, "%" SCNu64, &n), 1);
	pclose(p);
	return n;
}

/* A volume that is the same is not sent again; and if one block differs, that is, with little beside it. */
static void test_identical(void **state)
{
	uint64_t before, after;

	(void)state;
	begin();
	bench_fill(&b, b.disk[0].oracle, VOLUME_SIZE / 2);
	resync_all();
	bench_drained(&b);
	before = journal_now();
	assert_in_range(before, VOLUME_SIZE / 2, VOLUME_SIZE / 2 + VOLUME_SIZE / 64);
	resync_all();
	bench_drained(&b);
	after = journal_now();
	print_message("%" PRIu64 " bytes for %" PRIu64 " that were the same\n", after - before, (uint64_t)VOLUME_SIZE);
	assert_in_range(after - before, 1, 32768);
	b.disk[0].oracle[20 * SUMS_BLOCK + 77] ^= 1;
	b.disk[0].oracle[VOLUME_SIZE - 1] ^= 1;
	resync_all();
	assert_in_range(end() - after, 2 * SUMS_BLOCK, 2 * SUMS_BLOCK + 32768);
}

/* A volume of any size, whose blocks are all different, and easily packed. */
static void resync_large(uint16_t id, uint64_t bytes)
{
	static uint64_t data[4 * SUMS_BLOCK / 8];
	uint64_t at, i, counts;

	simring_put(b.sim, REPAGENT_REC_RESYNC_BEGIN, id, 0, bytes, NULL);
	for (at = 0; at < bytes; at += sizeof(data)) {
		for (i = 0; i < sizeof(data) / 8; i++)
			data[i] = (at + i * 8) / SUMS_BLOCK * 0x9e3779b97f4a7c15;
		/* At most a quarter of the ring. */
		if (simring_head(b.sim) > 60)
			assert_true(simring_wait_acked(b.sim, simring_head(b.sim) - 60, 60));
		simring_put(b.sim, REPAGENT_REC_RESYNC, id, at, sizeof(data), data);
	}
	simring_put(b.sim, REPAGENT_REC_RESYNC_END, id, 0, 0, NULL);
	assert_true(simring_wait_acked(b.sim, simring_head(b.sim) - 1, 60));
	/* What the hub's process began to count after that is all of it. */
	counts = __atomic_load_n(&remote->counts, __ATOMIC_SEQ_CST);
	for (i = 0; i < 10000 && __atomic_load_n(&remote->counts, __ATOMIC_SEQ_CST) < counts + 2; i++)
		usleep(1000);
	assert_true(i < 10000);
}

/* What an identical volume costs, on the wire and in the journal: less than 0.1 % of it. SUMS_MIB: its size. */
static void test_large(void **state)
{
	uint64_t bytes = (getenv("SUMS_MIB") ? strtoull(getenv("SUMS_MIB"), NULL, 10) : 128) * MIB, wire, journal;
	uint16_t id;

	(void)state;
	alarm(900);
	hub_dir = sim_dir();
	remote = mmap(NULL, sizeof(*remote), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(remote, MAP_FAILED);
	bench_begin(&b, "rephub+unix:///?socket=%s/hub");
	simring_free(b.sim);
	b.sim = simring_new(8192, 64 * MIB);
	b.cfg.checkpoint = 0;
	b.cfg.compress = 1;
	id = simring_add_volume(b.sim, "v0", bytes);
	start_hub();
	bench_start(&b);
	resync_large(id, bytes);
	wire = remote->wire;
	journal = journal_now();
	resync_large(id, bytes);
	wire = remote->wire - wire;
	journal = journal_now() - journal;
	print_message("%" PRIu64 " MiB that were the same: %" PRIu64 " bytes on the wire, %" PRIu64 " in the journal\n", bytes / MIB,
		      wire, journal);
	assert_in_range(wire, bytes / 8192, bytes / 1000);
	assert_in_range(journal, 1, bytes / 2000);
	bench_stop(&b);
	bench_finish(&b);
	munmap(remote, sizeof(*remote));
	sim_remove(hub_dir);
	free(hub_dir);
	alarm(110);
}

/*
 * The race that sums invite. The hub has X in a block, and says so. The block is written with Y; then a write fails
 * that had brought X back to the disk. The resync reads X, which is what the hub said, and not what it has.
 */
static void test_back_and_forth(void **state)
{
	static unsigned char x[SUMS_BLOCK];
	unsigned char *block;

	(void)state;
	begin();
	block = b.disk[0].oracle + 5 * SUMS_BLOCK;
	bench_fill(&b, b.disk[0].oracle, VOLUME_SIZE);
	resync_all();
	bench_drained(&b);
	memcpy(x, block, sizeof(x));
	put(REPAGENT_REC_RESYNC_BEGIN, 0, VOLUME_SIZE);
	put(REPAGENT_REC_RESYNC, 0, 4 * SUMS_BLOCK);
	bench_drained(&b);	/* and so the sums of the first MiB are there */
	bench_fill(&b, block, 4096);
	put(REPAGENT_REC_WRITE, 5 * SUMS_BLOCK, 4096);
	put(REPAGENT_REC_FAILED, 5 * SUMS_BLOCK, 4096);
	memcpy(block, x, sizeof(x));
	put(REPAGENT_REC_RESYNC, 4 * SUMS_BLOCK, 4 * SUMS_BLOCK);
	put(REPAGENT_REC_RESYNC_END, 0, 0);
	end();
}

/* What is between X and X may also come before the sums were taken, but behind RESYNC_BEGIN. */
static void test_back_and_forth_early(void **state)
{
	static unsigned char x[SUMS_BLOCK];
	unsigned char *block;

	(void)state;
	begin();
	block = b.disk[0].oracle + 5 * SUMS_BLOCK;
	bench_fill(&b, b.disk[0].oracle, VOLUME_SIZE);
	resync_all();
	bench_drained(&b);
	memcpy(x, block, sizeof(x));
	put(REPAGENT_REC_RESYNC_BEGIN, 0, VOLUME_SIZE);
	bench_fill(&b, block, 4096);
	put(REPAGENT_REC_WRITE, 5 * SUMS_BLOCK, 4096);
	memcpy(block, x, sizeof(x));
	put(REPAGENT_REC_RESYNC, 0, 4 * SUMS_BLOCK);
	put(REPAGENT_REC_RESYNC, 4 * SUMS_BLOCK, 4 * SUMS_BLOCK);
	put(REPAGENT_REC_RESYNC_END, 0, 0);
	end();
}

/* What was written right before RESYNC_BEGIN may not yet be at the hub when its sums are asked for. */
static void test_written_just_before(void **state)
{
	static unsigned char x[SUMS_BLOCK];
	unsigned char *block;
	unsigned int i;

	(void)state;
	begin();
	bench_fill(&b, b.disk[0].oracle, VOLUME_SIZE);
	resync_all();
	bench_drained(&b);
	for (i = 0; i < 60; i++) {
		block = b.disk[0].oracle + i * SUMS_BLOCK;
		memcpy(x, block, sizeof(x));
		bench_fill(&b, block, SUMS_BLOCK);
		put(REPAGENT_REC_WRITE, i * SUMS_BLOCK, SUMS_BLOCK);
		put(REPAGENT_REC_RESYNC_BEGIN, 0, VOLUME_SIZE);
		memcpy(block, x, sizeof(x));
		put(REPAGENT_REC_RESYNC, i * SUMS_BLOCK, SUMS_BLOCK);
		put(REPAGENT_REC_RESYNC_END, 0, 0);
		bench_drained(&b);
	}
	end();
}

/*
 * At random: a disk whose blocks go back and forth between three contents, by writes that are in the stream, and by
 * some that are not and are read again later; agent and hub are killed now and then.
 */
static void test_random(void **state)
{
	enum { N = VOLUME_SIZE / SUMS_BLOCK };
	bool owed[N] = { false }, in_resync = false;
	static unsigned char pattern[3][SUMS_BLOCK];
	unsigned int i, k, n;
	uint64_t at, len;

	(void)state;
	begin();
	for (i = 0; i < 2; i++)
		bench_fill(&b, pattern[i], SUMS_BLOCK);
	bench_fill(&b, b.disk[0].oracle, VOLUME_SIZE);
	for (i = 0; i < N; i++)
		memcpy(b.disk[0].oracle + i * SUMS_BLOCK, pattern[i % 3], SUMS_BLOCK);
	resync_all();
	for (i = 0; i < 1500; i++) {
		n = (unsigned int)rand_r(&b.seed);
		k = (unsigned int)rand_r(&b.seed) % N;
		if (n % 8 < 3) {
			/* part of a block, or all of it */
			at = n % 16 < 8 ? 0 : (uint64_t)rand_r(&b.seed) % 16 * 4096;
			len = n % 32 < 16 ? SUMS_BLOCK - at : 4096;
			memcpy(b.disk[0].oracle + k * SUMS_BLOCK + at, pattern[n / 64 % 3] + at, len);
			if (n % 3)
				put(REPAGENT_REC_WRITE, k * SUMS_BLOCK + at, len);
			else
				owed[k] = true;
		} else if (n % 8 < 6 && in_resync) {
			/* Mostly whole blocks, and else from anywhere to anywhere. */
			k &= ~3u;
			at = n % 24 < 8 && k < N - 4 ? (uint64_t)rand_r(&b.seed) % 16 * 4096 : 0;
			put(REPAGENT_REC_RESYNC, k * SUMS_BLOCK + at, 4 * SUMS_BLOCK);
			memset(owed + k + !!at, 0, 4 - !!at);
		} else if (n % 64 == 6) {
			put(REPAGENT_REC_RESYNC_BEGIN, 0, VOLUME_SIZE);
			in_resync = true;
		} else if (n % 512 == 7) {
			bench_end(&b.daemon, SIGKILL);
			bench_start(&b);
		} else if (n % 512 == 15) {
			bench_end(&b.server, SIGKILL);
			start_hub();
		}
	}
	put(REPAGENT_REC_RESYNC_BEGIN, 0, VOLUME_SIZE);
	for (k = 0; k < N; k++)
		if (owed[k])
			put(REPAGENT_REC_RESYNC, k * SUMS_BLOCK, SUMS_BLOCK);
	put(REPAGENT_REC_RESYNC_END, 0, 0);
	end();
}

static void order(uint64_t rate)
{
	unsigned int i;

	remote->rate = rate;
	remote->order = true;
	for (i = 0; i < 3000 && (remote->order || !strcmp(remote->state, "done")); i++)
		usleep(10000);
	assert_false(remote->order);
}

static bool is_compared(void)
{
	return !strcmp(remote->state, "done");
}

static void wait_compared(void)
{
	unsigned int i;

	for (i = 0; i < 6000 && !is_compared(); i++)
		usleep(10000);
	if (!is_compared())
		fail_msg("the comparison is %s, at %" PRIu64, remote->state, remote->info.reached);
}

static void synced(void)
{
	begin();
	bench_fill(&b, b.disk[0].oracle, VOLUME_SIZE / 2);
	resync_all();
	bench_drained(&b);
}

/* Blocks are written all the time while they are compared, to and fro: nothing differs, whatever is on its way. */
static void test_verify_beside_writes(void **state)
{
	static unsigned char data[16384];
	uint64_t at;

	(void)state;
	synced();
	order(0);
	while (!is_compared()) {
		bench_fill(&b, data, sizeof(data));
		at = (uint64_t)rand_r(&b.seed) % (VOLUME_SIZE / 4096 - 4) * 4096;
		simring_write(b.sim, b.disk[0].id, rand_r(&b.seed) % 2 ? at % SUMS_BLOCK : at, sizeof(data), data);
		/* Who waits for room in the ring keeps its reader from the disk. */
		if (simring_head(b.sim) > 64)
			simring_wait_acked(b.sim, simring_head(b.sim) - 64, 60);
	}
	assert_int_equal(remote->info.differed, 0);
	assert_int_equal(remote->info.skipped, 0);
	assert_in_range(remote->info.reached, VOLUME_SIZE, VOLUME_SIZE);
	end();
}

/* What differs is found, all of it and nothing else, and sent again; the next comparison finds nothing. */
static void test_verify_repairs(void **state)
{
	(void)state;
	synced();
	b.disk[0].oracle[SUMS_BLOCK + 5] ^= 1;
	b.disk[0].oracle[VOLUME_SIZE - 1] ^= 1;
	memset(b.disk[0].oracle + 8 * SUMS_BLOCK, 0, SUMS_BLOCK);
	order(0);
	wait_compared();
	assert_int_equal(remote->info.differed, 3 * SUMS_BLOCK);
	assert_int_equal(remote->info.unrepaired, 0);
	order(0);
	wait_compared();
	assert_int_equal(remote->info.differed, 0);
	end();
}

/* The hub and the agent are killed meanwhile: the order is carried out all the same. */
static void test_verify_goes_on(void **state)
{
	(void)state;
	synced();
	b.disk[0].oracle[VOLUME_SIZE - 1] ^= 1;
	order(8 * MIB);
	while (!b.server || strcmp(remote->state, "running"))
		usleep(1000);
	bench_end(&b.server, SIGKILL);
	start_hub();
	bench_end(&b.daemon, SIGKILL);
	bench_start(&b);
	wait_compared();
	assert_int_equal(remote->info.differed, SUMS_BLOCK);
	end();
}

/* By the hub's schedule, time and again. */
static void test_verify_by_schedule(void **state)
{
	unsigned int i, n = 0;
	uint64_t ended = 0;

	(void)state;
	hub_every = 200 * NSEC_PER_MSEC;
	synced();
	for (i = 0; i < 3000 && n < 3; i++) {
		if (is_compared() && remote->info.ended != ended)
			n++;
		if (is_compared())
			ended = remote->info.ended;
		usleep(10000);
	}
	assert_int_equal(n, 3);
	assert_int_equal(remote->info.differed, 0);
	end();
	hub_every = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_want),
		cmocka_unit_test(test_sum),
		cmocka_unit_test_setup_teardown(test_sums_of_positions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sums_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sums_of_torn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wanted_of_torn, setup, teardown),
		cmocka_unit_test(test_identical),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_back_and_forth),
		cmocka_unit_test(test_back_and_forth_early),
		cmocka_unit_test(test_written_just_before),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_verify_beside_writes),
		cmocka_unit_test(test_verify_repairs),
		cmocka_unit_test(test_verify_goes_on),
		cmocka_unit_test(test_verify_by_schedule),
	};
	int failed;

	if (!bench_open("test-sums"))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return bench_close() ? failed : 1;
}
