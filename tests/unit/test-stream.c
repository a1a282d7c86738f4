// SPDX-License-Identifier: GPL-2.0-or-later
/* The consumer's side of a ring: order, and distrust. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/repagentd/stream.h"
#include "simring.h"

#define SIZE	(1024 * 1024)

static unsigned char data[REPAGENT_MAX_RECORD];

/* ---- order --------------------------------------------------------------- */

#define PRODUCERS	4
#define RECORDS		5000

static struct simring *sim;
static uint16_t volume;

/* Between reserving and committing the others have their turn. */
static void *producer(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg, i;
	unsigned char *payload;
	uint64_t seq;

	for (i = 0; i < RECORDS; i++) {
		struct repagent_slot slot = {
			.type = REPAGENT_REC_WRITE, .volume = volume,
			.nr_sectors = 1 + (uint64_t)rand_r(&seed) % 8,
		};

		slot.len = (uint32_t)slot.nr_sectors * 512;
		seq = simring_reserve(sim, &slot, &payload);
		memset(payload, (int)(seq & 0xff), slot.len);
		if (rand_r(&seed) % 4 == 0)
			sched_yield();
		simring_commit(sim, seq, rand_r(&seed) % 10 ? REPAGENT_SLOT_READY :
							      REPAGENT_SLOT_VOID);
	}
	return NULL;
}

