// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmstatus - the status lines of device-mapper devices, for who asks often.
 *
 * Reads names of devices from stdin, one a line, and answers each with one
 * line: that of `dmsetup status` for the device's first target, or an empty
 * one.  A test keeps it running, for in an emulated machine each start of
 * dmsetup costs as much as hundreds of writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "libtest.h"

#define BUFFER	16384u

static void answer(int fd, const char *name)
{
	static union {
		struct dm_ioctl io;
		char bytes[BUFFER];
	} u;
	const struct dm_target_spec *spec;

	memset(&u, 0, sizeof(u));
	u.io.version[0] = DM_VERSION_MAJOR;
	u.io.data_size = sizeof(u);
	u.io.data_start = sizeof(u.io);
	u.io.flags = DM_NOFLUSH_FLAG;
	snprintf(u.io.name, sizeof(u.io.name), "%s", name);
	if (!ioctl(fd, DM_TABLE_STATUS, &u) && u.io.target_count) {
		spec = (const void *)(u.bytes + u.io.data_start);
		printf("%llu %llu %s %s", (unsigned long long)spec->sector_start,
		       (unsigned long long)spec->length, spec->target_type,
		       (const char *)(spec + 1));
	}
	putchar('\n');
	fflush(stdout);
}

int main(void)
{
	char name[DM_NAME_LEN];
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/mapper/control: %s", strerror(errno));
	while (fgets(name, sizeof(name), stdin)) {
		name[strcspn(name, "\n")] = '\0';
		answer(fd, name);
	}
	return EXIT_GOOD;
}
