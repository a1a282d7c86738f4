// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames and session blocks: from structures to bytes, and back with every byte
 * checked.  Documentation/frames.md has the layout.
 */
#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include "bytes.h"
#include "frame.h"

#define HEADER_CRC	124	/* where the sum of a header lies */
#define HEADER_RESERVED	100
#define BLOCK_CRC	4092	/* ... of a session block */
#define BLOCK_USED	296
#define BLOCK_ZSTD	1u	/* flags */
#define BLOCK_OWES	2u
#define BLOCK_ORDERS	4u

/* The pad of a payload. */
static size_t padded(size_t len)
{
	return (len + FRAME_PAYLOAD_ALIGN - 1) & ~(size_t)(FRAME_PAYLOAD_ALIGN - 1);
}

/**
 * frame_refuse - say what is wrong with bytes from outside
 * @error: FRAME_ERROR_MAX bytes
 * @fmt: a sentence
 *
 * Return: false.
 */
bool frame_refuse(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, FRAME_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

/**
 * frame_crc - the sum that everything here has
 * @data: of these
 * @len: bytes
 */
uint32_t frame_crc(const void *data, size_t len)
{
	/* The library wants int, and promises not to write. */
	return ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)len, ~0u);
}

/**
 * frame_name_ok - may a group or a volume be called so?
 * @name: NUL-terminated
 *
 * Such a name is also that of a file, and a part of an export's.
 */
bool frame_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len && len <= REPAGENT_NAME_MAX && *name != '.' && *name != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

/* ---- making a frame ------------------------------------------------------ */

/**
 * frame_begin - start a frame
 * @b: the builder
 * @buf: FRAME_MAX bytes, which the frame is made in
 * @h: group, generation, incarnation and first are taken from it
 */
void frame_begin(struct frame_builder *b, void *buf, const struct frame_header *h)
{
	memset(&b->h, 0, sizeof(b->h));
	memcpy(b->h.group, h->group, sizeof(b->h.group));
	b->h.generation = h->generation;
	b->h.incarnation = h->incarnation;
	b->h.first = h->first;
	b->h.last = h->first;
	b->buf = buf;
	b->len = FRAME_HEADER;
}

/**
 * frame_add_volume - say what a volume's id stands for
 * @b: a frame without records as yet
 * @v: the volume
 *
 * Return: false if the frame has no room, or has records.
 */
bool frame_add_volume(struct frame_builder *b, const struct frame_volume *v)
{
	uint8_t *p = b->buf + b->len;

	if (b->h.nr_records || b->h.nr_volumes == REPAGENT_MAX_VOLUMES ||
	    FRAME_MAX - b->len < FRAME_VOLUME)
		return false;
	memset(p, 0, FRAME_VOLUME);
	put16(p, v->id);
	put64(p + 8, v->sectors);
	memcpy(p + 16, v->name, strnlen(v->name, REPAGENT_NAME_MAX));
	b->len += FRAME_VOLUME;
	b->h.nr_volumes++;
	return true;
}

/**
 * frame_add_record - add a record
 * @b: the frame
 * @r: the record; its crc is not looked at. Its number is behind all that were added
 * @payload: r->len bytes
 *
 * Return: false if the frame has no room for it. An empty one has room for any.
 */
bool frame_add_record(struct frame_builder *b, const struct frame_record *r, const void *payload)
{
	size_t space = padded(r->len);
	uint8_t *p = b->buf + b->len;

	if (r->len > REPAGENT_MAX_RECORD || FRAME_MAX - b->len < FRAME_RECORD + space ||
	    r->seq - b->h.first > UINT32_MAX)
		return false;
	*p++ = r->type;
	*p++ = r->flags;
	p = put16(p, r->volume);
	p = put32(p, (uint32_t)r->aux);
	p = put64(p, r->sector);
	p = put64(p, r->nr_sectors);
	p = put64(p, r->time);
	p = put32(p, r->len);
	p = put32(p, r->len ? frame_crc(payload, r->len) : 0);
	p = put32(p, (uint32_t)(r->seq - b->h.first));
	p = put32(p, 0);
	if (r->len)
		memcpy(p, payload, r->len);
	memset(p + r->len, 0, space - r->len);
	b->len += FRAME_RECORD + space;
	b->h.nr_records++;
	b->h.last = r->seq;
	return true;
}

