// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An overlay: volumes at a point, and writes over them.
 *
 * The writes go to a log as an agent's do, frame by frame: of a fail-over to the
 * group's own, as a new incarnation; of a test to one that it has for itself.  So
 * they are found again, or cut off, as all that is in a log, a FLUSH makes durable
 * what it makes durable there, and the order between the volumes is kept.
 *
 * Beside that there is a map in memory, made from the log when it is opened: which
 * range was last written by which record.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "overlay.h"

#define WRITERS_MAGIC	UINT64_C(0x7372746972776867)
#define WRITERS_NAME	(sizeof("writers:") + REPAGENT_NAME_MAX)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void begin_frame(struct frame_builder *b, void *frame, const struct group *to, uint64_t incarnation)
{
	struct frame_header h = { .generation = to->generation, .incarnation = incarnation };

	h.first = to->now.incarnation == incarnation ? to->now.seq + 1 : 1;
	memcpy(h.group, to->uuid, sizeof(h.group));
	frame_begin(b, frame, &h);
}

/* The log has it then. @to is locked. */
static int add_frame(struct frame_builder *b, uint8_t *frame, struct group *to, char *reason)
{
	uint8_t *raw = NULL;	/* it is not packed, and so need not be unpacked */
	char error[FRAME_ERROR_MAX];
	struct frame_header h;
	bool same = to->durable.incarnation == b->h.incarnation;

	frame_end(b, 0, NULL);
	frame_place(frame, hubgroup_last(to)->end, same ? to->durable.seq : 0);
	if (!frame_header_parse(&h, frame, error)) {
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return EIO;
	}
	return hubgroup_add(to, &h, frame, raw, reason);
}

/**
 * overlay_begin - the first frame, which says what the volumes are
 * @to: the log, locked; it is unlocked meanwhile
 * @incarnation: of the writes
 * @volumes: those that can be used are in it
 * @label: of a checkpoint that is the first record; NULL: the log is the overlay's own, and
 *	has sizes and a whole image of each volume, instead
 * @reason: HUB_REASON_MAX bytes
 *
 * Return: 0 or a positive errno; it is durable then.
 */
int overlay_begin(struct group *to, uint64_t incarnation, const struct replay *volumes, const char *label,
		  char *reason)
{
	struct frame_record r = { .time = now_ns(), .seq = 1 };
	uint8_t *frame = malloc(FRAME_MAX);
	struct frame_builder b;
	struct frame_volume v;
	unsigned int i;
	int err;

	if (!frame) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		return ENOMEM;
	}
	begin_frame(&b, frame, to, incarnation);
	for (i = 0; i < volumes->nr; i++) {
		if (replay_state(&volumes->volume[i]))
			continue;
		v = (struct frame_volume){ .id = (uint16_t)(i + 1), .sectors = volumes->volume[i].sectors };
		memcpy(v.name, volumes->volume[i].name, sizeof(v.name));
		frame_add_volume(&b, &v);
	}
	if (label) {
		r.type = REPAGENT_REC_CHECKPOINT;
		r.len = (uint32_t)strlen(label) + 1;
		frame_add_record(&b, &r, label);
	}
	for (i = 0; !label && i < volumes->nr; i++) {
		if (replay_state(&volumes->volume[i]))
			continue;
		r.volume = (uint16_t)(i + 1);
		r.type = REPAGENT_REC_RESYNC_BEGIN;
		r.nr_sectors = volumes->volume[i].sectors;
		frame_add_record(&b, &r, NULL);
		r.seq++;
		r.type = REPAGENT_REC_RESYNC_END;
		r.nr_sectors = 0;
		frame_add_record(&b, &r, NULL);
		r.seq++;
	}
	err = add_frame(&b, frame, to, reason);
	free(frame);
	return err ? err : hubgroup_sync(to, reason);
}

static void writers_name(char *name, const struct hub_disk *d)
{
	snprintf(name, WRITERS_NAME, "writers:%s", d->top->volume);
}

/*
 * Who has written to it, in the lives of the hub before this one. Return whether it can be used: a file that cannot be read now is
 * not to be written anew without what it says.
 */
