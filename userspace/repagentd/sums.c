// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Delta resync: what a rephub has of a volume need not be sent.
 *
 * Whether a block is the same is decided by the hub's sum of it, and by whether any
 * record was sent since sums_begin() that touches it; Documentation/sums.md says why
 * both together are enough, whenever the sums were taken.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "sums.h"

#define PAGE		16u			/* sums that are asked for at least, aligned: of 1 MiB */
#define TAG_HEADER	SUMS_RUNS		/* tags of runs are their places */
#define RENEW		(60 * NSEC_PER_SEC)	/* nothing is folded at the hub behind sums that were taken */
#define AGAIN		(30 * NSEC_PER_SEC)	/* after a fault */
#define LOOKED		256u			/* blocks that tell whether it is worth it, */
#define LEAST		(LOOKED / 16)		/* ... which it is if so many are the same; */
#define BLIND		1024u			/* else so many are sent without a look */

/* ---- what was touched ---------------------------------------------------- */

/**
 * sums_touch - a record was sent
 * @s: sums in any state
 * @offset: of its range, bytes
 * @length: of that
 */
void sums_touch(struct sums *s, uint64_t offset, uint64_t length)
{
	uint64_t b, end = sums_blocks(offset + length);

	if (s->state == SUMS_OFF)
		return;
	for (b = offset / SUMS_BLOCK; b < end && b < s->blocks; b++)
		s->touched[b / 8] |= (uint8_t)(1 << b % 8);
}

static bool is_touched(const struct sums *s, uint64_t b)
{
	return s->touched[b / 8] & 1 << b % 8;
}

/* ---- stretches of sums --------------------------------------------------- */

static struct run *find_run(struct sums *s, uint64_t b)
{
	struct run *r;

	for (r = s->run; r < s->run + SUMS_RUNS; r++)
		if (r->state != RUN_FREE && b >= r->first && b - r->first < r->nr)
			return r;
	return NULL;
}

/* Return whether the connection takes it now. */
static bool ask_run(struct sums *s, struct run *r, uint64_t first, unsigned int nr)
{
	uint64_t start = SUMS_HEADER + first * SUM_SIZE;

	if (nr > SUMS_RUN)
		nr = SUMS_RUN;
	if (nr > s->blocks - first)
		nr = (unsigned int)(s->blocks - first);
	if (!conn_takes(&s->conn, start, start + nr * SUM_SIZE, 0))
		return false;
	r->state = RUN_ASKED;
	r->first = first;
	r->nr = nr;
	s->next = first + nr;
	s->ask = 2 * nr;
	conn_read(&s->conn, r->sum, start, nr * SUM_SIZE, (unsigned int)(r - s->run));
	return true;
}

static struct run *free_run(struct sums *s)
{
	struct run *r = s->run;

	while (r < s->run + SUMS_RUNS && r->state != RUN_FREE)
		r++;
	return r < s->run + SUMS_RUNS ? r : NULL;
}

/*
 * A block is looked at: what is far behind is of no use any more, for the kernel reads upwards, if not strictly. One
 * stretch is read ahead, and as many as there can be, longer and longer, once that was of use.
 */
static void read_ahead(struct sums *s, const struct run *at)
{
	unsigned int most;
	struct run *r;

	for (r = s->run; r < s->run + SUMS_RUNS; r++)
		if (r->state != RUN_ASKED && r->first + r->nr < at->first)
			r->state = RUN_FREE;
	s->straight |= at->first == s->end;
	s->end = at->first + at->nr;
	for (most = s->straight ? SUMS_RUNS : s->end == s->next; most && s->next < s->blocks; most--) {
		r = free_run(s);
		if (!r || !ask_run(s, r, s->next, s->ask))
			break;
	}
}

/* The first that is needed in a while, or out of order. */
static void read_here(struct sums *s, uint64_t b)
{
	struct run *r, *to = NULL;

	for (r = s->run; r < s->run + SUMS_RUNS; r++) {
		if (r->state == RUN_THERE || r->state == RUN_BAD)
			r->state = RUN_FREE;
		if (r->state == RUN_FREE)
			to = r;
	}
	s->straight = false;
	if (to)
		ask_run(s, to, b - b % PAGE, PAGE);
}

/* ---- a record ------------------------------------------------------------ */

/* Bytes of a block that the hub has: 0 behind its end. */
static uint64_t length_there(const struct sums *s, uint64_t b)
{
	uint64_t at = b * SUMS_BLOCK;

	if (at >= s->header.bytes)
		return 0;
	return s->header.bytes - at < SUMS_BLOCK ? s->header.bytes - at : SUMS_BLOCK;
}

