// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log tap against a hub that is as strict as Documentation/frames.md: what a
 * random workload put into a simulated ring must come out of the hub's log, byte
 * for byte, whoever was killed meanwhile, and nothing may be acknowledged before
 * its time.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <libnbd.h>

#include "../../userspace/common/client.h"
#include "../../userspace/common/parse.h"
#include "fakehub.h"
#include "simbench.h"

static struct fakehub *hub;

/* A ring with two volumes, a hub for it that does not run yet, and the configuration. */
static void begin(struct bench *b)
{
	bench_begin(b, "rephub+unix:///?socket=%s/hub");
	b->cfg.checkpoint = 0;
	bench_add_disk(b, 0, "v0");
	bench_add_disk(b, 1, "v1");
	hub = fakehub_new("sim");
}

static void finish(struct bench *b)
{
	bench_finish(b);
	fakehub_free(hub);
}

static void start_hub(struct bench *b)
{
	char path[128];

	b->server = fakehub_start(hub, bench_path(path, sizeof(path), "hub"));
	bench_await(path);
}

static void kill_hub(struct bench *b)
{
	bench_end(&b->server, SIGKILL);
}

/* It must never have come to that. */
static void nothing_refused(void)
{
	if (hub->refused)
		fail_msg("the hub had to refuse: %s", hub->refusal);
}

/* What the log from an offset on makes of @before is the oracle. */
static void replay_from(struct bench *b, uint64_t from, unsigned char *before[2], struct fakehub_contents *c)
{
	struct fakehub_volume v[2] = { { "v0", NULL, VOLUME_SIZE }, { "v1", NULL, VOLUME_SIZE } };
	uint64_t n;
	int i;

	for (i = 0; i < 2; i++) {
		v[i].data = calloc(1, VOLUME_SIZE);
		if (before)
			memcpy(v[i].data, before[i], VOLUME_SIZE);
	}
	fakehub_replay(hub, from, v, 2, c);
	for (i = 0; i < 2; i++) {
		for (n = 0; n < VOLUME_SIZE; n++)
			if (v[i].data[n] != b->disk[i].oracle[n])
				fail_msg("%s differs at byte %lu", v[i].name, n);
		free(v[i].data);
	}
}

static void replay(struct bench *b, struct fakehub_contents *c)
{
	replay_from(b, SESSION_SIZE, NULL, c);
}

static void acked_as_allowed(struct bench *b)
{
	uint64_t acked = simring_acked(b->sim), allowed = __atomic_load_n(&hub->allowed, __ATOMIC_SEQ_CST);

	if (acked > allowed)
		fail_msg("record %lu is acknowledged and %lu may be", acked, allowed);
}

static void wait_until(const uint64_t *counter, uint64_t least)
{
	int i;

	for (i = 0; i < 10000 && __atomic_load_n(counter, __ATOMIC_SEQ_CST) < least; i++)
		usleep(1000);
	assert_true(__atomic_load_n(counter, __ATOMIC_SEQ_CST) >= least);
}

/* ---- tests --------------------------------------------------------------- */

/* All goes well: everything is there, packed, and in few frames. */
static void test_plain(void **state)
{
	struct fakehub_contents c;
	struct bench b;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 3000);
	bench_drained(&b);
	acked_as_allowed(&b);
	bench_put(&b, 300);
	bench_stop(&b);
	assert_int_equal(simring_acked(b.sim), simring_head(b.sim) - 1);
	nothing_refused();
	replay(&b, &c);
	assert_int_equal(c.records + c.voids, simring_head(b.sim) - 1);
	assert_int_equal(c.labels, 0);
	print_message("%lu records, %lu void, in %lu frames (at most %lu in one), %lu flushes\n", c.records,
		      c.voids, c.frames, hub->records_max, hub->flushes);
	assert_in_range(c.voids, 1, 300);
	assert_in_range(c.frames, 1, 2500);
	assert_true(hub->records_max > 4);
	assert_int_equal(hub->sessions, 1);
	finish(&b);
}

/* What waited for the hub comes in full frames, each not larger than it may be. */
static void test_packing(void **state)
{
	struct repagent_slot slot = { .type = REPAGENT_REC_WRITE, .flags = REPAGENT_REC_FUA, .nr_sectors = 1, .len = 512 };
	static unsigned char data[REPAGENT_MAX_RECORD];
	struct fakehub_contents c;
	unsigned char *payload;
	struct bench b;
	int i;

	(void)state;
	begin(&b);
	/* Three of the largest, then many of the smallest. */
	for (i = 0; i < 3; i++) {
		bench_fill(&b, data, sizeof(data));
		memcpy(b.disk[0].oracle + i * 512, data, sizeof(data));
		simring_put(b.sim, REPAGENT_REC_WRITE, b.disk[0].id, (uint64_t)i * 512, sizeof(data), data);
	}
	slot.volume = b.disk[1].id;
	for (i = 0; i < 800; i++) {
		slot.sector = (uint64_t)i;
		simring_commit(b.sim, simring_reserve(b.sim, &slot, &payload), REPAGENT_SLOT_READY);
		memset(payload, i, 512);
		memset(b.disk[1].oracle + i * 512, i, 512);
	}
	start_hub(&b);
	bench_start(&b);
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	assert_int_equal(c.fua, 800);
	/* The ring has 4 MiB, so that half a MiB makes a frame full. */
	assert_in_range(c.frames, 4, 6);
	assert_true(hub->records_max >= 700);
	finish(&b);
}

/*
 * Answers that overtake each other, FLUSHes that take their time: never is
 * anything acknowledged but the unbroken run that was answered before a FLUSH.
 */
