// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One NBD connection.
 *
 * libnbd does the protocol, including the asynchronous handshake; this file
 * drives it from the loop, checks what the server offers, keeps account of
 * what is in flight, and turns failures into a fault and a sentence.
 *
 * libnbd calls completion() with its lock held: nothing in there may call
 * libnbd, so it only takes notes.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../common/parse.h"
#include "conn.h"

#define MAX_REQUEST	(32 * MIB)	/* where the server names no limit */
#define MAX_BYTES	(16 * MIB)	/* of payload in flight */
#define SLOTS_KEPT	2		/* for a flush and a heartbeat */
#define REPLIES		16		/* that are worth a wakeup */
#define REPLY_MIN	16		/* bytes of a simple reply */
#define MIN_BLOCK	512		/* a record may be as small */

static const char *const op_name[] = {
	[OP_READ] = "read", [OP_WRITE] = "write", [OP_ZERO] = "write-zeroes", [OP_TRIM] = "trim",
	[OP_FLUSH] = "flush", [OP_PROBE] = "flush",
};

static __attribute__((format(printf, 3, 4)))
void fault(struct conn *c, enum conn_fault what, const char *fmt, ...)
{
	va_list ap;

	if (c->fault)
		return;		/* what follows is a consequence */
	c->fault = what;
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
}

/*
 * Requests that are sent in one go share packets: a packet costs more than a
 * request of 4 KiB. What is held back leaves with conn_update(), or by itself
 * after 200 ms (tcp(7), TCP_CORK). Without TCP there is nothing to be gained.
 */
static void cork(struct conn *c, int on)
{
	if (c->corked == on || c->uncorkable)
		return;
	if (setsockopt(nbd_aio_get_fd(c->nbd), IPPROTO_TCP, TCP_CORK, &on, sizeof(on)) < 0)
		c->uncorkable = true;
	else
		c->corked = on;
}

/*
 * Replies are waited for by the dozen while many are due, so that the server's
 * work and ours do not take turns with each one. A reply has 16 bytes at least,
 * so what is waited for will come; how long that may take conn_late() bounds.
 */
static void expect_replies(struct conn *c)
{
	int due = __builtin_popcountll(c->inflight.used);
	int bytes = due >= 2 * REPLIES && !c->slow ? REPLIES * REPLY_MIN : 1;

	if (c->lowat == bytes || c->uncorkable || c->encrypted)
		return;
	if (!setsockopt(nbd_aio_get_fd(c->nbd), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)))
		c->lowat = bytes;
}

/* libnbd says "nbd_function: what: why"; the function is of no interest. */
static const char *nbd_text(void)
{
	const char *text = nbd_get_error(), *colon;

	if (!text)
		return "the server closed the connection";
	colon = strchr(text, ':');
	return colon && !strncmp(text, "nbd_", 4) ? colon + 2 : text;
}

static void died(struct conn *c)
{
	int err = nbd_get_errno(), fd;
	const char *text = nbd_text();

	c->dead = true;
	if (c->state == CONN_CONNECTING && strstr(text, "handshake: server") &&
	    err != ESHUTDOWN)
		fault(c, FAULT_REFUSED, "%s; check %s", text, strstr(text, "TLS") ?
		      "whether it is to be nbd:// or nbds://, and the certificates" :
		      "the export's name and the server's access rules");
	else
		fault(c, FAULT_LOST, "%s", text);
	fd = c->nbd ? nbd_aio_get_fd(c->nbd) : -1;
	if (fd >= 0)
		epoll_ctl(c->loop->epfd, EPOLL_CTL_DEL, fd, NULL);
}

/* A rephub says why in the next session; its log has it, too. */
static bool refused_frame(struct conn *c, const struct conn_request *rq, uint64_t start, int err)
{
	if (err == ESHUTDOWN)
		fault(c, FAULT_LOST, "the hub ended the session: it shuts down, or another daemon has opened one for this group");
	else if ((err == EPERM || err == EINVAL) && !start && rq->op == OP_WRITE)
		fault(c, FAULT_REFUSED, "it will have nothing of this group from here (%s); its log says why", strerror(err));
	else if (err == EPERM || err == EINVAL)
		fault(c, FAULT_LOST, "it refused a %s at byte %" PRIu64 " of the log (%s); its log says why",
		      op_name[rq->op], start, strerror(err));
	else
		return false;
	return true;
}

