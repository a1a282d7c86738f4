// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * remember - random writes, and reads that must show the last of them.
 *
 * Each thread has a part of the device for itself and remembers what it wrote to
 * every block of it, so a read has one right answer: neither what was lost nor what
 * was there before may come back, whatever died meanwhile.  In the end all is read.
 *
 * Prints "name value" lines; exit status 1 when a read was wrong or an operation
 * failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libtest.h"

#define BLOCK		4096u
#define MOST		64u	/* blocks of an operation */
#define MAX_THREADS	64u
#define UNKNOWN		UINT32_MAX
#define ZERO		0u

struct thread {
	pthread_t id;
	unsigned int nr;
	uint64_t first, blocks;
	uint32_t *version;
	uint8_t *buf, *want;
	uint64_t writes, reads, zeroes, discards, flushes, bad, failed;
	struct hist hist;
};

static const char usage[] =
"usage: remember [OPTION]... DEVICE\n"
"\n"
"  --seconds S   how long; or until SIGTERM\n"
"  --threads N   default: 8\n"
"  --seed N      default: of the clock; it is printed\n"
"  --range SIZE  of the device; default: all of it\n"
"  --no-discard  what is discarded may be anything afterwards\n"
"  --progress FILE\n"
"                gets a byte for every hundred operations\n";

static struct {
	uint64_t seconds, threads, seed, range;
	bool no_discard;
	const char *progress;
} opt = { .threads = 8 };

static int fd, progress = -1;
static uint64_t deadline;
static atomic_uint_fast64_t ops;
static struct thread threads[MAX_THREADS];

