/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The records of a group, in order, each word of them checked. */
#ifndef REPAGENT_STREAM_H
#define REPAGENT_STREAM_H

#include <stdbool.h>
#include "ring.h"

/*
 * struct volume - one volume of the group, at its index of REPAGENT_IOC_VOLUME.
 * @info:	as the kernel last told it; id 0: no volume here
 * @limit:	the largest size in bytes the volume is known to have had:
 *		records from before it shrank may lie beyond its present end
 */
struct volume {
	struct repagent_volume_info info;
	uint64_t limit;
};

/*
 * struct record - a checked copy of a slot.
 * @seq:	its sequence number
 * @type:	enum repagent_type; 0 for a VOID slot
 * @flags:	REPAGENT_REC_FUA or 0
 * @volume:	index of its volume, or -1 where it is the whole group's
 * @aux:	of GAP an enum repagent_reason, of FAILED a positive errno
 * @offset, @length: its range in bytes; of VOLUME_ADD, VOLUME_RESIZE and
 *		RESYNC_BEGIN @length is the volume's size
 * @payload, @payload_len: in the ring; stays until it is acknowledged
 * @time:	when it was reserved, ns of CLOCK_REALTIME
 */
struct record {
	uint64_t seq;
	unsigned int type;
	unsigned int flags;
	int volume;
	int aux;
	uint64_t offset;
	uint64_t length;
	const void *payload;
	uint32_t payload_len;
	uint64_t time;
};

/*
 * struct stream - a consumer's place in a ring.
 * @info:	as the kernel last told it
 * @next:	sequence number of the next record to be taken
 * @acked:	the last one acknowledged
 * @end:	stop behind this one (UINT64_MAX: never)
 * @produced:	bytes of payload that were ever put into the ring, as far as
 *		it is committed; @settled: those that were acknowledged
 * @armed:	what the ring was last asked to wake us for
 * @slots ...:	the ring's geometry, checked once
 */
struct stream {
	struct ring *ring;
	struct repagent_info info;
	struct volume volume[REPAGENT_MAX_VOLUMES];
	uint64_t next;
	uint64_t acked;
	uint64_t end;
	uint64_t produced;
	uint64_t settled;
	struct repagent_wait armed;

	const struct repagent_slot *slots;
	const unsigned char *payload;
	uint64_t payload_size;
	uint64_t incarnation;
	uint32_t nr_slots;
};

bool record_is_zero(const struct record *rec);
int stream_open(struct stream *s, struct ring *ring);
int stream_refresh(struct stream *s);
int stream_rewind(struct stream *s);
int stream_peek(struct stream *s, struct record *rec);
void stream_advance(struct stream *s);
void stream_skip(struct stream *s, uint64_t seq);
uint64_t stream_oldest_time(const struct stream *s);
int stream_ack(struct stream *s, uint64_t seq);
int stream_hub(struct stream *s, bool connected, unsigned int reason);
int stream_emit(struct stream *s, unsigned int type, const char *label, uint64_t *seq);
int stream_verify(struct stream *s, uint16_t id, uint64_t offset, uint64_t length);
int stream_dirty(struct stream *s, struct repagent_dirty *dirty);
int stream_wait(struct stream *s, uint64_t seq);
void stream_woken(struct stream *s);

#endif /* REPAGENT_STREAM_H */
