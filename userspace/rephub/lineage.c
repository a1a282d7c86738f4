// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A log that went on from an earlier point is a tree:
 *
 *	segment   A      B      C           D: from p
 *	records   0...   ...p...|......     |......
 *
 * What a point in D is made of are the records before p, and those of D up to the
 * point; a point in C is made of all before it.  So a walk back from a point gives
 * ranges of records, the newest first, and leaves out what was abandoned.
 */
#include "lineage.h"

/**
 * segment_index - the segment in which a point lies
 * @segment: all of them, in their order
 * @nr: so many
 * @id: so many records come before the point
 *
 * Return: the index of the last one that begins before the point, or 0.
 */
size_t segment_index(struct segment *const *segment, size_t nr, uint64_t id)
{
	size_t low = 0, high = nr, mid;

	while (high - low > 1) {
		mid = low + (high - low) / 2;
		if (segment[mid]->first_id < id)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/**
 * lineage_begin - walk back from a point
 * @l: the walk
 * @segment: all segments, which stay as they are meanwhile
 * @nr: so many
 * @id: so many records come before the point
 */
void lineage_begin(struct lineage *l, struct segment *const *segment, size_t nr, uint64_t id)
{
	*l = (struct lineage){ .segment = segment, .i = segment_index(segment, nr, id), .at = id };
}

/**
 * lineage_next - the next range of records, further back
 * @l: the walk
 * @from: out: its first record
 * @to: out: the first one behind it
 *
 * Return: false if there is no more; then l->lost says whether there ought to be.
 */
bool lineage_next(struct lineage *l, uint64_t *from, uint64_t *to)
{
	size_t i = l->i;

	if (l->end)
		return false;
	while (i && !l->segment[i]->branch)
		i--;
	*from = l->segment[i]->first_id;
	*to = l->at;
	l->end = !i;
	if (l->end)
		return true;
	l->branch = i;
	l->at = l->segment[i]->from;
	l->end = l->lost = l->at == UINT64_MAX;
	if (!l->end)
		l->i = segment_index(l->segment, i, l->at);
	return true;
}
