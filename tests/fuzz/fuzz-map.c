// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Any bytes as a write-intent map. The sectors' sums are set right first, so that
 * what stands behind them is reached; the input's first byte says where not.
 */
#include <stdlib.h>
#include <string.h>
#include <isa-l/crc.h>
#include <linux/dm-repagent-map.h>

#include "repctl/mapimage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *sector, uint64_t magic, uint32_t index)
{
	struct repagent_map_head head = { .magic = magic, .index = index };

	memcpy(sector, &head, sizeof(head));
	head.crc = ~crc32_iscsi(sector, REPAGENT_MAP_SECTOR, ~0u);
	memcpy(sector, &head, sizeof(head));
}

static void check_ranges(const struct map_ranges *r, uint64_t sectors)
{
	uint64_t end = 0;
	size_t i;

	for (i = 0; i < r->nr; i++) {
		if (r->range[i].sector < end || !r->range[i].nr_sectors ||
		    r->range[i].nr_sectors > sectors - r->range[i].sector)
			abort();
		end = r->range[i].sector + r->range[i].nr_sectors;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t sectors, i;
	struct map_image m;
	uint8_t *image, leave;

	if (!size)
		return 0;
	leave = *data++;
	size--;
	sectors = REPAGENT_MAP_BITS_AT + 4;
	image = calloc(sectors, REPAGENT_MAP_SECTOR);
	if (!image)
		return 0;
	/* The input goes round: into the superblocks, the log, the fine area, the bits. */
	for (i = 0; size && i < sectors; i++) {
		size_t n = size < REPAGENT_MAP_SECTOR ? size : REPAGENT_MAP_SECTOR;
		size_t at = i < 2 ? i * REPAGENT_MAP_SUPER_STEP :
			    i < 5 ? REPAGENT_MAP_LOG_AT + i - 2 :
			    i < 8 ? REPAGENT_MAP_FINE_AT + i - 5 : REPAGENT_MAP_BITS_AT + i - 8;

		if (at >= sectors)
			break;
		memcpy(image + at * REPAGENT_MAP_SECTOR, data, n);
		data += n;
		size -= n;
	}
	for (i = 0; i < sectors; i++) {
		uint8_t *s = image + i * REPAGENT_MAP_SECTOR;

		if (leave & 0x80 && i == (leave & 0x7f))
			continue;
		if (i == 0 || i == REPAGENT_MAP_SUPER_STEP)
			seal(s, REPAGENT_MAP_SUPER, 0);
		else if (i >= REPAGENT_MAP_BITS_AT)
			seal(s, REPAGENT_MAP_BITS, (uint32_t)i - REPAGENT_MAP_BITS_AT);
		else if (i >= REPAGENT_MAP_FINE_AT)
			seal(s, REPAGENT_MAP_FINE, (uint32_t)i - REPAGENT_MAP_FINE_AT);
		else if (i >= REPAGENT_MAP_LOG_AT)
			seal(s, REPAGENT_MAP_LOG, (uint32_t)i - REPAGENT_MAP_LOG_AT);
	}
	(void)map_image_size(image, sectors * REPAGENT_MAP_SECTOR);
	if (map_image_parse(&m, image, sectors * REPAGENT_MAP_SECTOR) && m.has_super) {
		check_ranges(&m.set, m.sectors);
		check_ranges(&m.lacks, m.sectors);
	}
	map_image_free(&m);
	free(image);
	return 0;
}
