// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which volumes there are is asked of device-mapper itself, at most once a
 * second: a volume is a device whose table is one target `repagent`.
 */
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "volumes.h"

#define FRESH_MS	1000

/* Guards all below, and libdevmapper, which is for one thread at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct volume *volumes;
static unsigned int nr_volumes;
static uint64_t scanned;		/* ms; 0: never */
static char scan_error[160];		/* why the last scan failed */
static void (*log_line)(int priority, const char *line);

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + 1;
}

/* libdevmapper's own words come at every try; what matters is its errno. */
static __attribute__((format(printf, 5, 6)))
void dm_says(int level, const char *file, int line, int class, const char *fmt, ...)
{
	(void)level;
	(void)file;
	(void)line;
	(void)class;
	(void)fmt;
}

/**
 * volumes_init - before all else
 * @log: takes a line
 */
void volumes_init(void (*log)(int priority, const char *line))
{
	log_line = log;
	dm_log_with_errno_init(dm_says);
	dm_set_name_mangling_mode(DM_STRING_MANGLING_NONE);
}

/* A word of a table line, as long as a name may be. */
static const char *take_word(const char *s, char *word, size_t size)
{
	size_t len;

	s += strspn(s, " ");
	len = strcspn(s, " ");
	if (!len || len >= size)
		return NULL;
	memcpy(word, s, len);
	word[len] = '\0';
	return s + len;
}

/**
 * volume_parse - read a table line of the target
 * @params: "<origin> <group> <volume> ...", as device-mapper shows it
 * @group: REPAGENT_NAME_MAX + 1 bytes for the group
 * @name: as many for the volume
 *
 * Return: whether it is one.
 */
bool volume_parse(const char *params, char *group, char *name)
{
	char origin[256];

	params = take_word(params, origin, sizeof(origin));
	params = params ? take_word(params, group, REPAGENT_NAME_MAX + 1) : NULL;
	params = params ? take_word(params, name, REPAGENT_NAME_MAX + 1) : NULL;
	return params;
}

/* Is this device a volume? Under lock. */
static bool look_at(const char *device, struct volume *v)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TABLE);
	char *type = NULL, *params = NULL;
	uint64_t start, length;
	struct dm_info info;
	bool found = false;
	void *next;

	if (!task)
		return false;
	if (dm_task_set_name(task, device) && dm_task_run(task) && dm_task_get_info(task, &info) &&
	    info.exists && info.live_table) {
		next = dm_get_next_target(task, NULL, &start, &length, &type, &params);
		memset(v, 0, sizeof(*v));
		if (!next && type && params && !start && !strcmp(type, "repagent") &&
		    volume_parse(params, v->group, v->name)) {
			snprintf(v->device, sizeof(v->device), "%s", device);
			v->major = info.major;
			v->minor = info.minor;
			v->leaving = info.deferred_remove;
			found = true;
		}
	}
	dm_task_destroy(task);
	return found;
}

static void scan(bool fresh)
{
	struct dm_task *task;
	struct dm_names *names;
	unsigned int offset;
	struct volume v, *bigger;
	bool ok;

	if (!fresh && scanned && now_ms() - scanned < FRESH_MS)
		return;
	scanned = now_ms();
	nr_volumes = 0;
	scan_error[0] = '\0';
	task = dm_task_create(DM_DEVICE_LIST);
	ok = task && dm_task_run(task);
	names = ok ? dm_task_get_names(task) : NULL;
	if (!names) {
		snprintf(scan_error, sizeof(scan_error), "%s", task ?
			 strerror(dm_task_get_errno(task)) : "out of memory");
		log_line(LOG_ERR, "device-mapper does not list its devices; is dm-mod loaded, and are we root?");
	}
	for (; names && names->dev; names = (void *)((char *)names + offset)) {
		offset = names->next;
		if (look_at(names->name, &v)) {
			bigger = realloc(volumes, (nr_volumes + 1) * sizeof(v));
			if (!bigger)
				break;
			volumes = bigger;
			volumes[nr_volumes++] = v;
		}
		if (!offset)
			break;
	}
	if (task)
		dm_task_destroy(task);
}

/**
 * volumes_get - one volume after the other
 * @index: from 0
 * @v: out
 *
 * Return: false if there are no more.
 */
bool volumes_get(unsigned int index, struct volume *v)
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
bool volumes_find(const char *group, const char *name, struct volume *v, bool fresh,
		  char *reason, size_t size)
{
	unsigned int i;

	pthread_mutex_lock(&lock);
	scan(fresh);
	for (i = 0; i < nr_volumes; i++)
		if (!strcmp(volumes[i].group, group) && !strcmp(volumes[i].name, name))
			break;
	if (i < nr_volumes)
		*v = volumes[i];
	else if (scan_error[0])
		snprintf(reason, size, "device-mapper: %s", scan_error);
	else
		snprintf(reason, size, "this host has no volume %s of group %s", name, group);
	pthread_mutex_unlock(&lock);
	return i < nr_volumes;
}

/**
 * volume_path - the device node of a volume
 * @v: the volume
 * @path: out
 * @size: of @path
 *
 * Names can change; the device's number must be right. Return: whether there is one.
 */
bool volume_path(const struct volume *v, char *path, size_t size)
{
	struct stat st;

	snprintf(path, size, "%s/%s", dm_dir(), v->device);
	if (!stat(path, &st) && S_ISBLK(st.st_mode) && st.st_rdev == makedev(v->major, v->minor))
		return true;
	snprintf(path, size, "/dev/dm-%u", v->minor);
	return !stat(path, &st) && S_ISBLK(st.st_mode) &&
	       st.st_rdev == makedev(v->major, v->minor);
}

/**
 * dirty_open - ask a volume's group what is dirty
 * @v: the volume
 * @id: out: its id in the group
 *
 * Return: a descriptor for dirty_next(), to be closed soon, since it keeps the
 * group from going; or a negative errno.
 */
int dirty_open(const struct volume *v, uint16_t *id)
{
	struct repagent_volume_info info;
	char path[64];
	unsigned int i;
	int fd;

	snprintf(path, sizeof(path), "/dev/repagent/%s", v->group);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		memset(&info, 0, sizeof(info));
		info.index = i;
		if (!ioctl(fd, REPAGENT_IOC_VOLUME, &info) && !strcmp(info.name, v->name)) {
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
