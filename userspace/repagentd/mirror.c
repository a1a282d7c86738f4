// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The mirror tap: every record becomes a write at its own offset of the
 * volume's export on a stock NBD server.  epoch.c says what may be in flight
 * and when a record is durable.
 *
 *	state	 means				leaves it by	   to
 *	DOWN	 pause before a try		timer		   CONNECT
 *	CONNECT	 every volume connects		all ready	   STREAM
 *						fault, timer	   DOWN
 *	STREAM	 records are sent		fault		   RETIRE
 *	RETIRE	 nothing is sent any more;	all quiet, timer   DOWN
 *		 late replies are awaited
 *
 * All connections live and die together, for an epoch spans the group.  After
 * any fault everything unacknowledged is sent again from the ring.
 *
 * RETIRE is there since a request that was given up may still be carried out
 * by the old server process, after newer data for the same place has come
 * through a new connection.  Once the old connection has answered everything,
 * or its end was closed, that is over.  A hub that is neither heard of nor
 * known to be gone is given the time of another timeout.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "conn.h"
#include "tap.h"

#define TICK		NSEC_PER_SEC
#define LOOK		NSEC_PER_MSEC
#define MIN_DIFFERENCE	512
#define ZERO_PIECE	(256 * KIB)	/* of zeroes that must be written */

static unsigned char zero_page[ZERO_PIECE];	/* never written: costs no memory */

enum mirror_state { DOWN, CONNECT, STREAM, RETIRE };

/*
 * struct check - a VERIFY record that is being compared.  Its epoch waits for it, so that the ring keeps the payload.
 *
 *	FREE ──read sent──► READING ──reply──► READ ──the same────────► FREE
 *						    ──written anew────► FREE (the write belongs to the epoch)
 * @error:	errno of the read
 * @tag:	of the epoch
 * @buf:	of REPAGENT_MAX_VERIFY bytes, made when it is needed first
 */
struct check {
	enum { CHECK_FREE, CHECK_READING, CHECK_READ } state;
	int error;
	unsigned int tag;
	struct record record;
	unsigned char *buf;
};

/*
 * struct target - a volume and its connection.
 * @id:		of the volume, 0 where there is none
 */
struct target {
	uint16_t id;
	bool warned;
	struct conn conn;
};

/*
 * struct mirror
 * @deadline:	of the state, ns; UINT64_MAX without one
 * @next_tick:	when the connections are looked after
 * @next_look:	when replies are looked for that woke nobody, or UINT64_MAX
 * @pause:	before the next try, ns
 * @record, @sent: the newest record if it is only partly sent, and how many
 *		bytes of it are; record.seq 0: none
 * @dry:	the stream has no further record now
 * @target:	at the indices of the stream's volumes
 * @end:	behind the last one in use
 */
struct mirror {
	struct tap tap;
	const struct config *cfg;
	struct loop *loop;
	struct stream *stream;
	enum mirror_state state;
	uint64_t deadline;
	uint64_t next_tick;
	uint64_t next_look;
	uint64_t pause;
	struct epochs epochs;
	struct record record;
	uint64_t sent;			/* of record, bytes that are on their way */
	bool zeroes;			/* ... and whether it is nothing but zeroes */
	bool dry;
	bool paused;			/* DOWN lasts until that is over */
	struct check check[VERIFY_CHUNKS];
	struct target target[REPAGENT_MAX_VOLUMES];
	struct target *end;
};

static struct mirror *to_mirror(const struct tap *tap)
{
	return (struct mirror *)tap;
}

static const char *name_of(const struct mirror *m, const struct target *t)
{
	return m->stream->volume[t - m->target].info.name;
}

static void close_all(struct mirror *m)
{
	struct target *t;

	for (t = m->target; t < m->end; t++)
		conn_close(&t->conn);
}

static void go_down(struct mirror *m)
{
	uint64_t jitter = m->pause / 4;

	close_all(m);
	m->state = DOWN;
	m->deadline = m->paused ? UINT64_MAX : m->loop->now + m->pause - jitter / 2 +
		      (uint64_t)random() % (jitter + 1);
	m->pause *= 2;
	if (m->pause > m->cfg->retry_max)
		m->pause = m->cfg->retry_max;
}

