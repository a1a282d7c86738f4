// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dirtyranges - what the kernel has of a volume as dirty, as who only looks at a
 * group is told: REPAGENT_IOC_DIRTY from sector 0 to the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dm-repagent.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libtest.h"

static const char usage[] =
"usage: dirtyranges GROUP VOLUME\n"
"\n"
"Prints \"<first sector> <sectors>\" for each range.\n";

static void find(int fd, const char *name, struct repagent_volume_info *info)
{
	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		memset(info, 0, sizeof(*info));
		info->index = i;
		if (!ioctl(fd, REPAGENT_IOC_VOLUME, info) && !strcmp(info->name, name))
			return;
	}
	die("the group has no volume %s", name);
}

int main(int argc, char **argv)
{
	struct repagent_volume_info info;
	struct repagent_dirty d;
	char path[128], **names;
	int fd;

	names = parse_options(argc, argv, (const struct tool_option[]){ { } }, usage, 2);
	snprintf(path, sizeof(path), "/dev/repagent/%s", names[0]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	find(fd, names[1], &info);
	memset(&d, 0, sizeof(d));
	d.volume = info.id;
	do {
		uint64_t from = d.sector;

		if (ioctl(fd, REPAGENT_IOC_DIRTY, &d) < 0)
			die("DIRTY from sector %" PRIu64 ": %s", from, strerror(errno));
		for (unsigned int i = 0; i < d.nr; i++)
			printf("%llu %llu\n", d.range[i].sector, d.range[i].nr_sectors);
		if (d.sector <= from && d.sector < info.sectors)
			die("DIRTY from sector %" PRIu64 " does not go on", from);
	} while (d.sector < info.sectors);
	close(fd);
	return EXIT_GOOD;
}
