// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Forks: for each fail-over, what has changed since its point, by whomever.
 *
 * The disk of the side that was failed over from is the volume at the end of what that
 * side sent.  It differs from the volume as it is now in what came behind the point, or
 * where that was abandoned already behind the last place that both go on from, abandoned
 * or not.  While the journal has that, the journal says so (changed.c); before a
 * segment of it is folded, its ranges go to a file that stays, so that the disk can be
 * brought up to date whenever that host is back (Documentation/segments.md).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "engine.h"

#define MAGIC		UINT64_C(0x6b726f6668706572)	/* "rephfork" */
#define VERSION		1u
#define FORKS_MOST	8u		/* that are kept, the newest */
#define RANGES_MOST	(1u << 16)	/* of a volume; what is more is joined, which is too much and never too little */
#define NAME_LEN	21		/* fork. and 16 hexadecimal digits */

/*
 * struct fork_header - the file's beginning; then for each volume its name and how many ranges follow, struct fork_volume, and
 * those, two u64 each: the first sector, and the first behind the last
 * @length, @crc: of what follows
 */
struct fork_header {
	uint64_t magic;
	uint32_t version, nr_volumes;
	uint8_t group[16];
	uint64_t generation;
	uint64_t start, offset;
	uint64_t incarnation, seq;
	uint64_t point_incarnation, point_seq;
	uint64_t length;
	uint32_t crc, header_crc;
};

struct fork_volume {
	char name[REPAGENT_NAME_MAX + 1];
	uint64_t nr;
};

_Static_assert(sizeof(struct fork_header) == 104 && sizeof(struct fork_volume) == 40, "as the document has it");

static void name_of(const struct fork *f, char *name)
{
	snprintf(name, NAME_LEN + 1, "fork.%016" PRIx64, f->start);
}

static void free_fork(struct fork *f)
{
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		extents_free(&f->changed[i]);
	free(f);
}

static bool changes(const struct log_record *rec)
{
	return rec->type == REPAGENT_REC_WRITE || rec->type == REPAGENT_REC_RESYNC || rec->type == REPAGENT_REC_ZEROES ||
	       rec->type == REPAGENT_REC_DISCARD;
}

/* Ranges that touch, or lie closer than that, become one. */
static bool join(struct extents *x, uint64_t gap)
{
	struct extents to = { 0 };
	const struct extent *e;
	uint64_t start, end = 0;

	while ((e = extents_find(x, end))) {
		start = e->start;
		for (end = e->end; (e = extents_find(x, end)) && e->start - end <= gap; end = e->end)
			;
		if (!extents_put(&to, start, end, 0)) {
			extents_free(&to);
			return false;
		}
	}
	extents_free(x);
	*x = to;
	return true;
}

static bool confine(struct extents *x)
{
	uint64_t gap;
	bool ok = join(x, 0);

	for (gap = 8; ok && x->nr > RANGES_MOST; gap *= 2)
		ok = join(x, gap);
	return ok;
}

/**
 * fork_collect - what some segments say has changed
 * @f: since this fail-over's point
 * @segment: the segments, which stay as they are meanwhile
 * @nr: so many
 * @slot: of the volume; REPAGENT_MAX_VOLUMES: of all
 * @x: to be added to: one, or as many as there can be volumes
 *
 * Return: false without memory.
 */
bool fork_collect(const struct fork *f, struct segment *const *segment, size_t nr, unsigned int slot, struct extents *x)
{
	const bool all = slot == REPAGENT_MAX_VOLUMES;
	const struct log_record *rec;
	const struct log_frame *frame;
	const struct segment *s;
	uint32_t k;
	size_t i;

	for (i = 0; i < nr; i++) {
		s = segment[i];
		for (k = 0; s->end > f->offset && k < s->nr_records; k++) {
			rec = &s->record[k];
			frame = &s->frame[rec->frame];
			if (!changes(rec) || (!all && rec->slot != slot) || frame->offset < f->offset ||
			    (frame->incarnation == f->point_incarnation && rec->seq <= f->point_seq))
				continue;
			if (!extents_put(all ? &x[rec->slot] : x, rec->sector, rec->sector + rec->nr_sectors, 0))
				return false;
		}
	}
	return true;
}

