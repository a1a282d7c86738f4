// SPDX-License-Identifier: GPL-2.0-or-later
/* Who may write what to a group's log: sessions, their order, and clients that mean harm. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hubfixture.h"

#define SEGMENT	(4u << 20)

static int setup(void **state)
{
	(void)state;
	fixture_begin(3, SEGMENT, 0xa, 0xb);
	return 0;
}

/* One write of one sector. */
static int write_one(struct simagent *x)
{
	sim_begin(x, true);
	assert_true(sim_add(x, REPAGENT_REC_WRITE, 0, 0, 1));
	return sim_send(x);
}

static void test_order_of_requests(void **state)
{
	uint8_t block[SESSION_SIZE] = { 0 };
	struct hub_session *s = hub_session_new(hub, "vm0", "x");

	(void)state;
	assert_int_equal(hub_session_read(s, 0, block, sizeof(block), why), EINVAL);
	assert_non_null(strstr(why, "hello"));
	assert_int_equal(hub_session_write(s, SESSION_SIZE, block, 512, why), EINVAL);
	assert_int_equal(hub_session_flush(s, why), EINVAL);
	assert_int_equal(hub_session_write(s, 0, block, FRAME_ALIGN, why), EINVAL);
	assert_non_null(strstr(why, "magic"));
	frame_hello(block, NULL, 0, 5);
	assert_int_equal(hub_session_write(s, 512, block, FRAME_ALIGN, why), EINVAL);
	assert_int_equal(hub_session_write(s, 0, block, SESSION_SIZE, why), EINVAL);
	assert_int_equal(hub_session_write(s, 0, block, FRAME_ALIGN, why), 0);
	assert_int_equal(hub_session_write(s, SESSION_SIZE, block, 512, why), EINVAL);
	assert_int_equal(hub_session_flush(s, why), EINVAL);
	assert_int_equal(hub_session_read(s, 4096, block, sizeof(block), why), EINVAL);
	assert_int_equal(hub_session_read(s, 0, block, 512, why), EINVAL);
	assert_int_equal(hub_session_read(s, 0, block, sizeof(block), why), 0);
	assert_int_equal(hub_session_flush(s, why), 0);
	hub_session_free(s);
	/* A group of that uuid does not exist. */
	s = hub_session_new(hub, "vm1", "x");
	frame_hello(block, (const uint8_t *)"0123456789abcdef", 1, 5);
	assert_int_equal(hub_session_write(s, 0, block, FRAME_ALIGN, why), EPERM);
	assert_null(hub_find(hub, "vm1"));
	hub_session_free(s);
}

