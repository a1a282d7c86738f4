// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "simagent.h"

char sim_log[65536];

static void take_log(void *data, int priority, const char *line)
{
	size_t used = strlen(sim_log);

	(void)data;
	(void)priority;
	if (getenv("SIM_VERBOSE"))
		fprintf(stderr, "# %s\n", line);
	if (used + strlen(line) + 2 < sizeof(sim_log))
		sprintf(sim_log + used, "%s\n", line);
}

/* A new directory for a hub; in memory where that can be, for all the syncs are in the way of nothing here. */
char *sim_dir(void)
{
	char *dir = strdup(access("/dev/shm", W_OK) ? "/tmp/test-hub-XXXXXX" : "/dev/shm/test-hub-XXXXXX");

	assert_non_null(mkdtemp(dir));
	return dir;
}

void sim_remove(const char *dir)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	assert_int_equal(system(command), 0);
}

struct hub *sim_hub(const char *dir, uint64_t segment, uint64_t keep)
{
	char error[HUB_ERROR_MAX];
	struct hub_options o;
	struct hub *hub;

	hub_options_init(&o);
	o.segment = segment;
	o.keep.bytes = keep;
	o.log = take_log;
	*sim_log = '\0';
	hub = hub_open(dir, &o, error);
	if (!hub)
		fail_msg("%s", error);
	return hub;
}

void sim_init(struct simagent *a, struct hub *hub, uint64_t incarnation)
{
	memset(a, 0, sizeof(*a));
	a->hub = hub;
	a->incarnation = incarnation;
	a->next = 1;
}

static int do_write(struct simagent *a, uint64_t offset, const void *buf, size_t len)
{
	if (a->write)
		return a->write(a, offset, buf, len);
	if (!a->session)
		a->session = hub_session_new(a->hub, "vm0", "sim");
	return hub_session_write(a->session, offset, buf, len, a->reason);
}

/* Hello and session block. Return the error of either; the block's state is for the caller. */
int sim_connect(struct simagent *a)
{
	uint8_t block[SESSION_SIZE];
	char error[FRAME_ERROR_MAX];
	int err;

	frame_hello(block, a->block.generation ? a->block.group : NULL, a->block.generation, a->incarnation);
	err = do_write(a, 0, block, FRAME_ALIGN);
	if (!err)
		err = a->read ? a->read(a, 0, block, sizeof(block)) :
				hub_session_read(a->session, 0, block, sizeof(block), a->reason);
	if (err)
		return err;
	if (!session_decode(&a->block, block, error))
		fail_msg("%s", error);
	a->offset = a->block.offset;
	return 0;
}

void sim_disconnect(struct simagent *a)
{
	if (a->session)
		hub_session_free(a->session);
	a->session = NULL;
}

void sim_begin(struct simagent *a, bool volumes)
{
	struct frame_header h = { .generation = a->block.generation, .incarnation = a->incarnation,
				  .first = a->next };
	struct frame_volume v = { .sectors = SIM_SECTORS };

	memcpy(h.group, a->block.group, sizeof(h.group));
	frame_begin(&a->b, a->frame, &h);
	for (v.id = 1; volumes && v.id <= SIM_VOLUMES; v.id++) {
		snprintf(v.name, sizeof(v.name), "disk%u", v.id - 1u);
		assert_true(frame_add_volume(&a->b, &v));
	}
}

void sim_fill(uint8_t *buf, uint64_t incarnation, uint64_t seq, uint64_t sector, uint64_t nr)
{
	uint64_t words[64], i, k;

	for (i = 0; i < nr; i++) {
		for (k = 0; k < 64; k++)
			words[k] = incarnation << 48 ^ seq << 16 ^ (sector + i) ^ k << 60;
		memcpy(buf + i * 512, words, 512);
	}
}

