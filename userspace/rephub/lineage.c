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
 * lineage_begin_last - walk back from the log's end, also where that is a branch in which nothing is yet
 * @l: the walk
 * @segment: all segments, which stay as they are meanwhile
 * @nr: so many
 */
void lineage_begin_last(struct lineage *l, struct segment *const *segment, size_t nr)
{
	const struct segment *last = segment[nr - 1];

	*l = (struct lineage){ .segment = segment, .i = nr - 1, .at = last->first_id + last->nr_records };
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

/**
 * lineage_last - the last point
 * @segment: all segments
 * @nr: so many; but those behind some place do not count
 * @id: so many records come before that place
 *
 * While a branch has no record, that is the point from which it goes on: the id of its beginning is that of what was abandoned there.
 *
 * Return: the point; UINT64_MAX if it is gone.
 */
uint64_t lineage_last(struct segment *const *segment, size_t nr, uint64_t id)
{
	size_t i = nr - 1;

	while (i && !segment[i]->branch && segment[i]->first_id >= id)
		i--;
	return i && segment[i]->branch && segment[i]->first_id == id ? segment[i]->from : id;
}

/**
 * lineage_keeps - is a point still there when the oldest records are in the base?
 * @segment: all segments
 * @nr: so many
 * @id: so many records come before the point
 * @gone: the first segments, so many, go; there is another one behind them. If that is a branch, it has to go on
 * @to: ... from this point, up to which all goes to the base; else they end there
 */
bool lineage_keeps(struct segment *const *segment, size_t nr, uint64_t id, size_t gone, uint64_t to)
{
	uint64_t from, end = 0;
	struct lineage l;

	lineage_begin(&l, segment, nr, id);
	while (lineage_next(&l, &from, &end))
		;
	if (l.lost || !segment[gone]->branch)
		return !l.lost && end >= to;
	return l.branch ? l.branch == gone : end == to;
}

/**
 * lineage_common - where the ways to two points part
 * @segment: all segments
 * @nr: so many
 * @a: one point
 * @b: the other one
 *
 * Return: the last point that both go on from, one of them perhaps, by its id: what either has besides comes behind it.
 * UINT64_MAX if that is gone.
 */
uint64_t lineage_common(struct segment *const *segment, size_t nr, uint64_t a, uint64_t b)
{
	uint64_t from_a, to_a, from_b, to_b, at;
	struct lineage x, y;

	lineage_begin(&x, segment, nr, a);
	lineage_begin(&y, segment, nr, b);
	lineage_next(&x, &from_a, &to_a);
	lineage_next(&y, &from_b, &to_b);
	/* Ranges that begin alike are of the same run of segments; others have nothing in common. */
	while (from_a != from_b)
		if (!(from_a > from_b ? lineage_next(&x, &from_a, &to_a) : lineage_next(&y, &from_b, &to_b)))
			return UINT64_MAX;
	at = to_a < to_b ? to_a : to_b;
	return at < from_a ? UINT64_MAX : at;
}
