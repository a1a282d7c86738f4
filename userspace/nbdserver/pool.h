/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Payload buffers: a fixed amount of memory, in powers of two. */
#ifndef NBDS_POOL_H
#define NBDS_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "nbdserver.h"

#define POOL_ORDERS	7	/* 4 KiB << 0 .. 6 */

struct pool_block {
	struct pool_block *next, *prev;
};

/*
 * struct pool - all is the owning thread's alone.
 * @free:	bytes that are not given out
 */
struct pool {
	uint8_t *base;
	uint8_t *order;			/* of the free block that begins at a page, or POOL_USED */
	size_t size, used_up_to, free;
	struct pool_block *list[POOL_ORDERS];
};

int pool_init(struct pool *p, size_t size);
void pool_exit(struct pool *p);
size_t pool_size_for(size_t len);
void *pool_alloc(struct pool *p, size_t size);
void pool_free(struct pool *p, void *mem, size_t size);

#endif /* NBDS_POOL_H */
