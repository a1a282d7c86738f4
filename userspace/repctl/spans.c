// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "spans.h"

/**
 * spans_add - one more
 * @s: the spans
 * @start: first byte
 * @end: the one behind the last; nothing is added if that is not behind @start
 *
 * Return: false without memory.
 */
bool spans_add(struct spans *s, uint64_t start, uint64_t end)
{
	size_t room = s->room ? 2 * s->room : 64;
	struct span *more;

	if (start >= end)
		return true;
	if (s->nr && s->span[s->nr - 1].end == start) {
		s->span[s->nr - 1].end = end;
		return true;
	}
	if (s->nr == s->room) {
		more = realloc(s->span, room * sizeof(*more));
		if (!more)
			return false;
		s->span = more;
		s->room = room;
	}
	s->span[s->nr++] = (struct span){ start, end };
	return true;
}

static int by_start(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/**
 * spans_tidy - in order, each byte once
 * @s: the spans
 * @align: a power of two; each becomes as large as it takes to begin and end at multiples of it
 * @size: of the disk; nothing is left behind it
 */
void spans_tidy(struct spans *s, uint64_t align, uint64_t size)
{
	size_t i, n = 0;

	if (s->nr)
		qsort(s->span, s->nr, sizeof(*s->span), by_start);
	for (i = 0; i < s->nr; i++) {
		struct span a = s->span[i];

		if (a.start >= size)
			break;
		a.start &= ~(align - 1);
		a.end = a.end < size ? (a.end + align - 1) & ~(align - 1) : size;
		a.end = a.end < size ? a.end : size;
		if (n && a.start <= s->span[n - 1].end)
			s->span[n - 1].end = a.end > s->span[n - 1].end ? a.end : s->span[n - 1].end;
		else
			s->span[n++] = a;
	}
	s->nr = n;
}

/**
 * spans_without - what is in some, and not in others
 * @s: the spans, tidied
 * @but: the others, tidied
 * @out: they are added here
 *
 * Return: false without memory.
 */
bool spans_without(const struct spans *s, const struct spans *but, struct spans *out)
{
	size_t i, k = 0;
	uint64_t at;
	bool ok = true;

	for (i = 0; ok && i < s->nr; i++) {
		for (at = s->span[i].start; ok && at < s->span[i].end;) {
			while (k < but->nr && but->span[k].end <= at)
				k++;
			if (k == but->nr || but->span[k].start >= s->span[i].end) {
				ok = spans_add(out, at, s->span[i].end);
				break;
			}
			ok = spans_add(out, at, but->span[k].start);
			at = but->span[k].end;
		}
	}
	return ok;
}

/**
 * spans_bytes - how many
 * @s: the spans, tidied
 */
uint64_t spans_bytes(const struct spans *s)
{
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < s->nr; i++)
		bytes += s->span[i].end - s->span[i].start;
	return bytes;
}

/**
 * spans_free - none are left
 * @s: the spans
 */
void spans_free(struct spans *s)
{
	free(s->span);
	*s = (struct spans){ 0 };
}