/* Add a record. Return false if the frame has no room; then send it, and begin another. */
bool sim_add(struct simagent *a, unsigned int type, unsigned int volume, uint64_t sector, uint64_t nr)
{
	static uint8_t payload[REPAGENT_MAX_RECORD];
	bool data = type == REPAGENT_REC_WRITE || type == REPAGENT_REC_RESYNC || type == REPAGENT_REC_VERIFY;
	struct frame_record r = { .type = (uint8_t)type, .volume = (uint16_t)(volume + 1), .seq = a->next,
				  .sector = sector, .nr_sectors = nr, .time = a->next * 1000000000,
				  .aux = type == REPAGENT_REC_MAP_ERROR ? EIO : 0 };

	if (type == REPAGENT_REC_GAP || type == REPAGENT_REC_SHUTDOWN || type == REPAGENT_REC_CHECKPOINT)
		r.volume = 0;
	if (data) {
		r.len = (uint32_t)nr * 512;
		sim_fill(payload, a->incarnation, a->next, sector, nr);
	}
	if (!frame_add_record(&a->b, &r, payload))
		return false;
	if (a->nr_ops >= a->op_room) {
		a->op_room = a->op_room ? 2 * a->op_room : 1024;
		a->op = realloc(a->op, a->op_room * sizeof(*a->op));
		assert_non_null(a->op);
	}
	a->op[a->nr_ops++] = (struct sim_op){ a->next, type, volume, sector, nr };
	a->next++;
	return true;
}

void sim_label(struct simagent *a, const char *label)
{
	struct frame_record r = { .type = REPAGENT_REC_CHECKPOINT, .seq = a->next,
				  .time = a->next * 1000000000, .len = (uint32_t)strlen(label) + 1 };

	assert_true(frame_add_record(&a->b, &r, label));
	a->next++;
}

int sim_send(struct simagent *a)
{
	size_t size = frame_end(&a->b, a->level, a->scratch);
	int err;

	frame_place(a->frame, a->offset, a->acked < a->b.h.first ? a->acked : a->b.h.first - 1);
	err = do_write(a, a->offset, a->frame, size);
	if (!err) {
		a->offset += size;
		a->sent = a->b.h.last;
	}
	return err;
}

int sim_flush(struct simagent *a)
{
	uint64_t sent = a->sent;
	int err = a->flush ? a->flush(a) : hub_session_flush(a->session, a->reason);

	if (!err)
		a->acked = sent;
	return err;
}

/* The first frame: all volumes are resynchronised, and hold zeroes. */
void sim_start(struct simagent *a)
{
	unsigned int v;

	assert_int_equal(sim_connect(a), 0);
	assert_int_equal(a->block.state, SESSION_ACCEPTING);
	sim_begin(a, true);
	for (v = 0; v < SIM_VOLUMES; v++)
		assert_true(sim_add(a, REPAGENT_REC_RESYNC_BEGIN, v, 0, SIM_SECTORS));
	for (v = 0; v < SIM_VOLUMES; v++) {
		assert_true(sim_add(a, REPAGENT_REC_ZEROES, v, 0, SIM_SECTORS));
		assert_true(sim_add(a, REPAGENT_REC_RESYNC_END, v, 0, 0));
	}
	assert_int_equal(sim_send(a), 0);
	assert_int_equal(sim_flush(a), 0);
}

/* One frame of random records. */
void sim_random(struct simagent *a, unsigned int records)
{
	static const unsigned int types[] = {
		REPAGENT_REC_WRITE, REPAGENT_REC_WRITE, REPAGENT_REC_WRITE, REPAGENT_REC_WRITE,
		REPAGENT_REC_ZEROES, REPAGENT_REC_DISCARD, REPAGENT_REC_FLUSH, REPAGENT_REC_VERIFY,
	};
	uint64_t nr, sector;
	unsigned int type;

	sim_begin(a, false);
	while (records--) {
		if (!(random() % 20))
			frame_add_void(&a->b, a->next++);
		type = types[random() % 8];
		nr = random() % 10 ? 1 + (uint64_t)random() % 16 : 1 + (uint64_t)random() % 512;
		sector = (uint64_t)random() % (SIM_SECTORS - nr);
		if (!sim_add(a, type, (unsigned int)random() % SIM_VOLUMES, type == REPAGENT_REC_FLUSH ? 0 : sector,
			     type == REPAGENT_REC_FLUSH ? 0 : nr))
			break;
	}
	assert_int_equal(sim_send(a), 0);
}

