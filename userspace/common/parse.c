// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "parse.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 }, { "B", 1 },
	{ "K", KIB }, { "KiB", KIB },
	{ "M", MIB }, { "MiB", MIB },
	{ "G", MIB * 1024 }, { "GiB", MIB * 1024 },
	{ "T", MIB * MIB }, { "TiB", MIB * MIB },
	{ NULL, 0 }
};

static const struct unit time_units[] = {
	{ "", NSEC_PER_SEC }, { "s", NSEC_PER_SEC },
	{ "ms", NSEC_PER_MSEC }, { "us", 1000 },
	{ "m", 60 * NSEC_PER_SEC }, { "min", 60 * NSEC_PER_SEC },
	{ "h", 3600 * NSEC_PER_SEC }, { "d", 86400 * NSEC_PER_SEC },
	{ NULL, 0 }
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

/* Digits, perhaps a fraction, a unit; the product must fit. */
static bool parse(const char *s, const struct unit *units, uint64_t *value)
{
	uint64_t whole, part = 0, scale = 1;
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	whole = strtoull(s, &end, 10);
	if (errno)
		return false;
	if (*end == '.' && units != no_units) {
		for (end++; isdigit((unsigned char)*end); end++) {
			if (scale < 1000) {
				part = part * 10 + (uint64_t)(*end - '0');
				scale *= 10;
			}
		}
	}
	while (*end == ' ')
		end++;
	for (; units->name; units++) {
		if (strcasecmp(end, units->name))
			continue;
		if (__builtin_mul_overflow(whole, units->factor, &whole))
			return false;
		return !__builtin_add_overflow(whole,
					       units->factor / scale * part +
					       units->factor % scale * part / scale,
					       value);
	}
	return false;
}

/**
 * parse_count - read a plain number
 * @s: the text
 * @count: the number
 *
 * Return: whether @s is one.
 */
bool parse_count(const char *s, uint64_t *count)
{
	return parse(s, no_units, count);
}

/**
 * parse_size - read a size such as 4096, 64K, 1.5MiB or 2G
 * @s: the text
 * @bytes: the size in bytes
 *
 * Return: whether @s is one.
 */
bool parse_size(const char *s, uint64_t *bytes)
{
	return parse(s, size_units, bytes);
}

/**
 * parse_duration - read a duration such as 30, 30s, 200ms, 2min or 1h
 * @s: the text; a bare number means seconds
 * @ns: the duration in nanoseconds
 *
 * Return: whether @s is one.
 */
bool parse_duration(const char *s, uint64_t *ns)
{
	return parse(s, time_units, ns);
}

/**
 * human_size - a size in the unit that suits it
 * @buf: HUMAN_MAX bytes for the text
 * @bytes: the size
 *
 * Return: @buf.
 */
const char *human_size(char *buf, uint64_t bytes)
{
	static const char *const unit[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes / 1024;
	unsigned int i = 0;

	if (bytes < 1024) {
		snprintf(buf, HUMAN_MAX, "%" PRIu64 " B", bytes);
		return buf;
	}
	while (v >= 1023.95 && i < 5) {
		v /= 1024;
		i++;
	}
	snprintf(buf, HUMAN_MAX, "%.*f %s", v < 99.95 && v != (double)(uint64_t)v,
		 v, unit[i]);
	return buf;
}

/**
 * human_duration - a duration in the unit that suits it
 * @buf: HUMAN_MAX bytes for the text
 * @ns: the duration in nanoseconds
 *
 * Return: @buf.
 */
const char *human_duration(char *buf, uint64_t ns)
{
	uint64_t s = ns / NSEC_PER_SEC;

	if (ns < 10 * NSEC_PER_MSEC)
		snprintf(buf, HUMAN_MAX, "%.1f ms", (double)ns / 1e6);
	else if (s < 1)
		snprintf(buf, HUMAN_MAX, "%" PRIu64 " ms", ns / NSEC_PER_MSEC);
	else if (s < 10 && ns % NSEC_PER_SEC)
		snprintf(buf, HUMAN_MAX, "%.1f s", (double)ns / 1e9);
	else if (s < 120)
		snprintf(buf, HUMAN_MAX, "%" PRIu64 " s", s);
	else if (s < 2 * 3600)
		snprintf(buf, HUMAN_MAX, "%" PRIu64 " min", s / 60);
	else if (s < 48 * 3600)
		snprintf(buf, HUMAN_MAX, "%" PRIu64 " h %02" PRIu64 " min", s / 3600,
			 s / 60 % 60);
	else
		snprintf(buf, HUMAN_MAX, "%" PRIu64 " days", s / 86400);
	return buf;
}
