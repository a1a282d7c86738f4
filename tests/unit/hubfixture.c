// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>

#include "hubfixture.h"

char *dir, why[HUB_REASON_MAX];
struct hub *hub;
struct simagent a, b;

static uint64_t segment_bytes;

/*
 * For a test's setup: random numbers from a seed, the size of a segment, and the agents' incarnations. The directory may be
 * there already, if it has to be something special.
 */
void fixture_begin(unsigned int seed, uint64_t segment, uint64_t of_a, uint64_t of_b)
{
	srandom(seed);
	segment_bytes = segment;
	if (!dir)
		dir = sim_dir();
	sim_init(&a, NULL, of_a);
	sim_init(&b, NULL, of_b);
	open_hub(0);
}

/* A test's teardown. */
int fixture_end(void **state)
{
	(void)state;
	close_hub();
	free(a.op);
	free(b.op);
	sim_remove(dir);
	free(dir);
	dir = NULL;
	return 0;
}

/* The agents have no session then. */
void close_hub(void)
{
	sim_disconnect(&a);
	sim_disconnect(&b);
	if (hub)
		hub_close(hub);
	hub = NULL;
}

/* Keep: bytes of a group's journal; 0: all. */
void open_hub(uint64_t keep)
{
	hub = a.hub = b.hub = sim_hub(dir, segment_bytes, keep);
}

void reopen(uint64_t keep)
{
	close_hub();
	open_hub(keep);
}