/* Is all of this block in the record, as the hub has it, and as it was there all the time? */
static bool is_comparable(const struct sums *s, const struct record *rec, uint64_t b)
{
	uint64_t at = b * SUMS_BLOCK, len = length_there(s, b);

	return b < s->blocks && len && at >= rec->offset && at + len <= rec->offset + rec->length &&
	       (len == SUMS_BLOCK || at + len == rec->offset + rec->length) && !is_touched(s, b);
}

static bool is_same(struct sums *s, const struct record *rec, uint64_t b)
{
	const struct run *r = find_run(s, b);
	uint8_t sum[SUM_SIZE];
	bool same;

	if (!is_comparable(s, rec, b) || !r)
		return false;
	same = r->state == RUN_THERE && sums_of((const uint8_t *)rec->payload + (b * SUMS_BLOCK - rec->offset),
						length_there(s, b), sum) &&
	       !memcmp(sum, r->sum[b - r->first], SUM_SIZE);
	s->looked++;
	s->same += same;
	return same;
}

/* Now and then: was it worth it? */
static void judge(struct sums *s)
{
	if (s->looked < LOOKED)
		return;
	if (s->same < LEAST)
		s->blind = BLIND;
	s->looked = s->same = 0;
}

/* Cut off what the hub has at both ends. Return whether anything is left. */
static bool cut(struct sums *s, struct record *rec)
{
	uint64_t first = rec->offset / SUMS_BLOCK, last = sums_blocks(rec->offset + rec->length), from, end;

	while (first < last && is_same(s, rec, first))
		first++;
	while (first < last && is_same(s, rec, last - 1))
		last--;
	from = first * SUMS_BLOCK > rec->offset ? first * SUMS_BLOCK : rec->offset;
	end = last * SUMS_BLOCK < rec->offset + rec->length ? last * SUMS_BLOCK : rec->offset + rec->length;
	judge(s);
	if (first >= last) {
		s->left_out += rec->length;
		return false;
	}
	s->left_out += rec->length - (end - from);
	rec->payload = (const uint8_t *)rec->payload + (from - rec->offset);
	rec->offset = from;
	rec->length = end - from;
	rec->payload_len = (uint32_t)rec->length;
	return true;
}

/**
 * sums_compare - what of a record has the hub already?
 * @s: sums in any state
 * @rec: a RESYNC record of the volume; of SUMS_SEND, what is to be sent of it
 *
 * Return: see enum sums_verdict; sums_run() goes on with what SUMS_LATER waits for.
 */
enum sums_verdict sums_compare(struct sums *s, struct record *rec)
{
	uint64_t b = rec->offset / SUMS_BLOCK, end = sums_blocks(rec->offset + rec->length);
	const struct run *r = NULL;
	bool any = false;

	if (s->state == SUMS_OFF || s->state == SUMS_FAILED || rec->length < SUMS_BLOCK)
		return SUMS_SEND;
	if (s->blind) {
		s->blind -= s->blind < end - b ? s->blind : (unsigned int)(end - b);
		return SUMS_SEND;
	}
	if (!s->taken)
		return SUMS_LATER;
	for (; b < end; b++) {
		if (!is_comparable(s, rec, b))
			continue;
		any = true;
		r = find_run(s, b);
		if (!r)
			read_here(s, b);
		if (!r || r->state == RUN_ASKED)
			return SUMS_LATER;
	}
	if (!any)
		return SUMS_SEND;
	read_ahead(s, r);
	return cut(s, rec) ? SUMS_SEND : SUMS_SAME;
}

/* ---- the connection ------------------------------------------------------ */

static void replied(struct conn *c, enum conn_op op, unsigned int tag, int error)
{
	struct sums *s = c->owner;

	if (op != OP_READ)
		return;
	if (tag == TAG_HEADER) {
		s->got = true;
		s->error = error;
	} else {
		s->run[tag].state = error ? RUN_BAD : RUN_THERE;
	}
}

static void forget_runs(struct sums *s)
{
	unsigned int i;

	for (i = 0; i < SUMS_RUNS; i++)
		s->run[i].state = RUN_FREE;
	s->straight = false;
}

/**
 * sums_give_up - do without for a while
 * @s: sums in any state
 * @why: for the log, once
 */
void sums_give_up(struct sums *s, const char *why)
{
	if (s->state == SUMS_OFF)
		return;
	if (!s->told)
		log_notice("volume %s: it is not known what the hub has of it (%s): what is read again is sent", s->of.volume, why);
	s->told = true;
	conn_close(&s->conn);
	forget_runs(s);
	s->taken = false;
	s->state = SUMS_FAILED;
	s->deadline = s->of.loop->now + AGAIN;
}