/* Whatever is refused changes nothing, and the session goes on after its block was read again. */
static void test_refused_frames(void **state)
{
	uint64_t end, seq;
	unsigned int i;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 12; i++) {
		uint64_t next = a.next, offset = a.offset, generation = a.block.generation, inc = a.incarnation;
		static const int want[12] = { EINVAL, EINVAL, EINVAL, EINVAL, EPERM, EPERM, EPERM, EINVAL,
					      EINVAL, EINVAL, EINVAL, EINVAL };
		uint8_t group[16];
		size_t size;
		int err;

		memcpy(group, a.block.group, sizeof(group));
		end = hubgroup_last(hub_find(hub, "vm0"))->end;
		seq = hub_find(hub, "vm0")->now.seq;
		switch (i) {
		case 0: a.next--; break;			/* again */
		case 1: a.next++; break;			/* one is left out */
		case 2: a.offset += FRAME_ALIGN; break;
		case 3: a.offset -= FRAME_ALIGN; break;
		case 4: a.block.group[3] ^= 1; break;
		case 5: a.block.generation++; break;
		case 6: a.incarnation++; break;			/* not that of the hello */
		default: break;
		}
		sim_begin(&a, i != 8);
		if (i == 7) {	/* of a volume that has no name */
			struct frame_record r = { .type = REPAGENT_REC_FLUSH, .volume = 77, .seq = a.next };

			assert_true(frame_add_record(&a.b, &r, NULL));
		} else if (i == 8) {	/* a name that has another id's */
			struct frame_volume v = { .id = 1, .name = "disk1" };

			assert_true(frame_add_volume(&a.b, &v));
			frame_add_void(&a.b, a.next);
		} else {
			assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
			a.nr_ops--;
		}
		if (i < 9) {
			err = sim_send(&a);
		} else {
			size = frame_end(&a.b, 0, NULL);
			frame_place(a.frame, i == 9 ? a.offset + FRAME_ALIGN : a.offset, 0);
			if (i == 10)
				a.frame[300] ^= 1;
			if (i == 11)	/* behind its end */
				a.frame[size - 1] ^= 1;
			err = hub_session_write(a.session, a.offset, a.frame, size, a.reason);
		}
		if (err != want[i])
			fail_msg("%u: error %d: %s", i, err, a.reason);
		assert_int_equal(hubgroup_last(hub_find(hub, "vm0"))->end, end);
		assert_int_equal(hub_find(hub, "vm0")->now.seq, seq);
		a.next = next;
		a.offset = offset;
		a.block.generation = generation;
		a.incarnation = inc;
		memcpy(a.block.group, group, sizeof(group));
		/* What is good is refused too, for that reason, and so is a flush. */
		snprintf(why, sizeof(why), "%s", a.reason);
		assert_int_equal(write_one(&a), want[i]);
		assert_string_equal(a.reason, why);
		a.nr_ops--;
		a.next = next;
		assert_int_equal(sim_flush(&a), want[i]);
		assert_int_equal(sim_connect(&a), 0);
		assert_int_equal(a.block.state, SESSION_ACCEPTING);
		assert_int_equal(a.block.offset, end);
		assert_int_equal(write_one(&a), 0);
		assert_int_equal(sim_flush(&a), 0);
	}
	sim_compare(&a, a.acked);
}

/* A frame in pieces of any size, and two in one piece, are the log as well. */
static void test_pieces(void **state)
{
	static uint8_t two[2 * FRAME_MAX];
	size_t size, at, n;
	uint64_t offset;

	(void)state;
	sim_start(&a);
	for (int i = 0; i < 30; i++) {
		sim_begin(&a, false);
		while (sim_add(&a, REPAGENT_REC_WRITE, 1, (uint64_t)random() % 1500, 1 + (uint64_t)random() % 100) &&
		       a.b.len < 200000)
			;
		offset = a.offset;
		size = frame_end(&a.b, 0, NULL);
		frame_place(a.frame, offset, 0);
		memcpy(two, a.frame, size);
		a.offset += size;
		sim_begin(&a, false);
		assert_true(sim_add(&a, REPAGENT_REC_WRITE, 2, 7, 1));
		n = frame_end(&a.b, 0, NULL);
		frame_place(a.frame, a.offset, 0);
		memcpy(two + size, a.frame, n);
		a.offset += n;
		size += n;
		for (at = 0; at < size; at += n) {
			n = FRAME_ALIGN * (1 + (size_t)random() % 400);
			if (n > size - at)
				n = size - at;
			assert_int_equal(hub_session_write(a.session, offset + at, two + at, n, why), 0);
		}
		a.sent = a.next - 1;
	}
	assert_int_equal(sim_flush(&a), 0);
	sim_compare(&a, a.acked);
}

/* Half a frame, and then something else: nothing of it counts. */
static void test_half_a_frame(void **state)
{
	size_t size;

	(void)state;
	sim_start(&a);
	sim_begin(&a, false);
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 1, 0, 64));
	size = frame_end(&a.b, 0, NULL);
	frame_place(a.frame, a.offset, 0);
	assert_int_equal(hub_session_write(a.session, a.offset, a.frame, size / 2 & ~511u, why), 0);
	assert_int_equal(sim_flush(&a), 0);
	assert_int_equal(hub_session_write(a.session, a.offset, a.frame, size, why), EINVAL);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(hub_session_write(a.session, a.offset, a.frame, size, why), 0);
	a.sent = a.next - 1;
	a.offset += size;
	assert_int_equal(sim_flush(&a), 0);
	sim_compare(&a, a.acked);
}

