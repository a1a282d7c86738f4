// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Views: a volume as it was at a point.
 *
 * A view has its own map of extents, and its own hold on the segments that they
 * are in; so it needs no lock, and neither new frames nor folding change it.  What
 * no extent covers is in the base.  Folding a segment writes to the base only what
 * that segment's records cover, and it waits for views that end before or within
 * the segment; so no view ever reads from the base what is being written there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

/*
 * struct hub_view - does not change after it was opened, but for what @lock guards
 * @id:		so many of the group's records count
 * @kept:	the record whose payload is in @payload; UINT64_MAX: none
 * @unpacked:	the segment of which frame @frame is in @scratch; NULL: none
 */
struct hub_view {
	struct group *group;
	LIST_ENTRY(hub_view) link;		/* guarded by the group's lock */
	char volume[REPAGENT_NAME_MAX + 1];
	char who[64];				/* guarded by the group's lock */
	uint64_t since;
	uint64_t id;
	uint64_t incarnation, seq, time;
	uint64_t size;
	int base;
	struct segment **segment;
	size_t nr_segments;
	struct extents extents;

	pthread_mutex_t lock;
	uint64_t kept;
	const struct segment *unpacked;
	uint32_t frame;
	uint8_t *payload, *scratch;
};

/**
 * view_oldest - the earliest point that a view has
 * @g: the group, locked
 *
 * Return: its id, UINT64_MAX if there is no view.
 */
uint64_t view_oldest(const struct group *g)
{
	uint64_t oldest = UINT64_MAX;
	const struct hub_view *v;

	LIST_FOREACH(v, &g->views, link)
		if (v->id < oldest)
			oldest = v->id;
	return oldest;
}

static bool hold_segments(struct hub_view *v)
{
	const struct group *g = v->group;
	size_t i;

	v->segment = calloc(g->nr_segments, sizeof(struct segment *));
	if (!v->segment)
		return false;
	for (i = 0; i < g->nr_segments && (!i || g->segment[i]->first_id < v->id); i++) {
		segment_get(g->segment[i]);
		v->segment[v->nr_segments++] = g->segment[i];
	}
	return true;
}

/* Which ranges were last written by which record? */
static bool map_extents(struct hub_view *v, unsigned int slot)
{
	uint64_t sectors = v->size / 512, id, last, end;
	const struct log_record *rec;
	const struct segment *s;
	size_t i;

	for (i = 0; i < v->nr_segments; i++) {
		s = v->segment[i];
		last = i + 1 < v->nr_segments ? v->segment[i + 1]->first_id : v->id;
		for (id = s->first_id; id < last; id++) {
			rec = &s->record[id - s->first_id];
			if (rec->slot != slot || rec->sector >= sectors)
				continue;
			switch (rec->type) {
			case REPAGENT_REC_WRITE:
			case REPAGENT_REC_RESYNC:
			case REPAGENT_REC_ZEROES:
			case REPAGENT_REC_DISCARD:
				end = rec->sector + rec->nr_sectors;
				if (!extents_put(&v->extents, rec->sector, end < sectors ? end : sectors, id))
					return false;
				break;
			default:
				break;
			}
		}
	}
	return true;
}

static void view_free(struct hub_view *v)
{
	size_t i;

	for (i = 0; i < v->nr_segments; i++)
		segment_put(v->segment[i]);
	free(v->segment);
	extents_free(&v->extents);
	if (v->base >= 0)
		close(v->base);
	pthread_mutex_destroy(&v->lock);
	free(v->payload);
	free(v->scratch);
	free(v);
}

/* What the log says of the volume at the point. The group is locked. Return its slot, or -1. */
static int choose(struct hub_view *v, const char *point, char *reason)
{
	struct group *g = v->group;
	struct replay *r;
	const char *why;
	unsigned int i;
	int slot = -1;

	if (!point_find(g, point, &v->id, reason))
		return -1;
	r = malloc(sizeof(*r));
	if (!r || !hubgroup_state(g, v->id, r)) {
		snprintf(reason, HUB_REASON_MAX, r ? "the point is gone" : "out of memory");
		free(r);
		return -1;
	}
	point_position(g, v->id, &v->incarnation, &v->seq, &v->time);
	for (i = 0; i < r->nr && strcmp(r->volume[i].name, v->volume); i++)
		;
	why = i < r->nr ? replay_state(&r->volume[i]) : NULL;
	if (i == r->nr) {
		snprintf(reason, HUB_REASON_MAX, "group %s has no volume %s", g->name, v->volume);
	} else if (why) {
		snprintf(reason, HUB_REASON_MAX, "%s/%s at %016" PRIx64 ":%" PRIu64 " %s", g->name, v->volume,
			 v->incarnation, v->seq, why);
	} else {
		v->size = r->volume[i].sectors * 512;
		slot = (int)i;
	}
	free(r);
	return slot;
}

