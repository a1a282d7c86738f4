/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dependent writes: for n = 1, 2, 3 ... a thread writes A(n), waits for it,
 * writes B(n), waits for it.  A(n) goes to slot n % K of the thread's area on
 * side A, B(n) likewise on side B.  So of every crash-consistent image holds,
 * for each thread:
 *
 *	B(n) is there	=> A(n) was there before	(A's highest >= B's highest)
 *	A(n+1) is there	=> B(n) was there before	(A's highest <= B's highest + 1)
 *	slot i of a side holds the highest n of that side with n % K == i
 *
 * Every block says what and where it is and carries a checksum over all of
 * itself, so that the checker needs nothing but the stream.
 */
#ifndef LIBDEP_H
#define LIBDEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEP_MAGIC	0x3164657065646e64ULL
#define DEP_BLOCK	4096u
#define DEP_MAX_THREADS	16u
#define DEP_MAX_SLOTS	64u

enum dep_side { DEP_A, DEP_B, DEP_SIDES };

struct dep_header {
	uint64_t magic;
	uint64_t n;
	uint64_t offset;	/* on the device, bytes */
	uint32_t thread;
	uint32_t side;
	uint32_t slots;		/* K */
	uint32_t crc;		/* of the block, with 0 here */
};

/* What an image, or a prefix of the stream, shows of one run's threads. */
struct dep_checker {
	uint64_t slot[DEP_MAX_THREADS][DEP_SIDES][DEP_MAX_SLOTS];
	uint64_t high[DEP_MAX_THREADS][DEP_SIDES];
	uint32_t slots;		/* K, from the first block */
	uint64_t blocks;	/* seen */
	uint64_t steps;		/* blocks checked one by one */
	uint64_t images;	/* whole images checked */
	uint64_t errors;
	void (*report)(void *ctx, const char *text);
	void *ctx;
};

void dep_fill(void *block, uint32_t thread, enum dep_side side, uint64_t n,
	      uint64_t offset, uint32_t slots);

/* NULL when @block is not a dependent block; *bad when it is a broken one. */
const struct dep_header *dep_parse(const void *block, bool *bad);

/*
 * Take the blocks of one record's payload, which begins at @offset of the
 * device.  With @check each has to be the next step of its thread; without
 * (inside a resync) it is only remembered.
 */
void dep_feed(struct dep_checker *c, const void *payload, size_t len, uint64_t offset,
	      bool check);

/* Is what was fed so far a crash-consistent image? */
void dep_check_image(struct dep_checker *c);

#endif /* LIBDEP_H */
