// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"
#include "trouble.h"
#include "volumes.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"

/* What may happen in a life, each time with an end but for the last ones. */
enum fault {
	KILL_AGENT, HUB_DOWN, HUB_REFUSES, AGENT_STALLS, META_FAILS, ORIGIN_FAILS, FLUSH_FAILS, NO_MEMORY,
	HUB_SET_BACK, RELOAD, RESYNC, REMEMBER, NR_FAULTS
};

static bool memory_may_fail;
static unsigned int enabled, active;	/* bits of enum fault */

/* What the stacks of allocations that fail have, and have not. */
void trouble_prepare(uint64_t text_size, const char *not_in)
{
	const char *to = not_in ? strchr(not_in, ':') : NULL;
	unsigned long start;
	FILE *f;

	memory_may_fail = text_size;
	if (!text_size)
		return;
	f = fopen("/sys/module/dm_repagent_mod/sections/.text", "r");
	if (!f || fscanf(f, "%lx", &start) != 1)
		die("nobody knows where the module is");
	fclose(f);
	put_number(FAILSLAB "require-start", start);
	put_number(FAILSLAB "require-end", start + text_size);
	if (to) {
		put_number(FAILSLAB "reject-start", strtoull(not_in, NULL, 16));
		put_number(FAILSLAB "reject-end", strtoull(to + 1, NULL, 16));
	}
	put_number(FAILSLAB "stacktrace-depth", 32);
	put(FAILSLAB "ignore-gfp-wait", "N");
	put_number(FAILSLAB "verbose", 0);
}

static void begin_fault(enum fault f)
{
	unsigned int v = (unsigned int)rng_below(&rng, VOLUMES);

	switch (f) {
	case KILL_AGENT:
		sum.agents_killed++;
		agent_kill(&agent);
		return;
	case AGENT_STALLS:
		atomic_store(&agent.stalls, true);
		return;
	case META_FAILS:
		served[VOLUMES + v].write_fails = (unsigned int)ONE_OF(100, 500, 1000);
		return;
	case ORIGIN_FAILS:
		atomic_store(&may_fail, true);
		served[v].write_fails = (unsigned int)ONE_OF(20, 200, 1000);
		return;
	case FLUSH_FAILS:
		atomic_store(&may_fail, true);
		served[v].flush_fails = (unsigned int)ONE_OF(300, 1000);
		return;
	case NO_MEMORY:
		/* Some, one after the other: those of every Nth would depend on the runs before. */
		put_number(FAILSLAB "times", ONE_OF(1, 3, 10, 1000000000));
		put_number(FAILSLAB "probability", 100);
		return;
	case RELOAD:
		reload(v, active & 1u << NO_MEMORY);
		return;
	case RESYNC:
		dmctl_message(&dm, agent.device[v], "resync");
		return;
	default:
		break;
	}
	pthread_mutex_lock(&world);
	if (f == HUB_DOWN) {
		hub.down = true;
		if (chance(70))
			hub_crash(&hub, &rng);
	} else if (f == HUB_REFUSES) {
		hub.refuses = true;
	} else if (f == HUB_SET_BACK) {
		hub_set_back(&hub);
	} else if (f == REMEMBER) {
		hub_remember(&hub);
	}
	pthread_mutex_unlock(&world);
}

static void end_fault(enum fault f)
{
	switch (f) {
	case KILL_AGENT:
		agent_start(&agent);
		break;
	case HUB_DOWN:
	case HUB_REFUSES:
		pthread_mutex_lock(&world);
		*(f == HUB_DOWN ? &hub.down : &hub.refuses) = false;
		pthread_mutex_unlock(&world);
		break;
	case AGENT_STALLS:
		atomic_store(&agent.stalls, false);
		break;
	case META_FAILS:
	case ORIGIN_FAILS:
	case FLUSH_FAILS:
		for (unsigned int i = 0; i < ARRAY_SIZE(served); i++) {
			if (f == FLUSH_FAILS)
				served[i].flush_fails = 0;
			else if ((f == META_FAILS) == (i >= VOLUMES))
				served[i].write_fails = 0;
		}
		break;
	case NO_MEMORY:
		put_number(FAILSLAB "probability", 0);
		break;
	default:
		break;
	}
}

void trouble_step(void)
{
	enum fault f = (enum fault)rng_below(&rng, NR_FAULTS);

	if (!(enabled & 1u << f))
		return;
	if (active & 1u << f)
		end_fault(f);
	else
		begin_fault(f);
	if (f < HUB_SET_BACK)
		active ^= 1u << f;
}

void trouble_end(void)
{
	for (unsigned int f = 0; f < NR_FAULTS; f++)
		if (active & 1u << f)
			end_fault((enum fault)f);
	active = 0;
}

void trouble_begin(void)
{
	/* A few kinds of faults, each at its own: what hides a fault is another one. */
	enabled = (unsigned int)(rng_next(&rng) & rng_next(&rng)) | (chance(50) ? (unsigned int)rng_next(&rng) : 0);
	if (!memory_may_fail)
		enabled &= ~(1u << NO_MEMORY);
}
