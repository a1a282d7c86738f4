// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>
#include <string.h>

#include "libdep.h"
#include "libtest.h"

static uint32_t dep_crc(const uint8_t *block)
{
	const size_t at = offsetof(struct dep_header, crc);
	const uint32_t zero = 0;
	uint32_t crc;

	crc = crc32c(0, block, at);
	crc = crc32c(crc, &zero, sizeof(zero));
	return crc32c(crc, block + at + sizeof(zero), DEP_BLOCK - at - sizeof(zero));
}

void dep_fill(void *block, uint32_t thread, enum dep_side side, uint64_t n,
	      uint64_t offset, uint32_t slots)
{
	struct dep_header h = {
		.magic = DEP_MAGIC,
		.n = n,
		.offset = offset,
		.thread = thread,
		.side = side,
		.slots = slots,
	};
	struct rng r;

	rng_seed(&r, n * DEP_MAX_THREADS * DEP_SIDES + thread * DEP_SIDES + side);
	rng_fill(&r, (uint8_t *)block + sizeof(h), DEP_BLOCK - sizeof(h));
	memcpy(block, &h, sizeof(h));
	h.crc = dep_crc(block);
	memcpy(block, &h, sizeof(h));
}

const struct dep_header *dep_parse(const void *block, bool *bad)
{
	const struct dep_header *h = block;

	*bad = false;
	if (h->magic != DEP_MAGIC)
		return NULL;
	*bad = h->thread >= DEP_MAX_THREADS || h->side >= DEP_SIDES || !h->slots ||
	       h->slots > DEP_MAX_SLOTS || !h->n || h->crc != dep_crc(block);
	return h;
}

__attribute__((format(printf, 2, 3)))
static void dep_error(struct dep_checker *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	c->errors++;
	if (!c->report)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->report(c->ctx, text);
}

static void dep_step(struct dep_checker *c, const struct dep_header *h)
{
	uint64_t a = c->high[h->thread][DEP_A], b = c->high[h->thread][DEP_B];
	uint64_t was = c->slot[h->thread][h->side][h->n % c->slots];
	uint64_t ought = h->n > c->slots ? h->n - c->slots : 0;
	char side = h->side == DEP_A ? 'A' : 'B';

	c->steps++;
	if (h->side == DEP_A && (a != h->n - 1 || b != h->n - 1))
		dep_error(c, "thread %u: A(%llu) came where A(%llu), B(%llu) were the last",
			  h->thread, (unsigned long long)h->n, (unsigned long long)a,
			  (unsigned long long)b);
	if (h->side == DEP_B && (a != h->n || b != h->n - 1))
		dep_error(c, "thread %u: B(%llu) came where A(%llu), B(%llu) were the last",
			  h->thread, (unsigned long long)h->n, (unsigned long long)a,
			  (unsigned long long)b);
	if (was != ought)
		dep_error(c, "thread %u: %c(%llu) came over %c(%llu)", h->thread, side,
			  (unsigned long long)h->n, side, (unsigned long long)was);
}

static void dep_remember(struct dep_checker *c, const struct dep_header *h)
{
	uint64_t *slot = c->slot[h->thread][h->side];
	uint64_t high = 0;

	/* A resync may show an older block than a torn prefix did: no max(). */
	slot[h->n % c->slots] = h->n;
	for (uint32_t i = 0; i < c->slots; i++)
		if (slot[i] > high)
			high = slot[i];
	c->high[h->thread][h->side] = high;
}

void dep_feed(struct dep_checker *c, const void *payload, size_t len, uint64_t offset,
	      bool check)
{
	const uint8_t *p = payload;
	size_t skip = (DEP_BLOCK - offset % DEP_BLOCK) % DEP_BLOCK;

	for (size_t at = skip; at + DEP_BLOCK <= len; at += DEP_BLOCK) {
		const struct dep_header *h;
		bool bad;

		h = dep_parse(p + at, &bad);
		if (!h)
			continue;
		c->blocks++;
		if (bad) {
			dep_error(c, "the block at byte %llu has a bad checksum or header",
				  (unsigned long long)(offset + at));
			continue;
		}
		if (h->offset != offset + at) {
			dep_error(c, "the block for byte %llu is at byte %llu",
				  (unsigned long long)h->offset,
				  (unsigned long long)(offset + at));
			continue;
		}
		if (!c->slots)
			c->slots = h->slots;
		if (h->slots != c->slots) {
			dep_error(c, "a block of another run is at byte %llu",
				  (unsigned long long)(offset + at));
			continue;
		}
		if (check)
			dep_step(c, h);
		dep_remember(c, h);
	}
}

void dep_check_image(struct dep_checker *c)
{
	c->images++;
	for (uint32_t t = 0; t < DEP_MAX_THREADS; t++) {
		uint64_t a = c->high[t][DEP_A], b = c->high[t][DEP_B];

		if (b > a)
			dep_error(c, "thread %u: the image has B(%llu) without A(%llu)", t,
				  (unsigned long long)b, (unsigned long long)b);
		else if (a > b + 1)
			dep_error(c, "thread %u: the image has A(%llu) without B(%llu)", t,
				  (unsigned long long)a, (unsigned long long)a - 1);

		for (int side = 0; side < DEP_SIDES; side++) {
			uint64_t high = c->high[t][side];

			for (uint64_t back = 0; back < c->slots && back < high; back++) {
				uint64_t n = high - back;

				if (c->slot[t][side][n % c->slots] == n)
					continue;
				dep_error(c, "thread %u: the image has %c(%llu) without %c(%llu)",
					  t, side ? 'B' : 'A', (unsigned long long)high,
					  side ? 'B' : 'A', (unsigned long long)n);
				break;
			}
		}
	}
}
