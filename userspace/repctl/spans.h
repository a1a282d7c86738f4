/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parts of a disk, in bytes. */
#ifndef REPAGENT_SPANS_H
#define REPAGENT_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	uint64_t start, end;
};

/* struct spans - all zeroes: none. In rising order, and without overlaps, once they were tidied. */
struct spans {
	size_t nr, room;
	struct span *span;
};

bool spans_add(struct spans *s, uint64_t start, uint64_t end);
void spans_tidy(struct spans *s, uint64_t align, uint64_t size);
bool spans_without(const struct spans *s, const struct spans *but, struct spans *out);
uint64_t spans_bytes(const struct spans *s);
void spans_free(struct spans *s);

#endif /* REPAGENT_SPANS_H */