static void test_order(void **state)
{
	pthread_t thread[PRODUCERS];
	struct stream s;
	struct record rec;
	uint64_t seq;
	uint32_t k;
	uintptr_t i;
	int r;

	(void)state;
	sim = simring_new(256, 128 * 1024);
	volume = simring_add_volume(sim, "v", SIZE);
	assert_int_equal(stream_open(&s, &sim->ring), 0);
	for (i = 0; i < PRODUCERS; i++)
		pthread_create(&thread[i], NULL, producer, (void *)(i + 1));

	for (seq = 1; seq <= PRODUCERS * RECORDS; seq++) {
		do {
			r = stream_peek(&s, &rec);
		} while (!r);
		assert_int_equal(r, 1);
		assert_int_equal(rec.seq, seq);
		assert_true(rec.type == 0 || rec.type == REPAGENT_REC_WRITE);
		if (rec.type)
			for (k = 0; k < rec.payload_len; k++)
				assert_int_equal(((const unsigned char *)rec.payload)[k], seq & 0xff);
		stream_advance(&s);
		if (seq % 16 == 0)
			assert_int_equal(stream_ack(&s, seq), 0);
	}
	for (i = 0; i < PRODUCERS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(stream_peek(&s, &rec), 0);
	simring_free(sim);
}

static void test_rewind(void **state)
{
	struct stream s;
	struct record rec;
	int i;

	(void)state;
	sim = simring_new(16, 64 * 1024);
	volume = simring_add_volume(sim, "v", SIZE);
	assert_int_equal(stream_open(&s, &sim->ring), 0);
	for (i = 0; i < 10; i++) {
		simring_put(sim, REPAGENT_REC_WRITE, volume, 0, 512, data);
		assert_int_equal(stream_peek(&s, &rec), 1);
		stream_advance(&s);
	}
	assert_int_equal(stream_ack(&s, 4), 0);
	assert_int_equal(stream_ack(&s, 3), -EINVAL);
	assert_int_equal(stream_rewind(&s), 0);
	assert_int_equal(stream_peek(&s, &rec), 1);
	assert_int_equal(rec.seq, 5);
	s.end = 4;
	assert_int_equal(stream_peek(&s, &rec), 0);
	simring_free(sim);
}

static void test_account(void **state)
{
	struct stream s;

	(void)state;
	sim = simring_new(16, 64 * 1024);
	volume = simring_add_volume(sim, "v", SIZE);
	simring_put(sim, REPAGENT_REC_WRITE, volume, 0, 4096, data);
	simring_put(sim, REPAGENT_REC_FLUSH, volume, 0, 0, NULL);
	simring_put(sim, REPAGENT_REC_WRITE, volume, 0, 512, data);
	assert_int_equal(stream_open(&s, &sim->ring), 0);
	assert_int_equal(s.produced, 4608);
	assert_int_equal(s.settled, 0);
	assert_int_equal(stream_ack(&s, 2), 0);
	assert_int_equal(stream_refresh(&s), 0);
	assert_int_equal(s.settled, 4096);
	assert_true(stream_oldest_time(&s) != 0);
	assert_int_equal(stream_ack(&s, 3), 0);
	assert_int_equal(s.settled, 4608);
	assert_int_equal(stream_oldest_time(&s), 0);
	simring_free(sim);
}

/* ---- distrust ------------------------------------------------------------ */

/* Put one record, spoil it, and expect that it is noticed. */
static int peek_spoilt(void (*spoil)(struct repagent_slot *slot), unsigned int type)
{
	struct stream s;
	struct record rec;
	int r;

	sim = simring_new(16, 64 * 1024);
	volume = simring_add_volume(sim, "v", SIZE);
	simring_put(sim, type, volume, 4096, 1024, data);
	assert_int_equal(stream_open(&s, &sim->ring), 0);
	spoil(&sim->slots[1]);
	r = stream_peek(&s, &rec);
	simring_free(sim);
	return r;
}

#define SPOIL(name, statement) \
	static void name(struct repagent_slot *slot) { statement; }

SPOIL(nothing, (void)slot)
SPOIL(type_zero, slot->type = 0)
SPOIL(type_high, slot->type = REPAGENT_NR_TYPES)
SPOIL(type_max, slot->type = 255)
SPOIL(volume_zero, slot->volume = 0)
SPOIL(volume_unknown, slot->volume = 999)
SPOIL(sector_beyond, slot->sector = SIZE / 512 - 1)
SPOIL(sector_wraps, slot->sector = UINT64_MAX)
SPOIL(sector_huge, slot->sector = UINT64_MAX >> 9)
SPOIL(sectors_none, slot->nr_sectors = 0)
SPOIL(sectors_huge, slot->nr_sectors = UINT64_MAX)
SPOIL(sectors_more, slot->nr_sectors = 3)
SPOIL(len_zero, slot->len = 0)
SPOIL(len_less, slot->len = 1023)
SPOIL(len_huge, slot->len = UINT32_MAX)
SPOIL(pos_end, slot->pos = 64 * 1024)
SPOIL(pos_huge, slot->pos = UINT64_MAX)
SPOIL(state_zero, slot->commit = 1 << 8)
SPOIL(state_high, slot->commit = 1 << 8 | 4)
SPOIL(seq_later, slot->commit = 17 << 8 | REPAGENT_SLOT_READY)
SPOIL(seq_max, slot->commit = UINT64_MAX)

SPOIL(busy, slot->commit = 1 << 8 | REPAGENT_SLOT_BUSY)
SPOIL(seq_none, slot->commit = 0)

static void test_bad_slots(void **state)
{
	static void (*const bad[])(struct repagent_slot *) = {
		type_zero, type_high, type_max, volume_zero, volume_unknown, sector_beyond,
		sector_wraps, sector_huge, sectors_none, sectors_huge, sectors_more,
		len_zero, len_less, len_huge, pos_end, pos_huge, state_zero, state_high,
		seq_later, seq_max,
	};
	unsigned int i;

	(void)state;
	assert_int_equal(peek_spoilt(nothing, REPAGENT_REC_WRITE), 1);
	assert_int_equal(peek_spoilt(busy, REPAGENT_REC_WRITE), 0);
	assert_int_equal(peek_spoilt(seq_none, REPAGENT_REC_WRITE), 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (peek_spoilt(bad[i], REPAGENT_REC_WRITE) != -EBADMSG)
			fail_msg("case %u was not noticed", i);
}

/* Whatever a slot holds, nothing crashes, and what is accepted is in bounds. */
static void test_random_slots(void **state)
{
	unsigned int i, k, accepted = 0;
	struct stream s;
	struct record rec;

	(void)state;
	sim = simring_new(16, 64 * 1024);
	volume = simring_add_volume(sim, "v", SIZE);
	simring_put(sim, REPAGENT_REC_WRITE, volume, 4096, 1024, data);
	assert_int_equal(stream_open(&s, &sim->ring), 0);
	for (i = 0; i < 30000; i++) {
		struct repagent_slot *slot = &sim->slots[1];
		unsigned char *p = (unsigned char *)slot;

		for (k = 8; k < sizeof(*slot); k++)
			p[k] = (unsigned char)(random() % 3 ? 0 : random());
		slot->type %= REPAGENT_NR_TYPES + 1;
		if (random() % 8)
			slot->volume = volume;
		if (random() % 4)
			slot->sector %= SIZE / 512;
		if (random() % 4)
			slot->nr_sectors %= 300;
		if (random() % 4)
			slot->len = (uint32_t)slot->nr_sectors * 512;
		if (random() % 2)
			slot->pos %= 64 * 1024;
		if (stream_peek(&s, &rec) != 1)
			continue;
		accepted++;
		/* A VOLUME_RESIZE may have told another size. */
		assert_true(rec.offset <= s.volume[0].limit &&
			    rec.length <= s.volume[0].limit - rec.offset);
		if (rec.payload_len) {
			const unsigned char *from = rec.payload;

			assert_true(from >= s.payload &&
				    from + rec.payload_len <= s.payload + 128 * 1024);
		}
	}
	assert_in_range(accepted, 100, 30000);
	simring_free(sim);
}

static int open_spoilt(void (*spoil)(struct repagent_ring_header *header))
{
	struct stream s;
	int r;

	sim = simring_new(16, 64 * 1024);
	spoil(sim->header);
	r = stream_open(&s, &sim->ring);
	sim->header->nr_slots = 16;
	simring_free(sim);
	return r;
}

#define SPOIL_HEADER(name, statement) \
	static void name(struct repagent_ring_header *header) { statement; }

SPOIL_HEADER(h_nothing, (void)header)
SPOIL_HEADER(h_magic, header->magic++)
SPOIL_HEADER(h_version, header->version++)
SPOIL_HEADER(h_size, header->header_size = 8)
SPOIL_HEADER(h_slots_odd, header->nr_slots = 17)
SPOIL_HEADER(h_slots_none, header->nr_slots = 0)
SPOIL_HEADER(h_slots_many, header->nr_slots = 1U << 31)
SPOIL_HEADER(h_slot_size, header->slot_size = 128)
SPOIL_HEADER(h_payload_none, header->payload_size = 0)
SPOIL_HEADER(h_payload_huge, header->payload_size = UINT64_MAX / 2 + 1)
SPOIL_HEADER(h_offset, header->payload_offset = UINT64_MAX - 4095)
SPOIL_HEADER(h_offset_low, header->payload_offset = 0)
SPOIL_HEADER(h_slots_offset, header->slots_offset = UINT64_MAX - 63)
SPOIL_HEADER(h_map, header->map_size++)

static void test_bad_headers(void **state)
{
	static void (*const bad[])(struct repagent_ring_header *) = {
		h_magic, h_version, h_size, h_slots_odd, h_slots_none, h_slots_many,
		h_slot_size, h_payload_none, h_payload_huge, h_offset, h_offset_low,
		h_slots_offset, h_map,
	};
	unsigned int i;

	(void)state;
	assert_int_equal(open_spoilt(h_nothing), 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (open_spoilt(bad[i]) != -EPROTO)
			fail_msg("case %u was not noticed", i);
}

static void test_grown_volume(void **state)
{
	struct stream s;
	struct record rec;

	(void)state;
	sim = simring_new(16, 64 * 1024);
	volume = simring_add_volume(sim, "v", SIZE);
	assert_int_equal(stream_open(&s, &sim->ring), 0);
	simring_resize_volume(sim, volume, 2 * SIZE);
	simring_put(sim, REPAGENT_REC_WRITE, volume, 2 * SIZE - 512, 512, data);
	assert_int_equal(stream_peek(&s, &rec), 1);
	/* It shrinks: what was written before still counts. */
	simring_resize_volume(sim, volume, SIZE);
	assert_int_equal(stream_refresh(&s), 0);
	assert_int_equal(stream_peek(&s, &rec), 1);
	simring_free(sim);
}

static int saved_stderr;

/* Thousands of complaints are what some tests are for: nobody need read them. */
static int quiet(void **state)
{
	int null = open("/dev/null", O_WRONLY);

	(void)state;
	saved_stderr = dup(STDERR_FILENO);
	dup2(null, STDERR_FILENO);
	close(null);
	return 0;
}

static int loud(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_account),
		cmocka_unit_test_setup_teardown(test_bad_slots, quiet, loud),
		cmocka_unit_test_setup_teardown(test_random_slots, quiet, loud),
		cmocka_unit_test_setup_teardown(test_bad_headers, quiet, loud),
		cmocka_unit_test(test_grown_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