static void test_answers_overtake(void **state)
{
	struct fakehub_contents c;
	struct bench b;
	int i;

	(void)state;
	begin(&b);
	hub->shuffle = true;
	b.cfg.epoch.ns = NSEC_PER_MSEC;		/* many FLUSHes */
	start_hub(&b);
	bench_start(&b);
	for (i = 0; i < 150; i++) {
		bench_put(&b, 20);
		acked_as_allowed(&b);
	}
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	assert_true(hub->flushes > 10);
	finish(&b);
}

/* A frame that is not answered holds back all behind it, though these are answered and flushed. */
static void test_unanswered_frame(void **state)
{
	struct fakehub_contents c;
	uint64_t flushes, stuck;
	struct bench b;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 100);
	bench_drained(&b);
	hub->stuck_seq = simring_head(b.sim);
	bench_put(&b, 60);
	wait_until(&hub->stuck, 1);
	stuck = hub->stuck;
	flushes = hub->flushes;
	bench_put(&b, 60);
	usleep(300000);
	acked_as_allowed(&b);
	assert_true(simring_acked(b.sim) < stuck);
	assert_in_range(hub->flushes, flushes, flushes + 1);
	hub->stuck_seq = 0;
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	finish(&b);
}

/* What is answered after the FLUSH was sent is not covered by it. */
static void test_flush_covers_what_was_before(void **state)
{
	uint64_t covered, acked;
	struct bench b;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 50);
	bench_drained(&b);
	acked = simring_acked(b.sim);
	hub->hold_flush = true;
	bench_put(&b, 10);
	covered = simring_head(b.sim) - 1;
	for (int i = 0; i < 10000 && !*(volatile unsigned int *)&hub->held_flushes; i++)
		usleep(1000);
	assert_int_equal(hub->held_flushes, 1);
	bench_put(&b, 60);
	usleep(200000);
	/* One FLUSH is under way, all else is answered, and nothing is acknowledged. */
	assert_int_equal(hub->held_flushes, 1);
	assert_int_equal(simring_acked(b.sim), acked);
	hub->flush_error = EIO;		/* of the next one */
	hub->hold_flush = false;
	for (int i = 0; i < 5000 && simring_acked(b.sim) == acked; i++)
		usleep(1000);
	assert_in_range(simring_acked(b.sim), acked, covered);
	hub->flush_error = 0;
	bench_drained(&b);
	bench_stop(&b);
	finish(&b);
}

/* The hub loses its power time and again, and the daemon is killed. */
static void test_kills(void **state)
{
	struct fakehub_contents c;
	struct bench b;
	int i;

	(void)state;
	begin(&b);
	b.cfg.epoch.ns = 5 * NSEC_PER_MSEC;
	start_hub(&b);
	bench_start(&b);
	for (i = 0; i < 30; i++) {
		wait_until(&hub->sessions, (uint64_t)i + 1);
		bench_put(&b, (unsigned int)rand_r(&b.seed) % 200);
		acked_as_allowed(&b);
		if (i % 3 != 1) {
			kill_hub(&b);
			assert_true(simring_acked(b.sim) <= fakehub_position(hub).seq);
		}
		if (i % 3 != 0) {
			bench_end(&b.daemon, SIGKILL);
			bench_start(&b);
		}
		if (i % 3 != 1)
			start_hub(&b);
	}
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	assert_int_equal(c.gaps, 0);
	assert_int_equal(simring_marks(b.sim), 0);
	finish(&b);
}

/* What the hub made durable and could not say any more is acknowledged at once, and not sent again. */
static void test_lost_answer(void **state)
{
	struct fakehub_contents c;
	uint64_t acked, frames;
	struct bench b;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 50);
	bench_drained(&b);
	acked = simring_acked(b.sim);
	hub->mute_flush = true;
	bench_put(&b, 50);
	for (int i = 0; i < 5000 && fakehub_position(hub).seq < simring_head(b.sim) - 1; i++) {
		/* The next FLUSH comes only with the next session. */
		usleep(1000);
		if (i % 200 == 199) {
			kill_hub(&b);
			start_hub(&b);
		}
	}
	assert_int_equal(fakehub_position(hub).seq, simring_head(b.sim) - 1);
	kill_hub(&b);
	assert_true(acked <= simring_acked(b.sim));
	hub->mute_flush = false;
	frames = hub->frames;
	start_hub(&b);
	bench_drained(&b);
	assert_int_equal(hub->frames, frames);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	finish(&b);
}

static unsigned char *copy_of(const struct disk *d)
{
	unsigned char *p = malloc(VOLUME_SIZE);

	memcpy(p, d->oracle, VOLUME_SIZE);
	return p;
}

/* As the kernel reads a volume again. */
static void resync(struct bench *b)
{
	const uint64_t piece = 256 * KIB;
	uint64_t at;
	int i;

	for (i = 0; i < 2; i++) {
		for (at = 0; at < VOLUME_SIZE; at += piece)
			simring_put(b->sim, REPAGENT_REC_RESYNC, b->disk[i].id, at, piece, b->disk[i].oracle + at);
		simring_put(b->sim, REPAGENT_REC_RESYNC_END, b->disk[i].id, 0, 0, NULL);
	}
}

/* A hub that was set back, or emptied: all is read again, behind a GAP. */
static void hub_loses(bool all, bool daemon_too)
{
	struct fakehub_position then;
	struct fakehub_contents c;
	unsigned char *before[2];
	struct bench b;
	int i;

	begin(&b);
	simring_track(b.sim);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 100);
	bench_drained(&b);
	then = fakehub_position(hub);
	before[0] = copy_of(&b.disk[0]);
	before[1] = copy_of(&b.disk[1]);
	bench_put(&b, 100);
	bench_drained(&b);
	kill_hub(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	/* Some of what the ring has is not there when the GAP comes. */
	bench_put(&b, 40);
	fakehub_set_back(hub, all ? NULL : &then);
	if (daemon_too) {
		bench_end(&b.daemon, SIGKILL);
		bench_start(&b);
	}
	start_hub(&b);
	for (i = 0; i < 10000 && !simring_marks(b.sim); i++)
		usleep(1000);
	assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
	assert_int_equal(simring_marks(b.sim), 1);
	resync(&b);
	bench_put(&b, 100);
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	if (all)
		replay(&b, &c);
	else
		replay_from(&b, SESSION_SIZE, NULL, &c);
	assert_int_equal(c.gaps, 1);
	assert_int_equal(c.first_gap_begins, 2);
	for (i = 0; i < 2; i++)
		free(before[i]);
	finish(&b);
}

