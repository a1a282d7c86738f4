// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * allocfail - one allocation of the kernel's after the other fails.
 *
 * Loads a table for a new device, resumes it, opens its group's character
 * device and maps the ring, while the first allocation fails, then the second,
 * and so on, until nothing is left to fail.  Each time a step either succeeds,
 * or is refused for want of memory, and what was made is taken away again.  What
 * counts as an allocation is set in the debug file system beforehand: by the
 * attributes of failslab and fail_page_alloc.
 *
 * Prints "name value" lines; exit status 1 when a step is refused for another
 * reason, or when the last round, in which nothing fails, does not succeed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libring.h"
#include "libtest.h"

static const char usage[] =
"usage: allocfail DEVICE GROUP SECTORS TARGET PARAMETERS\n"
"\n"
"DEVICE is the name of the device to make, GROUP the group that its table names.\n";

/* The steps of a round in which an allocation may fail. */
enum step { LOAD, RESUME, OPEN, NR_STEPS };
static const char *const step_names[NR_STEPS] = { "load", "resume", "open" };

static union {
	struct dm_ioctl io;
	char bytes[4096];
} u;
static int control;
static const char *device;

static void fail_nth(unsigned int n)
{
	int fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dprintf(fd, "%u", n) < 0)
		die("/proc/thread-self/fail-nth: %s", strerror(errno));
	close(fd);
}

/* Ends it; returns whether an allocation failed. */
static bool end_fail_nth(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	char left[16] = "";

	if (fd < 0 || pread(fd, left, sizeof(left) - 1, 0) < 0 || pwrite(fd, "0", 1, 0) < 0)
		die("/proc/thread-self/fail-nth: %s", strerror(errno));
	close(fd);
	return atoi(left) == 0;
}

static int dm(unsigned long cmd)
{
	u.io.version[0] = DM_VERSION_MAJOR;
	u.io.data_size = sizeof(u);
	u.io.data_start = sizeof(u.io);
	snprintf(u.io.name, sizeof(u.io.name), "%s", device);
	return ioctl(control, cmd, &u) < 0 ? -errno : 0;
}

static void clear(void)
{
	memset(&u, 0, sizeof(u));
}

static void must(int ret, const char *what)
{
	if (ret)
		die("%s of %s: %s", what, device, strerror(-ret));
}

static void prepare_load(uint64_t sectors, const char *target, const char *parameters)
{
	struct dm_target_spec *spec = (void *)(u.bytes + sizeof(u.io));
	int room = (int)(sizeof(u) - sizeof(u.io) - sizeof(*spec));

	clear();
	u.io.target_count = 1;
	spec->length = sectors;
	snprintf(spec->target_type, sizeof(spec->target_type), "%s", target);
	if (snprintf((char *)(spec + 1), (size_t)room, "%s", parameters) >= room)
		die("the parameters are too long");
}

int main(int argc, char **argv)
{
	uint64_t rounds[NR_STEPS] = { 0 }, refused[NR_STEPS] = { 0 };
	bool bad = false;

	if (argc != 6) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	device = argv[1];
	control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		die("/dev/mapper/control: %s", strerror(errno));

	for (int step = LOAD; step < NR_STEPS && !bad; step++) {
		for (unsigned int n = 1; !bad; n++) {
			struct ring ring;
			const char *what = step_names[step];
			bool loaded, failed = false;
			int ret;

			clear();
			must(dm(DM_DEV_CREATE), "creation");
			prepare_load(parse_number(argv[3]), argv[4], argv[5]);
			if (step == LOAD)
				fail_nth(n);
			ret = dm(DM_TABLE_LOAD);
			if (step == LOAD)
				failed = end_fail_nth();
			loaded = !ret;
			if (loaded) {
				clear();
				if (step == RESUME)
					fail_nth(n);
				ret = dm(DM_DEV_SUSPEND);
				if (step == RESUME)
					failed = end_fail_nth();
			}
			if (!ret && step == OPEN) {
				fail_nth(n);
				ret = ring_open(&ring, argv[2], &what);
				failed = end_fail_nth();
				if (!ret)
					ring_close(&ring);
			}
			rounds[step]++;
			if (ret)
				refused[step]++;
			if (ret && (!failed || ret != -ENOMEM)) {
				fprintf(stderr, "%s, allocation %u %s: %s\n", what, n,
					failed ? "failing" : "not failing", strerror(-ret));
				bad = true;
			}
			clear();
			must(dm(DM_DEV_REMOVE), "removal");
			if (!failed)
				break;
		}
	}
	for (int step = LOAD; step < NR_STEPS; step++)
		printf("%s_failures %" PRIu64 "\n%s_refused %" PRIu64 "\n", step_names[step],
		       rounds[step] ? rounds[step] - 1 : 0, step_names[step], refused[step]);
	return bad ? EXIT_BAD : EXIT_GOOD;
}
