// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "scene.h"

struct disk origin[VOLUMES], meta[VOLUMES];
struct served served[2 * VOLUMES];
struct hub hub;
struct agent agent = { .hub = &hub, .group = GROUP, .device = { "p0", "p1" } };
struct dmctl dm;

uint64_t seed;
unsigned int life;
struct rng rng;
bool bad;
atomic_bool may_fail;
struct sum sum;
bool verbose;

void wrong(const char *fmt, ...)
{
	va_list ap;

	bad = true;
	printf("seed %" PRIu64 ", life %u: ", seed, life);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void nap_us(uint64_t us)
{
	struct timespec t = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000) };

	nanosleep(&t, NULL);
}

bool chance(unsigned int percent)
{
	return rng_below(&rng, 100) < percent;
}

uint64_t one_of(const uint64_t *values, size_t n)
{
	return values[rng_below(&rng, n)];
}

void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

void put_number(const char *path, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	put(path, text);
}