/* ---- the file ------------------------------------------------------------ */

/* All of it, in memory. The group is locked, or its volumes' names stay. */
static uint8_t *encode(const struct group *g, const struct fork *f, size_t *size)
{
	struct fork_header h = {
		.magic = MAGIC, .version = VERSION, .nr_volumes = g->now.nr, .generation = f->generation, .start = f->start,
		.offset = f->offset, .incarnation = f->incarnation, .seq = f->seq,
		.point_incarnation = f->point_incarnation, .point_seq = f->point_seq,
	};
	const struct extent *e;
	struct fork_volume v;
	uint64_t range[2], at;
	unsigned int i;
	uint8_t *p, *b;

	for (i = 0; i < g->now.nr; i++)
		h.length += sizeof(v) + f->changed[i].nr * sizeof(range);
	*size = sizeof(h) + h.length;
	b = malloc(*size);
	if (!b)
		return NULL;
	p = b + sizeof(h);
	for (i = 0; i < g->now.nr; i++) {
		v = (struct fork_volume){ .nr = f->changed[i].nr };
		memcpy(v.name, g->now.volume[i].name, sizeof(v.name));
		memcpy(p, &v, sizeof(v));
		p += sizeof(v);
		for (at = 0; (e = extents_find(&f->changed[i], at)); at = e->end, p += sizeof(range)) {
			range[0] = e->start;
			range[1] = e->end;
			memcpy(p, range, sizeof(range));
		}
	}
	memcpy(h.group, g->uuid, sizeof(h.group));
	h.crc = frame_crc(b + sizeof(h), h.length);
	h.header_crc = frame_crc(&h, offsetof(struct fork_header, header_crc));
	memcpy(b, &h, sizeof(h));
	return b;
}

/* Durable, old or new. Return 0 or a positive errno. */
static int write_file(const struct group *g, const struct fork *f, const uint8_t *b, size_t size)
{
	char name[NAME_LEN + 1], tmp[NAME_LEN + 8];
	size_t done = 0;
	ssize_t n = 0;
	int fd, err = 0;

	name_of(f, name);
	snprintf(tmp, sizeof(tmp), "%s.new", name);
	fd = openat(g->dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	while (done < size && !err) {
		n = pwrite(fd, b + done, size - done, (off_t)done);
		if (n < 0 && errno != EINTR)
			err = errno;
		else if (n > 0)
			done += (size_t)n;
	}
	if (!err && fdatasync(fd))
		err = errno;
	if (close(fd) && !err)
		err = errno;
	if (!err && (renameat(g->dir, tmp, g->dir, name) || fsync(g->dir)))
		err = errno;
	return err;
}

static void remove_file(const struct group *g, const struct fork *f)
{
	char name[NAME_LEN + 1];

	name_of(f, name);
	unlinkat(g->dir, name, 0);
}

static int slot_of(const struct group *g, const char *name)
{
	unsigned int i;

	for (i = 0; i < g->now.nr; i++)
		if (!strncmp(g->now.volume[i].name, name, sizeof(g->now.volume[i].name)))
			return (int)i;
	return -1;
}

/* Return NULL if it makes sense, else why not. */
static const char *decode(const struct group *g, struct fork *f, const uint8_t *b, size_t size)
{
	struct fork_header h;
	struct fork_volume v;
	uint64_t range[2], last;
	size_t at = sizeof(h);
	uint32_t i;
	int slot;

	if (size < sizeof(h))
		return "it is too short";
	memcpy(&h, b, sizeof(h));
	if (h.magic != MAGIC || h.header_crc != frame_crc(&h, offsetof(struct fork_header, header_crc)))
		return "it is not what was written";
	if (h.version != VERSION)
		return "version: expected 1";
	if (memcmp(h.group, g->uuid, sizeof(h.group)))
		return "group: it is that of another group";
	if (h.length != size - sizeof(h) || h.crc != frame_crc(b + sizeof(h), h.length))
		return "its ranges are not what was written";
	*f = (struct fork){
		.generation = h.generation, .start = h.start, .offset = h.offset, .incarnation = h.incarnation, .seq = h.seq,
		.point_incarnation = h.point_incarnation, .point_seq = h.point_seq,
	};
	for (i = 0; i < h.nr_volumes; i++) {
		if (size - at < sizeof(v))
			return "volumes: there are fewer";
		memcpy(&v, b + at, sizeof(v));
		at += sizeof(v);
		slot = slot_of(g, v.name);
		if (slot < 0)
			return "volumes: the group has no such";
		for (last = 0; v.nr; v.nr--, at += sizeof(range)) {
			if (size - at < sizeof(range))
				return "ranges: there are fewer";
			memcpy(range, b + at, sizeof(range));
			if (range[0] < last || range[0] >= range[1])
				return "ranges: expected them to rise";
			last = range[1];
			if (!extents_put(&f->changed[slot], range[0], range[1], 0))
				return "there is no memory";
		}
	}
	return at == size ? NULL : "there is more than its ranges";
}

static uint8_t *read_file(int dir, const char *name, size_t *size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	uint8_t *b = NULL;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && st.st_size >= 0 && st.st_size < (off_t)1 << 30) {
		*size = (size_t)st.st_size;
		b = malloc(*size + 1);
		if (b && pread(fd, b, *size, 0) != st.st_size) {
			free(b);
			b = NULL;
		}
	}
	close(fd);
	return b;
}

