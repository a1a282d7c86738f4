/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a write-intent map's device holds: Documentation/map.md. */
#ifndef REPAGENT_MAPIMAGE_H
#define REPAGENT_MAPIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_ERROR_MAX	256

enum map_state {
	MAP_BLANK,		/* zeroes: the first resume formats it */
	MAP_FOREIGN,		/* something else */
	MAP_DAMAGED,		/* all of the volume is dirty; map_image.error says what is wrong */
	MAP_OWED,		/* it missed writes: all is dirty */
	MAP_UNCLEAN,		/* in use, or not stopped cleanly: what is set is dirty */
	MAP_CLEAN,		/* stopped cleanly: the fine ranges are dirty */
};

/* Ranges of the volume, sectors, in rising order. */
struct map_ranges {
	size_t nr;
	struct map_range {
		uint64_t sector;
		uint64_t nr_sectors;
	} *range;
};

/*
 * struct map_image - a map that was read.
 * @has_super:	there is a good superblock: what is read of it, from @group on, can be relied on
 * @regions:	that the volume has
 * @nr_set:	that are set, in the bits or the log
 * @set:	those, as ranges of the volume
 * @lacks:	what the hub lacks, should the volume be activated with this map
 */
struct map_image {
	enum map_state state;
	char error[MAP_ERROR_MAX];
	bool has_super;
	char group[32], volume[32];
	uint8_t group_uuid[16], volume_uuid[16], hub[16];
	uint64_t sectors, generation, seq;
	uint64_t durable_incarnation, durable_seq;
	uint32_t region_sectors;
	uint64_t regions, nr_set;
	struct map_ranges set, lacks;
};

uint64_t map_image_size(const void *image, size_t size);
bool map_image_parse(struct map_image *m, const void *image, size_t size);
void map_image_free(struct map_image *m);

#endif /* REPAGENT_MAPIMAGE_H */
