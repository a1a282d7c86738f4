// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events: the file `events` in the hub's directory has a line for each, with its sum; the newest are in memory,
 * and answers come from there.  When the file has grown it is written anew with those.
 *
 * A line is not synced when it is written, for that would make an agent's frames wait, but by
 * events_tend(): a power cut can cost the events of a second.  Nothing rests on them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../common/frame.h"
#include "events.h"

#define FILE_NAME	"events"
#define FILE_MOST	(UINT64_C(2) << 20)	/* bytes after which it is written anew */
#define KEPT		2000u
#define LINE_MAX	512
#define MINUTE		UINT64_C(60000000000)
#define MOST_A_MINUTE	120u			/* of a group: it must not drive out those of others */
#define BUCKETS		1024u
#define LOOK_BACK	32u			/* events among which the last one of a group is looked for */

/*
 * struct events
 * @lock:	guards all else; no other lock is taken under it
 * @ring:	the newest, @nr of them, the oldest at @first
 * @serial:	of the newest
 * @torn:	the file does not end with a whole line
 * @unsynced:	lines were written since the last sync
 * @bucket:	how many came in this minute, by the sum of the group's name
 */
struct events {
	pthread_mutex_t lock;
	int dir, fd;
	struct hub_event ring[KEPT];
	unsigned int first, nr;
	uint64_t serial;
	uint64_t bytes;
	bool torn, unsynced;
	struct { uint64_t minute; unsigned int nr; } bucket[BUCKETS];
};

static struct hub_event *nth(struct events *e, unsigned int i)
{
	return &e->ring[(e->first + i) % KEPT];
}

static struct hub_event *append(struct events *e)
{
	if (e->nr == KEPT)
		e->first = (e->first + 1) % KEPT;
	else
		e->nr++;
	return nth(e, e->nr - 1);
}

/* SUM SERIAL TIME GROUP WHAT INCARNATION:SEQ TEXT */
static int make_line(char *line, const struct hub_event *ev)
{
	char rest[LINE_MAX];
	int len = snprintf(rest, sizeof(rest), "%" PRIu64 " %" PRIu64 " %s %s %" PRIx64 ":%" PRIu64 " %s", ev->serial,
			   ev->time, *ev->group ? ev->group : "-", ev->what, ev->incarnation, ev->seq, ev->text);

	return snprintf(line, LINE_MAX, "%08" PRIx32 " %.*s\n", frame_crc(rest, (size_t)len), LINE_MAX - 16, rest);
}

/* Return whether it is what make_line() made. */
static bool parse_line(const char *line, struct hub_event *ev)
{
	uint32_t crc;
	int at = 0;

	memset(ev, 0, sizeof(*ev));
	if (strlen(line) < 10 || sscanf(line, "%8" SCNx32, &crc) != 1 || line[8] != ' ' ||
	    crc != frame_crc(line + 9, strlen(line + 9)))
		return false;
	if (sscanf(line + 9, "%" SCNu64 " %" SCNu64 " %31s %19s %" SCNx64 ":%" SCNu64 " %n", &ev->serial, &ev->time,
		   ev->group, ev->what, &ev->incarnation, &ev->seq, &at) != 6 || !at)
		return false;
	if (!strcmp(ev->group, "-"))
		*ev->group = '\0';
	snprintf(ev->text, sizeof(ev->text), "%s", line + 9 + at);
	return true;
}

static void load(struct events *e, FILE *f)
{
	struct hub_event ev;
	char line[LINE_MAX];
	size_t len;

	while (fgets(line, sizeof(line), f)) {
		len = strlen(line);
		e->torn = !len || line[len - 1] != '\n';
		if (!e->torn)
			line[len - 1] = '\0';
		if (!e->torn && parse_line(line, &ev) && ev.serial > e->serial) {
			*append(e) = ev;
			e->serial = ev.serial;
		}
	}
}

static bool write_line(struct events *e, int fd, const struct hub_event *ev)
{
	char line[LINE_MAX + 1] = "\n";
	int len = make_line(line + 1, ev) + 1, skip = e->torn && fd == e->fd ? 0 : 1;
	ssize_t n = write(fd, line + skip, (size_t)(len - skip));

	if (n > 0)
		e->bytes += (uint64_t)n;
	return n == len - skip;
}

/**
 * events_open - take in what is known
 * @dir: the hub's directory; stays open as long as the events
 * @error: HUB_ERROR_MAX bytes
 *
 * Lines that are not what was written are left out.
 *
 * Return: the events, or NULL.
 */
struct events *events_open(int dir, char *error)
{
	struct events *e = calloc(1, sizeof(*e));
	struct stat st;
	FILE *f = NULL;
	int fd = -1;