/* What is not acknowledged will be sent again. Checks are not made twice: verify.c asks for another record. */
static void forget_sent(struct mirror *m)
{
	unsigned int i;

	m->record.seq = 0;
	epochs_init(&m->epochs, &m->epochs.limits);
	for (i = 0; i < VERIFY_CHUNKS; i++)
		m->check[i].state = CHECK_FREE;
}

/* Where else to send it, or nowhere: tell the kernel and the operator. */
static int lose(struct mirror *m, const struct target *t, enum conn_fault what,
		const char *why)
{
	static const struct {
		unsigned int reason;
		int priority;
		const char *text, *then;
	} kind[] = {
		[FAULT_LOST] = { REPAGENT_REASON_NONE, LOG_WARNING, "no connection",
				 "Writes stay in the ring; reconnecting" },
		[FAULT_REFUSED] = { REPAGENT_REASON_HUB_REFUSED, LOG_ERR, "the hub refuses",
				    "Writes go on and are remembered; trying again" },
		[FAULT_FULL] = { REPAGENT_REASON_HUB_FULL, LOG_ERR, "the hub is full",
				 "Writes go on and are remembered; trying again" },
	};
	int r;

	snprintf(m->tap.why, sizeof(m->tap.why), "%s: volume %s: %s", kind[what].text,
		 name_of(m, t), why);
	log_msg(kind[what].priority, "%s (%s). %s.", m->tap.why,
		t->conn.uri[0] ? t->conn.uri : "no URI", kind[what].then);
	m->tap.connected = false;
	r = stream_hub(m->stream, false, kind[what].reason);
	if (r < 0)
		return r;

	if (what == FAULT_FULL)
		m->pause = m->cfg->retry_full;
	forget_sent(m);
	if (m->state != STREAM) {
		go_down(m);
		return 0;
	}
	m->state = RETIRE;
	m->deadline = m->loop->now + m->cfg->timeout;
	return 0;
}

/* The tag of a read is the index of its check, that of others their epoch's. */
static void replied(struct conn *c, enum conn_op op, unsigned int tag, int error)
{
	struct mirror *m = c->owner;

	if (m->state != STREAM)
		return;
	if (op == OP_FLUSH) {
		epochs_flushed(&m->epochs);
	} else if (op == OP_READ) {
		m->check[tag].state = CHECK_READ;
		m->check[tag].error = error;
	} else {
		epochs_reply(&m->epochs, tag);
	}
}

/* Open the connection of the volume at index @i.  False: lose() was called. */
static int open_target(struct mirror *m, unsigned int i)
{
	struct target *t = &m->target[i], *o;
	struct conn *c = &t->conn;
	char error[URI_ERROR_MAX];

	if (!uri_for_volume(&m->cfg->taps, m->cfg->group, name_of(m, t), c->uri, error)) {
		c->uri[0] = '\0';
		return lose(m, t, FAULT_REFUSED, error);
	}
	for (o = m->target; o < m->end; o++) {
		if (o == t || !o->id || o->conn.state == CONN_CLOSED ||
		    !uri_same(o->conn.uri, c->uri))
			continue;
		snprintf(error, sizeof(error), "volume %s goes to the same export; "
			 "give each its own, with %%v in the URI or --tap VOLUME=URI",
			 name_of(m, o));
		return lose(m, t, FAULT_REFUSED, error);
	}
	if (!t->warned && uri_exposes_data(c->uri)) {
		t->warned = true;
		log_warn("volume %s goes over the network in plain text (%s); nbds:// would encrypt it",
			 name_of(m, t), c->uri);
	}
	c->loop = m->loop;
	c->cfg = m->cfg;
	c->replied = replied;
	c->owner = m;
	conn_open(c);
	return 0;
}

