// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VERIFY records of the log tap, beside what a rephub has at their place in the stream.
 *
 * A record has the origin as it was when all before it was written, and nothing behind
 * it. The hub is asked for the sums of its replica at the same place, once that is
 * durable; so neither writes beside it nor those that are on their way can make a
 * difference that is none.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "compare.h"

#define AGAIN	NSEC_PER_SEC	/* after a fault */

/**
 * compare_add - a record is to be compared
 * @c: what is compared
 * @rec: a VERIFY record, or one that is sent as RESYNC because it differed, with its payload
 *
 * If there is no room, verify.c asks for another one.
 */
void compare_add(struct compare *c, const struct record *rec)
{
	const uint8_t *p = rec->payload;
	struct check *k = c->check;
	uint64_t at, len;

	while (k < c->check + COMPARE_CHECKS && k->rec.seq)
		k++;
	if (k == c->check + COMPARE_CHECKS || rec->offset % SUMS_BLOCK || rec->length > REPAGENT_MAX_VERIFY) {
		verify_again(c->verify, rec);
		return;
	}
	for (at = 0; at < rec->length; at += len) {
		len = rec->length - at < SUMS_BLOCK ? rec->length - at : SUMS_BLOCK;
		if (!sums_of(p + at, len, k->sum[at / SUMS_BLOCK])) {
			verify_again(c->verify, rec);
			return;
		}
	}
	k->rec = *rec;
	k->rec.payload = NULL;
}

static void replied(struct conn *conn, enum conn_op op, unsigned int tag, int error)
{
	struct compare *c = conn->owner;

	(void)tag;
	if (op == OP_FLUSH)
		return;
	c->answered = true;
	c->error = error;
}

static void close_conn(struct compare *c, uint64_t pause)
{
	if (c->now) {
		verify_again(c->verify, &c->now->rec);
		c->now->rec.seq = 0;
		c->now = NULL;
	}
	conn_close(&c->conn);
	c->state = COMPARE_OFF;
	c->deadline = c->loop->now + pause;
}

/**
 * compare_resized - a volume has another size, and so the export of its sums
 * @c: what is compared
 */
void compare_resized(struct compare *c)
{
	if (c->state != COMPARE_OFF)
		close_conn(c, 0);
}

/**
 * compare_drop - the session is over: what was taken comes again, if it is wanted still
 * @c: what is compared
 */
void compare_drop(struct compare *c)
{
	unsigned int i;

	conn_close(&c->conn);
	c->state = COMPARE_OFF;
	c->now = NULL;
	for (i = 0; i < COMPARE_CHECKS; i++) {
		if (c->check[i].rec.seq)
			verify_again(c->verify, &c->check[i].rec);
		c->check[i].rec.seq = 0;
	}
}

/* The one with the lowest number, if it is durable. */
static struct check *first_check(struct compare *c, uint64_t durable)
{
	struct check *k, *first = NULL;

	for (k = c->check; k < c->check + COMPARE_CHECKS; k++)
		if (k->rec.seq && (!first || k->rec.seq < first->rec.seq))
			first = k;
	return first && first->rec.seq <= durable ? first : NULL;
}

static const char *name_of(const struct compare *c, const struct check *k)
{
	return c->stream->volume[k->rec.volume].info.name;
}

static void open_conn(struct compare *c, const struct check *k)
{
	char uri[URI_MAX], error[URI_ERROR_MAX];

	snprintf(c->volume, sizeof(c->volume), "%s", name_of(c, k));
	if (!uri_for_hub(&c->cfg->taps, c->cfg->group, "sums", c->volume, uri, c->conn.uri, error)) {
		log_err("volume %s cannot be compared: %s", c->volume, error);
		verify_stop(c->verify, c->loop->now);
		return;
	}
	c->conn.loop = c->loop;
	c->conn.cfg = c->cfg;
	c->conn.replied = replied;
	c->conn.owner = c;
	c->state = COMPARE_CONNECT;
	c->deadline = c->loop->now + c->cfg->timeout;
	conn_open(&c->conn);
}

static void ask(struct compare *c, struct check *k)
{
	if (!conn_takes(&c->conn, 0, SUMS_WANT, SUMS_WANT))
		return;
	c->now = k;
	c->answered = false;
	c->state = COMPARE_WANT;
	c->deadline = c->loop->now + c->cfg->timeout;
	sums_want_encode(c->stream->incarnation, k->rec.seq, c->want);
	conn_write(&c->conn, c->want, 0, SUMS_WANT, 0);
}