static void fill(uint8_t *to, uint64_t block, uint32_t version)
{
	uint64_t w = (block + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ version * UINT64_C(0xc2b2ae3d27d4eb4f);
	unsigned int i;

	if (version == ZERO) {
		memset(to, 0, BLOCK);
		return;
	}
	for (i = 0; i < BLOCK; i += sizeof(w), w += 0x100000001b3)
		memcpy(to + i, &w, sizeof(w));
}

static void failed(struct thread *t, const char *what, uint64_t block, int err)
{
	if (!t->failed++)
		fprintf(stderr, "%s at block %" PRIu64 ": %s\n", what, block, strerror(err));
}

static void read_back(struct thread *t, uint64_t at, uint64_t n)
{
	uint64_t i;

	if (pread(fd, t->buf, n * BLOCK, (off_t)((t->first + at) * BLOCK)) != (ssize_t)(n * BLOCK)) {
		failed(t, "read", t->first + at, errno);
		return;
	}
	t->reads++;
	for (i = 0; i < n; i++) {
		if (t->version[at + i] == UNKNOWN)
			continue;
		fill(t->want, t->first + at + i, t->version[at + i]);
		if (!memcmp(t->buf + i * BLOCK, t->want, BLOCK))
			continue;
		if (!t->bad++)
			fprintf(stderr, "block %" PRIu64 " is not what write %" PRIu32 " of it made it\n",
				t->first + at + i, t->version[at + i]);
	}
}

static void change(struct thread *t, struct rng *r, uint64_t at, uint64_t n, uint32_t version)
{
	uint64_t kind = rng_below(r, 20), i, range[2] = { (t->first + at) * BLOCK, n * BLOCK };
	struct iovec iov = { .iov_base = t->buf, .iov_len = n * BLOCK };
	const char *what = "write";
	bool ok;

	if (kind == 0) {
		what = "zeroes";
		ok = !ioctl(fd, BLKZEROOUT, range);
		version = ZERO;
		t->zeroes++;
	} else if (kind == 1 && !opt.no_discard) {
		what = "discard";
		ok = !ioctl(fd, BLKDISCARD, range);
		version = UNKNOWN;
		t->discards++;
	} else {
		for (i = 0; i < n; i++)
			fill(t->buf + i * BLOCK, t->first + at + i, version);
		ok = pwritev2(fd, &iov, 1, (off_t)range[0], kind == 2 ? RWF_DSYNC : 0) == (ssize_t)iov.iov_len;
		t->writes++;
	}
	if (!ok)
		failed(t, what, t->first + at, errno);
	for (i = 0; i < n; i++)
		t->version[at + i] = ok ? version : UNKNOWN;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	uint32_t version = 1;
	struct rng r;

	rng_seed(&r, opt.seed * MAX_THREADS + t->nr);
	while (!stop && (!deadline || now_ns() < deadline)) {
		uint64_t n = 1 + rng_below(&r, rng_below(&r, 4) ? 4 : MOST);
		uint64_t at = rng_below(&r, t->blocks - n + 1), begin = now_ns();

		switch (rng_below(&r, 16)) {
		case 0:
			t->flushes++;
			if (fsync(fd))
				failed(t, "flush", 0, errno);
			break;
		case 1: case 2: case 3: case 4: case 5:
			read_back(t, at, n);
			break;
		default:
			change(t, &r, at, n, version++);
			break;
		}
		hist_add(&t->hist, now_ns() - begin);
		if (atomic_fetch_add(&ops, 1) % 100 == 0 && progress >= 0 && write(progress, ".", 1) != 1)
			die("%s: %s", opt.progress, strerror(errno));
	}
	return NULL;
}

static void prepare(struct thread *t, unsigned int nr, uint64_t blocks)
{
	uint64_t i;

	t->nr = nr;
	t->blocks = blocks / opt.threads;
	t->first = nr * t->blocks;
	t->version = malloc(t->blocks * sizeof(*t->version));
	t->buf = aligned_alloc(BLOCK, MOST * BLOCK);
	t->want = malloc(BLOCK);
	if (!t->version || !t->buf || !t->want)
		die("out of memory");
	for (i = 0; i < t->blocks; i++)
		t->version[i] = UNKNOWN;
}

int main(int argc, char **argv)
{
	static const struct tool_option options[] = {
		{ "seconds", OPT_NUMBER, { &opt.seconds } },
		{ "threads", OPT_NUMBER, { &opt.threads } },
		{ "seed", OPT_NUMBER, { &opt.seed } },
		{ "range", OPT_SIZE, { &opt.range } },
		{ "no-discard", OPT_FLAG, { &opt.no_discard } },
		{ "progress", OPT_TEXT, { &opt.progress } },
		{ }
	};
	struct thread sum = { 0 };
	const char *device;
	unsigned int i;
	uint64_t at;

	opt.seed = realtime_ns() & 0xffffffff;
	device = *parse_options(argc, argv, options, usage, 1);
	if (!opt.threads || opt.threads > MAX_THREADS)
		usage_exit(usage);
	catch_stop();
	fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", device, strerror(errno));
	if (!opt.range)
		opt.range = device_size(fd);
	if (opt.range / BLOCK / opt.threads < 2 * MOST)
		die("%s: expected at least %u KiB for each thread", device, 2 * MOST * BLOCK / 1024);
	if (opt.progress)
		progress = open(opt.progress, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (opt.seconds)
		deadline = now_ns() + opt.seconds * 1000000000u;
	for (i = 0; i < opt.threads; i++) {
		prepare(&threads[i], i, opt.range / BLOCK);
		if (pthread_create(&threads[i].id, NULL, run, &threads[i]))
			die("no thread");
	}
	for (i = 0; i < opt.threads; i++) {
		struct thread *t = &threads[i];

		pthread_join(t->id, NULL);
		for (at = 0; at < t->blocks; at += MOST)
			read_back(t, at, t->blocks - at < MOST ? t->blocks - at : MOST);
		sum.writes += t->writes;
		sum.reads += t->reads;
		sum.zeroes += t->zeroes;
		sum.discards += t->discards;
		sum.flushes += t->flushes;
		sum.bad += t->bad;
		sum.failed += t->failed;
		hist_merge(&sum.hist, &t->hist);
	}
	printf("seed %" PRIu64 "\nwrites %" PRIu64 "\nreads %" PRIu64 "\nzeroes %" PRIu64 "\ndiscards %" PRIu64
	       "\nflushes %" PRIu64 "\nfailed %" PRIu64 "\nbad-blocks %" PRIu64 "\n", opt.seed, sum.writes, sum.reads,
	       sum.zeroes, sum.discards, sum.flushes, sum.failed, sum.bad);
	hist_print(&sum.hist);
	return sum.bad || sum.failed ? EXIT_BAD : EXIT_GOOD;
}
