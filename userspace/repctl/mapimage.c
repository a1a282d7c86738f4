// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads a write-intent map as the kernel does. Nothing in it is believed before
 * it was checked: it may be anybody's bytes.
 */
#include <endian.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/dm-repagent-map.h>

#include "mapimage.h"

#define SECTOR		REPAGENT_MAP_SECTOR
#define REGIONS_MAX	(128u << 20)

static const uint8_t *sector_at(const void *image, uint64_t sector)
{
	return (const uint8_t *)image + sector * SECTOR;
}

static bool sealed(const uint8_t *sector, uint64_t magic, uint32_t index)
{
	struct repagent_map_head head;
	uint8_t copy[SECTOR];

	memcpy(copy, sector, SECTOR);
	memcpy(&head, copy, sizeof(head));
	memset(copy + offsetof(struct repagent_map_head, crc), 0, sizeof(head.crc));
	return le64toh(head.magic) == magic && le32toh(head.index) == index &&
	       le32toh(head.crc) == ~crc32_iscsi(copy, SECTOR, ~0u);
}

static __attribute__((format(printf, 2, 3))) bool damaged(struct map_image *m, const char *fmt, ...)
{
	va_list ap;

	m->state = MAP_DAMAGED;
	va_start(ap, fmt);
	vsnprintf(m->error, sizeof(m->error), fmt, ap);
	va_end(ap);
	return true;
}

static bool add_range(struct map_ranges *to, uint64_t sector, uint64_t nr_sectors)
{
	struct map_range *r = to->range;

	if (to->nr && r[to->nr - 1].sector + r[to->nr - 1].nr_sectors == sector) {
		r[to->nr - 1].nr_sectors += nr_sectors;
		return true;
	}
	if (!(to->nr & (to->nr - 1))) {
		r = realloc(r, (to->nr ? 2 * to->nr : 1) * sizeof(*r));
		if (!r)
			return false;
		to->range = r;
	}
	r[to->nr++] = (struct map_range){ sector, nr_sectors };
	return true;
}

/* The superblock that counts, or NULL. @good: of the two. */
static const uint8_t *find_super(const void *image, bool *good)
{
	const uint8_t *best = NULL;
	uint64_t best_seq = 0;
	struct repagent_map_super s;
	unsigned int i;

	for (i = 0; i < REPAGENT_MAP_SUPERS; i++) {
		const uint8_t *at = sector_at(image, i * REPAGENT_MAP_SUPER_STEP);

		memcpy(&s, at, sizeof(s));
		good[i] = sealed(at, REPAGENT_MAP_SUPER, 0) &&
			  le64toh(s.seq) % REPAGENT_MAP_SUPERS == i;
		if (good[i] && (!best || le64toh(s.seq) > best_seq)) {
			best = at;
			best_seq = le64toh(s.seq);
		}
	}
	return best;
}

/**
 * map_image_size - how much of a device belongs to its map
 * @image: its beginning
 * @size: at least REPAGENT_MAP_LOG_AT sectors of it, bytes
 *
 * Return: bytes; only the beginning where that is no map.
 */
uint64_t map_image_size(const void *image, size_t size)
{
	bool good[REPAGENT_MAP_SUPERS];
	struct repagent_map_super s;
	const uint8_t *at;

	if (size < REPAGENT_MAP_LOG_AT * SECTOR)
		return REPAGENT_MAP_LOG_AT * SECTOR;
	at = find_super(image, good);
	if (!at)
		return REPAGENT_MAP_LOG_AT * SECTOR;
	memcpy(&s, at, sizeof(s));
	return ((uint64_t)REPAGENT_MAP_BITS_AT + le32toh(s.nr_bits)) * SECTOR;
}

