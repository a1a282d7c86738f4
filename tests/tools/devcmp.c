// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * devcmp - are two devices or files equal, byte for byte?
 *
 * Devices are read with O_DIRECT: what counts is what is on them.  Prints the
 * first difference and "name value" lines; exit status 0 equal, 1 different.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libtest.h"

#define CHUNK	(1024u * 1024u)
#define BLOCK	4096u

static const char usage[] =
"usage: devcmp [OPTION]... A B\n"
"\n"
"  --size BYTES  compare only so much from the start\n"
"  --longer-ok   B may be longer than A\n"
"  --list        print every differing sector\n"
"  --quiet       print no first difference\n";

static int open_one(const char *name)
{
	struct stat st;
	int flags = O_RDONLY | O_CLOEXEC, fd;

	if (stat(name, &st))
		die("%s: %s", name, strerror(errno));
	if (S_ISBLK(st.st_mode))
		flags |= O_DIRECT;
	fd = open(name, flags);
	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	return fd;
}

static void read_all(int fd, const char *name, uint8_t *buf, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, (off_t)at);

		if (n < 0)
			die("%s: read at %" PRIu64 ": %s", name, at, strerror(errno));
		if (!n)
			die("%s: ends at %" PRIu64, name, at);
		buf += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
}

int main(int argc, char **argv)
{
	uint64_t size = 0, size_a, size_b, blocks = 0, sectors = 0, first = UINT64_MAX;
	bool longer_ok = false, list = false, quiet = false;
	const char *name_a, *name_b;
	char **names;
	int a, b;
	void *buf_a, *buf_b;

	names = parse_options(argc, argv, (const struct tool_option[]){
		{ "size", OPT_SIZE, { &size } },
		{ "longer-ok", OPT_FLAG, { &longer_ok } },
		{ "list", OPT_FLAG, { &list } },
		{ "quiet", OPT_FLAG, { &quiet } },
		{ }
	}, usage, 2);
	name_a = names[0];
	name_b = names[1];
	a = open_one(name_a);
	b = open_one(name_b);
	size_a = device_size(a);
	size_b = device_size(b);
	if (!size) {
		size = size_a;
		if (size_a != size_b && !(longer_ok && size_b > size_a)) {
			printf("sizes %" PRIu64 " %" PRIu64 "\n", size_a, size_b);
			return EXIT_BAD;
		}
	}
	if (!size)
		die("%s is empty", name_a);
	if (posix_memalign(&buf_a, BLOCK, CHUNK) || posix_memalign(&buf_b, BLOCK, CHUNK))
		die("out of memory");

	for (uint64_t at = 0; at < size; at += CHUNK) {
		size_t len = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
		const uint8_t *pa = buf_a, *pb = buf_b;

		read_all(a, name_a, buf_a, len, at);
		read_all(b, name_b, buf_b, len, at);
		if (!memcmp(pa, pb, len))
			continue;
		for (size_t i = 0; i < len; i += BLOCK) {
			size_t n = len - i < BLOCK ? len - i : BLOCK;

			if (!memcmp(pa + i, pb + i, n))
				continue;
			blocks++;
			for (size_t k = i; k < i + n; k += SECTOR) {
				size_t m = i + n - k < SECTOR ? i + n - k : SECTOR;

				if (!memcmp(pa + k, pb + k, m))
					continue;
				sectors++;
				if (list)
					printf("sector %" PRIu64 "\n", (at + k) / SECTOR);
			}
			if (first != UINT64_MAX)
				continue;
			while (pa[i] == pb[i])
				i++;
			first = at + i;
			if (!quiet)
				fprintf(stderr, "first difference at byte %" PRIu64 " (sector %" PRIu64
					"): 0x%02x in %s, 0x%02x in %s\n", first, first / SECTOR,
					pa[i], name_a, pb[i], name_b);
			i -= i % BLOCK;
		}
	}
	printf("bytes %" PRIu64 "\n", size);
	printf("different_blocks %" PRIu64 "\n", blocks);
	printf("different_sectors %" PRIu64 "\n", sectors);
	return blocks ? EXIT_BAD : EXIT_GOOD;
}
