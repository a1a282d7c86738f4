// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A session: one connection to the export log/GROUP.  Documentation/frames.md says
 * what may come in which order.
 *
 *	state	means						next
 *	NEW	nothing was said				HELLO
 *	HELLO	it is known who asks				OPEN by reading the session block
 *	OPEN	the group's session: frames are taken		BROKEN, OVER
 *	BROKEN	a frame or a FLUSH was refused			OPEN by reading the session block
 *	OVER	another one was opened: for ever
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "../common/sums.h"
#include "engine.h"

enum state { STATE_NEW, STATE_HELLO, STATE_OPEN, STATE_BROKEN, STATE_OVER };

/*
 * struct hub_session
 * @lock:	guards all but the names and @hub; taken before the group's
 * @hello:	what was said
 * @generation:	when it was opened
 * @frame:	the frame that is coming, @have bytes of it; @raw: to unpack it into
 * @why, @err:	of BROKEN
 */
struct hub_session {
	struct hub *hub;
	char name[REPAGENT_NAME_MAX + 1];
	char peer[64];

	pthread_mutex_t lock;
	struct group *group;
	enum state state;
	struct frame_header hello;
	uint64_t generation;
	uint64_t at;
	size_t have;
	uint8_t *frame, *raw;
	int err;
	char why[HUB_REASON_MAX];
};

/**
 * hub_session_new - somebody has opened log/GROUP
 * @hub: the hub
 * @group: its name, which need not exist
 * @peer: who, for the log
 *
 * Return: the session, or NULL if there is no memory.
 */
