// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The server: workers, connections, and the way of a request.
 *
 * A worker is a thread with an epoll loop.  A connection belongs to one worker
 * for its life, so nearly all state is one thread's alone; what crosses threads
 * goes through the worker's mailbox.
 *
 * A client's request is a struct cmd.  The backend gets it in pieces, struct
 * piece, of at most NBDS_PIECE_MAX bytes, each with a buffer of the worker's
 * pool:
 *
 *	header -> check -> todo -> piece (buffer) -> backend -> done -> out -> sent
 *
 * Nothing in this chain has no bound.  A connection has at most CMDS_MAX
 * requests whose replies are not sent; while it has that many, nothing is read
 * from it.  Of the pool it may hold a quarter of what is free, so that something
 * is left for one that comes, and no more than its window, which begins small
 * and grows with what the client takes.  Who gets nothing waits in the list
 * `hungry` and is served in turn when a buffer comes back.  If somebody waits who
 * has nothing at all, those are dropped who take nothing of theirs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

#define CMDS_MAX	64u		/* of a connection, not yet answered */
#define RX_SIZE		(16u << 10)	/* read at a time, and kept if it must wait */
#define PIECE_LEAST	(32u << 10)	/* pieces are not made smaller than this */
#define WINDOW_FIRST	(64u << 10)	/* of the pool, until replies are taken */
#define SHARE		4		/* a connection holds at most 1/SHARE of what is free */
#define PRESSURE_MS	2000u		/* who takes nothing for so long is dropped if others starve */
#define STATUS_SIZE	(16u << 10)	/* of a BLOCK_STATUS reply */
#define SEND_MAX	(1u << 20)	/* to one connection in one turn */
#define IOV_NR		128
#define TLS_RECORD	16384u
#define HEAD_MAX	(NBD_CHUNK_SIZE + 6 + NBDS_REASON_MAX)
#define LISTENERS_MAX	16u
#define POOL_LEAST	(2u << 20)
#define STOP_MS		3000		/* for what is under way when the server stops */
#define RATE_BURST_NS	UINT64_C(50000000)

struct conn;

/* What an epoll event is about. */
struct source {
	enum { SOURCE_LISTENER, SOURCE_MAILBOX, SOURCE_AIO, SOURCE_CONN } kind;
	int fd;
};

struct piece {
	struct nbds_request rq;		/* first: nbds_complete() finds us by it */
	struct cmd *cmd;		/* until it is answered */
	struct conn *conn;
	STAILQ_ENTRY(piece) link;	/* in done, mail, ready, held or out */
	uint8_t *mem;			/* the buffer, of the pool */
	uint32_t mem_size;
	int error;
	bool last;			/* the reply to its request ends with this */
	uint16_t head_len;
	uint32_t body_len;
	const uint8_t *body;
	uint32_t sent;			/* of head and body */
	uint32_t nr_extents;
	uint32_t filled;		/* WRITE: bytes received */
	uint8_t head[HEAD_MAX];
};
STAILQ_HEAD(pieces, piece);

struct cmd {
	struct conn *conn;
	STAILQ_ENTRY(cmd) link;		/* in todo */
	struct request_header h;
	uint64_t next, end;		/* what is not yet in a piece */
	uint64_t emitted;		/* large reads: up to here it is in out */
	struct pieces ready;		/* large reads: done before their turn */
	unsigned int pending;		/* pieces at the backend */
	unsigned int context;		/* STATUS: the next of the chosen ones */
	bool started;
	bool large;			/* a read of several pieces in one simple reply */
	uint32_t error;			/* the first, as on the wire */
	char reason[NBDS_REASON_MAX];
};

/*
 *	state	means						next
 *	NEGO	the handshake					TLS, SERVE, DRAIN, DEAD
 *	TLS	that of TLS					NEGO, DEAD
 *	SERVE	requests are taken				DRAIN, DEAD
 *	DRAIN	what is under way is answered, then it ends	DEAD
 *	DEAD	the socket is closed; pieces at the backend
 *		are waited for
 */
/* REFUSED: the client was told by TLS why not, and is left the time to read it. */
enum conn_state { CONN_NEGO, CONN_TLS, CONN_REFUSED, CONN_SERVE, CONN_DRAIN, CONN_DEAD };

struct conn {
	struct source source;		/* first */
	struct worker *worker;
	TAILQ_ENTRY(conn) all;
	TAILQ_ENTRY(conn) hungry_link, send_link, again_link;
	struct conn *next;		/* in the mailbox, or the graveyard */
	enum conn_state state;
	uint32_t events;		/* what epoll looks for */
	bool hungry, sending, again;	/* in that list of the worker */
	bool blocked;			/* input waits for room of ours */
	bool starved;			/* has no buffer, and did not get one */
	bool gone;			/* the backend has given the export up */
	bool buried;
	bool structured;
	uint64_t since;			/* ms: begin, or the last progress of out */
	uint64_t got;			/* ms: the last byte that came */
	struct nbds_peer peer;
	struct tls_session *tls;
	struct nego *nego;		/* until SERVE */
	size_t nego_sent;
	char gone_reason[NBDS_REASON_MAX];

	void *export;
	struct nbds_info info;
	unsigned int nr_meta;
	uint8_t meta[NBDS_CONTEXTS_MAX];

	uint8_t *stash;			/* bytes that were read and not used */
	size_t stash_len;
	struct cmd *rx;			/* the WRITE whose payload comes */
	struct piece *rx_piece;
	uint64_t rx_left;		/* bytes of payload to come */

	STAILQ_HEAD(cmds, cmd) todo;
	unsigned int nr_cmds;		/* not answered */
	unsigned int pending;		/* pieces at the backend */
	size_t held;			/* bytes of the pool */
	size_t window;			/* so many it may hold */
	struct cmd *owner;		/* the large read whose reply is under way */
	struct pieces held_back;	/* replies that wait for its end */
	struct pieces out;
};

struct worker {
	struct nbds_server *server;
	pthread_t thread;
	bool started;
	int epfd;
	struct aio aio;
	struct pool pool;
	TAILQ_HEAD(conns_head, conn) all, hungry, sending, again;
	struct conn *graveyard;
	struct pieces done;
	bool freed;			/* a buffer came back */
	uint64_t now;			/* ms */
	uint64_t next_tick;		/* ms */
	uint64_t rate_wake;		/* ns; 0: nobody waits for the rate */
	struct source aio_source, mail_source;

	struct source listener[LISTENERS_MAX];	/* of worker 0 */
	bool accept_paused;
	uint64_t stop_at;		/* ms: when stopping, no longer than this */

	pthread_mutex_t mail_lock;	/* guards the mailbox: the next three */
	struct pieces mail_done;
	struct conn *mail_conns;
	bool mail_sent;			/* the eventfd was written to */

	atomic_uint nr_conns;		/* of this worker */
	atomic_ullong requests, read_bytes, written_bytes;
	uint8_t rx[RX_SIZE];
	uint8_t tls_record[TLS_RECORD];
};

struct nbds_server {
	struct nbds_config cfg;
	unsigned int nr_workers;
	struct worker **worker;
	atomic_uint nr_conns, nr_listeners;
	atomic_ullong accepted, refused;
	atomic_ullong rate_time;	/* ns: until when the rate is used up */
	atomic_bool stopping;
	pthread_mutex_t tls_lock;	/* guards tls */
	struct tls_credentials *tls;
};

static __thread struct worker *this_worker;

