// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libtest.h"

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_USAGE);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

/* Four bytes a step: the tools check much and run under emulation. */
static uint32_t crc_table[4][256];

__attribute__((constructor)) static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (c & 1 ? 0x82f63b78u : 0);
		crc_table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 4; t++)
			crc_table[t][i] = (crc_table[t - 1][i] >> 8) ^
					  crc_table[0][crc_table[t - 1][i] & 0xff];
}

uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	crc = ~crc;
	for (; len >= 4; len -= 4, p += 4) {
		uint32_t w;

		memcpy(&w, p, 4);
		crc ^= w;
		crc = crc_table[3][crc & 0xff] ^ crc_table[2][(crc >> 8) & 0xff] ^
		      crc_table[1][(crc >> 16) & 0xff] ^ crc_table[0][crc >> 24];
	}
	for (; len; len--, p++)
		crc = (crc >> 8) ^ crc_table[0][(crc ^ *p) & 0xff];
	return ~crc;
}

/* splitmix64 seeds xoshiro256**. */
void rng_seed(struct rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = (seed += 0x9e3779b97f4a7c15u);

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		r->s[i] = z ^ (z >> 31);
	}
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t rng_next(struct rng *r)
{
	uint64_t result = rotl(r->s[1] * 5, 7) * 9;
	uint64_t t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = rotl(r->s[3], 45);
	return result;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

void rng_fill(struct rng *r, void *buf, size_t len)
{
	uint8_t *p = buf;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t v = rng_next(r);

		memcpy(p, &v, 8);
	}
	for (; len; len--)
		*p++ = (uint8_t)rng_next(r);
}

void usage_exit(const char *usage)
{
	fputs(usage, stderr);
	exit(EXIT_USAGE);
}

#define OPTIONS_MAX	32
#define HELP		OPTIONS_MAX

static void take_option(const struct tool_option *o, char *value)
{
	switch (o->kind) {
	case OPT_FLAG:
		*o->flag = true;
		break;
	case OPT_NUMBER:
		*o->number = parse_number(value);
		break;
	case OPT_SIZE:
		*o->number = parse_size(value);
		break;
	case OPT_TEXT:
		*o->text = value;
		break;
	case OPT_CALL:
		o->call(value);
		break;
	}
}

char **parse_options(int argc, char **argv, const struct tool_option *options,
		     const char *usage, int operands)
{
	struct option longs[OPTIONS_MAX + 2] = { 0 };
	int n, c;

	for (n = 0; options[n].name; n++) {
		if (n == OPTIONS_MAX)
			die("more than %d options", OPTIONS_MAX);
		longs[n] = (struct option){
			options[n].name, options[n].kind == OPT_FLAG ? no_argument : required_argument,
			NULL, n
		};
	}
	longs[n] = (struct option){ "help", no_argument, NULL, HELP };
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == HELP || c == 'h') {
			fputs(usage, stdout);
			exit(EXIT_GOOD);
		}
		if (c == '?')
			usage_exit(usage);
		take_option(&options[c], optarg);
	}
	if (argc - optind != operands)
		usage_exit(usage);
	return argv + optind;
}

volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

void catch_stop(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

uint64_t parse_number(const char *s)
{
	char *end;
	uint64_t v;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || end == s || *end)
		die("'%s' is not a number", s);
	return v;
}

uint64_t parse_size(const char *s)
{
	char *end;
	uint64_t v;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || end == s)
		die("'%s' is not a size", s);
	switch (*end) {
	case 'k': case 'K':
		v <<= 10;
		end++;
		break;
	case 'm': case 'M':
		v <<= 20;
		end++;
		break;
	case 'g': case 'G':
		v <<= 30;
		end++;
		break;
	}
	if (*end)
		die("'%s' is not a size", s);
	return v;
}

uint64_t device_size(int fd)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st))
		die("fstat: %s", strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return (uint64_t)st.st_size;
	if (ioctl(fd, BLKGETSIZE64, &size))
		die("BLKGETSIZE64: %s", strerror(errno));
	return size;
}

unsigned int device_block_size(int fd)
{
	struct stat st;
	int size = SECTOR;

	if (!fstat(fd, &st) && S_ISBLK(st.st_mode) && ioctl(fd, BLKSSZGET, &size))
		die("BLKSSZGET: %s", strerror(errno));
	return (unsigned int)size;
}

static unsigned int hist_slot(uint64_t ns)
{
	unsigned int power, step;

	if (ns < HIST_STEPS)
		return (unsigned int)ns;
	power = 63 - (unsigned int)__builtin_clzll(ns);
	step = (unsigned int)(ns >> (power - 4)) & (HIST_STEPS - 1);
	return power * HIST_STEPS + step;
}

static uint64_t hist_value(unsigned int slot)
{
	unsigned int power = slot / HIST_STEPS, step = slot % HIST_STEPS;

	if (power < 4)
		return slot;
	return ((uint64_t)(HIST_STEPS + step + 1) << (power - 4)) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
	h->count[hist_slot(ns)]++;
	h->total++;
	if (ns > h->max)
		h->max = ns;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	for (size_t i = 0; i < ARRAY_SIZE(to->count); i++)
		to->count[i] += from->count[i];
	to->total += from->total;
	if (from->max > to->max)
		to->max = from->max;
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
	uint64_t want = (uint64_t)((double)h->total * percent / 100), seen = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(h->count); i++) {
		seen += h->count[i];
		if (seen > want || (seen == h->total && seen)) {
			uint64_t v = hist_value(i);

			return v < h->max ? v : h->max;
		}
	}
	return 0;
}

void hist_print(const struct hist *h)
{
	printf("p50_us %llu\n", (unsigned long long)hist_percentile(h, 50) / 1000);
	printf("p99_us %llu\n", (unsigned long long)hist_percentile(h, 99) / 1000);
	printf("p999_us %llu\n", (unsigned long long)hist_percentile(h, 99.9) / 1000);
	printf("max_latency_ms %llu\n", (unsigned long long)(h->max + 999999) / 1000000);
}