/* Another session closes the first, which learns it whatever it does. */
static void test_takeover(void **state)
{
	(void)state;
	sim_start(&a);
	sim_init(&b, hub, a.incarnation);
	assert_int_equal(sim_connect(&b), 0);
	assert_int_equal(b.block.seq, a.acked);
	assert_int_equal(write_one(&a), ESHUTDOWN);
	assert_int_equal(sim_flush(&a), ESHUTDOWN);
	assert_int_equal(sim_connect(&a), ESHUTDOWN);
	assert_true(hub_session_over(a.session, why));
	assert_false(hub_session_over(b.session, why));
	b.next = b.block.seq + 1;
	assert_int_equal(write_one(&b), 0);
	/* A hello alone disturbs nobody. */
	sim_disconnect(&a);
	a.session = hub_session_new(hub, "vm0", "x");
	frame_hello(a.frame, NULL, 0, 1);
	assert_int_equal(hub_session_write(a.session, 0, a.frame, FRAME_ALIGN, why), 0);
	assert_int_equal(write_one(&b), 0);
	assert_int_equal(sim_flush(&b), 0);
}

/* Two hosts believe that the group is theirs: the one whose incarnation is over is told so, and disturbs nobody. */
static void test_stale_agent(void **state)
{
	(void)state;
	sim_start(&a);
	sim_disconnect(&a);
	sim_start(&b);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_STALE);
	assert_non_null(strstr(a.block.reason, "is over"));
	assert_int_equal(write_one(&a), EINVAL);
	assert_int_equal(write_one(&b), 0);
	/* It lies about itself in the hello, and not in the frame; and the other way round. */
	a.incarnation = 0xc;
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_ACCEPTING);
	a.incarnation = 0xa;
	assert_int_equal(write_one(&a), EPERM);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_STALE);
	/* Another group's uuid, another generation. */
	sim_disconnect(&a);
	a.incarnation = 0xd;
	a.block.group[0] ^= 1;
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FOREIGN);
	a.block.generation = 9;
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_FENCED);
}

static void map_record(unsigned int type)
{
	sim_begin(&a, false);
	assert_true(sim_add(&a, type, 1, 0, 0));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
}

static void count_map(void *data, const struct hub_point_info *p)
{
	unsigned int *nr = data;

	nr[0] += !strcmp(p->what, "map-error") && !strcmp(p->text, "disk1") && !strcmp(p->why, strerror(EIO));
	nr[1] += !strcmp(p->what, "map-ok") && !strcmp(p->text, "disk1");
}

static void count_volume(void *data, const struct hub_volume_info *v)
{
	unsigned int *nr = data;

	*nr += v->map_error;
	if (v->map_error)
		assert_string_equal(v->name, "disk1");
}

/* How many volumes there are whose map cannot be written. */
static unsigned int failed_maps(void)
{
	unsigned int nr = 0;

	assert_true(hub_volumes(hub, "vm0", count_volume, &nr));
	return nr;
}

/* A map that could not be written is remembered, over the hub's own end, until it can or a new life has begun. */
static void test_map_error(void **state)
{
	unsigned int nr[2] = { 0, 0 };

	(void)state;
	sim_start(&a);
	map_record(REPAGENT_REC_MAP_ERROR);
	assert_int_equal(sim_connect(&a), 0);
	assert_true(a.block.owes);
	assert_int_equal(failed_maps(), 1);
	map_record(REPAGENT_REC_MAP_OK);
	assert_int_equal(sim_connect(&a), 0);
	assert_false(a.block.owes);
	assert_int_equal(failed_maps(), 0);
	map_record(REPAGENT_REC_MAP_ERROR);
	assert_true(hub_points(hub, "vm0", false, 100, count_map, nr));
	assert_int_equal(nr[0], 2);
	assert_int_equal(nr[1], 1);
	sim_disconnect(&a);
	hub_close(hub);
	hub = sim_hub(dir, 4 << 20, 0);
	sim_init(&b, hub, 0xb);
	assert_int_equal(sim_connect(&b), 0);
	assert_true(b.block.owes);
	sim_disconnect(&b);
	sim_start(&b);
	assert_int_equal(sim_connect(&b), 0);
	assert_false(b.block.owes);
}

