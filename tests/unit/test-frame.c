// SPDX-License-Identifier: GPL-2.0-or-later
/* Frames and session blocks: what is made is read back, and what is altered is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/frame.h"

static uint8_t frame[FRAME_MAX], raw[FRAME_MAX], scratch[FRAME_MAX], data[REPAGENT_MAX_RECORD];
static char error[FRAME_ERROR_MAX];

static const struct frame_header begin = {
	.group = "0123456789abcde", .generation = 3, .incarnation = 0xfeedface, .first = 1000,
};

static size_t make(int level)
{
	const struct frame_volume v[2] = {
		{ .id = 1, .sectors = 2048, .name = "disk0" }, { .id = 7, .sectors = 9, .name = "disk1" },
	};
	struct frame_record r = { .type = REPAGENT_REC_WRITE, .flags = REPAGENT_REC_FUA, .volume = 1,
				  .seq = 1001, .sector = 16, .nr_sectors = 3, .time = 77, .len = 1536 };
	struct frame_builder b;
	size_t size;

	memset(frame, 0xee, sizeof(frame));
	frame_begin(&b, frame, &begin);
	assert_true(frame_add_volume(&b, &v[0]));
	assert_true(frame_add_volume(&b, &v[1]));
	assert_true(frame_add_record(&b, &r, data));
	r = (struct frame_record){ .type = REPAGENT_REC_CHECKPOINT, .seq = 1002, .time = 78, .len = 7 };
	assert_true(frame_add_record(&b, &r, "a label" + 1));
	r = (struct frame_record){ .type = REPAGENT_REC_GAP, .seq = 1004, .aux = -5 };
	assert_true(frame_add_record(&b, &r, NULL));
	assert_false(frame_add_volume(&b, &v[0]));
	frame_add_void(&b, 1005);
	size = frame_end(&b, level, scratch);
	frame_place(frame, 8192, 999);
	return size;
}

/* Take a whole frame apart. Return 0, or -1 if anything is wrong. */
static int take(const uint8_t *p, size_t size, struct frame_header *h)
{
	struct frame_record rec;
	struct frame_reader r;
	struct frame_volume v;
	const void *payload;
	int n;

	*error = '\0';
	if (size < FRAME_HEADER || !frame_header_parse(h, p, error) || frame_size(h) != size ||
	    !frame_open(&r, h, p + FRAME_HEADER, raw, error))
		return -1;
	while ((n = frame_next_volume(&r, &v)) > 0)
		;
	while (!n && (n = frame_next_record(&r, &rec, &payload)) > 0)
		n = 0;
	return n;
}

static void check_round_trip(int level)
{
	size_t size = make(level);
	struct frame_header h;
	struct frame_record rec;
	struct frame_reader r;
	struct frame_volume v;
	const void *payload;

	assert_int_equal(size % FRAME_ALIGN, 0);
	assert_true(frame_header_parse(&h, frame, error));
	assert_int_equal(frame_size(&h), size);
	assert_int_equal(h.flags, level ? FRAME_ZSTD : 0);
	assert_memory_equal(h.group, begin.group, 16);
	assert_int_equal(h.generation, 3);
	assert_int_equal(h.incarnation, 0xfeedface);
	assert_int_equal(h.first, 1000);
	assert_int_equal(h.last, 1005);
	assert_int_equal(h.acked, 999);
	assert_int_equal(h.offset, 8192);
	assert_true(frame_open(&r, &h, frame + FRAME_HEADER, raw, error));
	assert_int_equal(frame_next_volume(&r, &v), 1);
	assert_int_equal(v.id, 1);
	assert_int_equal(v.sectors, 2048);
	assert_string_equal(v.name, "disk0");
	assert_int_equal(frame_next_volume(&r, &v), 1);
	assert_int_equal(v.id, 7);
	assert_string_equal(v.name, "disk1");
	assert_int_equal(frame_next_volume(&r, &v), 0);
	assert_int_equal(frame_next_record(&r, &rec, &payload), 1);
	assert_int_equal(rec.type, REPAGENT_REC_WRITE);
	assert_int_equal(rec.flags, REPAGENT_REC_FUA);
	assert_int_equal(rec.volume, 1);
	assert_int_equal(rec.seq, 1001);
	assert_int_equal(rec.sector, 16);
	assert_int_equal(rec.nr_sectors, 3);
	assert_int_equal(rec.time, 77);
	assert_int_equal(rec.len, 1536);
	assert_memory_equal(payload, data, 1536);
	assert_int_equal(frame_next_record(&r, &rec, &payload), 1);
	assert_int_equal(rec.seq, 1002);
	assert_string_equal(payload, " label");
	assert_int_equal(frame_next_record(&r, &rec, &payload), 1);
	assert_int_equal(rec.aux, -5);
	assert_int_equal(frame_next_record(&r, &rec, &payload), 0);
}

static void test_round_trip(void **state)
{
	(void)state;
	check_round_trip(0);
	check_round_trip(1);
}

