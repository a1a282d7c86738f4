// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The sums of a volume, for an agent that asks what is here (Documentation/sums.md).
 *
 * They are those of a view, which goes on to a later point when the sums are taken
 * anew, for to open another one each time would cost a walk over the journal.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/bytes.h"
#include "../common/sums.h"
#include "view.h"

#define UNIT	(1u << 20)	/* bytes that are read at a time: records are as large, and checked as a whole */
#define RENEW	UINT64_C(300000000000)	/* ns after which a view lets go of the segments that were folded meanwhile */

/*
 * struct hub_sums
 * @peer:	who asks
 * @size:	of the export
 * @lock:	held for writing while @view and @header change, and for reading while they are used
 * @view:	NULL: the sums were not taken yet
 */
struct hub_sums {
	struct hub *hub;
	struct group *group;
	char volume[REPAGENT_NAME_MAX + 1];
	char peer[64];
	uint64_t size;
	pthread_rwlock_t lock;
	struct hub_view *view;
	uint8_t header[SUMS_HEADER];
};

/**
 * hub_sums_open - somebody wants sums
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume
 * @peer: who
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: the sums, or NULL.
 */
struct hub_sums *hub_sums_open(struct hub *hub, const char *group, const char *volume, const char *peer, char *reason)
{
	struct group *g = hub_find(hub, group);
	struct hub_sums *s;
	unsigned int i;

	if (!g) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		return NULL;
	}
	s->hub = hub;
	s->group = g;
	snprintf(s->volume, sizeof(s->volume), "%s", volume);
	snprintf(s->peer, sizeof(s->peer), "sums: %.50s", peer);
	pthread_mutex_lock(&g->lock);
	for (i = 0; i < g->now.nr && strcmp(g->now.volume[i].name, volume); i++)
		;
	if (i < g->now.nr)
		s->size = SUMS_HEADER + SUM_SIZE * sums_blocks(g->now.volume[i].sectors * 512);
	pthread_mutex_unlock(&g->lock);
	if (s->size) {
		pthread_rwlock_init(&s->lock, NULL);
		return s;
	}
	snprintf(reason, HUB_REASON_MAX, "group %s has no volume %s", group, volume);
	free(s);
	return NULL;
}

/**
 * hub_sums_size - bytes of the export
 * @s: the sums
 */
uint64_t hub_sums_size(const struct hub_sums *s)
{
	return s->size;
}

/**
 * hub_sums_close - no more of them
 * @s: the sums
 */
void hub_sums_close(struct hub_sums *s)
{
	if (s->view)
		hub_view_close(s->view);
	pthread_rwlock_destroy(&s->lock);
	free(s);
}

/* The sums are of this point from now on. The lock is held for writing. */
static int take(struct hub_sums *s, const char *point, char *reason)
{
	struct sums_header h = { 0 };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (s->view && ((uint64_t)now.tv_sec * 1000000000 - s->view->since > RENEW ||
			!view_advance(s->view, point, reason))) {
		hub_view_close(s->view);
		s->view = NULL;
	}
	if (!s->view)
		s->view = view_open(s->group, s->volume, point, true, reason);
	if (!s->view)
		return EINVAL;
	hub_view_for(s->view, s->peer);
	hub_identity(s->hub, h.hub);
	memcpy(h.group, s->group->uuid, sizeof(h.group));
	memcpy(h.volume, s->volume, sizeof(h.volume));
	h.incarnation = s->view->through_incarnation;
	h.seq = s->view->through_seq;
	h.bytes = hub_view_size(s->view);
	sums_header_encode(&h, s->header);
	return 0;
}

/**
 * hub_sums_want - a position is asked for
 * @s: the sums, which are taken anew there
 * @offset: in the export
 * @buf: what was written
 * @len: of that
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk.
 * Return: 0 or a positive errno.
 */