static bool writers_load(struct hub_disk *d, char *reason)
{
	const struct group *to = d->overlay->to;
	char name[WRITERS_NAME];
	int err;

	writers_name(name, d);
	err = seal_read(to->dir, name, WRITERS_MAGIC, &d->writers, sizeof(d->writers));
	if (err && err != ENOENT && err != EBADMSG) {
		snprintf(reason, HUB_REASON_MAX, "its file %s: %s", name, strerror(err));
		return false;
	}
	if (err == EBADMSG)
		hub_say(to->hub, LOG_ERR, "group %s: its file %s: it is not what was written: it is not known which hosts were displaced, "
			"and they are not refused", to->name, name);
	if (err || d->writers.incarnation != d->overlay->incarnation)
		d->writers = (struct writers){ .incarnation = d->overlay->incarnation };
	return true;
}

static bool open_disk(struct overlay *o, const char *name, uint16_t id, struct group *of, const char *point,
		      char *reason)
{
	struct hub_disk *d = &o->disk[o->nr];

	d->overlay = o;
	d->id = id;
	d->top = view_open(o->to, name, "latest", false, reason);
	if (!d->top)
		return false;
	pthread_rwlock_init(&d->lock, NULL);
	o->nr++;
	hub_view_for(d->top, "its fail-over");
	if (!writers_load(d, reason))
		return false;
	if (of)
		d->under = view_open(of, name, point, false, reason);
	if (d->under)
		hub_view_for(d->under, "a fail-over test");
	return !of || d->under;
}

/**
 * overlay_open - make the maps of an overlay whose log has begun
 * @to: the log, not locked
 * @incarnation: of the writes
 * @of: a test's group; NULL: @to is that
 * @point: ... and its point
 * @reason: HUB_REASON_MAX bytes
 *
 * Return: the overlay, or NULL.
 */
struct overlay *overlay_open(struct group *to, uint64_t incarnation, struct group *of, const char *point,
			     char *reason)
{
	struct replay *r = malloc(sizeof(*r));
	struct overlay *o = calloc(1, sizeof(*o));
	bool ok = r && o;
	unsigned int i;

	snprintf(reason, HUB_REASON_MAX, "out of memory");
	if (ok) {
		o->to = to;
		o->own = of;
		o->incarnation = incarnation;
		o->refs = 1;
		o->frame = malloc(FRAME_MAX);
		pthread_mutex_lock(&to->lock);
		*r = to->now;
		pthread_mutex_unlock(&to->lock);
		ok = o->frame;
	}
	for (i = 0; ok && i < r->nr; i++)
		if (!replay_state(&r->volume[i]) && r->volume[i].id[0])
			ok = open_disk(o, r->volume[i].name, r->volume[i].id[0], of, point, reason);
	free(r);
	if (ok)
		return o;
	if (o) {
		o->own = false;		/* @to stays its maker's */
		overlay_put(o);
	}
	return NULL;
}

/**
 * overlay_disk - open one of its volumes
 * @o: the overlay; its log is locked
 * @volume: its name
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: the disk, or NULL.
 */
struct hub_disk *overlay_disk(struct overlay *o, const char *volume, char *reason)
{
	unsigned int i;

	for (i = 0; i < o->nr && strcmp(o->disk[i].top->volume, volume); i++)
		;
	if (i == o->nr || o->over) {
		snprintf(reason, HUB_REASON_MAX, "%s", i == o->nr ? "there is no such volume, or it could not be used at that point" :
			 o->why);
		return NULL;
	}
	o->refs++;
	return &o->disk[i];
}

/**
 * overlay_users - how many disks are open
 * @o: the overlay; its log is locked
 */
unsigned int overlay_users(const struct overlay *o)
{
	return o->refs - 1;
}

/**
 * overlay_end - take nothing more
 * @o: the overlay; its log is locked
 * @why: a sentence for those who have it open
 */
void overlay_end(struct overlay *o, const char *why)
{
	if (o->over)
		return;
	snprintf(o->why, sizeof(o->why), "%s", why);
	o->over = true;
}

/**
 * overlay_put - one less uses it
 * @o: the overlay; no log is locked
 *
 * The last one frees it.
 */