struct hub_session *hub_session_new(struct hub *hub, const char *group, const char *peer)
{
	struct hub_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->hub = hub;
	snprintf(s->name, sizeof(s->name), "%s", group);
	snprintf(s->peer, sizeof(s->peer), "%s", peer);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

/**
 * hub_session_free - its connection is gone
 * @s: the session
 */
void hub_session_free(struct hub_session *s)
{
	if (s->group) {
		pthread_mutex_lock(&s->group->lock);
		if (s->group->session == s) {
			s->group->session = NULL;
			hubgroup_event(s->group, "session-closed", s->group->now.incarnation, s->group->now.seq, "%s", s->peer);
		}
		pthread_mutex_unlock(&s->group->lock);
	}
	free(s->frame);
	free(s->raw);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* What is refused is told in the log, once: all that comes behind it is refused for the same reason. */
static __attribute__((format(printf, 4, 5)))
int refuse(struct hub_session *s, int err, char *reason, const char *fmt, ...)
{
	char text[HUB_REASON_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	hub_say(s->hub, LOG_WARNING, "group %s: %s: refused: %s", s->name, s->peer, text);
	events_add(s->hub->events, s->name, "refused", 0, 0, "%s: %s", s->peer, text);
	if (s->state == STATE_OPEN) {
		s->state = STATE_BROKEN;
		s->err = err;
		memcpy(s->why, text, sizeof(s->why));
	}
	memcpy(reason, text, sizeof(text));
	return err;
}

/* Why it is no longer the group's session; the group is locked. */
static void say_over(const struct hub_session *s, char *reason)
{
	if (s->group->stopping)
		snprintf(reason, HUB_REASON_MAX, "group %s is just being failed over", s->name);
	else if (s->generation != s->group->generation)
		failover_why(s->group, reason);
	else
		snprintf(reason, HUB_REASON_MAX, "another session of group %s was opened since", s->name);
}

/* Is this still the group's session? The group is locked. */
static int check_open(struct hub_session *s, char *reason)
{
	if (s->state == STATE_OPEN && s->group->session != s)
		s->state = STATE_OVER;
	switch (s->state) {
	case STATE_OPEN:
		return 0;
	case STATE_BROKEN:
		snprintf(reason, HUB_REASON_MAX, "%s", s->why);
		return s->err;
	case STATE_OVER:
		say_over(s, reason);
		return ESHUTDOWN;
	default:
		return refuse(s, EINVAL, reason, "there is no session: expected a hello, and a read of the session block");
	}
}

static bool is_zero(const uint8_t *p, size_t len)
{
	while (len && !*p) {
		p++;
		len--;
	}
	return !len;
}

static int hello(struct hub_session *s, const void *buf, size_t len, char *reason)
{
	char error[HUB_ERROR_MAX];
	struct frame_header h;
	bool unknown;

	if (len != FRAME_ALIGN)
		return refuse(s, EINVAL, reason, "%zu bytes at 0: expected a hello of %u", len, FRAME_ALIGN);
	if (!frame_header_parse(&h, buf, error))
		return refuse(s, EINVAL, reason, "hello: %.140s", error);
	if (!(h.flags & FRAME_HELLO) || !is_zero((const uint8_t *)buf + FRAME_HEADER, len - FRAME_HEADER))
		return refuse(s, EINVAL, reason, "at 0: expected a hello, and zeroes behind it");
	unknown = is_zero(h.group, sizeof(h.group));
	if (!s->group) {
		s->group = hub_find(s->hub, s->name);
		if (!s->group && (!unknown || !s->hub->o.create))
			return refuse(s, EPERM, reason, "there is no group %s here: expected %s", s->name,
				      unknown ? "one of those that are, for none is created" :
				      "zeroes for its uuid, to create it");
		if (!s->group)
			s->group = hub_create(s->hub, s->name, error);
		if (!s->group)
			return refuse(s, EIO, reason, "%.150s", error);
	}
	s->hello = h;
	if (s->state == STATE_NEW)
		s->state = STATE_HELLO;
	return 0;
}

/* One frame, if all of it is there: then @taken is its size, else 0. The group is locked. */
static int take_frame(struct hub_session *s, const uint8_t *bytes, size_t have, size_t *taken, char *reason)
{
	char error[HUB_REASON_MAX];
	struct frame_header h;
	int err;

	*taken = 0;
	if (have < FRAME_HEADER)
		return 0;
	if (!frame_header_parse(&h, bytes, error))
		return refuse(s, EINVAL, reason, "frame at %" PRIu64 ": %.120s", s->at, error);
	if (h.flags & FRAME_HELLO)
		return refuse(s, EINVAL, reason, "frame at %" PRIu64 ": a hello: expected it at 0", s->at);
	if (h.offset != s->at)
		return refuse(s, EINVAL, reason, "frame at %" PRIu64 ": offset %" PRIu64
			      ": expected where it is written", s->at, h.offset);
	if (h.incarnation != s->hello.incarnation)
		return refuse(s, EPERM, reason, "frame at %" PRIu64 ": incarnation %016" PRIx64
			      ": expected %016" PRIx64 ", that of the hello", s->at, h.incarnation,
			      s->hello.incarnation);
	if (have < frame_size(&h))
		return 0;
	err = space_admit(s->group, frame_size(&h), error);
	if (!err)
		err = hubgroup_add(s->group, &h, bytes, s->raw, error);
	if (err)
		return refuse(s, err, reason, "frame at %" PRIu64 ": %.120s", s->at, error);
	*taken = frame_size(&h);
	s->at += *taken;
	return 0;
}

/* Bytes of the log: how many of them were taken, or are kept until the rest of their frame comes. */
static int take_bytes(struct hub_session *s, const uint8_t *p, size_t len, size_t *used, char *reason)
{
	size_t n, taken;
	int err;

	/* A write should be a frame, and that is taken where it lies. */
	if (!s->have) {
		err = take_frame(s, p, len, used, reason);
		if (err || *used)
			return err;
	}
	n = FRAME_MAX - s->have < len ? FRAME_MAX - s->have : len;
	memcpy(s->frame + s->have, p, n);
	s->have += n;
	*used = n;
	do {
		err = take_frame(s, s->frame, s->have, &taken, reason);
		s->have -= taken;
		memmove(s->frame, s->frame + taken, s->have);
	} while (!err && taken);
	return err;
}

/* How far a comparison is. */
static int take_report(struct hub_session *s, const void *buf, size_t len, char *reason)
{
	char error[FRAME_ERROR_MAX];
	struct verify_report r;
	int err;

	if (len != ORDER_SIZE || !s->group)
		return refuse(s, EINVAL, reason, "%zu bytes at %u: expected a report of %u, and a session", len, ORDER_AT, ORDER_SIZE);
	if (!report_decode(&r, buf, error))
		return refuse(s, EINVAL, reason, "report: %.140s", error);
	pthread_mutex_lock(&s->group->lock);
	err = check_open(s, reason);
	if (!err)
		verify_report(s->group, &r);
	pthread_mutex_unlock(&s->group->lock);
	return err;
}

/* What is to be compared. */
static int give_order(struct hub_session *s, void *buf, char *reason)
{
	struct order o;
	int err;

	if (!s->group)
		return refuse(s, EINVAL, reason, "there is no session: expected a hello, and a read of the session block");
	pthread_mutex_lock(&s->group->lock);
	err = check_open(s, reason);
	if (!err)
		verify_order(s->group, &o);
	pthread_mutex_unlock(&s->group->lock);
	if (!err)
		order_encode(&o, buf);
	return err;
}

/**
 * hub_session_write - bytes of the log, a hello, or a report
 * @s: the session
 * @offset: in the export
 * @buf: the bytes
 * @len: so many
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0 or a positive errno.
 */
int hub_session_write(struct hub_session *s, uint64_t offset, const void *buf, size_t len, char *reason)
{
	const uint8_t *p = buf;
	size_t n;
	int err;

	pthread_mutex_lock(&s->lock);
	if (offset < SESSION_SIZE) {
		if (offset == ORDER_AT)
			err = take_report(s, buf, len, reason);
		else if (offset)
			err = refuse(s, EINVAL, reason, "write at %" PRIu64 ": expected a hello at 0, or the log from %u on",
				     offset, SESSION_SIZE);
		else
			err = hello(s, buf, len, reason);
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	if (!s->group) {
		err = refuse(s, EINVAL, reason, "there is no session: expected a hello, and a read of the session block");
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	pthread_mutex_lock(&s->group->lock);
	err = check_open(s, reason);
	if (!err && offset != s->at + s->have)
		err = refuse(s, EINVAL, reason, "write at %" PRIu64 ": expected %" PRIu64, offset, s->at + s->have);
	for (; !err && len; p += n, len -= n)
		err = take_bytes(s, p, len, &n, reason);
	pthread_mutex_unlock(&s->group->lock);
	pthread_mutex_unlock(&s->lock);
	return err;
}

static __attribute__((format(printf, 3, 4)))
void not_accepting(struct session *out, enum session_state state, const char *fmt, ...)
{
	va_list ap;

	out->state = state;
	va_start(ap, fmt);
	vsnprintf(out->reason, sizeof(out->reason), fmt, ap);
	va_end(ap);
}

/* May this one have the session? The group is locked. */
static void judge(struct hub_session *s, struct session *out)
{
	const struct group *g = s->group;
	const struct frame_header *h = &s->hello;
	char why[HUB_REASON_MAX];
	unsigned int i;

	if (!is_zero(h->group, sizeof(h->group)) && memcmp(h->group, g->uuid, sizeof(g->uuid))) {
		not_accepting(out, SESSION_FOREIGN, "group %s here is another one, by its uuid", s->name);
		return;
	}
	if (g->stopping || g->unsure) {
		not_accepting(out, SESSION_FAILED, "%.150s", g->unsure ? g->trouble : "the group is just being failed over");
		return;
	}
	out->since = g->failover.since;
	if (g->failover.state == FAILOVER_LIVE || g->failover.state == FAILOVER_ROLLBACK) {
		not_accepting(out, SESSION_FENCED, "%s: the group is failed over", failover_why(g, why));
		return;
	}
	/* Who never was here, or has forgotten it, cannot know that it is the one who may. */
	if (h->generation != g->generation && (h->generation ? h->generation != g->admitted : g->generation != 1)) {
		not_accepting(out, SESSION_FENCED, "%s: generation %" PRIu64 " is over", failover_why(g, why),
			      h->generation);
		return;
	}
	for (i = 0; i + 1 < g->now.nr_seen; i++)
		if (g->now.seen[i] == h->incarnation)
			not_accepting(out, SESSION_STALE, "incarnation %016" PRIx64 " is over: %016" PRIx64 " has written since",
				      h->incarnation, g->now.incarnation);
}

/* The group is locked. */
static int open_session(struct hub_session *s, struct session *out, char *reason)
{
	struct group *g = s->group;
	int err;

	if (!s->frame)
		s->frame = malloc(FRAME_MAX);
	if (!s->raw)
		s->raw = malloc(FRAME_MAX);
	if (!s->frame || !s->raw) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		return ENOMEM;
	}
	if (!failover_ended(g, reason)) {
		not_accepting(out, SESSION_FENCED, "%.150s", reason);
		return 0;
	}
	if (space_full(g, reason)) {
		not_accepting(out, SESSION_FULL, "%.150s", reason);
		return 0;
	}
	if (g->session && g->session != s)
		hubgroup_event(g, "session-closed", g->now.incarnation, g->now.seq, "%s: another one was opened",
			       g->session->peer);
	/* From here on the older one adds nothing, and all that it has added is in the file. */
	g->session = s;
	s->generation = g->generation;
	if (!g->broken) {
		err = hubgroup_sync(g, reason);
		if (err && !g->broken)
			return err;
	}
	if (!hubgroup_mend(g, reason)) {
		not_accepting(out, SESSION_FAILED, "%.150s", reason);
		return 0;
	}
	if (g->session != s) {	/* another one came while we synced, or a fail-over */
		say_over(s, reason);
		return ESHUTDOWN;
	}
	s->at = hubgroup_last(g)->end;
	s->have = 0;
	return 0;
}

/**
 * hub_session_read - the session block: opens the session; or the order
 * @s: the session
 * @offset: in the export
 * @buf: filled
 * @len: of it
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk.
 * Return: 0 or a positive errno.
 */
int hub_session_read(struct hub_session *s, uint64_t offset, void *buf, size_t len, char *reason)
{
	struct session out = { .state = SESSION_ACCEPTING, .frame_max = FRAME_MAX, .zstd = true, .orders = true };
	struct group *g;
	struct timespec now;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	g = s->group;
	if (offset == ORDER_AT && len == ORDER_SIZE) {
		err = give_order(s, buf, reason);
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	if (offset || len != SESSION_SIZE)
		err = refuse(s, EINVAL, reason, "read of %zu bytes at %" PRIu64 ": expected %u at 0, the session block",
			     len, offset, SESSION_SIZE);
	else if (!g)
		err = refuse(s, EINVAL, reason, "there was no hello: expected one before the session block is read");
	if (err) {
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	pthread_mutex_lock(&g->lock);
	/* cppcheck-suppress nullPointerRedundantCheck ; without a group there was an error */
	if (g->forgotten) {
		pthread_mutex_unlock(&g->lock);
		err = refuse(s, ESHUTDOWN, reason, "group %s was forgotten since: connect anew", s->name);
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	if (s->state == STATE_OVER || (s->state >= STATE_OPEN && g->session != s)) {
		s->state = STATE_OVER;
		err = check_open(s, reason);
	}
	if (!err)
		judge(s, &out);
	if (!err && out.state == SESSION_ACCEPTING)
		err = open_session(s, &out, reason);
	if (!err) {
		clock_gettime(CLOCK_REALTIME, &now);
		hub_identity(s->hub, out.hub);
		memcpy(out.group, g->uuid, sizeof(out.group));
		memcpy(out.name, g->name, sizeof(out.name));
		out.time = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
		out.generation = g->generation;
		out.offset = g->durable.offset;
		out.owes = replay_owes(&g->now);
		out.incarnation = g->durable.incarnation;
		out.seq = g->durable.seq;
		session_encode(&out, buf);
		s->state = out.state == SESSION_ACCEPTING ? STATE_OPEN : STATE_HELLO;
		if (out.state == SESSION_ACCEPTING) {
			hub_say(s->hub, LOG_NOTICE, "group %s: %s: session at %016" PRIx64 ":%" PRIu64 ", offset %" PRIu64,
				g->name, s->peer, out.incarnation, out.seq, out.offset);
			hubgroup_event(g, "session-opened", out.incarnation, out.seq, "%s", s->peer);
		} else {
			hub_say(s->hub, LOG_WARNING, "group %s: %s: no session: %s", g->name, s->peer, out.reason);
			hubgroup_event(g, out.state == SESSION_FULL ? "full" : "refused", 0, 0, "%s: %s", s->peer, out.reason);
		}
	}
	pthread_mutex_unlock(&g->lock);
	pthread_mutex_unlock(&s->lock);
	return err;
}

/**
 * hub_session_flush - make durable what was taken
 * @s: the session
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk. Frames may be written meanwhile.
 * Return: 0 or a positive errno.
 */
int hub_session_flush(struct hub_session *s, char *reason)
{
	char error[HUB_REASON_MAX];
	struct group *g;
	int err;

	pthread_mutex_lock(&s->lock);
	g = s->group;
	if (!g || s->state < STATE_OPEN) {
		err = refuse(s, EINVAL, reason, "there is no session: expected a hello, and a read of the session block");
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	pthread_mutex_lock(&g->lock);
	err = check_open(s, reason);
	/* Writes of this session go on while the disk works. */
	pthread_mutex_unlock(&s->lock);
	if (err) {
		pthread_mutex_unlock(&g->lock);
		return err;
	}
	err = hubgroup_sync(g, error);
	/* It is durable; but who has lost the group meanwhile must not go on as if it had it. */
	if (!err && g->session != s) {
		say_over(s, error);
		err = ESHUTDOWN;
	}
	pthread_mutex_unlock(&g->lock);
	if (err) {
		pthread_mutex_lock(&s->lock);
		err = refuse(s, err, reason, "flush: %.140s", error);
		pthread_mutex_unlock(&s->lock);
	}
	return err;
}

/**
 * hub_session_slowed - are answers to its frames to wait?
 * @s: the session
 *
 * What was taken counts all the same; but who waits for answers sends no more meanwhile.
 *
 * Return: whether it is the group's session, and room is just being made for what it sends.
 */
bool hub_session_slowed(struct hub_session *s)
{
	bool slowed = false;

	pthread_mutex_lock(&s->lock);
	if (s->group) {
		pthread_mutex_lock(&s->group->lock);
		slowed = s->group->session == s && space_slowed(s->group);
		pthread_mutex_unlock(&s->group->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return slowed;
}

/**
 * hub_session_still_slowed - the same, of a session that was, and by one who must not wait for one group on behalf of others
 * @s: the session
 *
 * Return: also true where it cannot be told at once.
 */
bool hub_session_still_slowed(struct hub_session *s)
{
	bool slowed = false;

	if (pthread_mutex_trylock(&s->lock))
		return true;
	if (s->group) {
		slowed = pthread_mutex_trylock(&s->group->lock);
		if (!slowed) {
			slowed = s->group->session == s && space_slowed(s->group);
			pthread_mutex_unlock(&s->group->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return slowed;
}

/**
 * hub_session_over - is it closed for good?
 * @s: the session
 * @reason: HUB_REASON_MAX bytes for why
 */
bool hub_session_over(struct hub_session *s, char *reason)
{
	bool over = false;

	if (pthread_mutex_trylock(&s->lock))
		return false;
	if (s->group && s->state >= STATE_OPEN) {
		pthread_mutex_lock(&s->group->lock);
		over = s->group->session != s;
		if (over)
			say_over(s, reason);
		pthread_mutex_unlock(&s->group->lock);
	}
	if (over)
		s->state = STATE_OVER;
	pthread_mutex_unlock(&s->lock);
	return over;
}