/**
 * hub_view_open - see a volume as it was
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume
 * @point: see point_find()
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: the view, or NULL.
 */
struct hub_view *hub_view_open(struct hub *hub, const char *group, const char *volume,
			       const char *point, char *reason)
{
	struct hub_view *v = calloc(1, sizeof(*v));
	struct timespec now;
	int slot;

	if (!v) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		return NULL;
	}
	v->base = -1;
	v->kept = UINT64_MAX;
	pthread_mutex_init(&v->lock, NULL);
	snprintf(v->volume, sizeof(v->volume), "%s", volume);
	v->group = hub_find(hub, group);
	v->payload = malloc(REPAGENT_MAX_RECORD);
	v->scratch = malloc(2 * (size_t)FRAME_MAX);
	if (!v->group || !v->payload || !v->scratch) {
		snprintf(reason, HUB_REASON_MAX, v->group ? "out of memory" : "there is no group %s here", group);
		view_free(v);
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	v->since = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	pthread_mutex_lock(&v->group->lock);
	if (v->group->forgotten) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		slot = -1;
	} else {
		slot = choose(v, point, reason);
	}
	if (slot >= 0 && !hold_segments(v)) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		slot = -1;
	}
	if (slot >= 0) {
		v->base = openat(v->group->base, volume, O_RDONLY | O_CLOEXEC);
		if (v->base < 0 && errno != ENOENT) {
			snprintf(reason, HUB_REASON_MAX, "the base of %s/%s: %s", group, volume, strerror(errno));
			slot = -1;
		}
	}
	if (slot >= 0) {
		LIST_INSERT_HEAD(&v->group->views, v, link);
		v->group->nr_views++;
	}
	pthread_mutex_unlock(&v->group->lock);
	if (slot < 0) {
		view_free(v);
		return NULL;
	}
	if (!map_extents(v, (unsigned int)slot)) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		hub_view_close(v);
		return NULL;
	}
	return v;
}

/**
 * hub_view_for - say who has opened a view
 * @v: the view
 * @who: a few words
 */
void hub_view_for(struct hub_view *v, const char *who)
{
	pthread_mutex_lock(&v->group->lock);
	snprintf(v->who, sizeof(v->who), "%s", who);
	pthread_mutex_unlock(&v->group->lock);
}

/* Views of a group, copied. */
static struct hub_view_info *list_views(struct group *g, unsigned int *nr)
{
	struct hub_view_info *list;
	const struct hub_view *v;

	*nr = 0;
	pthread_mutex_lock(&g->lock);
	list = calloc(g->nr_views + 1, sizeof(*list));
	LIST_FOREACH(v, &g->views, link) {
		if (!list)
			break;
		list[*nr] = (struct hub_view_info){ .group = g->name, .since = v->since, .incarnation = v->incarnation,
						    .seq = v->seq, .time = v->time };
		memcpy(list[*nr].volume, v->volume, sizeof(v->volume));
		memcpy(list[*nr].who, v->who, sizeof(v->who));
		++*nr;
	}
	pthread_mutex_unlock(&g->lock);
	return list;
}

/**
 * hub_views - the views that are open
 * @hub: the hub
 * @each: called for each, with no lock held
 * @data: for @each
 */
void hub_views(struct hub *hub, void (*each)(void *data, const struct hub_view_info *v), void *data)
{
	struct hub_view_info *list;
	struct group *g;
	unsigned int nr, i;

	for (g = hub_next(hub, NULL); g; g = hub_next(hub, g)) {
		list = list_views(g, &nr);
		for (i = 0; i < nr; i++)
			each(data, &list[i]);
		free(list);
	}
}

/**
 * hub_view_close - no more of it
 * @v: the view
 */
void hub_view_close(struct hub_view *v)
{
	pthread_mutex_lock(&v->group->lock);
	LIST_REMOVE(v, link);
	v->group->nr_views--;
	pthread_mutex_unlock(&v->group->lock);
	view_free(v);
}

/**
 * hub_view_size - bytes of the volume, then
 * @v: the view
 */
uint64_t hub_view_size(const struct hub_view *v)
{
	return v->size;
}

/**
 * hub_view_position - which point it is
 * @v: the view
 * @incarnation: out
 * @seq: out: of the last record in it
 * @time: out: when that was; 0: not known
 */
void hub_view_position(const struct hub_view *v, uint64_t *incarnation, uint64_t *seq, uint64_t *time)
{
	*incarnation = v->incarnation;
	*seq = v->seq;
	*time = v->time;
}

static const struct segment *segment_of(const struct hub_view *v, uint64_t id)
{
	size_t low = 0, high = v->nr_segments, mid;

	while (high - low > 1) {
		mid = low + (high - low) / 2;
		if (v->segment[mid]->first_id <= id)
			low = mid;
		else
			high = mid;
	}
	return v->segment[low];
}

static bool has_data(const struct log_record *rec)
{
	return rec->type == REPAGENT_REC_WRITE || rec->type == REPAGENT_REC_RESYNC;
}