static const char *refused_view(const char *volume, uint64_t incarnation, uint64_t seq)
{
	char point[64];
	struct hub_view *v;

	snprintf(point, sizeof(point), "%" PRIu64 ":%" PRIu64, incarnation, seq);
	*why = '\0';
	v = hub_view_open(hub, "vm0", volume, point, why);
	if (v)
		hub_view_close(v);
	return v ? NULL : why;
}

/* Where a volume is torn, and where it is not; across gaps, removals, incarnations and lost records. */
static void test_torn_points(void **state)
{
	uint64_t begin, end, gap;

	(void)state;
	sim_start(&a);	/* BEGIN x 3, then ZEROES and END of each */
	assert_non_null(strstr(refused_view("disk0", 0xa, 1), "resynchronised"));
	assert_non_null(strstr(refused_view("disk0", 0xa, 4), "resynchronised"));
	assert_null(refused_view("disk0", 0xa, 5));
	assert_non_null(refused_view("disk1", 0xa, 6));
	assert_null(refused_view("disk1", 0xa, 7));
	assert_non_null(strstr(refused_view("disk7", 0xa, 7), "no volume"));
	assert_non_null(strstr(refused_view("disk0", 0xe, 7), "nothing of that incarnation"));
	assert_non_null(strstr(refused_view("disk0", 0xa, 10), "ends at 9"));
	sim_begin(&a, false);
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
	gap = a.next;
	assert_true(sim_add(&a, REPAGENT_REC_GAP, 0, 0, 0));
	begin = a.next;
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, 0, 0, SIM_SECTORS));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC, 0, 8, 8));
	assert_true(sim_add(&a, REPAGENT_REC_GAP, 0, 0, 0));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, 0, 0, SIM_SECTORS));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC, 0, 16, 8));
	end = a.next;
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_END, 0, 0, 0));
	assert_true(sim_add(&a, REPAGENT_REC_VOLUME_RESIZE, 1, 0, 4096));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, 1, 0, 4096));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_END, 1, 0, 0));
	assert_true(sim_add(&a, REPAGENT_REC_VOLUME_REMOVE, 2, 0, 0));
	assert_int_equal(sim_send(&a), 0);
	assert_non_null(strstr(refused_view("disk0", 0xa, gap), "not durable"));
	assert_int_equal(sim_flush(&a), 0);
	sim_compare(&a, gap);
	for (uint64_t at = begin; at < end; at++) {
		assert_non_null(refused_view("disk0", 0xa, at));
		assert_null(refused_view("disk1", 0xa, at));
	}
	assert_non_null(strstr(refused_view("disk0", 0xa, begin + 2), "lacks writes"));
	assert_null(refused_view("disk0", 0xa, end));
	assert_null(refused_view("disk2", 0xa, a.acked));
	struct hub_view *v = hub_view_open(hub, "vm0", "disk1", "latest", why);

	assert_non_null(v);
	assert_int_equal(hub_view_size(v), 4096 * 512);
	hub_view_close(v);
	/* Records are lost: all is torn until each volume's own resync has ended. */
	a.next += 10;
	sim_begin(&a, false);
	gap = a.next;
	assert_true(sim_add(&a, REPAGENT_REC_GAP, 0, 0, 0));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_END, 1, 0, 0));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, 0, 0, SIM_SECTORS));
	assert_true(sim_add(&a, REPAGENT_REC_RESYNC_END, 0, 0, 0));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	assert_non_null(strstr(refused_view("disk0", 0xa, gap - 5), "never received"));
	assert_non_null(refused_view("disk0", 0xa, gap));
	assert_non_null(refused_view("disk1", 0xa, gap + 1));
	assert_null(refused_view("disk0", 0xa, gap + 3));
	assert_non_null(refused_view("disk1", 0xa, gap + 3));
	/* A new incarnation without a gap leaves what is good, and gives other names to the ids. */
	sim_disconnect(&a);
	assert_int_equal(sim_connect(&b), 0);
	b.next = 1;
	sim_begin(&b, false);
	struct frame_volume name = { .id = 2, .name = "disk0" };

	assert_true(frame_add_volume(&b.b, &name));
	assert_true(sim_add(&b, REPAGENT_REC_WRITE, 1, 3, 1));
	assert_int_equal(sim_send(&b), 0);
	assert_int_equal(sim_flush(&b), 0);
	uint8_t got[512], want[512];

	v = hub_view_open(hub, "vm0", "disk0", "latest", why);
	assert_non_null(v);
	assert_int_equal(hub_view_read(v, 3 * 512, got, 512, why), 0);
	sim_fill(want, 0xb, 1, 3, 1);
	assert_memory_equal(got, want, 512);
	hub_view_close(v);
}

