// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A group's journal: how it is opened after whatever happened, added to, and
 * made durable.
 *
 * At the start the segments are read in their order, by their indexes where there
 * are any, and frame by frame else, as the last one always is.  At a frame that is
 * not whole the journal ends:
 *
 *	torn	it was never acknowledged: a write that the end of the hub cut
 *		short.  The file is cut there, and goes on there.
 *	damaged	it was acknowledged, as the mark, a later frame or a later segment
 *		says.  Nothing is cut: the file stays for a person to look at, later
 *		segments are set aside as NAME.damaged, and a new one is begun.  The
 *		position that the agent is told then is the last good one, and since
 *		that is before what it had acknowledged, it resynchronises.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include "engine.h"

#define GROUP_MAGIC	UINT64_C(0x7072677562687067)
#define MARK_MAGIC	UINT64_C(0x6b72616d62687067)
#define MARK_SIZE	512

/* What the file group says. */
struct group_file {
	uint8_t uuid[16];
	uint64_t generation;
	char name[REPAGENT_NAME_MAX + 1];
	uint64_t admitted;
	struct failover failover;
};

/*
 * What the file mark says: the log up to @offset is durable. It is written after
 * that is so, in place and without being made durable itself: it may be old.
 */
struct mark {
	uint64_t magic;
	uint64_t offset;
	uint32_t zero;
	uint32_t crc;
};

/**
 * hubgroup_make - make a group's directory, all of it or nothing
 * @dir: in this directory
 * @name: of the group
 * @error: HUB_ERROR_MAX bytes
 *
 * Return: whether it is there, and durable.
 */
