/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk in memory with a volatile cache, and what is on it after a power cut.
 *
 * Each sector has what a read gives and what is safe: what a cut leaves for
 * sure. Of a sector that was written since it was last safe a cut leaves either.
 * A flush makes safe what the disk had when the flush came, and nothing later:
 * that is the least a disk has to do.
 *
 * The caller sees to it that only one thread at a time uses a disk.
 */
#ifndef UML_DISK_H
#define UML_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "../tools/libtest.h"

struct disk {
	uint64_t sectors;
	uint8_t *now;		/* what a read gives */
	uint8_t *safe;
	uint32_t *version;	/* of each sector's now */
	uint32_t *safe_version;
	uint32_t *doomed;	/* a version that no flush makes safe any more; 0: none */
	uint32_t versions;
};

struct disk_flush;		/* one that has begun */

void disk_init(struct disk *d, uint64_t sectors);

/* Anew: all of it is safe, and random or zeroes. */
void disk_reset(struct disk *d, struct rng *random);

/* @data NULL: zeroes. @fua: it is safe at once. */
void disk_write(struct disk *d, uint64_t sector, uint64_t nr, const void *data, bool fua);

/* A write that failed, or was on its way when the power went: any of its sectors may be written. */
void disk_write_some(struct disk *d, uint64_t sector, uint64_t nr, const void *data, struct rng *rng);

/*
 * A flush ends well, or fails: the disk forgets then that some of what it has is not
 * safe, and no later flush makes up for that. Both free it.
 */
struct disk_flush *disk_flush_begin(const struct disk *d);
void disk_flush_end(struct disk *d, struct disk_flush *f);
void disk_flush_fail(struct disk *d, struct disk_flush *f, struct rng *rng);

/* It writes out of its cache when it likes: this sector, perhaps. */
void disk_destage(struct disk *d, uint64_t sector);

void disk_lose_power(struct disk *d, struct rng *rng);

#endif /* UML_DISK_H */
