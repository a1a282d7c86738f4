// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What was read of segments, and is what was written.
 *
 * A record can be checked only as a whole, and one of a compressed frame be had only with all of the frame; but those
 * who read want a few KiB of it, and the next few then. So whole records, or the bodies of frames, of whatever group,
 * stay here once they were checked. What is counted in a segment never changes, and neither does what is here; what has
 * become of the segment's file is seen when that is read the next time.
 *
 * The memory is a ring: what comes goes over what has been there longest. So there is never more of it, and never any
 * between two pieces that is too small for the next one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>

#include "cache.h"

#define BUCKETS		4096u
#define PIECE_ALIGN	64u

/*
 * struct piece - a record's payload, or a frame's body. It lies in the ring.
 * @segment, @index, @frame: which: the segment's serial, record or frame of it
 * @room:	bytes of the ring
 * @users:	of its data, for whom it has to stay
 * @ready:	else the one who uses it is still reading it
 */
struct piece {
	LIST_ENTRY(piece) bucket;
	TAILQ_ENTRY(piece) place;
	uint64_t segment;
	uint32_t index;
	bool frame, ready;
	unsigned int users;
	size_t room;
	uint8_t data[];
};

/*
 * struct cache
 * @lock:	guards all of it, but not the data of a piece: that is written by the one user that it has then, and does not
 *		change once it is ready. Held for moments, and nothing else is taken in it
 * @done:	a piece is ready, or could not be read
 * @pieces:	in the order in which they lie in the ring
 * @at:		where the next one goes
 * @next:	the first piece there or behind; NULL: there is none up to the ring's end
 */
struct cache {
	pthread_mutex_t lock;
	pthread_cond_t done;
	LIST_HEAD(bucket, piece) bucket[BUCKETS];
	TAILQ_HEAD(pieces, piece) pieces;
	uint8_t *ring;
	size_t bytes, at;
	struct piece *next;
};

/**
 * cache_new - a cache with nothing in it
 * @bytes: of the ring; what has no room there is read each time
 *
 * Return: it, or NULL.
 */
struct cache *cache_new(size_t bytes)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->bytes = bytes & ~(size_t)(PIECE_ALIGN - 1);
	c->ring = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->ring == MAP_FAILED) {
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->done, NULL);
	TAILQ_INIT(&c->pieces);
	return c;
}

/**
 * cache_free - no more of it; nobody reads
 * @c: the cache; NULL: nothing happens
 */
void cache_free(struct cache *c)
{
	if (!c)
		return;
	munmap(c->ring, c->bytes + 1);
	pthread_cond_destroy(&c->done);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void drop(struct cache *c, struct piece *p)
{
	if (c->next == p)
		c->next = TAILQ_NEXT(p, place);
	TAILQ_REMOVE(&c->pieces, p, place);
	LIST_REMOVE(p, bucket);
}

/* Room for a piece, where nobody uses what lies there. NULL: there is none. The cache is locked. */
static struct piece *make_room(struct cache *c, size_t room)
{
	bool turned = false;
	struct piece *p;

	for (;;) {
		p = c->next;
		if (room > c->bytes - c->at) {
			if (turned)
				return NULL;
			turned = true;
			c->at = 0;
			c->next = TAILQ_FIRST(&c->pieces);
		} else if (!p || (uint8_t *)p >= c->ring + c->at + room) {
			break;
		} else if (p->users) {
			c->at = (size_t)((uint8_t *)p - c->ring) + p->room;
			c->next = TAILQ_NEXT(p, place);
		} else {
			drop(c, p);
		}
	}
	p = (struct piece *)(void *)(c->ring + c->at);
	if (c->next)
		TAILQ_INSERT_BEFORE(c->next, p, place);
	else
		TAILQ_INSERT_TAIL(&c->pieces, p, place);
	c->at += room;
	return p;
}

static struct piece *find(const struct bucket *b, uint64_t segment, bool frame, uint32_t index)
{
	struct piece *p;

	LIST_FOREACH(p, b, bucket)
		if (p->segment == segment && p->index == index && p->frame == frame)
			return p;
	return NULL;
}

/*
 * The piece that is wanted, with one more user, or a new one, not ready, which the caller has to fill. NULL: there is no
 * room. The cache is locked.
 */
static struct piece *get(struct cache *c, uint64_t segment, bool frame, uint32_t index, size_t len)
{
	struct bucket *b = &c->bucket[(segment * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0xff51afd7ed558ccd)) >> 32 &
				      (BUCKETS - 1)];
	size_t room = (sizeof(struct piece) + len + PIECE_ALIGN - 1) & ~(size_t)(PIECE_ALIGN - 1);
	struct piece *p;

	while ((p = find(b, segment, frame, index)) && !p->ready)
		pthread_cond_wait(&c->done, &c->lock);
	if (p) {
		p->users++;
		return p;
	}
	p = make_room(c, room);
	if (p) {
		p->segment = segment;
		p->index = index;
		p->frame = frame;
		p->ready = false;
		p->users = 1;
		p->room = room;
		LIST_INSERT_HEAD(b, p, bucket);
	}
	return p;
}

/* All of a record, or of a frame, whose records are all checked here. Return 0 or a positive errno. */
static int read_whole(const struct segment *s, const struct log_record *rec, bool frame, uint8_t *data, char *error)
{
	const struct log_frame *f = &s->frame[rec->frame];
	uint32_t i;
	int err;

	if (!frame)
		return segment_read(s, rec, data, NULL, error);
	err = segment_unpack(s, rec->frame, data, error);
	for (i = f->record; !err && i < f->record + f->nr_records; i++)
		if (s->record[i].len)
			err = segment_check(s, &s->record[i], segment_payload(s, &s->record[i], data), error);
	return err;
}

/**
 * cache_read - get a part of a record's payload, and be sure of it
 * @c: the cache
 * @s: the record's segment
 * @rec: the record, one that counts there
 * @skip: bytes of it that come before
 * @buf: filled
 * @len: of that, within the record
 * @error: SEGMENT_ERROR_MAX bytes for what is wrong
 *
 * Context: any thread, several at a time; waits for the disk, or for a thread that is just reading the same.
 * Return: 0 or a positive errno; EBADMSG: it is not what was written.
 */
int cache_read(struct cache *c, const struct segment *s, const struct log_record *rec, uint64_t skip, void *buf,
	       size_t len, char *error)
{
	const struct log_frame *f = &s->frame[rec->frame];
	bool frame = f->flags & FRAME_ZSTD, ready;
	size_t whole = frame ? f->raw : rec->len;
	struct piece *p;
	uint8_t *data;
	int err = 0;

	pthread_mutex_lock(&c->lock);
	p = get(c, s->serial, frame, frame ? rec->frame : (uint32_t)(rec - s->record), whole);
	ready = p && p->ready;
	pthread_mutex_unlock(&c->lock);
	data = p ? p->data : malloc(whole);
	if (!data) {
		snprintf(error, SEGMENT_ERROR_MAX, "out of memory");
		return ENOMEM;
	}
	if (!ready)
		err = read_whole(s, rec, frame, data, error);
	if (!err)
		memcpy(buf, data + (frame ? rec->at : 0) + skip, len);
	if (!p) {
		free(data);
		return err;
	}
	pthread_mutex_lock(&c->lock);
	p->users--;
	p->ready = !err;
	if (err)
		drop(c, p);
	if (!ready)	/* those who wait for a piece that is gone see for themselves */
		pthread_cond_broadcast(&c->done);
	pthread_mutex_unlock(&c->lock);
	return err;
}
