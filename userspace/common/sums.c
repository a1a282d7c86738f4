// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sums, orders and reports: from structures to bytes, and back with every byte checked.
 * Documentation/sums.md has the layout.
 */
#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <inttypes.h>

#include "bytes.h"
#include "sums.h"

#define HEADER_CRC	(SUMS_HEADER - 4)	/* where the crc lies */
#define HEADER_USED	104
#define WANT_CRC	(SUMS_WANT - 4)
#define WANT_USED	32
#define ORDER_NAME	56
#define ORDER_USED	88

/* What both blocks have: magic, version, a sum at their end, and zeroes before that. */
static bool block_check(const uint8_t *p, uint64_t magic, size_t used, size_t crc_at, char *error)
{
	if (get64(p) != magic)
		return frame_refuse(error, "magic 0x%016" PRIx64 ": expected 0x%016" PRIx64, get64(p), magic);
	if (get32(p + 8) != SUMS_VERSION)
		return frame_refuse(error, "version %" PRIu32 ": expected %u", get32(p + 8), SUMS_VERSION);
	if (get32(p + crc_at) != frame_crc(p, crc_at))
		return frame_refuse(error, "crc 0x%08" PRIx32 ": expected 0x%08" PRIx32, get32(p + crc_at), frame_crc(p, crc_at));
	if (!bytes_zero(p + used, crc_at - used))
		return frame_refuse(error, "padding: expected zeroes");
	return true;
}

static void put_name(uint8_t *p, const char *volume)
{
	memcpy(p, volume, strnlen(volume, REPAGENT_NAME_MAX));
}

static bool get_name(const uint8_t *p, char *volume, char *error)
{
	memcpy(volume, p, REPAGENT_NAME_MAX + 1);
	if (!volume[REPAGENT_NAME_MAX] && frame_name_ok(volume))
		return true;
	return frame_refuse(error, "volume: expected a name that ends");
}

/**
 * sums_header_encode - make the header of sums
 * @h: what it says
 * @block: SUMS_HEADER bytes
 */
void sums_header_encode(const struct sums_header *h, void *block)
{
	uint8_t *p = block;

	memset(p, 0, SUMS_HEADER);
	put64(p, SUMS_MAGIC);
	put32(p + 8, SUMS_VERSION);
	put32(p + 12, SUMS_BLOCK);
	memcpy(p + 16, h->hub, sizeof(h->hub));
	memcpy(p + 32, h->group, sizeof(h->group));
	put64(p + 48, h->incarnation);
	put64(p + 56, h->seq);
	put64(p + 64, h->bytes);
	put_name(p + 72, h->volume);
	put32(p + HEADER_CRC, frame_crc(p, HEADER_CRC));
}

/**
 * sums_header_decode - take the header of sums apart
 * @h: out
 * @block: SUMS_HEADER bytes
 * @error: FRAME_ERROR_MAX bytes for what is wrong
 *
 * Return: whether it is one.
 */
bool sums_header_decode(struct sums_header *h, const void *block, char *error)
{
	const uint8_t *p = block;

	memset(h, 0, sizeof(*h));
	if (!block_check(p, SUMS_MAGIC, HEADER_USED, HEADER_CRC, error))
		return false;
	if (get32(p + 12) != SUMS_BLOCK)
		return frame_refuse(error, "blocks of %" PRIu32 " bytes: expected %u", get32(p + 12), SUMS_BLOCK);
	memcpy(h->hub, p + 16, sizeof(h->hub));
	memcpy(h->group, p + 32, sizeof(h->group));
	h->incarnation = get64(p + 48);
	h->seq = get64(p + 56);
	h->bytes = get64(p + 64);
	if (!get_name(p + 72, h->volume, error))
		return false;
	if (!h->incarnation != !h->seq)
		return frame_refuse(error, "position %" PRIu64 ":%" PRIu64 ": expected both or none to be 0", h->incarnation, h->seq);
	if (h->bytes % 512 || h->bytes / 512 > FRAME_MAX_SECTORS)
		return frame_refuse(error, "bytes %" PRIu64 ": expected a multiple of 512, and at most 4 EiB", h->bytes);
	return true;
}

/**
 * sums_want_encode - ask for sums of a position
 * @incarnation: of the position
 * @seq: likewise
 * @buf: SUMS_WANT bytes
 */
void sums_want_encode(uint64_t incarnation, uint64_t seq, void *buf)
{
	uint8_t *p = buf;

	memset(p, 0, SUMS_WANT);
	put64(p, SUMS_WANT_MAGIC);
	put32(p + 8, SUMS_VERSION);
	put64(p + 16, incarnation);
	put64(p + 24, seq);
	put32(p + WANT_CRC, frame_crc(p, WANT_CRC));
}

/**
 * sums_want_decode - which position is asked for?
 * @incarnation: out
 * @seq: out
 * @buf: SUMS_WANT bytes
 * @error: FRAME_ERROR_MAX bytes for what is wrong
 *
 * Return: whether one is.
 */
