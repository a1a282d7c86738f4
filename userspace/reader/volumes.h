/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The repagent volumes of this host, as device-mapper lists them. */
#ifndef REPAGENT_VOLUMES_H
#define REPAGENT_VOLUMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/dmdev.h"

void volumes_init(void (*log)(int priority, const char *line));
bool volumes_get(unsigned int index, struct dmdev *v);
bool volumes_find(const char *group, const char *name, struct dmdev *v, bool fresh,
		  char *reason, size_t size);

int dirty_open(const struct dmdev *v, uint16_t *id);
int dirty_next(int fd, struct repagent_dirty *d);

#endif /* REPAGENT_VOLUMES_H */