static void test_largest(void **state)
{
	struct frame_record r = { .type = REPAGENT_REC_RESYNC, .volume = 64, .seq = 1, .sector = 0,
				  .nr_sectors = 2048, .len = REPAGENT_MAX_RECORD };
	struct frame_volume v = { .name = "0123456789012345678901234567890" };
	struct frame_header h = begin;
	struct frame_builder b;
	size_t size;

	(void)state;
	h.first = 1;
	frame_begin(&b, frame, &h);
	for (v.id = 1; v.id <= REPAGENT_MAX_VOLUMES; v.id++)
		assert_true(frame_add_volume(&b, &v));
	assert_false(frame_add_volume(&b, &v));
	assert_true(frame_add_record(&b, &r, data));
	r.seq++;
	assert_false(frame_add_record(&b, &r, data));
	size = frame_end(&b, 0, NULL);
	assert_true(size <= FRAME_MAX);
	frame_place(frame, SESSION_SIZE, 0);
	assert_int_equal(take(frame, size, &h), 0);

	/* As full as it gets: whatever fits before the padding, fits with it. */
	h.first = 1;
	frame_begin(&b, frame, &h);
	r = (struct frame_record){ .type = REPAGENT_REC_FLUSH, .volume = 1, .seq = 1 };
	while (frame_add_record(&b, &r, NULL))
		r.seq++;
	assert_int_equal(frame_end(&b, 0, NULL), FRAME_MAX);
	frame_place(frame, SESSION_SIZE, 0);
	assert_int_equal(take(frame, FRAME_MAX, &h), 0);
}

static void test_voids_alone(void **state)
{
	struct frame_header h = begin;
	struct frame_builder b;
	size_t size;

	(void)state;
	frame_begin(&b, frame, &h);
	frame_add_void(&b, 1000);
	frame_add_void(&b, 1001);
	size = frame_end(&b, 1, scratch);
	frame_place(frame, SESSION_SIZE, 0);
	assert_int_equal(size, FRAME_ALIGN);
	assert_int_equal(take(frame, size, &h), 0);
	assert_int_equal(h.last, 1001);
}

static void test_hello(void **state)
{
	struct frame_header h;

	(void)state;
	assert_int_equal(frame_hello(frame, NULL, 0, 5), FRAME_ALIGN);
	assert_true(frame_header_parse(&h, frame, error));
	assert_int_equal(h.flags, FRAME_HELLO);
	assert_int_equal(h.incarnation, 5);
	assert_int_equal(frame_size(&h), FRAME_ALIGN);
	frame_hello(frame, begin.group, 9, 0);
	assert_false(frame_header_parse(&h, frame, error));
	assert_non_null(strstr(error, "incarnation 0"));
}

/* Every bit of a frame counts. */
static void test_every_flipped_bit(void **state)
{
	struct frame_header h;
	size_t size, i;
	int level;

	(void)state;
	for (level = 0; level <= 1; level++) {
		size = make(level);
		assert_int_equal(take(frame, size, &h), 0);
		for (i = 0; i < size * 8; i++) {
			frame[i / 8] ^= (uint8_t)(1 << i % 8);
			if (!take(frame, size, &h))
				fail_msg("bit %zu may be flipped", i);
			assert_true(*error);
			frame[i / 8] ^= (uint8_t)(1 << i % 8);
		}
	}
}

static void set32(size_t at, uint32_t v)
{
	memcpy(frame + at, &v, sizeof(v));
}

static void set64(size_t at, uint64_t v)
{
	memcpy(frame + at, &v, sizeof(v));
}