/* Give every volume a connection and take it from those that are gone. */
static int match_targets(struct mirror *m)
{
	unsigned int i;
	int r;

	m->end = m->target;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		uint16_t id = m->stream->volume[i].info.id;
		struct target *t = &m->target[i];

		if (t->id != id) {
			conn_close(&t->conn);
			memset(t, 0, sizeof(*t));
			t->id = id;
		}
		if (id)
			m->end = t + 1;
		if (t->id && t->conn.state == CONN_CLOSED) {
			r = open_target(m, i);
			if (r < 0 || (m->state != CONNECT && m->state != STREAM))
				return r;
		}
	}
	return 0;
}

static void report_connected(const struct mirror *m)
{
	const struct target *t;
	char size[HUMAN_MAX];

	for (t = m->target; t < m->end; t++)
		if (t->id)
			log_info("volume %s: connected to %s (%s%s%s%s)", name_of(m, t),
				 t->conn.uri, human_size(size, t->conn.size),
				 t->conn.flushes ? "" : ", NO FLUSH",
				 t->conn.zeroes ? "" : ", no write-zeroes",
				 t->conn.trims ? "" : ", no trim");
}

/* What is compared is read in one request. */
static void limit_chunks(struct mirror *m)
{
	const struct target *t;

	m->tap.verify->max = REPAGENT_MAX_VERIFY;
	for (t = m->target; t < m->end; t++)
		while (t->id && m->tap.verify->max > t->conn.max_request)
			m->tap.verify->max /= 2;
}

static int go_stream(struct mirror *m)
{
	int r = stream_rewind(m->stream);

	if (r < 0)
		return r;
	report_connected(m);
	forget_sent(m);
	limit_chunks(m);
	m->state = STREAM;
	m->deadline = UINT64_MAX;
	m->tap.connected = true;
	m->tap.why[0] = '\0';
	return stream_hub(m->stream, true, REPAGENT_REASON_NONE);
}

/* The first fault counts; the others follow from it or will come again. */
static const struct target *first_fault(struct mirror *m)
{
	const struct volume *v = m->stream->volume;
	struct target *t;

	for (t = m->target; t < m->end; t++, v++) {
		conn_check_size(&t->conn, v->info.sectors << 9);
		if (t->conn.fault)
			return t;
	}
	return NULL;
}

static int lose_fault(struct mirror *m)
{
	const struct target *t = first_fault(m);

	return lose(m, t, t->conn.fault, t->conn.why);
}

static bool is_late(const struct mirror *m)
{
	return m->loop->now >= m->deadline;
}

static const struct target *first_unready(const struct mirror *m)
{
	const struct target *t;

	for (t = m->target; t < m->end; t++)
		if (t->id && t->conn.state != CONN_READY)
			return t;
	return NULL;
}

static bool all_quiet(const struct mirror *m)
{
	const struct target *t;

	for (t = m->target; t < m->end; t++)
		if (!conn_quiet(&t->conn))
			return false;
	return true;
}

/*
 * Send as much of the newest record as fits.  Return whether all of it is on
 * its way.
 */
static bool send_record(struct mirror *m)
{
	const struct record *r = &m->record;
	struct conn *c = &m->target[r->volume].conn;
	bool zeroes = m->zeroes;
	uint64_t piece, start;
	unsigned int tag;

	while (m->sent < r->length) {
		start = r->offset + m->sent;
		piece = r->length - m->sent;
		if (piece > c->max_request)
			piece = c->max_request;
		if (zeroes && !c->zeroes && piece > ZERO_PIECE)
			piece = ZERO_PIECE;
		if (!conn_takes(c, start, start + piece, zeroes ? 0 : piece))
			return false;
		/* Only now does it belong to an epoch: one that waits must not keep it open. */
		if (!m->sent) {
			if (!epochs_room(&m->epochs))
				return false;
			epochs_add(&m->epochs, r->seq, r->payload_len, m->loop->now);
		}
		tag = epochs_send(&m->epochs, (unsigned int)r->volume);
		if (r->type == REPAGENT_REC_DISCARD)
			conn_trim(c, start, piece, tag);
		else if (zeroes && c->zeroes)
			conn_zero(c, start, piece, tag);
		else if (zeroes)
			conn_write(c, zero_page, start, piece, tag);
		else
			conn_write(c, (const char *)r->payload + m->sent, start, piece, tag);
		m->sent += piece;
	}
	return true;
}