static uint64_t seq_at(const char *point)
{
	uint64_t incarnation, seq, time;
	struct hub_view *v = hub_view_open(hub, "vm0", "disk0", point, why);

	if (!v)
		return 0;
	hub_view_position(v, &incarnation, &seq, &time);
	hub_view_close(v);
	return seq;
}

/* The agent's clock shows a record's number, in seconds since the epoch. */
static void test_kinds_of_points(void **state)
{
	(void)state;
	sim_start(&a);
	sim_begin(&a, false);
	while (a.next < 100)
		assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, a.next, 1));
	sim_label(&a, "before the upgrade");
	sim_label(&a, "latest");
	sim_label(&a, "1234");
	sim_label(&a, "");
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
	sim_label(&a, "before the upgrade");
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	assert_int_equal(seq_at("latest"), 106);
	assert_int_equal(seq_at("50"), 50);
	assert_int_equal(seq_at("10:50"), 50);
	assert_int_equal(seq_at("0xa:50"), 50);
	assert_int_equal(seq_at("11:50"), 0);
	assert_int_equal(seq_at("107"), 0);
	assert_int_equal(seq_at("time:60"), 60);
	assert_int_equal(seq_at("time:60.999"), 60);
	assert_int_equal(seq_at("1970-01-01T00:01:10.5Z"), 70);
	assert_int_equal(seq_at("1970-01-01T00:01:09"), 69);
	assert_int_equal(seq_at("time:106"), 0);
	assert_non_null(strstr(why, "not come to that time"));
	assert_int_equal(seq_at("time:0"), 0);
	assert_non_null(strstr(why, "before the oldest"));
	assert_int_equal(seq_at("before the upgrade"), 105);
	assert_int_equal(seq_at("label:latest"), 101);
	assert_int_equal(seq_at("label:1234"), 102);
	assert_int_equal(seq_at("after the upgrade"), 0);
	assert_non_null(strstr(why, "no checkpoint"));
	assert_null(hub_view_open(hub, "vm9", "disk0", "latest", why));
	assert_non_null(strstr(why, "no group"));
}

/* A session on one group, whatever it does, is none of the other's business. */
static void test_other_groups(void **state)
{
	struct hub_session *s = hub_session_new(hub, "vm1", "x");
	uint8_t block[SESSION_SIZE];

	(void)state;
	sim_start(&a);
	frame_hello(block, NULL, 0, a.incarnation);
	assert_int_equal(hub_session_write(s, 0, block, FRAME_ALIGN, why), 0);
	assert_int_equal(hub_session_read(s, 0, block, sizeof(block), why), 0);
	/* A frame that was made for the one group, sent to the other. */
	sim_begin(&a, true);
	assert_true(sim_add(&a, REPAGENT_REC_GAP, 0, 0, 0));
	size_t size = frame_end(&a.b, 0, NULL);

	frame_place(a.frame, SESSION_SIZE, 0);
	assert_int_equal(hub_session_write(s, SESSION_SIZE, a.frame, size, why), EPERM);
	assert_non_null(strstr(why, "uuid"));
	assert_int_equal(hub_find(hub, "vm1")->now.seq, 0);
	frame_place(a.frame, a.offset, 0);
	assert_int_equal(hub_session_write(a.session, a.offset, a.frame, size, why), 0);
	hub_session_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order_of_requests, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_refused_frames, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_pieces, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_half_a_frame, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_takeover, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_stale_agent, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_map_error, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_torn_points, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_kinds_of_points, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_other_groups, setup, fixture_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