static void open_conn(struct sums *s)
{
	char uri[URI_MAX], error[URI_ERROR_MAX];
	struct conn *c = &s->conn;

	if (!uri_for_hub(&s->of.cfg->taps, s->of.cfg->group, "sums", s->of.volume, uri, c->uri, error)) {
		sums_give_up(s, error);
		return;
	}
	c->loop = s->of.loop;
	c->cfg = s->of.cfg;
	c->replied = replied;
	c->owner = s;
	s->state = SUMS_CONNECT;
	s->deadline = s->of.loop->now + s->of.cfg->timeout;
	conn_open(c);
}

static void ask_header(struct sums *s)
{
	if (!conn_takes(&s->conn, 0, SUMS_HEADER, 0))
		return;
	s->got = false;
	s->state = SUMS_HEAD;
	s->deadline = s->of.loop->now + s->of.cfg->timeout;
	conn_read(&s->conn, s->block, 0, SUMS_HEADER, TAG_HEADER);
}

static void take_header(struct sums *s)
{
	char error[FRAME_ERROR_MAX + 64];
	struct sums_header h;

	if (s->error) {
		sums_give_up(s, strerror(s->error));
	} else if (!sums_header_decode(&h, s->block, error)) {
		sums_give_up(s, error);
	} else if (memcmp(h.hub, s->of.hub, sizeof(h.hub)) || memcmp(h.group, s->of.group_uuid, sizeof(h.group)) ||
		   strcmp(h.volume, s->of.volume)) {
		sums_give_up(s, "its sums are those of another hub, group or volume");
	} else if (s->taken && h.bytes != s->header.bytes) {
		sums_give_up(s, "it has another size there now");
	} else if (h.incarnation != s->of.incarnation || h.seq < s->floor) {
		sums_give_up(s, "its sums are of a place before the resync");
	} else {
		s->header = h;
		s->taken = true;
		s->state = SUMS_READY;
		s->deadline = s->of.loop->now + RENEW;
	}
}

/**
 * sums_run - go on; once a turn, and when a header is to be waited for no longer
 * @s: sums in any state
 * @durable: the last record that is known to be durable at the hub
 */
void sums_run(struct sums *s, uint64_t durable)
{
	uint64_t now;

	if (s->state == SUMS_OFF)
		return;
	now = s->of.loop->now;
	if (s->state == SUMS_WAIT && durable >= s->floor)
		open_conn(s);
	else if (s->state == SUMS_FAILED && now >= s->deadline)
		open_conn(s);
	if (s->state == SUMS_CONNECT && s->conn.state == CONN_READY)
		ask_header(s);
	else if (s->state == SUMS_HEAD && s->got)
		take_header(s);
	else if (s->state == SUMS_READY && now >= s->deadline)
		ask_header(s);
	if (s->state == SUMS_WAIT || s->state == SUMS_FAILED)
		return;
	if (s->conn.fault)
		sums_give_up(s, s->conn.why);
	else if (s->state != SUMS_READY && now >= s->deadline)
		sums_give_up(s, "no answer");
	else
		conn_update(&s->conn);
}

/**
 * sums_tick - look for what is not answered; now and then
 * @s: sums in any state
 */
void sums_tick(struct sums *s)
{
	conn_tick(&s->conn);
}

/**
 * sums_deadline - when sums_run() is to be called if nothing else happens, ns
 * @s: sums in any state
 */
uint64_t sums_deadline(const struct sums *s)
{
	return s->state == SUMS_OFF || s->state == SUMS_WAIT ? UINT64_MAX : s->deadline;
}

/**
 * sums_begin - a resync begins, or a session within one
 * @s: zeroes, or what was used before
 * @of: what the sums have to be of
 * @id: of the volume
 * @bytes: its size
 * @floor: number of the record behind which all that changes the replica will be shown to sums_touch()
 *
 * Return: false without memory; then all is sent.
 */
bool sums_begin(struct sums *s, const struct sums_of_whom *of, uint16_t id, uint64_t bytes, uint64_t floor)
{
	sums_end(s);
	s->blocks = sums_blocks(bytes);
	s->touched = calloc(s->blocks / 8 + 1, 1);
	if (!s->touched)
		return false;
	s->of = *of;
	s->id = id;
	s->floor = floor;
	s->state = SUMS_WAIT;
	s->taken = s->told = false;
	s->looked = s->same = s->blind = 0;
	s->left_out = 0;
	forget_runs(s);
	return true;
}

/**
 * sums_end - the resync, or the session, is over
 * @s: sums in any state
 */
void sums_end(struct sums *s)
{
	char size[HUMAN_MAX];

	if (s->state == SUMS_OFF)
		return;
	if (s->left_out)
		log_info("volume %s: %s that the hub had were not sent again", s->of.volume, human_size(size, s->left_out));
	conn_close(&s->conn);
	free(s->touched);
	s->touched = NULL;
	s->state = SUMS_OFF;
}
