// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges with I/O on the way.
 *
 * Every write and every resync read of a volume first takes its range here,
 * and waits for all that overlap it and came before. So overlapping writes
 * reach the disk in the order of their records, and a resync read never sees
 * half a write.
 *
 * The scheme is the range lock that Jan Kara proposed for Linux in 2013: a new
 * range counts the ranges it overlaps and is inserted whether it must wait or
 * not; a range that goes away takes one from each that it overlaps. A range
 * that was granted has no earlier one left, so all that it overlaps when it
 * goes came later. First come, first served: nobody starves.
 *
 * Mostly a shard has one range or none, so one of them, whichever found the
 * place free, is kept beside the tree, and costs no balancing.
 *
 * The space is cut into chunks of 1 MiB that are dealt out to REP_SHARDS
 * trees. Most ranges lie within a chunk; the target cuts its writes so. A wide
 * one (a discard, zeroes) has a node in each tree that it touches. Two wide
 * ranges never wait for each other in a circle, because wide_lock is held
 * over the whole insertion: all nodes of one come before all of the other,
 * and a narrow range, having one node, cannot turn that around.
 */
#include <linux/interval_tree_generic.h>
#include <linux/slab.h>
#include "repagent.h"

#define NODE_START(node)	((node)->start)
#define NODE_LAST(node)		((node)->last)

INTERVAL_TREE_DEFINE(struct rep_node, rb, sector_t, subtree_last,
		     NODE_START, NODE_LAST, static __maybe_unused, rep_tree)

static struct rep_shard *shard_of(struct rep_volume *v, sector_t sector)
{
	return &v->shard[(sector >> REP_SHARD_SHIFT) % REP_SHARDS];
}

static unsigned int nr_shards(const struct rep_node *node)
{
	sector_t chunks = (node->last >> REP_SHARD_SHIFT) -
			  (node->start >> REP_SHARD_SHIFT) + 1;

	return min_t(sector_t, chunks, REP_SHARDS);
}

/**
 * rep_intervals_init - make a volume's interval set
 * @v: the volume, not yet in use
 */
void rep_intervals_init(struct rep_volume *v)
{
	int i;

	for (i = 0; i < REP_SHARDS; i++) {
		spin_lock_init(&v->shard[i].lock);
		v->shard[i].ranges = RB_ROOT_CACHED;
	}
	spin_lock_init(&v->wide_lock);
}

/**
 * rep_range_is_wide - does a range touch more than one chunk?
 * @sector: its first sector
 * @nr_sectors: its length, not 0
 *
 * Return: whether rep_range_widen() has to come before rep_range_lock().
 */
bool rep_range_is_wide(sector_t sector, sector_t nr_sectors)
{
	return sector >> REP_SHARD_SHIFT !=
	       (sector + nr_sectors - 1) >> REP_SHARD_SHIFT;
}

/**
 * rep_range_widen - give a range what it needs to be wide
 * @range: not locked yet
 *
 * Context: any; does not sleep.
 * Return: 0, or -ENOMEM: cut the range at the end of its first chunk instead.
 */
int rep_range_widen(struct rep_range *range)
{
	range->wide = kmalloc_array(REP_SHARDS, sizeof(*range->wide),
				    GFP_NOWAIT | __GFP_NOWARN);
	return range->wide ? 0 : -ENOMEM;
}

static bool overlap(const struct rep_node *a, const struct rep_node *b)
{
	return a->start <= b->last && b->start <= a->last;
}

/* Insert one node and count what is there before it. */
static unsigned int insert_node(struct rep_shard *s, struct rep_node *node)
{
	struct rep_node *other;
	unsigned int n = 0;

	lockdep_assert_held(&s->lock);
	if (!RB_EMPTY_ROOT(&s->ranges.rb_root))
		for (other = rep_tree_iter_first(&s->ranges, node->start, node->last);
		     other;
		     other = rep_tree_iter_next(other, node->start, node->last))
			n++;
	if (likely(!s->lone)) {
		s->lone = node;
		return n;
	}
	rep_tree_insert(node, &s->ranges);
	return n + overlap(s->lone, node);
}