static void test_hub_set_back(void **state)
{
	(void)state;
	hub_loses(false, false);
	hub_loses(false, true);
}

static void test_hub_emptied(void **state)
{
	(void)state;
	hub_loses(true, false);
}

/* A new life of the ring, whose volumes rest on their maps: does the hub have what these rest on? */
static void maps(uint64_t map_incarnation, uint64_t map_seq, bool owes, unsigned int marks)
{
	const struct fakehub_position then = { SESSION_SIZE, 77, 500 };
	struct fakehub_contents c;
	struct bench b;

	begin(&b);
	simring_track(b.sim);
	fakehub_set_back(hub, &then);
	hub->session.owes = owes;
	simring_set_map(b.sim, b.disk[1].id, map_incarnation, map_seq);
	start_hub(&b);
	bench_start(&b);
	assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
	bench_put(&b, 20);
	bench_drained(&b);
	assert_int_equal(simring_marks(b.sim), marks);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	assert_int_equal(c.gaps, marks);
	finish(&b);
}

static void test_maps(void **state)
{
	(void)state;
	maps(0, 0, false, 0);		/* no map */
	maps(77, 500, false, 0);
	maps(77, 499, false, 0);
	maps(77, 501, false, 1);	/* it was set back */
	maps(78, 1, false, 1);		/* it is another one */
	maps(77, 500, true, 1);		/* it had failed */
}

/* ... or what was brought to this host since, by a fail-back? */
#define NOT_WHOLE	UINT_MAX

static void back(const char *line, uint64_t map_incarnation, uint64_t map_seq, uint64_t hub_seq, unsigned int marks)
{
	const struct fakehub_position then = { SESSION_SIZE, 0x99, hub_seq };
	char path[128];
	struct bench b;
	FILE *f;

	begin(&b);
	b.cfg.state_dir = bench_dir;
	if (marks == NOT_WHOLE)
		b.cfg.drain = NSEC_PER_MSEC;
	unlink(bench_path(path, sizeof(path), "sim.hub"));
	f = fopen(bench_path(path, sizeof(path), "sim.back"), "w");
	assert_non_null(f);
	fprintf(f, line, "v1");
	assert_int_equal(fclose(f), 0);
	simring_track(b.sim);
	fakehub_set_back(hub, &then);
	simring_set_map(b.sim, b.disk[1].id, map_incarnation, map_seq);
	start_hub(&b);
	bench_start(&b);
	if (marks == NOT_WHOLE) {	/* it is not even asked */
		assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_FENCED, 10));
		bench_stop(&b);
		unlink(path);
		finish(&b);
		return;
	}
	assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
	bench_put(&b, 20);
	bench_drained(&b);
	if (simring_marks(b.sim) != marks)
		fail_msg("'%s', map %" PRIx64 ":%" PRIu64 ", hub at %" PRIu64 ": %u marks, expected %u", line, map_incarnation, map_seq, hub_seq,
			 simring_marks(b.sim), marks);
	bench_stop(&b);
	nothing_refused();
	assert_true(unlink(path) || marks);	/* it is over, and gone */
	unlink(bench_path(path, sizeof(path), "sim.hub"));
	finish(&b);
}

static void test_back(void **state)
{
	(void)state;
	back("%s had 0000000000000077:500 has 0000000000000099:42\n", 0x77, 500, 42, 0);
	back("%s had 0000000000000077:500 has 0000000000000099:42\n", 0x77, 499, 42, 0);
	back("other begun\n%s had 0000000000000077:500 has 0000000000000099:42\n", 0x77, 499, 42, NOT_WHOLE);
	back("%s had 0000000000000077:500 has 0000000000000099:42\n", 0x77, 501, 42, 1);	/* bits were cleared since */
	back("%s had 0000000000000077:500 has 0000000000000099:42\n", 0x78, 500, 42, 1);
	back("%s had 0000000000000077:500 has 0000000000000099:42\n", 0x77, 500, 43, 1);	/* somebody has written since */
	back("%s had 0000000000000077:500 has 0000000000000098:42\n", 0x77, 500, 42, 1);
	back("%s begun\n", 0x77, 500, 42, NOT_WHOLE);
	back("%s9 had 0000000000000077:500 has 0000000000000099:42\n", 0x77, 500, 42, 1);	/* another volume */
	back("%s had 0000000000000077:500 has 0000000000000099:42 \n", 0x77, 500, 42, NOT_WHOLE);	/* and no such line */
	back("%s had 0000000000000077:500", 0x77, 500, 42, NOT_WHOLE);
}

/* The same of a volume that comes later. */
static void test_map_of_latecomer(void **state)
{
	const struct fakehub_position then = { SESSION_SIZE, 77, 500 };
	struct bench b;
	uint16_t id;
	int i;

	(void)state;
	begin(&b);
	fakehub_set_back(hub, &then);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 20);
	bench_drained(&b);
	for (i = 0; i < 2; i++) {
		id = simring_add_volume(b.sim, i ? "late" : "good", VOLUME_SIZE);
		simring_set_map(b.sim, id, 77, i ? 501 : 500);
		simring_put(b.sim, REPAGENT_REC_VOLUME_ADD, id, 0, VOLUME_SIZE, NULL);
		bench_put(&b, 20);
		bench_drained(&b);
		usleep(200000);
		assert_int_equal(simring_marks(b.sim), i);
	}
	bench_stop(&b);
	nothing_refused();
	finish(&b);
}

