/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The write-intent map of a repagent volume on its meta device.
 *
 * Documentation/map.md says what it means, in which order it is written, and
 * what each crash leaves. Everything is little-endian; every structure is one
 * sector of 512 bytes, which a device writes wholly or not at all, and begins
 * with a struct repagent_map_head.
 */
#ifndef _LINUX_DM_REPAGENT_MAP_H
#define _LINUX_DM_REPAGENT_MAP_H

#include <linux/types.h>

#define REPAGENT_MAP_VERSION	1
#define REPAGENT_MAP_SECTOR	512

/* What a sector is: repagent_map_head.magic. */
#define REPAGENT_MAP_SUPER	0x50414d4752504552ULL	/* "REPRGMAP" */
#define REPAGENT_MAP_LOG	0x474f4c4752504552ULL	/* "REPRGLOG" */
#define REPAGENT_MAP_FINE	0x4e49464752504552ULL	/* "REPRGFIN" */
#define REPAGENT_MAP_BITS	0x5449424752504552ULL	/* "REPRGBIT" */

/* Where they are, sectors from the start of the device. */
#define REPAGENT_MAP_SUPERS	2
#define REPAGENT_MAP_SUPER_STEP	8	/* the second superblock is in a block of its own */
#define REPAGENT_MAP_LOG_AT	16
#define REPAGENT_MAP_LOG_NR	128
#define REPAGENT_MAP_FINE_AT	144
#define REPAGENT_MAP_FINE_NR	64
#define REPAGENT_MAP_BITS_AT	208

/*
 * struct repagent_map_head - what every sector begins with.
 * @magic:	REPAGENT_MAP_*
 * @crc:	CRC-32C of the whole sector with this word 0 (seed ~0, inverted)
 * @index:	of the sector in its area, from 0; of a superblock 0
 */
struct repagent_map_head {
	__le64	magic;
	__le32	crc;
	__le32	index;
};

#define REPAGENT_MAP_CLEAN	(1 << 0)	/* the volume was stopped cleanly: the fine area counts */
#define REPAGENT_MAP_OWED	(1 << 1)	/* the map missed something: all is dirty */
#define REPAGENT_MAP_FLUSH_FAILED (1 << 2)	/* a flush of the origin has, in the boot of @boot_time */

/*
 * struct repagent_map_super - sectors 0 and REPAGENT_MAP_SUPER_STEP; the one
 * with the higher @seq counts, and stands in place @seq % 2.
 * @version:	REPAGENT_MAP_VERSION
 * @flags:	REPAGENT_MAP_CLEAN, REPAGENT_MAP_OWED, REPAGENT_MAP_FLUSH_FAILED
 * @seq:	rises by one with each write
 * @sectors:	size of the volume
 * @region_sectors: a power of two
 * @nr_bits:	sectors of the bits area
 * @log_tail:	log sectors with a lower sequence number are in the bits
 * @nr_fine:	under CLEAN: sectors of the fine area that count
 * @generation:	of the volume's side; raised by a fail-over
 * @durable_incarnation, @durable_seq: what the hub had made durable when a bit
 *		was last cleared
 * @boot_time:	under CLEAN and FLUSH_FAILED: when the host was booted, s of
 *		CLOCK_REALTIME
 * @origin_writes: under CLEAN: sectors that had been written to the origin
 * @group, @volume: names, with NULs to the end
 * @group_uuid, @volume_uuid: random
 * @hub:	identity of the hub; zeroes: it has none
 */
struct repagent_map_super {
	struct repagent_map_head head;
	__le32	version;
	__le32	flags;
	__le64	seq;
	__le64	sectors;
	__le32	region_sectors;
	__le32	nr_bits;
	__le64	log_tail;
	__le32	nr_fine;
	__le32	reserved0;
	__le64	generation;
	__le64	durable_incarnation;
	__le64	durable_seq;
	__le64	boot_time;
	__le64	origin_writes;
	__u8	group[32];
	__u8	volume[32];
	__u8	group_uuid[16];
	__u8	volume_uuid[16];
	__u8	hub[16];
	__u8	reserved1[296];
};

/* A run of regions that are set. */
struct repagent_map_run {
	__le32	first;
	__le32	count;
};

#define REPAGENT_MAP_LOG_RUNS	60

/*
 * struct repagent_map_log - regions that were set at a time; stands in place
 * @seq % REPAGENT_MAP_LOG_NR of the log, which is its index.
 */
struct repagent_map_log {
	struct repagent_map_head head;
	__le64	seq;
	__le32	nr;
	__le32	reserved;
	struct repagent_map_run run[REPAGENT_MAP_LOG_RUNS];
};

/* A range of the volume that the hub lacks, sectors. */
struct repagent_map_extent {
	__le64	sector;
	__le64	nr_sectors;
};

#define REPAGENT_MAP_EXTENTS	30

struct repagent_map_fine {
	struct repagent_map_head head;
	__le32	nr;
	__le32	reserved[3];
	struct repagent_map_extent extent[REPAGENT_MAP_EXTENTS];
};

#define REPAGENT_MAP_BITS_BYTES	496
#define REPAGENT_MAP_REGIONS	(REPAGENT_MAP_BITS_BYTES * 8)	/* of a sector */

/* Bit b of byte i is region index * REPAGENT_MAP_REGIONS + 8 * i + b. */
struct repagent_map_bits {
	struct repagent_map_head head;
	__u8	bits[REPAGENT_MAP_BITS_BYTES];
};

#endif /* _LINUX_DM_REPAGENT_MAP_H */
