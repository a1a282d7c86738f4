/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A rephub for tests of the agent: it keeps the log in memory that it shares with the
 * test, as durable as a FLUSH made it, and is strict about what the agent may do. It
 * runs in a process of its own, and may be killed.
 */
#ifndef FAKEHUB_H
#define FAKEHUB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../userspace/common/frame.h"

#define FAKEHUB_LOG	(UINT64_C(256) << 20)	/* bytes that fit into its log */

struct fakehub_position {
	uint64_t offset, incarnation, seq;
};

/*
 * struct fakehub - shared by the hub's process and the test
 *
 * What the test sets:
 * @session:	what the session block says, but for offset, incarnation and seq
 * @tamper:	changes the block before it is sent; set it before fakehub_start()
 * @hello_error, @frame_error, @flush_error: what these get, while not 0
 * @size:	of the export; 0: as it has to be
 * @shuffle:	answers to frames overtake each other
 * @stuck_seq:	the frame that has this record is not answered; 0: none
 * @hold_flush:	FLUSHes are carried out when this ends
 * @mute_flush:	they are carried out, and not answered
 *
 * What the hub tells:
 * @allowed:	no record behind this one may be acknowledged
 * @durable:	two of them, @which counts
 * @stuck:	the frame's last record; 0: it did not come yet
 * @held_flushes: that wait
 */
struct fakehub {
	struct session session;
	void (*tamper)(unsigned char *block);
	int hello_error, frame_error, flush_error;
	uint64_t size;
	bool shuffle;
	uint64_t stuck_seq;
	bool hold_flush, mute_flush;

	uint64_t allowed;
	struct fakehub_position durable[2];
	unsigned int which;
	uint64_t stuck;
	unsigned int held_flushes;
	uint64_t hellos, sessions, frames, flushes, refused;
	uint64_t records_max;
	char refusal[FRAME_ERROR_MAX];
	unsigned char log[];
};

/*
 * struct fakehub_volume - what the durable log makes of a volume
 * @name:	of the volume
 * @data, @size: its image
 */
struct fakehub_volume {
	const char *name;
	unsigned char *data;
	uint64_t size;
};

/* struct fakehub_contents - what a log has */
struct fakehub_contents {
	uint64_t frames, packed, records, voids, fua, gaps, begins, timed, labels, verifies;
	uint64_t first_gap_begins;	/* RESYNC_BEGINs behind the last GAP */
};

struct fakehub *fakehub_new(const char *group);
void fakehub_free(struct fakehub *h);
pid_t fakehub_start(struct fakehub *h, const char *socket);
struct fakehub_position fakehub_position(const struct fakehub *h);
void fakehub_set_back(struct fakehub *h, const struct fakehub_position *to);
void fakehub_replay(const struct fakehub *h, uint64_t from, const struct fakehub_volume *volumes,
		    unsigned int nr, struct fakehub_contents *contents);

#endif /* FAKEHUB_H */
