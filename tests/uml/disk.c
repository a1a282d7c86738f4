// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "disk.h"

struct disk_flush {
	uint32_t nr;
	struct saved {
		uint32_t sector, version;
		uint8_t data[SECTOR];
	} saved[];
};

static void *must_alloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("out of memory");
	return p;
}

void disk_init(struct disk *d, uint64_t sectors)
{
	*d = (struct disk){
		.sectors = sectors,
		.now = must_alloc(sectors, SECTOR),
		.safe = must_alloc(sectors, SECTOR),
		.version = must_alloc(sectors, sizeof(uint32_t)),
		.safe_version = must_alloc(sectors, sizeof(uint32_t)),
		.doomed = must_alloc(sectors, sizeof(uint32_t)),
	};
}

static void forget_versions(struct disk *d)
{
	memset(d->version, 0, d->sectors * sizeof(uint32_t));
	memset(d->safe_version, 0, d->sectors * sizeof(uint32_t));
	memset(d->doomed, 0, d->sectors * sizeof(uint32_t));
	d->versions = 0;
}

void disk_reset(struct disk *d, struct rng *random)
{
	if (random)
		rng_fill(random, d->now, d->sectors * SECTOR);
	else
		memset(d->now, 0, d->sectors * SECTOR);
	memcpy(d->safe, d->now, d->sectors * SECTOR);
	forget_versions(d);
}

static uint8_t *at(uint8_t *image, uint64_t sector)
{
	return image + sector * SECTOR;
}

static void make_safe(struct disk *d, uint64_t sector, uint32_t version, const void *data)
{
	if (version <= d->safe_version[sector] || version == d->doomed[sector])
		return;
	memcpy(at(d->safe, sector), data, SECTOR);
	d->safe_version[sector] = version;
}

static void write_sector(struct disk *d, uint64_t sector, const void *data, bool fua)
{
	if (data)
		memcpy(at(d->now, sector), data, SECTOR);
	else
		memset(at(d->now, sector), 0, SECTOR);
	d->version[sector] = ++d->versions;
	if (fua)
		disk_destage(d, sector);
}

void disk_write(struct disk *d, uint64_t sector, uint64_t nr, const void *data, bool fua)
{
	for (uint64_t i = 0; i < nr; i++)
		write_sector(d, sector + i, data ? (const uint8_t *)data + i * SECTOR : NULL, fua);
}

void disk_write_some(struct disk *d, uint64_t sector, uint64_t nr, const void *data, struct rng *rng)
{
	uint64_t quarters = rng_below(rng, 5);

	for (uint64_t i = 0; i < nr; i++)
		if (rng_below(rng, 4) < quarters)
			write_sector(d, sector + i, data ? (const uint8_t *)data + i * SECTOR : NULL,
				     rng_below(rng, 2));
}

struct disk_flush *disk_flush_begin(const struct disk *d)
{
	struct disk_flush *f;
	uint32_t nr = 0;

	for (uint64_t s = 0; s < d->sectors; s++)
		nr += d->version[s] > d->safe_version[s];
	f = malloc(sizeof(*f) + nr * sizeof(*f->saved));
	if (!f)
		die("out of memory");
	f->nr = 0;
	for (uint64_t s = 0; s < d->sectors; s++) {
		if (d->version[s] <= d->safe_version[s])
			continue;
		f->saved[f->nr].sector = (uint32_t)s;
		f->saved[f->nr].version = d->version[s];
		memcpy(f->saved[f->nr++].data, at(d->now, s), SECTOR);
	}
	return f;
}

void disk_flush_end(struct disk *d, struct disk_flush *f)
{
	for (uint32_t i = 0; i < f->nr; i++)
		make_safe(d, f->saved[i].sector, f->saved[i].version, f->saved[i].data);
	free(f);
}

void disk_flush_fail(struct disk *d, struct disk_flush *f, struct rng *rng)
{
	for (uint32_t i = 0; i < f->nr; i++) {
		const struct saved *s = &f->saved[i];

		if (s->version > d->safe_version[s->sector] && rng_below(rng, 2))
			d->doomed[s->sector] = s->version;
	}
	free(f);
}

void disk_destage(struct disk *d, uint64_t sector)
{
	make_safe(d, sector, d->version[sector], at(d->now, sector));
}

void disk_lose_power(struct disk *d, struct rng *rng)
{
	uint64_t quarters = rng_below(rng, 5);

	for (uint64_t s = 0; s < d->sectors; s++)
		if (d->version[s] > d->safe_version[s] && rng_below(rng, 4) < quarters)
			disk_destage(d, s);
	memcpy(d->now, d->safe, d->sectors * SECTOR);
	forget_versions(d);
}
