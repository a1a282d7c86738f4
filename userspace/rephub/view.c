// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Views: a volume as it was at a point.
 *
 * A view has its own map of extents, and its own hold on the segments that they
 * are in; so it needs no lock, and neither new frames nor folding change it; only
 * view_advance() does.  What no extent covers is in the base.  Folding a segment writes to the base only what
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

#include "view.h"

/* Where the last segment that a view holds is among the group's; their number: it is gone. The group is locked. */
static size_t place_of_last(const struct hub_view *v)
{
	const struct group *g = v->group;
	size_t i = g->nr_segments;

	while (i-- > 0)
		if (g->segment[i] == v->segment[v->nr_segments - 1])
			return i;
	return g->nr_segments;
}

/**
 * views_keep - are the points of all views still there when the oldest records are in the base?
 * @g: the group, locked
 * @gone: see lineage_keeps()
 * @to: see lineage_keeps()
 */
bool views_keep(const struct group *g, size_t gone, uint64_t to)
{
	const struct hub_view *v;

	LIST_FOREACH(v, &g->views, link)
		/* What was rolled back is none of the group's any more, and who knows to where in the base its view looks. */
		/* cppcheck-suppress uninitvar ; the macro sets it */
		if (place_of_last(v) == g->nr_segments || !lineage_keeps(g->segment, g->nr_segments, v->id, gone, to))
			return false;
	return true;
}

/* Those of the group, from one on, that a point needs. The group is locked. */
static bool hold_segments(struct hub_view *v, size_t from, uint64_t id)
{
	const struct group *g = v->group;
	struct segment **more;
	size_t i;

	more = realloc(v->segment, (v->nr_segments + g->nr_segments - from + 1) * sizeof(struct segment *));
	if (!more)
		return false;
	v->segment = more;
	for (i = from; i < g->nr_segments && (!v->nr_segments || g->segment[i]->first_id < id); i++) {
		segment_get(g->segment[i]);
		v->segment[v->nr_segments++] = g->segment[i];
	}
	return true;
}