static void pump(struct conn *c);
static void dispatch(struct conn *c);
static void conn_kill(struct conn *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static __attribute__((format(printf, 3, 4)))
void say(const struct nbds_server *s, int priority, const char *fmt, ...)
{
	char line[768];
	va_list ap;

	if (!s->cfg.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	s->cfg.log(s->cfg.data, priority, line);
}

static const char *peer_name(const struct conn *c)
{
	return c->peer.tls && c->peer.nr_names ? c->peer.names[0] : "";
}

static void nego_log(void *data, int priority, const char *line)
{
	struct conn *c = data;

	say(c->worker->server, priority, "%s%s%s: %s", c->peer.address,
	    *peer_name(c) ? ", " : "", peer_name(c), line);
}

/* ---- buffers ------------------------------------------------------------- */

static void release_mem(struct piece *p)
{
	struct worker *w = p->conn->worker;

	if (!p->mem)
		return;
	pool_free(&w->pool, p->mem, p->mem_size);
	p->conn->held -= p->mem_size;
	p->mem = NULL;
	w->freed = true;
}

/*
 * Take a buffer for what begins at @offset. Return how much of @len it is for,
 * 0 if there is none now. With @whole it is for all of it or none.
 */
static uint32_t take_mem(struct piece *p, uint64_t offset, uint64_t len, bool whole)
{
	struct conn *c = p->conn;
	struct pool *pool = &c->worker->pool;
	size_t lead = offset % NBDS_ALIGN, size;

	size = pool_size_for(len + lead < NBDS_PIECE_MAX ? (size_t)len + lead : NBDS_PIECE_MAX);
	for (;;) {
		if ((c->held + size <= c->window && c->held + size <= pool->free / SHARE) ||
		    (!c->held && (whole || size <= PIECE_LEAST)))
			p->mem = pool_alloc(pool, size);
		if (p->mem)
			break;
		if (whole || size <= PIECE_LEAST) {
			c->starved = !c->held;
			return 0;
		}
		size /= 2;
	}
	p->mem_size = (uint32_t)size;
	c->held += size;
	c->starved = false;
	p->rq.buf = p->mem + lead;
	return len < size - lead ? (uint32_t)len : (uint32_t)(size - lead);
}

static void go_hungry(struct conn *c)
{
	if (c->hungry)
		return;
	c->hungry = true;
	TAILQ_INSERT_TAIL(&c->worker->hungry, c, hungry_link);
}

/* ---- pieces and replies -------------------------------------------------- */

static struct piece *piece_new(struct cmd *cmd)
{
	struct piece *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->cmd = cmd;
	p->conn = cmd->conn;
	return p;
}

static void piece_free(struct piece *p)
{
	release_mem(p);
	free(p);
}

static void pieces_free(struct pieces *list)
{
	struct piece *p;

	while ((p = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		piece_free(p);
	}
}

static void want_send(struct conn *c)
{
	if (c->sending)
		return;
	c->sending = true;
	TAILQ_INSERT_TAIL(&c->worker->sending, c, send_link);
}

static void out_append(struct conn *c, struct piece *p)
{
	if (STAILQ_EMPTY(&c->out))
		c->since = c->worker->now;
	STAILQ_INSERT_TAIL(&c->out, p, link);
	want_send(c);
}

/* A reply, or a part of one, is ready to be sent. */
static void emit(struct piece *p)
{
	struct conn *c = p->conn;

	if (c->owner && p->cmd != c->owner)
		STAILQ_INSERT_TAIL(&c->held_back, p, link);
	else
		out_append(c, p);
	if (p->last) {
		if (c->owner == p->cmd) {
			c->owner = NULL;
			if (!STAILQ_EMPTY(&c->held_back))
				STAILQ_CONCAT(&c->out, &c->held_back);
		}
		free(p->cmd);
	}
	p->cmd = NULL;
}

static void simple_head(struct piece *p, uint32_t error)
{
	uint8_t *h = put_be32(p->head, NBD_SIMPLE_REPLY_MAGIC);

	h = put_be32(h, error);
	h = put_be64(h, p->cmd->h.cookie);
	p->head_len = (uint16_t)(h - p->head);
}

/* A chunk whose payload is @extra bytes of the head, put by the caller, and @body. */
static uint8_t *chunk_head(struct piece *p, uint16_t type, uint32_t extra,
			   const uint8_t *body, uint32_t len)
{
	uint8_t *h = put_be32(p->head, NBD_STRUCTURED_REPLY_MAGIC);

	h = put_be16(h, p->last ? NBD_REPLY_FLAG_DONE : 0);
	h = put_be16(h, type);
	h = put_be64(h, p->cmd->h.cookie);
	h = put_be32(h, extra + len);
	p->head_len = (uint16_t)(NBD_CHUNK_SIZE + extra);
	p->body = body;
	p->body_len = len;
	return h;
}

static void error_head(struct piece *p, uint32_t error, const char *reason)
{
	uint32_t len = (uint32_t)strnlen(reason, NBDS_REASON_MAX - 1);
	uint8_t *h;

	release_mem(p);
	if (!p->conn->structured) {
		simple_head(p, error);
		return;
	}
	h = chunk_head(p, NBD_REPLY_TYPE_ERROR, 6 + len, NULL, 0);
	h = put_be32(h, error);
	h = put_be16(h, (uint16_t)len);
	memcpy(h, reason, len);
}

/* The whole reply of a request that has no data. */
static void answer(struct piece *p)
{
	struct cmd *cmd = p->cmd;

	p->last = true;
	release_mem(p);
	if (cmd->error)
		error_head(p, cmd->error, cmd->reason);
	else if (p->conn->structured)
		chunk_head(p, NBD_REPLY_TYPE_NONE, 0, NULL, 0);
	else
		simple_head(p, 0);
	emit(p);
}

/* Nothing of it is to be given to the backend any more. */
static void cmd_cancel(struct cmd *cmd)
{
	struct conn *c = cmd->conn;

	cmd->next = cmd->end;
	cmd->context = c->nr_meta;
	if (STAILQ_FIRST(&c->todo) == cmd)
		STAILQ_REMOVE_HEAD(&c->todo, link);
}

static bool cmd_is_over(const struct cmd *cmd)
{
	if (cmd->pending || cmd->conn->rx == cmd)
		return false;
	return cmd->h.type == NBD_CMD_BLOCK_STATUS ? cmd->context == cmd->conn->nr_meta :
						     cmd->next == cmd->end;
}

/*
 * A simple reply has no place for an error once its head is sent: then only the
 * connection can end.
 */
static void large_read_done(struct piece *p)
{
	struct cmd *cmd = p->cmd;
	struct conn *c = p->conn;
	struct piece *q, *before = NULL;

	if (cmd->error && cmd->emitted > cmd->h.offset) {
		piece_free(p);
		conn_kill(c, "a read failed in the midst of its reply (%s), and the client did not agree on structured replies",
			  cmd->reason);
		return;
	}
	if (cmd->error) {
		pieces_free(&cmd->ready);
		if (cmd_is_over(cmd))
			answer(p);
		else
			piece_free(p);
		return;
	}
	if (p->rq.hole)
		memset(p->rq.buf, 0, p->rq.length);
	p->body = p->rq.buf;
	p->body_len = p->rq.length;
	STAILQ_FOREACH(q, &cmd->ready, link) {
		if (q->rq.offset > p->rq.offset)
			break;
		before = q;
	}
	if (before)
		STAILQ_INSERT_AFTER(&cmd->ready, before, p, link);
	else
		STAILQ_INSERT_HEAD(&cmd->ready, p, link);
	while ((p = STAILQ_FIRST(&cmd->ready)) && p->rq.offset == cmd->emitted) {
		STAILQ_REMOVE_HEAD(&cmd->ready, link);
		if (cmd->emitted == cmd->h.offset)
			simple_head(p, 0);
		cmd->emitted += p->rq.length;
		p->last = cmd->emitted == cmd->end;
		emit(p);
		if (p->last)
			return;	/* cmd is gone */
	}
}

static void read_done(struct piece *p)
{
	struct cmd *cmd = p->cmd;
	uint8_t *h;

	p->last = cmd_is_over(cmd);
	if (p->error) {
		error_head(p, cmd->error, cmd->reason);
	} else if (!p->conn->structured) {
		if (p->rq.hole)
			memset(p->rq.buf, 0, p->rq.length);
		simple_head(p, 0);
		p->body = p->rq.buf;
		p->body_len = p->rq.length;
	} else if (p->rq.hole) {
		release_mem(p);
		h = chunk_head(p, NBD_REPLY_TYPE_OFFSET_HOLE, 12, NULL, 0);
		put_be32(put_be64(h, p->rq.offset), p->rq.length);
	} else {
		h = chunk_head(p, NBD_REPLY_TYPE_OFFSET_DATA, 8, p->rq.buf, p->rq.length);
		put_be64(h, p->rq.offset);
	}
	emit(p);
}

static void status_done(struct piece *p)
{
	struct cmd *cmd = p->cmd;

	p->last = cmd_is_over(cmd);
	if (!p->error && !p->nr_extents) {
		p->error = EIO;
		cmd->error = NBD_EIO;
		snprintf(cmd->reason, sizeof(cmd->reason), "the block status is not known");
	}
	if (p->error) {
		error_head(p, cmd->error, cmd->reason);
	} else {
		put_be32(p->mem, p->rq.context + 1u);
		chunk_head(p, NBD_REPLY_TYPE_BLOCK_STATUS, 0, p->mem, 4 + 8 * p->nr_extents);
	}
	emit(p);
}

static void bury(struct conn *c)
{
	if (c->buried || c->pending)
		return;
	c->buried = true;
	c->next = c->worker->graveyard;
	c->worker->graveyard = c;
}

/* The backend has done a piece. */
static void piece_done(struct piece *p)
{
	struct cmd *cmd = p->cmd;
	struct conn *c = p->conn;
	struct worker *w = c->worker;

	cmd->pending--;
	c->pending--;
	if (c->state == CONN_DEAD) {
		piece_free(p);
		if (!cmd->pending)
			free(cmd);
		bury(c);
		return;
	}
	if (p->error && !cmd->error) {
		cmd->error = request_error(p->error);
		snprintf(cmd->reason, sizeof(cmd->reason), "%s",
			 p->rq.reason[0] ? p->rq.reason : strerror(p->error));
		say(w->server, LOG_WARNING, "%s: %s of %" PRIu32 " bytes at %" PRIu64 " failed: %s",
		    c->peer.address, p->rq.op == NBDS_READ ? "read" : p->rq.op == NBDS_WRITE ?
		    "write" : p->rq.op == NBDS_FLUSH ? "flush" : p->rq.op == NBDS_TRIM ? "trim" :
		    p->rq.op == NBDS_ZERO ? "write of zeroes" : "block status",
		    p->rq.length, p->rq.offset, cmd->reason);
	}
	if (p->error && p->rq.op == NBDS_READ)
		cmd_cancel(cmd);
	switch (p->rq.op) {
	case NBDS_READ:
		if (!p->error)
			atomic_fetch_add_explicit(&w->read_bytes, p->rq.length,
						  memory_order_relaxed);
		if (cmd->large)
			large_read_done(p);
		else
			read_done(p);
		break;
	case NBDS_STATUS:
		status_done(p);
		break;
	case NBDS_WRITE:
		if (!p->error)
			atomic_fetch_add_explicit(&w->written_bytes, p->rq.length,
						  memory_order_relaxed);
		/* fall through */
	default:
		if (cmd_is_over(cmd))
			answer(p);
		else
			piece_free(p);
		break;
	}
	/* A large read may wait until all before it is done. */
	if (c->state != CONN_DEAD && !STAILQ_EMPTY(&c->todo) && !c->again) {
		c->again = true;
		TAILQ_INSERT_TAIL(&w->again, c, again_link);
	}
}

/**
 * nbds_release - the bytes of a WRITE are not needed any more, though it is not done
 * @rq: it; its buffer is gone
 *
 * Context: within nbds_ops.submit().
 */
void nbds_release(struct nbds_request *rq)
{
	release_mem((struct piece *)(void *)rq);
	rq->buf = NULL;
}

/**
 * nbds_complete - a request is done
 * @rq: it; gone with this call
 * @error: 0 or a positive errno
 *
 * Context: any thread.
 */
void nbds_complete(struct nbds_request *rq, int error)
{
	struct piece *p = (struct piece *)(void *)rq;
	struct worker *w = p->conn->worker;
	uint64_t one = 1;
	bool tell;

	p->error = error;
	if (w == this_worker) {
		STAILQ_INSERT_TAIL(&w->done, p, link);
		return;
	}
	pthread_mutex_lock(&w->mail_lock);
	STAILQ_INSERT_TAIL(&w->mail_done, p, link);
	tell = !w->mail_sent;
	w->mail_sent = true;
	if (tell && write(w->mail_source.fd, &one, sizeof(one)) < 0)
		w->mail_sent = false;	/* cannot be: the counter does not overflow */
	pthread_mutex_unlock(&w->mail_lock);
}

/**
 * nbds_extent - describe the next bytes of a STATUS request
 * @rq: it; extents come in order and without gaps from its offset on
 * @length: bytes
 * @flags: what they are, as the context defines it
 *
 * Return: whether more can be taken; if not, complete the request.
 */
bool nbds_extent(struct nbds_request *rq, uint64_t length, uint32_t flags)
{
	struct piece *p = (struct piece *)(void *)rq;
	uint8_t *next = p->mem + 4 + 8 * (size_t)p->nr_extents;
	uint64_t left = rq->length - p->filled;

	if (length > left)
		length = left;
	if (!length)
		return left;
	if (p->nr_extents && get_be32(next - 4) == flags) {
		put_be32(next - 8, get_be32(next - 8) + (uint32_t)length);
	} else if ((rq->one && p->nr_extents) || p->nr_extents == (STATUS_SIZE - 4) / 8) {
		return false;
	} else {
		put_be32(put_be32(next, (uint32_t)length), flags);
		p->nr_extents++;
	}
	p->filled += (uint32_t)length;
	return p->filled < rq->length;
}

/* ---- requests to the backend --------------------------------------------- */

static void submit(struct piece *p)
{
	struct conn *c = p->conn;

	p->cmd->pending++;
	c->pending++;
	if (c->gone) {
		snprintf(p->rq.reason, sizeof(p->rq.reason), "%s", c->gone_reason);
		nbds_complete(&p->rq, ESHUTDOWN);
		return;
	}
	c->worker->server->cfg.ops->submit(c->export, &p->rq);
}

/* May be read now? If not, when is noted for the loop. */
static bool rate_allows(struct worker *w)
{
	uint64_t used, now;

	if (!w->server->cfg.rate)
		return true;
	now = now_ns();
	used = atomic_load(&w->server->rate_time);
	if (used <= now + RATE_BURST_NS)
		return true;
	if (!w->rate_wake || used - RATE_BURST_NS < w->rate_wake)
		w->rate_wake = used - RATE_BURST_NS;
	return false;
}

static void rate_use(struct worker *w, uint32_t bytes)
{
	struct nbds_server *s = w->server;
	unsigned long long used, next;
	uint64_t now;

	if (!s->cfg.rate)
		return;
	now = now_ns();
	used = atomic_load(&s->rate_time);
	do {
		next = (used > now ? used : now) +
		       (unsigned long long)((double)bytes * 1e9 / (double)s->cfg.rate);
	} while (!atomic_compare_exchange_weak(&s->rate_time, &used, next));
}

static enum nbds_op op_of(uint16_t type)
{
	switch (type) {
	case NBD_CMD_READ:
		return NBDS_READ;
	case NBD_CMD_WRITE:
		return NBDS_WRITE;
	case NBD_CMD_FLUSH:
		return NBDS_FLUSH;
	case NBD_CMD_TRIM:
		return NBDS_TRIM;
	case NBD_CMD_WRITE_ZEROES:
		return NBDS_ZERO;
	default:
		return NBDS_STATUS;
	}
}

/* Make the next piece of a request. Return it if it has all that it needs. */
static struct piece *next_piece(struct cmd *cmd)
{
	struct conn *c = cmd->conn;
	struct piece *p;
	uint32_t len = 0;
	bool whole;

	if (cmd->h.type == NBD_CMD_READ && !rate_allows(c->worker)) {
		go_hungry(c);
		return NULL;
	}
	p = piece_new(cmd);
	if (!p) {
		conn_kill(c, "out of memory");
		return NULL;
	}
	p->rq.op = op_of(cmd->h.type);
	p->rq.offset = cmd->next;
	p->rq.fua = cmd->h.flags & NBD_CMD_FLAG_FUA;
	p->rq.no_hole = cmd->h.flags & NBD_CMD_FLAG_NO_HOLE;
	p->rq.fast = cmd->h.flags & NBD_CMD_FLAG_FAST_ZERO;
	p->rq.one = cmd->h.flags & NBD_CMD_FLAG_REQ_ONE;
	switch (p->rq.op) {
	case NBDS_READ:
	case NBDS_WRITE:
		/* One chunk, or one simple reply, is in one piece. */
		whole = (cmd->h.flags & NBD_CMD_FLAG_DF) ||
			(cmd->h.type == NBD_CMD_READ && !c->structured && !cmd->large);
		len = take_mem(p, cmd->next, cmd->end - cmd->next, whole);
		if (!len)
			goto starved;
		/* Pieces end where blocks do. */
		if (len < cmd->end - cmd->next)
			len -= (uint32_t)((cmd->next + len) % c->info.min_block);
		cmd->next += len;
		if (p->rq.op == NBDS_READ)
			rate_use(c->worker, len);
		break;
	case NBDS_STATUS:
		if (!take_mem(p, 0, STATUS_SIZE, true))
			goto starved;
		p->rq.context = c->meta[cmd->context++];
		len = cmd->h.length;
		p->rq.buf = NULL;
		break;
	default:
		len = cmd->h.length;
		cmd->next = cmd->end;
		break;
	}
	p->rq.length = len;
	return p;
starved:
	piece_free(p);
	go_hungry(c);
	return NULL;
}

/* Give the backend what there is to do, as far as there is room. */
static void dispatch(struct conn *c)
{
	struct cmd *cmd;
	struct piece *p;

	while ((cmd = STAILQ_FIRST(&c->todo))) {
		/*
		 * The one simple reply of a large read must not wait for memory
		 * that replies held back behind it have: it begins alone.
		 */
		if (cmd->large && !cmd->started) {
			if (c->pending || c->owner)
				return;
			c->owner = cmd;
		}
		cmd->started = true;
		p = next_piece(cmd);
		if (!p)
			return;
		if (cmd->h.type == NBD_CMD_BLOCK_STATUS ? cmd->context == c->nr_meta :
							   cmd->next == cmd->end)
			STAILQ_REMOVE_HEAD(&c->todo, link);
		submit(p);
	}
}

/* ---- input --------------------------------------------------------------- */

/* A WRITE's payload is all there, or was passed over. */
static void write_received(struct conn *c)
{
	struct cmd *cmd = c->rx;
	struct piece *p;

	c->rx = NULL;
	if (cmd->pending || (!cmd->error && cmd->h.length))
		return;		/* the last piece answers */
	p = piece_new(cmd);
	if (p)
		answer(p);
	else
		conn_kill(c, "out of memory");
}

static void request_taken(struct conn *c, const struct request_header *h)
{
	struct cmd *cmd;
	struct piece *p;

	if (h->type == NBD_CMD_DISC) {
		c->state = CONN_DRAIN;
		return;
	}
	cmd = calloc(1, sizeof(*cmd));
	if (!cmd) {
		conn_kill(c, "out of memory");
		return;
	}
	cmd->conn = c;
	cmd->h = *h;
	cmd->next = h->offset;
	cmd->emitted = h->offset;
	STAILQ_INIT(&cmd->ready);
	c->nr_cmds++;
	atomic_fetch_add_explicit(&c->worker->requests, 1, memory_order_relaxed);
	cmd->error = request_check(h, &c->info, c->structured, c->nr_meta, cmd->reason);
	if (cmd->error) {
		cmd->end = cmd->next;
		cmd->context = c->nr_meta;
	} else if (h->type == NBD_CMD_FLUSH) {
		cmd->next = 0;
		cmd->end = 1;		/* one piece, and nothing of a range */
		cmd->h.offset = 0;
		cmd->h.length = 0;
	} else {
		cmd->end = h->offset + h->length;
	}
	if (h->type == NBD_CMD_WRITE) {
		c->rx = cmd;
		c->rx_left = h->length;
		c->got = c->worker->now;
		if (!c->rx_left)
			write_received(c);
		return;
	}
	if (cmd->error || cmd->next == cmd->end) {
		p = piece_new(cmd);
		if (!p) {
			free(cmd);
			conn_kill(c, "out of memory");
			return;
		}
		answer(p);
		return;
	}
	cmd->large = h->type == NBD_CMD_READ && !c->structured &&
		     h->length > NBDS_PIECE_MAX - h->offset % NBDS_ALIGN;
	STAILQ_INSERT_TAIL(&c->todo, cmd, link);
}

/* Where the payload's next bytes are to go; NULL: nowhere now. */
static uint8_t *payload_room(struct conn *c, size_t *room)
{
	struct piece *p = c->rx_piece;

	if (!p) {
		/* in the order of arrival */
		dispatch(c);
		if (c->state == CONN_SERVE && STAILQ_EMPTY(&c->todo))
			p = next_piece(c->rx);
		if (!p)
			return NULL;
		c->rx_piece = p;
	}
	*room = p->rq.length - p->filled;
	return (uint8_t *)p->rq.buf + p->filled;
}

static void payload_came(struct conn *c, size_t len)
{
	struct piece *p = c->rx_piece;

	c->rx_left -= len;
	c->got = c->worker->now;
	p->filled += (uint32_t)len;
	if (p->filled < p->rq.length)
		return;
	c->rx_piece = NULL;
	if (!c->rx_left)
		c->rx = NULL;	/* the last piece answers */
	submit(p);
}

/* Take requests and payloads out of what was read. Return how much is used. */
static size_t serve(struct conn *c, const uint8_t *data, size_t len)
{
	struct request_header h;
	size_t used = 0, room;
	uint8_t *to;

	c->blocked = false;
	while (c->state == CONN_SERVE) {
		size_t left = len - used;

		if (c->rx && c->rx->error && !c->rx_piece) {
			if (left > c->rx_left)
				left = c->rx_left;
			used += left;
			c->rx_left -= left;
			if (c->rx_left)
				return used;
			c->rx->next = c->rx->end;
			write_received(c);
			continue;
		}
		if (c->rx) {
			to = payload_room(c, &room);
			if (!to) {
				c->blocked = true;
				return used;
			}
			if (!left)
				return used;
			if (left > room)
				left = room;
			memcpy(to, data + used, left);
			used += left;
			payload_came(c, left);
			continue;
		}
		if (left < NBD_REQUEST_SIZE)
			return used;
		if (c->nr_cmds >= CMDS_MAX) {
			c->blocked = true;
			return used;
		}
		if (!request_parse(&h, data + used)) {
			conn_kill(c, "connection ended: this is no NBD request");
			return len;
		}
		used += NBD_REQUEST_SIZE;
		request_taken(c, &h);
	}
	return len;	/* nothing more is of interest */
}

static void begin_serving(struct conn *c)
{
	struct nego *n = c->nego;

	c->export = n->export;
	n->export = NULL;
	c->info = n->info;
	c->structured = n->structured;
	c->nr_meta = n->nr_meta;
	memcpy(c->meta, n->meta, sizeof(c->meta));
	c->state = CONN_SERVE;
}

/* Take what was read. Return how much is used; the rest is to be kept. */
static size_t process(struct conn *c, const uint8_t *data, size_t len)
{
	size_t used = 0;

	if (c->state == CONN_NEGO) {
		used = nego_feed(c->nego, data, len);
		if (c->nego->out_len > c->nego_sent)
			want_send(c);
		switch (c->nego->state) {
		case NEGO_READY:
			begin_serving(c);
			break;
		case NEGO_CLOSED:
			c->state = CONN_DRAIN;
			want_send(c);
			return len;
		case NEGO_TLS:
			/* What comes before TLS could be anybody's. */
			if (used < len) {
				conn_kill(c, "connection ended: data in plain text after STARTTLS");
				return len;
			}
			c->blocked = true;
			return used;
		default:
			c->blocked = c->nego->out_len >= NEGO_OUT_FULL;
			return used;
		}
	}
	if (c->state == CONN_SERVE)
		return used + serve(c, data + used, len - used);
	return len;
}

static void keep(struct conn *c, const uint8_t *data, size_t len)
{
	uint8_t *stash = NULL;

	if (c->state == CONN_DEAD)
		return;
	if (len) {
		stash = malloc(len);
		if (!stash) {
			conn_kill(c, "out of memory");
			return;
		}
		memcpy(stash, data, len);
	}
	free(c->stash);
	c->stash = stash;
	c->stash_len = len;
}

static ssize_t conn_read(struct conn *c, void *buf, size_t len)
{
	ssize_t n;

	if (c->tls)
		return tls_recv(c->tls, buf, len);
	do {
		n = recv(c->source.fd, buf, len, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static bool wants_input(const struct conn *c)
{
	return (c->state == CONN_NEGO || c->state == CONN_SERVE) && !c->blocked;
}

static void input_ended(struct conn *c, ssize_t n)
{
	if (n && n != -ECONNRESET)
		conn_kill(c, "connection lost: %s", n == -EPROTO ? "TLS failed" : strerror((int)-n));
	else if (n || c->state == CONN_NEGO || c->rx)
		conn_kill(c, NULL);
	else
		c->state = CONN_DRAIN;
}

static void conn_input(struct conn *c)
{
	struct worker *w = c->worker;
	unsigned int rounds;
	size_t room, used;
	uint8_t *to;
	ssize_t n;

	for (rounds = 0; rounds < 4 && wants_input(c); rounds++) {
		/* A long payload goes where it belongs at once. */
		if (c->state == CONN_SERVE && c->rx && !c->rx->error && !c->stash_len &&
		    c->rx_left > RX_SIZE / 2) {
			to = payload_room(c, &room);
			if (!to) {
				c->blocked = true;
				break;
			}
			n = conn_read(c, to, room);
			if (n == -EAGAIN)
				break;
			if (n <= 0) {
				input_ended(c, n);
				break;
			}
			payload_came(c, (size_t)n);
			continue;
		}
		if (c->stash_len)
			memcpy(w->rx, c->stash, c->stash_len);
		n = conn_read(c, w->rx + c->stash_len, RX_SIZE - c->stash_len);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			input_ended(c, n);
			break;
		}
		room = c->stash_len + (size_t)n;
		used = process(c, w->rx, room);
		keep(c, w->rx + used, room - used);
		if ((size_t)n < RX_SIZE / 2 && !c->tls)
			break;		/* most likely that was all */
	}
	if (c->tls && wants_input(c) && tls_pending(c->tls) && !c->again) {
		c->again = true;
		TAILQ_INSERT_TAIL(&w->again, c, again_link);
	}
}

/* ---- output -------------------------------------------------------------- */

static size_t gather(struct conn *c, struct iovec *iov, int *nr)
{
	struct piece *p;
	size_t total = 0, skip;

	*nr = 0;
	if (c->nego) {
		iov[0].iov_base = c->nego->out + c->nego_sent;
		iov[0].iov_len = c->nego->out_len - c->nego_sent;
		total = iov[0].iov_len;
		*nr = total ? 1 : 0;
	}
	STAILQ_FOREACH(p, &c->out, link) {
		if (*nr + 2 > IOV_NR || total > SEND_MAX)
			break;
		skip = p->sent;
		/* cppcheck-suppress uninitvar ; it does not know STAILQ_FOREACH */
		if (skip < p->head_len) {
			iov[*nr].iov_base = p->head + skip;
			iov[*nr].iov_len = p->head_len - skip;
			total += iov[(*nr)++].iov_len;
			skip = 0;
		} else {
			skip -= p->head_len;
		}
		if (p->body_len > skip) {
			iov[*nr].iov_base = (void *)(p->body + skip);
			iov[*nr].iov_len = p->body_len - skip;
			total += iov[(*nr)++].iov_len;
		}
	}
	return total;
}

static void sent(struct conn *c, size_t n)
{
	struct piece *p;
	size_t len;

	c->since = c->worker->now;
	if (c->window < c->worker->pool.size)
		c->window += n;
	if (c->nego) {
		len = c->nego->out_len - c->nego_sent;
		if (len > n)
			len = n;
		c->nego_sent += len;
		n -= len;
		if (c->nego_sent == c->nego->out_len)
			c->nego_sent = c->nego->out_len = 0;
	}
	while ((p = STAILQ_FIRST(&c->out))) {
		len = (size_t)p->head_len + p->body_len - p->sent;
		if (len > n) {
			p->sent += (uint32_t)n;
			return;
		}
		n -= len;
		STAILQ_REMOVE_HEAD(&c->out, link);
		if (p->last)
			c->nr_cmds--;
		piece_free(p);
	}
}

/* Fill a TLS record: each costs as much as some KiB do. */
static ssize_t send_record(struct conn *c, const struct iovec *iov, int nr)
{
	struct worker *w = c->worker;
	size_t len = 0, n;
	int i;

	if (iov[0].iov_len >= TLS_RECORD)
		return tls_send(c->tls, iov[0].iov_base, TLS_RECORD);
	for (i = 0; i < nr && len < TLS_RECORD; i++) {
		n = iov[i].iov_len < TLS_RECORD - len ? iov[i].iov_len : TLS_RECORD - len;
		memcpy(w->tls_record + len, iov[i].iov_base, n);
		len += n;
	}
	return tls_send(c->tls, w->tls_record, len);
}

static ssize_t conn_write(struct conn *c, struct iovec *iov, int nr)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)nr };
	ssize_t n;

	if (c->tls)
		return send_record(c, iov, nr);
	do {
		n = sendmsg(c->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static bool out_empty(const struct conn *c)
{
	return STAILQ_EMPTY(&c->out) && (!c->nego || c->nego->out_len == c->nego_sent);
}

static void begin_tls(struct conn *c)
{
	struct nbds_server *s = c->worker->server;
	struct tls_credentials *cred;

	pthread_mutex_lock(&s->tls_lock);
	cred = tls_get(s->tls);
	pthread_mutex_unlock(&s->tls_lock);
	c->tls = tls_begin(cred, c->source.fd);
	if (!c->tls)
		conn_kill(c, "out of memory");
	else
		c->state = CONN_TLS;
}

static void nego_free(struct conn *c)
{
	if (!c->nego)
		return;
	nego_exit(c->nego);
	free(c->nego);
	c->nego = NULL;
}

static void conn_output(struct conn *c)
{
	struct iovec iov[IOV_NR];
	size_t done = 0, total;
	bool was_full;
	ssize_t n;
	int nr;

	if (c->state == CONN_DEAD || c->state == CONN_TLS || c->state == CONN_REFUSED)
		return;
	was_full = c->nr_cmds >= CMDS_MAX;
	while (done < SEND_MAX) {
		total = gather(c, iov, &nr);
		if (!total)
			break;
		n = conn_write(c, iov, nr);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			conn_kill(c, NULL);
			return;
		}
		sent(c, (size_t)n);
		done += (size_t)n;
		if ((size_t)n < total && !c->tls)
			break;
	}
	if (done >= SEND_MAX && !out_empty(c))
		want_send(c);	/* in the next turn */
	if (c->nego && out_empty(c)) {
		if (c->state == CONN_SERVE)
			nego_free(c);
		else if (c->state == CONN_NEGO && c->nego->state == NEGO_TLS)
			begin_tls(c);
	}
	if (c->blocked && (was_full || c->state == CONN_NEGO))
		pump(c);
}

/* ---- connections --------------------------------------------------------- */

static void interest(struct conn *c)
{
	struct epoll_event ev = { .data.ptr = &c->source };

	if (c->state == CONN_DEAD)
		return;
	if (c->state == CONN_TLS) {
		ev.events = tls_wants_write(c->tls) ? EPOLLOUT : EPOLLIN;
	} else if (c->state == CONN_REFUSED) {
		ev.events = EPOLLIN;
	} else {
		if (wants_input(c))
			ev.events |= EPOLLIN;
		if (!out_empty(c) && !c->sending)
			ev.events |= EPOLLOUT;
	}
	if (ev.events == c->events)
		return;
	c->events = ev.events;
	epoll_ctl(c->worker->epfd, EPOLL_CTL_MOD, c->source.fd, &ev);
}

/*
 * End a connection at once. What is at the backend comes back later; a buffer
 * that it still fills is not given to anybody else.
 */
static void conn_kill(struct conn *c, const char *fmt, ...)
{
	struct worker *w = c->worker;
	struct cmd *cmd;
	char why[512];
	va_list ap;

	if (c->state == CONN_DEAD)
		return;
	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(why, sizeof(why), fmt, ap);
		va_end(ap);
		nego_log(c, LOG_NOTICE, why);
	}
	c->state = CONN_DEAD;
	epoll_ctl(w->epfd, EPOLL_CTL_DEL, c->source.fd, NULL);
	if (c->tls)
		tls_end(c->tls);
	c->tls = NULL;
	c->peer.nr_names = 0;
	close(c->source.fd);
	c->source.fd = -1;
	if (c->hungry)
		TAILQ_REMOVE(&w->hungry, c, hungry_link);
	if (c->sending)
		TAILQ_REMOVE(&w->sending, c, send_link);
	if (c->again)
		TAILQ_REMOVE(&w->again, c, again_link);
	c->hungry = c->sending = c->again = false;
	if (c->rx_piece)
		piece_free(c->rx_piece);
	c->rx_piece = NULL;
	if (c->rx && !c->rx->pending)
		free(c->rx);
	c->rx = NULL;
	if (c->owner) {
		pieces_free(&c->owner->ready);
		/* in todo it is freed below; with pieces away, by the last one */
		if (!c->owner->pending && STAILQ_FIRST(&c->todo) != c->owner)
			free(c->owner);
		c->owner = NULL;
	}
	while ((cmd = STAILQ_FIRST(&c->todo))) {
		STAILQ_REMOVE_HEAD(&c->todo, link);
		if (!cmd->pending)
			free(cmd);
	}
	pieces_free(&c->held_back);
	pieces_free(&c->out);
	nego_free(c);
	free(c->stash);
	c->stash = NULL;
	bury(c);
}

static void conn_free(struct conn *c)
{
	struct worker *w = c->worker;
	struct nbds_server *s = w->server;

	TAILQ_REMOVE(&w->all, c, all);
	if (c->export && s->cfg.ops->close)
		s->cfg.ops->close(c->export);
	atomic_fetch_sub(&w->nr_conns, 1);
	atomic_fetch_sub(&s->nr_conns, 1);
	free(c);
}

/* All that may go on for a connection goes on. */
static void pump(struct conn *c)
{
	size_t used, len;
	uint8_t *data;

	if (c->state == CONN_NEGO || c->state == CONN_SERVE || c->state == CONN_DRAIN)
		dispatch(c);
	if (c->state == CONN_SERVE || c->state == CONN_NEGO) {
		/* process() may end the connection, and its stash */
		data = c->stash;
		len = c->stash_len;
		c->stash = NULL;
		c->stash_len = 0;
		used = process(c, data ? data : c->worker->rx, len);
		if (c->state != CONN_DEAD)
			keep(c, (data ? data : c->worker->rx) + used, len - used);
		free(data);
	}
	if (c->state == CONN_SERVE || c->state == CONN_DRAIN)
		dispatch(c);
	if (c->tls && wants_input(c) && tls_pending(c->tls) && !c->again) {
		c->again = true;
		TAILQ_INSERT_TAIL(&c->worker->again, c, again_link);
	}
}

/* After anything that was done for a connection. */
static void settle(struct conn *c)
{
	if (c->state == CONN_SERVE || c->state == CONN_DRAIN)
		dispatch(c);
	if (c->state == CONN_DRAIN && c->rx)
		conn_kill(c, NULL);	/* its payload will not come */
	if (c->state == CONN_DRAIN && out_empty(c) && !c->nr_cmds) {
		if (c->tls)
			tls_bye(c->tls);
		conn_kill(c, NULL);
	}
	interest(c);
}

/*
 * The alert that says why is on its way. With TLS 1.3 the client may be sending
 * already: if its bytes met a closed socket it would never read the alert.
 */
static void conn_refuse(struct conn *c, const char *reason)
{
	char why[512];

	snprintf(why, sizeof(why), "refused: %s", reason);
	nego_log(c, LOG_NOTICE, why);
	shutdown(c->source.fd, SHUT_WR);
	c->state = CONN_REFUSED;
}

static void refused_input(struct conn *c)
{
	ssize_t n = recv(c->source.fd, c->worker->rx, RX_SIZE, MSG_DONTWAIT);

	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
		conn_kill(c, NULL);
}

static void tls_turn(struct conn *c)
{
	char reason[256];
	int r = tls_handshake(c->tls, reason, sizeof(reason));

	if (r < 0) {
		conn_refuse(c, reason);
	} else if (r > 0) {
		if (!tls_identify(c->tls, &c->peer, reason, sizeof(reason))) {
			conn_kill(c, "refused: %s", reason);
			return;
		}
		nego_tls_done(c->nego, &c->peer);
		c->state = CONN_NEGO;
		c->blocked = false;
		conn_input(c);
	}
}

static void conn_event(struct conn *c, uint32_t events)
{
	if (c->state == CONN_DEAD)
		return;
	if (events & EPOLLERR || (events & EPOLLHUP && !(events & EPOLLIN))) {
		conn_kill(c, NULL);
		return;
	}
	if (c->state == CONN_TLS)
		tls_turn(c);
	else if (c->state == CONN_REFUSED)
		refused_input(c);
	else if (events & EPOLLIN)
		conn_input(c);
	if (events & EPOLLOUT)
		want_send(c);
	settle(c);
}

static void conn_start(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &c->source };
	struct worker *w = c->worker;

	TAILQ_INSERT_TAIL(&w->all, c, all);
	c->since = c->got = w->now;
	c->events = EPOLLIN;
	if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, c->source.fd, &ev) < 0) {
		conn_kill(c, "epoll: %s", strerror(errno));
		return;
	}
	nego_init(c->nego);
	want_send(c);
	/* The greeting opens the socket's window; a client may have spoken already. */
}

