/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mapped devices of a group, as its configuration wants them. */
#ifndef REPAGENT_DEVICES_H
#define REPAGENT_DEVICES_H

#include <stdbool.h>

#include "../common/conf.h"
#include "../common/dmdev.h"

#define DEVICES_ERROR_MAX	(DMDEV_ERROR_MAX + 512)

bool load_configuration(struct conf *conf, const char *group, int *status);
void volume_table(const struct conf *conf, const struct conf_volume *v, const char *group,
		  struct dmdev_table *table);
bool is_volume(const struct dmdev *dev, const char *group, const char *volume);
bool is_busy(struct dmdev *dev);
void explain_busy(const struct dmdev *dev, char *text, size_t size);
int own_devices(const struct conf *conf, const char *group, struct dmdev **devs, char *error);
int activate(const char *group, bool require, unsigned int wait_ms);
bool wait_group_gone(const char *group, unsigned int ms);
bool forget_group(const char *group);

#endif /* REPAGENT_DEVICES_H */