bool hubgroup_make(int dir, const char *name, char *error)
{
	const struct first first = { .start = SESSION_SIZE };
	struct group_file file = { .generation = 1 };
	char tmp[REPAGENT_NAME_MAX + 8];
	bool ok;
	int fd;

	snprintf(tmp, sizeof(tmp), ".new-%s", name);
	remove_tree(dir, tmp, 2);
	snprintf(file.name, sizeof(file.name), "%s", name);
	ok = getrandom(file.uuid, sizeof(file.uuid), 0) == sizeof(file.uuid) && !mkdirat(dir, tmp, 0700);
	fd = ok ? openat(dir, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	ok = fd >= 0 && !mkdirat(fd, "journal", 0700) && !mkdirat(fd, "base", 0700) &&
	     seal_write(fd, "first", FIRST_MAGIC, &first, sizeof(first)) &&
	     seal_write(fd, "group", GROUP_MAGIC, &file, sizeof(file)) && !renameat(dir, tmp, dir, name) &&
	     !fsync(dir);
	if (!ok)
		snprintf(error, HUB_ERROR_MAX, "group %s cannot be created: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

/* ---- the mark ------------------------------------------------------------ */

static void mark_write(const struct group *g)
{
	uint8_t page[MARK_SIZE] = { 0 };
	struct mark m = { .magic = MARK_MAGIC, .offset = g->durable.offset };

	m.crc = frame_crc(&m, offsetof(struct mark, crc));
	memcpy(page, &m, sizeof(m));
	/* An old mark is as true as this one. */
	if (pwrite(g->mark, page, sizeof(page), 0) != sizeof(page))
		hub_say(g->hub, LOG_WARNING, "group %s: mark cannot be written: %s", g->name, strerror(errno));
}

static uint64_t mark_read(const struct group *g)
{
	struct mark m;

	if (pread(g->mark, &m, sizeof(m), 0) != sizeof(m) || m.magic != MARK_MAGIC ||
	    m.crc != frame_crc(&m, offsetof(struct mark, crc)))
		return 0;
	return m.offset;
}

/* ---- segments ------------------------------------------------------------ */

/**
 * hubgroup_last - the segment that is added to
 * @g: the group, locked
 */
struct segment *hubgroup_last(const struct group *g)
{
	return g->segment[g->nr_segments - 1];
}

/**
 * hubgroup_at - the segment in which a point lies
 * @g: the group, locked
 * @id: so many records come before the point
 *
 * Return: the last segment that begins before the point, or the first of all.
 */
struct segment *hubgroup_at(const struct group *g, uint64_t id)
{
	return g->segment[segment_index(g->segment, g->nr_segments, id)];
}

/**
 * hubgroup_latest - the latest point that is durable
 * @g: the group, locked
 *
 * Return: so many records come before it; UINT64_MAX if it is gone.
 */
uint64_t hubgroup_latest(const struct group *g)
{
	return lineage_last(g->segment, g->nr_segments, g->durable.id);
}

/* For one more. */
static bool make_room(struct group *g)
{
	struct segment **array;
	size_t room = g->room ? 2 * g->room : 16;

	if (g->nr_segments < g->room)
		return true;
	array = realloc(g->segment, room * sizeof(struct segment *));
	if (!array)
		return false;
	g->segment = array;
	g->room = room;
	return true;
}

/* There is room for it. */
static void append_segment(struct group *g, struct segment *s)
{
	s->first_id = g->nr_segments ? hubgroup_last(g)->first_id + hubgroup_last(g)->nr_records : 0;
	g->segment[g->nr_segments++] = s;
}

static bool new_segment(struct group *g, uint64_t start, const struct replay *begin, uint64_t from, char *error)
{
	struct segment *s;

	/* Before there is a file, which would be in the way of the next one. */
	if (!make_room(g)) {
		snprintf(error, SEGMENT_ERROR_MAX, "out of memory");
		errno = ENOMEM;
		return false;
	}
	s = segment_create(g->journal, start, begin, from != UINT64_MAX, g->uuid, error);
	if (!s)
		return false;
	s->from = from;
	append_segment(g, s);
	return true;
}

static void take_for_durable(struct group *g)
{
	const struct segment *s = hubgroup_last(g);

	g->durable = (struct place){ s->end, s->first_id + s->nr_records, g->now.incarnation, g->now.seq };
}

static void all_is_durable(struct group *g)
{
	take_for_durable(g);
	mark_write(g);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_segment(const char *name)
{
	return strlen(name) == 20 && strspn(name, "0123456789abcdef") == 16 && !strcmp(name + 16, ".log");
}

/* The names of all segments, in order. Return -1 if the directory cannot be read. */
static ssize_t list_segments(const struct group *g, char ***names)
{
	int fd = openat(g->journal, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	ssize_t nr = 0;
	char **more;

	*names = NULL;
	if (!d) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((de = readdir(d))) {
		if (!is_segment(de->d_name))
			continue;
		more = realloc(*names, (size_t)(nr + 1) * sizeof(char *));
		if (!more || !(more[nr] = strdup(de->d_name))) {
			*names = more ? more : *names;
			break;
		}
		*names = more;
		nr++;
	}
	if (de) {
		while (nr)
			free((*names)[--nr]);
		free(*names);
		closedir(d);
		return -1;
	}
	closedir(d);
	if (nr)
		qsort(*names, (size_t)nr, sizeof(char *), by_name);
	return nr;
}

static void trouble(struct group *g, const char *what)
{
	snprintf(g->trouble, sizeof(g->trouble), "%s", what);
	hub_say(g->hub, LOG_ERR, "group %s: %s", g->name, what);
	hubgroup_event(g, "damaged", 0, 0, "%s", what);
}

static void set_aside(struct group *g, const char *name)
{
	char index[SEGMENT_NAME_MAX], to[SEGMENT_NAME_MAX];

	snprintf(to, sizeof(to), "%.20s.damaged", name);
	snprintf(index, sizeof(index), "%.16s.index", name);
	unlinkat(g->journal, index, 0);
	if (renameat(g->journal, name, g->journal, to))
		hub_say(g->hub, LOG_ERR, "group %s: segment %s cannot be set aside: %s", g->name, name,
			strerror(errno));
	else
		hub_say(g->hub, LOG_ERR, "group %s: segment %s comes behind what is damaged: it is set aside as %s",
			g->name, name, to);
}

/*
 * Does a segment go on where the one before it ended? It begins further on if that one is damaged at
 * its end and this was known when it was begun, or where live's writes begin.
 */
static bool follows(const struct group *g, const struct segment *s)
{
	return !g->nr_segments || (s->start >= hubgroup_last(g)->end &&
				   (s->branch || (s->begin.seq == g->now.seq &&
						  s->begin.incarnation == g->now.incarnation)));
}

/* Where a segment's file ends, as an offset in the log. */
static uint64_t file_end(const struct group *g, const char *name)
{
	uint64_t start = strtoull(name, NULL, 16), size;
	struct stat st;

	if (fstatat(g->journal, name, &st, 0) || st.st_size < (off_t)SEGMENT_HEADER)
		return start;
	size = (uint64_t)st.st_size - SEGMENT_HEADER;
	return start + (size + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

/* The name is not that of a good segment: is it the last one, in which nothing was yet? */
static bool never_begun(const struct group *g, const char *name, bool last, uint64_t marked)
{
	return last && file_end(g, name) == strtoull(name, NULL, 16) && file_end(g, name) >= marked;
}

/*
 * Take in one segment. Return EBADMSG if it is none of the journal, and @bad says why; another errno if
 * it cannot be read. If it is good only up to some place and was durable beyond, return 0, and @bad says that.
 */
static int take_segment(struct group *g, struct segment *s, const struct first *first, bool last, uint64_t marked,
			char *bad)
{
	char why[HUB_REASON_MAX];
	int err;

	if (!g->nr_segments && s->start != first->start) {
		snprintf(bad, SEGMENT_ERROR_MAX, "the first segment is missing: expected %016" PRIx64
			 ".log, for what was before is in the base", first->start);
		return EBADMSG;
	}
	if (!follows(g, s)) {
		if (!*bad)
			snprintf(bad, SEGMENT_ERROR_MAX, "segment %s does not go on where the one before it ended",
				 s->name);
		return EBADMSG;
	}
	s->from = UINT64_MAX;
	if (s->branch && g->nr_segments && !point_of(g, s->begin.incarnation, s->begin.seq, &s->from, why)) {
		s->from = UINT64_MAX;
		/* It goes on from what is damaged, or is behind that. */
		if (*bad)
			return EBADMSG;
	}
	*bad = '\0';	/* it was known when this one was begun */
	if (!g->nr_segments)
		g->now = s->begin;
	/* The first of those that live's writes are in. */
	if (g->nr_segments && s->start >= g->failover.start && hubgroup_last(g)->start < g->failover.start)
		g->before = g->now;
	if (segment_load(s, &g->now))
		return 0;
	err = segment_scan(s, g->uuid, &g->now, bad);
	if (err != EBADMSG)
		return err;
	if (!last || s->end < marked || segment_was_durable(s, g->uuid, &g->now))
		return 0;
	hub_say(g->hub, LOG_NOTICE, "group %s: %s: it was never acknowledged, and is cut off", g->name, bad);
	hubgroup_event(g, "torn", g->now.incarnation, g->now.seq, "%s", bad);
	if (ftruncate(s->fd, (off_t)segment_size(s))) {
		err = errno;
		snprintf(bad, SEGMENT_ERROR_MAX, "segment %s cannot be cut: %s", s->name, strerror(err));
		return err;
	}
	*bad = '\0';
	return 0;
}

static void remove_segment(const struct group *g, const char *name)
{
	char index[SEGMENT_NAME_MAX];

	snprintf(index, sizeof(index), "%.16s.index", name);
	unlinkat(g->journal, index, 0);
	unlinkat(g->journal, name, 0);
}

/* Read what there is. Return false if the group cannot be opened. */
static bool recover(struct group *g, char **names, size_t nr, char *error)
{
	bool back = g->failover.state == FAILOVER_ROLLBACK;
	uint64_t marked = mark_read(g), end;
	char bad[SEGMENT_ERROR_MAX] = "";
	struct first first;
	struct segment *s;
	size_t i, k;
	int err;

	err = seal_read(g->dir, "first", FIRST_MAGIC, &first, sizeof(first));
	if (err) {
		snprintf(error, SEGMENT_ERROR_MAX, "its file first: %s", err == EBADMSG ? "it is not what was written" :
			 strerror(err));
		return false;
	}
	end = first.start;
	for (; nr && strtoull(*names, NULL, 16) < first.start; names++, nr--)
		remove_segment(g, *names);	/* it was folded, and still there */
	/* The log goes on behind what it had: an offset is never given to other bytes. */
	for (; back && nr && strtoull(names[nr - 1], NULL, 16) >= g->failover.start; nr--) {
		if (file_end(g, names[nr - 1]) > end)
			end = file_end(g, names[nr - 1]);
		remove_segment(g, names[nr - 1]);
	}
	for (i = 0; i < nr; i++) {
		s = segment_open(g->journal, names[i], g->uuid, error);
		err = s ? 0 : errno;
		if (err == EBADMSG && never_begun(g, names[i], i == nr - 1, marked)) {
			hub_say(g->hub, LOG_NOTICE, "group %s: %s: nothing was in it yet, it is removed", g->name,
				error);
			remove_segment(g, names[i]);
			nr--;
			break;
		}
		/* What cannot be read now may be good: nothing is touched, and the group not served. */
		if (err && err != EBADMSG)
			return false;
		if (!s) {
			if (!*bad)
				snprintf(bad, sizeof(bad), "%s", error);
			break;
		}
		err = take_segment(g, s, &first, i == nr - 1, marked, bad);
		if (!err && !make_room(g)) {
			snprintf(bad, sizeof(bad), "out of memory");
			err = ENOMEM;
		}
		if (err)
			segment_put(s);
		else
			append_segment(g, s);
		if (err == EBADMSG)
			break;
		if (err) {
			snprintf(error, SEGMENT_ERROR_MAX, "%s", bad);
			return false;
		}
		if (i < nr - 1 && !s->sealed && !segment_seal(s, &g->now, error))
			hub_say(g->hub, LOG_WARNING, "group %s: %s", g->name, error);
	}
	if (!g->nr_segments || hubgroup_last(g)->start < g->failover.start)
		g->before = g->now;
	if (!nr && marked > first.start)
		snprintf(bad, sizeof(bad), "the journal is gone: it was durable up to %" PRIu64, marked);
	for (k = 0; k < nr; k++)
		if (file_end(g, names[k]) > end)
			end = file_end(g, names[k]);
	if (end < marked)
		end = marked;
	if (*bad && !forks_remove(g)) {
		snprintf(error, SEGMENT_ERROR_MAX, "the forks of a journal that was damaged cannot be removed: %s", strerror(errno));
		return false;
	}
	for (k = i; k < nr; k++)
		set_aside(g, names[k]);
	g->torn = *bad;
	if (*bad)
		trouble(g, bad);
	s = g->nr_segments ? hubgroup_last(g) : NULL;
	if (s && !*bad && !s->sealed && !back)
		end = s->end;
	else if (s && !s->sealed && fdatasync(s->fd))
		goto not_synced;
	else if (s && !s->sealed && !segment_seal(s, &g->now, error))
		hub_say(g->hub, LOG_WARNING, "group %s: %s", g->name, error);
	if ((!s || s->sealed) && !new_segment(g, end, &g->now, UINT64_MAX, error))
		return false;
	if (g->segment[0]->start != first.start) {
		first = (struct first){ .start = g->segment[0]->start };
		if (!seal_write(g->dir, "first", FIRST_MAGIC, &first, sizeof(first))) {
			snprintf(error, SEGMENT_ERROR_MAX, "its file first: %s", strerror(errno));
			return false;
		}
	}
	if (fdatasync(hubgroup_last(g)->fd))
		goto not_synced;
	all_is_durable(g);
	return true;
not_synced:
	snprintf(error, SEGMENT_ERROR_MAX, "segment %s: %s", hubgroup_last(g)->name, strerror(errno));
	return false;
}

static int open_sub(int dir, const char *name, int flags)
{
	return openat(dir, name, flags | O_CLOEXEC, 0600);
}

/**
 * hubgroup_open - open a group
 * @hub: of this hub
 * @dir: the directory of its groups
 * @name: of the group
 * @error: HUB_ERROR_MAX bytes
 *
 * Return: the group, or NULL.
 */
struct group *hubgroup_open(struct hub *hub, int dir, const char *name, char *error)
{
	struct group *g = calloc(1, sizeof(*g));
	struct group_file file;
	char **names = NULL;
	ssize_t nr = 0;
	bool ok;
	int err;

	if (!g) {
		snprintf(error, HUB_ERROR_MAX, "out of memory");
		return NULL;
	}
	g->hub = hub;
	g->scratch = dir != hub->groups;
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->disk, NULL);
	pthread_cond_init(&g->synced, NULL);
	LIST_INIT(&g->views);
	LIST_INIT(&g->tests);
	g->hold = UINT64_MAX;
	snprintf(g->name, sizeof(g->name), "%s", name);
	g->journal = g->base = g->mark = -1;
	g->dir = open_sub(dir, name, O_RDONLY | O_DIRECTORY);
	if (g->dir >= 0) {
		g->journal = open_sub(g->dir, "journal", O_RDONLY | O_DIRECTORY);
		g->base = open_sub(g->dir, "base", O_RDONLY | O_DIRECTORY);
		g->mark = open_sub(g->dir, "mark", O_RDWR | O_CREAT);
	}
	if (g->dir < 0 || g->journal < 0 || g->base < 0 || g->mark < 0) {
		snprintf(error, HUB_ERROR_MAX, "its directory: %s", strerror(errno));
		goto failed;
	}
	/* A hub that was killed may have done what is found here, and is gone on with: it must not be undone by a power cut later. */
	if (fsync(g->dir) || fsync(g->journal) || fsync(g->base)) {
		snprintf(error, HUB_ERROR_MAX, "its directory cannot be synced: %s", strerror(errno));
		goto failed;
	}
	err = seal_read(g->dir, "group", GROUP_MAGIC, &file, sizeof(file));
	if (err || memchr(file.name, '\0', sizeof(file.name)) == NULL || strcmp(file.name, name)) {
		snprintf(error, HUB_ERROR_MAX, "its file group: %s", !err ? "it is that of another group" :
			 err == EBADMSG ? "it is not what was written" : strerror(err));
		goto failed;
	}
	memcpy(g->uuid, file.uuid, sizeof(g->uuid));
	g->generation = file.generation;
	g->admitted = file.admitted;
	g->failover = file.failover;
	if (g->failover.state >= FAILOVER_NR_STATES) {
		snprintf(error, HUB_ERROR_MAX, "its file group: state %u: expected 0 to %d", g->failover.state,
			 FAILOVER_NR_STATES - 1);
		goto failed;
	}
	nr = list_segments(g, &names);
	if (nr < 0) {
		snprintf(error, HUB_ERROR_MAX, "its journal cannot be read: %s", strerror(errno));
		goto failed;
	}
	ok = recover(g, names, (size_t)nr, error);
	if (ok && !g->scratch)
		forks_open(g);
	ok = ok && fold_finish(g, error) && failover_open(g, error) &&
	     (g->scratch || verify_open(g, error));
	while (nr)
		free(names[--nr]);
	free(names);
	if (ok) {
		retention_load(g);
		scratch_open(g);
		return g;
	}
failed:
	hubgroup_close(g);
	return NULL;
}

/**
 * hubgroup_end - let go of a group's files
 * @g: locked or not in use, without a session and without views; it is of no use then
 */
void hubgroup_end(struct group *g)
{
	int *const fds[] = { &g->dir, &g->journal, &g->base, &g->mark };
	size_t i;

	for (i = 0; i < g->nr_segments; i++)
		segment_put(g->segment[i]);
	free(g->segment);
	g->segment = NULL;
	g->nr_segments = g->room = 0;
	g->cuts++;	/* whoever is still to sync something of it */
	for (i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

/**
 * hubgroup_close - end
 * @g: without a session and without views
 */
void hubgroup_close(struct group *g)
{
	scratch_close(g);
	failover_close(g);
	forks_close(g);
	verify_close(g);
	/* Not acknowledged, and so owed to nobody; but then it need not be sent again. */
	if (g->nr_segments && g->durable.offset && !g->broken && !fdatasync(hubgroup_last(g)->fd))
		all_is_durable(g);
	hubgroup_end(g);
	pthread_cond_destroy(&g->synced);
	pthread_mutex_destroy(&g->disk);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* ---- adding -------------------------------------------------------------- */

/* What is said of an error of the journal; ENOSPC, for whatever reason there is none, is one to wait for. */
static int why_not(struct group *g, int err, const char *reason)
{
	if (err != ENOSPC && err != EDQUOT)
		return EIO;
	space_ran_out(g, reason);
	return ENOSPC;
}

static int broken(struct group *g, int err, char *reason, const char *what)
{
	g->broken = true;
	snprintf(reason, HUB_REASON_MAX, "%s: %s", what, strerror(err));
	err = why_not(g, err, reason);
	if (err != ENOSPC)
		hubgroup_event(g, "failed", 0, 0, "%s", reason);
	return err;
}

/* Have the kernel sync a segment. The group may be locked. Return 0 or a positive errno, which it is for ever, for the kernel says so once. */
static int sync_segment(struct group *g, struct segment *s)
{
	int err;

	pthread_mutex_lock(&g->disk);
	if (!s->failed && fdatasync(s->fd))
		s->failed = errno;
	err = s->failed;
	pthread_mutex_unlock(&g->disk);
	return err;
}

/**
 * hubgroup_roll - begin another segment: all of the last one is durable, and it is sealed then
 * @g: the group, locked
 * @reason: HUB_REASON_MAX bytes
 *
 * Return: 0 or a positive errno.
 */
int hubgroup_roll(struct group *g, char *reason)
{
	return hubgroup_begin(g, hubgroup_last(g)->end, &g->now, UINT64_MAX, reason);
}

/**
 * hubgroup_begin - begin another segment, from wherever
 * @g: the group, locked
 * @start: not before the last one's end
 * @begin: what the log has said where it goes on
 * @from: that point, if it is an earlier one; else UINT64_MAX
 * @reason: HUB_REASON_MAX bytes
 *
 * Return: 0 or a positive errno.
 */
int hubgroup_begin(struct group *g, uint64_t start, const struct replay *begin, uint64_t from, char *reason)
{
	struct segment *s = hubgroup_last(g);
	char error[SEGMENT_ERROR_MAX];
	int err = sync_segment(g, s);

	if (err)
		return broken(g, err, reason, "the journal cannot be synced");
	all_is_durable(g);
	if (!new_segment(g, start, begin, from, error)) {
		err = errno;
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return why_not(g, err, reason);
	}
	if (!segment_seal(s, &g->now, error))
		hub_say(g->hub, LOG_WARNING, "group %s: %s", g->name, error);
	if (begin != &g->now) {
		g->now = *begin;
		all_is_durable(g);
	}
	return 0;
}

/**
 * hubgroup_cut - take away the end of the journal
 * @g: the group, locked
 * @start: segments that begin there or behind go; there is one before them, which was durable when
 *	they were begun; or there are none, and nothing goes
 * @now: what the log had said there
 * @reason: HUB_REASON_MAX bytes
 *
 * The log goes on behind what it had, for an offset is never given to other bytes.
 *
 * Return: 0 or a positive errno; then it may be called again.
 */
int hubgroup_cut(struct group *g, uint64_t start, const struct replay *now, char *reason)
{
	uint64_t end = hubgroup_last(g)->end + FRAME_ALIGN, marked = mark_read(g);
	char error[SEGMENT_ERROR_MAX];
	struct segment *s;
	int err;

	if (end < marked)
		end = marked;
	if (end < start + FRAME_ALIGN)
		end = start + FRAME_ALIGN;
	g->cuts++;
	g->broken = false;
	while (g->nr_segments > 1 && (s = hubgroup_last(g))->start >= start) {
		remove_segment(g, s->name);
		hub_step(g->hub, "a segment is gone");
		g->nr_segments--;
		segment_put(s);
	}
	g->now = *now;
	/* Nothing was begun behind it. */
	s = hubgroup_last(g);
	err = s->sealed ? 0 : sync_segment(g, s);
	if (err) {
		snprintf(reason, HUB_REASON_MAX, "segment %s cannot be synced: %s", s->name, strerror(err));
		return EIO;
	}
	if (!s->sealed && !segment_seal(s, &g->now, error))
		hub_say(g->hub, LOG_WARNING, "group %s: %s", g->name, error);
	if (!new_segment(g, end, &g->now, UINT64_MAX, error)) {
		take_for_durable(g);
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return EIO;
	}
	all_is_durable(g);
	return 0;
}

/**
 * hubgroup_save - make the group's file say what is so
 * @g: the group, locked
 *
 * Return: whether it is durable; else errno says why not.
 */
bool hubgroup_save(const struct group *g)
{
	struct group_file file = { .generation = g->generation, .admitted = g->admitted, .failover = g->failover };

	memcpy(file.uuid, g->uuid, sizeof(file.uuid));
	memcpy(file.name, g->name, sizeof(file.name));
	return seal_write(g->dir, "group", GROUP_MAGIC, &file, sizeof(file));
}

/**
 * hubgroup_add - a frame for the journal
 * @g: the group, locked
 * @h: the frame's header
 * @frame: all of the frame
 * @raw: FRAME_BODY_MAX bytes to unpack it into
 * @reason: HUB_REASON_MAX bytes for why it is refused
 *
 * Return: 0 or a positive errno; then nothing has changed.
 */
int hubgroup_add(struct group *g, const struct frame_header *h, const uint8_t *frame, uint8_t *raw,
	      char *reason)
{
	size_t size = frame_size(h), done = 0;
	struct replay after;
	struct segment_frame f;
	struct segment *s;
	uint32_t marks;
	ssize_t n;
	int err;

	if (g->broken) {
		snprintf(reason, HUB_REASON_MAX, "the journal could not be written: read the session block again");
		return EIO;
	}
	if (memcmp(h->group, g->uuid, sizeof(h->group))) {
		snprintf(reason, HUB_REASON_MAX, "group: the frame is of another group, by its uuid");
		return EPERM;
	}
	if (h->generation != g->generation) {
		snprintf(reason, HUB_REASON_MAX, "generation %" PRIu64 ": expected %" PRIu64, h->generation,
			 g->generation);
		return EPERM;
	}
	if (h->offset != hubgroup_last(g)->end) {
		snprintf(reason, HUB_REASON_MAX, "offset %" PRIu64 ": expected %" PRIu64, h->offset,
			 hubgroup_last(g)->end);
		return EINVAL;
	}
	if (!segment_fits(hubgroup_last(g), h, g->hub->o.segment)) {
		err = hubgroup_roll(g, reason);
		if (err)
			return err;
	}
	s = hubgroup_last(g);
	after = g->now;
	err = segment_take(s, &after, h, frame + FRAME_HEADER, raw, &f, reason);
	if (err)
		return err;
	while (done < size) {
		n = pwrite(s->fd, frame + done, size - done, (off_t)(segment_size(s) + done));
		if (n < 0 && errno == EINTR)
			continue;
		/* What is there of it, is behind all that counts: the next one is written over it. */
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT) && !ftruncate(s->fd, (off_t)segment_size(s))) {
			snprintf(reason, HUB_REASON_MAX, "the journal cannot be written: no space is left");
			return why_not(g, ENOSPC, reason);
		}
		if (n < 0)
			return broken(g, errno, reason, "the journal cannot be written");
		done += (size_t)n;
	}
	marks = s->nr_marks;
	segment_count(s, &f, size);
	g->now = after;
	if (s->nr_marks > marks)
		marks_note(g, marks);
	return 0;
}

/* May frames be made durable, and was nothing cut since? Locked. */
static int may_sync(const struct group *g, unsigned int cuts, char *reason)
{
	if (cuts != g->cuts)
		snprintf(reason, HUB_REASON_MAX, "the journal was cut meanwhile");
	else if (g->broken)
		snprintf(reason, HUB_REASON_MAX, "the journal could not be written: read the session block again");
	else
		return 0;
	return EIO;
}

/**
 * hubgroup_sync - make durable all that is in the journal now
 * @g: the group, locked; it is unlocked meanwhile
 * @reason: HUB_REASON_MAX bytes
 *
 * One at a time; those that come meanwhile are then served by one more, together.
 *
 * Return: 0 or a positive errno. Then the journal is broken: what the kernel could
 * not write it may believe to be written.
 */
int hubgroup_sync(struct group *g, char *reason)
{
	const uint64_t end = hubgroup_last(g)->end;
	const unsigned int cuts = g->cuts;
	struct segment *s;
	struct place to;
	int err;

	while (g->syncing && cuts == g->cuts && end > g->durable.offset)
		pthread_cond_wait(&g->synced, &g->lock);
	err = may_sync(g, cuts, reason);
	if (err || end <= g->durable.offset)
		return err;
	s = hubgroup_last(g);
	to = (struct place){ s->end, s->first_id + s->nr_records, g->now.incarnation, g->now.seq };
	g->syncing = true;
	segment_get(s);
	pthread_mutex_unlock(&g->lock);
	err = sync_segment(g, s);
	pthread_mutex_lock(&g->lock);
	segment_put(s);
	g->syncing = false;
	pthread_cond_broadcast(&g->synced);
	if (may_sync(g, cuts, reason))
		return EIO;
	if (err)
		return broken(g, err, reason, "the journal cannot be synced");
	if (to.offset > g->durable.offset) {
		g->durable = to;
		mark_write(g);
	}
	return 0;
}

/**
 * hubgroup_mend - cut a broken journal to what is durable
 * @g: the group, locked
 * @reason: HUB_REASON_MAX bytes
 *
 * Return: whether frames can be added again.
 */
bool hubgroup_mend(struct group *g, char *reason)
{
	struct segment *old = hubgroup_last(g), *s;
	char error[SEGMENT_ERROR_MAX] = "";
	struct replay now;
	bool cut;

	if (!g->broken)
		return true;
	g->cuts++;
	/* All before the last segment was durable when that was begun. */
	pthread_mutex_lock(&g->disk);
	cut = !ftruncate(old->fd, (off_t)(SEGMENT_HEADER + (g->durable.offset - old->start))) && !fdatasync(old->fd);
	pthread_mutex_unlock(&g->disk);
	if (!cut) {
		snprintf(reason, HUB_REASON_MAX, "segment %s cannot be cut: %s", old->name, strerror(errno));
		return false;
	}
	s = segment_open(g->journal, old->name, g->uuid, error);
	if (!s || segment_scan(s, g->uuid, &now, error) || s->end != g->durable.offset) {
		snprintf(reason, HUB_REASON_MAX, "%.150s", *error ? error : "what was durable is gone");
		if (s)
			segment_put(s);
		return false;
	}
	s->first_id = old->first_id;
	s->from = old->from;
	g->segment[g->nr_segments - 1] = s;
	segment_put(old);
	g->now = now;
	g->broken = false;
	hub_say(g->hub, LOG_NOTICE, "group %s: the journal was cut to %" PRIu64 ", which is durable", g->name,
		g->durable.offset);
	hubgroup_event(g, "cut", g->durable.incarnation, g->durable.seq, "to what is durable");
	return true;
}

/**
 * hubgroup_state - what the log had said at a point
 * @g: the group, locked
 * @id: so many records come before the point
 * @r: out; its position is not filled in
 *
 * Return: false if the point is gone.
 */
bool hubgroup_state(const struct group *g, uint64_t id, struct replay *r)
{
	const struct segment *s = hubgroup_at(g, id);
	const struct log_record *rec;
	uint64_t from, to = 0;
	struct lineage l;
	uint32_t i, k;

	if (id < g->floor || id > s->first_id + s->nr_records)
		return false;
	lineage_begin(&l, g->segment, g->nr_segments, id);
	while (lineage_next(&l, &from, &to))
		;
	/* Of what is folded up to where a branch goes on, the floor is behind that one's beginning: what is in the branch stays. */
	if (l.lost || (to < g->floor && !(l.branch && g->segment[l.branch]->first_id + 1 == g->floor)))
		return false;
	*r = s->begin;
	/* Names that came since this segment was begun; they are never taken back. */
	for (i = r->nr; i < g->now.nr; i++) {
		memset(&r->volume[i], 0, sizeof(r->volume[i]));
		memcpy(r->volume[i].name, g->now.volume[i].name, sizeof(r->volume[i].name));
	}
	r->nr = g->now.nr;
	for (i = 0; i < s->nr_frames && s->first_id + s->frame[i].record < id; i++) {
		const struct log_frame *f = &s->frame[i];

		replay_apply(r, f->flags);
		for (k = f->record; k < f->record + f->nr_records && s->first_id + k < id; k++) {
			rec = &s->record[k];
			replay_record(r, rec->type, rec->slot, rec->nr_sectors);
		}
	}
	return true;
}