void overlay_put(struct overlay *o)
{
	struct group *to = o->to;
	unsigned int i, left;

	pthread_mutex_lock(&to->lock);
	left = --o->refs;
	pthread_mutex_unlock(&to->lock);
	if (left)
		return;
	for (i = 0; i < o->nr; i++) {
		hub_view_close(o->disk[i].top);
		if (o->disk[i].under)
			hub_view_close(o->disk[i].under);
		pthread_rwlock_destroy(&o->disk[i].lock);
	}
	if (o->own)
		hubgroup_close(to);
	free(o->frame);
	free(o);
}

/**
 * hub_disk_close - no more of it
 * @d: the disk
 */
void hub_disk_close(struct hub_disk *d)
{
	overlay_put(d->overlay);
}

/**
 * hub_disk_size - bytes
 * @d: the disk
 */
uint64_t hub_disk_size(const struct hub_disk *d)
{
	return d->top->size;
}

/**
 * hub_disk_over - has it ended?
 * @d: the disk
 * @reason: HUB_REASON_MAX bytes for why
 */
bool hub_disk_over(struct hub_disk *d, char *reason)
{
	if (!d->overlay->over)
		return false;
	snprintf(reason, HUB_REASON_MAX, "%s", d->overlay->why);
	return true;
}

/* ---- writing ------------------------------------------------------------- */

static int may_write(const struct overlay *o, char *reason)
{
	if (o->over) {
		snprintf(reason, HUB_REASON_MAX, "%s", o->why);
		return ESHUTDOWN;
	}
	/* What was answered may be gone, so that nothing may go on as if it were there. */
	if (o->to->broken) {
		snprintf(reason, HUB_REASON_MAX,
			 "the journal could not be written: mend its disk, start rephub anew, and then the VM");
		return EIO;
	}
	return 0;
}

/* The range is in this record from now on. */
static bool note_extent(struct hub_disk *d, struct segment *s, uint64_t start, uint64_t nr, uint64_t id)
{
	struct hub_view *v = d->top;
	bool ok = true;
	void *mem;

	pthread_rwlock_wrlock(&d->lock);
	if (v->segment[v->nr_segments - 1] != s) {
		mem = realloc(v->segment, (v->nr_segments + 1) * sizeof(struct segment *));
		ok = mem;
		if (ok) {
			v->segment = mem;
			v->segment[v->nr_segments++] = s;
			segment_get(s);
		}
	}
	ok = ok && extents_put(&v->extents, start, start + nr, id);
	pthread_rwlock_unlock(&d->lock);
	return ok;
}

static bool is_displaced(const struct hub_disk *d, uint64_t token, char *reason)
{
	unsigned int i;

	for (i = 0; token && i < DISPLACED_MAX; i++) {
		if (d->writers.displaced[i] != token)
			continue;
		snprintf(reason, HUB_REASON_MAX, "another host has taken this volume over, and what is sent from here would "
			 "come behind that; end the VM here");
		return true;
	}
	return false;
}

/*
 * Another token writes from now on. That is durable before its first write is taken: whoever it displaces would have the
 * disk again when the hub was started anew. It is rare, and waits for the disk with the log locked.
 */
static int change_writer(struct hub_disk *d, uint64_t token, char *reason)
{
	struct writers w = d->writers;
	char name[WRITERS_NAME];
	int err;

	if (w.token)
		w.displaced[w.nr++ % DISPLACED_MAX] = w.token;
	w.token = token;
	writers_name(name, d);
	if (!seal_write(d->overlay->to->dir, name, WRITERS_MAGIC, &w, sizeof(w))) {
		err = errno;
		snprintf(reason, HUB_REASON_MAX, "it cannot be noted who writes: %s", strerror(err));
		return err;
	}
	d->writers = w;
	return 0;
}

/*
 * What an older client sent may still be under way here when a newer one writes: its connection broke, or its
 * daemon died, and all is being sent again. It must not come behind that.
 */
