/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An agent for the hub's tests: it makes a stream of writes whose bytes tell where
 * they come from, sends it as frames, and knows what each volume has to hold after
 * any record.
 */
#ifndef SIMAGENT_H
#define SIMAGENT_H

#include "rephub/engine.h"

#define SIM_VOLUMES	3u
#define SIM_SECTORS	2048u		/* of a volume */

/* struct sim_op - a record; @seq 0 ends a list. */
struct sim_op {
	uint64_t seq;
	unsigned int type, volume;
	uint64_t sector, nr;
};

/*
 * struct simagent
 * @session:	what it writes to, unless
 * @write, @read, @flush: are set, which return an errno
 */
struct simagent {
	struct hub *hub;
	struct hub_session *session;
	int (*write)(struct simagent *a, uint64_t offset, const void *buf, size_t len);
	int (*read)(struct simagent *a, uint64_t offset, void *buf, size_t len);
	int (*flush)(struct simagent *a);
	struct session block;
	uint64_t incarnation;
	uint64_t next;			/* number of the next record */
	uint64_t sent, acked;
	uint64_t offset;
	int level;			/* of zstd */
	struct frame_builder b;
	uint8_t frame[FRAME_MAX], scratch[FRAME_MAX];
	struct sim_op *op;
	size_t nr_ops, op_room;
	char reason[HUB_REASON_MAX];
};

char *sim_dir(void);
void sim_remove(const char *dir);
struct hub *sim_hub(const char *dir, uint64_t segment, uint64_t keep);
extern char sim_log[65536];		/* what the hub said since sim_hub() */

void sim_init(struct simagent *a, struct hub *hub, uint64_t incarnation);
int sim_connect(struct simagent *a);
void sim_disconnect(struct simagent *a);
void sim_begin(struct simagent *a, bool volumes);
bool sim_add(struct simagent *a, unsigned int type, unsigned int volume, uint64_t sector, uint64_t nr);
void sim_label(struct simagent *a, const char *label);
int sim_send(struct simagent *a);
int sim_flush(struct simagent *a);
void sim_start(struct simagent *a);
void sim_random(struct simagent *a, unsigned int records);
uint64_t sim_many(const char *name, uint64_t few);
#define SIM_COUNTER	(64 * 512)	/* where it is, in bytes */
void sim_dependent_writes(struct simagent *a, uint64_t n);
void sim_fill(uint8_t *buf, uint64_t incarnation, uint64_t seq, uint64_t sector, uint64_t nr);
void sim_model(const struct simagent *a, uint64_t seq, unsigned int volume, uint8_t *bytes);
void sim_compare(struct simagent *a, uint64_t seq);

#endif /* SIMAGENT_H */