static void describe_peer(struct conn *c)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct ucred cred;
	int yes = 1, ms = 60000;

	snprintf(c->peer.address, sizeof(c->peer.address), "a client");
	if (getpeername(c->source.fd, (struct sockaddr *)&sa, &len) < 0)
		return;
	if (sa.ss_family == AF_UNIX) {
		len = sizeof(cred);
		if (!getsockopt(c->source.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
			snprintf(c->peer.address, sizeof(c->peer.address), "Unix socket, uid %u",
				 (unsigned int)cred.uid);
		return;
	}
	getnameinfo((struct sockaddr *)&sa, len, c->peer.address, sizeof(c->peer.address),
		    NULL, 0, NI_NUMERICHOST);
	setsockopt(c->source.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	/* A client's host that is gone is noticed, be there replies or not. */
	setsockopt(c->source.fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
	setsockopt(c->source.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

static struct conn *conn_new(struct nbds_server *s, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->nego = calloc(1, sizeof(*c->nego));
	if (!c->nego) {
		free(c);
		return NULL;
	}
	c->source.kind = SOURCE_CONN;
	c->source.fd = fd;
	c->window = WINDOW_FIRST;
	STAILQ_INIT(&c->todo);
	STAILQ_INIT(&c->held_back);
	STAILQ_INIT(&c->out);
	describe_peer(c);
	c->nego->ops = s->cfg.ops;
	c->nego->data = s->cfg.data;
	c->nego->peer = &c->peer;
	c->nego->tls_required = s->cfg.tls_dir != NULL;
	c->nego->log = nego_log;
	c->nego->log_data = c;
	return c;
}

/**
 * nbds_add - serve a connected socket
 * @s: the server
 * @fd: non-blocking; the server closes it, even on an error
 *
 * Return: 0 or a negative errno.
 */
int nbds_add(struct nbds_server *s, int fd)
{
	struct worker *w = s->worker[0];
	uint64_t one = 1;
	struct conn *c;
	unsigned int i;

	c = conn_new(s, fd);
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	if (atomic_fetch_add(&s->nr_conns, 1) >= s->cfg.connections) {
		atomic_fetch_sub(&s->nr_conns, 1);
		atomic_fetch_add(&s->refused, 1);
		say(s, LOG_WARNING, "%s: refused: %u connections are open, which is the limit",
		    c->peer.address, s->cfg.connections);
		close(fd);
		free(c->nego);
		free(c);
		return -EUSERS;
	}
	atomic_fetch_add(&s->accepted, 1);
	for (i = 1; i < s->nr_workers; i++)
		if (atomic_load(&s->worker[i]->nr_conns) < atomic_load(&w->nr_conns))
			w = s->worker[i];
	atomic_fetch_add(&w->nr_conns, 1);
	c->worker = w;
	if (w == this_worker) {
		conn_start(c);
		return 0;
	}
	pthread_mutex_lock(&w->mail_lock);
	c->next = w->mail_conns;
	w->mail_conns = c;
	if (!w->mail_sent && write(w->mail_source.fd, &one, sizeof(one)) > 0)
		w->mail_sent = true;
	pthread_mutex_unlock(&w->mail_lock);
	return 0;
}

/* ---- workers ------------------------------------------------------------- */

static void listeners_watch(struct worker *w, uint32_t events)
{
	unsigned int i, n = atomic_load(&w->server->nr_listeners);
	struct epoll_event ev = { .events = events };

	for (i = 0; i < n; i++) {
		ev.data.ptr = &w->listener[i];
		epoll_ctl(w->epfd, EPOLL_CTL_MOD, w->listener[i].fd, &ev);
	}
}

static void accept_some(struct worker *w, struct source *listener)
{
	struct nbds_server *s = w->server;
	unsigned int i;
	int fd;

	for (i = 0; i < 64; i++) {
		fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			nbds_add(s, fd);
			continue;
		}
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		say(s, LOG_WARNING, "no connection can be taken now: %s", strerror(errno));
		w->accept_paused = true;
		listeners_watch(w, 0);	/* until the next tick */
		return;
	}
}

static void read_mail(struct worker *w)
{
	struct conn *c, *conns;
	uint64_t count;

	pthread_mutex_lock(&w->mail_lock);
	if (read(w->mail_source.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		say(w->server, LOG_ERR, "eventfd: %s", strerror(errno));
	w->mail_sent = false;
	conns = w->mail_conns;
	w->mail_conns = NULL;
	STAILQ_CONCAT(&w->done, &w->mail_done);
	pthread_mutex_unlock(&w->mail_lock);
	while ((c = conns)) {
		conns = c->next;
		conn_start(c);
	}
}

static void process_done(struct worker *w)
{
	struct piece *p;
	struct conn *c;

	while ((p = STAILQ_FIRST(&w->done))) {
		STAILQ_REMOVE_HEAD(&w->done, link);
		c = p->conn;
		piece_done(p);
		/* All of its replies may be there. */
		if (c->state == CONN_DRAIN)
			want_send(c);
	}
}

/* Buffers came back: those who wait for one are served in turn. */
static void feed(struct worker *w)
{
	struct conn *c, *last = TAILQ_LAST(&w->hungry, conns_head);
	bool end = !last;

	w->freed = false;
	while (!end && (c = TAILQ_FIRST(&w->hungry))) {
		end = c == last;
		TAILQ_REMOVE(&w->hungry, c, hungry_link);
		c->hungry = false;
		pump(c);
		settle(c);
	}
}

static void send_all(struct worker *w)
{
	struct conn *c, *last = TAILQ_LAST(&w->sending, conns_head);
	bool end = !last;

	while (!end && (c = TAILQ_FIRST(&w->sending))) {
		end = c == last;
		TAILQ_REMOVE(&w->sending, c, send_link);
		c->sending = false;
		conn_output(c);
		settle(c);
	}
}

static void again_all(struct worker *w)
{
	struct conn *c, *last = TAILQ_LAST(&w->again, conns_head);
	bool end = !last;

	while (!end && (c = TAILQ_FIRST(&w->again))) {
		end = c == last;
		TAILQ_REMOVE(&w->again, c, again_link);
		c->again = false;
		pump(c);
		if (c->tls && c->state != CONN_TLS && c->state != CONN_REFUSED)
			conn_input(c);
		settle(c);
	}
}

static void bury_all(struct worker *w)
{
	struct conn *c;

	while ((c = w->graveyard)) {
		w->graveyard = c->next;
		conn_free(c);
	}
}

static void conn_tick(struct conn *c)
{
	struct worker *w = c->worker;
	const struct nbds_config *cfg = &w->server->cfg;

	switch (c->state) {
	case CONN_NEGO:
	case CONN_TLS:
		if (w->now - c->got >= cfg->handshake_ms)
			conn_kill(c, "connection ended: no export was chosen within %u ms",
				  cfg->handshake_ms);
		return;
	case CONN_REFUSED:
		if (w->now - c->got >= cfg->handshake_ms)
			conn_kill(c, NULL);
		return;
	case CONN_DEAD:
		return;
	default:
		break;
	}
	if (!out_empty(c) && w->now - c->since >= cfg->stall_ms) {
		conn_kill(c, "connection ended: the client took nothing of its replies for %u ms",
			  cfg->stall_ms);
	} else if (c->rx && !c->blocked && w->now - c->got >= cfg->stall_ms) {
		conn_kill(c, "connection ended: nothing came of a write's payload for %u ms",
			  cfg->stall_ms);
	} else if (c->gone) {
		c->state = CONN_DRAIN;
		settle(c);
	} else if (cfg->ops->gone && c->export &&
		   cfg->ops->gone(c->export, c->gone_reason, sizeof(c->gone_reason))) {
		/* Until the next tick the client is told. */
		c->gone = true;
		nego_log(c, LOG_NOTICE, c->gone_reason);
	}
}

static unsigned int tick_ms(const struct nbds_config *cfg)
{
	unsigned int ms = cfg->handshake_ms < cfg->stall_ms ? cfg->handshake_ms : cfg->stall_ms;

	ms /= 4;
	return ms > 1000 ? 1000 : ms < 10 ? 10 : ms;
}

/* Somebody has nothing: those pay who have something and do not take it. */
static void relieve(struct worker *w)
{
	bool starving = false;
	struct conn *c;

	TAILQ_FOREACH(c, &w->hungry, hungry_link)
		starving |= c->starved;
	if (!starving)
		return;
	TAILQ_FOREACH(c, &w->all, all)
		if (c->state != CONN_DEAD && c->held && !STAILQ_EMPTY(&c->out) &&
		    w->now - c->since >= PRESSURE_MS)
			conn_kill(c, "connection ended: the client took nothing of its replies for %u ms, and others need the memory",
				  PRESSURE_MS);
}

static void tick(struct worker *w)
{
	struct conn *c, *next;

	w->next_tick = w->now + tick_ms(&w->server->cfg);
	for (c = TAILQ_FIRST(&w->all); c; c = next) {
		next = TAILQ_NEXT(c, all);
		conn_tick(c);
	}
	relieve(w);
	if (w->accept_paused) {
		w->accept_paused = false;
		listeners_watch(w, EPOLLIN);
	}
}

static int loop_timeout(struct worker *w, int timeout)
{
	uint64_t now, left;

	if (!TAILQ_EMPTY(&w->sending) || !TAILQ_EMPTY(&w->again) || w->freed ||
	    (w->aio.queued && w->aio.in_kernel < AIO_DEPTH) || !STAILQ_EMPTY(&w->done))
		return 0;
	if (!TAILQ_EMPTY(&w->all) || w->accept_paused || w->stop_at) {
		now = now_ns() / 1000000;
		left = w->next_tick > now ? w->next_tick - now : 0;
		if (timeout < 0 || left < (uint64_t)timeout)
			timeout = (int)left;
	}
	if (w->rate_wake) {
		now = now_ns();
		left = w->rate_wake > now ? (w->rate_wake - now) / 1000000 + 1 : 0;
		if (timeout < 0 || left < (uint64_t)timeout)
			timeout = (int)left;
	}
	return timeout;
}

/**
 * worker_turn - one turn of a worker's loop
 * @w: the worker; the calling thread becomes its own
 * @timeout_ms: how long to wait for something to happen; -1: for ever
 */
void worker_turn(struct worker *w, int timeout_ms)
{
	struct epoll_event events[128];
	struct source *source;
	int i, n;

	this_worker = w;
	n = epoll_wait(w->epfd, events, 128, loop_timeout(w, timeout_ms));
	w->now = now_ns() / 1000000;
	for (i = 0; i < n; i++) {
		source = events[i].data.ptr;
		switch (source->kind) {
		case SOURCE_LISTENER:
			accept_some(w, source);
			break;
		case SOURCE_MAILBOX:
			read_mail(w);
			break;
		case SOURCE_AIO: {
			uint64_t count;

			if (read(source->fd, &count, sizeof(count)) > 0)
				aio_reap(&w->aio);
			break;
		}
		case SOURCE_CONN:
			conn_event((struct conn *)(void *)source, events[i].events);
			break;
		}
	}
	again_all(w);
	process_done(w);
	aio_flush(&w->aio);
	/* A file in memory is read by then. */
	aio_reap(&w->aio);
	process_done(w);
	send_all(w);
	if (w->rate_wake && now_ns() >= w->rate_wake) {
		w->rate_wake = 0;
		w->freed = true;
	}
	if (w->freed)
		feed(w);
	process_done(w);
	aio_flush(&w->aio);
	if (w->now >= w->next_tick)
		tick(w);
	bury_all(w);
}

struct aio *server_aio(void)
{
	return &this_worker->aio;
}

static void stop_turn(struct worker *w)
{
	struct conn *c, *next;

	if (!w->stop_at)
		w->stop_at = w->now + STOP_MS;
	for (c = TAILQ_FIRST(&w->all); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->state == CONN_DEAD)
			continue;
		if (c->state != CONN_SERVE && c->state != CONN_DRAIN)
			conn_kill(c, NULL);
		else if (w->now >= w->stop_at || c->rx)
			conn_kill(c, NULL);
		else
			c->state = CONN_DRAIN;
		settle(c);
	}
	bury_all(w);
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&w->server->stopping))
		worker_turn(w, -1);
	while (stop_turn(w), !TAILQ_EMPTY(&w->all) && w->now < w->stop_at + STOP_MS)
		worker_turn(w, 20);
	return NULL;
}

static void worker_free(struct worker *w)
{
	if (!w)
		return;
	/* Where the backend still has a buffer, all stays where it is. */
	if (!TAILQ_EMPTY(&w->all))
		return;
	aio_exit(&w->aio);
	pool_exit(&w->pool);
	if (w->mail_source.fd >= 0)
		close(w->mail_source.fd);
	if (w->epfd >= 0)
		close(w->epfd);
	pthread_mutex_destroy(&w->mail_lock);
	free(w);
}

static struct worker *worker_new(struct nbds_server *s, size_t memory, char *error, size_t size)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct epoll_event ev = { .events = EPOLLIN };
	int err;

	if (!w) {
		snprintf(error, size, "out of memory");
		return NULL;
	}
	w->server = s;
	TAILQ_INIT(&w->all);
	TAILQ_INIT(&w->hungry);
	TAILQ_INIT(&w->sending);
	TAILQ_INIT(&w->again);
	STAILQ_INIT(&w->done);
	STAILQ_INIT(&w->mail_done);
	pthread_mutex_init(&w->mail_lock, NULL);
	w->aio.event_fd = -1;
	w->now = now_ns() / 1000000;
	w->epfd = epoll_create1(EPOLL_CLOEXEC);
	w->mail_source.kind = SOURCE_MAILBOX;
	w->mail_source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->epfd < 0 || w->mail_source.fd < 0) {
		snprintf(error, size, "epoll or eventfd: %s", strerror(errno));
		goto failed;
	}
	err = aio_init(&w->aio, file_aio_done);
	if (err) {
		snprintf(error, size, "io_setup: %s%s", strerror(-err), err == -EAGAIN ?
			 "; raise the sysctl fs.aio-max-nr" : "");
		goto failed;
	}
	if (pool_init(&w->pool, memory)) {
		snprintf(error, size, "no memory for %zu bytes of buffers", memory);
		goto failed;
	}
	ev.data.ptr = &w->mail_source;
	epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->mail_source.fd, &ev);
	w->aio_source.kind = SOURCE_AIO;
	w->aio_source.fd = w->aio.event_fd;
	ev.data.ptr = &w->aio_source;
	epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->aio_source.fd, &ev);
	return w;
