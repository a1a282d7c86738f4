/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface between the device-mapper target "repagent" and the daemon
 * that drains a group: the character device /dev/repagent/<group>.
 *
 * Documentation/abi.md describes it: who writes which word, which store pairs
 * with which load, and what every record means.  Everything is little-endian,
 * which is why the target refuses to be built for a big-endian machine.
 *
 * Units: "sector" and "nr_sectors" count 512 bytes, whatever the device's
 * block size is; "pos", "len" and "size" count bytes; times are nanoseconds
 * of CLOCK_REALTIME.
 */
#ifndef _LINUX_DM_REPAGENT_H
#define _LINUX_DM_REPAGENT_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define REPAGENT_ABI_MAGIC	0x676e697274676172ULL	/* "ragtring" */
#define REPAGENT_ABI_VERSION	1

#define REPAGENT_NAME_MAX	31	/* of a group or a volume, without the NUL */
#define REPAGENT_LABEL_MAX	63	/* of a checkpoint, without the NUL */
#define REPAGENT_MAX_VOLUMES	64	/* in a group */
#define REPAGENT_MAX_RECORD	(1024 * 1024)	/* payload bytes of one record */
#define REPAGENT_MAX_VERIFY	(256 * 1024)	/* ... of a VERIFY */

/* Capture: what becomes of a group's writes. */
enum repagent_capture {
	REPAGENT_CAPTURE_INIT	= 0,	/* no daemon said START yet: only dirty bits */
	REPAGENT_CAPTURE_STREAM	= 1,	/* every write is in the ring */
	REPAGENT_CAPTURE_TRACK	= 2,	/* only dirty bits */
};

/* Image: what the stream, applied in full, would make of a volume's replica. */
enum repagent_image {
	REPAGENT_IMAGE_CLEAN	= 0,	/* the disk, bit for bit */
	REPAGENT_IMAGE_DIRTY	= 1,	/* ranges are missing */
	REPAGENT_IMAGE_RESYNC	= 2,	/* ... and are being read into the ring */
};

/* Why a group is not streaming, or a volume not clean. */
enum repagent_reason {
	REPAGENT_REASON_NONE		= 0,
	REPAGENT_REASON_FIRST_SYNC	= 1,	/* the volume was never replicated */
	REPAGENT_REASON_UNCLEAN		= 2,	/* it was not stopped cleanly */
	REPAGENT_REASON_NO_MAP		= 3,	/* it has no write-intent map to trust */
	REPAGENT_REASON_RING_FULL	= 4,	/* the ring, or memory, ran out */
	REPAGENT_REASON_HUB_REFUSED	= 5,	/* the hub will not have the stream */
	REPAGENT_REASON_HUB_FULL	= 6,	/* the hub has no space left */
	REPAGENT_REASON_FENCED		= 7,	/* the hub failed over to another side */
	REPAGENT_REASON_PAUSED		= 8,	/* an operator said so */
	REPAGENT_REASON_META_ERROR	= 9,	/* the write-intent map cannot be written */
	REPAGENT_REASON_WRITE_FAILED	= 10,	/* the origin failed a write */
	REPAGENT_REASON_REQUESTED	= 11,	/* an operator asked for a resync */
	REPAGENT_REASON_RESIZED		= 12,	/* the volume has grown */
	REPAGENT_NR_REASONS
};

/* Records. */
enum repagent_type {
	REPAGENT_REC_WRITE		= 1,	/* payload at sector */
	REPAGENT_REC_ZEROES		= 2,	/* the range reads as zeroes */
	REPAGENT_REC_DISCARD		= 3,	/* the range's content is undefined */
	REPAGENT_REC_FLUSH		= 4,	/* advisory: the writer's flush succeeded */
	REPAGENT_REC_CHECKPOINT		= 5,	/* payload: the label, with its NUL */
	REPAGENT_REC_RESYNC		= 6,	/* payload read from the origin */
	REPAGENT_REC_RESYNC_BEGIN	= 7,	/* the volume's image is torn from here */
	REPAGENT_REC_RESYNC_END		= 8,	/* ... to here */
	REPAGENT_REC_VERIFY		= 9,	/* payload read from the origin, to compare */
	REPAGENT_REC_GAP		= 10,	/* writes after this are missing: aux = reason */
	REPAGENT_REC_VOLUME_ADD		= 11,	/* nr_sectors = size */
	REPAGENT_REC_VOLUME_REMOVE	= 12,
	REPAGENT_REC_VOLUME_RESIZE	= 13,	/* nr_sectors = new size */
	REPAGENT_REC_FAILED		= 14,	/* a local write failed: aux = errno */
	REPAGENT_REC_SHUTDOWN		= 15,	/* protection was ended on purpose */
	REPAGENT_REC_MAP_ERROR		= 16,	/* the map cannot be written: aux = errno */
	REPAGENT_REC_MAP_OK		= 17,	/* ... it is kept again */
	REPAGENT_NR_TYPES
};

