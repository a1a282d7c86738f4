/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A view from inside: for what puts writes over one, see overlay.c. */
#ifndef REPHUB_VIEW_H
#define REPHUB_VIEW_H

#include "engine.h"

/*
 * struct hub_view - does not change after it was opened, but by view_advance()
 * @id:		so many of the group's records count
 * @slot:	the volume's, in the replay
 * @torn:	it may be one that is not to be used there
 * @through_incarnation, @through_seq: all up to there is in it; not before @seq, for numbers can have no record
 */
struct hub_view {
	struct group *group;
	LIST_ENTRY(hub_view) link;		/* guarded by the group's lock */
	char volume[REPAGENT_NAME_MAX + 1];
	char who[64];				/* guarded by the group's lock */
	uint64_t since;
	uint64_t id;
	uint64_t incarnation, seq, time;
	uint64_t through_incarnation, through_seq;
	uint64_t size;
	unsigned int slot;
	bool torn;
	int base;
	struct segment **segment;
	size_t nr_segments;
	struct extents extents;
};

struct hub_view *view_open(struct group *g, const char *volume, const char *point, bool torn, char *reason);
bool view_advance(struct hub_view *v, const char *point, char *reason);
const struct segment *view_segment(const struct hub_view *v, uint64_t id);
bool view_has_data(const struct log_record *rec);
int view_read_base(const struct hub_view *v, uint64_t offset, uint8_t *buf, size_t len, char *reason);
int view_read_record(struct hub_view *v, const struct segment *s, uint64_t id, uint64_t skip, uint8_t *buf,
		     size_t len, char *reason);
bool view_next_base(const struct hub_view *v, uint64_t offset, uint64_t end, uint64_t *next);

#endif /* REPHUB_VIEW_H */
