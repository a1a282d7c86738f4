// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "devices.h"
#include "groups.h"
#include "repctl.h"
#include "state.h"
#include "system.h"

#define BUSY_MS	3000

/**
 * load_configuration - a group's configuration, which there must be
 * @conf: out
 * @group: the group
 * @status: out: the exit status, if it cannot be had; a sentence was said
 *
 * Return: whether it is there.
 */
bool load_configuration(struct conf *conf, const char *group, int *status)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX], list[1024];
	int r;

	conf_path(path, group);
	r = conf_load(conf, path, error);
	if (r == -ENOENT) {
		list_groups(list, sizeof(list));
		*status = fail("there is no %s, so group %s is not configured: %s", path, group, list);
	} else if (r) {
		*status = fail("%s", error);
	}
	return !r;
}

static unsigned int number(const char *text)
{
	return text ? (unsigned int)strtoul(text, NULL, 10) : 0;
}

/**
 * volume_table - the table line that a configured volume is to have
 * @conf: the configuration, whose values were checked
 * @v: the volume
 * @group: the group
 * @table: out
 */
void volume_table(const struct conf *conf, const struct conf_volume *v, const char *group,
		  struct dmdev_table *table)
{
	char *const *value = v->value;

	memset(table, 0, sizeof(*table));
	snprintf(table->origin, sizeof(table->origin), "%s", value[CONF_V_DEVICE] ? value[CONF_V_DEVICE] : "");
	snprintf(table->group, sizeof(table->group), "%s", group);
	snprintf(table->volume, sizeof(table->volume), "%s", v->name);
	table->ring_mib = number(conf->group[CONF_G_RING]);
	table->region_kib = number(value[CONF_V_REGION]);
	if (value[CONF_V_DISCARD])
		snprintf(table->discard, sizeof(table->discard), "%s", value[CONF_V_DISCARD]);
	if (value[CONF_V_BOUNCE])
		snprintf(table->bounce, sizeof(table->bounce), "%s", value[CONF_V_BOUNCE]);
	if (value[CONF_V_META])
		snprintf(table->meta, sizeof(table->meta), "%s", value[CONF_V_META]);
}

/**
 * is_volume - is a mapped device this volume, protected?
 * @dev: the device
 * @group: the group
 * @volume: the volume
 */
bool is_volume(const struct dmdev *dev, const char *group, const char *volume)
{
	return !strcmp(dev->target, "repagent") && !strcmp(dev->table.group, group) &&
	       !strcmp(dev->table.volume, volume);
}

static bool is_free(void *arg)
{
	char error[DMDEV_ERROR_MAX];
	struct dmdev *dev = arg, now;

	if (dmdev_get(dev->name, &now, error) == DMDEV_OK)
		dev->open_count = now.open_count;
	return !dev->open_count;
}

/**
 * is_busy - has somebody a mapped device open?
 * @dev: the device, whose open_count is brought up to date
 *
 * When the last writer has closed a device udev looks at it, which takes a moment: that is waited for.
 */
bool is_busy(struct dmdev *dev)
{
	return dev->open_count && !wait_until(is_free, dev, BUSY_MS);
}

/**
 * explain_busy - who has a mapped device open
 * @dev: the device
 * @text: out
 * @size: of @text
 */
void explain_busy(const struct dmdev *dev, char *text, size_t size)
{
	char user[512];

	if (!device_user(makedev(dev->major, dev->minor), user, sizeof(user)))
		snprintf(user, sizeof(user), "it is open %u time%s", dev->open_count,
			 dev->open_count == 1 ? "" : "s");
	snprintf(text, size, "/dev/mapper/%s is in use: %s. Shut the VM down first", dev->name, user);
}

/**
 * own_devices - the mapped devices of a group: protected ones, and linear ones in their place
 * @conf: the configuration, perhaps empty
 * @group: the group
 * @devs: out: to be freed
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: how many, or -1.
 */
int own_devices(const struct conf *conf, const char *group, struct dmdev **devs, char *error)
{
	struct dmdev *list = calloc(2 * REPAGENT_MAX_VOLUMES, sizeof(*list));
	char name[DMDEV_NAME_MAX], ignored[DMDEV_ERROR_MAX];
	unsigned int i;
	int nr;

	*devs = list;
	if (!list) {
		snprintf(error, DMDEV_ERROR_MAX, "out of memory");
		return -1;
	}
	nr = dmdev_list(group, list, REPAGENT_MAX_VOLUMES, error);
	for (i = 0; nr >= 0 && i < conf->nr_volumes; i++) {
		volume_device_name(&conf->volume[i], group, name);
		if (dmdev_get(name, &list[nr], ignored) == DMDEV_OK && !strcmp(list[nr].target, "linear")) {
			snprintf(list[nr].table.volume, sizeof(list[nr].table.volume), "%s",
				 conf->volume[i].name);
			nr++;
		}
	}
	return nr;
}

static bool group_gone(void *path)
{
	return access(path, F_OK) != 0;
}

/**
 * wait_group_gone - wait until the kernel has nothing of a group any more
 * @group: the group
 * @ms: how long at most
 *
 * Return: whether it is gone.
 */
bool wait_group_gone(const char *group, unsigned int ms)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/repagent/%s", group);
	return wait_until(group_gone, path, ms);
}

/**
 * forget_group - drop what a group without devices has not sent
 * @group: the group, which no process has open
 *
 * Return: whether nothing of it is left; else errno says why not.
 */
bool forget_group(const char *group)
{
	char path[96];
	bool ok;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/repagent/%s/forget", group);
	f = fopen(path, "we");
	if (!f)
		return errno == ENOENT;
	ok = fputs(group, f) >= 0;
	return !fclose(f) && ok;
}