static int take_turn(struct hub_disk *d, const struct hub_writer *by, char *reason)
{
	if (!by)
		return 0;
	if (is_displaced(d, by->token, reason))
		return EPERM;
	if (by->client < d->client) {
		snprintf(reason, HUB_REASON_MAX, "a client that came later writes to it now; one disk has one writer");
		return ESHUTDOWN;
	}
	if (by->token && by->token != d->writers.token) {
		int err = change_writer(d, by->token, reason);

		if (err)
			return err;
	}
	d->client = by->client;
	return 0;
}

/**
 * hub_disk_displaced - has another writer taken it over?
 * @d: the disk
 * @token: who asks
 * @reason: HUB_REASON_MAX bytes for a sentence
 *
 * That is so for as long as the fail-over is, or the test.
 */
bool hub_disk_displaced(struct hub_disk *d, uint64_t token, char *reason)
{
	bool displaced;

	pthread_mutex_lock(&d->overlay->to->lock);
	displaced = is_displaced(d, token, reason);
	pthread_mutex_unlock(&d->overlay->to->lock);
	return displaced;
}

/**
 * hub_disk_incarnation - that of the writes to it, which no other fail-over has
 * @d: the disk
 */
uint64_t hub_disk_incarnation(const struct hub_disk *d)
{
	return d->overlay->incarnation;
}

static int put(struct hub_disk *d, const struct hub_writer *by, unsigned int type, uint64_t offset, const void *buf, uint64_t len,
	       char *reason)
{
	struct overlay *o = d->overlay;
	struct frame_record r = {
		.type = (uint8_t)type, .volume = d->id, .sector = offset / 512, .nr_sectors = len / 512, .len = buf ? (uint32_t)len : 0,
	};
	struct frame_builder b;
	struct segment *s;
	int err;

	pthread_mutex_lock(&o->to->lock);
	err = may_write(o, reason);
	if (!err)
		err = take_turn(d, by, reason);
	if (!err && o->limit &&
	    hubgroup_last(o->to)->end - o->to->segment[0]->start + FRAME_HEADER + FRAME_RECORD + r.len > o->limit) {
		snprintf(reason, HUB_REASON_MAX, "what may be written to this test, %" PRIu64 " MiB, is used up",
			 o->limit >> 20);
		err = ENOSPC;
	}
	if (!err) {
		begin_frame(&b, o->frame, o->to, o->incarnation);
		r.seq = b.h.first;
		r.time = now_ns();
		frame_add_record(&b, &r, buf);
		err = add_frame(&b, o->frame, o->to, reason);
	}
	if (!err) {
		s = hubgroup_last(o->to);
		if (!note_extent(d, s, r.sector, r.nr_sectors, s->first_id + s->nr_records - 1)) {
			overlay_end(o, "out of memory: start rephub anew");
			snprintf(reason, HUB_REASON_MAX, "%s", o->why);
			err = ENOMEM;
		}
	}
	pthread_mutex_unlock(&o->to->lock);
	return err;
}

static int check_range(const struct hub_disk *d, uint64_t offset, uint64_t len, char *reason)
{
	uint64_t size = hub_disk_size(d);

	if (offset % 512 == 0 && len % 512 == 0 && offset <= size && len <= size - offset)
		return 0;
	snprintf(reason, HUB_REASON_MAX, "%" PRIu64 " bytes at %" PRIu64 ": expected sectors of 512 bytes within %" PRIu64,
		 len, offset, size);
	return EINVAL;
}

/**
 * hub_disk_write - write
 * @d: the disk
 * @by: who writes; NULL: it does not matter
 * @offset: in bytes, a multiple of 512
 * @buf: what
 * @len: bytes, a multiple of 512
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: any thread, several at a time. It is durable when hub_disk_flush() was called behind it.
 * Return: 0 or a positive errno; ENOSPC: nothing else has changed.
 */
int hub_disk_write(struct hub_disk *d, const struct hub_writer *by, uint64_t offset, const void *buf, size_t len,
		   char *reason)
{
	const uint8_t *p = buf;
	int err = check_range(d, offset, len, reason);
	size_t n;

	for (; !err && len; len -= n, p += n, offset += n) {
		n = len < REPAGENT_MAX_RECORD ? len : REPAGENT_MAX_RECORD;
		err = put(d, by, REPAGENT_REC_WRITE, offset, p, n, reason);
	}
	return err;
}

