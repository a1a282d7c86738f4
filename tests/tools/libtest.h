/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small things that the test tools share: checksums, random numbers, clocks,
 * the command line, latency histograms.
 */
#ifndef LIBTEST_H
#define LIBTEST_H

#include <signal.h>
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

/*
 * struct tool_option - one option of a tool.
 * @name:	without the dashes
 * @kind:	what its value is
 * @to:		where that goes, as @kind says; OPT_CALL gives it to @call, which
 *		may change and keep it
 */
struct tool_option {
	const char *name;
	enum { OPT_FLAG, OPT_NUMBER, OPT_SIZE, OPT_TEXT, OPT_CALL } kind;
	union {
		void *to;
		bool *flag;
		uint64_t *number;	/* of NUMBER and SIZE */
		const char **text;
		void (*call)(char *value);
	};
};

/* Ends the tool: its command line is not what @usage says. */
void usage_exit(const char *usage) __attribute__((noreturn));

/*
 * Take a command line apart: @options ends with an empty one; --help, and what
 * is wrong, end the tool. Returns the first of exactly @operands operands.
 */
char **parse_options(int argc, char **argv, const struct tool_option *options,
		     const char *usage, int operands);

extern volatile sig_atomic_t stop;	/* set by SIGTERM and SIGINT after ... */
void catch_stop(void);

void touch(const char *path);		/* an empty file, for who waits for it */

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
