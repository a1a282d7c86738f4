/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of the hub's engine begin and end with: a hub in a directory of its own, and two agents that are not connected. */
#ifndef HUBFIXTURE_H
#define HUBFIXTURE_H

#include "simagent.h"

extern char *dir, why[HUB_REASON_MAX];
extern struct hub *hub;			/* NULL while it is closed */
extern struct simagent a, b;

void fixture_begin(unsigned int seed, uint64_t segment, uint64_t of_a, uint64_t of_b);
int fixture_end(void **state);

void close_hub(void);
void open_hub(uint64_t keep);
void reopen(uint64_t keep);

struct group *vm0(void);
void failed_over(const char *point);
struct hub_disk *open_disk(const char *test, unsigned int v);
void read_view(const char *point, unsigned int v, void *buf);

#endif /* HUBFIXTURE_H */
