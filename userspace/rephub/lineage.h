/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which records make up a point, where the log went on from an earlier one. */
#ifndef REPHUB_LINEAGE_H
#define REPHUB_LINEAGE_H

#include "segment.h"

/*
 * struct lineage - a walk back from a point, over ranges of records
 * @segment:	all of them, in their order
 * @i:		the one in which the next range ends
 * @at:		where that is
 * @end:	all ranges were given
 * @lost:	what is before is gone
 * @branch:	at the end of the walk: the segment that goes on from within the last range; 0: none, the point itself is there
 */
struct lineage {
	struct segment *const *segment;
	size_t i;
	uint64_t at;
	bool end, lost;
	size_t branch;
};

size_t segment_index(struct segment *const *segment, size_t nr, uint64_t id);
void lineage_begin(struct lineage *l, struct segment *const *segment, size_t nr, uint64_t id);
void lineage_begin_last(struct lineage *l, struct segment *const *segment, size_t nr);
bool lineage_next(struct lineage *l, uint64_t *from, uint64_t *to);
uint64_t lineage_last(struct segment *const *segment, size_t nr, uint64_t id);
bool lineage_keeps(struct segment *const *segment, size_t nr, uint64_t id, size_t gone, uint64_t to);
uint64_t lineage_common(struct segment *const *segment, size_t nr, uint64_t a, uint64_t b);

#endif /* REPHUB_LINEAGE_H */
