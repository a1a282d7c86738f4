// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl map: what a write-intent map's device holds, without the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/dm-repagent-map.h>
#include <linux/fs.h>

#include "../common/parse.h"
#include "commands.h"
#include "mapimage.h"

#define HEAD_BYTES	(REPAGENT_MAP_LOG_AT * REPAGENT_MAP_SECTOR)

static const char *const state_words[] = {
	[MAP_BLANK]	= "blank: the first activation formats it",
	[MAP_FOREIGN]	= "no write-intent map",
	[MAP_DAMAGED]	= "damaged: all of the volume is read again",
	[MAP_OWED]	= "it missed writes: all of the volume is read again",
	[MAP_UNCLEAN]	= "in use, or not stopped cleanly: the set regions are read again",
	[MAP_CLEAN]	= "stopped cleanly",
};

static bool read_at(int fd, void *to, size_t size, size_t at)
{
	ssize_t n;

	for (; size; size -= (size_t)n, at += (size_t)n, to = (char *)to + n) {
		n = pread(fd, to, size, (off_t)at);
		if (n == 0)
			errno = ENODATA;
		if (n <= 0)
			return false;
	}
	return true;
}

/* Size in bytes of a file or device. 0: a sentence was said. */
static uint64_t size_of(int fd, const char *path)
{
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st)) {
		fail("%s: %s", path, strerror(errno));
		return 0;
	}
	if (S_ISBLK(st.st_mode) ? ioctl(fd, BLKGETSIZE64, &bytes) : !S_ISREG(st.st_mode)) {
		fail("%s: expected a block device, or a file with a copy of one", path);
		return 0;
	}
	if (S_ISREG(st.st_mode))
		bytes = (uint64_t)st.st_size;
	if (bytes < HEAD_BYTES) {
		fail("%s: it has %" PRIu64 " bytes, and a map has more than %d", path, bytes, HEAD_BYTES);
		return 0;
	}
	return bytes;
}

/* Read a device's map. Returns an exit status. */
static int load(struct map_image *m, const char *path)
{
	uint64_t size, want;
	uint8_t *image = NULL, *more;
	int fd, status = EXIT_FAILED;

	memset(m, 0, sizeof(*m));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail("%s: %s", path, strerror(errno));
	size = size_of(fd, path);
	if (!size)
		goto out;
	image = malloc(HEAD_BYTES);
	if (!image || !read_at(fd, image, HEAD_BYTES, 0))
		goto error;
	want = map_image_size(image, HEAD_BYTES);
	if (want < REPAGENT_MAP_BITS_AT * REPAGENT_MAP_SECTOR)
		want = REPAGENT_MAP_BITS_AT * REPAGENT_MAP_SECTOR;
	if (want > size)
		want = size;
	more = realloc(image, want);
	if (!more)
		goto error;
	image = more;
	if (!read_at(fd, image, want, 0) || !map_image_parse(m, image, want))
		goto error;
	status = EXIT_FINE;
	goto out;
error:
	fail("%s: %s", path, strerror(errno));
out:
	free(image);
	close(fd);
	return status;
}

static uint64_t total(const struct map_ranges *ranges)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < ranges->nr; i++)
		sum += ranges->range[i].nr_sectors;
	return sum * REPAGENT_MAP_SECTOR;
}

