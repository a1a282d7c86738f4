// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Volumes as exports, GROUP/VOLUME, to be read only.
 *
 * Reads go through the mapped device with O_DIRECT: beside the target, or
 * through the page cache, they could be older than what the VM has written.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../nbdserver/proto.h"
#include "export.h"
#include "volumes.h"

enum { CONTEXT_ALLOCATION, CONTEXT_DIRTY };

static const char *const contexts[] = {
	[CONTEXT_ALLOCATION]	= "base:allocation",
	[CONTEXT_DIRTY]		= "qemu:dirty-bitmap:repagent",
};

struct export {
	struct nbds_file file;
	struct dmdev volume;
};

static bool reader_list(void *data, unsigned int index, char *name, size_t size)
{
	struct dmdev v;

	(void)data;
	if (!volumes_get(index, &v))
		return false;
	snprintf(name, size, "%s/%s", v.table.group, v.table.volume);
	return true;
}

static bool reader_allowed(void *data, const struct nbds_peer *peer, const char *name,
			   char *reason, size_t size)
{
	return access_allows(data, peer, name, reason, size);
}

static void *reader_open(void *data, const char *name, struct nbds_info *info, char *reason,
			 size_t size)
{
	char group[REPAGENT_NAME_MAX + 1], volume[REPAGENT_NAME_MAX + 1], path[256];
	struct export *e;

	(void)data;
	if (!export_split(name, group, volume)) {
		snprintf(reason, size, "expected GROUP/VOLUME");
		return NULL;
	}
	e = calloc(1, sizeof(*e));
	if (!e) {
		snprintf(reason, size, "out of memory");
		return NULL;
	}
	/* A scan that is a moment old may know neither it nor its new device. */
	if (!volumes_find(group, volume, &e->volume, true, reason, size))
		goto failed;
	if (e->volume.leaving) {
		snprintf(reason, size, "the volume is being removed");
		goto failed;
	}
	if (!dmdev_path(&e->volume, path, sizeof(path))) {
		snprintf(reason, size, "there is no device node for device %u:%u",
			 e->volume.major, e->volume.minor);
		goto failed;
	}
	if (!nbds_file_open(&e->file, path, false, NBDS_DIRECT_ALWAYS, reason, size))
		goto failed;
	nbds_file_info(&e->file, false, info);
	info->nr_contexts = sizeof(contexts) / sizeof(contexts[0]);
	info->contexts = contexts;
	snprintf(info->description, sizeof(info->description), "volume %s of group %s, read-only",
		 volume, group);
	return e;
failed:
	free(e);
	return NULL;
}

static void reader_close(void *export)
{
	struct export *e = export;

	nbds_file_close(&e->file);
	free(e);
}

/* What the stream lacks: dirty, and the rest between. */
static void dirty_status(struct export *e, struct nbds_request *rq)
{
	uint64_t at = rq->offset, end = at + rq->length, start, stop, from;
	struct repagent_dirty d = { .sector = at / 512 };
	bool more = true;
	int fd, err;
	unsigned int i;

	fd = dirty_open(&e->volume, &d.volume);
	err = fd < 0 ? fd : 0;
	while (!err && more && at < end) {
		from = d.sector;
		err = dirty_next(fd, &d);
		if (!err && d.sector <= from)
			err = -ESTALE;	/* the volume has shrunk, and ends before */
		for (i = 0; !err && i < d.nr && more; i++) {
			start = d.range[i].sector * 512;
			stop = start + d.range[i].nr_sectors * 512;
			if (start > end)
				start = end;
			if (start > at) {
				more = nbds_extent(rq, start - at, 0);
				at = start;
			}
			if (stop > at && at < end && more) {
				more = nbds_extent(rq, stop - at, NBD_STATE_DIRTY);
				at = stop;
			}
		}
		stop = d.sector * 512;
		if (stop >= e->file.size)
			stop = end;	/* all is told */
		if (!err && more && stop > at) {
			more = nbds_extent(rq, stop - at, 0);
			at = stop;
		}
	}
	if (fd >= 0)
		close(fd);
	if (err)
		snprintf(rq->reason, sizeof(rq->reason), "what is dirty of %s/%s cannot be told: %s",
			 e->volume.table.group, e->volume.table.volume, strerror(-err));
	nbds_complete(rq, err ? EIO : 0);
}

static void reader_submit(void *export, struct nbds_request *rq)
{
	struct export *e = export;

	if (rq->op == NBDS_STATUS && rq->context == CONTEXT_DIRTY)
		dirty_status(e, rq);
	else
		nbds_file_submit(&e->file, rq);
}

/* Whoever has the device open keeps it from being removed: so let it go. */
static bool reader_gone(void *export, char *reason, size_t size)
{
	struct export *e = export;
	struct dmdev v;
	uint64_t now = 0;

	if (!volumes_find(e->volume.table.group, e->volume.table.volume, &v, false, reason, size)) {
		snprintf(reason, size, "volume %s/%s is gone", e->volume.table.group, e->volume.table.volume);
		return true;
	}
	if (v.major != e->volume.major || v.minor != e->volume.minor) {
		snprintf(reason, size, "volume %s/%s has another device now: connect again",
			 e->volume.table.group, e->volume.table.volume);
		return true;
	}
	if (v.leaving) {
		snprintf(reason, size, "volume %s/%s is being removed", e->volume.table.group,
			 e->volume.table.volume);
		return true;
	}
	if (!ioctl(e->file.fd, BLKGETSIZE64, &now) && now != e->file.size) {
		snprintf(reason, size, "volume %s/%s has %" PRIu64 " bytes now, not %" PRIu64
			 ": connect again", e->volume.table.group, e->volume.table.volume, now, e->file.size);
		return true;
	}
	return false;
}

const struct nbds_ops reader_ops = {
	.list		= reader_list,
	.allowed	= reader_allowed,
	.open		= reader_open,
	.close		= reader_close,
	.submit		= reader_submit,
	.gone		= reader_gone,
};
