// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * allocfail - one allocation of the kernel's after the other fails.
 *
 * Loads a table for a new device, resumes it, opens its character
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/dm-repagent.h>
#include <linux/dm-repagent-recover.h>

#include "libdmctl.h"
#include "libtest.h"

static const char usage[] =
"usage: allocfail DEVICE NODE SECTORS TARGET PARAMETERS\n"
"\n"
"DEVICE is the name of the device to make, NODE the path of the character device that comes with it.\n";

/* The steps of a round in which an allocation may fail. */
enum step { LOAD, RESUME, OPEN, NR_STEPS };
static const char *const step_names[NR_STEPS] = { "load", "resume", "open" };

static struct dmctl control;
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

/* As who drains the ring does, whichever it is. */
static int map_ring(const char *node, const char *target)
{
	bool recover = !strcmp(target, "rep-recover");
	struct repagent_recover_info recovered;
	struct repagent_info info;
	int fd = open(node, O_RDWR | O_CLOEXEC), ret = 0;
	size_t size;
	void *map;

	if (fd < 0)
		return -errno;
	if (recover ? ioctl(fd, REPAGENT_RECOVER_IOC_INFO, &recovered) : ioctl(fd, REPAGENT_IOC_INFO, &info))
		ret = -errno;
	if (!ret) {
		size = recover ? recovered.map_size : info.map_size;
		map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			ret = -errno;
		else
			munmap(map, size);
	}
	close(fd);
	return ret;
}

static void must(int ret, const char *what)
{
	if (ret)
		die("%s of %s: %s", what, device, strerror(-ret));
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
	dmctl_open(&control);

	for (int step = LOAD; step < NR_STEPS && !bad; step++) {
		for (unsigned int n = 1; !bad; n++) {
			bool loaded, failed = false;
			int ret;

			must(dmctl_create(&control, device), "creation");
			if (step == LOAD)
				fail_nth(n);
			ret = dmctl_load(&control, device, parse_number(argv[3]), argv[4], argv[5]);
			if (step == LOAD)
				failed = end_fail_nth();
			loaded = !ret;
			if (loaded) {
				if (step == RESUME)
					fail_nth(n);
				ret = dmctl_resume(&control, device);
				if (step == RESUME)
					failed = end_fail_nth();
			}
			if (!ret && step == OPEN) {
				fail_nth(n);
				ret = map_ring(argv[2], argv[4]);
				failed = end_fail_nth();
			}
			rounds[step]++;
			if (ret)
				refused[step]++;
			if (ret && (!failed || ret != -ENOMEM)) {
				fprintf(stderr, "%s, allocation %u %s: %s\n", step_names[step], n,
					failed ? "failing" : "not failing", strerror(-ret));
				bad = true;
			}
			must(dmctl_remove(&control, device), "removal");
			if (!failed)
				break;
		}
	}
	for (int step = LOAD; step < NR_STEPS; step++)
		printf("%s_failures %" PRIu64 "\n%s_refused %" PRIu64 "\n", step_names[step],
		       rounds[step] ? rounds[step] - 1 : 0, step_names[step], refused[step]);
	return bad ? EXIT_BAD : EXIT_GOOD;
}