#define REPAGENT_REC_FUA	(1 << 0)	/* flag of WRITE and ZEROES */

/* The low eight bits of repagent_slot.commit. */
enum repagent_slot_state {
	REPAGENT_SLOT_BUSY	= 1,	/* reserved: its write is on its way */
	REPAGENT_SLOT_READY	= 2,	/* to be consumed */
	REPAGENT_SLOT_VOID	= 3,	/* consume it and do nothing */
};

#define REPAGENT_SLOT_SHIFT	8
#define REPAGENT_SLOT_WORD(seq, state) \
	(((__u64)(seq) << REPAGENT_SLOT_SHIFT) | (state))

/*
 * struct repagent_slot - one record's descriptor; record seq lives in slot
 * seq % nr_slots.
 * @commit:	REPAGENT_SLOT_WORD(seq, state).  The kernel stores it with
 *		release semantics as the last word of a change; load it with
 *		acquire semantics before reading the others, and believe them
 *		only if the sequence number is the one expected and the state
 *		is not BUSY.
 * @type:	enum repagent_type
 * @flags:	REPAGENT_REC_*
 * @volume:	id of the volume; 0 where the record is the whole group's
 * @aux:	of GAP an enum repagent_reason, of FAILED a positive errno
 * @sector:	first sector of the range
 * @nr_sectors:	length of the range
 * @pos:	where the payload begins, from the start of the payload ring
 *		(never wraps within a record: the payload is mapped twice)
 * @len:	bytes of payload
 * @time:	when the record was reserved (coarse: a few milliseconds)
 * @end:	bytes of payload that the ring has ever held up to and including
 *		this record, so that the lag in bytes between two records is a
 *		difference
 */
struct repagent_slot {
	__u64	commit;
	__u8	type;
	__u8	flags;
	__u16	volume;
	__s32	aux;
	__u64	sector;
	__u64	nr_sectors;
	__u64	pos;
	__u32	len;
	__u32	reserved0;
	__u64	time;
	__u64	end;
};

/*
 * struct repagent_ring_header - the first page of the mapping.
 * @magic, @version, @header_size:	REPAGENT_ABI_*; bytes of this struct
 * @incarnation:	random; one life of the ring
 * @nr_slots:		a power of two
 * @slot_size:		bytes
 * @payload_size:	bytes
 * @slots_offset:	of the slots in the mapping, bytes
 * @payload_offset:	of the payload's first copy in the mapping, bytes
 * @map_size:		of the whole mapping, bytes
 * @head:		the next sequence number to be reserved; the first
 *			record ever has 1
 */
struct repagent_ring_header {
	__u64	magic;
	__u32	version;
	__u32	header_size;
	__u64	incarnation;
	__u32	nr_slots;
	__u32	slot_size;
	__u64	payload_size;
	__u64	slots_offset;
	__u64	payload_offset;
	__u64	map_size;
	__u64	head;
};

/*
 * struct repagent_info - what a group is doing (REPAGENT_IOC_INFO).
 * @abi_version:	REPAGENT_ABI_VERSION of the kernel
 * @capture, @reason:	enum repagent_capture, enum repagent_reason
 * @nr_volumes:		that have an active or lingering volume
 * @incarnation:	of the ring
 * @map_size:		what to give to mmap()
 * @head:		next sequence number
 * @acked:		last acknowledged one
 * @committed:		last one before the first busy slot
 * @payload_used:	bytes
 * @payload_size:	bytes
 * @events:		counts changes of state; rises with every one
 * @gaps:		how often STREAM was left
 */
struct repagent_info {
	__u32	abi_version;
	__u32	capture;
	__u32	reason;
	__u32	nr_volumes;
	__u64	incarnation;
	__u64	map_size;
	__u64	head;
	__u64	acked;
	__u64	committed;
	__u64	payload_used;
	__u64	payload_size;
	__u64	events;
	__u64	gaps;
	char	group[REPAGENT_NAME_MAX + 1];
	__u64	reserved[4];
};