bool sums_want_decode(uint64_t *incarnation, uint64_t *seq, const void *buf, char *error)
{
	const uint8_t *p = buf;

	if (!block_check(p, SUMS_WANT_MAGIC, WANT_USED, WANT_CRC, error))
		return false;
	*incarnation = get64(p + 16);
	*seq = get64(p + 24);
	if (get32(p + 12) || !*incarnation || !*seq)
		return frame_refuse(error, "position %" PRIu64 ":%" PRIu64 ", or what is reserved: expected numbers that are not 0, and zeroes",
			      *incarnation, *seq);
	return true;
}

/**
 * order_encode - make bytes of an order
 * @o: the order
 * @buf: ORDER_SIZE bytes
 */
void order_encode(const struct order *o, void *buf)
{
	uint8_t *p = buf;

	memset(p, 0, ORDER_SIZE);
	put64(p, ORDER_MAGIC);
	put32(p + 8, SUMS_VERSION);
	if (o->serial) {
		put32(p + 12, 1);
		put64(p + 16, o->serial);
		put64(p + 24, o->from);
		put64(p + 32, o->rate);
		put_name(p + ORDER_NAME, o->volume);
	}
	put32(p + WANT_CRC, frame_crc(p, WANT_CRC));
}

/**
 * order_decode - take an order apart
 * @o: out
 * @buf: ORDER_SIZE bytes
 * @error: FRAME_ERROR_MAX bytes for what is wrong
 *
 * Return: whether it is one, or says that there is none.
 */
bool order_decode(struct order *o, const void *buf, char *error)
{
	const uint8_t *p = buf;

	memset(o, 0, sizeof(*o));
	if (!block_check(p, ORDER_MAGIC, ORDER_USED, WANT_CRC, error))
		return false;
	if (!get32(p + 12))
		return bytes_zero(p + 16, WANT_CRC - 16) || frame_refuse(error, "no order, and not zeroes: expected one of both");
	o->serial = get64(p + 16);
	o->from = get64(p + 24);
	o->rate = get64(p + 32);
	if (get32(p + 12) != 1 || !o->serial || !bytes_zero(p + 40, ORDER_NAME - 40))
		return frame_refuse(error, "order %" PRIu32 ", serial %" PRIu64 ", or what is reserved: expected 1, a number that is not 0, and zeroes",
			      get32(p + 12), o->serial);
	return get_name(p + ORDER_NAME, o->volume, error);
}

/**
 * report_encode - make bytes of a report
 * @r: the report
 * @buf: ORDER_SIZE bytes
 */
void report_encode(const struct verify_report *r, void *buf)
{
	uint8_t *p = buf;

	memset(p, 0, ORDER_SIZE);
	put64(p, REPORT_MAGIC);
	put32(p + 8, SUMS_VERSION);
	put32(p + 12, r->state);
	put64(p + 16, r->serial);
	put64(p + 24, r->reached);
	put64(p + 32, r->differed);
	put64(p + 40, r->unrepaired);
	put64(p + 48, r->skipped);
	put_name(p + ORDER_NAME, r->volume);
	put32(p + WANT_CRC, frame_crc(p, WANT_CRC));
}

/**
 * report_decode - take a report apart
 * @r: out
 * @buf: ORDER_SIZE bytes
 * @error: FRAME_ERROR_MAX bytes for what is wrong
 *
 * Return: whether it is one.
 */
bool report_decode(struct verify_report *r, const void *buf, char *error)
{
	const uint8_t *p = buf;

	memset(r, 0, sizeof(*r));
	if (!block_check(p, REPORT_MAGIC, ORDER_USED, WANT_CRC, error))
		return false;
	if (!get32(p + 12) || get32(p + 12) >= REPORT_NR_STATES)
		return frame_refuse(error, "state %" PRIu32 ": expected 1 to %d", get32(p + 12), REPORT_NR_STATES - 1);
	r->state = (enum report_state)get32(p + 12);
	r->serial = get64(p + 16);
	r->reached = get64(p + 24);
	r->differed = get64(p + 32);
	r->unrepaired = get64(p + 40);
	r->skipped = get64(p + 48);
	return get_name(p + ORDER_NAME, r->volume, error);
}

/**
 * sums_blocks - how many sums a volume has
 * @bytes: its size
 */
uint64_t sums_blocks(uint64_t bytes)
{
	return bytes / SUMS_BLOCK + (bytes % SUMS_BLOCK != 0);
}

/**
 * sums_of - the sum of a block
 * @block: its bytes
 * @len: so many, at least one
 * @sum: out: SUM_SIZE bytes; zeroes for nothing but zeroes, else the beginning of the SHA-256
 *
 * Return: false if it cannot be computed.
 */
bool sums_of(const void *block, size_t len, uint8_t *sum)
{
	const uint8_t *p = block;
	uint8_t all[32];

	memset(sum, 0, SUM_SIZE);
	if (!*p && !memcmp(p, p + 1, len - 1))
		return true;
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, block, len, all))
		return false;
	memcpy(sum, all, SUM_SIZE);
	return true;
}
