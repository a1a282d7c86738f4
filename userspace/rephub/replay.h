/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a group's log has said up to some place in it. */
#ifndef REPHUB_REPLAY_H
#define REPHUB_REPLAY_H

#include "../common/frame.h"

#define REPLAY_SEEN	64u		/* incarnations that are remembered */
#define REPLAY_BYTES	(32u + REPLAY_SEEN * 8 + REPAGENT_MAX_VOLUMES * 48)	/* as replay_encode() makes them */

/*
 * The image of a volume, at a place in the log:
 *
 *	state	means						next
 *	NAMED	an id was given a name, and nothing else	RESYNC
 *	LOST	something is missing				RESYNC by RESYNC_BEGIN, ADD
 *	RESYNC	... and is coming				GOOD by RESYNC_END; LOST by GAP,
 *								REMOVE, a new incarnation
 *	GOOD	crash-consistent				RESYNC by RESYNC_BEGIN, ADD;
 *								LOST where records are missing
 */
enum volume_state { VOLUME_NAMED, VOLUME_LOST, VOLUME_RESYNC, VOLUME_GOOD, VOLUME_NR_STATES };

/*
 * struct replay_volume
 * @id:		in this incarnation, the newest first; 0: none. A volume that was removed and
 *		is back has another, and records of both may be under way
 * @removed:	since its VOLUME_REMOVE
 * @map_error:	its agent's write-intent map cannot be written, or could not when its incarnation ended
 */
struct replay_volume {
	char name[REPAGENT_NAME_MAX + 1];
	uint16_t id[2];
	enum volume_state state;
	bool removed, map_error;
	uint64_t sectors;
};

/*
 * struct replay
 * @incarnation, @seq: position; zeroes: nothing came
 * @volume:	in the order in which they were named; a place is never given to another
 * @seen:	incarnations, the newest last
 */
struct replay {
	uint64_t incarnation, seq;
	unsigned int nr;
	struct replay_volume volume[REPAGENT_MAX_VOLUMES];
	unsigned int nr_seen;
	uint64_t seen[REPLAY_SEEN];
};

/* How a frame continues the log; in struct log_frame beside FRAME_ZSTD. */
#define REPLAY_NEW	(1u << 8)	/* an incarnation begins */
#define REPLAY_JUMP	(1u << 9)	/* records are missing before it */

int replay_frame(struct replay *r, const struct frame_header *h, unsigned int first_type,
		 uint32_t *how, char *error);
void replay_apply(struct replay *r, uint32_t how);
bool replay_name(struct replay *r, const struct frame_volume *v, char *error);
bool replay_owes(const struct replay *r);
int replay_find(const struct replay *r, uint16_t id);
void replay_record(struct replay *r, unsigned int type, unsigned int volume, uint64_t nr_sectors);
const char *replay_state(const struct replay_volume *v);

void replay_encode(const struct replay *r, uint8_t *p);
bool replay_decode(struct replay *r, const uint8_t *p);

#endif /* REPHUB_REPLAY_H */