/**
 * frame_add_void - a sequence number that stands for nothing
 * @b: the frame
 * @seq: behind all that were added
 */
void frame_add_void(struct frame_builder *b, uint64_t seq)
{
	b->h.last = seq;
}

static void header_put(uint8_t *p, const struct frame_header *h)
{
	memset(p, 0, FRAME_HEADER);
	put64(p, FRAME_MAGIC);
	put32(p + 8, FRAME_VERSION);
	put32(p + 12, h->flags);
	memcpy(p + 16, h->group, sizeof(h->group));
	put64(p + 32, h->generation);
	put64(p + 40, h->incarnation);
	put64(p + 48, h->first);
	put64(p + 56, h->last);
	put64(p + 64, h->acked);
	put64(p + 72, h->offset);
	put32(p + 80, h->stored);
	put32(p + 84, h->raw);
	put32(p + 88, h->nr_volumes);
	put32(p + 92, h->nr_records);
	put32(p + 96, h->body_crc);
	put32(p + HEADER_CRC, frame_crc(p, HEADER_CRC));
}

/**
 * frame_end - finish a frame; frame_place() must still say where it goes
 * @b: the frame
 * @level: of zstd; 0: not compressed. Neither is what does not shrink
 * @scratch: FRAME_MAX bytes if @level is not 0
 *
 * Return: bytes of the frame, a multiple of FRAME_ALIGN.
 */
size_t frame_end(struct frame_builder *b, int level, void *scratch)
{
	size_t raw = b->len - FRAME_HEADER, stored = raw, packed, size;

	if (level && raw > FRAME_ALIGN) {
		packed = ZSTD_compress(scratch, FRAME_MAX, b->buf + FRAME_HEADER, raw, level);
		if (!ZSTD_isError(packed) && packed < raw) {
			memcpy(b->buf + FRAME_HEADER, scratch, packed);
			stored = packed;
			b->h.flags |= FRAME_ZSTD;
		}
	}
	b->h.stored = (uint32_t)stored;
	b->h.raw = (uint32_t)raw;
	b->h.body_crc = frame_crc(b->buf + FRAME_HEADER, stored);
	size = frame_size(&b->h);
	memset(b->buf + FRAME_HEADER + stored, 0, size - FRAME_HEADER - stored);
	header_put(b->buf, &b->h);
	return size;
}

/**
 * frame_place - say where in the log a finished frame goes
 * @frame: its bytes
 * @offset: in the log
 * @acked: see struct frame_header
 *
 * A frame that has to go elsewhere, in another session, is placed anew.
 */
void frame_place(void *frame, uint64_t offset, uint64_t acked)
{
	uint8_t *p = frame;

	put64(p + 64, acked);
	put64(p + 72, offset);
	put32(p + HEADER_CRC, frame_crc(p, HEADER_CRC));
}

/**
 * frame_hello - what a session begins with
 * @buf: FRAME_ALIGN bytes, to be written at 0
 * @group: uuid, or NULL: not known yet
 * @generation: 0: not known yet
 * @incarnation: of the ring
 *
 * Return: FRAME_ALIGN.
 */
size_t frame_hello(void *buf, const uint8_t *group, uint64_t generation, uint64_t incarnation)
{
	struct frame_header h = {
		.flags = FRAME_HELLO, .generation = generation, .incarnation = incarnation,
	};

	if (group)
		memcpy(h.group, group, sizeof(h.group));
	h.body_crc = frame_crc(NULL, 0);
	memset(buf, 0, FRAME_ALIGN);
	header_put(buf, &h);
	return FRAME_ALIGN;
}

/* ---- taking one apart ---------------------------------------------------- */

/**
 * frame_size - bytes of a whole frame
 * @h: a header that was parsed
 */
