/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each range of a volume was last written by. */
#ifndef REPHUB_EXTENTS_H
#define REPHUB_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* struct extent - sectors from @start up to @end, which are in the record @id. */
struct extent {
	uint64_t start, end;
	uint64_t id;
};

#define EXTENTS_LEAF	128u

struct extents_leaf {
	unsigned int nr;
	struct extent e[EXTENTS_LEAF];
};

/*
 * struct extents - extents in rising order that do not overlap, in leaves of up to
 * EXTENTS_LEAF. All zeroes is an empty one.
 * @key:	where each leaf begins, beside the leaves so that a search has them
 *		in few cache lines
 */
struct extents {
	size_t nr_leaves, room;
	uint64_t *key;
	struct extents_leaf **leaf;
	size_t nr;
};

bool extents_put(struct extents *x, uint64_t start, uint64_t end, uint64_t id);
bool extents_add(struct extents *x, const struct extents *from, uint64_t id);
const struct extent *extents_find(const struct extents *x, uint64_t sector);
void extents_free(struct extents *x);

#endif /* REPHUB_EXTENTS_H */
