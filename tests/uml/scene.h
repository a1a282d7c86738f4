/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of a fault run (umlfaults.c) share: the disks, the hub, the agent,
 * what is random, what went wrong, and what all runs met.
 *
 * Where nothing else is said it is the main thread's.
 */
#ifndef UML_SCENE_H
#define UML_SCENE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../tools/libdmctl.h"
#include "agent.h"
#include "disk.h"
#include "hub.h"
#include "serve.h"

#define GROUP		"faults"
#define SECTORS		4096u		/* of a volume */
#define META_SECTORS	256u

extern struct disk origin[VOLUMES], meta[VOLUMES];	/* world */
extern struct served served[2 * VOLUMES];		/* the origins, then the meta devices; world */
extern struct hub hub;					/* world */
extern struct agent agent;
extern struct dmctl dm;

/* This run. */
extern uint64_t seed;
extern unsigned int life;
extern struct rng rng;
extern bool bad;
extern atomic_bool may_fail;		/* the writers may get errors; any thread */

/* What came of all runs: a test that never met something would prove nothing of it. */
extern struct sum {
	uint64_t runs, lives, cuts, stops, partial, differed, owed_told, owed_untold;
	uint64_t agents_killed, hub_crashes, set_backs, reloads;
	uint64_t failed_writes, failed_meta_writes, failed_flushes, writer_errors, writes;
} sum;
extern bool verbose;

/* The run went wrong. */
void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void nap_us(uint64_t us);
bool chance(unsigned int percent);
uint64_t one_of(const uint64_t *values, size_t n);
#define ONE_OF(...) one_of((const uint64_t []){ __VA_ARGS__ }, sizeof((uint64_t []){ __VA_ARGS__ }) / sizeof(uint64_t))

/* To a file of the kernel's; ends the program if it cannot be. */
void put(const char *path, const char *text);
void put_number(const char *path, uint64_t value);

#endif /* UML_SCENE_H */
