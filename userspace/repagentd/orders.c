// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a rephub wants to be compared, and what it is told of it.
 *
 * The hub knows when something was compared last, and keeps how far an order is: here
 * nothing is remembered over the daemon's end.
 */
#include <string.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "orders.h"

#define ASK	(5 * NSEC_PER_SEC)	/* or as often as the line is kept warm, if that is more often */
#define TELL	(10 * NSEC_PER_SEC)

/**
 * orders_begin - a session was opened
 * @o: its fields of others are set
 */
void orders_begin(struct orders *o)
{
	o->asking = o->telling = false;
	o->next_ask = o->next_tell = o->loop->now;
	o->ending = -1;
}

static bool is_over(const struct verify_volume *v)
{
	return v->state == VERIFY_DONE || v->state == VERIFY_STOPPED;
}

static void tell(struct orders *o, const struct verify_report *r)
{
	report_encode(r, o->report);
	o->telling = true;
	o->next_tell = o->loop->now + TELL;
	conn_write(o->conn, o->report, ORDER_AT, ORDER_SIZE, o->tag_tell);
}

static void tell_volume(struct orders *o, int i)
{
	static const enum report_state states[] = {
		[VERIFY_NEVER] = REPORT_STOPPED, [VERIFY_WAITING] = REPORT_RUNNING, [VERIFY_RUNNING] = REPORT_RUNNING,
		[VERIFY_DONE] = REPORT_DONE, [VERIFY_STOPPED] = REPORT_STOPPED,
	};
	const struct verify_volume *v = &o->verify->volume[i];
	struct verify_report r = {
		.state = states[v->state],
		.serial = o->order.serial && o->index == i ? o->order.serial : 0,
		.reached = v->reached, .differed = v->differed, .unrepaired = v->unrepaired, .skipped = v->skipped,
	};

	memcpy(r.volume, o->stream->volume[i].info.name, sizeof(r.volume));
	o->ending = is_over(v) ? i : -1;
	if (frame_name_ok(r.volume))
		tell(o, &r);
	else if (is_over(v))
		o->told[i] = v->ended;	/* it is gone, and its name with it */
}

/* A volume whose comparison has ended, of which the hub does not know that; or -1. */
static int untold(const struct orders *o)
{
	int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (is_over(&o->verify->volume[i]) && o->verify->volume[i].ended != o->told[i])
			return i;
	return -1;
}

static void carry_out(struct orders *o, const struct order *order)
{
	int i = 0;

	/* An error of the kernel's ends the daemon elsewhere, and the order comes again. */
	if (stream_refresh(o->stream) < 0)
		return;
	while (i < REPAGENT_MAX_VOLUMES && (!o->stream->volume[i].info.active ||
					    strcmp(o->stream->volume[i].info.name, order->volume)))
		i++;
	o->order = *order;
	o->index = i < REPAGENT_MAX_VOLUMES ? i : -1;
	if (o->index >= 0)
		verify_start(o->verify, o->stream, UINT64_C(1) << i, order->rate, order->from);
	log_info("volume %s: %s", order->volume, o->index < 0 ? "the hub wants it to be compared, and it is not here" :
		 "it is compared with its replica, as the hub wants");
}

/**
 * orders_replied - a request was answered
 * @o: whose
 * @tag: of the request
 * @error: errno, or 0
 */
void orders_replied(struct orders *o, unsigned int tag, int error)
{
	char why[FRAME_ERROR_MAX];
	struct order order;

	if (tag == o->tag_tell) {
		o->telling = false;
		if (o->ending >= 0)
			o->told[o->ending] = o->verify->volume[o->ending].ended;
		/* There may be another one already. */
		if (o->index < 0 || o->ending == o->index)
			o->order.serial = 0;
		o->ending = -1;
		return;
	}
	o->asking = false;
	o->next_ask = o->loop->now + (o->conn->cfg->heartbeat < ASK ? o->conn->cfg->heartbeat : ASK);
	if (error)
		return;
	if (!order_decode(&order, o->asked, why))
		log_warn("the hub's order makes no sense: %s", why);
	else if (order.serial && !verify_busy(o->verify))
		carry_out(o, &order);
}

/**
 * orders_run - ask and tell; once a turn, while the session is open and takes frames
 * @o: the orders
 */
void orders_run(struct orders *o)
{
	struct verify_report r = { .state = REPORT_STOPPED };
	int i;

	if (o->asking || o->telling || !conn_takes(o->conn, ORDER_AT, ORDER_AT + ORDER_SIZE, ORDER_SIZE))
		return;
	i = untold(o);
	if (i >= 0) {
		tell_volume(o, i);
	} else if (o->order.serial && o->index < 0) {
		r.serial = o->order.serial;
		r.reached = o->order.from;
		memcpy(r.volume, o->order.volume, sizeof(r.volume));
		tell(o, &r);
	} else if (o->order.serial && o->loop->now >= o->next_tell) {
		tell_volume(o, o->index);
	} else if (!o->order.serial && o->loop->now >= o->next_ask) {
		o->asking = true;
		conn_read(o->conn, o->asked, ORDER_AT, ORDER_SIZE, o->tag_ask);
	}
}

/**
 * orders_deadline - when orders_run() is to be called if nothing else happens, ns
 * @o: the orders
 */
uint64_t orders_deadline(const struct orders *o)
{
	if (o->asking || o->telling)
		return UINT64_MAX;
	return o->order.serial ? o->next_tell : o->next_ask;
}
