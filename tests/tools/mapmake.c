// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * mapmake - the write-intent map of a volume that was stopped cleanly and lacks
 * nothing at the hub, as if its first sync had ended; for volumes so large that
 * no test waits for one. Writes to a file or device from its start.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/dm-repagent-map.h>

#include "libtest.h"

static const char usage[] =
"usage: mapmake [OPTION]... GROUP VOLUME FILE\n"
"\n"
"  --sectors N     size of the volume\n"
"  --region KIB    default: 1024\n";

static int fd;
static const char *name;

static void put(void *sector, uint64_t magic, uint32_t index, uint64_t at)
{
	struct repagent_map_head *head = sector;

	head->magic = htole64(magic);
	head->index = htole32(index);
	head->crc = 0;
	head->crc = htole32(crc32c(0, sector, SECTOR));
	if (pwrite(fd, sector, SECTOR, (off_t)(at * SECTOR)) != SECTOR)
		die("%s: %s", name, errno ? strerror(errno) : "it is too small");
}

int main(int argc, char **argv)
{
	struct repagent_map_super super = { 0 };
	struct repagent_map_bits bits = { 0 };
	struct repagent_map_log log = { 0 };
	uint64_t sectors = 0, region = 1024, regions;
	uint32_t i, nr_bits;
	char **names;

	names = parse_options(argc, argv, (const struct tool_option[]){
		{ "sectors", OPT_NUMBER, { &sectors } },
		{ "region", OPT_NUMBER, { &region } },
		{ }
	}, usage, 3);
	if (!sectors || !region || region & (region - 1))
		die("expected --sectors, and a power of two for --region");
	name = names[2];
	fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	regions = (sectors + 2 * region - 1) / (2 * region);
	nr_bits = (uint32_t)((regions + REPAGENT_MAP_REGIONS - 1) / REPAGENT_MAP_REGIONS);
	for (i = 0; i < REPAGENT_MAP_LOG_NR; i++)
		put(&log, REPAGENT_MAP_LOG, i, REPAGENT_MAP_LOG_AT + i);
	for (i = 0; i < nr_bits; i++)
		put(&bits, REPAGENT_MAP_BITS, i, REPAGENT_MAP_BITS_AT + i);
	super.version = htole32(REPAGENT_MAP_VERSION);
	super.flags = htole32(REPAGENT_MAP_CLEAN);
	super.sectors = htole64(sectors);
	super.region_sectors = htole32((uint32_t)(2 * region));
	super.nr_bits = htole32(nr_bits);
	super.log_tail = htole64(1);
	snprintf((char *)super.group, sizeof(super.group), "%s", names[0]);
	snprintf((char *)super.volume, sizeof(super.volume), "%s", names[1]);
	super.volume_uuid[0] = 1;
	for (i = 0; i < REPAGENT_MAP_SUPERS; i++) {
		super.seq = htole64(2 + i);
		put(&super, REPAGENT_MAP_SUPER, 0, (2 + i) % REPAGENT_MAP_SUPERS * REPAGENT_MAP_SUPER_STEP);
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		die("%s: %s", name, strerror(errno));
	printf("regions %" PRIu64 "\n", regions);
	return EXIT_GOOD;
}