/*
 * Have the replica read where a VERIFY record is. What overlaps and came before has been answered, and nothing that
 * comes behind it is sent meanwhile. Return whether that is on its way.
 */
static bool send_check(struct mirror *m)
{
	const struct record *r = &m->record;
	struct conn *c = &m->target[r->volume].conn;
	struct check *k = m->check;

	while (k < m->check + VERIFY_CHUNKS && k->state != CHECK_FREE)
		k++;
	if (k == m->check + VERIFY_CHUNKS || !epochs_room(&m->epochs) ||
	    !conn_takes(c, r->offset, r->offset + r->length, 0))
		return false;
	epochs_add(&m->epochs, r->seq, r->payload_len, m->loop->now);
	k->tag = epochs_send(&m->epochs, (unsigned int)r->volume);
	k->record = *r;
	k->state = CHECK_READING;
	conn_read(c, k->buf, r->offset, r->length, (unsigned int)(k - m->check));
	return true;
}

/* Bytes of the sectors that differ; where they begin and end. */
static uint64_t compare(const struct check *k, uint64_t *first, uint64_t *last)
{
	const unsigned char *is = k->buf, *should = k->record.payload;
	uint64_t at, differed = 0;

	if (!k->error && !memcmp(is, should, k->record.length))
		return 0;
	for (at = 0; at < k->record.length; at += MIN_DIFFERENCE) {
		if (!k->error && !memcmp(is + at, should + at, MIN_DIFFERENCE))
			continue;
		if (!differed)
			*first = at;
		*last = at + MIN_DIFFERENCE;
		differed += MIN_DIFFERENCE;
	}
	return differed;
}

/* Replies to checks have come, and nothing was sent since. */
static void take_checks(struct mirror *m)
{
	uint64_t first = 0, last = 0, differed;
	char size[HUMAN_MAX];
	struct check *k;

	for (k = m->check; k < m->check + VERIFY_CHUNKS; k++) {
		struct target *t = &m->target[k->record.volume];

		/* With the connection the check is lost. */
		if (k->state != CHECK_READ || k->error == ENOTCONN || t->conn.fault)
			continue;
		k->state = CHECK_FREE;
		differed = compare(k, &first, &last);
		verify_compared(m->tap.verify, &k->record, differed);
		if (!differed) {
			epochs_reply(&m->epochs, k->tag);
			continue;
		}
		log_err("volume %s: the replica %s at byte %" PRIu64 ": %s written anew", name_of(m, t),
			k->error ? "cannot be read" : "is not what was written", k->record.offset + first,
			human_size(size, last - first));
		conn_write(&t->conn, (const char *)k->record.payload + first, k->record.offset + first,
			   last - first, k->tag);
	}
}

/* There has to be memory for what a check reads. */
static bool can_check(struct mirror *m)
{
	unsigned int i;

	for (i = 0; i < VERIFY_CHUNKS; i++) {
		if (!m->check[i].buf)
			m->check[i].buf = malloc(REPAGENT_MAX_VERIFY);
		if (!m->check[i].buf)
			return false;
	}
	return true;
}

/* Whether a record is anything to be sent to the hub. */
static bool to_be_sent(struct mirror *m, const struct record *r, bool verified)
{
	switch (r->type) {
	case REPAGENT_REC_WRITE:
	case REPAGENT_REC_ZEROES:
	case REPAGENT_REC_RESYNC:
		return true;
	case REPAGENT_REC_DISCARD:
		return m->target[r->volume].conn.trims;
	case REPAGENT_REC_VERIFY:
		return verified && r->length <= m->target[r->volume].conn.max_request && can_check(m);
	default:
		return false;
	}
}

/*
 * Take records while there are any and the hub takes them.  Return whether the
 * stream moved, or a negative errno.
 */