static void failed(struct conn *c, const struct conn_request *rq, uint64_t start,
		   uint64_t len, int err)
{
	char size[HUMAN_MAX];

	if (rq->op == OP_TRIM || err == ENOTCONN)
		return;		/* advice; or the connection's own end is to be told */
	if (rq->op == OP_ZERO && (err == ENOTSUP || err == EINVAL) && !c->no_zeroes) {
		c->no_zeroes = true;
		fault(c, FAULT_LOST, "the server failed write-zeroes, which it offers (%s); zeroes are written instead",
		      strerror(err));
		return;
	}
	if (c->frame_max && refused_frame(c, rq, start, err))
		return;
	if (err == ESHUTDOWN)
		fault(c, FAULT_LOST, "the server is shutting down");
	else if (rq->op == OP_READ)
		return;		/* for the owner to judge */
	else if (rq->op == OP_FLUSH || rq->op == OP_PROBE)
		fault(c, err == ENOSPC || err == EDQUOT ? FAULT_FULL : FAULT_LOST,
		      "flush failed: %s; look at the server's log and its disk", strerror(err));
	else if (err == ENOSPC || err == EDQUOT)
		fault(c, FAULT_FULL, "the hub has no space left (%s at byte %" PRIu64 "); make room there",
		      op_name[rq->op], start);
	else if (err == EPERM || err == EROFS)
		fault(c, FAULT_REFUSED, "the server forbids writing (%s at byte %" PRIu64 "); serve the export writable",
		      op_name[rq->op], start);
	else
		fault(c, FAULT_LOST, "%s of %s at byte %" PRIu64 " failed: %s; look at the server's log and its disk",
		      op_name[rq->op], human_size(size, len), start, strerror(err));
}

static int completion(void *data, int *error)
{
	struct conn_request *rq = data;
	struct conn *c = rq->conn;
	int i = (int)(rq - c->request);
	uint64_t start = c->inflight.start[i], len = c->inflight.end[i] - start;

	inflight_del(&c->inflight, i);
	if (rq->op == OP_WRITE)
		c->bytes -= len;
	if (*error)
		failed(c, rq, start, len, *error);
	if (*error && rq->op != OP_TRIM && rq->op != OP_READ)
		return 1;
	if (rq->op == OP_PROBE) {
		if (c->state == CONN_SETTLING)
			c->state = CONN_READY;
	} else {
		c->replied(c, rq->op, rq->tag, *error);
	}
	return 1;
}

static struct conn_request *request(struct conn *c, enum conn_op op, uint64_t start,
				    uint64_t len, unsigned int tag,
				    nbd_completion_callback *cb)
{
	int i = inflight_add(&c->inflight, start, start + len);
	struct conn_request *rq = &c->request[i];

	*rq = (struct conn_request) {
		.conn = c, .since = c->loop->now, .op = op, .tag = tag,
	};
	*cb = (nbd_completion_callback) { .callback = completion, .user_data = rq };
	c->used = c->loop->now;
	return rq;
}

/*
 * The connection may have broken just now.  A request that libnbd itself
 * refused was never sent and gets no callback.
 */
static void sent(struct conn *c, const struct conn_request *rq, int64_t cookie)
{
	if (cookie >= 0 && !nbd_aio_is_dead(c->nbd))
		return;
	if (cookie < 0)
		inflight_del(&c->inflight, (int)(rq - c->request));
	if (nbd_aio_is_dead(c->nbd))
		died(c);
	else
		fault(c, FAULT_LOST, "%s", nbd_text());
}

/**
 * conn_takes - whether a request can be sent now
 * @c: the connection
 * @start: its first byte
 * @end: the byte behind its last
 * @bytes: of payload
 *
 * Return: false while one that overlaps is in flight, or too much is.
 */
bool conn_takes(const struct conn *c, uint64_t start, uint64_t end, uint64_t bytes)
{
	return c->state == CONN_READY && !c->fault &&
	       __builtin_popcountll(c->inflight.used) < INFLIGHT_MAX - SLOTS_KEPT &&
	       (!c->bytes || c->bytes + bytes <= MAX_BYTES) &&
	       !inflight_overlaps(&c->inflight, start, end);
}

