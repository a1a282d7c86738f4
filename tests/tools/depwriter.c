// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * depwriter - dependent writes on one or two devices (see libdep.h).
 *
 * Thread t owns slots t * K .. t * K + K - 1 behind --offset of each side; with
 * both sides on one device, side B's area follows side A's.  A later run goes
 * on at the numbers it finds.  Prints "name value" lines; exit status 1 when a
 * write failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdep.h"
#include "libtest.h"

struct thread {
	pthread_t id;
	uint32_t nr;
	uint64_t first, last;
	uint64_t errors;
	struct hist hist;
};

static const char usage[] =
"usage: depwriter --a DEVICE [--b DEVICE] [--threads N] [--slots K] [--offset BYTES]\n"
"                 [--seconds S] [--count N] [--pause US]\n"
"\n"
"Writes A(1), B(1), A(2), ... until --seconds or --count pairs a thread, or SIGTERM.\n"
"--b defaults to the device of --a; --pause waits that long after each pair.\n";

static int fds[DEP_SIDES];
static uint64_t base[DEP_SIDES];
static uint64_t threads = 4, slots = 8, count, deadline, pause_us;

static uint64_t slot_offset(uint32_t thread, enum dep_side side, uint64_t n)
{
	return base[side] + (thread * slots + n % slots) * DEP_BLOCK;
}

static uint64_t highest(struct thread *t, enum dep_side side, void *buf)
{
	uint64_t high = 0;

	for (uint64_t i = 0; i < slots; i++) {
		uint64_t offset = slot_offset(t->nr, side, i);
		const struct dep_header *h;
		bool bad;

		if (pread(fds[side], buf, DEP_BLOCK, (off_t)offset) != DEP_BLOCK)
			die("read at %" PRIu64 ": %s", offset, strerror(errno));
		h = dep_parse(buf, &bad);
		if (!h)
			continue;
		if (bad || h->thread != t->nr || h->side != side || h->slots != slots ||
		    h->offset != offset || h->n % slots != i)
			die("the block at %" PRIu64 " is not of this layout", offset);
		if (h->n > high)
			high = h->n;
	}
	return high;
}

static bool put(struct thread *t, enum dep_side side, uint64_t n, void *buf)
{
	uint64_t offset = slot_offset(t->nr, side, n), begin;
	ssize_t ret;

	dep_fill(buf, t->nr, side, n, offset, (uint32_t)slots);
	begin = now_ns();
	ret = pwrite(fds[side], buf, DEP_BLOCK, (off_t)offset);
	hist_add(&t->hist, now_ns() - begin);
	if (ret == DEP_BLOCK)
		return true;
	fprintf(stderr, "write at %" PRIu64 ": %s\n", offset,
		ret < 0 ? strerror(errno) : "short");
	t->errors++;
	return false;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	uint64_t a, b, n;
	void *buf;

	if (posix_memalign(&buf, DEP_BLOCK, DEP_BLOCK))
		die("out of memory");
	a = highest(t, DEP_A, buf);
	b = highest(t, DEP_B, buf);
	if (a != b && a != b + 1)
		die("thread %u: the devices have A(%" PRIu64 ") and B(%" PRIu64 ")", t->nr, a, b);
	if (a == b + 1 && !put(t, DEP_B, a, buf))
		return NULL;
	n = a;
	t->first = a + 1;
	while (!stop && (!count || n - a < count) && (!deadline || now_ns() < deadline)) {
		n++;
		if (!put(t, DEP_A, n, buf) || !put(t, DEP_B, n, buf))
			break;
		if (pause_us)
			usleep((useconds_t)pause_us);
	}
	t->last = n;
	free(buf);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct thread thread[DEP_MAX_THREADS];
	static struct hist hist;
	const char *device[DEP_SIDES] = { NULL, NULL };
	uint64_t offset = 0, seconds = 0, pairs = 0, errors = 0;

	parse_options(argc, argv, (const struct tool_option[]){
		{ "a", OPT_TEXT, { &device[DEP_A] } },
		{ "b", OPT_TEXT, { &device[DEP_B] } },
		{ "threads", OPT_NUMBER, { &threads } },
		{ "slots", OPT_NUMBER, { &slots } },
		{ "offset", OPT_SIZE, { &offset } },
		{ "seconds", OPT_NUMBER, { &seconds } },
		{ "count", OPT_NUMBER, { &count } },
		{ "pause", OPT_NUMBER, { &pause_us } },
		{ }
	}, usage, 0);
	if (!device[DEP_A] || !threads || threads > DEP_MAX_THREADS || !slots ||
	    slots > DEP_MAX_SLOTS || offset % DEP_BLOCK)
		usage_exit(usage);
	if (seconds)
		deadline = now_ns() + seconds * 1000000000u;
	base[DEP_A] = base[DEP_B] = offset;
	if (!device[DEP_B] || !strcmp(device[DEP_A], device[DEP_B])) {
		device[DEP_B] = device[DEP_A];
		base[DEP_B] += threads * slots * DEP_BLOCK;
	}
	for (int side = 0; side < DEP_SIDES; side++) {
		fds[side] = open(device[side], O_RDWR | O_DIRECT | O_CLOEXEC);
		if (fds[side] < 0)
			die("%s: %s", device[side], strerror(errno));
		if (base[side] + threads * slots * DEP_BLOCK > device_size(fds[side]))
			die("%s is too small", device[side]);
	}
	catch_stop();

	for (uint32_t i = 0; i < threads; i++) {
		thread[i].nr = i;
		if (pthread_create(&thread[i].id, NULL, run, &thread[i]))
			die("cannot start a thread");
	}
	for (uint32_t i = 0; i < threads; i++) {
		pthread_join(thread[i].id, NULL);
		pairs += thread[i].last + 1 - thread[i].first;
		errors += thread[i].errors;
		hist_merge(&hist, &thread[i].hist);
	}
	printf("ops %" PRIu64 "\n", hist.total);
	printf("pairs %" PRIu64 "\n", pairs);
	printf("errors %" PRIu64 "\n", errors);
	hist_print(&hist);
	return errors ? EXIT_BAD : EXIT_GOOD;
}
