/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A group's ring, wherever it lives: the kernel's character device (group.c),
 * or a simulation in a test.
 */
#ifndef REPAGENT_RING_H
#define REPAGENT_RING_H

#include <stddef.h>
#include <stdint.h>
#include <linux/dm-repagent.h>

#include "../common/dmdev.h"

struct ring;

/*
 * struct ring_ops - the ioctls of Documentation/abi.md.
 *
 * Each returns 0 or a negative errno; wait() returns 1 if what is to be waited
 * for is there already.  mark_dirty(), which is no ioctl but a message to the
 * mapped devices, has a volume of the group, or with NULL all, read again as a
 * whole; it may wait for I/O, and error gets DMDEV_ERROR_MAX bytes of a sentence.
 */
struct ring_ops {
	int (*info)(struct ring *ring, struct repagent_info *info);
	int (*volume)(struct ring *ring, struct repagent_volume_info *volume);
	int (*hub)(struct ring *ring, const struct repagent_hub *hub);
	int (*ack)(struct ring *ring, const struct repagent_ack *ack);
	int (*wait)(struct ring *ring, const struct repagent_wait *wait);
	int (*emit)(struct ring *ring, struct repagent_emit *emit);
	int (*dirty)(struct ring *ring, struct repagent_dirty *dirty);
	enum dmdev_result (*mark_dirty)(struct ring *ring, const char *group, const char *volume,
					char *error);
};

/*
 * struct ring - what the ops work on.
 * @fd:		becomes readable (or POLLPRI) as wait() asked
 * @map:	the mapping, read-only
 * @map_size:	its size in bytes
 */
struct ring {
	const struct ring_ops *ops;
	int fd;
	const void *map;
	size_t map_size;
};

#endif /* REPAGENT_RING_H */
