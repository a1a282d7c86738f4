// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A buddy allocator over one mapping.
 *
 * malloc() would do, but for two things: its fragments have no bound, and a
 * block that it maps and unmaps for every request costs a page fault for every
 * page.  Memory that was never needed is never touched.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pool.h"

#define PAGE		((size_t)NBDS_ALIGN)
#define TOP		(POOL_ORDERS - 1)
#define POOL_USED	0xff

_Static_assert(NBDS_PIECE_MAX == NBDS_ALIGN << TOP, "the largest block is the largest piece");

/**
 * pool_init - map a pool
 * @p: it
 * @size: bytes, rounded down to whole pieces, but one at least
 *
 * Return: 0, or -ENOMEM.
 */
int pool_init(struct pool *p, size_t size)
{
	memset(p, 0, sizeof(*p));
	size -= size % NBDS_PIECE_MAX;
	if (!size)
		size = NBDS_PIECE_MAX;
	p->order = malloc(size / PAGE);
	p->base = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!p->order || p->base == MAP_FAILED) {
		free(p->order);
		if (p->base != MAP_FAILED)
			munmap(p->base, size);
		memset(p, 0, sizeof(*p));
		return -ENOMEM;
	}
	memset(p->order, POOL_USED, size / PAGE);
	p->size = p->free = size;
	return 0;
}

/**
 * pool_exit - unmap a pool
 * @p: it
 */
void pool_exit(struct pool *p)
{
	if (p->base)
		munmap(p->base, p->size);
	free(p->order);
	memset(p, 0, sizeof(*p));
}

static unsigned int order_of(size_t size)
{
	unsigned int order = 0;

	while ((PAGE << order) < size)
		order++;
	return order;
}

/**
 * pool_size_for - how much is given out for a wish
 * @len: bytes, at most NBDS_PIECE_MAX
 */
size_t pool_size_for(size_t len)
{
	return PAGE << order_of(len);
}

static size_t page_of(const struct pool *p, const void *mem)
{
	return (size_t)((const uint8_t *)mem - p->base) / PAGE;
}

static void push(struct pool *p, uint8_t *mem, unsigned int order)
{
	struct pool_block *b = (struct pool_block *)(void *)mem;

	b->prev = NULL;
	b->next = p->list[order];
	if (b->next)
		b->next->prev = b;
	p->list[order] = b;
	p->order[page_of(p, mem)] = (uint8_t)order;
}

static void unlink_block(struct pool *p, struct pool_block *b, unsigned int order)
{
	if (b->prev)
		b->prev->next = b->next;
	else
		p->list[order] = b->next;
	if (b->next)
		b->next->prev = b->prev;
	p->order[page_of(p, b)] = POOL_USED;
}

/**
 * pool_alloc - take a buffer
 * @p: the pool
 * @size: a result of pool_size_for()
 *
 * Return: it, aligned to NBDS_ALIGN, or NULL.
 */
void *pool_alloc(struct pool *p, size_t size)
{
	unsigned int want = order_of(size), order = want;
	uint8_t *mem;

	while (order <= TOP && !p->list[order])
		order++;
	if (order <= TOP) {
		mem = (uint8_t *)p->list[order];
		unlink_block(p, p->list[order], order);
	} else if (p->used_up_to < p->size) {
		mem = p->base + p->used_up_to;
		p->used_up_to += NBDS_PIECE_MAX;
		order = TOP;
	} else {
		return NULL;
	}
	while (order > want) {
		order--;
		push(p, mem + (PAGE << order), order);
	}
	p->free -= PAGE << want;
	return mem;
}

/**
 * pool_free - give a buffer back
 * @p: the pool
 * @mem: from pool_alloc()
 * @size: what was given there
 */
void pool_free(struct pool *p, void *mem, size_t size)
{
	unsigned int order = order_of(size);
	size_t page = page_of(p, mem), buddy;

	p->free += PAGE << order;
	while (order < TOP) {
		buddy = page ^ ((size_t)1 << order);
		if (p->order[buddy] != order)
			break;
		unlink_block(p, (struct pool_block *)(void *)(p->base + buddy * PAGE), order);
		page &= ~((size_t)1 << order);
		order++;
	}
	push(p, p->base + page * PAGE, order);
}