size_t frame_size(const struct frame_header *h)
{
	return (FRAME_HEADER + (size_t)h->stored + FRAME_ALIGN - 1) & ~(size_t)(FRAME_ALIGN - 1);
}

static bool header_check(const struct frame_header *h, char *error)
{
	bool hello = h->flags & FRAME_HELLO, packed = h->flags & FRAME_ZSTD;
	uint64_t least;

	if (h->flags & ~(FRAME_ZSTD | FRAME_HELLO) || (hello && packed))
		return frame_refuse(error, "flags 0x%" PRIx32 ": expected 0, %u (zstd) or %u (hello)", h->flags,
			      FRAME_ZSTD, FRAME_HELLO);
	if (!h->incarnation)
		return frame_refuse(error, "incarnation 0: expected another number");
	if (hello) {
		if (h->first || h->last || h->acked || h->offset || h->stored || h->raw || h->nr_volumes ||
		    h->nr_records)
			return frame_refuse(error, "a hello with records: expected none");
		return true;
	}
	if (!h->first || h->last < h->first || h->last - h->first > UINT32_MAX)
		return frame_refuse(error, "first %" PRIu64 ", last %" PRIu64 ": expected rising numbers from 1 on",
			      h->first, h->last);
	if (h->acked >= h->first)
		return frame_refuse(error, "acked %" PRIu64 ": expected a number below first, %" PRIu64, h->acked,
			      h->first);
	if (h->offset < SESSION_SIZE || h->offset % FRAME_ALIGN)
		return frame_refuse(error, "offset %" PRIu64 ": expected a multiple of %u from %u on", h->offset,
			      FRAME_ALIGN, SESSION_SIZE);
	if (h->stored > FRAME_BODY_MAX || h->raw > FRAME_BODY_MAX)
		return frame_refuse(error, "stored %" PRIu32 ", raw %" PRIu32 ": expected at most %u", h->stored, h->raw,
			      FRAME_BODY_MAX);
	if (packed ? h->stored >= h->raw : h->stored != h->raw)
		return frame_refuse(error, "stored %" PRIu32 ", raw %" PRIu32 ": expected %s", h->stored, h->raw,
			      packed ? "less stored than raw with zstd" : "the same without zstd");
	if (h->nr_volumes > REPAGENT_MAX_VOLUMES)
		return frame_refuse(error, "nr_volumes %" PRIu32 ": expected at most %d", h->nr_volumes,
			      REPAGENT_MAX_VOLUMES);
	least = (uint64_t)h->nr_volumes * FRAME_VOLUME + (uint64_t)h->nr_records * FRAME_RECORD;
	if (least > h->raw || (!h->nr_records && least != h->raw))
		return frame_refuse(error, "nr_volumes %" PRIu32 ", nr_records %" PRIu32 ": expected what fits into raw, %"
			      PRIu32, h->nr_volumes, h->nr_records, h->raw);
	if (h->nr_records > h->last - h->first + 1)
		return frame_refuse(error, "nr_records %" PRIu32 ": expected at most the numbers from first to last, %"
			      PRIu64, h->nr_records, h->last - h->first + 1);
	return true;
}

/**
 * frame_header_parse - take a header apart
 * @h: out
 * @data: FRAME_HEADER bytes
 * @error: FRAME_ERROR_MAX bytes for what is wrong
 *
 * Return: whether it is one. Then frame_size() is at most FRAME_MAX.
 */
