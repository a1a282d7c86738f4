// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libcutlog.h"

#define MAGIC		0x6a736677736872ull
#define VERSION		1
#define CHUNK		(128 * SECTOR)

struct disk_super {
	uint64_t magic, version, nr_entries;
	uint32_t sectorsize;
} __attribute__((packed));

struct disk_entry {
	uint64_t sector, nr_sectors, flags, data_len;
};

__attribute__((format(printf, 3, 4)))
static bool refuse(char *error, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, size, fmt, ap);
	va_end(ap);
	return false;
}

static bool read_at(int fd, void *buf, size_t len, uint64_t at)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)at);

		if (n < 0)
			return false;
		if (!n) {
			errno = ENODATA;
			return false;
		}
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

static bool write_at(int fd, const void *buf, size_t len, uint64_t at)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0)
			return false;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

static bool read_entries(struct cutlog *log, uint32_t unit, char *error, size_t size)
{
	uint64_t end = device_size(log->fd), at = unit, max = UINT64_MAX / unit;
	uint8_t sector[4096];

	for (uint64_t i = 0; i < log->nr; i++) {
		struct cutlog_entry *e = &log->entries[i];
		struct disk_entry d;

		if (!read_at(log->fd, sector, unit, at))
			return refuse(error, size, "entry %" PRIu64 " at byte %" PRIu64 ": %s",
				      i, at, strerror(errno));
		memcpy(&d, sector, sizeof(d));
		e->flags = le64toh(d.flags);
		/* QEMU counts an entry as soon as its place is reserved. */
		if (!e->flags && !d.nr_sectors)
			return refuse(error, size, "entry %" PRIu64 " of %" PRIu64 " is empty",
				      i, log->nr);
		if (e->flags & ~(uint64_t)(CUTLOG_FLUSH | CUTLOG_FUA | CUTLOG_DISCARD | CUTLOG_MARK |
					   CUTLOG_METADATA) ||
		    le64toh(d.sector) > max || le64toh(d.nr_sectors) > max)
			return refuse(error, size, "entry %" PRIu64 " at byte %" PRIu64 " is no entry",
				      i, at);
		e->sector = le64toh(d.sector) * (unit / SECTOR);
		e->sectors = le64toh(d.nr_sectors) * (unit / SECTOR);
		if (e->flags & CUTLOG_MARK) {
			uint64_t len = le64toh(d.data_len);

			if (len >= CUTLOG_MARK_MAX)
				len = CUTLOG_MARK_MAX - 1;
			memcpy(e->mark, sector + sizeof(d), len);
		}
		at += unit;
		e->data = at;
		if (!(e->flags & (CUTLOG_DISCARD | CUTLOG_MARK))) {
			if (e->sectors * SECTOR > end - at)
				return refuse(error, size, "entry %" PRIu64 ": its %" PRIu64
					      " sectors end beyond the log", i, e->sectors);
			at += e->sectors * SECTOR;
		}
		if (at > end)
			return refuse(error, size, "entry %" PRIu64 " ends beyond the log", i);
	}
	return true;
}

bool cutlog_open(struct cutlog *log, const char *path, char *error, size_t size)
{
	struct disk_super super;
	uint32_t unit;

	*log = (struct cutlog){ .fd = open(path, O_RDONLY | O_CLOEXEC) };
	if (log->fd < 0)
		return refuse(error, size, "%s: %s", path, strerror(errno));
	if (!read_at(log->fd, &super, sizeof(super), 0) || le64toh(super.magic) != MAGIC) {
		refuse(error, size, "%s is no log of writes", path);
		goto failed;
	}
	unit = le32toh(super.sectorsize);
	if (le64toh(super.version) != VERSION || (unit != 512 && unit != 1024 && unit != 2048 && unit != 4096)) {
		refuse(error, size, "%s: version %" PRIu64 ", sectors of %u bytes: expected version %u, 512 to 4096",
		       path, le64toh(super.version), unit, VERSION);
		goto failed;
	}
	log->nr = le64toh(super.nr_entries);
	if (log->nr > device_size(log->fd) / unit) {
		refuse(error, size, "%s: %" PRIu64 " entries are more than it has room for", path, log->nr);
		goto failed;
	}
	log->entries = calloc(log->nr + 1, sizeof(*log->entries));
	if (!log->entries) {
		refuse(error, size, "%s: out of memory", path);
		goto failed;
	}
	if (read_entries(log, unit, error, size))
		return true;
failed:
	cutlog_close(log);
	return false;
}