static int take(struct mirror *m)
{
	struct record *r = &m->record;
	bool moved = false;
	struct conn *c;
	int got;

	m->dry = false;
	for (;;) {
		if (!r->seq) {
			if (!epochs_room(&m->epochs))
				return moved;
			got = stream_peek(m->stream, r);
			if (got <= 0) {
				r->seq = 0;
				m->dry = !got;
				return got < 0 ? got : moved;
			}
			if (r->volume >= 0 && m->target[r->volume].conn.state != CONN_READY) {
				/* A volume that has just come: its connection is on its way. */
				r->seq = 0;
				got = match_targets(m);
				return got < 0 ? got : moved;
			}
			stream_advance(m->stream);
			m->sent = 0;
			m->zeroes = r->type == REPAGENT_REC_ZEROES || record_is_zero(r);
			moved = true;
			if (!to_be_sent(m, r, verify_takes(m->tap.verify, r))) {
				epochs_add(&m->epochs, r->seq, r->payload_len, m->loop->now);
				r->seq = 0;
				continue;
			}
		}
		c = &m->target[r->volume].conn;
		conn_check_size(c, r->offset + r->length);
		if (c->fault || !(r->type == REPAGENT_REC_VERIFY ? send_check(m) : send_record(m)))
			return moved;
		r->seq = 0;
	}
}

static void flush_touched(struct mirror *m, uint64_t touched)
{
	for (; touched; touched &= touched - 1) {
		struct conn *c = &m->target[__builtin_ctzll(touched)].conn;

		if (c->flushes)
			conn_flush(c, 0);
		else
			epochs_flushed(&m->epochs);
	}
}

static int stream_on(struct mirror *m)
{
	uint64_t touched, seq;
	struct target *t;
	bool more;
	int r;

	take_checks(m);
	do {
		r = take(m);
		if (r < 0 || m->state != STREAM)
			break;
		more = r;
		if ((!m->record.seq || !m->sent) &&
		    epochs_close(&m->epochs, m->dry && !m->epochs.epoch[m->epochs.open].pending,
				 m->loop->now))
			more = true;
		if (epochs_flush(&m->epochs, &touched)) {
			flush_touched(m, touched);
			more = true;
		}
		seq = epochs_done(&m->epochs);
		if (seq) {
			r = stream_ack(m->stream, seq);
			if (r < 0) {
				log_err("the kernel will not have record %" PRIu64 " acknowledged: %s",
					seq, strerror(-r));
				return r;
			}
			m->pause = m->cfg->retry_min;
			more = true;
		}
	} while (more);

	for (t = m->target; t < m->end; t++)
		conn_update(&t->conn);
	return r < 0 ? r : 0;
}

static void tick(struct mirror *m)
{
	struct target *t;

	if (m->loop->now < m->next_tick)
		return;
	m->next_tick = m->loop->now + TICK;
	if (m->cfg->timeout / 4 < TICK)
		m->next_tick = m->loop->now + m->cfg->timeout / 4;
	for (t = m->target; t < m->end; t++)
		conn_tick(&t->conn);
}

/* Not all replies wake us: conn_late(). */
static void look_for_replies(struct mirror *m)
{
	struct target *t;

	if (m->loop->now < m->next_look)
		return;
	m->next_look = UINT64_MAX;
	for (t = m->target; t < m->end; t++)
		if (conn_late(&t->conn))
			conn_look(&t->conn);
}

static void plan_look(struct mirror *m)
{
	struct target *t;

	for (t = m->target; t < m->end && m->next_look == UINT64_MAX; t++)
		if (conn_late(&t->conn))
			m->next_look = m->loop->now + LOOK;
}

