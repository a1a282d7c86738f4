// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Comparison of volumes with their replicas, beside the writes.
 *
 * The kernel is asked, chunk by chunk, to read the origin into the stream. Such
 * a VERIFY record has a place among the writes: what the replica has when all
 * before it is there, and nothing behind it, is to be the same. The tap compares
 * it then, and writes what differs; here is decided what is asked for, and which
 * records are fit to be compared. None is that was taken before, for after a
 * reconnection the replica may be ahead of it; nor one from before the command;
 * nor one in a resync.
 *
 *	state	  meaning				leaves it by	      to
 *	NEVER	  since the group is here		command		      WAITING
 *	WAITING	  behind another volume; or not all	volume clean,	      RUNNING
 *		  of it is at the hub			its turn
 *	RUNNING	  chunks are asked for and compared	all are		      DONE
 *						not clean any more	      WAITING
 *						command, volume gone	      STOPPED
 *	DONE, STOPPED					command		      WAITING
 */
#include <errno.h>
#include <string.h>

#include "../common/parse.h"
#include "verify.h"

#define ASK_AGAIN	(2 * NSEC_PER_SEC)	/* a request can be dropped */
#define COMPARED	(60 * NSEC_PER_SEC)	/* ... and so can a record that was taken */
#define NO_ROOM		(50 * NSEC_PER_MSEC)	/* in the ring, or no stream */
#define TRIES		3			/* then its origin cannot be read */
#define SECTOR_SHIFT	9
#define BOUNDARY	(1 * MIB)		/* a chunk does not cross */

/**
 * verify_init - a group has come
 * @v: what is to know of it; @ended and @owner are kept
 */
void verify_init(struct verify *v)
{
	*v = (struct verify) {
		.now = -1, .deadline = UINT64_MAX, .max = REPAGENT_MAX_VERIFY,
		.ended = v->ended, .owner = v->owner,
	};
}

/**
 * verify_start - compare volumes from now on
 * @v: nothing is being compared
 * @s: the stream, refreshed
 * @volumes: bit i: the volume at index i of the stream
 * @rate: bytes a second, 0: no limit
 * @from: byte to begin with
 */
void verify_start(struct verify *v, const struct stream *s, uint64_t volumes, uint64_t rate, uint64_t from)
{
	unsigned int i;

	v->rate = rate;
	v->floor = s->info.head;
	v->deadline = 0;
	v->next_ask = 0;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		if (!(volumes & (UINT64_C(1) << i)))
			continue;
		v->volume[i] = (struct verify_volume) {
			.state = VERIFY_WAITING,
			.id = s->volume[i].info.id,
			.reached = from - from % v->max,
			.torn = v->volume[i].torn ||
				s->volume[i].info.image == REPAGENT_IMAGE_RESYNC,
		};
	}
}

static void end(struct verify *v, unsigned int i, enum verify_state state, uint64_t now)
{
	v->volume[i].state = state;
	v->volume[i].ended = now;
	if (v->now == (int)i) {
		v->now = -1;
		memset(v->chunk, 0, sizeof(v->chunk));
	}
	v->deadline = now;
	if (v->ended)
		v->ended(v->owner, i);
}

/**
 * verify_busy - whether anything is, or is to be, compared
 * @v: the group's
 */
bool verify_busy(const struct verify *v)
{
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (v->volume[i].state == VERIFY_WAITING || v->volume[i].state == VERIFY_RUNNING)
			return true;
	return false;
}

/**
 * verify_stop - compare nothing any more
 * @v: the group's
 * @now: ns
 */
void verify_stop(struct verify *v, uint64_t now)
{
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (v->volume[i].state == VERIFY_WAITING || v->volume[i].state == VERIFY_RUNNING)
			end(v, i, VERIFY_STOPPED, now);
	v->deadline = UINT64_MAX;
}

/* Ask for a chunk.  Return 0, -EAGAIN or -ENOSPC if it has no place now, or another negative errno. */
static int ask(struct verify *v, struct verify_chunk *c, struct stream *s, uint64_t now)
{
	int r = stream_verify(s, v->volume[v->now].id, c->offset, c->length);

	if (r < 0)
		return r;
	c->asked = now;
	c->head = s->info.head;
	c->tries++;
	c->taken = c->again = false;
	return 0;
}

static void note_progress(struct verify *v)
{
	uint64_t left = 0;
	unsigned int i;

	for (i = 0; i < VERIFY_CHUNKS; i++)
		left += v->chunk[i].length;
	v->volume[v->now].reached = v->next - left;
}