/**
 * hub_disk_zero - have a range read as zeroes
 * @d: the disk
 * @by: see hub_disk_write()
 * @offset: in bytes, a multiple of 512
 * @len: bytes, a multiple of 512
 * @discard: its content is of no interest
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0 or a positive errno.
 */
int hub_disk_zero(struct hub_disk *d, const struct hub_writer *by, uint64_t offset, uint64_t len, bool discard,
		  char *reason)
{
	int err = check_range(d, offset, len, reason);

	return err || !len ? err : put(d, by, discard ? REPAGENT_REC_DISCARD : REPAGENT_REC_ZEROES, offset, NULL, len,
				  reason);
}

/**
 * hub_disk_flush - make durable all that was written to any volume of the overlay
 * @d: the disk
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk.
 * Return: 0 or a positive errno.
 */
int hub_disk_flush(struct hub_disk *d, char *reason)
{
	struct overlay *o = d->overlay;
	int err;

	pthread_mutex_lock(&o->to->lock);
	err = may_write(o, reason);
	if (!err) {
		err = hubgroup_sync(o->to, reason);
		if (err && o->to->broken)
			hub_say(o->to->hub, LOG_ERR, "group %s: %s: nothing more is taken from those who write to it here",
				o->to->name, reason);
		/* It may have been rolled back meanwhile. */
		if (o->over)
			err = may_write(o, reason);
	}
	pthread_mutex_unlock(&o->to->lock);
	return err;
}

/* ---- reading ------------------------------------------------------------- */

/* What is at a place, and up to where: a record, whose segment is returned, or NULL: what is under it. */
static const struct segment *look_up(struct hub_disk *d, uint64_t offset, uint64_t end, uint64_t *stop, uint64_t *id)
{
	const struct segment *s = NULL;
	const struct extent *e;

	pthread_rwlock_rdlock(&d->lock);
	e = extents_find(&d->top->extents, offset / 512);
	*stop = end;
	if (e && e->start * 512 <= offset) {
		s = view_segment(d->top, e->id);
		*id = e->id;
		if (e->end * 512 < end)
			*stop = e->end * 512;
	} else if (e && e->start * 512 < end) {
		*stop = e->start * 512;
	}
	pthread_rwlock_unlock(&d->lock);
	return s;
}

/**
 * hub_disk_read - read
 * @d: the disk
 * @offset: in bytes
 * @buf: filled
 * @len: within the disk
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: any thread, several at a time; waits for the disk.
 * Return: 0 or a positive errno. What is damaged is never given.
 */
int hub_disk_read(struct hub_disk *d, uint64_t offset, void *buf, size_t len, char *reason)
{
	uint64_t end = offset + len, stop, id;
	const struct segment *s;
	uint8_t *p = buf;
	int err = 0;

	if (hub_disk_over(d, reason))
		return ESHUTDOWN;
	for (; !err && offset < end; p += stop - offset, offset = stop) {
		s = look_up(d, offset, end, &stop, &id);
		if (s)
			err = view_read_record(d->top, s, id, offset - s->record[id - s->first_id].sector * 512, p,
					       stop - offset, reason);
		else if (d->under)
			err = hub_view_read(d->under, offset, p, stop - offset, reason);
		else
			err = view_read_base(d->top, offset, p, stop - offset, reason);
	}
	return err;
}

/**
 * hub_disk_next - is there data, or nothing but zeroes?
 * @d: the disk
 * @offset: from there on
 * @end: up to there at most
 * @next: out: as far as that is so
 *
 * Return: whether it may be data.
 */
bool hub_disk_next(struct hub_disk *d, uint64_t offset, uint64_t end, uint64_t *next)
{
	const struct segment *s;
	uint64_t id;

	s = look_up(d, offset, end, next, &id);
	if (s)
		return view_has_data(&s->record[id - s->first_id]);
	end = *next;
	return d->under ? hub_view_next(d->under, offset, end, next) : view_next_base(d->top, offset, end, next);
}