bool frame_header_parse(struct frame_header *h, const void *data, char *error)
{
	const uint8_t *p = data;

	if (get64(p) != FRAME_MAGIC)
		return frame_refuse(error, "magic 0x%016" PRIx64 ": expected 0x%016" PRIx64 ", a frame", get64(p),
			      FRAME_MAGIC);
	if (get32(p + 8) != FRAME_VERSION)
		return frame_refuse(error, "version %" PRIu32 ": expected %u", get32(p + 8), FRAME_VERSION);
	if (get32(p + HEADER_CRC) != frame_crc(p, HEADER_CRC))
		return frame_refuse(error, "crc 0x%08" PRIx32 " of the header: expected 0x%08" PRIx32,
			      get32(p + HEADER_CRC), frame_crc(p, HEADER_CRC));
	if (!bytes_zero(p + HEADER_RESERVED, HEADER_CRC - HEADER_RESERVED))
		return frame_refuse(error, "reserved bytes of the header: expected zeroes");
	h->flags = get32(p + 12);
	memcpy(h->group, p + 16, sizeof(h->group));
	h->generation = get64(p + 32);
	h->incarnation = get64(p + 40);
	h->first = get64(p + 48);
	h->last = get64(p + 56);
	h->acked = get64(p + 64);
	h->offset = get64(p + 72);
	h->stored = get32(p + 80);
	h->raw = get32(p + 84);
	h->nr_volumes = get32(p + 88);
	h->nr_records = get32(p + 92);
	h->body_crc = get32(p + 96);
	return header_check(h, error);
}

/**
 * frame_open - check a frame's body, and begin to take it apart
 * @r: out
 * @h: its header
 * @stored: what stands behind that, frame_size(@h) - FRAME_HEADER bytes
 * @raw: FRAME_BODY_MAX bytes, which a compressed body is unpacked into; the
 *	 payloads are in there then, and in @stored else
 * @error: FRAME_ERROR_MAX bytes for what is wrong, now or later
 *
 * Return: whether it is whole.
 */
bool frame_open(struct frame_reader *r, const struct frame_header *h, const void *stored,
		void *raw, char *error)
{
	size_t space = frame_size(h) - FRAME_HEADER, n;

	if (frame_crc(stored, h->stored) != h->body_crc)
		return frame_refuse(error, "body_crc 0x%08" PRIx32 ": expected 0x%08" PRIx32, h->body_crc,
			      frame_crc(stored, h->stored));
	if (!bytes_zero((const uint8_t *)stored + h->stored, space - h->stored))
		return frame_refuse(error, "padding behind the body: expected zeroes");
	*r = (struct frame_reader){ .h = *h, .body = stored, .error = error };
	if (h->flags & FRAME_ZSTD) {
		n = ZSTD_decompress(raw, h->raw, stored, h->stored);
		if (ZSTD_isError(n))
			return frame_refuse(error, "the body cannot be unpacked: %s", ZSTD_getErrorName(n));
		if (n != h->raw)
			return frame_refuse(error, "raw %" PRIu32 ": expected %zu, which the body unpacks to", h->raw, n);
		r->body = raw;
	}
	return true;
}

/**
 * frame_next_volume - the next volume that a frame names
 * @r: the frame; all volumes come before the records
 * @v: out
 *
 * Return: 1; 0 if there are no more; -1 if it is none, and r->error says why.
 */
int frame_next_volume(struct frame_reader *r, struct frame_volume *v)
{
	const uint8_t *p = r->body + r->at;

	if (r->volumes == r->h.nr_volumes)
		return 0;
	r->volumes++;
	r->at += FRAME_VOLUME;
	v->id = get16(p);
	v->sectors = get64(p + 8);
	memcpy(v->name, p + 16, sizeof(v->name));
	if (!v->id || !bytes_zero(p + 2, 6)) {
		frame_refuse(r->error, "volume %" PRIu32 " of the frame: expected an id other than 0, and reserved zeroes",
		       r->volumes);
		return -1;
	}
	if (v->name[sizeof(v->name) - 1] || !frame_name_ok(v->name) ||
	    !bytes_zero((const uint8_t *)p + 16 + strlen(v->name), sizeof(v->name) - strlen(v->name))) {
		frame_refuse(r->error, "volume id %u: expected a name of 1 to %d of a-z A-Z 0-9 _ . - and zeroes behind it",
		       v->id, REPAGENT_NAME_MAX);
		return -1;
	}
	if (v->sectors > FRAME_MAX_SECTORS) {
		frame_refuse(r->error, "volume id %u: %" PRIu64 " sectors: expected at most %" PRIu64, v->id, v->sectors,
		       FRAME_MAX_SECTORS);
		return -1;
	}
	return 1;
}