static bool lock_wide(struct rep_volume *v, struct rep_range *range)
{
	struct rep_node *node = &range->node;
	unsigned int i, n = nr_shards(node);

	/* One blocker is ours, so that nobody grants what is half inserted. */
	atomic_set(&range->blockers, 1);
	spin_lock_irq(&v->wide_lock);
	for (i = 0; i < n; i++) {
		struct rep_shard *s = shard_of(v, node->start + i * REP_SHARD_SECTORS);

		range->wide[i] = *node;
		spin_lock(&s->lock);
		atomic_add(insert_node(s, &range->wide[i]), &range->blockers);
		spin_unlock(&s->lock);
	}
	spin_unlock_irq(&v->wide_lock);
	return atomic_dec_and_test(&range->blockers);
}

/**
 * rep_range_lock - take a range, or queue for it
 * @v: the volume
 * @range: with @granted set, and @wide NULL or from rep_range_widen()
 * @sector: first sector
 * @nr_sectors: length, not 0; within one chunk unless @range is wide
 *
 * Context: process, as map() is; takes a shard's lock.
 * Return: true if the range is the caller's; false if earlier ones overlap it,
 * then @range->granted will be called, once, by the volume's worker, maybe
 * before this returns.
 */
bool rep_range_lock(struct rep_volume *v, struct rep_range *range,
		    sector_t sector, sector_t nr_sectors)
{
	struct rep_shard *s = shard_of(v, sector);
	unsigned int n;

	range->node.start = sector;
	range->node.last = sector + nr_sectors - 1;
	range->node.range = range;
	if (range->wide)
		return lock_wide(v, range);

	spin_lock_irq(&s->lock);
	n = insert_node(s, &range->node);
	atomic_set(&range->blockers, n);
	spin_unlock_irq(&s->lock);
	return n == 0;
}

static void unblock(struct rep_node *node, struct list_head *ready)
{
	if (atomic_dec_and_test(&node->range->blockers))
		list_add_tail(&node->range->queue, ready);
}

/* Remove one node; ranges for which it was the last blocker go to @ready. */
static void remove_node(struct rep_shard *s, struct rep_node *node,
			struct list_head *ready)
{
	struct rep_node *other;
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	if (likely(s->lone == node))
		s->lone = NULL;
	else
		rep_tree_remove(node, &s->ranges);
	if (s->lone && overlap(s->lone, node))
		unblock(s->lone, ready);
	if (!RB_EMPTY_ROOT(&s->ranges.rb_root))
		for (other = rep_tree_iter_first(&s->ranges, node->start, node->last);
		     other;
		     other = rep_tree_iter_next(other, node->start, node->last))
			unblock(other, ready);
	spin_unlock_irqrestore(&s->lock, flags);
}

/**
 * rep_range_unlock - give a range back
 * @v: the volume
 * @range: the caller's; its memory may be reused afterwards
 *
 * The ranges that waited for this one alone are handed to the volume's worker.
 *
 * Context: any; takes the shards' locks and the volume's queue_lock.
 */
void rep_range_unlock(struct rep_volume *v, struct rep_range *range)
{
	LIST_HEAD(ready);

	if (unlikely(range->wide)) {
		unsigned int i, n = nr_shards(&range->node);

		for (i = 0; i < n; i++)
			remove_node(shard_of(v, range->node.start + i * REP_SHARD_SECTORS),
				    &range->wide[i], &ready);
		kfree(range->wide);
		range->wide = NULL;
	} else {
		remove_node(shard_of(v, range->node.start), &range->node, &ready);
	}
	if (unlikely(!list_empty(&ready)))
		rep_volume_queue(v, &ready);
}
