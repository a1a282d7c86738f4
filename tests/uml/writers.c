// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "scene.h"
#include "volumes.h"
#include "writers.h"

#define WRITERS		4u
#define LONGEST		128u	/* sectors of a write */

struct writer {
	pthread_t thread;
	struct rng rng;
	int fd;
	unsigned int volume;
	uint64_t think_us;
	unsigned int weights[5];
	uint64_t errors, ops;
	int unexpected;		/* errno */
	uint8_t *buffer;
};

enum { OP_WRITE, OP_FUA, OP_ZERO, OP_DISCARD, OP_FSYNC, NR_OPS };

static struct writer writers[WRITERS];
static unsigned int nr_writers;
static atomic_bool writers_end;

static unsigned int pick_op(struct writer *w)
{
	unsigned int total = 0, op;
	uint64_t n;

	for (op = 0; op < NR_OPS; op++)
		total += w->weights[op];
	n = rng_below(&w->rng, total);
	for (op = 0; n >= w->weights[op]; op++)
		n -= w->weights[op];
	return op;
}

static int write_once(struct writer *w, unsigned int op, uint64_t sector, uint64_t nr)
{
	uint64_t range[2] = { sector * SECTOR, nr * SECTOR };
	struct iovec iov = { .iov_base = w->buffer, .iov_len = nr * SECTOR };

	switch (op) {
	case OP_ZERO:
		return ioctl(w->fd, BLKZEROOUT, range);
	case OP_DISCARD:
		return ioctl(w->fd, BLKDISCARD, range);
	case OP_FSYNC:
		return fsync(w->fd);
	}
	for (uint64_t i = 0; i < nr; i++)
		rng_fill(&w->rng, w->buffer + i * SECTOR, 64);
	return pwritev2(w->fd, &iov, 1, (off_t)(sector * SECTOR), op == OP_FUA ? RWF_DSYNC : 0) < 0 ? -1 : 0;
}

static void *write_along(void *arg)
{
	struct writer *w = arg;
	uint64_t window = 0;

	while (!atomic_load(&writers_end) && !serve_is_cut()) {
		uint64_t nr = 1 + rng_below(&w->rng, rng_below(&w->rng, 8) ? 16 : LONGEST), sector;
		struct timespec t;

		/* Most of what is written is near what was written: regions become cold. */
		if (!rng_below(&w->rng, 12))
			window = rng_below(&w->rng, SECTORS);
		sector = (window + rng_below(&w->rng, 128)) % (SECTORS - nr);
		if (write_once(w, pick_op(w), sector, nr) && errno != EOPNOTSUPP) {
			w->errors++;
			if (!serve_is_cut() && (errno != EIO || !atomic_load(&may_fail)))
				w->unexpected = errno;
		}
		w->ops++;
		t = (struct timespec){ .tv_nsec = (long)(rng_below(&w->rng, 2 * w->think_us + 1) * 1000) };
		if (t.tv_nsec)
			nanosleep(&t, NULL);
	}
	return NULL;
}

static uint8_t *make_buffer(int fill)
{
	uint8_t *buffer = aligned_alloc(4096, LONGEST * SECTOR);

	if (!buffer)
		die("out of memory");
	memset(buffer, fill, LONGEST * SECTOR);
	return buffer;
}

void start_writers(void)
{
	unsigned int fsyncs = (unsigned int)ONE_OF(0, 2, 10, 30), fua = (unsigned int)ONE_OF(0, 5, 20);

	atomic_store(&writers_end, false);
	nr_writers = 2 + (unsigned int)rng_below(&rng, WRITERS - 1);
	for (unsigned int i = 0; i < nr_writers; i++) {
		struct writer *w = &writers[i];
		char path[32];

		if (!w->buffer)
			w->buffer = make_buffer('a' + (int)i);
		w->volume = i % VOLUMES;
		rng_seed(&w->rng, rng_next(&rng));
		w->think_us = ONE_OF(200, 1000, 5000, 20000);
		memcpy(w->weights, (unsigned int []){ 60, fua, 4, 2, fsyncs }, sizeof(w->weights));
		w->errors = w->ops = 0;
		w->unexpected = 0;
		snprintf(path, sizeof(path), "/dev/dm-%u", minor_of(w->volume));
		w->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (w->fd < 0)
			die("%s: %s", path, strerror(errno));
		if (pthread_create(&w->thread, NULL, write_along, w))
			die("no thread");
	}
}

void end_writers(void)
{
	atomic_store(&writers_end, true);
	for (unsigned int i = 0; i < nr_writers; i++) {
		struct writer *w = &writers[i];

		pthread_join(w->thread, NULL);
		close(w->fd);
		sum.writer_errors += w->errors;
		sum.writes += w->ops;
		if (w->unexpected)
			wrong("a writer of v%u got an error: %s", w->volume, strerror(w->unexpected));
	}
	nr_writers = 0;
}