/* Each state of a session that is not to be: the kernel hears of it, nothing is sent, and in the end all is well. */
static void test_states(void **state)
{
	static const struct { enum session_state state; unsigned int reason; } states[] = {
		{ SESSION_FENCED, REPAGENT_REASON_FENCED },
		{ SESSION_STALE, REPAGENT_REASON_FENCED },
		{ SESSION_FOREIGN, REPAGENT_REASON_HUB_REFUSED },
		{ SESSION_FULL, REPAGENT_REASON_HUB_FULL },
		{ SESSION_FAILED, REPAGENT_REASON_NONE },
	};
	struct fakehub_contents c;
	struct bench b;
	unsigned int i;

	(void)state;
	begin(&b);
	for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		uint64_t sessions = hub->sessions;

		hub->session.state = states[i].state;
		snprintf(hub->session.reason, sizeof(hub->session.reason), "state %u it is", i);
		start_hub(&b);
		if (!i) {
			bench_start(&b);
			bench_put(&b, 100);
		}
		wait_until(&hub->sessions, sessions + 2);
		assert_true(simring_wait_hub(b.sim, 0, states[i].reason, 10));
		kill_hub(&b);
	}
	assert_int_equal(hub->frames, 0);
	assert_int_equal(simring_acked(b.sim), 0);
	hub->session.state = SESSION_ACCEPTING;
	start_hub(&b);
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	finish(&b);
}

/* A session in the middle of which the hub will have nothing more. */
static void test_frame_refused(void **state)
{
	static const int errors[] = { EPERM, EINVAL, EIO, ESHUTDOWN, ENOSPC };
	struct fakehub_contents c;
	struct bench b;
	unsigned int i;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		bench_put(&b, 50);
		bench_drained(&b);
		hub->frame_error = errors[i];
		bench_put(&b, 50);
		assert_true(simring_wait_hub(b.sim, 0, errors[i] == ENOSPC ? REPAGENT_REASON_HUB_FULL :
					     REPAGENT_REASON_NONE, 10));
		acked_as_allowed(&b);
		hub->frame_error = 0;
	}
	hub->flush_error = ENOSPC;
	bench_put(&b, 50);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_FULL, 10));
	hub->flush_error = 0;
	bench_drained(&b);
	bench_stop(&b);
	replay(&b, &c);
	finish(&b);
}

static void put_le32(unsigned char *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void reseal(unsigned char *block)
{
	put_le32(block + SESSION_SIZE - 4, frame_crc(block, SESSION_SIZE - 4));
}

static void bad_magic(unsigned char *block) { block[0] ^= 1; reseal(block); }
static void bad_sum(unsigned char *block) { block[SESSION_SIZE - 1] ^= 1; }
static void bad_version(unsigned char *block) { block[8] = 9; reseal(block); }
static void bad_state(unsigned char *block) { block[12] = 99; reseal(block); }
static void bad_padding(unsigned char *block) { block[2000] = 1; reseal(block); }
static void bad_name(unsigned char *block) { block[96] = 'x'; reseal(block); }
static void endless_name(unsigned char *block) { memset(block + 96, 'a', 32); reseal(block); }
static void endless_reason(unsigned char *block) { memset(block + 128, 'a', 160); reseal(block); }
static void small_frames(unsigned char *block) { put_le32(block + 88, 4096); reseal(block); }
static void odd_offset(unsigned char *block) { block[56] ^= 1; reseal(block); }
static void all_ones(unsigned char *block) { memset(block, 0xff, SESSION_SIZE); }
static void all_zeroes(unsigned char *block) { memset(block, 0, SESSION_SIZE); }
static void other_group(unsigned char *block) { block[32] ^= 1; reseal(block); }

/* It has what never was. */
static void too_far(unsigned char *block)
{
	const uint64_t incarnation = 0x1234567812345678, seq = 1000000;

	memcpy(block + 64, &incarnation, 8);
	memcpy(block + 72, &seq, 8);
	reseal(block);
}

/* Blocks that no hub may make: refused each, with nothing sent and nothing acknowledged. */
static void test_hostile_blocks(void **state)
{
	static void (*const tampers[])(unsigned char *) = {
		bad_magic, bad_sum, bad_version, bad_state, bad_padding, bad_name, endless_name, endless_reason,
		small_frames, odd_offset, all_ones, all_zeroes, too_far, other_group,
	};
	struct fakehub_contents c;
	struct bench b;
	uint64_t acked, sessions;
	unsigned int i;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 20);
	bench_drained(&b);
	acked = simring_acked(b.sim);
	for (i = 0; i < sizeof(tampers) / sizeof(tampers[0]); i++) {
		kill_hub(&b);
		assert_true(simring_wait_hub(b.sim, 0, i ? REPAGENT_REASON_NONE : REPAGENT_REASON_NONE, 10));
		if (!i)
			bench_put(&b, 50);
		hub->tamper = tampers[i];
		sessions = hub->sessions;
		start_hub(&b);
		wait_until(&hub->sessions, sessions + 1);
		if (!simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10))
			fail_msg("block %u was not refused", i);
		assert_int_equal(simring_acked(b.sim), acked);
	}
	kill_hub(&b);
	hub->tamper = NULL;
	start_hub(&b);
	bench_drained(&b);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	assert_int_equal(c.gaps, 0);
	assert_int_equal(simring_marks(b.sim), 0);
	finish(&b);
}

