/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks in memory as block devices of the kernel's: /dev/nbd0 and so on, served by a
 * thread of this process. What is asked takes its time, in any order, and fails when
 * told to; and the power of all of them fails in one moment.
 *
 * The world's lock guards the disks, what is in struct served, and whatever else
 * a power cut must not find half done.
 */
#ifndef UML_SERVE_H
#define UML_SERVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "disk.h"

struct request;

struct served {
	struct disk *disk;
	uint64_t delay_ns;	/* a request takes up to this */
	unsigned int write_fails;	/* so many of 1000 writes do */
	unsigned int flush_fails;	/* ... of flushes */
	uint64_t cut_after;	/* the power fails with that write from now; 0: not */

	/* For who wants to know. */
	uint64_t failed_writes, failed_flushes;
	void (*wrote)(struct served *s, uint64_t sector, uint64_t nr, const void *data, bool failed);
	void *owner;

	/* Its own. */
	int fd;
	struct request *queue;	/* by the time they are due */
};

extern pthread_mutex_t world;

/* Serves disks for good, as /dev/nbd0 and up. Ends the program if it cannot. */
void serve(struct served *served, unsigned int nr);

/* What is random from now on comes from here; the disks have power. */
void serve_begin(uint64_t seed);

/*
 * The power fails. Each disk has what the cut has left, nothing is on its way any more;
 * until serve_begin() or serve_power() everything fails. Under the world's lock.
 */
void serve_cut(void);
bool serve_is_cut(void);	/* without it */
void serve_power(void);

/* Of all that was asked and when: two runs that are the same have the same. */
uint64_t serve_digest(void);

#endif /* UML_SERVE_H */
