/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapped devices of the targets repagent and rep-recover, by libdevmapper.
 *
 * What changes a device can wait for its I/O and for udev: call it from a
 * process that may wait.  For one thread at a time.
 */
#ifndef REPAGENT_DMDEV_H
#define REPAGENT_DMDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/dm-repagent.h>

#define DMDEV_NAME_MAX	128	/* bytes of a mapped device's name, with its NUL */
#define DMDEV_PATH_MAX	512	/* bytes of a device's path */
#define DMDEV_ERROR_MAX	1024	/* bytes of a sentence */

/*
 * struct dmdev_table - what a table line says (Documentation/target.md).
 * @origin:	a path, or major:minor as the kernel shows it
 * @ring_mib, @region_kib: 0 where it is not given
 * @discard, @bounce, @meta: "" where it is not given
 */
struct dmdev_table {
	char origin[DMDEV_PATH_MAX];
	char group[REPAGENT_NAME_MAX + 1];
	char volume[REPAGENT_NAME_MAX + 1];
	unsigned int ring_mib;
	unsigned int region_kib;
	char discard[8];
	char bounce[4];
	char meta[DMDEV_PATH_MAX];
};

/*
 * struct dmdev - a mapped device.
 * @target:	of its only table line: "repagent", "linear", ...; "" if it has
 *		several or none
 * @sectors:	its size
 * @open_count:	how often it is open
 * @leaving:	it is to be removed once nobody has it open
 * @table:	of a repagent device; of a linear one, origin alone; of a
 *		rep-recover one, group and volume
 * @leg:	of a mirror of two, major:minor of each, which begin where that begins
 */
struct dmdev {
	char name[DMDEV_NAME_MAX];
	char target[16];
	unsigned int major, minor;
	uint64_t sectors;
	unsigned int open_count;
	bool suspended;
	bool leaving;
	struct dmdev_table table;
	char leg[2][32];
};

/* What became of it; the names of the control socket's error classes. */
enum dmdev_result {
	DMDEV_OK,
	DMDEV_FAILED,		/* Failed */
	DMDEV_NOT_FOUND,	/* NoSuchVolume */
	DMDEV_DIFFERS,		/* AlreadyProtected */
	DMDEV_NAME_IN_USE,	/* NameInUse */
	DMDEV_REFUSED,		/* DeviceError */
	DMDEV_BUSY,		/* DeviceBusy */
};

/* What dmdev_protect() did. */
enum dmdev_done {
	DMDEV_CREATED,		/* there is a mapped device now */
	DMDEV_ADOPTED,		/* it was there */
	DMDEV_REPLACED,		/* it was linear */
};

void dmdev_init(void);
bool dmdev_name_ok(const char *name);
bool dmdev_parse(const char *params, struct dmdev_table *table);
bool dmdev_line(const struct dmdev_table *table, char *line, size_t size);

enum dmdev_result dmdev_get(const char *name, struct dmdev *dev, char *error);
int dmdev_list(const char *group, struct dmdev *devs, unsigned int max, char *error);
int dmdev_list_all(struct dmdev **devs, char *error);
int dmdev_list_recover(struct dmdev **devs, char *error);
enum dmdev_result dmdev_find(const char *group, const char *volume, struct dmdev *dev,
			     char *error);
enum dmdev_result dmdev_protect(const char *name, const struct dmdev_table *table,
				struct dmdev *dev, enum dmdev_done *done, char *error);
enum dmdev_result dmdev_fallback(const char *name, const struct dmdev_table *table, char *error);
enum dmdev_result dmdev_remove(const char *name, char *error);
enum dmdev_result dmdev_linear(const char *name, char *error);
enum dmdev_result dmdev_message(const char *name, const char *message, char *reply,
				size_t size, char *error);
enum dmdev_result dmdev_make(const char *name, const char *uuid, uint64_t sectors, const char *target,
			     const char *line, char *error);
enum dmdev_result dmdev_reload(const char *name, uint64_t sectors, const char *target, const char *line,
			       char *error);
void dmdev_clear(const char *name);
enum dmdev_result dmdev_status(const char *name, const char *target, char *line, size_t size, char *error);
bool dmdev_path(const struct dmdev *dev, char *path, size_t size);

#endif /* REPAGENT_DMDEV_H */