/* The fields of the superblock, and whether they fit together. */
static bool take_super(struct map_image *m, const struct repagent_map_super *s, size_t size)
{
	uint64_t bits = le32toh(s->nr_bits);

	if (le32toh(s->version) != REPAGENT_MAP_VERSION)
		return damaged(m, "version %" PRIu32 ": expected %d", le32toh(s->version),
			       REPAGENT_MAP_VERSION), false;
	if (strnlen((const char *)s->group, sizeof(s->group)) == sizeof(s->group) ||
	    strnlen((const char *)s->volume, sizeof(s->volume)) == sizeof(s->volume))
		return damaged(m, "a name does not end"), false;
	memcpy(m->group, s->group, sizeof(m->group));
	memcpy(m->volume, s->volume, sizeof(m->volume));
	memcpy(m->group_uuid, s->group_uuid, sizeof(m->group_uuid));
	memcpy(m->volume_uuid, s->volume_uuid, sizeof(m->volume_uuid));
	memcpy(m->hub, s->hub, sizeof(m->hub));
	m->seq = le64toh(s->seq);
	m->sectors = le64toh(s->sectors);
	m->generation = le64toh(s->generation);
	m->durable_incarnation = le64toh(s->durable_incarnation);
	m->durable_seq = le64toh(s->durable_seq);
	m->region_sectors = le32toh(s->region_sectors);
	if (!m->region_sectors || m->region_sectors & (m->region_sectors - 1))
		return damaged(m, "regions of %" PRIu32 " sectors: expected a power of two",
			       m->region_sectors), false;
	m->regions = m->sectors / m->region_sectors + !!(m->sectors % m->region_sectors);
	if (!m->regions || m->regions > REGIONS_MAX ||
	    bits != (m->regions + REPAGENT_MAP_REGIONS - 1) / REPAGENT_MAP_REGIONS)
		return damaged(m, "%" PRIu64 " sectors in %" PRIu64 " regions in %" PRIu64 " sectors of bits do not fit together",
			       m->sectors, m->regions, bits), false;
	if ((REPAGENT_MAP_BITS_AT + bits) * SECTOR > size)
		return damaged(m, "the device ends at %zu bytes: expected %" PRIu64, size,
			       (REPAGENT_MAP_BITS_AT + bits) * SECTOR), false;
	m->has_super = true;
	return true;
}

static bool read_bits(struct map_image *m, const void *image, uint8_t *set, uint64_t nr_bits)
{
	uint64_t i;

	for (i = 0; i < nr_bits; i++) {
		const uint8_t *at = sector_at(image, REPAGENT_MAP_BITS_AT + i);

		if (!sealed(at, REPAGENT_MAP_BITS, (uint32_t)i))
			return damaged(m, "sector %" PRIu64 ": the bits there are not what was written",
				       REPAGENT_MAP_BITS_AT + i), false;
		memcpy(set + i * REPAGENT_MAP_BITS_BYTES,
		       at + offsetof(struct repagent_map_bits, bits), REPAGENT_MAP_BITS_BYTES);
	}
	return true;
}

static bool read_log(struct map_image *m, const void *image, uint8_t *set, uint64_t tail)
{
	unsigned int i, k;

	for (i = 0; i < REPAGENT_MAP_LOG_NR; i++) {
		struct repagent_map_log log;
		uint64_t seq;
		uint32_t nr;

		memcpy(&log, sector_at(image, REPAGENT_MAP_LOG_AT + i), sizeof(log));
		seq = le64toh(log.seq);
		nr = le32toh(log.nr);
		if (!sealed(sector_at(image, REPAGENT_MAP_LOG_AT + i), REPAGENT_MAP_LOG, i) ||
		    nr > REPAGENT_MAP_LOG_RUNS)
			return damaged(m, "sector %u: the log there is not what was written",
				       REPAGENT_MAP_LOG_AT + i), false;
		if (seq < tail)
			continue;
		if (seq - tail >= REPAGENT_MAP_LOG_NR || seq % REPAGENT_MAP_LOG_NR != i)
			return damaged(m, "sector %u: log number %" PRIu64 " is out of place",
				       REPAGENT_MAP_LOG_AT + i, seq), false;
		for (k = 0; k < nr; k++) {
			uint32_t first = le32toh(log.run[k].first), count = le32toh(log.run[k].count);

			if (!count || first >= m->regions || count > m->regions - first)
				return damaged(m, "sector %u: the log names regions %" PRIu32 " + %" PRIu32 ", and there are %" PRIu64,
					       REPAGENT_MAP_LOG_AT + i, first, count, m->regions), false;
			for (; count; count--, first++)
				set[first / 8] |= (uint8_t)(1 << first % 8);
		}
	}
	return true;
}

static bool read_fine(struct map_image *m, const void *image, uint32_t nr_fine)
{
	uint64_t end = 0;
	uint32_t i, k;

	if (nr_fine > REPAGENT_MAP_FINE_NR)
		return damaged(m, "%" PRIu32 " sectors of fine ranges: expected at most %d", nr_fine,
			       REPAGENT_MAP_FINE_NR), false;
	for (i = 0; i < nr_fine; i++) {
		struct repagent_map_fine f;

		memcpy(&f, sector_at(image, REPAGENT_MAP_FINE_AT + i), sizeof(f));
		if (!sealed(sector_at(image, REPAGENT_MAP_FINE_AT + i), REPAGENT_MAP_FINE, i) ||
		    le32toh(f.nr) > REPAGENT_MAP_EXTENTS)
			return damaged(m, "sector %" PRIu32 ": the fine ranges there are not what was written",
				       REPAGENT_MAP_FINE_AT + i), false;
		for (k = 0; k < le32toh(f.nr); k++) {
			uint64_t sector = le64toh(f.extent[k].sector);
			uint64_t n = le64toh(f.extent[k].nr_sectors);

			if (!n || sector < end || sector >= m->sectors || n > m->sectors - sector)
				return damaged(m, "sector %" PRIu32 ": fine range %" PRIu64 " + %" PRIu64 " is none of the volume",
					       REPAGENT_MAP_FINE_AT + i, sector, n), false;
			end = sector + n;
			if (!add_range(&m->lacks, sector, n))
				return false;
		}
	}
	return true;
}

