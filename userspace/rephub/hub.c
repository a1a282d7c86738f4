// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hub's directory:
 *
 *	hub			its identity
 *	events			what happened
 *	groups/NAME/group	uuid and generation of the group
 *	groups/NAME/first	where the journal begins, and what is before it in the base
 *	groups/NAME/retention	how much is kept of it, if that was said
 *	groups/NAME/mark	up to where the journal was durable, at least
 *	groups/NAME/journal/	segments and their indexes
 *	groups/NAME/base/	a sparse file for each volume
 *	groups/NAME/verify/	what came of comparing each volume
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define HUB_MAGIC	UINT64_C(0x6964696275687067)
#define SEAL_SIZE	512u
#define SEAL_DATA	16u

/**
 * hub_say - a line for the log
 * @hub: whose
 * @priority: LOG_ERR ...
 * @fmt: of printf()
 */
void hub_say(const struct hub *hub, int priority, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (!hub->o.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	hub->o.log(hub->o.data, priority, line);
}

/**
 * hub_step - a step of what must hold at any end of the hub is done
 * @hub: whose
 * @what: was done
 */
void hub_step(const struct hub *hub, const char *what)
{
	if (hub->o.step)
		hub->o.step(hub->o.data, what);
}

/* ---- small files: a magic, some bytes, their sum ------------------------- */

/**
 * seal_write - write a small file that is old or new after a crash
 * @dir: in this directory
 * @name: of the file
 * @magic: what it is
 * @data: what it says
 * @len: at most SEAL_SIZE - SEAL_DATA - 4 bytes
 *
 * Return: whether it is durable; else errno says why not.
 */
bool seal_write(int dir, const char *name, uint64_t magic, const void *data, size_t len)
{
	uint8_t page[SEAL_SIZE] = { 0 };
	char tmp[64];
	uint32_t crc;
	bool ok;
	int fd;

	memcpy(page, &magic, sizeof(magic));
	memcpy(page + SEAL_DATA, data, len);
	crc = frame_crc(page, SEAL_SIZE - 4);
	memcpy(page + SEAL_SIZE - 4, &crc, 4);
	snprintf(tmp, sizeof(tmp), "%s.new", name);
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	ok = pwrite(fd, page, sizeof(page), 0) == sizeof(page) && !fdatasync(fd);
	if (close(fd) || !ok)
		return false;
	return !renameat(dir, tmp, dir, name) && !fsync(dir);
}

/**
 * seal_read - read what seal_write() wrote
 * @dir: in this directory
 * @name: of the file
 * @magic: what it has to be
 * @data: out
 * @len: as it was written
 *
 * Return: 0 or a positive errno; EBADMSG: it is not what was written.
 */
int seal_read(int dir, const char *name, uint64_t magic, void *data, size_t len)
{
	uint8_t page[SEAL_SIZE];
	uint32_t crc;
	ssize_t n;
	int fd, err;

	fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	n = pread(fd, page, sizeof(page), 0);
	err = n < 0 ? errno : EBADMSG;
	close(fd);
	if (n != sizeof(page))
		return err;
	memcpy(&crc, page + SEAL_SIZE - 4, 4);
	if (memcmp(page, &magic, sizeof(magic)) || crc != frame_crc(page, SEAL_SIZE - 4))
		return EBADMSG;
	memcpy(data, page + SEAL_DATA, len);
	return 0;
}

/* ---- the hub ------------------------------------------------------------- */

/**
 * hub_options_init - fill in the defaults
 * @o: out
 */
void hub_options_init(struct hub_options *o)
{
	memset(o, 0, sizeof(*o));
	o->create = true;
	o->segment = UINT64_C(256) << 20;
	o->keep.bytes = UINT64_C(64) << 30;
	o->cache = (size_t)64 << 20;
	o->verify_rate = UINT64_C(10) << 20;
	o->keep.when_full = HUB_STOP_INGEST;
	o->warn = UINT64_C(6) * 3600 * 1000000000;
}

static bool open_dir(int at, const char *name, int *fd, char *error)
{
	if (mkdirat(at, name, 0700) && errno != EEXIST) {
		snprintf(error, HUB_ERROR_MAX, "%s cannot be created: %s", name, strerror(errno));
		return false;
	}
	*fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		snprintf(error, HUB_ERROR_MAX, "%s cannot be opened: %s", name, strerror(errno));
	return *fd >= 0;
}

static bool open_groups(struct hub *hub, char *error)
{
	int fd = openat(hub->groups, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char why[HUB_ERROR_MAX];
	struct dirent *de;
	struct group *g;

	if (!d) {
		snprintf(error, HUB_ERROR_MAX, "groups cannot be read: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((de = readdir(d))) {
		if (!frame_name_ok(de->d_name))
			continue;
		/* One that cannot be opened must not keep the others from being served. */
		g = hubgroup_open(hub, hub->groups, de->d_name, why);
		if (!g) {
			hub_say(hub, LOG_ERR, "group %s is not served: %s", de->d_name, why);
			events_add(hub->events, de->d_name, "not-served", 0, 0, "%s", why);
		} else {
			LIST_INSERT_HEAD(&hub->list, g, link);
		}
	}
	closedir(d);
	return true;
}

/**
 * hub_open - open a hub's directory, or make it one
 * @dir: the directory; it is created, but not what is above
 * @o: options
 * @error: HUB_ERROR_MAX bytes
 *
 * Return: the hub, or NULL.
 */
struct hub *hub_open(const char *dir, const struct hub_options *o, char *error)
{
	struct hub *hub = calloc(1, sizeof(*hub));
	char why[HUB_ERROR_MAX - 128];
	int err, above;

	if (!hub) {
		snprintf(error, HUB_ERROR_MAX, "out of memory");
		return NULL;
	}
	hub->o = *o;
	hub->dir = hub->groups = -1;
	pthread_mutex_init(&hub->lock, NULL);
	LIST_INIT(&hub->list);
	SLIST_INIT(&hub->gone);
	sem_init(&hub->wake, 0, 0);
	hub->sweep = true;
	hub->cache = cache_new(o->cache);
	if (!hub->cache) {
		snprintf(error, HUB_ERROR_MAX, "out of memory");
		goto failed;
	}
	if (!open_dir(AT_FDCWD, dir, &hub->dir, error))
		goto failed;
	if (flock(hub->dir, LOCK_EX | LOCK_NB)) {
		snprintf(error, HUB_ERROR_MAX, "%s: %s", dir, errno == EWOULDBLOCK ?
			 "another rephub has it" : strerror(errno));
		goto failed;
	}
	err = seal_read(hub->dir, "hub", HUB_MAGIC, hub->uuid, sizeof(hub->uuid));
	if (err == ENOENT && !faccessat(hub->dir, "groups", F_OK, 0)) {
		snprintf(error, HUB_ERROR_MAX,
			 "%s has groups and no identity: expected the file hub in it, from a copy of this directory", dir);
		goto failed;
	}
	if (err == ENOENT)
		err = getrandom(hub->uuid, sizeof(hub->uuid), 0) == sizeof(hub->uuid) &&
		      seal_write(hub->dir, "hub", HUB_MAGIC, hub->uuid, sizeof(hub->uuid)) ? 0 : errno;
	if (err) {
		snprintf(error, HUB_ERROR_MAX, "%s/hub: %s", dir, err == EBADMSG ?
			 "it is not what was written" : strerror(err));
		goto failed;
	}
	if (!open_dir(hub->dir, "groups", &hub->groups, why) || fsync(hub->dir) || fsync(hub->groups)) {
		snprintf(error, HUB_ERROR_MAX, "%.200s: %.200s", dir, hub->groups < 0 ? why : strerror(errno));
		goto failed;
	}
	/* A directory that was just made is found again after a power cut only if the one above knows of it. */
	above = openat(hub->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (above >= 0) {
		(void)fsync(above);
		close(above);
	}
	hub->events = events_open(hub->dir, why);
	if (!hub->events) {
		snprintf(error, HUB_ERROR_MAX, "%.100s: %.300s", dir, why);
		goto failed;
	}
	events_add(hub->events, NULL, "started", 0, 0, "version " REPAGENT_VERSION);
	if (!open_groups(hub, error))
		goto failed;
	return hub;
failed:
	hub_close(hub);
	return NULL;
}

/**
 * hub_close - end
 * @hub: without sessions and views
 */
void hub_close(struct hub *hub)
{
	struct group *g;

	while ((g = LIST_FIRST(&hub->list))) {
		LIST_REMOVE(g, link);
		hubgroup_close(g);
	}
	while ((g = SLIST_FIRST(&hub->gone))) {
		SLIST_REMOVE_HEAD(&hub->gone, gone);
		hubgroup_close(g);
	}
	if (hub->events) {
		events_add(hub->events, NULL, "stopped", 0, 0, "in good order");
		events_close(hub->events);
	}
	if (hub->groups >= 0)
		close(hub->groups);
	if (hub->dir >= 0)
		close(hub->dir);
	cache_free(hub->cache);
	sem_destroy(&hub->wake);
	pthread_mutex_destroy(&hub->lock);
	free(hub);
}

/**
 * hub_identity - who it is
 * @hub: the hub
 * @uuid: out: 16 bytes
 */
void hub_identity(const struct hub *hub, uint8_t *uuid)
{
	memcpy(uuid, hub->uuid, sizeof(hub->uuid));
}

static struct group *find(const struct hub *hub, const char *name)
{
	struct group *g;

	LIST_FOREACH(g, &hub->list, link)
		if (!strcmp(g->name, name))
			return g;
	return NULL;
}

/**
 * hub_find - a group by its name
 * @hub: the hub
 * @name: of the group
 *
 * Return: the group, which stays, or NULL.
 */
struct group *hub_find(struct hub *hub, const char *name)
{
	struct group *g;

	pthread_mutex_lock(&hub->lock);
	g = find(hub, name);
	pthread_mutex_unlock(&hub->lock);
	return g;
}

/**
 * hub_create - find a group, or create it
 * @hub: the hub
 * @name: of the group
 * @error: HUB_ERROR_MAX bytes
 *
 * Return: the group, or NULL.
 */
struct group *hub_create(struct hub *hub, const char *name, char *error)
{
	struct group *g;

	pthread_mutex_lock(&hub->lock);
	g = find(hub, name);
	if (!g && hubgroup_make(hub->groups, name, error)) {
		g = hubgroup_open(hub, hub->groups, name, error);
		if (g) {
			LIST_INSERT_HEAD(&hub->list, g, link);
			hub_say(hub, LOG_NOTICE, "group %s: created", name);
			events_add(hub->events, name, "created", 0, 0, "at its first hello");
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return g;
}

/**
 * hub_next - go through all groups
 * @hub: the hub
 * @g: one of them; NULL: begin
 *
 * Return: the next, NULL at the end. One that was forgotten meanwhile may be among them.
 */
struct group *hub_next(struct hub *hub, const struct group *g)
{
	struct group *next;

	pthread_mutex_lock(&hub->lock);
	next = g ? LIST_NEXT(g, link) : LIST_FIRST(&hub->list);
	pthread_mutex_unlock(&hub->lock);
	return next;
}

/**
 * hub_tend - do what is to be done now and then: fold what is older than is kept, make events durable, ...
 * @hub: the hub; call it, and hub_rest(), by turns in a thread that may wait
 */
void hub_tend(struct hub *hub)
{
	struct group *g;

	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		pthread_mutex_lock(&g->lock);
		if (!g->forgotten)
			space_measure(g);
		pthread_mutex_unlock(&g->lock);
		failover_tend(g);
		verify_tend(g);
		fold_some(g);
		space_tend(g);
	}
	forget_sweep(hub);
	space_warn(hub);
	events_tend(hub->events);
}

/**
 * hub_rest - wait until hub_tend() is to be called again: for a second, or until hub_wake()
 * @hub: the hub
 */
void hub_rest(struct hub *hub)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	(void)sem_clockwait(&hub->wake, CLOCK_MONOTONIC, &until);
}

/**
 * hub_wake - end hub_rest(), or the next one
 * @hub: the hub
 */
void hub_wake(struct hub *hub)
{
	int waiting;

	if (!sem_getvalue(&hub->wake, &waiting) && !waiting)
		sem_post(&hub->wake);
}

/**
 * hub_events - what happened, the oldest first
 * @hub: the hub
 * @q: what is asked for
 * @each: called for each, with no lock held
 * @data: for @each
 */
void hub_events(struct hub *hub, const struct hub_event_query *q,
		void (*each)(void *data, const struct hub_event *e), void *data)
{
	events_list(hub->events, q, each, data);
}
