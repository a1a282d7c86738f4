// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How much of a group's history is kept, and what is done when the disk is full: what a person said of
 * it, in the group's file `retention`.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "../common/parse.h"
#include "engine.h"

#define FILE_NAME	"retention"
#define RETENTION_MAGIC	UINT64_C(0x6e65746572627067)

/*
 * What the file says.
 * @unsaid:	1: bytes and ns are as for all
 * @when_full:	enum hub_when_full; 0: as for all
 */
struct retention_file {
	uint64_t bytes;
	uint64_t ns;
	uint32_t unsaid;
	uint32_t when_full;
};

/**
 * retention_load - what was said of a group before
 * @g: the group, just opened
 *
 * If that cannot be read, nothing is folded until it is said again: what is gone does not come back.
 */
void retention_load(struct group *g)
{
	struct retention_file f = { 0 };
	int err = seal_read(g->dir, FILE_NAME, RETENTION_MAGIC, &f, sizeof(f));

	if (err == ENOENT)
		return;
	if (!err && (f.unsaid > 1 || f.when_full > HUB_DROP_HISTORY))
		err = EBADMSG;
	g->keep = (struct hub_retention){ f.bytes, f.ns, !f.unsaid, f.when_full, f.when_full };
	if (!err)
		return;
	g->keep = (struct hub_retention){ 0, 0, true, HUB_STOP_INGEST, true };
	hub_say(g->hub, LOG_ERR, "group %s: its file " FILE_NAME ": %s: everything is kept until its retention is set again",
		g->name, err == EBADMSG ? "it is not what was written" : strerror(err));
	hubgroup_event(g, "damaged", 0, 0, "its retention is not known: everything is kept until it is set again");
}

/**
 * retention_of - what holds for a group
 * @g: the group, locked
 */
struct hub_retention retention_of(const struct group *g)
{
	struct hub_retention keep = g->keep.own ? g->keep : g->hub->o.keep;

	keep.own = g->keep.own;
	keep.own_when_full = g->keep.own_when_full;
	keep.when_full = keep.own_when_full ? g->keep.when_full : g->hub->o.keep.when_full;
	return keep;
}

/**
 * hub_get_retention - what holds for a group
 * @hub: the hub
 * @group: its name
 * @keep: out
 *
 * Return: 0, or ENOENT: there is no such group.
 */
int hub_get_retention(struct hub *hub, const char *group, struct hub_retention *keep)
{
	struct group *g = hub_find(hub, group);

	if (!g)
		return ENOENT;
	pthread_mutex_lock(&g->lock);
	*keep = retention_of(g);
	pthread_mutex_unlock(&g->lock);
	return 0;
}

static bool save(const struct group *g, const struct hub_retention *keep)
{
	const struct retention_file f = {
		.bytes = keep->own ? keep->bytes : 0,
		.ns = keep->own ? keep->ns : 0,
		.unsaid = !keep->own,
		.when_full = keep->own_when_full ? keep->when_full : 0,
	};

	if (keep->own || keep->own_when_full)
		return seal_write(g->dir, FILE_NAME, RETENTION_MAGIC, &f, sizeof(f));
	return (!unlinkat(g->dir, FILE_NAME, 0) || errno == ENOENT) && !fsync(g->dir);
}

/**
 * hub_set_retention - say what holds for a group from now on, and over restarts
 * @hub: the hub
 * @group: its name
 * @keep: that; not own: what holds for all
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk.
 * Return: 0 or a positive errno; ENOENT: there is no such group.
 */
int hub_set_retention(struct hub *hub, const char *group, const struct hub_retention *keep, char *reason)
{
	struct group *g = hub_find(hub, group);
	char bytes[HUMAN_MAX], age[HUMAN_MAX];
	struct hub_retention now;
	int err = 0;

	if (!g)
		return ENOENT;
	pthread_mutex_lock(&g->lock);
	if (g->forgotten) {
		err = ENOENT;
	} else if (!save(g, keep)) {
		err = EIO;
		snprintf(reason, HUB_REASON_MAX, "the group's file " FILE_NAME " cannot be written: %s", strerror(errno));
	} else {
		g->keep = *keep;
		now = retention_of(g);
		hubgroup_event(g, "retention", 0, 0, "%s%s, %s; when the disk is full: %s",
			       now.own ? "" : "what holds for all: ", now.bytes ? human_size(bytes, now.bytes) : "any size",
			       now.ns ? human_duration(age, now.ns) : "any age", hub_when_full_name(now.when_full));
	}
	pthread_mutex_unlock(&g->lock);
	return err;
}