/* A HELLO that is refused, and servers that are no rephub: these must not even be written to. */
static void test_no_rephub(void **state)
{
	char socket[128], image[128], file[160];
	struct bench b;
	pid_t nbdkit;

	(void)state;
	begin(&b);
	hub->hello_error = EPERM;
	start_hub(&b);
	bench_start(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	assert_int_equal(hub->sessions, 0);
	kill_hub(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));

	bench_image(bench_path(image, sizeof(image), "image"), VOLUME_SIZE);
	snprintf(file, sizeof(file), "file=%s", image);
	bench_path(socket, sizeof(socket), "hub");
	unlink(socket);
	nbdkit = bench_run((char *[]) { "nbdkit", "-f", "-U", socket, "file", file, NULL });
	bench_await(socket);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	bench_end(&nbdkit, SIGKILL);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));

	hub->size = 1024 * MIB;
	hub->hello_error = 0;
	start_hub(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	assert_int_equal(hub->hellos, 1);
	finish(&b);
}

/* A hub that hangs is given up; what it was sent comes again, and what it wakes up with does no harm. */
static void test_stall(void **state)
{
	struct fakehub_contents c;
	struct bench b;

	(void)state;
	begin(&b);
	b.cfg.timeout = 500 * NSEC_PER_MSEC;
	b.cfg.heartbeat = 100 * NSEC_PER_MSEC;
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 150);
	kill(-b.server, SIGSTOP);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	bench_put(&b, 100);
	kill(-b.server, SIGCONT);
	bench_drained(&b);
	/* The heartbeat notices it when nothing is written, too. */
	assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
	kill(-b.server, SIGSTOP);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	kill(-b.server, SIGCONT);
	bench_put(&b, 100);
	bench_drained(&b);
	bench_stop(&b);
	replay(&b, &c);
	finish(&b);
}

/* A busy slot holds back what is behind it, and nothing is burnt waiting. */
static void test_busy_holds(void **state)
{
	struct repagent_slot slot = { .type = REPAGENT_REC_WRITE, .nr_sectors = 1, .len = 512 };
	struct fakehub_contents c;
	unsigned char *payload;
	uint64_t busy, calls;
	struct bench b;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 10);
	bench_drained(&b);
	slot.volume = b.disk[0].id;
	busy = simring_reserve(b.sim, &slot, &payload);
	memset(payload, 7, 512);
	memset(b.disk[0].oracle, 7, 512);
	bench_put(&b, 200);
	usleep(200000);
	calls = simring_calls(b.sim);
	usleep(2000000);
	assert_in_range(simring_calls(b.sim) - calls, 0, 40);
	assert_true(simring_acked(b.sim) < busy);
	simring_commit(b.sim, busy, REPAGENT_SLOT_READY);
	bench_drained(&b);
	bench_stop(&b);
	replay(&b, &c);
	finish(&b);
}

/* Volumes come and go, and each is named before its first record. */
/* What a resync reads of an empty disk takes no room in the log; it replaces what was there. */
static void test_zeroes(void **state)
{
	const uint64_t piece = 256 * KIB;
	struct fakehub_contents c;
	uint64_t before, at;
	struct bench b;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 200);
	bench_drained(&b);
	before = fakehub_position(hub).offset;
	memset(b.disk[0].oracle, 0, VOLUME_SIZE);
	for (at = 0; at < VOLUME_SIZE; at += piece)
		simring_put(b.sim, REPAGENT_REC_RESYNC, b.disk[0].id, at, piece, b.disk[0].oracle + at);
	bench_drained(&b);
	assert_in_range(fakehub_position(hub).offset - before, 1, VOLUME_SIZE / 16);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	finish(&b);
}

static void test_volumes(void **state)
{
	struct fakehub_contents c;
	struct bench b;
	uint16_t id = 0;
	int i;

	(void)state;
	begin(&b);
	start_hub(&b);
	bench_start(&b);
	for (i = 0; i < 20; i++) {
		bench_put(&b, 50);
		if (id) {
			simring_remove_volume(b.sim, id);
			simring_put(b.sim, REPAGENT_REC_VOLUME_REMOVE, id, 0, 0, NULL);
		}
		bench_drained(&b);
		if (i % 4 == 3) {
			kill_hub(&b);
			start_hub(&b);
		}
		id = simring_add_volume(b.sim, "v2", VOLUME_SIZE);
		simring_put(b.sim, REPAGENT_REC_VOLUME_ADD, id, 0, VOLUME_SIZE, NULL);
		simring_put(b.sim, REPAGENT_REC_ZEROES, id, 0, VOLUME_SIZE, NULL);
		bench_drained(&b);
	}
	bench_stop(&b);
	nothing_refused();
	{
		struct fakehub_volume v[3] = {
			{ "v0", calloc(1, VOLUME_SIZE), VOLUME_SIZE }, { "v1", calloc(1, VOLUME_SIZE), VOLUME_SIZE },
			{ "v2", calloc(1, VOLUME_SIZE), VOLUME_SIZE },
		};

		fakehub_replay(hub, SESSION_SIZE, v, 3, &c);
		assert_memory_equal(v[0].data, b.disk[0].oracle, VOLUME_SIZE);
		for (i = 0; i < 3; i++)
			free(v[i].data);
	}
	finish(&b);
}

/* Timed checkpoints: while something comes, and not when nothing does. */
static void test_checkpoints(void **state)
{
	struct fakehub_contents c;
	uint64_t head;
	struct bench b;
	int i;

	(void)state;
	begin(&b);
	b.cfg.checkpoint = 100 * NSEC_PER_MSEC;
	start_hub(&b);
	bench_start(&b);
	for (i = 0; i < 20; i++) {
		bench_put(&b, 20);
		usleep(50000);
	}
	usleep(300000);
	head = simring_head(b.sim);
	usleep(500000);
	assert_int_equal(simring_head(b.sim), head);
	bench_stop(&b);
	nothing_refused();
	replay(&b, &c);
	print_message("%lu timed checkpoints in 1 s\n", c.timed);
	assert_in_range(c.timed, 3, 11);
	finish(&b);
}

static struct json_object *call(struct client *c, const char *command, struct json_object *arguments)
{
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *result;

	if (!client_call(c, command, arguments, 10000, &result, class, error))
		fail_msg("%s: %s: %s", command, class, error);
	return result;
}