/* The newest first. */
static void insert(struct group *g, struct fork *f)
{
	struct fork *other, *after = NULL;

	SLIST_FOREACH(other, &g->forks, link)
		if (other->start > f->start)
			after = other;
	if (after)
		SLIST_INSERT_AFTER(after, f, link);
	else
		SLIST_INSERT_HEAD(&g->forks, f, link);
}

static void load(struct group *g, const char *name)
{
	size_t size = 0;
	uint8_t *b = read_file(g->dir, name, &size);
	struct fork *f = calloc(1, sizeof(*f));
	char is[NAME_LEN + 1] = "";
	const char *why = b && f ? decode(g, f, b, size) : "it cannot be read";

	if (!why)
		name_of(f, is);
	if (!why && strcmp(is, name))
		why = "start: it is that of another file";
	/* A hub that ended just before the fail-over was noted. */
	if (!why && f->generation > g->generation)
		why = "that fail-over never was";
	if (!why) {
		insert(g, f);
	} else {
		hub_say(g->hub, LOG_WARNING, "group %s: its file %s: %s: a host that was failed over from has to compare all",
			g->name, name, why);
		unlinkat(g->dir, name, 0);
		if (f)
			free_fork(f);
	}
	free(b);
}

/* The group's directory, to be read. NULL: errno says why not. */
static DIR *list(const struct group *g)
{
	int fd = openat(g->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0) {
		err = errno;
		close(fd);
		errno = err;
	}
	return d;
}

/**
 * forks_remove - the journal was damaged: what is lacking there may be what has changed
 * @g: the group, being opened. The damage is not yet known to be known: a start that ends here does this once more
 *
 * Return: whether none is there any more, durably; else errno says why.
 */
bool forks_remove(struct group *g)
{
	DIR *d = list(g);
	struct dirent *de;
	int err = 0;

	if (!d)
		return false;
	while (!err && (de = readdir(d)))
		if (!strncmp(de->d_name, "fork.", 5)) {
			hub_say(g->hub, LOG_WARNING, "group %s: its file %s goes, for the journal was damaged: a host that was failed "
				"over from has to compare all", g->name, de->d_name);
			err = unlinkat(g->dir, de->d_name, 0) ? errno : 0;
		}
	if (!err && fsync(g->dir))
		err = errno;
	closedir(d);
	errno = err;
	return !err;
}

/**
 * forks_open - read what is known
 * @g: the group, just opened: its journal was read, and nothing was folded yet
 *
 * What cannot be read is as if it were not there: then a host compares its disk.
 */
void forks_open(struct group *g)
{
	DIR *d = list(g);
	struct dirent *de;

	SLIST_INIT(&g->forks);
	if (!d)
		return;
	while ((de = readdir(d)))
		if (!strncmp(de->d_name, "fork.", 5) && strlen(de->d_name) == NAME_LEN)
			load(g, de->d_name);
	closedir(d);
}

