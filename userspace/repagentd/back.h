/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which volumes of a host that was failed over from are brought up to date, or were: remembered over a daemon's end. */
#ifndef REPAGENT_BACK_H
#define REPAGENT_BACK_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/dm-repagent.h>

/*
 * struct back_volume
 * @ended:	it was, and the following is known
 * @had_incarnation, @had_seq: what its write-intent map rested on then
 * @has_incarnation, @has_seq: it was at the hub's position then, with all that the map does not have
 */
struct back_volume {
	char name[REPAGENT_NAME_MAX + 1];
	bool ended;
	uint64_t had_incarnation, had_seq;
	uint64_t has_incarnation, has_seq;
};

/* struct back - what a group's file says. */
struct back {
	unsigned int nr;
	struct back_volume volume[REPAGENT_MAX_VOLUMES];
};

bool back_load(struct back *b, const char *dir, const char *group);
bool back_note(const struct back_volume *v, const char *dir, const char *group);
bool back_ended(const struct back *b, const char *volume);
const char *back_unfinished(const struct back *b);
void back_forget(struct back *b, const char *dir, const char *group);
bool back_rests(const struct back *b, const struct repagent_volume_info *v, uint64_t incarnation, uint64_t seq);

#endif /* REPAGENT_BACK_H */