static const char *text(struct json_object *o, const char *name)
{
	return json_object_get_string(json_object_object_get(o, name));
}

/* By the control socket: the status says where it goes and why not, a pause sends nothing and loses nothing. */
static void test_control(void **state)
{
	struct json_object *status, *hub_status, *arguments;
	char path[128], class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct fakehub_contents contents;
	struct client c;
	struct bench b;
	uint64_t acked;
	int r;

	(void)state;
	begin(&b);
	b.cfg.control = bench_path(path, sizeof(path), "control");
	start_hub(&b);
	bench_start(&b);
	bench_await(path);
	if (!client_connect(&c, path, 10000, error))
		fail_msg("%s", error);
	bench_put(&b, 200);
	bench_drained(&b);
	status = call(&c, "query-status", NULL);
	hub_status = json_object_object_get(status, "hub");
	assert_string_equal(text(hub_status, "tap"), "log");
	assert_string_equal(text(hub_status, "uri"), b.uri);
	assert_string_equal(text(hub_status, "identity"), "11111111-1111-1111-1111-111111111111");
	assert_string_equal(text(hub_status, "why"), "");
	json_object_put(status);

	json_object_put(call(&c, "pause", NULL));
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_PAUSED, 10));
	acked = simring_acked(b.sim);
	bench_put(&b, 100);
	usleep(100000);
	assert_int_equal(simring_acked(b.sim), acked);
	json_object_put(call(&c, "resume", NULL));
	bench_drained(&b);

	kill_hub(&b);
	hub->session.state = SESSION_FULL;
	snprintf(hub->session.reason, sizeof(hub->session.reason), "the disk is full to the brim");
	start_hub(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_FULL, 10));
	status = call(&c, "query-status", NULL);
	assert_non_null(strstr(text(json_object_object_get(status, "hub"), "why"), "full to the brim"));
	json_object_put(status);
	hub->session.state = SESSION_ACCEPTING;

	arguments = json_object_new_object();
	json_object_object_add(arguments, "label", json_object_new_string("@mine"));
	assert_false(client_call(&c, "checkpoint", arguments, 10000, NULL, class, error));
	assert_string_equal(class, "InvalidArgument");
	arguments = json_object_new_object();
	json_object_object_add(arguments, "label", json_object_new_string("here"));
	json_object_put(call(&c, "checkpoint", arguments));
	bench_put(&b, 50);
	json_object_put(call(&c, "shutdown", NULL));
	waitpid(b.daemon, &r, 0);
	b.daemon = 0;
	assert_true(WIFEXITED(r) && WEXITSTATUS(r) == 3);
	assert_int_equal(simring_acked(b.sim), simring_head(b.sim) - 1);
	nothing_refused();
	replay(&b, &contents);
	assert_int_equal(contents.labels, 1);
	assert_int_equal(contents.timed, 0);
	client_close(&c);
	finish(&b);
}

/* Frames are compressed where the hub takes that and they shrink. */
static void test_compress(void **state)
{
	static unsigned char data[64 * KIB];
	struct fakehub_contents c;
	struct bench b;
	int i, zstd;

	(void)state;
	for (zstd = 0; zstd < 2; zstd++) {
		begin(&b);
		b.cfg.compress = 1;
		hub->session.zstd = zstd;
		start_hub(&b);
		bench_start(&b);
		for (i = 0; i < 50; i++) {
			memset(data, i, sizeof(data));
			memcpy(b.disk[0].oracle + i * 512, data, sizeof(data));
			simring_put(b.sim, REPAGENT_REC_WRITE, b.disk[0].id, (uint64_t)i * 512, sizeof(data), data);
			bench_put(&b, 5);
		}
		bench_drained(&b);
		bench_stop(&b);
		nothing_refused();
		replay(&b, &c);
		assert_true(zstd ? c.packed > 0 : !c.packed);
		finish(&b);
	}
}

/*
 * Another hub, and one that was emptied, are told from the one that the group was at, by this daemon or the one
 * before; a person can have it taken.
 */
static void test_another_hub(void **state)
{
	char path[128], file[128], error[CLIENT_ERROR_MAX];
	struct fakehub_contents contents;
	struct client c;
	struct bench b;
	uint64_t acked;
	FILE *f;
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		begin(&b);
		simring_track(b.sim);
		b.cfg.state_dir = bench_dir;
		b.cfg.control = bench_path(path, sizeof(path), "control");
		unlink(bench_path(file, sizeof(file), "sim.hub"));
		start_hub(&b);
		bench_start(&b);
		bench_put(&b, 50);
		bench_drained(&b);
		acked = simring_acked(b.sim);
		kill_hub(&b);
		if (i) {
			bench_end(&b.daemon, SIGKILL);
			bench_start(&b);
		}
		/* Its group is another one, or it is another hub. */
		if (i < 2)
			hub->session.group[3] ^= 1;
		else
			hub->session.hub[3] ^= 1;
		fakehub_set_back(hub, NULL);
		start_hub(&b);
		assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
		usleep(300000);
		assert_int_equal(simring_marks(b.sim), 0);
		assert_int_equal(simring_acked(b.sim), acked);
		bench_await(path);
		if (!client_connect(&c, path, 10000, error))
			fail_msg("%s", error);
		json_object_put(call(&c, "resync", NULL));
		client_close(&c);
		assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
		assert_in_range(simring_marks(b.sim), 1, 2);
		resync(&b);
		bench_drained(&b);
		bench_stop(&b);
		nothing_refused();
		replay(&b, &contents);
		assert_int_equal(contents.gaps, 1);
		finish(&b);
	}

	/* What is remembered is damaged: it goes on. */
	f = fopen(file, "w");
	fputs("hub 11111111-1111-1111-1111-11111111111x\ngroup 2\n", f);
	fclose(f);
	begin(&b);
	b.cfg.state_dir = bench_dir;
	start_hub(&b);
	bench_start(&b);
	bench_put(&b, 50);
	bench_drained(&b);
	bench_stop(&b);
	finish(&b);
}