static int mirror_run(struct tap *tap)
{
	struct mirror *m = to_mirror(tap);
	const struct target *t;
	int r = 0;

	tick(m);
	look_for_replies(m);
	if (m->state == DOWN && is_late(m)) {
		m->state = CONNECT;
		m->deadline = m->loop->now + m->cfg->timeout;
		r = match_targets(m);
	}
	if (!r && m->state == CONNECT) {
		t = first_unready(m);
		if (first_fault(m))
			r = lose_fault(m);
		else if (!t)
			r = go_stream(m);
		else if (is_late(m))
			r = lose(m, t, FAULT_LOST, "no answer while connecting");
	}
	if (!r && m->state == STREAM) {
		r = stream_on(m);
		/* A second fault must not cut RETIRE short. */
		if (!r && m->state == STREAM && first_fault(m))
			r = lose_fault(m);
	}
	if (!r && m->state == RETIRE && (is_late(m) || all_quiet(m)))
		go_down(m);
	plan_look(m);
	return r;
}

static int mirror_volumes(struct tap *tap)
{
	struct mirror *m = to_mirror(tap);

	return m->state == CONNECT || m->state == STREAM ? match_targets(m) : 0;
}

static enum tap_want mirror_want(const struct tap *tap)
{
	const struct mirror *m = to_mirror(tap);

	if (m->state != STREAM || !m->dry)
		return TAP_NOTHING;
	return epochs_idle(&m->epochs) ? TAP_RECORD : TAP_RECORDS;
}

static uint64_t mirror_deadline(const struct tap *tap)
{
	const struct mirror *m = to_mirror(tap);

	if (m->next_look < m->deadline && m->next_look < m->next_tick)
		return m->next_look;
	return m->deadline < m->next_tick ? m->deadline : m->next_tick;
}

static void mirror_free(struct tap *tap)
{
	struct mirror *m = to_mirror(tap);
	unsigned int i;

	close_all(m);
	for (i = 0; i < VERIFY_CHUNKS; i++)
		free(m->check[i].buf);
	free(m);
}

/*
 * As after a fault, late replies are awaited before the connections are closed.
 */
static int mirror_pause(struct tap *tap, bool on)
{
	struct mirror *m = to_mirror(tap);

	if (m->paused == on)
		return 0;
	m->paused = on;
	if (!on) {
		snprintf(tap->why, sizeof(tap->why), "connecting");
		if (m->state == DOWN)
			m->deadline = m->loop->now;
		return 0;
	}
	snprintf(tap->why, sizeof(tap->why), "paused");
	tap->connected = false;
	forget_sent(m);
	m->pause = m->cfg->retry_min;
	if (m->state == STREAM) {
		m->state = RETIRE;
		m->deadline = m->loop->now + m->cfg->timeout;
	} else if (m->state != RETIRE) {
		go_down(m);
	}
	return stream_hub(m->stream, false, REPAGENT_REASON_PAUSED);
}

static const struct tap_ops mirror_ops = {
	.run		= mirror_run,
	.volumes	= mirror_volumes,
	.want		= mirror_want,
	.deadline	= mirror_deadline,
	.pause		= mirror_pause,
	.free		= mirror_free,
};

static uint64_t at_least_one(uint64_t a, uint64_t b)
{
	uint64_t least = a < b ? a : b;

	return least ? least : 1;
}

/**
 * mirror_new - a tap for stock NBD servers
 * @cfg: the configuration; must outlive the tap
 * @loop: the loop it lives on
 * @stream: where the records come from
 * @verify: which of them to compare
 *
 * Return: the tap, or NULL without memory.
 */
struct tap *mirror_new(const struct config *cfg, struct loop *loop, struct stream *stream,
		       struct verify *verify)
{
	struct mirror *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->tap.ops = &mirror_ops;
	m->tap.kind = "mirror";
	m->tap.verify = verify;
	m->cfg = cfg;
	m->loop = loop;
	m->stream = stream;
	m->end = m->target;
	m->state = DOWN;
	m->next_look = UINT64_MAX;
	m->pause = cfg->retry_min;
	/* Two epochs at most half fill the ring. */
	m->epochs.limits = (struct epoch_limits) {
		.records = at_least_one(cfg->epoch.records, stream->nr_slots / 4),
		.bytes = at_least_one(cfg->epoch.bytes, stream->payload_size / 4),
		.ns = cfg->epoch.ns,
	};
	snprintf(m->tap.why, sizeof(m->tap.why), "connecting");
	return &m->tap;
}
