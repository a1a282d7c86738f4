// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fail-over tests: a group's volumes at a point, to be written as test/ID/VOLUME,
 * while replication goes on.
 *
 *	groups/NAME/tests/ID/		what was written, as a group's directory
 *	groups/NAME/tests/ID/test	which point, and how much may be written
 *	groups/NAME/tested		what became of earlier tests
 *
 * The writes of a test lie in a log of its own, in which it is an agent as any
 * other; nothing of the group's is touched.  So a test is there again when the hub
 * was started anew.  One whose file `test` is missing was never told to anybody.
 *
 * All but hub_test_open() is called by one thread at a time.
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
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "overlay.h"

#define TEST_MAGIC	UINT64_C(0x7473657474687067)
#define INCARNATION	1u	/* of a test's writes */
#define MARKS_MAX	200u	/* that are remembered */
#define MARK_LINE	256u
#define DEPTH_MOST	4u	/* of directories in a test's */

/* What the file test says. */
struct test_file {
	uint64_t incarnation, seq, time;
	uint64_t since, limit;
};

/*
 * struct test - the group's lock guards it
 * @overlay:	NULL: it cannot be used, and @trouble says why
 */
struct test {
	LIST_ENTRY(test) link;
	char id[HUB_TEST_ID];
	struct test_file file;
	struct overlay *overlay;
	char trouble[HUB_REASON_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int open_tests(const struct group *g, bool make)
{
	if (make && mkdirat(g->dir, "tests", 0700) && errno != EEXIST)
		return -1;
	return openat(g->dir, "tests", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Out of sight; return the directory that its files are still in, or -1. */
static int hide_test(const struct group *g, const char *id)
{
	char gone[HUB_TEST_ID + 1];
	int fd = open_tests(g, false);

	snprintf(gone, sizeof(gone), ".%s", id);
	if (fd < 0 || !renameat(fd, id, fd, gone) || errno == ENOENT)
		return fd;
	hub_say(g->hub, LOG_ERR, "group %s: test %s cannot be removed: %s", g->name, id, strerror(errno));
	close(fd);
	return -1;
}

/* It is not seen again, and its files go. Whoever has them open may go on reading. It takes its time, and the group is not locked. */
static void remove_hidden(const struct group *g, int fd, const char *id)
{
	char gone[HUB_TEST_ID + 1];

	if (fd < 0)
		return;
	snprintf(gone, sizeof(gone), ".%s", id);
	if (fsync(fd) || !remove_tree(fd, gone, DEPTH_MOST))
		hub_say(g->hub, LOG_ERR, "group %s: test %s cannot be removed: %s", g->name, id, strerror(errno));
	close(fd);
}

static void remove_test(const struct group *g, const char *id)
{
	remove_hidden(g, hide_test(g, id), id);
}

/* The map of what is there. Return the overlay, or NULL; the log is closed then. */
static struct overlay *map_test(struct group *g, struct group *log, const struct test_file *f, char *reason)
{
	struct overlay *o;
	char point[64];

	snprintf(point, sizeof(point), "%016" PRIx64 ":%" PRIu64, f->incarnation, f->seq);
	o = overlay_open(log, INCARNATION, g, point, reason);
	if (o)
		o->limit = f->limit;
	else
		hubgroup_close(log);
	return o;
}

/* ---- as they are found --------------------------------------------------- */

static void find_test(struct group *g, int tests, const char *id)
{
	int fd = openat(tests, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct test *t = calloc(1, sizeof(*t));
	char error[HUB_ERROR_MAX];
	struct group *log;
	int err = ENOMEM;

	if (fd >= 0) {
		err = t ? seal_read(fd, "test", TEST_MAGIC, &t->file, sizeof(t->file)) : ENOMEM;
		close(fd);
	}
	if (err) {
		free(t);
		if (err == ENOENT)
			remove_test(g, id);
		else
			hub_say(g->hub, LOG_ERR, "group %s: test %s cannot be read: %s", g->name, id, err == EBADMSG ?
				"its file test is not what was written" : strerror(err));
		return;
	}
	snprintf(t->id, sizeof(t->id), "%s", id);
	log = hubgroup_open(g->hub, tests, id, error);
	if (!log)
		snprintf(t->trouble, sizeof(t->trouble), "%.150s", error);
	else if (log->torn || log->now.incarnation != INCARNATION)
		snprintf(t->trouble, sizeof(t->trouble), "what was written to it is damaged");
	else
		t->overlay = map_test(g, log, &t->file, t->trouble);
	if (!t->overlay) {
		if (log && (log->torn || log->now.incarnation != INCARNATION))
			hubgroup_close(log);
		hub_say(g->hub, LOG_ERR, "group %s: test %s is gone: %s", g->name, id, t->trouble);
	}
	LIST_INSERT_HEAD(&g->tests, t, link);
}

/**
 * scratch_open - take up the tests that there were when the hub ended
 * @g: the group, just opened, and not yet in use
 */
void scratch_open(struct group *g)
{
	int fd = open_tests(g, false);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		if (frame_name_ok(de->d_name) && strlen(de->d_name) < HUB_TEST_ID)
			find_test(g, dirfd(d), de->d_name);
		else if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			remove_tree(dirfd(d), de->d_name, DEPTH_MOST);	/* it was being made, or removed */
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

/**
 * scratch_close - the hub ends
 * @g: the group
 */
void scratch_close(struct group *g)
{
	struct test *t;

	while ((t = LIST_FIRST(&g->tests))) {
		LIST_REMOVE(t, link);
		if (t->overlay)
			overlay_put(t->overlay);
		free(t);
	}
}

/**
 * scratch_beyond - is there a test at a point that lies behind a place in the log?
 * @g: the group, locked
 * @offset: where a segment begins
 * @test: HUB_TEST_ID bytes for its name
 */
bool scratch_beyond(const struct group *g, uint64_t offset, char *test)
{
	char why[HUB_REASON_MAX];
	const struct test *t;
	uint64_t id;

	LIST_FOREACH(t, &g->tests, link) {
		/* cppcheck-suppress uninitvar ; the macro sets it */
		if (!point_of(g, t->file.incarnation, t->file.seq, &id, why) || hubgroup_at(g, id)->start < offset)
			continue;
		memcpy(test, t->id, HUB_TEST_ID);
		return true;
	}
	return false;
}

/* ---- beginning and end of one -------------------------------------------- */

/* The point, and what the volumes were there. */
static int choose(struct group *g, const char *point, struct test_file *f, struct replay *r, char *reason)
{
	unsigned int i;
	uint64_t id;
	int err = ENOENT;

	pthread_mutex_lock(&g->lock);
	if (!point_find(g, point, &id, reason))
		goto out;
	if (!hubgroup_state(g, id, r)) {
		snprintf(reason, HUB_REASON_MAX, "the point is gone");
		goto out;
	}
	point_position(g, id, &f->incarnation, &f->seq, &f->time);
	for (i = 0; i < r->nr && replay_state(&r->volume[i]); i++)
		;
	err = i < r->nr ? 0 : ENOENT;
	if (err)
		snprintf(reason, HUB_REASON_MAX, "no volume can be used at that point%s%.100s", r->nr ? ", for each " : "",
			 r->nr ? replay_state(&r->volume[0]) : "");
out:
	pthread_mutex_unlock(&g->lock);
	return err;
}

/* Its directory, and the first frame of its log. */
static struct group *make_log(struct group *g, int tests, const char *id, const struct test_file *f,
			      const struct replay *r, char *reason)
{
	struct group *log = NULL;
	char error[HUB_ERROR_MAX];
	int err, fd;

	if (hubgroup_make(tests, id, error))
		log = hubgroup_open(g->hub, tests, id, error);
	if (!log) {
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return NULL;
	}
	pthread_mutex_lock(&log->lock);
	err = overlay_begin(log, INCARNATION, r, NULL, reason);
	pthread_mutex_unlock(&log->lock);
	fd = err ? -1 : openat(tests, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!err && (fd < 0 || !seal_write(fd, "test", TEST_MAGIC, f, sizeof(*f)))) {
		snprintf(reason, HUB_REASON_MAX, "its file test: %s", strerror(errno));
		err = EIO;
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		return log;
	hubgroup_close(log);
	return NULL;
}

static bool new_id(struct hub *hub, char *id)
{
	char group[REPAGENT_NAME_MAX + 1];
	uint32_t n;

	do {
		if (getrandom(&n, sizeof(n), 0) != sizeof(n))
			return false;
		snprintf(id, HUB_TEST_ID, "%08" PRIx32, n);
	} while (hub_test_group(hub, id, group));
	return true;
}

/**
 * hub_test_start - begin a test
 * @hub: the hub
 * @group: name of the group
 * @point: see point_find()
 * @limit: bytes that may be written, each time they are, with a little for each write; 0: no limit
 * @id: out: HUB_TEST_ID bytes, its name
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Volumes that cannot be used at that point are left out.
 *
 * Return: 0, ENOENT (group or point), or another errno.
 */
int hub_test_start(struct hub *hub, const char *group, const char *point, uint64_t limit, char *id, char *reason)
{
	struct group *g = hub_find(hub, group), *log = NULL;
	struct replay *r = malloc(sizeof(*r));
	struct test *t = calloc(1, sizeof(*t));
	int tests = -1, err = ENOMEM;

	snprintf(reason, HUB_REASON_MAX, "out of memory");
	if (!g)
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
	if (!g || !r || !t) {
		err = g ? ENOMEM : ENOENT;
		goto failed;
	}
	err = choose(g, point, &t->file, r, reason);
	if (err)
		goto failed;
	t->file.limit = limit;
	t->file.since = now_ns();
	tests = open_tests(g, true);
	if (tests < 0 || fsync(g->dir) || !new_id(hub, t->id)) {
		err = errno;
		snprintf(reason, HUB_REASON_MAX, "its directory cannot be made: %s", strerror(err));
		goto failed;
	}
	log = make_log(g, tests, t->id, &t->file, r, reason);
	t->overlay = log ? map_test(g, log, &t->file, reason) : NULL;
	if (!t->overlay) {
		remove_test(g, t->id);
		err = EIO;
		goto failed;
	}
	close(tests);
	pthread_mutex_lock(&g->lock);
	LIST_INSERT_HEAD(&g->tests, t, link);
	hubgroup_event(g, "test-started", t->file.incarnation, t->file.seq, "test %s", t->id);
	pthread_mutex_unlock(&g->lock);
	memcpy(id, t->id, HUB_TEST_ID);
	hub_say(hub, LOG_NOTICE, "group %s: test %s at %016" PRIx64 ":%" PRIu64, g->name, id, t->file.incarnation,
		t->file.seq);
	free(r);
	return 0;
failed:
	if (tests >= 0)
		close(tests);
	free(r);
	free(t);
	return err;
}

/* With its group locked, or NULL. */
static struct test *get_test(struct hub *hub, const char *id, struct group **g)
{
	struct test *t;

	for (*g = hub_next(hub, NULL); *g; *g = hub_next(hub, *g)) {
		pthread_mutex_lock(&(*g)->lock);
		LIST_FOREACH(t, &(*g)->tests, link)
			if (!strcmp(t->id, id))
				return t;
		pthread_mutex_unlock(&(*g)->lock);
	}
	return NULL;
}

/**
 * hub_test_group - whose test is it?
 * @hub: the hub
 * @id: its name
 * @group: out: REPAGENT_NAME_MAX + 1 bytes
 *
 * Return: whether there is such a test.
 */
bool hub_test_group(struct hub *hub, const char *id, char *group)
{
	struct group *g;

	if (!get_test(hub, id, &g))
		return false;
	memcpy(group, g->name, sizeof(g->name));
	pthread_mutex_unlock(&g->lock);
	return true;
}

/**
 * hub_test_open - open a volume of a test
 * @hub: the hub
 * @id: the test's name
 * @volume: name of the volume
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: the disk, or NULL.
 */
struct hub_disk *hub_test_open(struct hub *hub, const char *id, const char *volume, char *reason)
{
	struct hub_disk *d = NULL;
	struct group *g;
	struct test *t = get_test(hub, id, &g);

	if (!t) {
		snprintf(reason, HUB_REASON_MAX, "there is no test '%.32s' here", id);
		return NULL;
	}
	if (t->overlay) {
		pthread_mutex_lock(&t->overlay->to->lock);
		d = overlay_disk(t->overlay, volume, reason);
		pthread_mutex_unlock(&t->overlay->to->lock);
	} else {
		memcpy(reason, t->trouble, HUB_REASON_MAX);
	}
	pthread_mutex_unlock(&g->lock);
	return d;
}

/**
 * hub_tests - all tests that are there
 * @hub: the hub
 * @each: called for each, with its group locked
 * @data: for @each
 */
void hub_tests(struct hub *hub, void (*each)(void *data, const struct hub_test_info *t), void *data)
{
	const char *volume[REPAGENT_MAX_VOLUMES];
	struct hub_test_info info;
	struct overlay *o;
	struct group *g;
	struct test *t;

	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		pthread_mutex_lock(&g->lock);
		LIST_FOREACH(t, &g->tests, link) {
			info = (struct hub_test_info){
				/* cppcheck-suppress uninitvar ; the macro sets it */
				.group = g->name, .id = t->id, .incarnation = t->file.incarnation, .seq = t->file.seq,
				.point_time = t->file.time, .since = t->file.since, .limit = t->file.limit,
				.volume = volume, .trouble = t->overlay ? NULL : t->trouble,
			};
			o = t->overlay;
			if (o) {
				pthread_mutex_lock(&o->to->lock);
				info.users = overlay_users(o);
				info.used = hubgroup_last(o->to)->end - o->to->segment[0]->start;
				pthread_mutex_unlock(&o->to->lock);
				for (; info.nr_volumes < o->nr; info.nr_volumes++)
					volume[info.nr_volumes] = o->disk[info.nr_volumes].top->volume;
			}
			each(data, &info);
		}
		pthread_mutex_unlock(&g->lock);
	}
}

/* ---- marks --------------------------------------------------------------- */

static FILE *open_marks(const struct group *g)
{
	int fd = openat(g->dir, "tested", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f && fd >= 0)
		close(fd);
	return f;
}

/* A line more, and the oldest one less if there are many. */
static bool add_mark(const struct group *g, const char *line)
{
	char old[MARK_LINE];
	FILE *from = open_marks(g), *f;
	unsigned int nr = 0;
	bool ok;
	int fd;

	fd = openat(g->dir, "tested.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		if (fd >= 0)
			close(fd);
		if (from)
			fclose(from);
		return false;
	}
	while (from && fgets(old, sizeof(old), from))
		nr++;
	if (from)
		rewind(from);
	for (; from && fgets(old, sizeof(old), from); nr--)
		if (nr < MARKS_MAX)
			fputs(old, f);
	if (from)
		fclose(from);
	fprintf(f, "%s\n", line);
	ok = !fflush(f) && !fsync(fd);
	ok = !fclose(f) && ok;
	return ok && !renameat(g->dir, "tested.new", g->dir, "tested") && !fsync(g->dir);
}

static int by_id(const void *a, const void *b)
{
	const struct tested *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/**
 * scratch_marks - what became of tests at points that are still there
 * @g: the group, locked
 * @marks: out: in the order of their points; to be freed
 *
 * Return: how many.
 */
size_t scratch_marks(const struct group *g, struct tested **marks)
{
	struct tested *m = calloc(MARKS_MAX, sizeof(*m));
	char line[MARK_LINE], why[HUB_REASON_MAX];
	FILE *f = open_marks(g);
	size_t nr = 0;
	int at;

	while (m && f && nr < MARKS_MAX && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%" SCNx64 ":%" SCNu64 " %" SCNu64 " %n", &m[nr].incarnation, &m[nr].seq, &m[nr].time,
			   &at) != 3 || !point_of(g, m[nr].incarnation, m[nr].seq, &m[nr].id, why))
			continue;
		snprintf(m[nr].text, sizeof(m[nr].text), "%.127s", line + at);
		nr++;
	}
	if (f)
		fclose(f);
	if (nr)
		qsort(m, nr, sizeof(*m), by_id);
	*marks = m;
	return nr;
}

/**
 * hub_test_stop - end a test, and forget what was written
 * @hub: the hub
 * @id: its name
 * @result: a word for the point; NULL: it gets no mark
 * @note: more of it; NULL: nothing
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0, ENOENT, or another errno.
 */
int hub_test_stop(struct hub *hub, const char *id, const char *result, const char *note, char *reason)
{
	char line[MARK_LINE];
	struct group *g;
	struct test *t = get_test(hub, id, &g);
	int fd;

	if (!t) {
		snprintf(reason, HUB_REASON_MAX, "there is no test '%.32s' here", id);
		return ENOENT;
	}
	snprintf(line, sizeof(line), "%016" PRIx64 ":%" PRIu64 " %" PRIu64 " %s: test %s%s%.*s", t->file.incarnation,
		 t->file.seq, now_ns(), result ? result : "", t->id, note ? ", " : "", (int)HUB_NOTE_MAX, note ? note : "");
	if (result && !add_mark(g, line)) {
		snprintf(reason, HUB_REASON_MAX, "its result cannot be kept: %s", strerror(errno));
		pthread_mutex_unlock(&g->lock);
		return EIO;
	}
	LIST_REMOVE(t, link);
	hubgroup_event(g, "test-stopped", t->file.incarnation, t->file.seq, "test %s%s%s", t->id, result ? ": " : "",
		       result ? result : "");
	if (t->overlay) {
		pthread_mutex_lock(&t->overlay->to->lock);
		overlay_end(t->overlay, "the test was stopped");
		pthread_mutex_unlock(&t->overlay->to->lock);
	}
	fd = hide_test(g, t->id);
	pthread_mutex_unlock(&g->lock);
	remove_hidden(g, fd, t->id);
	hub_say(hub, LOG_NOTICE, "group %s: test %s is stopped%s%s", g->name, t->id, result ? ": " : "", result ? result : "");
	if (t->overlay)
		overlay_put(t->overlay);
	free(t);
	return 0;
}