static void run_rephub(struct bench *b, const char *program, char *dir)
{
	char path[128];

	bench_path(path, sizeof(path), "hub");
	unlink(path);
	b->server = bench_run((char *[]) { (char *)program, "--dir", dir, "--listen", path, "--segment", "4M",
					   "--keep", "16M", NULL });
	bench_await(path);
}

/* A real rephub runs, and the agent is still to be started; the hub's group is new. */
static void begin_rephub(struct bench *b, char program[512], char dir[128], const char *name)
{
	int i;

	if (!bench_beside(program, 512, "../../rephub")) {
		print_message("%s is not there\n", program);
		skip();
	}
	begin(b);
	simring_track(b->sim);
	b->cfg.epoch.ns = 5 * NSEC_PER_MSEC;
	b->cfg.state_dir = bench_dir;
	bench_path(dir, 128, name);
	unlink(bench_path(b->disk[0].image, sizeof(b->disk[0].image), "sim.hub"));
	for (i = 0; i < 2; i++) {
		simring_put(b->sim, REPAGENT_REC_RESYNC_BEGIN, b->disk[i].id, 0, VOLUME_SIZE, NULL);
		simring_put(b->sim, REPAGENT_REC_ZEROES, b->disk[i].id, 0, VOLUME_SIZE, NULL);
		simring_put(b->sim, REPAGENT_REC_RESYNC_END, b->disk[i].id, 0, 0, NULL);
	}
	run_rephub(b, program, dir);
}

static void test_rephub(void **state)
{
	char program[512], dir[128];
	struct bench b;
	int i;

	(void)state;
	begin_rephub(&b, program, dir, "replica");
	b.cfg.checkpoint = 50 * NSEC_PER_MSEC;
	bench_start(&b);
	for (i = 0; i < 12; i++) {
		assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
		bench_put(&b, (unsigned int)rand_r(&b.seed) % 300);
		if (i % 3 != 1)
			bench_end(&b.server, SIGKILL);
		if (i % 3 != 0) {
			bench_end(&b.daemon, SIGKILL);
			bench_start(&b);
		}
		if (i % 3 != 1)
			run_rephub(&b, program, dir);
		if (i % 4 == 3) {
			bench_drained(&b);
			bench_view_is(&b, 0);
			bench_view_is(&b, 1);
		}
	}
	bench_stop(&b);
	assert_int_equal(simring_acked(b.sim), simring_head(b.sim) - 1);
	assert_int_equal(simring_marks(b.sim), 0);
	bench_view_is(&b, 0);
	bench_view_is(&b, 1);
	finish(&b);
}

static void await_connected(struct client *c)
{
	bool connected = false;
	int i;

	for (i = 0; i < 2000 && !connected; i++) {
		struct json_object *status = call(c, "query-status", NULL);

		connected = json_object_get_boolean(json_object_object_get(json_object_object_get(status, "hub"), "connected"));
		json_object_put(status);
		usleep(5000);
	}
	assert_true(connected);
}

static void await_why(struct client *c, const char *part)
{
	bool says = false;
	int i;

	for (i = 0; i < 2000 && !says; i++) {
		struct json_object *status = call(c, "query-status", NULL);
		const char *why = text(json_object_object_get(status, "hub"), "why");

		says = why && strstr(why, part);
		json_object_put(status);
		usleep(5000);
	}
	assert_true(says);
}

static void rejoin_so(struct client *c, int64_t generation, bool force, bool taken)
{
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *arguments = json_object_new_object(), *result = NULL;

	json_object_object_add(arguments, "generation", json_object_new_int64(generation));
	if (force)
		json_object_object_add(arguments, "force", json_object_new_boolean(true));
	if (client_call(c, "rejoin", arguments, 10000, &result, class, error) != taken)
		fail_msg("rejoin %ld: %s", (long)generation, taken ? error : "it was taken");
	json_object_put(result);
}

static void rejoin_as(struct client *c, int64_t generation, bool taken)
{
	rejoin_so(c, generation, false, taken);
}

/* Return what it returned; NULL where an error of a class is expected, or it returned nothing. */
static struct json_object *back_command(struct client *c, const char *command, const char *volume, const char *at, const char *expected)
{
	char class[CLIENT_CLASS_MAX] = "", error[CLIENT_ERROR_MAX] = "";
	struct json_object *arguments = json_object_new_object(), *result = NULL;
	bool ok;

	json_object_object_add(arguments, "volume", json_object_new_string(volume));
	if (at)
		json_object_object_add(arguments, "at", json_object_new_string(at));
	ok = client_call(c, command, arguments, 10000, &result, class, error);
	if (ok == !!expected || (expected && strcmp(class, expected)))
		fail_msg("%s: %s, '%s': expected %s", command, class, error, expected ? expected : "none");
	if (!strncmp(command, "query", 5))
		return result;
	json_object_put(result);
	return NULL;
}

/*
 * The real rephub fails the group over: this side is told by which generation, and since when; it captures no more,
 * and nothing of it gets there. Rolled back, it goes on by itself; committed, once it was told the generation, and is
 * not of an incarnation that is over.
 */
