/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The volumes p0 and p1 of a fault run, on origins that are made anew each time: what
 * their maps have before they are activated, whether that is enough, and whether the
 * kernel takes it so.
 */
#ifndef UML_VOLUMES_H
#define UML_VOLUMES_H

#include <stdbool.h>
#include <stdint.h>

struct features {
	unsigned int words;		/* in all, and what is added to those that all volumes have */
	const char *text;
};
extern const struct features plain, no_bounce, no_discard;

void volumes_begin(void);		/* of a run: the disks are blank */

/* Before an activation: wrong() if a replica lacks what its map does not have. */
void look_at_map(unsigned int volume);
uint64_t map_lacks(unsigned int volume);	/* sectors to be read again, as it has it */

void activate(const struct features *features);
void deactivate(void);
void reload(unsigned int volume, bool no_memory);	/* the table, once more */
unsigned int minor_of(unsigned int volume);

bool wait_synced(void);		/* false: it was not to be, or the power went */

/* Nobody writes, nothing fails, the hub is there: wrong() if the replicas do not become the disks. */
void expect_sync(void);

#endif /* UML_VOLUMES_H */
