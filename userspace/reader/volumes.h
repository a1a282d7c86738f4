/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The repagent volumes of this host, as device-mapper lists them. */
#ifndef REPAGENT_VOLUMES_H
#define REPAGENT_VOLUMES_H

#include <linux/dm-repagent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * struct volume - one of them.
 * @leaving: it is to be removed once nobody has it open
 */
struct volume {
	char group[REPAGENT_NAME_MAX + 1];
	char name[REPAGENT_NAME_MAX + 1];
	char device[128];	/* the mapped device's name */
	unsigned int major, minor;
	bool leaving;
};

void volumes_init(void (*log)(int priority, const char *line));
bool volumes_get(unsigned int index, struct volume *v);
bool volumes_find(const char *group, const char *name, struct volume *v, bool fresh,
		  char *reason, size_t size);
bool volume_parse(const char *params, char *group, char *name);
bool volume_path(const struct volume *v, char *path, size_t size);

int dirty_open(const struct volume *v, uint16_t *id);
int dirty_next(int fd, struct repagent_dirty *d);

#endif /* REPAGENT_VOLUMES_H */