/* The next chunk from a place on: none if its length is 0. */
static uint64_t chunk_length(const struct verify *v, uint64_t offset, uint64_t size)
{
	uint64_t n = v->max - offset % v->max;

	if (offset >= size)
		return 0;
	if (n > BOUNDARY - offset % BOUNDARY)
		n = BOUNDARY - offset % BOUNDARY;
	return n < size - offset ? n : size - offset;
}

/* One chunk's place in the table.  Return whether it is in use, or a negative errno. */
static int run_chunk(struct verify *v, struct verify_chunk *c, struct stream *s, uint64_t size, uint64_t now)
{
	int r;

	if (c->length && c->offset >= size)
		c->length = 0;		/* the volume has shrunk */
	if (c->length) {
		/* All that was there when it was asked for has come, but it has not. */
		if (!c->again && (now - c->asked < (c->taken ? COMPARED : ASK_AGAIN) || s->acked + 1 < c->head))
			return true;
		if (c->tries < TRIES) {
			r = ask(v, c, s, now);
			return r < 0 ? r : true;
		}
		v->volume[v->now].skipped += c->length;
		c->length = 0;
		note_progress(v);
	}
	*c = (struct verify_chunk) { .offset = v->next, .length = chunk_length(v, v->next, size) };
	if (!c->length || now < v->next_ask) {
		if (c->length && v->next_ask < v->deadline)
			v->deadline = v->next_ask;
		r = c->length != 0;
		c->length = 0;
		return r;
	}
	r = ask(v, c, s, now);
	if (r < 0) {
		c->length = 0;
		return r;
	}
	v->next += c->length;
	if (v->rate)
		v->next_ask = (v->next_ask > now ? v->next_ask : now) + c->length * NSEC_PER_SEC / v->rate;
	return true;
}

/* Whether what the stream says of a volume now can be compared. */
static bool is_fit(const struct stream *s, const struct verify_volume *o, unsigned int i, bool connected)
{
	return connected && s->info.capture == REPAGENT_CAPTURE_STREAM && !o->torn &&
	       s->volume[i].info.image == REPAGENT_IMAGE_CLEAN;
}

/* Choose a volume.  Return whether there is one. */
static bool choose(struct verify *v, const struct stream *s, bool connected)
{
	unsigned int i;

	for (i = 0; v->now < 0 && i < REPAGENT_MAX_VOLUMES; i++) {
		if (v->volume[i].state != VERIFY_WAITING || !is_fit(s, &v->volume[i], i, connected))
			continue;
		v->volume[i].state = VERIFY_RUNNING;
		v->now = (int)i;
		v->next = v->volume[i].reached;
	}
	return v->now >= 0;
}

/* It is not to be compared for a while. It goes on at the first chunk that is on its way. */
static void wait_again(struct verify *v)
{
	struct verify_volume *o = &v->volume[v->now];
	unsigned int i;

	o->state = VERIFY_WAITING;
	o->reached = v->next;
	for (i = 0; i < VERIFY_CHUNKS; i++)
		if (v->chunk[i].length && v->chunk[i].offset < o->reached)
			o->reached = v->chunk[i].offset;
	memset(v->chunk, 0, sizeof(v->chunk));
	v->now = -1;
}

/**
 * verify_run - go on; once a turn
 * @v: the group's
 * @s: the stream
 * @connected: the hub takes it
 * @now: ns
 *
 * Return: 0, or a negative errno that is the daemon's end.
 */
int verify_run(struct verify *v, struct stream *s, bool connected, uint64_t now)
{
	unsigned int i, used = 0;
	uint64_t size;
	int r;

	if (now < v->deadline)
		return 0;
	v->deadline = UINT64_MAX;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if ((v->volume[i].state == VERIFY_WAITING || v->volume[i].state == VERIFY_RUNNING) &&
		    (s->volume[i].info.id != v->volume[i].id || !s->volume[i].info.active))
			end(v, i, VERIFY_STOPPED, now);
	if (v->now >= 0 && !is_fit(s, &v->volume[v->now], (unsigned int)v->now, connected))
		wait_again(v);
	if (!verify_busy(v)) {
		v->deadline = UINT64_MAX;
		return 0;
	}
	if (!choose(v, s, connected)) {
		v->deadline = now + NSEC_PER_SEC / 2;
		return 0;
	}
	size = s->volume[v->now].info.sectors << SECTOR_SHIFT;
	if (v->deadline > now + ASK_AGAIN / 4)
		v->deadline = now + ASK_AGAIN / 4;
	for (i = 0; i < VERIFY_CHUNKS; i++) {
		r = run_chunk(v, &v->chunk[i], s, size, now);
		/* No room, no memory, no stream, or it has gone or shrunk since it was looked at. */
		if (r == -EAGAIN || r == -ENOSPC || r == -ENOMEM || r == -ENOENT || r == -EINVAL) {
			v->deadline = now + NO_ROOM;
			return 0;
		}
		if (r < 0)
			return r;
		used += (unsigned int)r;
	}
	if (!used)
		end(v, (unsigned int)v->now, VERIFY_DONE, now);
	return 0;
}

