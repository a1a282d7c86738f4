// SPDX-License-Identifier: GPL-2.0-only
/*
 * Volatile fine bits: the ranges of a volume that the stream lacks.
 *
 * One bit stands for 4 KiB; a leaf holds the bits of 128 MiB in one page that
 * exists only while some of its bits are set and some are not. A volume that is
 * wholly dirty, as every new one is, costs no page at all. Where no page is to
 * be had the leaf turns wholly dirty: too much is resynced, nothing is lost.
 *
 * All functions but init and exit are called under rep_group.lock.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include "repagent.h"

static u32 leaf_bits(const struct rep_dirty *d, unsigned int i)
{
	return min_t(u64, REP_LEAF_BITS, d->nr_bits - (u64)i * REP_LEAF_BITS);
}

static void leaf_free(struct rep_leaf *leaf)
{
	free_page((unsigned long)leaf->bits);
	leaf->bits = NULL;
}

static void leaf_fill(struct rep_dirty *d, unsigned int i)
{
	struct rep_leaf *leaf = &d->leaf[i];

	leaf_free(leaf);
	d->count += leaf_bits(d, i) - leaf->count;
	leaf->count = leaf_bits(d, i);
}

/**
 * rep_dirty_init - make an empty set
 * @d: the set
 * @sectors: size of the volume
 *
 * Context: may sleep.
 * Return: 0, -ENOMEM, or -EFBIG for more than 8 PiB (kvcalloc() gives no 2 GiB).
 */
int rep_dirty_init(struct rep_dirty *d, sector_t sectors)
{
	memset(d, 0, sizeof(*d));
	if (sectors > 8ULL << (50 - SECTOR_SHIFT))
		return -EFBIG;
	d->sectors = sectors;
	d->nr_bits = DIV_ROUND_UP_ULL(sectors, 1 << REP_FINE_SHIFT);
	d->nr_leaves = DIV_ROUND_UP_ULL(d->nr_bits, REP_LEAF_BITS);
	d->leaf = kvcalloc(d->nr_leaves, sizeof(*d->leaf), GFP_KERNEL);
	return d->leaf ? 0 : -ENOMEM;
}

/**
 * rep_dirty_exit - free a set
 * @d: the set; may be zeroed memory
 *
 * Context: may sleep.
 */
void rep_dirty_exit(struct rep_dirty *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_leaves; i++)
		leaf_free(&d->leaf[i]);
	kvfree(d->leaf);
	memset(d, 0, sizeof(*d));
}

/* Set @n bits from @from, a word at a time. Return how many were clear. */
static u32 set_bits(unsigned long *bits, u32 from, u32 n)
{
	unsigned long *word = bits + BIT_WORD(from);
	u32 at = from % BITS_PER_LONG, added = 0;

	while (n) {
		u32 here = min_t(u32, n, BITS_PER_LONG - at);
		unsigned long clear = ~*word & (GENMASK(here - 1, 0) << at);

		if (clear) {
			*word |= clear;
			added += hweight_long(clear);
		}
		word++;
		n -= here;
		at = 0;
	}
	return added;
}

/**
 * rep_dirty_set - a range is missing from the stream
 * @d: the set
 * @sector: first sector
 * @nr_sectors: length; what lies beyond the volume is left out
 */
void rep_dirty_set(struct rep_dirty *d, sector_t sector, sector_t nr_sectors)
{
	u64 bit = sector >> REP_FINE_SHIFT;
	u64 end = min_t(u64, d->nr_bits,
			DIV_ROUND_UP_ULL(sector + nr_sectors, 1 << REP_FINE_SHIFT));

	while (bit < end) {
		unsigned int i = bit / REP_LEAF_BITS;
		u32 from = bit % REP_LEAF_BITS, all = leaf_bits(d, i);
		u32 n = min_t(u64, all - from, end - bit);
		struct rep_leaf *leaf = &d->leaf[i];
		u32 added;

		bit += n;
		if (leaf->count == all)
			continue;
		if (!leaf->bits && n < all)
			leaf->bits = (unsigned long *)get_zeroed_page(GFP_NOWAIT |
								      __GFP_NOWARN);
		if (!leaf->bits || n == all) {
			leaf_fill(d, i);
			continue;
		}
		added = set_bits(leaf->bits, from, n);
		leaf->count += added;
		d->count += added;
	}
}

/**
 * rep_dirty_set_all - the whole volume is missing from the stream
 * @d: the set
 */
void rep_dirty_set_all(struct rep_dirty *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_leaves; i++)
		leaf_fill(d, i);
}

/**
 * rep_dirty_clear - a range that rep_dirty_next() gave goes into the stream
 * @d: the set
 * @sector: first sector
 * @nr_sectors: length
 * @spare: a page that is used, and NULL afterwards, if one is needed
 *
 * Return: 0, or -ENOMEM if a page was needed and there was none.
 */