static void read_sums(struct compare *c)
{
	uint64_t start = SUMS_HEADER + c->now->rec.offset / SUMS_BLOCK * SUM_SIZE;
	uint64_t len = sums_blocks(c->now->rec.length) * SUM_SIZE;

	c->answered = false;
	c->state = COMPARE_READ;
	c->deadline = c->loop->now + c->cfg->timeout;
	conn_read(&c->conn, c->got, start, len, 0);
}

/* A block that the hub cannot read is none that it has. */
static void judge(struct compare *c)
{
	struct check *k = c->now;
	uint64_t at, len, first = 0, differed = 0;
	char size[HUMAN_MAX];

	for (at = 0; at < k->rec.length; at += len) {
		len = k->rec.length - at < SUMS_BLOCK ? k->rec.length - at : SUMS_BLOCK;
		if (!c->error && !memcmp(c->got[at / SUMS_BLOCK], k->sum[at / SUMS_BLOCK], SUM_SIZE))
			continue;
		if (!differed)
			first = at;
		differed += len;
	}
	c->now = NULL;
	c->state = COMPARE_IDLE;
	if (!differed)
		verify_compared(c->verify, &k->rec, 0);
	else if (verify_differs(c->verify, &k->rec, differed))
		log_err("volume %s: the replica %s at byte %" PRIu64 ": %s are sent again", c->volume,
			c->error ? "cannot be read" : "is not what was written", k->rec.offset + first,
			human_size(size, k->rec.length));
	else
		log_err("volume %s: the replica is not what was written at byte %" PRIu64 ", though that was sent again; look at the hub's log and its disk",
			c->volume, k->rec.offset + first);
	k->rec.seq = 0;
}

static void fail(struct compare *c, const char *why)
{
	bool refused = c->conn.fault == FAULT_REFUSED;

	log_msg(refused ? LOG_ERR : LOG_NOTICE, "volume %s cannot be compared%s: %s", c->volume, refused ? "" : " now", why);
	close_conn(c, AGAIN);
	if (refused)
		verify_stop(c->verify, c->loop->now);
}

/**
 * compare_run - go on; once a turn
 * @c: what is compared
 * @durable: the last record that is known to be durable at the hub
 */
void compare_run(struct compare *c, uint64_t durable)
{
	struct check *k = c->now ? NULL : first_check(c, durable);

	if (k && c->state == COMPARE_IDLE && strcmp(c->volume, name_of(c, k)))
		close_conn(c, 0);
	/* Nothing is folded at the hub behind a point that somebody looks at. */
	if (!k && c->state == COMPARE_IDLE && c->verify->now < 0)
		close_conn(c, 0);
	if (k && c->state == COMPARE_OFF && c->loop->now >= c->deadline)
		open_conn(c, k);
	if (c->state == COMPARE_OFF)
		return;
	if (c->state == COMPARE_CONNECT && c->conn.state == CONN_READY)
		c->state = COMPARE_IDLE;
	if (c->state == COMPARE_WANT && c->answered)
		read_sums(c);
	else if (c->state == COMPARE_READ && c->answered)
		judge(c);
	k = c->now ? NULL : first_check(c, durable);
	if (k && c->state == COMPARE_IDLE && !strcmp(c->volume, name_of(c, k)))
		ask(c, k);
	if (c->conn.fault)
		fail(c, c->conn.why);
	else if (c->state != COMPARE_IDLE && c->loop->now >= c->deadline)
		fail(c, "no answer");
	else
		conn_update(&c->conn);
}

/**
 * compare_deadline - when compare_run() is to be called if nothing else happens, ns
 * @c: what is compared
 */
uint64_t compare_deadline(const struct compare *c)
{
	unsigned int i;

	if (c->state == COMPARE_IDLE)
		return UINT64_MAX;
	if (c->state != COMPARE_OFF)
		return c->deadline;
	for (i = 0; i < COMPARE_CHECKS && !c->check[i].rec.seq; i++)
		;
	/* Without a pause, one waits until it is durable. */
	return i == COMPARE_CHECKS || c->deadline <= c->loop->now ? UINT64_MAX : c->deadline;
}
