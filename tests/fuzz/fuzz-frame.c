// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Any bytes as a frame, a session block, or what is said beside the log: the header of
 * sums, a position that is asked for, an order, a report. The sums are set right first, so that
 * what stands behind them is reached; the input's first byte says where not.
 */
#include <stdlib.h>
#include <string.h>

#include "common/frame.h"
#include "common/sums.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t frame[FRAME_MAX], raw[FRAME_MAX];

static uint32_t get32(size_t at)
{
	uint32_t v;

	memcpy(&v, frame + at, sizeof(v));
	return v;
}

static void put32(size_t at, uint32_t v)
{
	memcpy(frame + at, &v, sizeof(v));
}

static void seal_header(uint32_t body_crc)
{
	const uint64_t magic = FRAME_MAGIC;

	memcpy(frame, &magic, sizeof(magic));
	put32(8, FRAME_VERSION);
	put32(96, body_crc);
	memset(frame + 100, 0, 24);
	put32(124, frame_crc(frame, 124));
}

/* Payloads' sums are corrected as they are met; the frame is then opened anew. */
static void take(const struct frame_header *h, bool seal)
{
	struct frame_record rec;
	struct frame_reader r;
	struct frame_volume v;
	char error[FRAME_ERROR_MAX];
	const void *payload;
	uint64_t seq = 0;
	size_t before;
	int n;

	if (!frame_open(&r, h, frame + FRAME_HEADER, raw, error))
		return;
	while ((n = frame_next_volume(&r, &v)) > 0)
		if (!frame_name_ok(v.name))
			abort();
	while (!n) {
		before = r.at;
		n = frame_next_record(&r, &rec, &payload);
		if (n < 0 && seal && r.at == before && !(h->flags & FRAME_ZSTD) && strstr(error, ": crc ")) {
			put32(FRAME_HEADER + r.at + 36,
			      frame_crc(frame + FRAME_HEADER + r.at + FRAME_RECORD, rec.len));
			n = frame_next_record(&r, &rec, &payload);
		}
		if (n < 1)
			return;
		if (rec.seq < h->first || rec.seq > h->last || rec.seq <= seq ||
		    rec.len > REPAGENT_MAX_RECORD || (rec.len && frame_crc(payload, rec.len) != rec.crc) ||
		    (const uint8_t *)payload + rec.len > r.body + h->raw)
			abort();
		seq = rec.seq;
		n = 0;
	}
}

/* Whatever is taken can be said again, in the same bytes. */
static void beside(bool seal)
{
	static uint8_t again[SUMS_HEADER];
	char error[FRAME_ERROR_MAX];
	uint64_t incarnation, seq;
	struct verify_report report;
	struct sums_header h;
	struct order order;

	if (seal)
		put32(SUMS_HEADER - 4, frame_crc(frame, SUMS_HEADER - 4));
	if (sums_header_decode(&h, frame, error)) {
		sums_header_encode(&h, again);
		if (!frame_name_ok(h.volume) || h.bytes / 512 > FRAME_MAX_SECTORS)
			abort();
	}
	if (seal)
		put32(ORDER_SIZE - 4, frame_crc(frame, ORDER_SIZE - 4));
	if (sums_want_decode(&incarnation, &seq, frame, error)) {
		sums_want_encode(incarnation, seq, again);
		if (memcmp(again, frame, SUMS_WANT))
			abort();
	}
	if (order_decode(&order, frame, error)) {
		order_encode(&order, again);
		if (order.serial && !frame_name_ok(order.volume))
			abort();
	}
	if (report_decode(&report, frame, error)) {
		report_encode(&report, again);
		if (!frame_name_ok(report.volume) || report.state >= REPORT_NR_STATES)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[FRAME_ERROR_MAX];
	struct frame_header h;
	struct session s;
	uint8_t how;

	if (!size)
		return 0;
	how = *data++;
	size--;
	if (size > FRAME_MAX)
		size = FRAME_MAX;
	memset(frame, 0, sizeof(frame));
	memcpy(frame, data, size);
	if (how & 1) {
		if (how & 2)
			put32(4092, frame_crc(frame, 4092));
		(void)session_decode(&s, frame, error);
		return 0;
	}
	if (how & 16) {
		beside(!(how & 2));
		return 0;
	}
	/* Lengths that fit, so that bodies are reached. */
	if (how & 8 && size >= FRAME_HEADER) {
		put32(80, (uint32_t)(size - FRAME_HEADER));
		if (!(get32(12) & FRAME_ZSTD))
			put32(84, get32(80));
	}
	if (!(how & 2))
		seal_header(get32(80) <= FRAME_BODY_MAX ? frame_crc(frame + FRAME_HEADER, get32(80)) : 0);
	if (!frame_header_parse(&h, frame, error))
		return 0;
	if (frame_size(&h) > FRAME_MAX || frame_size(&h) % FRAME_ALIGN)
		abort();
	take(&h, !(how & 4));
	return 0;
}