static bool take_set(struct map_image *m, const uint8_t *set)
{
	uint64_t r;

	for (r = 0; r < m->regions; r++) {
		uint64_t sector = r * m->region_sectors;
		uint64_t n = m->sectors - sector < m->region_sectors ? m->sectors - sector :
			     m->region_sectors;

		if (!(set[r / 8] & 1 << r % 8))
			continue;
		m->nr_set++;
		if (!add_range(&m->set, sector, n))
			return false;
	}
	return true;
}

/* Return false only if memory ran out. */
static bool parse(struct map_image *m, const void *image, size_t size)
{
	bool good[REPAGENT_MAP_SUPERS], ok;
	struct repagent_map_super s;
	const uint8_t *best;
	uint8_t *set;
	size_t i;

	if (size < REPAGENT_MAP_BITS_AT * SECTOR)
		return damaged(m, "the device has %zu bytes: expected at least %d", size,
			       (REPAGENT_MAP_BITS_AT + 1) * SECTOR);
	for (i = 0; i < REPAGENT_MAP_LOG_AT * SECTOR && !((const uint8_t *)image)[i]; i++)
		;
	if (i == REPAGENT_MAP_LOG_AT * SECTOR) {
		m->state = MAP_BLANK;
		return true;
	}
	best = find_super(image, good);
	if (!best) {
		struct repagent_map_head head[2];

		memcpy(&head[0], image, sizeof(head[0]));
		memcpy(&head[1], sector_at(image, REPAGENT_MAP_SUPER_STEP), sizeof(head[1]));
		if (le64toh(head[0].magic) != REPAGENT_MAP_SUPER &&
		    le64toh(head[1].magic) != REPAGENT_MAP_SUPER) {
			m->state = MAP_FOREIGN;
			return true;
		}
		return damaged(m, "neither superblock is what was written");
	}
	memcpy(&s, best, sizeof(s));
	if (!take_super(m, &s, size))
		return true;
	if (!good[0] || !good[1])
		return damaged(m, "sector %d: the superblock there is not what was written",
			       good[0] ? REPAGENT_MAP_SUPER_STEP : 0);
	set = calloc(le32toh(s.nr_bits), REPAGENT_MAP_BITS_BYTES);
	if (!set)
		return false;
	m->state = le32toh(s.flags) & REPAGENT_MAP_OWED ? MAP_OWED :
		   le32toh(s.flags) & REPAGENT_MAP_CLEAN ? MAP_CLEAN : MAP_UNCLEAN;
	ok = read_bits(m, image, set, le32toh(s.nr_bits)) &&
	     read_log(m, image, set, le64toh(s.log_tail)) &&
	     (m->state != MAP_CLEAN || read_fine(m, image, le32toh(s.nr_fine)));
	if (ok)
		ok = take_set(m, set);
	else
		ok = m->state == MAP_DAMAGED;
	free(set);
	return ok;
}

/**
 * map_image_parse - read a map
 * @m: out; to be freed with map_image_free() in any case
 * @image: what the device holds, from its start
 * @size: bytes
 *
 * Return: false if memory ran out; else @m->state says what it is.
 */
bool map_image_parse(struct map_image *m, const void *image, size_t size)
{
	size_t i;

	memset(m, 0, sizeof(*m));
	if (!parse(m, image, size))
		return false;
	switch (m->state) {
	case MAP_DAMAGED:
	case MAP_OWED:
		m->lacks.nr = 0;
		return !m->has_super || add_range(&m->lacks, 0, m->sectors);
	case MAP_UNCLEAN:
		for (i = 0; i < m->set.nr; i++)
			if (!add_range(&m->lacks, m->set.range[i].sector, m->set.range[i].nr_sectors))
				return false;
		return true;
	default:
		return true;
	}
}

/**
 * map_image_free - free what map_image_parse() made
 * @m: the map
 */
void map_image_free(struct map_image *m)
{
	free(m->set.range);
	free(m->lacks.range);
}
