// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "extents.h"

/* A place in the map: before leaf[l]->e[i], or at the end: l == nr_leaves. */
struct place {
	size_t l;
	unsigned int i;
};

static struct extent *at(const struct extents *x, struct place p)
{
	return p.l < x->nr_leaves ? &x->leaf[p.l]->e[p.i] : NULL;
}

/* The first extent that ends behind @sector. */
static struct place seek(const struct extents *x, uint64_t sector)
{
	size_t low = 0, high = x->nr_leaves, mid;
	const struct extents_leaf *leaf;
	struct place p = { 0, 0 };
	unsigned int a, b, m;

	/* The last leaf that begins at or before it. */
	while (high - low > 1) {
		mid = low + (high - low) / 2;
		if (x->key[mid] <= sector)
			low = mid;
		else
			high = mid;
	}
	if (!x->nr_leaves)
		return p;
	leaf = x->leaf[low];
	for (a = 0, b = leaf->nr; a < b;) {
		m = a + (b - a) / 2;
		if (leaf->e[m].end <= sector)
			a = m + 1;
		else
			b = m;
	}
	p.l = low;
	p.i = a;
	if (a == leaf->nr) {
		p.l++;
		p.i = 0;
	}
	return p;
}

static void step(const struct extents *x, struct place *p)
{
	if (++p->i == x->leaf[p->l]->nr) {
		p->l++;
		p->i = 0;
	}
}

static bool new_leaf(struct extents *x, size_t l)
{
	struct extents_leaf *leaf;
	size_t room;
	void *mem;

	if (x->nr_leaves == x->room) {
		room = x->room ? 2 * x->room : 16;
		mem = realloc(x->key, room * sizeof(*x->key));
		if (!mem)
			return false;
		x->key = mem;
		mem = realloc(x->leaf, room * sizeof(*x->leaf));
		if (!mem)
			return false;
		x->leaf = mem;
		x->room = room;
	}
	leaf = malloc(sizeof(*leaf));
	if (!leaf)
		return false;
	leaf->nr = 0;
	memmove(x->key + l + 1, x->key + l, (x->nr_leaves - l) * sizeof(*x->key));
	memmove(x->leaf + l + 1, x->leaf + l, (x->nr_leaves - l) * sizeof(struct extents_leaf *));
	x->leaf[l] = leaf;
	x->key[l] = UINT64_MAX;
	x->nr_leaves++;
	return true;
}

/* Take out the extent here; the place is then that of the next. */
static void take_out(struct extents *x, struct place *p)
{
	struct extents_leaf *leaf = x->leaf[p->l];

	leaf->nr--;
	x->nr--;
	memmove(leaf->e + p->i, leaf->e + p->i + 1, (leaf->nr - p->i) * sizeof(leaf->e[0]));
	if (!leaf->nr) {
		free(leaf);
		x->nr_leaves--;
		memmove(x->key + p->l, x->key + p->l + 1, (x->nr_leaves - p->l) * sizeof(*x->key));
		memmove(x->leaf + p->l, x->leaf + p->l + 1,
			(x->nr_leaves - p->l) * sizeof(struct extents_leaf *));
	} else {
		x->key[p->l] = leaf->e[0].start;
		if (p->i == leaf->nr) {
			p->l++;
			p->i = 0;
		}
	}
}

static bool put_in(struct extents *x, struct place p, struct extent e)
{
	struct extents_leaf *leaf;
	unsigned int half;

	/* At the end of a leaf rather than at the beginning of the next: what rises fills leaves. */
	if (!p.i && p.l && (p.l == x->nr_leaves || x->leaf[p.l - 1]->nr < EXTENTS_LEAF)) {
		p.l--;
		p.i = x->leaf[p.l]->nr;
	}
	if (!x->nr_leaves && !new_leaf(x, 0))
		return false;
	leaf = x->leaf[p.l];
	if (leaf->nr == EXTENTS_LEAF) {
		if (!new_leaf(x, p.l + 1))
			return false;
		half = p.i == EXTENTS_LEAF ? EXTENTS_LEAF : EXTENTS_LEAF / 2;
		x->leaf[p.l + 1]->nr = EXTENTS_LEAF - half;
		memcpy(x->leaf[p.l + 1]->e, leaf->e + half, (EXTENTS_LEAF - half) * sizeof(e));
		leaf->nr = half;
		x->key[p.l + 1] = x->leaf[p.l + 1]->e[0].start;
		if (p.i > half || half == EXTENTS_LEAF) {
			p.l++;
			p.i -= half;
			leaf = x->leaf[p.l];
		}
	}
	memmove(leaf->e + p.i + 1, leaf->e + p.i, (leaf->nr - p.i) * sizeof(e));
	leaf->e[p.i] = e;
	leaf->nr++;
	x->nr++;
	x->key[p.l] = leaf->e[0].start;
	return true;
}

/**
 * extents_put - a range is now in this record
 * @x: the map
 * @start: first sector
 * @end: first one behind it
 * @id: of the record
 *
 * Return: false if memory ran out; the map is of no use then.
 */
bool extents_put(struct extents *x, uint64_t start, uint64_t end, uint64_t id)
{
	struct place p = seek(x, start);
	struct extent *e = at(x, p), rest;

	if (start >= end)
		return true;
	if (e && e->start < start) {
		rest = *e;
		e->end = start;
		step(x, &p);
		if (rest.end > end) {
			rest.start = end;
			if (!put_in(x, p, rest))
				return false;
			p = seek(x, start);
		}
	}
	while ((e = at(x, p)) && e->end <= end)
		take_out(x, &p);
	if (e && e->start < end) {
		e->start = end;
		if (!p.i)
			x->key[p.l] = end;
	}
	return put_in(x, p, (struct extent){ start, end, id });
}

/**
 * extents_find - look a place up
 * @x: the map
 * @sector: the place
 *
 * Return: the first extent that ends behind it, NULL if none does.
 */
const struct extent *extents_find(const struct extents *x, uint64_t sector)
{
	return at(x, seek(x, sector));
}

/**
 * extents_add - all ranges of another map are in this record
 * @x: the map
 * @from: the other one
 * @id: of the record
 *
 * Return: false if memory ran out; the map is of no use then.
 */
bool extents_add(struct extents *x, const struct extents *from, uint64_t id)
{
	const struct extent *e;
	uint64_t at = 0;

	for (; (e = extents_find(from, at)); at = e->end)
		if (!extents_put(x, e->start, e->end, id))
			return false;
	return true;
}

/**
 * extents_free - forget all
 * @x: empty then
 */
void extents_free(struct extents *x)
{
	size_t i;

	for (i = 0; i < x->nr_leaves; i++)
		free(x->leaf[i]);
	free(x->leaf);
	free(x->key);
	memset(x, 0, sizeof(*x));
}
