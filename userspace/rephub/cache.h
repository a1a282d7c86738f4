/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What was read of segments, and is what was written. */
#ifndef REPHUB_CACHE_H
#define REPHUB_CACHE_H

#include "segment.h"

struct cache *cache_new(size_t bytes);
void cache_free(struct cache *c);
int cache_read(struct cache *c, const struct segment *s, const struct log_record *rec, uint64_t skip, void *buf,
	       size_t len, char *error);

#endif /* REPHUB_CACHE_H */
