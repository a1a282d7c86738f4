/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the disk of a fail-over VM lies: at the hub, on the way home, at home. */
#ifndef REPAGENT_RECOVERED_H
#define REPAGENT_RECOVERED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "../common/dmdev.h"

#define HUB_SUFFIX	"-hub"
#define MIRROR_LINE_MAX	160

/*
 * enum where - what NAME is, the device that the VM opens; NAME-hub is always a rep-recover one
 * Its values are indices of takehome.c's table.
 */
enum where {
	HUB_ONLY,		/* there is none */
	AT_HUB,			/* linear over NAME-hub */
	COPYING,		/* a mirror of NAME-hub and a local device */
	HOME,			/* linear over another device */
	ELSEWHERE,		/* anything else: not made by repctl */
	NR_WHERE
};

/*
 * struct recovered - a volume whose disk is, or was, the hub's
 * @name:	NAME; "" if the rep-recover device is not called NAME-hub
 * @hub:	NAME-hub
 * @disk:	NAME, unless HUB_ONLY
 */
struct recovered {
	enum where where;
	char name[DMDEV_NAME_MAX];
	struct dmdev hub, disk;
};

/*
 * struct mirror - how far dm-mirror is
 * @done, @total: regions
 * @hub_failed, @local_failed: a leg had an error
 */
struct mirror {
	uint64_t done, total;
	bool hub_failed, local_failed;
};

enum dmdev_result recovered_find(const char *group, const char *volume, struct recovered *r, char *error);
const char *recovered_path(const char *number, char *path);
void mirror_line(char *line, uint64_t sectors, const char *hub, const char *local);
bool mirror_parse(const char *status, struct mirror *m);
unsigned int recovered_show(FILE *f, const char *group, bool below, bool *served);

#endif /* REPAGENT_RECOVERED_H */