/* The sums are right; what they cover is not. */
static void test_senseless_fields(void **state)
{
	static const struct {
		int bytes;
		size_t at;
		uint64_t value;
		const char *word;
	} bad[] = {
		{ 8, 0, 5, "magic" }, { 4, 8, 2, "version 2" }, { 4, 12, 4, "flags" }, { 4, 12, 3, "flags" },
		{ 4, 12, 2, "hello" }, { 8, 40, 0, "incarnation" }, { 8, 48, 0, "first 0" },
		{ 8, 56, 999, "last 999" }, { 8, 56, UINT64_MAX, "last" }, { 8, 64, 1000, "acked" },
		{ 8, 72, 4095, "offset" }, { 8, 72, 0, "offset" }, { 8, 72, 4096 + 256, "offset" },
		{ 4, 80, FRAME_BODY_MAX + 1, "stored" }, { 4, 80, UINT32_MAX, "stored" }, { 4, 80, 1, "stored" },
		{ 4, 84, UINT32_MAX, "raw" }, { 4, 84, 0, "raw" }, { 4, 88, 65, "nr_volumes" },
		{ 4, 88, 64, "nr_volumes" }, { 4, 92, UINT32_MAX, "nr_records" }, { 4, 92, 0, "nr_records" },
		{ 4, 92, 7, "nr_records" }, { 4, 92, 2, "behind the last" }, { 4, 92, 4, "ends before" },
		{ 4, 100, 1, "reserved" },
		/* the first volume */
		{ 2, 128, 0, "volume 1" }, { 4, 130, 1, "volume 1" }, { 8, 136, UINT64_MAX, "sectors" },
		{ 8, 144, 0, "name" }, { 8, 144, 0x2f2e2e, "name" }, { 8, 168, 1, "zeroes behind" },
		/* the first record */
		{ 1, 224, 0, "type 0" }, { 1, 224, REPAGENT_NR_TYPES, "type" }, { 1, 225, 2, "flags" },
		{ 1, 224, REPAGENT_REC_GAP, "flags" }, { 2, 226, 0, "volume 0" },
		{ 1, 224, REPAGENT_REC_ZEROES, "payload" }, { 8, 232, UINT64_MAX, "sectors" },
		{ 8, 240, 0, "at least one" }, { 8, 240, UINT64_MAX, "sectors" }, { 8, 240, 4, "payload" },
		{ 4, 256, UINT32_MAX, "payload" }, { 4, 256, 512, "payload" }, { 4, 260, 1, "crc" },
		{ 4, 264, 6, "seq" }, { 4, 264, 2, "seq" }, { 4, 268, 1, "reserved" },
		/* the second, its payload, the third */
		{ 4, 1808 + 32, 0, "1 to 64" }, { 1, 1808 + 54, 'x', "crc" }, { 1, 1808 + 55, 1, "padding" },
		{ 2, 1864 + 2, 1, "expected 0" },
	};
	struct frame_header h;
	unsigned int i;
	uint32_t crc;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t size = make(0);

		if (bad[i].bytes == 8)
			set64(bad[i].at, bad[i].value);
		else if (bad[i].bytes == 4)
			set32(bad[i].at, (uint32_t)bad[i].value);
		else
			memcpy(frame + bad[i].at, &bad[i].value, (size_t)bad[i].bytes);
		memcpy(&h.stored, frame + 80, 4);
		if (h.stored <= size - FRAME_HEADER)
			set32(96, frame_crc(frame + FRAME_HEADER, h.stored));
		crc = frame_crc(frame, 124);
		set32(124, crc);
		if (!take(frame, size, &h))
			fail_msg("%u: %d bytes at %zu were accepted", i, bad[i].bytes, bad[i].at);
		if (!strstr(error, bad[i].word))
			fail_msg("%u: \"%s\" lacks \"%s\"", i, error, bad[i].word);
	}
}

static void test_bad_compression(void **state)
{
	struct frame_header h;
	uint32_t stored;
	size_t size;

	(void)state;
	/* It unpacks to more, or less, than the header says. */
	for (int off = -1; off <= 1; off += 2) {
		size = make(1);
		assert_true(frame_header_parse(&h, frame, error));
		set32(84, h.raw + (uint32_t)off);
		set32(124, frame_crc(frame, 124));
		assert_int_equal(take(frame, size, &h), -1);
		assert_true(strstr(error, "raw") || strstr(error, "unpacked"));
	}
	size = make(1);
	memcpy(&stored, frame + 80, 4);
	memset(frame + FRAME_HEADER, 0x5a, stored);
	set32(96, frame_crc(frame + FRAME_HEADER, stored));
	set32(124, frame_crc(frame, 124));
	assert_int_equal(take(frame, size, &h), -1);
	assert_non_null(strstr(error, "unpacked"));
}

static void test_session(void **state)
{
	struct session s = {
		.state = SESSION_ACCEPTING, .hub = "hub", .group = "group", .generation = 4, .offset = 12288,
		.incarnation = 5, .seq = 6, .time = 7, .frame_max = FRAME_MAX, .zstd = true, .name = "vm0",
	}, got;
	uint8_t block[SESSION_SIZE];
	size_t i;

	(void)state;
	session_encode(&s, block);
	assert_true(session_decode(&got, block, error));
	assert_int_equal(got.state, SESSION_ACCEPTING);
	assert_memory_equal(got.hub, s.hub, 16);
	assert_memory_equal(got.group, s.group, 16);
	assert_int_equal(got.generation, 4);
	assert_int_equal(got.offset, 12288);
	assert_int_equal(got.incarnation, 5);
	assert_int_equal(got.seq, 6);
	assert_int_equal(got.time, 7);
	assert_true(got.zstd);
	assert_false(got.owes);
	s.zstd = false;
	s.owes = true;
	session_encode(&s, block);
	assert_true(session_decode(&got, block, error));
	assert_false(got.zstd);
	assert_true(got.owes);
	assert_string_equal(got.name, "vm0");
	for (i = 0; i < sizeof(block) * 8; i++) {
		block[i / 8] ^= (uint8_t)(1 << i % 8);
		if (session_decode(&got, block, error))
			fail_msg("bit %zu may be flipped", i);
		block[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	s.offset = 100;
	session_encode(&s, block);
	assert_false(session_decode(&got, block, error));
	s = (struct session){ .state = SESSION_FENCED, .reason = "it was failed over" };
	session_encode(&s, block);
	assert_true(session_decode(&got, block, error));
	assert_string_equal(got.reason, "it was failed over");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_voids_alone),
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_every_flipped_bit),
		cmocka_unit_test(test_senseless_fields),
		cmocka_unit_test(test_bad_compression),
		cmocka_unit_test(test_session),
	};
	size_t i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i / 5);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
