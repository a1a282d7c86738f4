/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small things that the test tools share: checksums, random numbers, clocks,
 * sizes on the command line, latency histograms.
 */
#ifndef LIBTEST_H
#define LIBTEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR		512u
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Exit codes of every tool. */
enum {
	EXIT_GOOD	= 0,
	EXIT_BAD	= 1,	/* the thing tested is at fault */
	EXIT_USAGE	= 2,	/* the tool, its arguments or the system are */
	EXIT_TIMEOUT	= 3,	/* it took longer than --timeout */
};

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

uint64_t now_ns(void);		/* CLOCK_MONOTONIC */
uint64_t realtime_ns(void);	/* CLOCK_REALTIME */

uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

struct rng {
	uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);
void rng_fill(struct rng *r, void *buf, size_t len);

uint64_t parse_size(const char *s);	/* 4096, 4k, 1M, 2G */
uint64_t parse_number(const char *s);
uint64_t device_size(int fd);		/* of a block device or a file, bytes */
unsigned int device_block_size(int fd);	/* logical block size; 512 of a file */

/*
 * Latencies: 64 powers of two of nanoseconds, each in 16 steps.  One histogram
 * belongs to one thread; hist_merge() adds them up in the end.
 */
#define HIST_STEPS	16

struct hist {
	uint64_t count[64 * HIST_STEPS];
	uint64_t total;
	uint64_t max;
};

void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *to, const struct hist *from);
uint64_t hist_percentile(const struct hist *h, double percent);
void hist_print(const struct hist *h);

#endif /* LIBTEST_H */