/**
 * conn_write - send a write; conn_takes() must have agreed
 * @c: the connection
 * @data: must stay until the reply
 * @start: first byte
 * @len: at most max_request bytes
 * @tag: comes back with the reply
 */
void conn_write(struct conn *c, const void *data, uint64_t start, uint64_t len,
		unsigned int tag)
{
	nbd_completion_callback cb;
	struct conn_request *rq = request(c, OP_WRITE, start, len, tag, &cb);

	cork(c, true);
	c->bytes += len;
	sent(c, rq, nbd_aio_pwrite(c->nbd, data, len, start, cb, 0));
}

/**
 * conn_zero - send a write-zeroes that may make a hole
 * @c: the connection; conn_takes() must have agreed, and it has zeroes
 * @start: first byte
 * @len: at most max_request bytes
 * @tag: comes back with the reply
 */
void conn_zero(struct conn *c, uint64_t start, uint64_t len, unsigned int tag)
{
	nbd_completion_callback cb;
	struct conn_request *rq = request(c, OP_ZERO, start, len, tag, &cb);

	cork(c, true);
	sent(c, rq, nbd_aio_zero(c->nbd, len, start, cb, 0));
}

/**
 * conn_trim - send a trim; its failure is no fault
 * @c: the connection; conn_takes() must have agreed, and it trims
 * @start: first byte
 * @len: at most max_request bytes
 * @tag: comes back with the reply
 */
void conn_trim(struct conn *c, uint64_t start, uint64_t len, unsigned int tag)
{
	nbd_completion_callback cb;
	struct conn_request *rq = request(c, OP_TRIM, start, len, tag, &cb);

	cork(c, true);
	sent(c, rq, nbd_aio_trim(c->nbd, len, start, cb, 0));
}

/**
 * conn_read - send a read
 * @c: the connection; conn_takes() must have agreed
 * @data: to be filled; must stay until the reply, or until conn_close()
 * @start: first byte
 * @len: at most max_request bytes
 * @tag: comes back with the reply
 */
void conn_read(struct conn *c, void *data, uint64_t start, uint64_t len, unsigned int tag)
{
	nbd_completion_callback cb;
	struct conn_request *rq = request(c, OP_READ, start, len, tag, &cb);

	cork(c, true);
	sent(c, rq, nbd_aio_pread(c->nbd, data, len, start, cb, 0));
}

static void flush(struct conn *c, enum conn_op op, unsigned int tag)
{
	nbd_completion_callback cb;
	struct conn_request *rq = request(c, op, 0, 0, tag, &cb);

	sent(c, rq, nbd_aio_flush(c->nbd, cb, 0));
}

/**
 * conn_flush - send a flush; there is always room for one
 * @c: the connection; it flushes
 * @tag: comes back with the reply
 */
void conn_flush(struct conn *c, unsigned int tag)
{
	flush(c, OP_FLUSH, tag);
}

/**
 * conn_check_size - fault if the export is smaller than the volume
 * @c: a connection behind its handshake
 * @bytes: size of the volume
 */
void conn_check_size(struct conn *c, uint64_t bytes)
{
	char is[HUMAN_MAX], need[HUMAN_MAX];

	if (c->state >= CONN_SETTLING && c->size < bytes)
		fault(c, FAULT_REFUSED, "the export has %s (%" PRIu64 " bytes) and the volume %s (%" PRIu64
		      "); enlarge it at the hub (truncate -s %" PRIu64 " IMAGE) and restart the server",
		      human_size(is, c->size), c->size, human_size(need, bytes), bytes, bytes);
}

/*
 * A hub that vanished without a word is noticed by TCP, too. With bbr, where the kernel has it, a line that loses packets
 * is not taken for one that is full.
 */
static void set_tcp(struct conn *c)
{
	unsigned int ms = (unsigned int)(c->cfg->timeout / NSEC_PER_MSEC);
	int fd = nbd_aio_get_fd(c->nbd), on = 1, idle = 10, interval = 5, count = 3;

	if (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) < 0)
		return;		/* a Unix socket */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	if (c->cfg->bbr)
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3);
}

/* Not every server has one. */
static void take_description(struct conn *c)
{
	char *text = nbd_get_export_description(c->nbd);

	snprintf(c->description, sizeof(c->description), "%s", text ? text : "");
	free(text);
}