/**
 * forks_close - forget what is in memory
 * @g: the group
 */
void forks_close(struct group *g)
{
	struct fork *f;

	while ((f = SLIST_FIRST(&g->forks))) {
		SLIST_REMOVE_HEAD(&g->forks, link);
		free_fork(f);
	}
}

/* ---- fail-overs ---------------------------------------------------------- */

/* Since where does a volume differ, for a disk of the log's end, if the log goes on from a point? UINT64_MAX: that is gone. */
static uint64_t parting(const struct group *g, uint64_t id)
{
	return lineage_common(g->segment, g->nr_segments, hubgroup_latest(g), id);
}

/* Does a fork leave something out that lies behind a place? One whose point is in the journal no more does not. */
static bool begins_behind(const struct group *g, const struct fork *f, uint64_t id)
{
	char why[HUB_REASON_MAX];
	uint64_t at;

	return !f->gone && point_of(g, f->point_incarnation, f->point_seq, &at, why) && at > id;
}

/**
 * fork_may_begin - can a fail-over be noted now?
 * @g: the group, locked
 * @id: its point
 *
 * Return: false while forks that are there are to be changed, and the folding thread writes them.
 */
bool fork_may_begin(const struct group *g, uint64_t id)
{
	const struct fork *f;

	if (g->folding)
		SLIST_FOREACH(f, &g->forks, link)
			if (begins_behind(g, f, parting(g, id)))
				return false;
	return true;
}

/* Where the first frame with a record behind the point lies in the log. */
static uint64_t offset_behind(const struct group *g, uint64_t id)
{
	const struct segment *s = hubgroup_at(g, id);

	return id - s->first_id < s->nr_records ? s->frame[s->record[id - s->first_id].frame].offset : s->end;
}

static int save(const struct group *g, const struct fork *f)
{
	size_t size;
	uint8_t *b = encode(g, f, &size);
	int err = b ? write_file(g, f, b, size) : ENOMEM;

	free(b);
	return err;
}

/* All behind a place has changed. */
static void begin_at(const struct group *g, struct fork *f, uint64_t id)
{
	uint64_t time;

	f->offset = offset_behind(g, id);
	point_position(g, id, &f->point_incarnation, &f->point_seq, &time);
}

/**
 * fork_begin - a fail-over is about to be noted
 * @g: the group, locked; all of its log is durable, and fork_may_begin()
 * @to: what will be noted
 * @id: so many records come before the point
 * @reason: HUB_REASON_MAX bytes
 *
 * Where the log's end did not go on from the point itself, all counts behind the place where the two part. Older forks that begin
 * behind that place begin there from now on; nothing of that can have been folded. If the fail-over is rolled back they tell too much.
 *
 * Return: 0 or a positive errno.
 */
int fork_begin(struct group *g, const struct failover *to, uint64_t id, char *reason)
{
	struct fork *f = calloc(1, sizeof(*f)), *other, *oldest = NULL;
	const uint64_t at = parting(g, id);
	unsigned int nr = 0;
	int err = f ? 0 : ENOMEM;

	SLIST_FOREACH(other, &g->forks, link) {
		if (!err && at == UINT64_MAX) {
			other->gone = true;
			/* cppcheck-suppress uninitvar ; the macro sets it */
			remove_file(g, other);
		} else if (!err && begins_behind(g, other, at)) {
			begin_at(g, other, at);
			err = save(g, other);
		}
	}
	/* Nobody knows in what the log's end differs: a host compares. */
	if (!err && at == UINT64_MAX) {
		free(f);
		return 0;
	}
	if (!err) {
		*f = (struct fork){
			.generation = g->generation + 1, .start = to->start, .incarnation = g->now.incarnation, .seq = g->now.seq,
		};
		begin_at(g, f, at);
		err = save(g, f);
	}
	if (err) {
		snprintf(reason, HUB_REASON_MAX, "it cannot be noted from where on things change: %s", strerror(err));
		free(f);
		return err;
	}
	insert(g, f);
	SLIST_FOREACH(f, &g->forks, link) {
		nr += !f->gone;
		oldest = f->gone ? oldest : f;
	}
	if (nr > FORKS_MOST) {
		oldest->gone = true;
		remove_file(g, oldest);
	}
	return 0;
}

