// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmstatus - the status lines of device-mapper devices, for who asks often.
 *
 * Reads names of devices from stdin, one a line, and answers each with one
 * line: that of `dmsetup status` for the device's first target, or an empty
 * one.  A test keeps it running, for in an emulated machine each start of
 * dmsetup costs as much as hundreds of writes.
 */
#include <stdio.h>
#include <string.h>

#include "libdmctl.h"
#include "libtest.h"

static void answer(struct dmctl *c, const char *name)
{
	const struct dm_target_spec *spec;
	const char *line;

	spec = dmctl_status(c, name, &line);
	if (spec)
		printf("%llu %llu %s %s", (unsigned long long)spec->sector_start,
		       (unsigned long long)spec->length, spec->target_type, line);
	putchar('\n');
	fflush(stdout);
}

int main(void)
{
	char name[DM_NAME_LEN];
	struct dmctl c;

	dmctl_open(&c);
	while (fgets(name, sizeof(name), stdin)) {
		name[strcspn(name, "\n")] = '\0';
		answer(&c, name);
	}
	return EXIT_GOOD;
}