/* The handshake is over: what does the server offer? */
static void negotiated(struct conn *c)
{
	int64_t size = nbd_get_size(c->nbd);
	int64_t min = nbd_get_block_size(c->nbd, LIBNBD_SIZE_MINIMUM);
	int64_t max = nbd_get_block_size(c->nbd, LIBNBD_SIZE_MAXIMUM);

	c->state = CONN_SETTLING;
	c->encrypted = nbd_get_tls_negotiated(c->nbd) == 1;
	c->size = size > 0 ? (uint64_t)size : 0;
	c->max_request = MAX_REQUEST;
	if (max > 0 && (uint64_t)max < MAX_REQUEST)
		c->max_request = (uint64_t)max & ~(uint64_t)(MIN_BLOCK - 1);
	c->flushes = nbd_can_flush(c->nbd) == 1;
	c->zeroes = nbd_can_zero(c->nbd) == 1 && !c->no_zeroes;
	c->trims = nbd_can_trim(c->nbd) == 1;
	set_tcp(c);
	if (c->described)
		take_description(c);

	if (nbd_is_read_only(c->nbd) != 0)
		fault(c, FAULT_REFUSED, "the export is read-only; serve it writable");
	else if (c->frame_max && (!c->flushes || c->max_request < c->frame_max))
		fault(c, FAULT_REFUSED, "what listens there is no rephub (%s); expected the address of one, or nbd:// for "
		      "another NBD server", c->flushes ? "its requests are too small" : "it has no FLUSH");
	else if (!c->flushes && !c->cfg->allow_no_flush)
		fault(c, FAULT_REFUSED, "the server has no FLUSH, so nobody knows what survives its power cut; "
		      "choose a server or setting that has it (nbd-server: flush = true), or accept "
		      "that with --allow-no-flush");
	else if (min > MIN_BLOCK || !c->max_request)
		fault(c, FAULT_REFUSED, "the server takes nothing smaller than %" PRId64
		      " bytes and records can have %d; serve the export with blocks of %d (nbdkit: --filter=blocksize)",
		      min, MIN_BLOCK, MIN_BLOCK);
	else if (c->flushes && !c->frame_max)
		flush(c, OP_PROBE, 0);
	else
		c->state = CONN_READY;
}

/**
 * conn_update - take note of where libnbd stands; call it after sending
 * @c: the connection
 */
void conn_update(struct conn *c)
{
	struct epoll_event ev = { .data.ptr = &c->watch };
	unsigned int dir;
	int fd;

	if (!c->nbd || c->dead)
		return;
	cork(c, false);
	expect_replies(c);
	if (nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd)) {
		died(c);
		return;
	}
	if (c->state == CONN_CONNECTING && nbd_aio_is_ready(c->nbd))
		negotiated(c);

	dir = nbd_aio_get_direction(c->nbd);
	if (dir & LIBNBD_AIO_DIRECTION_READ)
		ev.events |= EPOLLIN;
	if (dir & LIBNBD_AIO_DIRECTION_WRITE)
		ev.events |= EPOLLOUT;
	/* While it connects, libnbd may go from one socket to the next. */
	if (ev.events == c->interest && c->state != CONN_CONNECTING)
		return;
	c->interest = ev.events;
	fd = nbd_aio_get_fd(c->nbd);
	if (epoll_ctl(c->loop->epfd, EPOLL_CTL_MOD, fd, &ev) < 0 &&
	    epoll_ctl(c->loop->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		c->dead = true;
		fault(c, FAULT_LOST, "epoll: %s", strerror(errno));
	}
}

/*
 * Whether there is something to be read. libnbd 1.14 is not to be asked to read
 * in vain: where that happens in the middle of a request that is being sent, the
 * request is not gone on with.
 */
static bool has_bytes(const struct conn *c)
{
	int bytes = 0;

	return !ioctl(nbd_aio_get_fd(c->nbd), FIONREAD, &bytes) && bytes > 0;
}