/* What each type has: a volume, a range; a payload of the range's size. */
static const struct kind {
	const char *name;
	bool volume, range, data, size;
	uint8_t flags;
} kinds[REPAGENT_NR_TYPES] = {
	[REPAGENT_REC_WRITE]		= { "WRITE", true, true, true, false, REPAGENT_REC_FUA },
	[REPAGENT_REC_ZEROES]		= { "ZEROES", true, true, false, false, REPAGENT_REC_FUA },
	[REPAGENT_REC_DISCARD]		= { "DISCARD", true, true, false, false, 0 },
	[REPAGENT_REC_FLUSH]		= { "FLUSH", true, false, false, false, 0 },
	[REPAGENT_REC_CHECKPOINT]	= { "CHECKPOINT", false, false, false, false, 0 },
	[REPAGENT_REC_RESYNC]		= { "RESYNC", true, true, true, false, 0 },
	[REPAGENT_REC_RESYNC_BEGIN]	= { "RESYNC_BEGIN", true, false, false, true, 0 },
	[REPAGENT_REC_RESYNC_END]	= { "RESYNC_END", true, false, false, false, 0 },
	[REPAGENT_REC_VERIFY]		= { "VERIFY", true, true, true, false, 0 },
	[REPAGENT_REC_GAP]		= { "GAP", false, false, false, false, 0 },
	[REPAGENT_REC_VOLUME_ADD]	= { "VOLUME_ADD", true, false, false, true, 0 },
	[REPAGENT_REC_VOLUME_REMOVE]	= { "VOLUME_REMOVE", true, false, false, false, 0 },
	[REPAGENT_REC_VOLUME_RESIZE]	= { "VOLUME_RESIZE", true, false, false, true, 0 },
	[REPAGENT_REC_FAILED]		= { "FAILED", true, true, false, false, 0 },
	[REPAGENT_REC_SHUTDOWN]		= { "SHUTDOWN", false, false, false, false, 0 },
	[REPAGENT_REC_MAP_ERROR]	= { "MAP_ERROR", true, false, false, false, 0 },
	[REPAGENT_REC_MAP_OK]		= { "MAP_OK", true, false, false, false, 0 },
};

static bool record_check(const struct frame_record *rec, const uint8_t *p, char *error)
{
	const struct kind *k = rec->type < REPAGENT_NR_TYPES ? &kinds[rec->type] : NULL;
	bool label = rec->type == REPAGENT_REC_CHECKPOINT;

	if (!k || !k->name)
		return frame_refuse(error, "record %" PRIu64 ": type %u: expected 1 to %d", rec->seq, rec->type,
			      REPAGENT_NR_TYPES - 1);
	if (rec->flags & ~k->flags)
		return frame_refuse(error, "record %" PRIu64 ": %s with flags 0x%x: expected none but 0x%x", rec->seq,
			      k->name, rec->flags, k->flags);
	if (k->volume != !!rec->volume)
		return frame_refuse(error, "record %" PRIu64 ": %s of volume %u: expected %s", rec->seq, k->name,
			      rec->volume, k->volume ? "an id" : "0");
	if (k->range && (!rec->nr_sectors || rec->nr_sectors > FRAME_MAX_SECTORS ||
			 rec->sector > FRAME_MAX_SECTORS - rec->nr_sectors))
		return frame_refuse(error, "record %" PRIu64 ": %s of sectors %" PRIu64 " + %" PRIu64
			      ": expected at least one, and none beyond %" PRIu64, rec->seq, k->name,
			      rec->sector, rec->nr_sectors, FRAME_MAX_SECTORS);
	if (k->size && rec->nr_sectors > FRAME_MAX_SECTORS)
		return frame_refuse(error, "record %" PRIu64 ": %s to %" PRIu64 " sectors: expected at most %" PRIu64,
			      rec->seq, k->name, rec->nr_sectors, FRAME_MAX_SECTORS);
	if (rec->len > REPAGENT_MAX_RECORD || (k->data && rec->len != rec->nr_sectors * 512) ||
	    (label && (!rec->len || rec->len > REPAGENT_LABEL_MAX + 1)) ||
	    (!k->data && !label && rec->len))
		return frame_refuse(error, "record %" PRIu64 ": %s of %" PRIu64 " sectors with %" PRIu32
			      " bytes of payload: expected %s", rec->seq, k->name, rec->nr_sectors, rec->len,
			      k->data ? "as many as its range has, and at most 1 MiB" :
			      label ? "1 to 64" : "none");
	if (rec->crc != (rec->len ? frame_crc(p, rec->len) : 0))
		return frame_refuse(error, "record %" PRIu64 ": crc 0x%08" PRIx32 " of its payload: expected 0x%08" PRIx32,
			      rec->seq, rec->crc, rec->len ? frame_crc(p, rec->len) : 0);
	if (label && strnlen((const char *)p, rec->len) != rec->len - 1)
		return frame_refuse(error, "record %" PRIu64 ": CHECKPOINT: expected a label that ends with its payload",
			      rec->seq);
	return true;
}