/* How much of something a test does: as the environment says, where it is to take long. */
uint64_t sim_many(const char *name, uint64_t few)
{
	return getenv(name) ? strtoull(getenv(name), NULL, 10) : few;
}

/*
 * The dependent writes of a guest, n times: A(n) on disk0, something else on disk2, B(n) on disk1. At every record B's
 * number is never above A's.
 */
void sim_dependent_writes(struct simagent *a, uint64_t n)
{
	static const uint16_t volumes[] = { 1, 3, 2 };
	struct frame_record r = { .type = REPAGENT_REC_WRITE, .nr_sectors = 8, .len = 4096 };
	uint8_t payload[4096] = { 0 };
	unsigned int k;
	uint64_t i;

	sim_begin(a, false);
	for (i = 1; i <= n; i++) {
		for (k = 0; k < 3; k++) {
			memcpy(payload, &i, sizeof(i));
			r.volume = volumes[k];
			r.sector = k == 1 ? i % 200 * 8 : SIM_COUNTER / 512;
			r.seq = r.time = a->next;
			while (!frame_add_record(&a->b, &r, payload)) {
				assert_int_equal(sim_send(a), 0);
				sim_begin(a, false);
			}
			a->next++;
		}
	}
	assert_int_equal(sim_send(a), 0);
	assert_int_equal(sim_flush(a), 0);
}

/* What a volume holds after this record: SIM_SECTORS * 512 bytes. */
void sim_model(const struct simagent *a, uint64_t seq, unsigned int volume, uint8_t *bytes)
{
	size_t i;

	memset(bytes, 0, SIM_SECTORS * 512);
	for (i = 0; i < a->nr_ops && a->op[i].seq <= seq; i++) {
		const struct sim_op *op = &a->op[i];

		if (op->volume != volume)
			continue;
		if (op->type == REPAGENT_REC_WRITE || op->type == REPAGENT_REC_RESYNC)
			sim_fill(bytes + op->sector * 512, a->incarnation, op->seq, op->sector, op->nr);
		if (op->type == REPAGENT_REC_ZEROES || op->type == REPAGENT_REC_DISCARD)
			memset(bytes + op->sector * 512, 0, op->nr * 512);
	}
}

/* All volumes, in reads of all sizes, beside the model. */
void sim_compare(struct simagent *a, uint64_t seq)
{
	static uint8_t want[SIM_SECTORS * 512], got[SIM_SECTORS * 512];
	char point[64], name[16], reason[HUB_REASON_MAX];
	uint64_t at, next, i;
	struct hub_view *view;
	unsigned int v;
	size_t len;

	for (v = 0; v < SIM_VOLUMES; v++) {
		snprintf(point, sizeof(point), "%" PRIu64 ":%" PRIu64, a->incarnation, seq);
		snprintf(name, sizeof(name), "disk%u", v);
		view = hub_view_open(a->hub, "vm0", name, point, reason);
		if (!view)
			fail_msg("%s at %s: %s", name, point, reason);
		assert_int_equal(hub_view_size(view), sizeof(got));
		sim_model(a, seq, v, want);
		for (at = 0; at < sizeof(got); at += len) {
			len = random() % 2 ? 1 + (size_t)random() % 5000 : 65536;
			if (len > sizeof(got) - at)
				len = sizeof(got) - at;
			if (hub_view_read(view, at, got + at, len, reason))
				fail_msg("%s at %s: %s", name, point, reason);
		}
		for (i = 0; i < SIM_SECTORS; i++)
			if (memcmp(want + i * 512, got + i * 512, 512))
				fail_msg("%s at %s: sector %" PRIu64 " differs", name, point, i);
		for (at = 0; at < sizeof(got); at = next) {
			bool data = hub_view_next(view, at, sizeof(got), &next);

			assert_true(next > at && next <= sizeof(got));
			for (i = at; !data && i < next; i++)
				assert_int_equal(want[i], 0);
		}
		hub_view_close(view);
	}
}
