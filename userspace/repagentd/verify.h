/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparison of volumes with their replicas, beside the writes. */
#ifndef REPAGENT_VERIFY_H
#define REPAGENT_VERIFY_H

#include "stream.h"

#define VERIFY_CHUNKS	4	/* on their way at a time */

enum verify_state {
	VERIFY_NEVER,		/* since the daemon has the group */
	VERIFY_WAITING,		/* its turn has not come, or it cannot be compared now */
	VERIFY_RUNNING,
	VERIFY_DONE,
	VERIFY_STOPPED,		/* by command, or the volume went */
};

/*
 * struct verify_volume - a volume's last comparison.
 * @id:		of the volume when it began
 * @torn:	the stream is between this volume's RESYNC_BEGIN and RESYNC_END
 * @reached, @differed, @skipped: bytes: done, different (whole sectors, or whole
 *		blocks of a rephub's sums), and not to be read from the origin
 * @unrepaired:	bytes of those that differed and do so still, though sent again
 * @ended:	ns of CLOCK_MONOTONIC
 */
struct verify_volume {
	enum verify_state state;
	uint16_t id;
	bool torn;
	uint64_t reached, differed, skipped, unrepaired;
	uint64_t ended;
};

/*
 * struct verify_chunk - a range that the kernel was asked for; @length 0: none.
 * @asked:	when, ns
 * @head:	the ring's head then
 * @taken:	its record came, and is being compared
 * @again:	ask once more at once
 * @repair:	it differed: its next record is to be sent, and compared then
 */
struct verify_chunk {
	uint64_t offset, length;
	uint64_t asked;
	uint64_t head;
	unsigned int tries;
	bool taken, again, repair;
};

/*
 * struct verify - all of a group.
 * @volume:	at the indices of the stream's volumes
 * @now:	index of the volume that is being compared, or -1
 * @next:	of it, the first byte that was not asked for
 * @rate:	bytes a second; 0: no limit
 * @floor:	records before it are of no use
 * @high:	the newest record that was taken
 * @max:	bytes of a chunk that the hub's servers allow
 * @deadline:	when verify_run() has something to do, ns
 * @ended:	called when a comparison of a volume has ended
 */
struct verify {
	struct verify_volume volume[REPAGENT_MAX_VOLUMES];
	struct verify_chunk chunk[VERIFY_CHUNKS];
	int now;
	uint64_t next;
	uint64_t rate;
	uint64_t next_ask;
	uint64_t floor;
	uint64_t high;
	uint64_t max;
	uint64_t deadline;
	void (*ended)(void *owner, unsigned int volume);
	void *owner;
};

void verify_init(struct verify *v);
void verify_start(struct verify *v, const struct stream *s, uint64_t volumes, uint64_t rate, uint64_t from);
void verify_stop(struct verify *v, uint64_t now);
bool verify_busy(const struct verify *v);
int verify_run(struct verify *v, struct stream *s, bool connected, uint64_t now);
bool verify_sends(const struct verify *v, const struct record *rec);
bool verify_takes(struct verify *v, const struct record *rec);
void verify_compared(struct verify *v, const struct record *rec, uint64_t differed);
bool verify_differs(struct verify *v, const struct record *rec, uint64_t differed);
void verify_again(struct verify *v, const struct record *rec);
const char *verify_state_name(enum verify_state state);

#endif /* REPAGENT_VERIFY_H */