/**
 * frame_next_record - the next record of a frame
 * @r: the frame, all volumes of which were taken
 * @rec: out
 * @payload: out: rec->len bytes, in the body
 *
 * Return: 1; 0 if there are no more; -1 if it is none, and r->error says why.
 */
int frame_next_record(struct frame_reader *r, struct frame_record *rec, const void **payload)
{
	size_t left = r->h.raw - r->at, space;
	const uint8_t *p = r->body + r->at;
	uint32_t delta;

	if (r->records == r->h.nr_records) {
		if (!left)
			return 0;
		frame_refuse(r->error, "%zu bytes behind the last record: expected none", left);
		return -1;
	}
	if (left < FRAME_RECORD) {
		frame_refuse(r->error, "record %" PRIu32 " of %" PRIu32 ": the body ends before it", r->records + 1,
		       r->h.nr_records);
		return -1;
	}
	rec->type = p[0];
	rec->flags = p[1];
	rec->volume = get16(p + 2);
	rec->aux = (int32_t)get32(p + 4);
	rec->sector = get64(p + 8);
	rec->nr_sectors = get64(p + 16);
	rec->time = get64(p + 24);
	rec->len = get32(p + 32);
	rec->crc = get32(p + 36);
	delta = get32(p + 40);
	rec->seq = r->h.first + delta;
	if (delta > r->h.last - r->h.first || (r->records && rec->seq <= r->seq)) {
		frame_refuse(r->error, "record %" PRIu32 ": seq %" PRIu64 ": expected rising numbers up to last, %" PRIu64,
		       r->records + 1, rec->seq, r->h.last);
		return -1;
	}
	left -= FRAME_RECORD;
	space = padded(rec->len);
	if (space > left) {
		frame_refuse(r->error, "record %" PRIu64 ": %" PRIu32 " bytes of payload: the body has %zu more", rec->seq,
		       rec->len, left);
		return -1;
	}
	if (get32(p + 44) || !bytes_zero(p + FRAME_RECORD + rec->len, space - rec->len)) {
		frame_refuse(r->error, "record %" PRIu64 ": reserved bytes or padding: expected zeroes", rec->seq);
		return -1;
	}
	if (!record_check(rec, p + FRAME_RECORD, r->error))
		return -1;
	*payload = p + FRAME_RECORD;
	r->at += FRAME_RECORD + space;
	r->records++;
	r->seq = rec->seq;
	return 1;
}

/* ---- the session block --------------------------------------------------- */

/**
 * session_encode - make a session block
 * @s: what it says
 * @block: SESSION_SIZE bytes
 */
