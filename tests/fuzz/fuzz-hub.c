// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Any bytes as what the hub finds in its directory, or is sent: what a segment's
 * header says of the log, an index, the body of frame after frame. Sums are set
 * right first, so that what stands behind them is reached. The input's first byte
 * says which of them it is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rephub/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the index, as segment.c has them. */
#define INDEX_MAGIC	UINT64_C(0x7864696770657221)
#define INDEX_NUMBERS	48u		/* nr_records, nr_frames, nr_marks, rest_crc */
#define INDEX_CRC	(64u + REPLAY_BYTES)

static const uint8_t group[16] = "a group's uuid.";
static int dir = -1;
static uint8_t frame[FRAME_MAX], raw[FRAME_MAX];
static char error[SEGMENT_ERROR_MAX];

static char path[] = "/dev/shm/fuzz-hub-XXXXXX";

static void remove_dir(void)
{
	rmdir(path);
}

static void start(void)
{
	if (dir >= 0)
		return;
	if (!mkdtemp(path) || atexit(remove_dir))
		abort();
	dir = open(path, O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		abort();
}

static void check_replay(const struct replay *r)
{
	static uint8_t bytes[REPLAY_BYTES], again[REPLAY_BYTES];
	struct replay back;

	if (r->nr > REPAGENT_MAX_VOLUMES || r->nr_seen > REPLAY_SEEN)
		abort();
	replay_encode(r, bytes);
	if (!replay_decode(&back, bytes))
		abort();
	replay_encode(&back, again);
	if (memcmp(bytes, again, sizeof(bytes)))
		abort();
}

static void fuzz_replay(const uint8_t *data, size_t size)
{
	static uint8_t bytes[REPLAY_BYTES];
	struct replay r;

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, data, size < sizeof(bytes) ? size : sizeof(bytes));
	if (replay_decode(&r, bytes))
		check_replay(&r);
}

/*
 * Frames: a byte says how one goes on (1: with a number too many, 2: in another incarnation), two how
 * long its body is, one each how many volumes and records that has.
 */
static void fuzz_frames(const uint8_t *data, size_t size)
{
	static const struct replay nothing;
	struct replay r = nothing, work;
	struct segment_frame f;
	struct segment *s;
	uint64_t first = 1, incarnation = 1;

	s = segment_create(dir, SESSION_SIZE, &r, false, group, error);
	if (!s)
		abort();
	while (size >= 5) {
		struct frame_header h = { .generation = 1 };
		struct frame_record rec;
		struct frame_reader reader;
		struct frame_volume v;
		const void *payload;
		size_t len = data[1] | (size_t)data[2] << 8;

		if (data[0] & 2)
			first = 1 + (data[0] >> 4), incarnation++;
		else
			first += data[0] & 1;
		h.incarnation = incarnation;
		h.first = first;
		h.last = first + 300;
		h.offset = s->end;
		h.nr_volumes = data[3] & 3;
		h.nr_records = data[4] & 15;
		data += 5;
		size -= 5;
		len = len < size ? len : size;
		memset(frame, 0, len + FRAME_ALIGN);
		memcpy(frame, data, len);
		data += len;
		size -= len;
		h.stored = h.raw = (uint32_t)len;
		if ((uint64_t)h.nr_volumes * FRAME_VOLUME + h.nr_records * FRAME_RECORD > len)
			continue;
		/* Payloads' sums, as they are met. */
		h.body_crc = frame_crc(frame, len);
		if (!frame_open(&reader, &h, frame, raw, error))
			abort();
		while (frame_next_volume(&reader, &v) > 0)
			;
		for (;;) {
			size_t at = reader.at;

			if (frame_next_record(&reader, &rec, &payload) > 0)
				continue;
			if (!strstr(error, ": crc ") || at + FRAME_RECORD + rec.len > len)
				break;
			uint32_t crc = frame_crc(frame + at + FRAME_RECORD, rec.len);

			if (!memcmp(frame + at + 36, &crc, 4))
				break;
			memcpy(frame + at + 36, &crc, 4);
			*error = '\0';
		}
		h.body_crc = frame_crc(frame, len);
		work = r;
		if (segment_take(s, &work, &h, frame, raw, &f, error))
			continue;
		r = work;
		segment_count(s, &f, frame_size(&h));
		first = h.last + 1;
		check_replay(&r);
	}
	unlinkat(dir, s->name, 0);
	segment_put(s);
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* An index that fits in size what its header says, over a segment of zeroes. */
static void fuzz_index(const uint8_t *data, size_t size)
{
	static const struct replay nothing;
	static uint8_t file[4 * SEGMENT_HEADER], payload[REPAGENT_MAX_RECORD], scratch[FRAME_BODY_MAX];
	const uint64_t magic = INDEX_MAGIC, range[2] = { SESSION_SIZE, SESSION_SIZE + 4096 };
	uint32_t nr[3], i, crc;
	struct segment *s;
	char name[SEGMENT_NAME_MAX];
	struct replay r;
	int fd;

	if (size < 3)
		return;
	nr[0] = data[0] % 74;		/* a page of records */
	nr[1] = data[1] % 16;
	nr[2] = data[2] % 16;
	data += 3;
	size -= 3;
	memset(file, 0, sizeof(file));
	memcpy(file + SEGMENT_HEADER, data, size < 2 * SEGMENT_HEADER ? size : 2 * SEGMENT_HEADER);
	memcpy(file, &magic, 8);
	put32(file + 8, 2);
	memcpy(file + 16, range, 16);
	memcpy(file + INDEX_NUMBERS, nr, sizeof(nr));
	i = nr[0] ? 2 * SEGMENT_HEADER : SEGMENT_HEADER;
	crc = frame_crc(file + SEGMENT_HEADER, nr[0] * sizeof(struct log_record)) ^
	      frame_crc(file + i, nr[1] * sizeof(struct log_frame)) ^
	      frame_crc(file + i + nr[1] * sizeof(struct log_frame), nr[2] * 4);
	put32(file + INDEX_NUMBERS + 12, crc);
	put32(file + INDEX_CRC, frame_crc(file, INDEX_CRC));
	s = segment_create(dir, SESSION_SIZE, &nothing, false, group, error);
	if (!s || ftruncate(s->fd, SEGMENT_HEADER + 4096))
		abort();
	snprintf(name, sizeof(name), "%.16s.index", s->name);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, file, sizeof(file)) != sizeof(file))
		abort();
	close(fd);
	if (segment_load(s, &r)) {
		check_replay(&r);
		for (i = 0; i < s->nr_records; i++)
			(void)segment_read(s, &s->record[i], payload, scratch, error);
		for (i = 0; i < s->nr_marks; i++)
			(void)segment_read(s, &s->record[s->mark[i]], payload, scratch, error);
	}
	unlinkat(dir, name, 0);
	unlinkat(dir, s->name, 0);
	segment_put(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	start();
	switch (*data % 3) {
	case 0:
		fuzz_replay(data + 1, size - 1);
		break;
	case 1:
		fuzz_frames(data + 1, size - 1);
		break;
	default:
		fuzz_index(data + 1, size - 1);
		break;
	}
	return 0;
}
