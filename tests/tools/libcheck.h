/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this stream what Documentation/abi.md promises?  check_record() takes one
 * record after the other and applies it to the replicas; it knows nothing of
 * where the records come from, so that a synthetic stream can test it.
 */
#ifndef LIBCHECK_H
#define LIBCHECK_H

#include <linux/dm-repagent.h>
#include <stdbool.h>
#include <stdint.h>

#include "libdep.h"

/* Where in the stream's grammar the last record left us. */
enum check_phase {
	PHASE_UNKNOWN,	/* began in the middle of a stream: anything may come */
	PHASE_GAP,	/* nothing but a RESYNC_BEGIN may carry on */
	PHASE_BEGIN,	/* in the row of RESYNC_BEGINs that ends a gap */
	PHASE_STREAM,
};

struct check_volume {
	char name[REPAGENT_NAME_MAX + 1];
	uint64_t sectors;
	uint16_t id;		/* 0: not seen yet */
	bool resync;		/* RESYNC_BEGIN without RESYNC_END */
	bool torn;		/* likewise, or a GAP came in between */
	bool removed;
	int replica;		/* file descriptor, or -1 */
};

struct checker {
	/* Set by the user. */
	uint64_t payload_size;
	uint64_t start_ns;	/* no record may be older */
	bool dependent;
	bool begun;		/* the next record is not the first one */
	/* Names and sizes a volume by its id; 0, or -ENOENT. */
	int (*lookup)(void *ctx, uint16_t id, char *name, uint64_t *sectors);
	void *ctx;

	/* Kept from record to record. */
	enum check_phase phase;
	uint64_t next_seq;
	uint64_t payload_end;	/* the last record's slot.end */
	uint64_t last_time;
	struct check_volume volumes[REPAGENT_MAX_VOLUMES];
	unsigned int nr_volumes;
	struct dep_checker dep;

	/* For the summary. */
	uint64_t records[REPAGENT_NR_TYPES];
	uint64_t reasons[REPAGENT_NR_REASONS];	/* of the GAPs */
	uint64_t voids, fua, write_bytes, zero_bytes, resync_bytes;
	uint64_t consistent;	/* records after which no volume was in a resync */
	uint64_t errors;
	char label[REPAGENT_LABEL_MAX + 1];	/* of the last CHECKPOINT */
};

extern const char *const check_type_names[REPAGENT_NR_TYPES];
extern const char *const check_reason_names[REPAGENT_NR_REASONS];

void check_init(struct checker *c);

/* A replica has to be named before the first record of its volume. */
void check_replica(struct checker *c, const char *volume, int fd);

/*
 * @slot is a copy of the slot, @payload points at slot->len bytes.  @acked_end
 * is slot->end of the last acknowledged record: what is not acknowledged must
 * not be overwritten.
 */
void check_record(struct checker *c, const struct repagent_slot *slot,
		  const void *payload, uint64_t acked_end);

/* No volume of the group is in, or was torn from, a resync. */
bool check_is_consistent(const struct checker *c);

__attribute__((format(printf, 2, 3)))
void check_error(struct checker *c, const char *fmt, ...);

#endif /* LIBCHECK_H */