	if (e) {
		e->dir = dir;
		pthread_mutex_init(&e->lock, NULL);
		e->fd = openat(dir, FILE_NAME, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		fd = openat(dir, FILE_NAME, O_RDONLY | O_CLOEXEC);
		f = fd < 0 ? NULL : fdopen(fd, "r");
	}
	if (!e || e->fd < 0 || !f || fstat(fd, &st)) {
		snprintf(error, HUB_ERROR_MAX, "%s cannot be opened: %s", FILE_NAME, e ? strerror(errno) : "out of memory");
		if (f)
			fclose(f);
		else if (fd >= 0)
			close(fd);
		if (e)
			events_close(e);
		return NULL;
	}
	e->bytes = (uint64_t)st.st_size;
	load(e, f);
	fclose(f);
	return e;
}

/**
 * events_close - end
 * @e: the events
 */
void events_close(struct events *e)
{
	if (e->fd >= 0) {
		(void)fdatasync(e->fd);
		close(e->fd);
	}
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* The file with what is in memory, and nothing more. Old or new after a crash. */
static void shorten(struct events *e)
{
	int fd = openat(e->dir, FILE_NAME ".new", O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned int i;
	bool ok = fd >= 0;

	e->bytes = 0;
	for (i = 0; ok && i < e->nr; i++)
		ok = write_line(e, fd, nth(e, i));
	if (ok && !fdatasync(fd) && !renameat(e->dir, FILE_NAME ".new", e->dir, FILE_NAME)) {
		close(e->fd);
		e->fd = fd;
		e->torn = false;
	} else if (fd >= 0) {
		close(fd);	/* later, perhaps */
	}
}

/**
 * events_tend - what is to be done now and then: make them durable
 * @e: the events
 *
 * Context: waits for the disk, and lets nobody wait who adds one.
 */
void events_tend(struct events *e)
{
	int fd = -1;

	pthread_mutex_lock(&e->lock);
	if (e->bytes > FILE_MOST)
		shorten(e);
	if (e->unsynced)
		fd = dup(e->fd);
	e->unsynced = false;
	pthread_mutex_unlock(&e->lock);
	if (fd >= 0) {
		(void)fdatasync(fd);
		close(fd);
	}
}

/* Is it what was last said of this group, within the last minute? */
static bool is_repeat(struct events *e, const struct hub_event *ev)
{
	const struct hub_event *old;
	unsigned int i;

	for (i = 1; i <= e->nr && i <= LOOK_BACK; i++) {
		old = nth(e, e->nr - i);
		if (ev->time > old->time + MINUTE)
			return false;
		if (!strcmp(old->group, ev->group))
			return !strcmp(old->what, ev->what) && !strcmp(old->text, ev->text) &&
			       old->incarnation == ev->incarnation && old->seq == ev->seq;
	}
	return false;
}

static void put(struct events *e, struct hub_event *ev)
{
	ev->serial = ++e->serial;
	*append(e) = *ev;
	e->torn = !write_line(e, e->fd, ev);
	e->unsynced = true;
}

/**
 * events_add - something happened
 * @e: the events
 * @group: whose; NULL: the hub's
 * @what: a word
 * @incarnation: of the place in the group's log; 0: none
 * @seq: likewise
 * @fmt: of a sentence, or of nothing
 *
 * What was just said is not said again, and of a group no more than so many a minute are taken.
 *
 * Context: any thread, any lock of the engine may be held.
 */
void events_add(struct events *e, const char *group, const char *what, uint64_t incarnation, uint64_t seq,
		const char *fmt, ...)
{
	struct hub_event ev = { .incarnation = incarnation, .seq = seq };
	struct timespec now;
	unsigned int b;
	va_list ap;
	char *p;

	clock_gettime(CLOCK_REALTIME, &now);
	ev.time = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	snprintf(ev.group, sizeof(ev.group), "%s", group ? group : "");
	snprintf(ev.what, sizeof(ev.what), "%s", what);
	va_start(ap, fmt);
	vsnprintf(ev.text, sizeof(ev.text), fmt, ap);
	va_end(ap);
	for (p = ev.text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	b = frame_crc(ev.group, strlen(ev.group)) % BUCKETS;
	pthread_mutex_lock(&e->lock);
	if (e->bucket[b].minute != ev.time / MINUTE) {
		e->bucket[b].minute = ev.time / MINUTE;
		e->bucket[b].nr = 0;
	}
	if (e->bucket[b].nr < MOST_A_MINUTE && !is_repeat(e, &ev)) {
		if (++e->bucket[b].nr == MOST_A_MINUTE) {
			snprintf(ev.what, sizeof(ev.what), "too-many");
			snprintf(ev.text, sizeof(ev.text), "more than %u in a minute: what else happens in it is not noted",
				 MOST_A_MINUTE - 1);
		}
		put(e, &ev);
	}
	pthread_mutex_unlock(&e->lock);
}

/**
 * events_list - some of them, the oldest first
 * @e: the events
 * @q: which
 * @each: called for each, with no lock held
 * @data: for @each
 */
void events_list(struct events *e, const struct hub_event_query *q,
		 void (*each)(void *data, const struct hub_event *ev), void *data)
{
	struct hub_event *found = calloc(q->most, sizeof(*found));
	unsigned int nr = 0, i, at;
	uint64_t after;

	if (!found)
		return;
	pthread_mutex_lock(&e->lock);
	/* The file was taken away since: then all is new. */
	after = q->after > e->serial ? 0 : q->after;
	for (i = 0; i < e->nr && nr < q->most; i++) {
		/* Of those behind @after the first, else the last. */
		at = after ? i : e->nr - 1 - i;
		if (nth(e, at)->serial > after && (!q->before || nth(e, at)->serial < q->before) &&
		    (!q->group || !strcmp(nth(e, at)->group, q->group)))
			found[nr++] = *nth(e, at);
	}
	pthread_mutex_unlock(&e->lock);
	for (i = 0; i < nr; i++)
		each(data, &found[after ? i : nr - 1 - i]);
	free(found);
}
