// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which volumes there are is asked of device-mapper itself, at most once a
 * second: a volume is a device whose table is one target `repagent`.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "volumes.h"

#define FRESH_MS	1000

/* Guards all below, and libdevmapper, which is for one thread at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct dmdev *volumes;
static unsigned int nr_volumes;
static uint64_t scanned;		/* ms; 0: never */
static char scan_error[DMDEV_ERROR_MAX];	/* why the last scan failed */
static void (*log_line)(int priority, const char *line);

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + 1;
}

/**
 * volumes_init - before all else
 * @log: takes a line
 */
void volumes_init(void (*log)(int priority, const char *line))
{
	log_line = log;
	dmdev_init();
}

static void scan(bool fresh)
{
	int nr;

	if (!fresh && scanned && now_ms() - scanned < FRESH_MS)
		return;
	scanned = now_ms();
	free(volumes);
	nr = dmdev_list_all(&volumes, scan_error);
	nr_volumes = nr > 0 ? (unsigned int)nr : 0;
	if (nr < 0)
		log_line(LOG_ERR, scan_error);
	else
		scan_error[0] = '\0';
}

/**
 * volumes_get - one volume after the other
 * @index: from 0
 * @v: out
 *
 * Return: false if there are no more.
 */
bool volumes_get(unsigned int index, struct dmdev *v)
{
	bool there;

	pthread_mutex_lock(&lock);
	scan(false);
	there = index < nr_volumes;
	if (there)
		*v = volumes[index];
	pthread_mutex_unlock(&lock);
	return there;
}

/**
 * volumes_find - a volume by its names
 * @group: the one
 * @name: the other
 * @v: out
 * @fresh: what was known a moment ago is not good enough
 * @reason: why not
 * @size: of @reason
 *
 * Return: whether there is such a volume.
 */
bool volumes_find(const char *group, const char *name, struct dmdev *v, bool fresh,
		  char *reason, size_t size)
{
	unsigned int i;

	pthread_mutex_lock(&lock);
	scan(fresh);
	for (i = 0; i < nr_volumes; i++)
		if (!strcmp(volumes[i].table.group, group) && !strcmp(volumes[i].table.volume, name))
			break;
	if (i < nr_volumes)
		*v = volumes[i];
	else if (scan_error[0])
		snprintf(reason, size, "%s", scan_error);
	else
		snprintf(reason, size, "this host has no volume %s of group %s", name, group);
	pthread_mutex_unlock(&lock);
	return i < nr_volumes;
}

/**
 * dirty_open - ask a volume's group what is dirty
 * @v: the volume
 * @id: out: its id in the group
 *
 * Return: a descriptor for dirty_next(), to be closed soon, since it keeps the
 * group from going; or a negative errno.
 */
int dirty_open(const struct dmdev *v, uint16_t *id)
{
	struct repagent_volume_info info;
	char path[64];
	unsigned int i;
	int fd;

	snprintf(path, sizeof(path), "/dev/repagent/%s", v->table.group);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		memset(&info, 0, sizeof(info));
		info.index = i;
		if (!ioctl(fd, REPAGENT_IOC_VOLUME, &info) && !strcmp(info.name, v->table.volume)) {
			*id = info.id;
			return fd;
		}
	}
	close(fd);
	return -ENOENT;
}

/**
 * dirty_next - the next dirty ranges
 * @fd: from dirty_open()
 * @d: in and out
 *
 * Return: 0 or a negative errno.
 */
int dirty_next(int fd, struct repagent_dirty *d)
{
	return ioctl(fd, REPAGENT_IOC_DIRTY, d) < 0 ? -errno : 0;
}
