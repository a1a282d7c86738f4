// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "libdmctl.h"
#include "libtest.h"

void dmctl_open(struct dmctl *c)
{
	c->fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		die("/dev/mapper/control: %s", strerror(errno));
}

/* Begins a command; returns where what stands behind its head goes. */
static void *begin(struct dmctl *c, const char *name)
{
	memset(c->bytes, 0, sizeof(c->bytes));
	c->io.version[0] = DM_VERSION_MAJOR;
	c->io.data_size = sizeof(c->bytes);
	c->io.data_start = sizeof(c->io);
	snprintf(c->io.name, sizeof(c->io.name), "%s", name);
	return c->bytes + sizeof(c->io);
}

/* A text of the caller's, which has to fit behind what is there. */
static int put(struct dmctl *c, char *to, const char *text)
{
	size_t room = (size_t)(c->bytes + sizeof(c->bytes) - to);

	return (size_t)snprintf(to, room, "%s", text) < room ? 0 : -E2BIG;
}

static int call(struct dmctl *c, unsigned long command)
{
	return ioctl(c->fd, command, c->bytes) < 0 ? -errno : 0;
}

static int simple(struct dmctl *c, const char *name, unsigned long command, uint32_t flags)
{
	begin(c, name);
	c->io.flags = flags;
	return call(c, command);
}

int dmctl_create(struct dmctl *c, const char *name)
{
	return simple(c, name, DM_DEV_CREATE, 0);
}

int dmctl_load(struct dmctl *c, const char *name, uint64_t sectors, const char *target,
	       const char *parameters)
{
	struct dm_target_spec *spec = begin(c, name);
	int ret;

	c->io.target_count = 1;
	spec->length = sectors;
	snprintf(spec->target_type, sizeof(spec->target_type), "%s", target);
	ret = put(c, (char *)(spec + 1), parameters);
	return ret ? ret : call(c, DM_TABLE_LOAD);
}

int dmctl_suspend(struct dmctl *c, const char *name)
{
	return simple(c, name, DM_DEV_SUSPEND, DM_SUSPEND_FLAG);
}

int dmctl_resume(struct dmctl *c, const char *name)
{
	return simple(c, name, DM_DEV_SUSPEND, 0);
}

int dmctl_remove(struct dmctl *c, const char *name)
{
	return simple(c, name, DM_DEV_REMOVE, 0);
}

int dmctl_message(struct dmctl *c, const char *name, const char *text)
{
	struct dm_target_msg *message = begin(c, name);
	int ret = put(c, message->message, text);

	return ret ? ret : call(c, DM_TARGET_MSG);
}

const struct dm_target_spec *dmctl_status(struct dmctl *c, const char *name, const char **line)
{
	const struct dm_target_spec *spec;

	if (simple(c, name, DM_TABLE_STATUS, DM_NOFLUSH_FLAG) || !c->io.target_count)
		return NULL;
	spec = (const void *)(c->bytes + c->io.data_start);
	*line = (const char *)(spec + 1);
	return spec;
}
