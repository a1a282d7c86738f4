// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hubfeed SOCKET GROUP MIB [RECORD-KIB [FRAMES-PER-FLUSH [VOLUME-MIB]]]: write a stream
 * of random writes to a rephub's log, several frames in flight, and say how fast that was.
 * The volume disk0 has 128 MiB, or what is said.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../userspace/common/frame.h"

#define IN_FLIGHT	8u

static struct nbd_handle *nbd;
static struct session session;
static uint64_t next = 1, offset, volume;	/* @volume: sectors */
static uint8_t payload[REPAGENT_MAX_RECORD];

static struct slot {
	uint8_t frame[FRAME_MAX];
	bool busy;
} slots[IN_FLIGHT];

static void die(const char *what)
{
	fprintf(stderr, "hubfeed: %s: %s\n", what, nbd_get_error() ? nbd_get_error() : strerror(errno));
	exit(1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int replied(void *data, int *error)
{
	struct slot *s = data;

	if (*error)
		die("a frame was refused");
	s->busy = false;
	return 1;
}

static struct slot *free_slot(void)
{
	unsigned int i;

	for (;;) {
		for (i = 0; i < IN_FLIGHT; i++)
			if (!slots[i].busy)
				return &slots[i];
		if (nbd_poll(nbd, -1) < 0)
			die("poll");
	}
}

static void begin(struct frame_builder *b, struct slot *s)
{
	struct frame_header h = { .generation = session.generation, .incarnation = 0xfeed, .first = next };
	struct frame_volume v = { 1, volume, "disk0" };

	memcpy(h.group, session.group, sizeof(h.group));
	frame_begin(b, s->frame, &h);
	frame_add_volume(b, &v);
}

static bool add(struct frame_builder *b, unsigned int type, uint64_t sector, uint64_t nr)
{
	struct timespec t;
	struct frame_record r = { .type = (uint8_t)type, .volume = type != REPAGENT_REC_CHECKPOINT, .seq = next,
				  .sector = sector, .nr_sectors = nr };

	clock_gettime(CLOCK_REALTIME, &t);
	r.time = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	if (type == REPAGENT_REC_WRITE)
		r.len = (uint32_t)nr * 512;
	if (type == REPAGENT_REC_CHECKPOINT)
		r.len = sizeof("hubfeed");
	if (!frame_add_record(b, &r, type == REPAGENT_REC_CHECKPOINT ? (const void *)"hubfeed" : payload))
		return false;
	next++;
	return true;
}

static void send_frame(struct frame_builder *b, struct slot *s)
{
	size_t size = frame_end(b, 0, NULL);

	frame_place(s->frame, offset, 0);
	s->busy = true;
	if (nbd_aio_pwrite(nbd, s->frame, size, offset, (nbd_completion_callback){ replied, s, NULL }, 0) < 0)
		die("write");
	offset += size;
}

static void connect_to(const char *path, const char *group)
{
	char name[64], error[FRAME_ERROR_MAX];
	uint8_t block[SESSION_SIZE];

	nbd = nbd_create();
	snprintf(name, sizeof(name), "log/%s", group);
	if (!nbd || nbd_set_export_name(nbd, name) || nbd_connect_unix(nbd, path))
		die(path);
	frame_hello(block, NULL, 0, 0xfeed);
	if (nbd_pwrite(nbd, block, FRAME_ALIGN, 0, 0) || nbd_pread(nbd, block, sizeof(block), 0, 0))
		die("session");
	if (!session_decode(&session, block, error) || session.state != SESSION_ACCEPTING) {
		fprintf(stderr, "hubfeed: %s\n", session.state ? session.reason : error);
		exit(1);
	}
	offset = session.offset;
	next = session.seq + 1;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 3 ? strtoull(argv[3], NULL, 10) : 0, done = 0, records = 0;
	uint64_t kib = argc > 4 ? strtoull(argv[4], NULL, 10) : 4, per = argc > 5 ? strtoull(argv[5], NULL, 10) : 16;
	uint64_t sectors = kib * 2, frames = 0;
	struct frame_builder b;
	struct slot *s;
	double start, took;
	size_t i;

	volume = (argc > 6 ? strtoull(argv[6], NULL, 10) : 128) * 2048;
	if (!mib || !kib || kib > 1024 || !per || volume < sectors) {
		fprintf(stderr, "Usage: hubfeed SOCKET GROUP MIB [RECORD-KIB [FRAMES-PER-FLUSH [VOLUME-MIB]]]\n");
		return 2;
	}
	for (i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)random();
	connect_to(argv[1], argv[2]);
	start = seconds();
	s = free_slot();
	begin(&b, s);
	if (next == 1) {
		add(&b, REPAGENT_REC_RESYNC_BEGIN, 0, volume);
		add(&b, REPAGENT_REC_RESYNC_END, 0, 0);
	}
	while (done < mib << 20) {
		memcpy(payload, &records, sizeof(records));
		if (!add(&b, REPAGENT_REC_WRITE, (uint64_t)random() % (volume / sectors) * sectors, sectors)) {
			send_frame(&b, s);
			s = free_slot();
			begin(&b, s);
			if (!(++frames % per) && nbd_flush(nbd, 0))
				die("flush");
			continue;
		}
		done += kib << 10;
		records++;
	}
	if (!add(&b, REPAGENT_REC_CHECKPOINT, 0, 0)) {
		send_frame(&b, s);
		s = free_slot();
		begin(&b, s);
		add(&b, REPAGENT_REC_CHECKPOINT, 0, 0);
	}
	send_frame(&b, s);
	for (i = 0; i < IN_FLIGHT; i++)
		while (slots[i].busy)
			if (nbd_poll(nbd, -1) < 0)
				die("poll");
	if (nbd_flush(nbd, 0))
		die("flush");
	took = seconds() - start;
	printf("%" PRIu64 " records, last %" PRIu64 ", %.3f s: %.0f records/s, %.1f MB/s; journal %.3f of payload\n", records,
	       next - 1, took, (double)records / took, (double)done / took / 1e6,
	       (double)(offset - session.offset) / (double)done);
	nbd_close(nbd);
	return 0;
}