/*
 * struct repagent_volume_info - one volume (REPAGENT_IOC_VOLUME).
 * @index:	in: 0 .. REPAGENT_MAX_VOLUMES - 1; ENOENT where none lives there
 * @id:		as in the slots; never 0; that of a volume which was ever active
 *		is never given again in one incarnation
 * @image, @reason:	enum repagent_image, enum repagent_reason
 * @active:	0: the device is gone, its records are not yet acknowledged
 * @sectors:	size
 * @dirty:	sectors
 * @resync_left: sectors
 * @failed:	local writes that failed
 * @resyncs:	how often a resync ended well
 * @busy_seq:	the ring's first busy record if it is this volume's, else 0
 * @reach:	sectors: no record in the ring goes beyond; more than @sectors
 *		after the volume has shrunk
 * @map_incarnation, @map_seq: what the hub had made durable when the volume's
 *		write-intent map was relied on, until the first record since then
 *		is acknowledged; then, and without a map, 0. A hub that lacks
 *		this has lost something: all of the volume is to be read again
 * @map_error:	errno with which its write-intent map cannot be written; 0: it
 *		is kept, or there is none
 */
struct repagent_volume_info {
	__u32	index;
	__u16	id;
	__u16	active;
	__u32	image;
	__u32	reason;
	__u64	sectors;
	__u64	dirty;
	__u64	resync_left;
	__u64	failed;
	__u64	resyncs;
	__u64	busy_seq;
	__u64	reach;
	char	name[REPAGENT_NAME_MAX + 1];
	__u64	map_incarnation;
	__u64	map_seq;
	__u32	map_error;
	__u32	reserved[1];
};

/* struct repagent_ack - everything up to @seq is durable at the hub. */
struct repagent_ack {
	__u64	incarnation;
	__u64	seq;
};

/*
 * struct repagent_wait - wake poll() with POLLIN once record @seq is committed,
 * and with POLLPRI once the group's event count differs from @events.
 */
struct repagent_wait {
	__u64	seq;
	__u64	events;
};

/*
 * struct repagent_hub - what the daemon knows of the hub.
 * @incarnation:	of the ring the daemon has mapped
 * @connected:		1: the hub takes the stream.  0: it does not
 * @reason:		with connected 0: NONE while the connection is merely
 *			lost (the ring takes what comes), or HUB_REFUSED,
 *			HUB_FULL, FENCED, PAUSED, which stop capture at once
 */
struct repagent_hub {
	__u64	incarnation;
	__u32	connected;
	__u32	reason;
};

/*
 * struct repagent_emit - put a record of the daemon's own into the stream.
 * @type:	CHECKPOINT (with @label), SHUTDOWN, or VERIFY (of @nr_sectors
 *		from @sector of @volume: at most REPAGENT_MAX_VERIFY bytes, and
 *		not across a multiple of 1 MiB)
 * @seq:	out: the record's sequence number (0 for VERIFY, which takes
 *		its number when earlier writes of the range are done)
 */
struct repagent_emit {
	__u16	type;
	__u16	volume;
	__u32	reserved;
	__u64	sector;
	__u64	nr_sectors;
	__u64	seq;
	char	label[REPAGENT_LABEL_MAX + 1];
};

#define REPAGENT_DIRTY_RANGES	30

struct repagent_range {
	__u64	sector;
	__u64	nr_sectors;
};

/*
 * struct repagent_dirty - what the stream lacks of a volume, and what a resync
 * is reading (REPAGENT_IOC_DIRTY).
 * @volume:	in: its id
 * @nr:		out: how many of @range are filled; they rise and do not touch
 * @sector:	in: where to begin; out: where to go on, for up to there all is
 *		told; the volume's size once all is
 */
struct repagent_dirty {
	__u16	volume;
	__u16	nr;
	__u32	reserved;
	__u64	sector;
	struct repagent_range range[REPAGENT_DIRTY_RANGES];
};

#define REPAGENT_IOC_INFO	_IOR('R', 0xd0, struct repagent_info)
#define REPAGENT_IOC_VOLUME	_IOWR('R', 0xd1, struct repagent_volume_info)
#define REPAGENT_IOC_HUB	_IOW('R', 0xd2, struct repagent_hub)
#define REPAGENT_IOC_ACK	_IOW('R', 0xd3, struct repagent_ack)
#define REPAGENT_IOC_WAIT	_IOW('R', 0xd4, struct repagent_wait)
#define REPAGENT_IOC_EMIT	_IOWR('R', 0xd5, struct repagent_emit)
#define REPAGENT_IOC_DIRTY	_IOWR('R', 0xd6, struct repagent_dirty)

#endif /* _LINUX_DM_REPAGENT_H */