/* Those of the records from one up to before another. */
static bool map_range(struct hub_view *v, uint64_t from, uint64_t to)
{
	uint64_t sectors = v->size / 512, id, last, end;
	size_t i = segment_index(v->segment, v->nr_segments, from + 1);
	const struct log_record *rec;
	const struct segment *s;

	for (; i < v->nr_segments && v->segment[i]->first_id < to; i++) {
		s = v->segment[i];
		last = i + 1 < v->nr_segments && v->segment[i + 1]->first_id < to ? v->segment[i + 1]->first_id : to;
		for (id = s->first_id > from ? s->first_id : from; id < last; id++) {
			rec = &s->record[id - s->first_id];
			if (rec->slot != v->slot || rec->sector >= sectors)
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

/* Which ranges were last written by which record? */
static bool map_extents(struct hub_view *v)
{
	uint64_t (*range)[2] = calloc(v->nr_segments, sizeof(*range));
	struct lineage l;
	size_t nr = 0;
	bool ok = range;

	lineage_begin(&l, v->segment, v->nr_segments, v->id);
	while (ok && nr < v->nr_segments && lineage_next(&l, &range[nr][0], &range[nr][1]))
		nr++;
	while (ok && nr--)
		ok = map_range(v, range[nr][0], range[nr][1]);
	free(range);
	return ok;
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
	free(v);
}

/* What the log says of the volume at the point. The group is locked. Return whether it can be seen. */
static bool choose(struct hub_view *v, const char *point, char *reason)
{
	struct group *g = v->group;
	bool found = false, latest;
	struct replay *r;
	const char *why;
	unsigned int i;

	if (!point_find(g, point, &v->id, reason))
		return false;
	r = malloc(sizeof(*r));
	if (!r || !hubgroup_state(g, v->id, r)) {
		snprintf(reason, HUB_REASON_MAX, r ? "the point is gone" : "out of memory");
		free(r);
		return false;
	}
	point_position(g, v->id, &v->incarnation, &v->seq, &v->time);
	latest = v->id == hubgroup_latest(g);
	v->through_incarnation = latest ? g->durable.incarnation : v->incarnation;
	v->through_seq = latest ? g->durable.seq : v->seq;
	for (i = 0; i < r->nr && strcmp(r->volume[i].name, v->volume); i++)
		;
	why = i < r->nr ? replay_state(&r->volume[i]) : NULL;
	if (i == r->nr) {
		snprintf(reason, HUB_REASON_MAX, "group %s has no volume %s", g->name, v->volume);
	} else if (why && !v->torn) {
		snprintf(reason, HUB_REASON_MAX, "%s/%s at %016" PRIx64 ":%" PRIu64 " %s", g->name, v->volume,
			 v->incarnation, v->seq, why);
	} else {
		v->size = r->volume[i].sectors * 512;
		v->slot = i;
		found = true;
	}
	free(r);
	return found;
}

/**
 * view_open - see a volume as it was
 * @g: the group
 * @volume: name of the volume
 * @point: see point_find()
 * @torn: also where it is not to be used
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: the view, or NULL.
 */
struct hub_view *view_open(struct group *g, const char *volume, const char *point, bool torn, char *reason)
{
	struct hub_view *v = calloc(1, sizeof(*v));
	struct timespec now;
	bool ok;

	if (!v) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		return NULL;
	}
	v->base = -1;
	v->group = g;
	v->torn = torn;
	snprintf(v->volume, sizeof(v->volume), "%s", volume);
	clock_gettime(CLOCK_REALTIME, &now);
	v->since = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	pthread_mutex_lock(&g->lock);
	ok = !g->forgotten;
	if (!ok)
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", g->name);
	ok = ok && choose(v, point, reason);
	if (ok && !hold_segments(v, 0, v->id)) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		ok = false;
	}
	if (ok) {
		v->base = openat(g->base, volume, O_RDONLY | O_CLOEXEC);
		if (v->base < 0 && errno != ENOENT) {
			snprintf(reason, HUB_REASON_MAX, "the base of %s/%s: %s", g->name, volume, strerror(errno));
			ok = false;
		}
	}
	if (ok) {
		LIST_INSERT_HEAD(&g->views, v, link);
		g->nr_views++;
	}
	pthread_mutex_unlock(&g->lock);
	if (!ok) {
		view_free(v);
		return NULL;
	}
	if (!map_extents(v)) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		hub_view_close(v);
		return NULL;
	}
	return v;
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
	struct group *g = hub_find(hub, group);

	if (!g)
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
	return g ? view_open(g, volume, point, false, reason) : NULL;
}

/**
 * view_advance - see the volume as it was at a later point
 * @v: the view; nobody reads it meanwhile
 * @point: see point_find()
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * What came since is added to the map. That is possible if nothing but that happened: the point is not an earlier
 * one, the volume has its size, and the log neither went on from an earlier point nor was it cut.
 *
 * Return: false if not, or if there is no such point; then the view is to be closed.
 */
