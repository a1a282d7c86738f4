// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

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

/* The agents' group. */
struct group *vm0(void)
{
	return hub_find(hub, "vm0");
}

/* It is given to who has live, at that point. */
void failed_over(const char *point)
{
	if (hub_failover(hub, "vm0", &(struct hub_order){ .point = point }, why))
		fail_msg("%s: %s", point, why);
}

/* The volume's disk of a test; NULL: of live. */
struct hub_disk *open_disk(const char *test, unsigned int v)
{
	char volume[16];
	struct hub_disk *d;

	snprintf(volume, sizeof(volume), "disk%u", v);
	d = test ? hub_test_open(hub, test, volume, why) : hub_live_open(hub, "vm0", volume, why);
	if (!d)
		fail_msg("%s %s: %s", test ? test : "live", volume, why);
	return d;
}

/* All of the volume at that point: SIM_SECTORS. */
void read_view(const char *point, unsigned int v, void *buf)
{
	char volume[16];
	struct hub_view *view;

	snprintf(volume, sizeof(volume), "disk%u", v);
	view = hub_view_open(hub, "vm0", volume, point, why);
	if (!view || hub_view_read(view, 0, buf, SIM_SECTORS * 512, why))
		fail_msg("%s at %s: %s", volume, point, why);
	hub_view_close(view);
}
