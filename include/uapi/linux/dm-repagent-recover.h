/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface between the device-mapper target "rep-recover" and the
 * daemon that answers for it: the character device
 * /dev/rep-recover/<group>/<volume>.
 *
 * Its mapping is the ring of <linux/dm-repagent.h>, with struct
 * repagent_ring_header and struct repagent_slot, whose barriers are the same;
 * what the records mean is told here. Documentation/recover.md describes both.
 */
#ifndef _LINUX_DM_REPAGENT_RECOVER_H
#define _LINUX_DM_REPAGENT_RECOVER_H

#include <linux/dm-repagent.h>

#define REPAGENT_RECOVER_ABI_VERSION	1
#define REPAGENT_RECOVER_MAX		REPAGENT_MAX_RECORD	/* bytes of a READ or WRITE */

/* Requests: repagent_slot.type. */
enum repagent_recover_type {
	REPAGENT_RECOVER_READ		= 1,	/* answered with data */
	REPAGENT_RECOVER_WRITE		= 2,	/* payload; flag REPAGENT_REC_FUA */
	REPAGENT_RECOVER_ZEROES		= 3,	/* the range reads as zeroes; flag REPAGENT_REC_FUA */
	REPAGENT_RECOVER_DISCARD	= 4,	/* a hint */
	REPAGENT_RECOVER_FLUSH		= 5,	/* all changes before it are durable */
};

/*
 * struct repagent_recover_info - REPAGENT_RECOVER_IOC_INFO
 * @abi_version:	REPAGENT_RECOVER_ABI_VERSION of the kernel
 * @active:		1: the device is there. 0: it was removed, and what was
 *			not acknowledged is still to be made durable
 * @incarnation:	of the ring
 * @map_size:		what to give to mmap()
 * @sectors:		size of the volume
 * @head:		next sequence number
 * @acked:		last acknowledged one
 * @parked:		requests that wait for room in the ring
 * @payload_used, @payload_size: bytes
 */
struct repagent_recover_info {
	__u32	abi_version;
	__u32	active;
	__u64	incarnation;
	__u64	map_size;
	__u64	sectors;
	__u64	head;
	__u64	acked;
	__u64	parked;
	__u64	payload_used;
	__u64	payload_size;
	char	group[REPAGENT_NAME_MAX + 1];
	char	volume[REPAGENT_NAME_MAX + 1];
	__u64	reserved[4];
};

/*
 * struct repagent_recover_done - the answer to one request
 * @seq:	its number
 * @data:	of a READ that succeeded: the address of its data
 * @len:	... and its length in bytes; else 0
 * @error:	0 or a positive errno
 */
struct repagent_recover_done {
	__u64	seq;
	__u64	data;
	__u32	len;
	__u32	error;
};

#define REPAGENT_RECOVER_BATCH	64

/*
 * struct repagent_recover_answer - @nr answers, at most REPAGENT_RECOVER_BATCH
 *
 * A request may be answered again, as happens when it was sent again; then
 * nothing changes. The first one that is wrong ends the call, and those before
 * it have been taken.
 */
struct repagent_recover_answer {
	__u64	incarnation;
	__u64	done;		/* address of an array of struct repagent_recover_done */
	__u32	nr;
	__u32	reserved;
};

/*
 * ACK (struct repagent_ack): every write up to there is durable at the hub,
 * every request answered. WAIT (struct repagent_wait): wake poll() once that
 * record is committed; its events are 0. BIND (__u64, not 0): which disk of which
 * hub it is; ESTALE if changes of another one are not acknowledged. FORGET: of a volume whose device was
 * removed, let go what is not acknowledged.
 */
#define REPAGENT_RECOVER_IOC_INFO	_IOR('R', 0xe0, struct repagent_recover_info)
#define REPAGENT_RECOVER_IOC_ANSWER	_IOW('R', 0xe1, struct repagent_recover_answer)
#define REPAGENT_RECOVER_IOC_ACK	_IOW('R', 0xe2, struct repagent_ack)
#define REPAGENT_RECOVER_IOC_WAIT	_IOW('R', 0xe3, struct repagent_wait)
#define REPAGENT_RECOVER_IOC_FORGET	_IO('R', 0xe4)
#define REPAGENT_RECOVER_IOC_BIND	_IOW('R', 0xe5, __u64)

#endif /* _LINUX_DM_REPAGENT_RECOVER_H */
