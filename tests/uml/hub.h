/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hub in memory: replicas on disks that can lose what was not flushed, and what a
 * hub with a memory of its own, as rephub, knows of the stream beside them.
 *
 * All of it is guarded by the world's lock.
 */
#ifndef UML_HUB_H
#define UML_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "disk.h"

#define VOLUMES		2
#define LINEAGE_MAX	64

struct hub_state {
	struct hub_position {
		uint64_t incarnation, seq;
	} lineage[LINEAGE_MAX];		/* the last record of each incarnation */
	unsigned int nr;
	uint64_t map_error[VOLUMES];	/* told in this incarnation; 0: not */
};

struct hub {
	struct disk disk[VOLUMES];
	struct hub_state now, safe;
	bool down;
	bool refuses;
	uint64_t epoch;			/* raised when it forgets something */

	/* A copy of what was safe, for hub_set_back(). */
	bool has_older;
	uint8_t *older[VOLUMES];
	struct hub_state older_state;

	uint64_t set_backs, crashes;
};

void hub_init(struct hub *h, uint64_t sectors);
void hub_reset(struct hub *h);

void hub_reached(struct hub *h, uint64_t incarnation, uint64_t seq);
uint64_t hub_position(const struct hub_state *state, uint64_t incarnation);

/* Does it lack what a map rests on, or was it told of a map that missed something? */
bool hub_owes(const struct hub *h, unsigned int volume, uint64_t map_incarnation, uint64_t map_seq,
	      uint64_t incarnation);

void hub_flush(struct hub *h);
void hub_crash(struct hub *h, struct rng *rng);		/* its power fails */
void hub_remember(struct hub *h);
bool hub_set_back(struct hub *h);	/* to what was remembered, if anything was */

#endif /* UML_HUB_H */