int hub_sums_want(struct hub_sums *s, uint64_t offset, const void *buf, size_t len, char *reason)
{
	char error[FRAME_ERROR_MAX], point[48];
	uint64_t incarnation, seq;
	int err;

	if (offset || len != SUMS_WANT) {
		snprintf(reason, HUB_REASON_MAX, "write of %zu bytes at %" PRIu64 ": expected %u at 0, which position is asked for",
			 len, offset, SUMS_WANT);
		return EINVAL;
	}
	if (!sums_want_decode(&incarnation, &seq, buf, error)) {
		snprintf(reason, HUB_REASON_MAX, "%.150s", error);
		return EINVAL;
	}
	snprintf(point, sizeof(point), "%016" PRIx64 ":%" PRIu64, incarnation, seq);
	pthread_rwlock_wrlock(&s->lock);
	err = take(s, point, reason);
	pthread_rwlock_unlock(&s->lock);
	return err;
}

/* The sums of blocks of one unit. */
static int compute(struct hub_sums *s, uint64_t first, unsigned int nr, uint8_t *sums, uint8_t *buf, char *reason)
{
	uint64_t at = first * SUMS_BLOCK, size = hub_view_size(s->view), end = at + (uint64_t)nr * SUMS_BLOCK, next;
	uint64_t len;
	int err;

	memset(sums, 0, (size_t)nr * SUM_SIZE);
	if (end > size)
		end = size;
	if (at >= end || (!hub_view_next(s->view, at, end, &next) && next == end))
		return 0;
	err = hub_view_read(s->view, at, buf, end - at, reason);
	for (; !err && at < end; at += len, buf += len, sums += SUM_SIZE) {
		len = end - at < SUMS_BLOCK ? end - at : SUMS_BLOCK;
		if (!sums_of(buf, len, sums)) {
			snprintf(reason, HUB_REASON_MAX, "a sum cannot be computed");
			err = EIO;
		}
	}
	return err;
}

/* Sums that were taken; @at is among their bytes. */
static int read_sums(struct hub_sums *s, uint64_t at, uint8_t *p, size_t len, char *reason)
{
	uint8_t sums[UNIT / SUMS_BLOCK * SUM_SIZE], *buf = malloc(UNIT);
	uint64_t start;
	size_t n;
	int err = buf ? 0 : ENOMEM;

	if (err)
		snprintf(reason, HUB_REASON_MAX, "out of memory");
	for (; !err && len; at += n, p += n, len -= n) {
		start = at - at % sizeof(sums);
		n = sizeof(sums) - (size_t)(at - start);
		if (n > len)
			n = len;
		err = compute(s, start / SUM_SIZE, UNIT / SUMS_BLOCK, sums, buf, reason);
		memcpy(p, sums + (at - start), n);
	}
	free(buf);
	return err;
}

/**
 * hub_sums_read - read the header, or sums
 * @s: the sums; from 0 on they are taken anew
 * @offset: in the export
 * @buf: filled
 * @len: of that, within the export
 * @hole: out: it is nothing but zeroes
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk. Several at a time.
 * Return: 0 or a positive errno.
 */
int hub_sums_read(struct hub_sums *s, uint64_t offset, void *buf, size_t len, bool *hole, char *reason)
{
	uint8_t *p = buf;
	size_t n = 0;
	int err = 0;

	if (!offset) {
		pthread_rwlock_wrlock(&s->lock);
		err = take(s, "latest", reason);
		pthread_rwlock_unlock(&s->lock);
	}
	pthread_rwlock_rdlock(&s->lock);
	if (!err && !s->view) {
		snprintf(reason, HUB_REASON_MAX, "no sums were taken: expected a read from 0 on first");
		err = EINVAL;
	}
	if (!err && offset < SUMS_HEADER) {
		n = SUMS_HEADER - offset < len ? SUMS_HEADER - offset : len;
		memcpy(p, s->header + offset, n);
	}
	if (!err && n < len)
		err = read_sums(s, offset + n - SUMS_HEADER, p + n, len - n, reason);
	pthread_rwlock_unlock(&s->lock);
	*hole = !err && bytes_zero(buf, len);
	return err;
}
