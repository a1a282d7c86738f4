/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Volumes that can be written, over a point: those of a test, and of a fail-over. */
#ifndef REPHUB_OVERLAY_H
#define REPHUB_OVERLAY_H

#include "view.h"

#define DISPLACED_MAX	16u

/*
 * struct writers - who has written to a disk, as the file `writers:VOLUME` of its log's directory says it
 * @incarnation: of the writes; the file of another one says nothing of these
 * @token:	of the last that had one; 0: nobody
 * @displaced:	tokens of those that wrote before it, the last @nr of them, in turn
 */
struct writers {
	uint64_t incarnation;
	uint64_t token;
	uint32_t nr, reserved;
	uint64_t displaced[DISPLACED_MAX];
};

/*
 * struct hub_disk - one volume of an overlay
 * @top:	its extents are where writes have gone; where there is none, what is under it counts
 * @under:	the point; NULL: @top has that, too
 * @client:	the last that wrote; the log's lock guards it, and @writers
 * @lock:	guards @top's extents and segments
 */
struct hub_disk {
	struct overlay *overlay;
	uint16_t id;
	struct hub_view *top, *under;
	uint64_t client;
	struct writers writers;
	pthread_rwlock_t lock;
};

/*
 * struct overlay - @to's lock guards all of it, but @over, which may be looked at without
 * @to:		the group whose log takes the writes: a group's own, or a test's
 * @own:	@to is a test's: it ends with this
 * @incarnation: of the writes
 * @limit:	bytes that the log may have; 0: no limit
 * @frame:	FRAME_MAX bytes
 * @refs:	of its owner, and of each disk that is open
 * @over:	nothing is taken any more; @why, since when that is so
 */
struct overlay {
	struct group *to;
	bool own;
	uint64_t incarnation;
	uint64_t limit;
	uint8_t *frame;
	unsigned int refs;
	atomic_bool over;
	char why[HUB_REASON_MAX];
	unsigned int nr;
	struct hub_disk disk[REPAGENT_MAX_VOLUMES];
};

int overlay_begin(struct group *to, uint64_t incarnation, const struct replay *volumes, const char *label,
		  char *reason);
struct overlay *overlay_open(struct group *to, uint64_t incarnation, struct group *of, const char *point,
			     char *reason);
struct hub_disk *overlay_disk(struct overlay *o, const char *volume, char *reason);
unsigned int overlay_users(const struct overlay *o);
void overlay_end(struct overlay *o, const char *why);
void overlay_put(struct overlay *o);

#endif /* REPHUB_OVERLAY_H */