failed:
	worker_free(w);
	return NULL;
}

/* ---- the server ---------------------------------------------------------- */

/**
 * nbds_config_init - fill in the defaults
 * @cfg: out; ops is still to be given
 */
void nbds_config_init(struct nbds_config *cfg)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	memset(cfg, 0, sizeof(*cfg));
	cfg->workers = n < 1 ? 1 : n > 4 ? 4 : (unsigned int)n;
	cfg->connections = 1024;
	cfg->memory = 32u << 20;
	cfg->handshake_ms = 10000;
	cfg->stall_ms = 60000;
}

/* Make a server whose workers are not yet running; nbds_start() and tests use it. */
struct nbds_server *server_new(const struct nbds_config *cfg, char *error, size_t size)
{
	struct nbds_server *s = calloc(1, sizeof(*s));
	size_t memory;
	unsigned int i;

	if (!s) {
		snprintf(error, size, "out of memory");
		return NULL;
	}
	s->cfg = *cfg;
	pthread_mutex_init(&s->tls_lock, NULL);
	if (cfg->tls_dir) {
		s->tls = tls_load(cfg->tls_dir, error, size);
		if (!s->tls)
			goto failed;
	}
	if (!s->cfg.workers)
		s->cfg.workers = 1;
	memory = cfg->memory / s->cfg.workers;
	if (memory < POOL_LEAST)
		memory = POOL_LEAST;
	s->worker = calloc(s->cfg.workers, sizeof(struct worker *));
	if (!s->worker) {
		snprintf(error, size, "out of memory");
		goto failed;
	}
	for (i = 0; i < s->cfg.workers; i++) {
		s->worker[i] = worker_new(s, memory, error, size);
		if (!s->worker[i])
			goto failed;
		s->nr_workers++;
	}
	return s;
failed:
	server_free(s);
	return NULL;
}

