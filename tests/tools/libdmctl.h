/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device-mapper devices by the kernel's own interface, one call for each of its
 * commands: no udev, no nodes, nothing that is retried.
 *
 * Not for several threads with one struct dmctl.
 */
#ifndef LIBDMCTL_H
#define LIBDMCTL_H

#include <linux/dm-ioctl.h>
#include <stddef.h>
#include <stdint.h>

struct dmctl {
	int fd;
	union {
		struct dm_ioctl io;	/* of the last call, and what it told */
		char bytes[16384];
	};
};

void dmctl_open(struct dmctl *c);	/* or the tool ends */

/* All return 0 or a negative errno. */
int dmctl_create(struct dmctl *c, const char *name);	/* c->io.dev: its number */
int dmctl_load(struct dmctl *c, const char *name, uint64_t sectors, const char *target,
	       const char *parameters);
int dmctl_suspend(struct dmctl *c, const char *name);
int dmctl_resume(struct dmctl *c, const char *name);
int dmctl_remove(struct dmctl *c, const char *name);
int dmctl_message(struct dmctl *c, const char *name, const char *text);

/* The first target; until the next call. NULL: there is none. */
const struct dm_target_spec *dmctl_status(struct dmctl *c, const char *name, const char **line);

#endif /* LIBDMCTL_H */