static int read_base(const struct hub_view *v, uint64_t offset, uint8_t *buf, size_t len, char *reason)
{
	ssize_t n;

	while (len) {
		n = v->base < 0 ? 0 : pread(v->base, buf, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			snprintf(reason, HUB_REASON_MAX, "the base of %s/%s: %s", v->group->name, v->volume,
				 strerror(errno));
			return EIO;
		}
		if (!n) {	/* it ends where nothing was written behind */
			memset(buf, 0, len);
			break;
		}
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * Part of a record, for which all of it is read, since only all of it can be checked. It is kept, and so is
 * a frame that was unpacked, for what is read next is often the next part, or the next record.
 */
static int read_part(struct hub_view *v, const struct segment *s, uint64_t id, uint64_t skip, uint8_t *buf, size_t len,
		     char *error)
{
	const struct log_record *rec = &s->record[id - s->first_id];
	const uint8_t *payload = v->payload;
	int err = 0;

	pthread_mutex_lock(&v->lock);
	if (s->frame[rec->frame].flags & FRAME_ZSTD) {
		if (v->unpacked != s || v->frame != rec->frame) {
			v->unpacked = NULL;
			err = segment_unpack(s, rec->frame, v->scratch, error);
			if (!err) {
				v->unpacked = s;
				v->frame = rec->frame;
			}
		}
		payload = segment_payload(s, rec, v->scratch + FRAME_MAX);
		if (!err)
			err = segment_check(s, rec, payload, error);
	} else if (v->kept != id) {
		v->kept = UINT64_MAX;
		err = segment_read(s, rec, v->payload, NULL, error);
		if (!err)
			v->kept = id;
	}
	if (!err)
		memcpy(buf, payload + skip, len);
	pthread_mutex_unlock(&v->lock);
	return err;
}

/* @len bytes that begin @skip into a record. */
static int read_record(struct hub_view *v, uint64_t id, uint64_t skip, uint8_t *buf, size_t len, char *reason)
{
	const struct segment *s = segment_of(v, id);
	const struct log_record *rec = &s->record[id - s->first_id];
	char error[SEGMENT_ERROR_MAX];
	int err;

	if (!has_data(rec)) {
		memset(buf, 0, len);
		return 0;
	}
	if (len == rec->len && !(s->frame[rec->frame].flags & FRAME_ZSTD))
		err = segment_read(s, rec, buf, NULL, error);
	else
		err = read_part(v, s, id, skip, buf, len, error);
	if (err) {
		hub_say(v->group->hub, LOG_ERR, "group %s: volume %s: %s", v->group->name, v->volume, error);
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return EIO;
	}
	return 0;
}

/**
 * hub_view_read - read
 * @v: the view
 * @offset: in bytes
 * @buf: filled
 * @len: within the view
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: any thread, several at a time; waits for the disk.
 * Return: 0 or a positive errno. What is damaged is never given.
 */
int hub_view_read(struct hub_view *v, uint64_t offset, void *buf, size_t len, char *reason)
{
	uint64_t end = offset + len, stop;
	const struct extent *e;
	uint8_t *p = buf;
	const struct segment *s;
	int err = 0;

	while (!err && offset < end) {
		e = extents_find(&v->extents, offset / 512);
		stop = !e || e->start * 512 > end ? end : e->start * 512;
		if (stop > offset) {
			err = read_base(v, offset, p, stop - offset, reason);
		} else {
			stop = e->end * 512 < end ? e->end * 512 : end;
			s = segment_of(v, e->id);
			err = read_record(v, e->id, offset - s->record[e->id - s->first_id].sector * 512, p,
					  stop - offset, reason);
		}
		p += stop - offset;
		offset = stop;
	}
	return err;
}

/**
 * hub_view_next - is there data, or nothing but zeroes?
 * @v: the view
 * @offset: from there on
 * @end: up to there at most
 * @next: out: as far as that is so
 *
 * Return: whether it may be data.
 */
bool hub_view_next(struct hub_view *v, uint64_t offset, uint64_t end, uint64_t *next)
{
	const struct extent *e = extents_find(&v->extents, offset / 512);
	const struct segment *s;
	off_t data, hole;

	if (e && e->start * 512 <= offset) {
		*next = e->end * 512 < end ? e->end * 512 : end;
		s = segment_of(v, e->id);
		return has_data(&s->record[e->id - s->first_id]);
	}
	*next = !e || e->start * 512 > end ? end : e->start * 512;
	if (v->base < 0)
		return false;
	data = lseek(v->base, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return errno != ENXIO;
	if ((uint64_t)data > offset) {
		if ((uint64_t)data < *next)
			*next = (uint64_t)data;
		return false;
	}
	hole = lseek(v->base, (off_t)offset, SEEK_HOLE);
	if (hole > (off_t)offset && (uint64_t)hole < *next)
		*next = (uint64_t)hole;
	return true;
}
