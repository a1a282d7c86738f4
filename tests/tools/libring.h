/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The consumer's side of /dev/repagent/<group>, as Documentation/abi.md has
 * it, and nothing more: no replication, no network.
 */
#ifndef LIBRING_H
#define LIBRING_H

#include <linux/dm-repagent.h>
#include <stdbool.h>
#include <stdint.h>

struct ring {
	int fd;
	const uint8_t *map;
	const struct repagent_ring_header *header;
	const struct repagent_slot *slots;
	const uint8_t *payload;
	uint64_t map_size;
	uint64_t incarnation;
	uint64_t acked;		/* when it was opened */
	uint64_t payload_size;
	uint32_t nr_slots;
};

/* Returns 0 or a negative errno; *what then names the step that failed. */
int ring_open(struct ring *r, const char *group, const char **what);
void ring_must_open(struct ring *r, const char *group);	/* or the tool ends */
void ring_close(struct ring *r);

int ring_info(const struct ring *r, struct repagent_info *info);
int ring_volume(const struct ring *r, unsigned int index, struct repagent_volume_info *v);
int ring_hub(const struct ring *r, bool connected, enum repagent_reason reason);
int ring_ack(const struct ring *r, uint64_t seq);
int ring_wait(const struct ring *r, uint64_t seq, uint64_t events, int timeout_ms);
int ring_checkpoint(const struct ring *r, const char *label, uint64_t *seq);

/* The commit word of the slot that record @seq lives in, loaded with acquire. */
uint64_t ring_commit(const struct ring *r, uint64_t seq);
uint64_t ring_head(const struct ring *r);

static inline const struct repagent_slot *ring_slot(const struct ring *r, uint64_t seq)
{
	return &r->slots[seq & (r->nr_slots - 1)];
}

#endif /* LIBRING_H */