static struct verify_chunk *find_chunk(struct verify *v, const struct record *rec)
{
	unsigned int i;

	for (i = 0; i < VERIFY_CHUNKS; i++)
		if (v->chunk[i].length && v->chunk[i].offset == rec->offset &&
		    v->chunk[i].length == rec->length)
			return &v->chunk[i];
	return NULL;
}

/* The chunk of a record, of the comparison that is under way. */
static struct verify_chunk *chunk_of(struct verify *v, const struct record *rec)
{
	return rec->volume >= 0 && rec->volume == v->now ? find_chunk(v, rec) : NULL;
}

/**
 * verify_sends - is a record to be sent, as what the hub lacks?
 * @v: the group's
 * @rec: a VERIFY record that verify_takes() was not yet told of
 */
bool verify_sends(const struct verify *v, const struct record *rec)
{
	const struct verify_chunk *c = chunk_of((struct verify *)(uintptr_t)v, rec);

	return c && c->repair && rec->seq >= v->floor;
}

/**
 * verify_takes - the tap takes a record
 * @v: the group's
 * @rec: the record, of any type; each is to be shown here, in their order
 *
 * Return: whether it is to be compared, and verify_compared() called.
 */
bool verify_takes(struct verify *v, const struct record *rec)
{
	bool fresh = rec->seq > v->high;
	struct verify_chunk *c;

	if (!fresh)
		return false;
	v->high = rec->seq;
	if (rec->volume < 0)
		return false;
	switch (rec->type) {
	case REPAGENT_REC_RESYNC_BEGIN:
	case REPAGENT_REC_FAILED:
		v->volume[rec->volume].torn = true;
		return false;
	case REPAGENT_REC_RESYNC_END:
	case REPAGENT_REC_VOLUME_ADD:
		v->volume[rec->volume].torn = false;
		return false;
	case REPAGENT_REC_VERIFY:
		c = rec->seq >= v->floor && !v->volume[rec->volume].torn ? chunk_of(v, rec) : NULL;
		if (c)
			c->taken = true;
		return c;
	default:
		return false;
	}
}

/**
 * verify_compared - a record has been compared
 * @v: the group's
 * @rec: the record
 * @differed: bytes that were different
 */
void verify_compared(struct verify *v, const struct record *rec, uint64_t differed)
{
	struct verify_chunk *c = chunk_of(v, rec);

	if (!c)
		return;		/* it was stopped meanwhile */
	v->volume[v->now].differed += differed;
	c->length = 0;
	note_progress(v);
	v->deadline = 0;
}

/**
 * verify_differs - a record has been compared, and the replica is to be mended by another one of the same range
 * @v: the group's
 * @rec: the record
 * @differed: bytes that were different
 *
 * Return: false if it was sent already, and differs still; then that is all.
 */
bool verify_differs(struct verify *v, const struct record *rec, uint64_t differed)
{
	struct verify_chunk *c = chunk_of(v, rec);

	if (!c)
		return true;
	if (c->repair) {
		v->volume[v->now].unrepaired += differed;
		verify_compared(v, rec, 0);
		return false;
	}
	v->volume[v->now].differed += differed;
	c->repair = c->again = true;
	c->tries = 0;
	v->deadline = 0;
	return true;
}

/**
 * verify_again - a record that was taken cannot be compared; perhaps another one of the same range can
 * @v: the group's
 * @rec: the record
 */
void verify_again(struct verify *v, const struct record *rec)
{
	struct verify_chunk *c = chunk_of(v, rec);

	if (!c)
		return;
	c->taken = false;
	v->deadline = 0;
}

/**
 * verify_state_name - the word for a state
 * @state: the state
 */
const char *verify_state_name(enum verify_state state)
{
	static const char *const names[] = {
		[VERIFY_NEVER] = "never", [VERIFY_WAITING] = "waiting", [VERIFY_RUNNING] = "running",
		[VERIFY_DONE] = "done", [VERIFY_STOPPED] = "stopped",
	};

	return names[state];
}