/**
 * fork_end - a fail-over was rolled back, or could not be noted
 * @g: the group, locked
 * @start: where its live's writes would have begun
 */
void fork_end(struct group *g, uint64_t start)
{
	struct fork *f;

	SLIST_FOREACH(f, &g->forks, link)
		if (f->start == start && !f->gone) {
			f->gone = true;
			remove_file(g, f);
		}
}

/**
 * fork_find - since which fail-over has a disk been left behind?
 * @g: the group, locked
 * @incarnation: the disk is the volume at this place of the log, which is in the journal no more,
 * @seq: ... but for what its writer knows of
 *
 * Return: the fork that ended this writer, or NULL.
 */
const struct fork *fork_find(const struct group *g, uint64_t incarnation, uint64_t seq)
{
	const struct fork *f;

	SLIST_FOREACH(f, &g->forks, link)
		if (!f->gone && f->incarnation == incarnation && seq <= f->seq)
			return f;
	return NULL;
}

/* ---- folding ------------------------------------------------------------- */

static bool is_gone(struct group *g, const struct fork *f)
{
	bool gone;

	pthread_mutex_lock(&g->lock);
	gone = f->gone;
	pthread_mutex_unlock(&g->lock);
	return gone;
}

/* What goes from the journal is added to one fork, durably. Return 0 or a positive errno. */
static int note(struct group *g, struct fork *f, struct segment *const *segment, size_t nr)
{
	struct extents *x = calloc(REPAGENT_MAX_VOLUMES, sizeof(*x));
	bool ok = x && fork_collect(f, segment, nr, REPAGENT_MAX_VOLUMES, x), any = false;
	uint8_t *b = NULL;
	unsigned int i;
	size_t size;
	int err;

	for (i = 0; ok && i < REPAGENT_MAX_VOLUMES; i++) {
		any |= x[i].nr;
		ok = confine(&x[i]);
	}
	pthread_mutex_lock(&g->lock);
	for (i = 0; ok && any && i < REPAGENT_MAX_VOLUMES; i++)
		ok = !x[i].nr || (extents_add(&f->changed[i], &x[i], 0) && confine(&f->changed[i]));
	/* It may have lost some, for want of memory: it is of no use, and a host compares. */
	if (!ok && any)
		f->gone = true;
	if (ok && any)
		b = encode(g, f, &size);
	pthread_mutex_unlock(&g->lock);
	err = !ok || (any && !b) ? ENOMEM : 0;
	if (b)
		err = write_file(g, f, b, size);
	free(b);
	for (i = 0; x && i < REPAGENT_MAX_VOLUMES; i++)
		extents_free(&x[i]);
	free(x);
	/* A rollback may have been meanwhile: its file must not come back. */
	pthread_mutex_lock(&g->lock);
	if (f->gone)
		remove_file(g, f);
	pthread_mutex_unlock(&g->lock);
	return err;
}

/**
 * forks_fold - segments are about to go from the journal
 * @g: the group, not locked. A fork is never freed before the group is, and one that is new is of a point behind all these
 * @segment: the segments
 * @nr: so many
 * @error: SEGMENT_ERROR_MAX bytes
 *
 * Context: one thread for all; waits for the disk.
 * Return: 0 or a positive errno. To be told of the same segments again does no harm.
 */
int forks_fold(struct group *g, struct segment *const *segment, size_t nr, char *error)
{
	struct fork *f;
	int err = 0;

	pthread_mutex_lock(&g->lock);
	f = SLIST_FIRST(&g->forks);
	pthread_mutex_unlock(&g->lock);
	for (; f && !err; f = SLIST_NEXT(f, link))
		if (!is_gone(g, f))
			err = note(g, f, segment, nr);
	if (err)
		snprintf(error, SEGMENT_ERROR_MAX, "what has changed since a fail-over cannot be noted: %s", strerror(err));
	return err;
}