void session_encode(const struct session *s, void *block)
{
	uint8_t *p = block;

	memset(p, 0, SESSION_SIZE);
	put64(p, SESSION_MAGIC);
	put32(p + 8, SESSION_VERSION);
	put32(p + 12, s->state);
	memcpy(p + 16, s->hub, sizeof(s->hub));
	memcpy(p + 32, s->group, sizeof(s->group));
	put64(p + 48, s->generation);
	put64(p + 56, s->offset);
	put64(p + 64, s->incarnation);
	put64(p + 72, s->seq);
	put64(p + 80, s->time);
	put32(p + 88, s->frame_max);
	put32(p + 92, (s->zstd ? BLOCK_ZSTD : 0) | (s->owes ? BLOCK_OWES : 0) |
	      (s->orders ? BLOCK_ORDERS : 0));
	memcpy(p + 96, s->name, strnlen(s->name, REPAGENT_NAME_MAX));
	memcpy(p + 128, s->reason, strnlen(s->reason, SESSION_REASON_MAX - 1));
	put64(p + 288, s->since);
	put32(p + BLOCK_CRC, frame_crc(p, BLOCK_CRC));
}

/**
 * session_decode - take a session block apart
 * @s: out
 * @block: SESSION_SIZE bytes
 * @error: FRAME_ERROR_MAX bytes for what is wrong
 *
 * Return: whether it is one.
 */
bool session_decode(struct session *s, const void *block, char *error)
{
	const uint8_t *p = block;
	uint32_t state = get32(p + 12), flags = get32(p + 92);

	memset(s, 0, sizeof(*s));
	if (get64(p) != SESSION_MAGIC)
		return frame_refuse(error, "magic 0x%016" PRIx64 ": expected 0x%016" PRIx64 ", a session block", get64(p),
			      SESSION_MAGIC);
	if (get32(p + 8) != SESSION_VERSION)
		return frame_refuse(error, "version %" PRIu32 ": expected %u", get32(p + 8), SESSION_VERSION);
	if (get32(p + BLOCK_CRC) != frame_crc(p, BLOCK_CRC))
		return frame_refuse(error, "crc 0x%08" PRIx32 " of the session block: expected 0x%08" PRIx32,
			      get32(p + BLOCK_CRC), frame_crc(p, BLOCK_CRC));
	if (!state || state >= SESSION_NR_STATES)
		return frame_refuse(error, "state %" PRIu32 ": expected 1 to %d", state, SESSION_NR_STATES - 1);
	if (flags & ~(BLOCK_ZSTD | BLOCK_OWES | BLOCK_ORDERS) || !bytes_zero(p + BLOCK_USED, BLOCK_CRC - BLOCK_USED))
		return frame_refuse(error, "flags 0x%" PRIx32 " or padding: expected 0 to 7, and zeroes", flags);
	s->state = (enum session_state)state;
	memcpy(s->hub, p + 16, sizeof(s->hub));
	memcpy(s->group, p + 32, sizeof(s->group));
	s->generation = get64(p + 48);
	s->offset = get64(p + 56);
	s->incarnation = get64(p + 64);
	s->seq = get64(p + 72);
	s->time = get64(p + 80);
	s->since = get64(p + 288);
	s->frame_max = get32(p + 88);
	s->zstd = flags & BLOCK_ZSTD;
	s->owes = flags & BLOCK_OWES;
	s->orders = flags & BLOCK_ORDERS;
	memcpy(s->name, p + 96, sizeof(s->name));
	memcpy(s->reason, p + 128, sizeof(s->reason));
	if (s->name[sizeof(s->name) - 1] || s->reason[sizeof(s->reason) - 1])
		return frame_refuse(error, "the name or the reason does not end");
	if (s->state != SESSION_ACCEPTING)
		return true;
	if (!s->generation || s->offset < SESSION_SIZE || s->offset % FRAME_ALIGN)
		return frame_refuse(error, "generation %" PRIu64 ", offset %" PRIu64
			      ": expected one that is not 0, and a multiple of %u from %u on", s->generation,
			      s->offset, FRAME_ALIGN, SESSION_SIZE);
	if (!s->incarnation != !s->seq)
		return frame_refuse(error, "position %" PRIu64 ":%" PRIu64 ": expected both or none to be 0",
			      s->incarnation, s->seq);
	if (s->frame_max > FRAME_MAX || s->frame_max < FRAME_HEADER + FRAME_RECORD + REPAGENT_MAX_RECORD)
		return frame_refuse(error, "frame_max %" PRIu32 ": expected room for any record, and at most %u",
			      s->frame_max, FRAME_MAX);
	return true;
}