int rep_dirty_clear(struct rep_dirty *d, sector_t sector, sector_t nr_sectors,
		    unsigned long **spare)
{
	u64 bit = sector >> REP_FINE_SHIFT;
	u64 end = min_t(u64, d->nr_bits,
			DIV_ROUND_UP_ULL(sector + nr_sectors, 1 << REP_FINE_SHIFT));
	unsigned int i = bit / REP_LEAF_BITS;
	struct rep_leaf *leaf = &d->leaf[i];

	if (!leaf->count)
		return 0;
	if (!leaf->bits) {
		if (!*spare)
			return -ENOMEM;
		leaf->bits = *spare;
		*spare = NULL;
		bitmap_zero(leaf->bits, REP_LEAF_BITS);
		bitmap_set(leaf->bits, 0, leaf->count);
	}
	for (; bit < end; bit++) {
		if (__test_and_clear_bit(bit % REP_LEAF_BITS, leaf->bits)) {
			leaf->count--;
			d->count--;
		}
	}
	if (!leaf->count)
		leaf_free(leaf);
	return 0;
}

/**
 * rep_dirty_run - find a run of dirty sectors
 * @d: the set
 * @from: where to begin to look
 * @nr_sectors: out: how many there are; they stay within one leaf
 *
 * Return: the first dirty sector, or @d->sectors if there is none.
 */
sector_t rep_dirty_run(struct rep_dirty *d, sector_t from, sector_t *nr_sectors)
{
	u64 bit = from >> REP_FINE_SHIFT;

	if (!d->count)
		return d->sectors;
	while (bit < d->nr_bits) {
		unsigned int i = bit / REP_LEAF_BITS;
		struct rep_leaf *leaf = &d->leaf[i];
		u64 base = (u64)i * REP_LEAF_BITS;
		u64 first = bit, end = base + leaf_bits(d, i);

		bit = base + REP_LEAF_BITS;
		if (!leaf->count)
			continue;
		if (leaf->bits) {
			first = base + find_next_bit(leaf->bits, leaf_bits(d, i), first - base);
			if (first >= end)
				continue;
			end = base + find_next_zero_bit(leaf->bits, leaf_bits(d, i), first - base);
		}
		*nr_sectors = min_t(sector_t, end << REP_FINE_SHIFT, d->sectors) -
			      (first << REP_FINE_SHIFT);
		return first << REP_FINE_SHIFT;
	}
	return d->sectors;
}

/**
 * rep_dirty_next - find dirty sectors to be read
 * @d: the set
 * @from: where to begin to look
 * @max: sectors wanted at the most; a multiple of 4 KiB
 * @nr_sectors: out: how many there are; they stay within one shard's chunk
 *
 * Return: the first dirty sector, or @d->sectors if there is none.
 */
sector_t rep_dirty_next(struct rep_dirty *d, sector_t from, sector_t max,
			sector_t *nr_sectors)
{
	sector_t first = rep_dirty_run(d, from, nr_sectors);

	if (first < d->sectors)
		*nr_sectors = min3(*nr_sectors, max,
				   REP_SHARD_SECTORS - first % REP_SHARD_SECTORS);
	return first;
}

/**
 * rep_dirty_any - is anything of a range dirty?
 * @d: the set
 * @sector: its first sector
 * @nr_sectors: its length; it lies within one leaf
 */
bool rep_dirty_any(const struct rep_dirty *d, sector_t sector, sector_t nr_sectors)
{
	u64 bit = sector >> REP_FINE_SHIFT;
	const struct rep_leaf *leaf = &d->leaf[bit / REP_LEAF_BITS];
	u32 from = bit % REP_LEAF_BITS;
	u32 end = from + DIV_ROUND_UP_ULL(nr_sectors, 1 << REP_FINE_SHIFT);

	if (!leaf->count || !leaf->bits)
		return leaf->count;
	return find_next_bit(leaf->bits, end, from) < end;
}

/**
 * rep_dirty_clear_all - nothing is missing from the stream
 * @d: the set
 */
void rep_dirty_clear_all(struct rep_dirty *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_leaves; i++) {
		leaf_free(&d->leaf[i]);
		d->leaf[i].count = 0;
	}
	d->count = 0;
}

/**
 * rep_dirty_resize - move the bits to a set of another size
 * @d: the set; afterwards it is what @to was
 * @to: an empty set of the new size; afterwards it is to be freed
 *
 * What the new size adds is dirty.
 */
void rep_dirty_resize(struct rep_dirty *d, struct rep_dirty *to)
{
	unsigned int i, n = min(d->nr_leaves, to->nr_leaves);

	for (i = 0; i < n; i++) {
		struct rep_leaf *leaf = &d->leaf[i];
		u32 bits = leaf_bits(to, i);

		if (!leaf->count)
			continue;
		if (!leaf->bits || leaf_bits(d, i) == bits) {
			/* A full leaf of another size: full again, at worst too much. */
			if (!leaf->bits)
				leaf->count = bits;
		} else {
			if (bits < REP_LEAF_BITS)
				bitmap_clear(leaf->bits, bits, REP_LEAF_BITS - bits);
			leaf->count = bitmap_weight(leaf->bits, bits);
			if (!leaf->count)
				leaf_free(leaf);
		}
		swap(to->leaf[i], *leaf);
		to->count += to->leaf[i].count;
	}
	if (to->sectors > d->sectors)
		rep_dirty_set(to, d->sectors, to->sectors - d->sectors);
	swap(*d, *to);
}

/**
 * rep_dirty_sectors - how much is dirty
 * @d: the set
 *
 * Return: sectors.
 */
sector_t rep_dirty_sectors(const struct rep_dirty *d)
{
	return min_t(u64, d->count << REP_FINE_SHIFT, d->sectors);
}
