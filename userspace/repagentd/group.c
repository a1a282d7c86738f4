// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ring of a group behind /dev/repagent/<group>.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../common/log.h"
#include "group.h"

#define STRINGIFY_(x)	#x
#define STRINGIFY(x)	STRINGIFY_(x)

static int call(struct ring *ring, unsigned long request, void *arg)
{
	int r;

	do {
		r = ioctl(ring->fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static int group_info(struct ring *ring, struct repagent_info *info)
{
	return call(ring, REPAGENT_IOC_INFO, info);
}

static int group_volume(struct ring *ring, struct repagent_volume_info *volume)
{
	return call(ring, REPAGENT_IOC_VOLUME, volume);
}

static int group_hub(struct ring *ring, const struct repagent_hub *hub)
{
	return call(ring, REPAGENT_IOC_HUB, (void *)hub);
}

static int group_ack(struct ring *ring, const struct repagent_ack *ack)
{
	return call(ring, REPAGENT_IOC_ACK, (void *)ack);
}

static int group_wait(struct ring *ring, const struct repagent_wait *wait)
{
	return call(ring, REPAGENT_IOC_WAIT, (void *)wait);
}

static int group_emit(struct ring *ring, struct repagent_emit *emit)
{
	return call(ring, REPAGENT_IOC_EMIT, emit);
}

static int group_dirty(struct ring *ring, struct repagent_dirty *dirty)
{
	return call(ring, REPAGENT_IOC_DIRTY, dirty);
}

static enum dmdev_result group_mark_dirty(struct ring *ring, const char *group, const char *volume,
					  char *error)
{
	static struct dmdev devs[REPAGENT_MAX_VOLUMES];
	int i, n = dmdev_list(group, devs, REPAGENT_MAX_VOLUMES, error);
	enum dmdev_result r = n < 0 ? DMDEV_FAILED : DMDEV_OK;

	(void)ring;
	for (i = 0; i < n && r == DMDEV_OK; i++)
		if (!volume || !strcmp(volume, devs[i].table.volume))
			r = dmdev_message(devs[i].name, "resync", NULL, 0, error);
	return r;
}

static const struct ring_ops group_ops = {
	.info	= group_info,
	.volume	= group_volume,
	.hub	= group_hub,
	.ack	= group_ack,
	.wait	= group_wait,
	.emit	= group_emit,
	.dirty	= group_dirty,
	.mark_dirty = group_mark_dirty,
};

/**
 * group_path - the device of a group
 * @path: GROUP_PATH_MAX bytes for the result
 * @group: its name, which uri_name_ok() accepted
 */
void group_path(char *path, const char *group)
{
	snprintf(path, GROUP_PATH_MAX, "/dev/repagent/%s", group);
}

/**
 * group_open - open and map a group's ring
 * @ring: the result
 * @group: its name
 *
 * Return: 0; -ENOENT (or -ENXIO, -ENODEV) while there is no such group, -EBUSY
 * when another daemon has it, -EPROTO when kernel and daemon do not understand
 * each other (a line was logged), or another negative errno.
 */
int group_open(struct ring *ring, const char *group)
{
	struct repagent_info info;
	char path[GROUP_PATH_MAX];
	void *map;
	int r;

	group_path(path, group);
	memset(ring, 0, sizeof(*ring));
	ring->ops = &group_ops;
	ring->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (ring->fd < 0)
		return -errno;
	r = group_info(ring, &info);
	if (r < 0)
		goto err;
	r = -EPROTO;
	if (info.abi_version != REPAGENT_ABI_VERSION) {
		log_err("the kernel's dm-repagent speaks ABI version %u and this daemon version %d; "
			"install the daemon that belongs to the module",
			info.abi_version, REPAGENT_ABI_VERSION);
		goto err;
	}
	if (info.map_size > SIZE_MAX)
		goto err;
	map = mmap(NULL, info.map_size, PROT_READ, MAP_SHARED, ring->fd, 0);
	if (map == MAP_FAILED) {
		r = -errno;
		goto err;
	}
	ring->map = map;
	ring->map_size = info.map_size;
	return 0;
err:
	close(ring->fd);
	ring->fd = -1;
	return r;
}

/**
 * group_close - let the ring go; what is unacknowledged stays in it
 * @ring: from group_open()
 */
void group_close(struct ring *ring)
{
	munmap((void *)ring->map, ring->map_size);
	close(ring->fd);
}

/**
 * group_holder - find the process that has a group open
 * @group: its name
 * @program: GROUP_PROGRAM_MAX bytes for the name of what it runs
 *
 * Return: its process id; 0 if it lives in another namespace; -ESRCH if there is
 * none any more, or another negative errno if it cannot be found out.
 */
int group_holder(const char *group, char *program)
{
	char path[64 + GROUP_PATH_MAX];
	FILE *file;
	int n, pid;

	snprintf(path, sizeof(path), "/sys/class/repagent/%s/consumer", group);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	n = fscanf(file, "%d %" STRINGIFY(GROUP_PROGRAM_LEN) "[^\n]", &pid, program);
	fclose(file);
	return n == 2 ? pid : -ESRCH;
}

/**
 * process_name - what a process runs
 * @pid: its id
 * @program: GROUP_PROGRAM_MAX bytes for the name; empty if there is no such process
 */
void process_name(int pid, char *program)
{
	char path[64];
	FILE *file;

	*program = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file)
		return;
	if (fscanf(file, "%" STRINGIFY(GROUP_PROGRAM_LEN) "[^\n]", program) != 1)
		*program = '\0';
	fclose(file);
}