bool view_advance(struct hub_view *v, const char *point, char *reason)
{
	struct hub_view to = { .group = v->group, .torn = v->torn };
	struct group *g = v->group;
	uint64_t from, end, before = v->id;
	struct lineage l;
	size_t i;
	bool ok;

	memcpy(to.volume, v->volume, sizeof(to.volume));
	snprintf(reason, HUB_REASON_MAX, "the log did not simply go on");
	pthread_mutex_lock(&g->lock);
	ok = !g->forgotten && choose(&to, point, reason) && to.id >= v->id && to.size == v->size;
	i = ok ? place_of_last(v) : 0;
	if (ok) {
		lineage_begin(&l, g->segment, g->nr_segments, to.id);
		/* Where a branch begins, its id is that of what was abandoned there, which is what the view has. */
		ok = i < g->nr_segments && (to.id == v->id || (lineage_next(&l, &from, &end) &&
							      (from < v->id || (from == v->id && !l.branch)))) &&
		     hold_segments(v, i + 1, to.id);
	}
	if (ok) {
		v->id = to.id;
		v->incarnation = to.incarnation;
		v->seq = to.seq;
		v->time = to.time;
		v->through_incarnation = to.through_incarnation;
		v->through_seq = to.through_seq;
	}
	pthread_mutex_unlock(&g->lock);
	return ok && map_range(v, before, v->id);
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

/**
 * view_segment - where a record is
 * @v: the view
 * @id: of the record
 */
const struct segment *view_segment(const struct hub_view *v, uint64_t id)
{
	return v->segment[segment_index(v->segment, v->nr_segments, id + 1)];
}

/**
 * view_has_data - or are there zeroes where it was written?
 * @rec: a record that an extent leads to
 */
bool view_has_data(const struct log_record *rec)
{
	return rec->type == REPAGENT_REC_WRITE || rec->type == REPAGENT_REC_RESYNC;
}

/**
 * view_read_base - read where no extent is
 * @v: the view
 * @offset: in bytes
 * @buf: filled
 * @len: of that
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0 or a positive errno.
 */
int view_read_base(const struct hub_view *v, uint64_t offset, uint8_t *buf, size_t len, char *reason)
{
	ssize_t n = v->base < 0 ? 0 : pread_all(v->base, buf, len, offset);
	int err = errno;

	if (n < 0) {
		snprintf(reason, HUB_REASON_MAX, "the base of %s/%s: %s", v->group->name, v->volume, strerror(err));
		return read_error(err);
	}
	memset(buf + n, 0, len - (size_t)n);	/* it ends where nothing was written behind */
	return 0;
}

/**
 * view_read_record - read where an extent leads to a record
 * @v: the view
 * @s: view_segment()
 * @id: of the record
 * @skip: bytes of it that come before
 * @buf: filled
 * @len: of that, within the record
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0 or a positive errno.
 */
int view_read_record(struct hub_view *v, const struct segment *s, uint64_t id, uint64_t skip, uint8_t *buf,
		     size_t len, char *reason)
{
	const struct log_record *rec = &s->record[id - s->first_id];
	char error[SEGMENT_ERROR_MAX];
	int err;

	if (!view_has_data(rec)) {
		memset(buf, 0, len);
		return 0;
	}
	/* What is wanted whole, and can be had so, would only be copied there. */
	if (len == rec->len && !(s->frame[rec->frame].flags & FRAME_ZSTD))
		err = segment_read(s, rec, buf, NULL, error);
	else
		err = cache_read(v->group->hub->cache, s, rec, skip, buf, len, error);
	if (err) {
		hub_say(v->group->hub, LOG_ERR, "group %s: volume %s: %s", v->group->name, v->volume, error);
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return read_error(err);
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
 * Return: 0 or a positive errno: EIO if it is damaged, or the disk says so. What is damaged is never given.
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
			err = view_read_base(v, offset, p, stop - offset, reason);
		} else {
			stop = e->end * 512 < end ? e->end * 512 : end;
			s = view_segment(v, e->id);
			err = view_read_record(v, s, e->id, offset - s->record[e->id - s->first_id].sector * 512, p,
					       stop - offset, reason);
		}
		p += stop - offset;
		offset = stop;
	}
	return err;
}

/**
 * view_next_base - is there data, or nothing but zeroes, where no extent is?
 * @v: the view
 * @offset: from there on
 * @end: up to there at most
 * @next: out: as far as that is so
 *
 * Return: whether it may be data.
 */
bool view_next_base(const struct hub_view *v, uint64_t offset, uint64_t end, uint64_t *next)
{
	off_t data, hole;

	*next = end;
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

	if (!e || e->start * 512 > offset)
		return view_next_base(v, offset, !e || e->start * 512 > end ? end : e->start * 512, next);
	*next = e->end * 512 < end ? e->end * 512 : end;
	s = view_segment(v, e->id);
	return view_has_data(&s->record[e->id - s->first_id]);
}
