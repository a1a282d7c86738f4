/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logs of writes, as QEMU's blklogwrites driver and the device-mapper target
 * log-writes keep them, and what a disk may look like after a power cut at a
 * point of such a log.
 *
 * The format, all little-endian, in units of the log's sector size:
 *
 *	super: magic, version, number of entries (u64), sector size (u32)
 *	then for each entry one sector: sector, sectors, flags, length (u64),
 *	followed by that many sectors of data; a discard and a mark have none,
 *	a mark's text stands behind the length.
 *
 * A flush stands behind the writes that had been answered when it was sent: it
 * makes them durable.
 */
#ifndef LIBCUTLOG_H
#define LIBCUTLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "libtest.h"

enum {
	CUTLOG_FLUSH	= 1 << 0,
	CUTLOG_FUA	= 1 << 1,
	CUTLOG_DISCARD	= 1 << 2,
	CUTLOG_MARK	= 1 << 3,
	CUTLOG_METADATA	= 1 << 4,
};

#define CUTLOG_MARK_MAX	64

struct cutlog_entry {
	uint64_t sector;	/* of 512 bytes, here and below */
	uint64_t sectors;
	uint64_t flags;
	uint64_t data;		/* where its data is in the log, in bytes */
	char mark[CUTLOG_MARK_MAX];
};

struct cutlog {
	int fd;
	uint64_t nr;
	struct cutlog_entry *entries;
};

/*
 * Reads all entries of @path. False, with a sentence in @error, if it is no such
 * log or is damaged.
 */
bool cutlog_open(struct cutlog *log, const char *path, char *error, size_t size);
void cutlog_close(struct cutlog *log);

/* The number of entries up to and with the last mark @text; UINT64_MAX: none. */
uint64_t cutlog_find_mark(const struct cutlog *log, const char *text);

/*
 * Part of the logged device with a volatile cache of its own: a flush is one of
 * this part if it was sent to a sector of it. The only part of a device has all
 * flushes.
 */
struct cut_part {
	uint64_t start, length;
	bool only;
	int fd;			/* image of the part, as it was before the log */
};

struct cut_figures {
	uint64_t durable;	/* sectors that had to be there */
	uint64_t pending;	/* those that may be lost */
	uint64_t kept;		/* of these: not lost this time */
};

/*
 * Makes of the part's image what a cut after the first @cut entries may leave:
 * all that was flushed or written with FUA, and of the other sectors a random
 * choice, each kept with the probability @percent. False, with errno, if the log
 * cannot be read or the image not be written.
 */
bool cutlog_rebuild(const struct cutlog *log, const struct cut_part *part, uint64_t cut,
		    struct rng *rng, unsigned int percent, struct cut_figures *figures);

#endif /* LIBCUTLOG_H */
