// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A group is taken away: its directory gets a name that is none of a group's, durably, and is removed
 * later, by and by.  What is left of it in memory stays until the hub's end, for a session may
 * have found it before.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define GONE		".gone-"
#define DEPTH_MOST	8u

/**
 * remove_tree - remove a file, or a directory with all that is in it
 * @dir: where it is
 * @name: its name
 * @depth: of directories in it, at most
 *
 * Return: whether nothing is left; else errno says why not.
 */
bool remove_tree(int dir, const char *name, unsigned int depth)
{
	struct dirent *de;
	int fd, err = 0;
	DIR *d;

	if (!unlinkat(dir, name, 0) || errno == ENOENT)
		return true;
	if (errno != EISDIR && errno != EPERM)
		return false;
	if (!depth) {
		errno = ELOOP;
		return false;
	}
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		err = errno;
		if (fd >= 0)
			close(fd);
		errno = err;
		return false;
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") && !remove_tree(fd, de->d_name, depth - 1))
			err = errno;
	closedir(d);
	errno = err;
	return !err && !unlinkat(dir, name, AT_REMOVEDIR);
}

/**
 * forget_sweep - remove what is left of groups that were taken away
 * @hub: the hub
 *
 * Context: waits for the disk.
 */
void forget_sweep(struct hub *hub)
{
	bool sweep, all = true;
	struct dirent *de;
	DIR *d;
	int fd;

	pthread_mutex_lock(&hub->lock);
	sweep = hub->sweep;
	hub->sweep = false;
	pthread_mutex_unlock(&hub->lock);
	if (!sweep)
		return;
	fd = openat(hub->groups, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d && fd >= 0)
		close(fd);
	while (d && (de = readdir(d))) {
		if (strncmp(de->d_name, GONE, strlen(GONE)) || remove_tree(hub->groups, de->d_name, DEPTH_MOST))
			continue;
		all = false;
		if (!hub->sweep_told)
			hub_say(hub, LOG_WARNING, "groups/%s cannot be removed yet: %s", de->d_name, strerror(errno));
	}
	if (d)
		closedir(d);
	hub->sweep_told = !all;
	if (all)
		return;
	/* Whoever was about to write something of it may have done so meanwhile. */
	pthread_mutex_lock(&hub->lock);
	hub->sweep = true;
	pthread_mutex_unlock(&hub->lock);
}

/* Nobody may use it. The group is locked. */
static int in_use(const struct group *g, char *reason)
{
	if (g->session)
		snprintf(reason, HUB_REASON_MAX, "its agent is connected: end its protection first, or another hub's address for it");
	else if (g->failover.state == FAILOVER_LIVE || g->failover.state == FAILOVER_ROLLBACK)
		snprintf(reason, HUB_REASON_MAX, "it is failed over: commit that, or roll it back, first");
	else if (g->live)
		snprintf(reason, HUB_REASON_MAX, "it was failed over, and its volumes are to be had at live/%s until its agent is back",
			 g->name);
	else if (g->nr_views)
		snprintf(reason, HUB_REASON_MAX, "%u %s of it open: rephubctl views", g->nr_views,
			 g->nr_views == 1 ? "view is" : "views are");
	else if (g->folding)
		snprintf(reason, HUB_REASON_MAX, "a segment of it is being folded: try again in a moment");
	else
		return 0;
	return EBUSY;
}

/**
 * hub_forget - take a group away, with all of its history
 * @hub: the hub
 * @group: its name
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * The space is free when hub_tend() has run.
 *
 * Context: waits for the disk.
 * Return: 0 or a positive errno; ENOENT: there is no such group; EBUSY: it is in use.
 */
int hub_forget(struct hub *hub, const char *group, char *reason)
{
	char to[REPAGENT_NAME_MAX + 32];
	struct timespec now;
	struct group *g;
	int err;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(to, sizeof(to), GONE "%s-%" PRIx64 "%08lx", group, (uint64_t)now.tv_sec, (unsigned long)now.tv_nsec);
	pthread_mutex_lock(&hub->lock);
	LIST_FOREACH(g, &hub->list, link)
		/* cppcheck-suppress nullPointerRedundantCheck ; it is only NULL behind the last */
		if (!strcmp(g->name, group))
			break;
	if (!g) {
		pthread_mutex_unlock(&hub->lock);
		return ENOENT;
	}
	pthread_mutex_lock(&g->lock);
	err = in_use(g, reason);
	if (!err && renameat(hub->groups, g->name, hub->groups, to)) {
		err = EIO;
		snprintf(reason, HUB_REASON_MAX, "its directory cannot be renamed: %s", strerror(errno));
	}
	if (!err) {
		if (fsync(hub->groups))
			hub_say(hub, LOG_WARNING, "group %s: that it is gone may not be durable: %s", g->name, strerror(errno));
		g->forgotten = true;
		hubgroup_end(g);
		LIST_REMOVE(g, link);
		SLIST_INSERT_HEAD(&hub->gone, g, gone);
		hub->sweep = true;
	}
	pthread_mutex_unlock(&g->lock);
	pthread_mutex_unlock(&hub->lock);
	if (!err) {
		hub_say(hub, LOG_NOTICE, "group %s: forgotten, by command", group);
		events_add(hub->events, group, "forgotten", 0, 0, "with all of its history");
	}
	return err;
}