static void print_uuid(const char *what, const uint8_t *uuid)
{
	int i;

	printf("%-14s", what);
	for (i = 0; i < 16; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
	putchar('\n');
}

static void print_ranges(const struct map_ranges *ranges)
{
	size_t i;

	for (i = 0; i < ranges->nr; i++)
		printf("%" PRIu64 " %" PRIu64 "\n", ranges->range[i].sector, ranges->range[i].nr_sectors);
}

static void print_map(const struct map_image *m)
{
	char size[HUMAN_MAX], region[HUMAN_MAX];

	printf("%-14s%s\n", "state", state_words[m->state]);
	if (m->state == MAP_DAMAGED)
		printf("%-14s%s\n", "damage", m->error);
	if (!m->has_super)
		return;
	printf("%-14s%s/%s\n", "volume", m->group, m->volume);
	print_uuid("group uuid", m->group_uuid);
	print_uuid("volume uuid", m->volume_uuid);
	print_uuid("hub", m->hub);
	printf("%-14s%s (%" PRIu64 " sectors), regions of %s\n", "size",
	       human_size(size, m->sectors * REPAGENT_MAP_SECTOR), m->sectors,
	       human_size(region, (uint64_t)m->region_sectors * REPAGENT_MAP_SECTOR));
	printf("%-14s%" PRIu64 "\n", "generation", m->generation);
	printf("%-14s%016" PRIx64 " %" PRIu64 "\n", "durable", m->durable_incarnation, m->durable_seq);
	printf("%-14s%" PRIu64 " of %" PRIu64 " regions (%s)\n", "set", m->nr_set, m->regions,
	       human_size(size, total(&m->set)));
	printf("%-14s%s\n", "hub lacks", human_size(size, total(&m->lacks)));
}

static int dump(const char *path, bool ranges, bool set)
{
	struct map_image m;
	int status = load(&m, path);

	if (status)
		return status;
	if (!ranges && !set)
		print_map(&m);
	else if (m.state == MAP_BLANK || m.state == MAP_FOREIGN || !m.has_super)
		status = fail("%s: %s: expected the map of a volume", path, state_words[m.state]);
	else
		print_ranges(set ? &m.set : &m.lacks);
	map_image_free(&m);
	return status;
}

static int check(const char *path)
{
	struct map_image m;
	int status = load(&m, path);

	if (status)
		return status;
	switch (m.state) {
	case MAP_FOREIGN:
		status = fail("%s: %s; 'repctl map format %s' makes room for one", path,
			      state_words[m.state], path);
		break;
	case MAP_DAMAGED:
		status = fail("%s: damaged: %s. All of the volume is read again when it is next activated",
			      path, m.error);
		break;
	case MAP_OWED:
		status = fail("%s: %s when it is next activated", path, state_words[m.state]);
		break;
	default:
		printf("%s: %s\n", path, state_words[m.state]);
	}
	map_image_free(&m);
	return status;
}

static int format(const char *path, bool force)
{
	static const uint8_t zeroes[HEAD_BYTES];
	struct map_image m;
	int fd, status = load(&m, path);

	if (status)
		return status;
	map_image_free(&m);
	if (m.state != MAP_BLANK && !force)
		return fail("%s: it is not blank (%s%s%s%s%s); if that can go: repctl map format --force %s",
			    path, state_words[m.state], m.has_super ? ", volume " : "", m.group,
			    m.has_super ? "/" : "", m.volume, path);
	/* Exclusively: not beneath a target, nor a file system. */
	fd = open(path, O_WRONLY | O_EXCL | O_CLOEXEC | O_SYNC);
	if (fd < 0)
		return fail("%s: %s%s", path, strerror(errno),
			    errno == EBUSY ? ": deactivate the volume whose map it is first" : "");
	if (pwrite(fd, zeroes, sizeof(zeroes), 0) != sizeof(zeroes) || fsync(fd))
		status = fail("%s: %s", path, strerror(errno));
	if (close(fd) && !status)
		status = fail("%s: %s", path, strerror(errno));
	if (!status)
		printf("%s: blank; the first activation of a volume with it makes a map, and reads all of the volume\n",
		       path);
	return status;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ranges", no_argument, NULL, 'r' },
		{ "set", no_argument, NULL, 's' },
		{ "force", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 }
	};
	bool ranges = false, set = false, force = false;
	int c, status;
	const char *what, *path;

	while ((c = next_option(argc, argv, ":", options, &status)) != -1) {
		switch (c) {
		case 'r':
			ranges = true;
			break;
		case 's':
			set = true;
			break;
		case 'f':
			force = true;
			break;
		default:
			return status;
		}
	}
	if (argc - optind != 2)
		return usage_error(argc - optind < 2 ? "expected what to do, and a device" :
				   "'%s' is too much", argv[argc - 1]);
	what = argv[optind];
	path = argv[optind + 1];
	if ((ranges || set) && strcmp(what, "dump"))
		return usage_error("--ranges and --set are for dump");
	if (force && strcmp(what, "format"))
		return usage_error("--force is for format");
	if (!strcmp(what, "dump"))
		return dump(path, ranges, set);
	if (!strcmp(what, "check"))
		return check(path);
	if (!strcmp(what, "format"))
		return format(path, force);
	return usage_error("'%s' is unknown: expected dump, check or format", what);
}

const struct command cmd_map = {
	.name = "map",
	.synopsis = "dump|check|format [OPTION...] DEVICE",
	.summary = "look at a write-intent map, or make room for one",
	.help =
"  dump DEVICE           what the map holds; of one in use what is on the disk\n"
"      --ranges          only what the hub lacks: first sector and sectors, a line\n"
"                        for each range\n"
"      --set             the same of the regions that are set\n"
"  check DEVICE          status 1 if all of the volume has to be read again\n"
"  format DEVICE         zeroes where a map begins: the next activation makes one\n"
"      --force           whatever is there\n"
"\n"
"DEVICE is the volume's meta device, or a file with a copy of one.\n",
	.run = run,
};