static void test_fenced(void **state)
{
	char program[512], dir[128], path[128], command[1200], error[CLIENT_ERROR_MAX];
	struct json_object *status, *fenced, *o;
	struct client c;
	struct bench b;
	uint64_t acked;
	FILE *f;
	int i;

	(void)state;
	begin_rephub(&b, program, dir, "fenced-hub");
	b.cfg.retry_full = 50 * NSEC_PER_MSEC;
	b.cfg.control = bench_path(path, sizeof(path), "control");
	bench_start(&b);
	bench_await(path);
	assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
	bench_put(&b, 200);
	bench_drained(&b);
	if (!client_connect(&c, path, 10000, error))
		fail_msg("%s", error);
	rejoin_as(&c, 7, false);
	rejoin_as(&c, 0, false);
	back_command(&c, "begin-back", "v0", NULL, "WrongState");
	acked = simring_acked(b.sim);
	snprintf(command, sizeof(command), "%sctl --dir %s failover sim --at latest > /dev/null", program, dir);
	assert_int_equal(system(command), 0);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_FENCED, 20));
	status = call(&c, "query-status", NULL);
	fenced = json_object_object_get(json_object_object_get(status, "hub"), "fenced");
	assert_int_equal(json_object_get_int64(json_object_object_get(fenced, "generation")), 2);
	assert_true(json_object_get_double(json_object_object_get(fenced, "since")) > 1.7e9);
	assert_non_null(strstr(text(json_object_object_get(status, "hub"), "why"), "fenced by generation 2 since 20"));
	assert_non_null(strstr(text(json_object_object_get(status, "hub"), "why"), "first repctl fail-back sim"));
	json_object_put(status);
	/* Its disks are old, and nobody has begun to do something about that. */
	rejoin_as(&c, 2, false);
	assert_int_equal(simring_acked(b.sim), acked);
	/* While a disk is half of this and half of that it is nobody's. */
	o = back_command(&c, "query-unsent", "v0", NULL, NULL);
	status = call(&c, "query-status", NULL);
	snprintf(command, sizeof(command), "%s:%" PRIu64, text(status, "incarnation"), acked);
	assert_string_equal(text(o, "basis"), command);
	json_object_put(status);
	assert_int_equal(json_object_array_length(json_object_object_get(o, "ranges")), 0);
	json_object_put(o);
	back_command(&c, "begin-back", "disk9", NULL, "NoSuchVolume");
	back_command(&c, "begin-back", "v0", NULL, NULL);
	rejoin_as(&c, 2, false);
	back_command(&c, "end-back", "v0", "here", "InvalidArgument");
	back_command(&c, "end-back", "v0", "0000000000000099:0", "InvalidArgument");
	rejoin_as(&c, 2, false);
	back_command(&c, "end-back", "v0", "0000000000000099:42", NULL);
	rejoin_as(&c, 2, false);	/* and what of the other? */
	back_command(&c, "end-back", "v1", "0000000000000099:42", NULL);
	/* Even told the right one it may not, while there is a way back. */
	rejoin_as(&c, 2, true);
	usleep(200000);
	assert_int_equal(simring_acked(b.sim), acked);
	snprintf(command, sizeof(command), "%sctl --dir %s rollback sim > /dev/null", program, dir);
	assert_int_equal(system(command), 0);
	rejoin_as(&c, 1, true);
	await_connected(&c);
	status = call(&c, "query-status", NULL);
	assert_null(json_object_object_get(json_object_object_get(status, "hub"), "fenced"));
	assert_int_equal(json_object_get_int64(json_object_object_get(json_object_object_get(status, "hub"), "generation")), 3);
	json_object_put(status);
	bench_put(&b, 100);
	for (i = 0; i < 2; i++)
		simring_put(b.sim, REPAGENT_REC_RESYNC_END, b.disk[i].id, 0, 0, NULL);
	bench_drained(&b);
	bench_view_is(&b, 0);
	bench_view_is(&b, 1);
	/* The hub would take it; but a disk is half of what that has, or nobody can say whether. */
	snprintf(command, sizeof(command), "%sctl --dir %s failover sim --at latest > /dev/null", program, dir);
	assert_int_equal(system(command), 0);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_FENCED, 20));
	back_command(&c, "begin-back", "v1", NULL, NULL);
	snprintf(command, sizeof(command), "%sctl --dir %s rollback sim > /dev/null", program, dir);
	assert_int_equal(system(command), 0);
	await_why(&c, "volume v1 is not yet what the hub has");
	rejoin_as(&c, 5, false);
	f = fopen(bench_path(path, sizeof(path), "sim.back"), "w");
	assert_non_null(f);
	fputs("v1 begun\nv0 was begun\n", f);
	assert_int_equal(fclose(f), 0);
	await_why(&c, "sim.back cannot be read");
	rejoin_as(&c, 5, false);
	back_command(&c, "end-back", "v1", "0000000000000099:42", "Failed");
	assert_int_equal(unlink(path), 0);
	await_connected(&c);
	/* What the old disks have can be made the group's, if somebody insists. */
	for (i = 0; i < 2; i++)
		simring_put(b.sim, REPAGENT_REC_RESYNC_END, b.disk[i].id, 0, 0, NULL);
	bench_drained(&b);
	snprintf(command, sizeof(command), "%sctl --dir %s failover sim --at latest > /dev/null", program, dir);
	assert_int_equal(system(command), 0);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_FENCED, 20));
	rejoin_as(&c, 6, false);
	rejoin_so(&c, 6, true, true);
	client_close(&c);
	bench_stop(&b);
	finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_packing),
		cmocka_unit_test(test_answers_overtake),
		cmocka_unit_test(test_unanswered_frame),
		cmocka_unit_test(test_flush_covers_what_was_before),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_lost_answer),
		cmocka_unit_test(test_hub_set_back),
		cmocka_unit_test(test_hub_emptied),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_back),
		cmocka_unit_test(test_map_of_latecomer),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_frame_refused),
		cmocka_unit_test(test_hostile_blocks),
		cmocka_unit_test(test_no_rephub),
		cmocka_unit_test(test_stall),
		cmocka_unit_test(test_busy_holds),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_volumes),
		cmocka_unit_test(test_checkpoints),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_compress),
		cmocka_unit_test(test_another_hub),
		cmocka_unit_test(test_rephub),
		cmocka_unit_test(test_fenced),
	};
	int r;

	if (!bench_open("logtap"))
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	return bench_close() ? r : 1;
}
