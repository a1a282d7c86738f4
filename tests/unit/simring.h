/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A ring without a kernel: same layout and rules, in shared memory, so that a
 * daemon in another process (which may be killed) can drain what a test puts in.
 */
#ifndef SIMRING_H
#define SIMRING_H

#include <stdbool.h>
#include "../../userspace/repagentd/ring.h"

struct simstate;

/*
 * struct simring
 * @ring:	what the daemon is given
 * @header, @slots, @payload: the same memory, writable
 */
struct simring {
	struct ring ring;
	struct simstate *state;
	struct repagent_ring_header *header;
	struct repagent_slot *slots;
	unsigned char *payload;
};

struct simring *simring_new(uint32_t nr_slots, uint64_t payload_size);
void simring_free(struct simring *sim);
uint16_t simring_add_volume(struct simring *sim, const char *name, uint64_t bytes);
void simring_resize_volume(struct simring *sim, uint16_t id, uint64_t bytes);
void simring_remove_volume(struct simring *sim, uint16_t id);
void simring_set_map(struct simring *sim, uint16_t id, uint64_t incarnation, uint64_t seq);
void simring_track(struct simring *sim);
unsigned int simring_marks(struct simring *sim);

uint64_t simring_reserve(struct simring *sim, const struct repagent_slot *slot,
			 unsigned char **payload);
void simring_commit(struct simring *sim, uint64_t seq, unsigned int state);
uint64_t simring_put(struct simring *sim, unsigned int type, uint16_t volume,
		     uint64_t offset, uint64_t length, const void *data);

void simring_set_disk(struct simring *sim, uint16_t id, unsigned char *disk);
uint64_t simring_write(struct simring *sim, uint16_t id, uint64_t offset, uint64_t length, const void *data);

uint64_t simring_head(struct simring *sim);
uint64_t simring_acked(struct simring *sim);
bool simring_wait_acked(struct simring *sim, uint64_t seq, unsigned int seconds);
struct repagent_hub simring_hub(struct simring *sim);
bool simring_wait_hub(struct simring *sim, unsigned int connected, unsigned int reason,
		      unsigned int seconds);
uint64_t simring_calls(struct simring *sim);

#endif /* SIMRING_H */