/* libnbd takes one reply at a time. */
static int read_replies(struct conn *c)
{
	bool more;
	int r;

	c->slow = false;
	do {
		r = nbd_aio_notify_read(c->nbd);
		/* with TLS, bytes may be less than a record */
		more = !r && c->inflight.used && !c->encrypted &&
		       nbd_aio_get_direction(c->nbd) & LIBNBD_AIO_DIRECTION_READ &&
		       has_bytes(c);
	} while (more);
	return r;
}

static void conn_ready(struct watch *watch, uint32_t events)
{
	struct conn *c = (struct conn *)watch;
	unsigned int dir;
	int r = 0;

	if (!c->nbd || c->dead)
		return;
	dir = nbd_aio_get_direction(c->nbd);
	if (dir & LIBNBD_AIO_DIRECTION_READ && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = read_replies(c);
	else if (dir & LIBNBD_AIO_DIRECTION_WRITE && events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		r = nbd_aio_notify_write(c->nbd);
	if (r < 0)
		died(c);
	conn_update(c);
}

/**
 * conn_late - whether replies may have come that the loop was not told of
 * @c: the connection
 *
 * If so, conn_look() is to be called within a millisecond or two.
 */
bool conn_late(const struct conn *c)
{
	return c->nbd && !c->dead && c->lowat > 1;
}

/**
 * conn_look - take the replies that have come
 * @c: the connection
 *
 * If there are none, the hub or the way to it is slow, and the next one wakes
 * the loop: nobody looks a thousand times a second.
 */
void conn_look(struct conn *c)
{
	c->slow = !has_bytes(c);
	if (c->slow)
		expect_replies(c);
	else
		conn_ready(&c->watch, EPOLLIN);
}

/**
 * conn_open - begin to connect
 * @c: a closed connection whose uri, loop, cfg, replied and owner are set
 */
void conn_open(struct conn *c)
{
	c->watch.ready = conn_ready;
	c->state = CONN_CONNECTING;
	c->used = c->loop->now;
	c->nbd = nbd_create();
	if (!c->nbd ||
	    (c->cfg->tls_certificates &&
	     nbd_set_tls_certificates(c->nbd, c->cfg->tls_certificates) < 0) ||
	    (c->described && nbd_set_full_info(c->nbd, true) < 0) ||
	    nbd_aio_connect_uri(c->nbd, c->uri) < 0)
		died(c);
	else
		conn_update(c);
}

/**
 * conn_close - end a connection at once
 * @c: the connection, of any state
 */
void conn_close(struct conn *c)
{
	if (c->nbd && c->state == CONN_READY && !c->dead && conn_quiet(c))
		nbd_aio_disconnect(c->nbd, 0);
	/* A job that was forked just now may have it still, and then epoll would. */
	if (c->nbd && !c->dead)
		epoll_ctl(c->loop->epfd, EPOLL_CTL_DEL, nbd_aio_get_fd(c->nbd), NULL);
	nbd_close(c->nbd);
	c->nbd = NULL;
	c->state = CONN_CLOSED;
	c->fault = FAULT_NONE;
	c->dead = false;
	c->corked = false;
	c->uncorkable = false;
	c->encrypted = false;
	c->slow = false;
	c->lowat = 1;
	c->inflight.used = 0;
	c->bytes = 0;
	c->interest = 0;
}

/**
 * conn_quiet - whether nothing is in flight, nor ever will be answered
 * @c: the connection
 */
bool conn_quiet(const struct conn *c)
{
	return c->dead || !c->inflight.used;
}

/**
 * conn_tick - look for requests without a reply, and keep the line warm
 * @c: the connection; call this now and then
 */
void conn_tick(struct conn *c)
{
	char time[HUMAN_MAX];
	uint64_t left;

	if (c->state < CONN_SETTLING || c->fault)
		return;
	for (left = c->inflight.used; left; left &= left - 1) {
		const struct conn_request *rq = &c->request[__builtin_ctzll(left)];

		if (c->loop->now - rq->since > c->cfg->timeout) {
			fault(c, FAULT_LOST, "no answer to a %s for %s; is the hub, or its disk, overloaded or gone?",
			      op_name[rq->op], human_duration(time, c->cfg->timeout));
			return;
		}
	}
	if (c->state == CONN_READY && c->flushes && !c->inflight.used &&
	    c->loop->now - c->used >= c->cfg->heartbeat) {
		flush(c, OP_PROBE, 0);
		conn_update(c);
	}
}