struct worker *server_worker(struct nbds_server *s, unsigned int i)
{
	return s->worker[i];
}

void server_free(struct nbds_server *s)
{
	unsigned int i, n = atomic_load(&s->nr_listeners);

	for (i = 0; i < n; i++)
		close(s->worker[0]->listener[i].fd);
	for (i = 0; i < s->nr_workers; i++)
		worker_free(s->worker[i]);
	if (s->tls)
		tls_put(s->tls);
	pthread_mutex_destroy(&s->tls_lock);
	free(s->worker);
	free(s);
}

/**
 * nbds_start - start a server; it listens on nothing yet
 * @cfg: copied, but for what it points to
 * @error: a sentence if that fails
 * @size: of @error
 *
 * Return: the server, or NULL.
 */
struct nbds_server *nbds_start(const struct nbds_config *cfg, char *error, size_t size)
{
	struct nbds_server *s = server_new(cfg, error, size);
	sigset_t all, old;
	unsigned int i;
	int err = 0;

	if (!s)
		return NULL;
	/* Signals are the program's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (i = 0; i < s->nr_workers && !err; i++) {
		err = pthread_create(&s->worker[i]->thread, NULL, worker_thread, s->worker[i]);
		s->worker[i]->started = !err;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		snprintf(error, size, "a thread cannot be started: %s", strerror(err));
		nbds_stop(s);
		return NULL;
	}
	return s;
}

/**
 * nbds_listen_fd - take connections from a listening socket
 * @s: the server
 * @fd: the socket; the server closes it at its end
 *
 * To be called by one thread at a time. Return: 0 or a negative errno.
 */
int nbds_listen_fd(struct nbds_server *s, int fd)
{
	struct worker *w = s->worker[0];
	unsigned int n = atomic_load(&s->nr_listeners);
	struct epoll_event ev = { .events = EPOLLIN };
	int flags;

	if (n == LISTENERS_MAX)
		return -ENOSPC;
	/* A client that has gone again must not make the worker wait. */
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	w->listener[n].kind = SOURCE_LISTENER;
	w->listener[n].fd = fd;
	atomic_store(&s->nr_listeners, n + 1);
	ev.data.ptr = &w->listener[n];
	return epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/**
 * nbds_reload_tls - read the certificates again
 * @s: the server
 * @error: a sentence if that fails; the old ones stay in use then
 * @size: of @error
 *
 * Connections that are there keep theirs. Return: whether that went well.
 */
bool nbds_reload_tls(struct nbds_server *s, char *error, size_t size)
{
	struct tls_credentials *cred, *old;

	if (!s->cfg.tls_dir)
		return true;
	cred = tls_load(s->cfg.tls_dir, error, size);
	if (!cred)
		return false;
	pthread_mutex_lock(&s->tls_lock);
	old = s->tls;
	s->tls = cred;
	pthread_mutex_unlock(&s->tls_lock);
	tls_put(old);
	return true;
}

/**
 * nbds_get_stats - what the server has and did
 * @s: the server
 * @stats: out
 */
void nbds_get_stats(struct nbds_server *s, struct nbds_stats *stats)
{
	unsigned int i;

	memset(stats, 0, sizeof(*stats));
	stats->connections = atomic_load(&s->nr_conns);
	stats->accepted = atomic_load(&s->accepted);
	stats->refused = atomic_load(&s->refused);
	for (i = 0; i < s->nr_workers; i++) {
		stats->requests += atomic_load(&s->worker[i]->requests);
		stats->read_bytes += atomic_load(&s->worker[i]->read_bytes);
		stats->written_bytes += atomic_load(&s->worker[i]->written_bytes);
	}
}

/**
 * nbds_stop - end a server
 * @s: the server; gone afterwards
 *
 * What is under way is answered, for some seconds at most.
 */
void nbds_stop(struct nbds_server *s)
{
	uint64_t one = 1;
	unsigned int i;

	atomic_store(&s->stopping, true);
	for (i = 0; i < s->nr_workers; i++)
		if (write(s->worker[i]->mail_source.fd, &one, sizeof(one)) < 0)
			say(s, LOG_ERR, "eventfd: %s", strerror(errno));
	for (i = 0; i < s->nr_workers; i++)
		if (s->worker[i]->started)
			pthread_join(s->worker[i]->thread, NULL);
	server_free(s);
}