void cutlog_close(struct cutlog *log)
{
	free(log->entries);
	if (log->fd >= 0)
		close(log->fd);
	*log = (struct cutlog){ .fd = -1 };
}

uint64_t cutlog_find_mark(const struct cutlog *log, const char *text)
{
	for (uint64_t i = log->nr; i-- > 0;)
		if (log->entries[i].flags & CUTLOG_MARK && !strcmp(log->entries[i].mark, text))
			return i + 1;
	return UINT64_MAX;
}

/* How many of the first @cut entries are covered by the part's last flush. */
static uint64_t flushed(const struct cutlog *log, const struct cut_part *part, uint64_t cut)
{
	for (uint64_t i = cut; i-- > 0;) {
		const struct cutlog_entry *e = &log->entries[i];

		if (e->flags & CUTLOG_FLUSH &&
		    (part->only || (e->sector >= part->start && e->sector - part->start < part->length)))
			return i;
	}
	return 0;
}

/* What of the entry lies in the part, as sectors of the part. */
static bool overlap(const struct cutlog_entry *e, const struct cut_part *part, uint64_t *from, uint64_t *to)
{
	uint64_t end = e->sector + e->sectors, part_end = part->start + part->length;

	*from = e->sector > part->start ? e->sector - part->start : 0;
	*to = (end < part_end ? end : part_end) - part->start;
	return e->sectors && !(e->flags & CUTLOG_MARK) && end > part->start && e->sector < part_end;
}

/* Writes sectors @from to @to of the part. */
static bool apply(const struct cutlog *log, const struct cut_part *part, const struct cutlog_entry *e,
		  uint64_t from, uint64_t to)
{
	static const uint8_t zeroes[CHUNK];
	uint8_t buf[CHUNK];

	for (uint64_t s = from; s < to; s += CHUNK / SECTOR) {
		size_t len = to - s < CHUNK / SECTOR ? (size_t)(to - s) * SECTOR : CHUNK;
		const void *data = zeroes;

		if (!(e->flags & CUTLOG_DISCARD)) {
			if (!read_at(log->fd, buf, len, e->data + (part->start + s - e->sector) * SECTOR))
				return false;
			data = buf;
		}
		if (!write_at(part->fd, data, len, s * SECTOR))
			return false;
	}
	return true;
}

bool cutlog_rebuild(const struct cutlog *log, const struct cut_part *part, uint64_t cut,
		    struct rng *rng, unsigned int percent, struct cut_figures *figures)
{
	uint64_t covered = flushed(log, part, cut), from, to;

	*figures = (struct cut_figures){ 0 };
	for (uint64_t i = 0; i < cut; i++) {
		const struct cutlog_entry *e = &log->entries[i];

		if (!overlap(e, part, &from, &to))
			continue;
		if (i < covered || e->flags & CUTLOG_FUA) {
			figures->durable += to - from;
			if (!apply(log, part, e, from, to))
				return false;
			continue;
		}
		/* Sector by sector, in rows: each kept row is one write. */
		figures->pending += to - from;
		while (from < to) {
			uint64_t row = from;

			while (row < to && rng_below(rng, 100) < percent)
				row++;
			figures->kept += row - from;
			if (!apply(log, part, e, from, row))
				return false;
			from = row + 1;
		}
	}
	return true;
}
