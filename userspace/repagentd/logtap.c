// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log tap: the stream itself goes to a rephub, record by record and in
 * order, which keeps its history (Documentation/frames.md).
 *
 *	state	 means				leaves it by		   to
 *	DOWN	 pause before a try		timer			   CONNECT
 *	CONNECT	 the connection is made		ready: HELLO is sent	   HELLO
 *	HELLO	 ... and awaits its answer	answer: the read is sent   SESSION
 *	SESSION	 the session block is awaited	it has what we acknowledged STREAM
 *						it has not		   LOST
 *	LOST	 all volumes are marked dirty	done			   SETTLE
 *	SETTLE	 writes that were on their way	all are committed	   STREAM
 *		 are waited for
 *	STREAM	 frames are sent
 *
 * and from each by any fault, or when it takes too long, to DOWN.
 *
 * Nothing that is sent has to be waited for after a fault: when the hub opens
 * the next session it closes the one before, and says what of it counts. The
 * ring is what is sent again from; a frame is a copy, and only needed until
 * the hub has answered it.
 *
 * What is acknowledged: the last record of the unbroken run of frames that had
 * been answered when a FLUSH was sent that was answered since.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/frame.h"
#include "../common/log.h"
#include "../common/parse.h"
#include "back.h"
#include "compare.h"
#include "conn.h"
#include "known.h"
#include "orders.h"
#include "sums.h"
#include "tap.h"

#define TICK		NSEC_PER_SEC
#define LOOK		NSEC_PER_MSEC
#define SETTLE_LOOK	(20 * NSEC_PER_MSEC)	/* between two looks at writes on their way */
#define MARK_LOOK	NSEC_PER_SEC		/* ... at whether volumes can be marked now */
#define FRAMES		12	/* in flight */
#define EAGER		2	/* a frame that is not full waits while so many are in flight */
#define RESYNC_HINT	"to have it take the group anew, and read everything again: repctl resync"
#define REJOIN_HINT	"if its VM runs here now: repctl rejoin"
#define BACK_HINT	"if its VM is to run here again: first repctl fail-back"
#define HOLD_LOOK	(20 * NSEC_PER_MSEC)	/* ... at whether the stream may still wait for sums */
#define HOLD_MAX	(10 * NSEC_PER_SEC)	/* a sum is awaited so long */
#define LINGER		(250 * NSEC_PER_MSEC)	/* a frame of numbers alone waits so long for more */
#define TIMED		"@timed"	/* label of our checkpoints */

enum log_state { DOWN, CONNECT, HELLO, SESSION, LOST, SETTLE, STREAM };

/* What a request is, beside frames, whose tags are their places. */
enum { TAG_HELLO = FRAMES, TAG_ORDER, TAG_REPORT };

/*
 * struct out - a frame in flight
 * @buf:	its bytes
 * @last:	number of its last record
 * @records, @bytes: that it holds
 */
struct out {
	void *buf;
	uint64_t last;
	uint64_t records, bytes;
	bool answered;
};

/*
 * struct logtap
 * @deadline:	of the state, ns; UINT64_MAX without one
 * @next_tick:	when the connection is looked after
 * @next_look:	when replies are looked for that woke nobody, or UINT64_MAX
 * @pause:	before the next try, ns
 * @dry:	the stream has no further record now
 * @paused:	DOWN lasts until that is over
 * @marking:	volumes are being marked dirty; @which: index of the one, or -1
 * @next_mark:	not before, ns
 * @unsure:	volumes are to be looked at again: see doubt()
 * @got:	HELLO, or the read of the session block, was answered; @error: why
 *		the latter failed, or 0
 * @block, @hello: for these two
 * @session:	of the block
 * @known:	whom we spoke to last
 * @foreign:	it is refused because it is another one
 * @refused:	why a command was
 * @fenced:	... because of this generation; 0: it is not. @fenced_since: when that was
 *		made, ns of CLOCK_REALTIME, 0: not known
 * @base_incarnation, @base_seq: where the hub was when this incarnation began, as
 *		far as we know; zeroes: we do not. @back: volumes that were brought there
 * @doubted:	ids of the volumes that are to be marked dirty as a whole, at their
 *		index; @marked: of those that were
 * @offset:	where the next frame goes
 * @frame_bytes: payload that makes a frame full
 * @open:	the frame that is being filled; open.buf NULL: none
 * @open_records, @open_bytes: that it holds; @open_since: when it was begun, ns;
 *		@open_urgent: somebody waits for a number in it
 * @told:	ids of the volumes that this session knows, at their index
 * @out, @first, @nr: frames in flight, oldest first, in a circle
 * @spare:	buffers that nobody uses
 * @scratch:	one to compress into, or NULL
 * @answered:	the last record of the unbroken run; @flushing: what the FLUSH
 *		that is under way will make durable, 0: there is none;
 *		@durable: what such a one did
 * @waiting:	records and bytes between @answered and the FLUSH before
 * @since:	when the first of them was answered, ns
 * @checkpoint:	when one is due, ns; UINT64_MAX: nothing came since the last
 * @sums:	of the volumes that are in a resync, at their index; NULL: never were
 * @compare:	VERIFY records; @orders: what the hub wants to be compared
 * @held:	since when the next record, of a resync, waits for its sums, ns; 0: it does not
 */
struct logtap {
	struct tap tap;
	const struct config *cfg;
	struct loop *loop;
	struct stream *stream;
	enum log_state state;
	uint64_t deadline;
	uint64_t next_tick;
	uint64_t next_look;
	uint64_t pause;
	bool dry;
	bool paused;
	bool warned;
	bool marking;
	bool unsure;
	uint64_t next_mark;
	bool got;
	int error;
	struct conn conn;
	unsigned char hello[FRAME_ALIGN];
	unsigned char block[SESSION_SIZE];

	struct session session;
	struct known known;
	bool foreign;
	char refused[512];
	uint64_t fenced, fenced_since;
	uint64_t base_incarnation, base_seq;
	struct back back;
	uint16_t doubted[REPAGENT_MAX_VOLUMES], marked[REPAGENT_MAX_VOLUMES];
	int which;
	uint64_t offset;

	uint64_t frame_bytes;
	struct frame_builder open;
	uint64_t open_records, open_bytes, open_since;
	bool open_urgent;
	uint16_t told[REPAGENT_MAX_VOLUMES];
	struct out out[FRAMES];
	unsigned int first, nr;
	void *spare[FRAMES + 1];
	unsigned int nr_spare;
	void *scratch;

	struct epoch_limits limits;
	uint64_t answered, flushing, durable;
	struct {
		uint64_t records, bytes;
	} waiting;
	uint64_t since;
	uint64_t checkpoint;

	struct sums *sums[REPAGENT_MAX_VOLUMES];
	struct compare compare;
	struct orders orders;
	uint64_t held;
};

static struct logtap *to_logtap(const struct tap *tap)
{
	return (struct logtap *)tap;
}

/* --- Buffers and what is in flight --------------------------------------- */

static void *take_buffer(struct logtap *l)
{
	return l->nr_spare ? l->spare[--l->nr_spare] : malloc(FRAME_MAX);
}

/* The one that was used last is taken next: its pages are there. */
static void give_buffer(struct logtap *l, void *buf)
{
	l->spare[l->nr_spare++] = buf;
}

static void end_sums(struct logtap *l)
{
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (l->sums[i])
			sums_end(l->sums[i]);
	l->held = 0;
}

static void drop_frames(struct logtap *l)
{
	end_sums(l);
	compare_drop(&l->compare);
	if (l->open.buf)
		give_buffer(l, l->open.buf);
	l->open.buf = NULL;
	for (; l->nr; l->nr--, l->first = (l->first + 1) % FRAMES)
		give_buffer(l, l->out[l->first].buf);
	memset(l->told, 0, sizeof(l->told));
	memset(&l->waiting, 0, sizeof(l->waiting));
	l->flushing = 0;
	l->dry = false;
	l->checkpoint = UINT64_MAX;
}

static void go_down(struct logtap *l)
{
	uint64_t jitter = l->pause / 4;

	conn_close(&l->conn);
	drop_frames(l);
	l->state = DOWN;
	l->deadline = l->paused ? UINT64_MAX : l->loop->now + l->pause - jitter / 2 +
		      (uint64_t)random() % (jitter + 1);
	l->pause *= 2;
	if (l->pause > l->cfg->retry_max)
		l->pause = l->cfg->retry_max;
}

/* Where else to send it, or nowhere: tell the kernel and the operator. */
static __attribute__((format(printf, 3, 4)))
int lose(struct logtap *l, enum conn_fault what, const char *fmt, ...)
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
		[FAULT_FENCED] = { REPAGENT_REASON_FENCED, LOG_ERR, "the hub has fenced this host off",
				   "Writes go on and are remembered; trying again" },
	};
	char why[sizeof(l->conn.why)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(l->tap.why, sizeof(l->tap.why), "%s: %s", kind[what].text, why);
	log_msg(kind[what].priority, "%s (%s). %s.", l->tap.why, l->tap.uri[0] ? l->tap.uri : "no URI",
		kind[what].then);
	l->tap.connected = false;
	l->tap.fenced = what == FAULT_FENCED || (what == FAULT_LOST && l->tap.fenced);
	/* Nothing gets better by asking soon, unless the line was the trouble. */
	if (what != FAULT_LOST)
		l->pause = l->cfg->retry_full;
	go_down(l);
	return stream_hub(l->stream, false, kind[what].reason);
}

static void replied(struct conn *c, enum conn_op op, unsigned int tag, int error)
{
	struct logtap *l = c->owner;

	if (op != OP_FLUSH && (tag == TAG_ORDER || tag == TAG_REPORT)) {
		orders_replied(&l->orders, tag, error);
	} else if (op == OP_READ || tag == TAG_HELLO) {
		l->got = true;
		l->error = error;
	} else if (op == OP_FLUSH) {
		l->durable = l->flushing;
		l->flushing = 0;
	} else {
		l->out[tag].answered = true;
	}
}

/* --- A session ------------------------------------------------------------ */

/*
 * A disk that is half of what it was and half of what the hub had must not become the group's, whatever generation this host was
 * told: it is as if the hub had fenced it off, until `repctl fail-back` has ended. Return whether that is not so.
 */
static bool is_whole(struct logtap *l)
{
	const char *volume;

	if (!back_load(&l->back, l->cfg->state_dir, l->cfg->group))
		snprintf(l->refused, sizeof(l->refused), "%s/%s.back cannot be read (%s), so that it is not known whether the disks are whole",
			 l->cfg->state_dir, l->cfg->group, strerror(errno));
	else if ((volume = back_unfinished(&l->back)))
		snprintf(l->refused, sizeof(l->refused), "volume %s is not yet what the hub has, though it was to be: repctl fail-back %s --finish. "
			 "If it got that in another way: rm %s/%s.back", volume, l->cfg->group, l->cfg->state_dir, l->cfg->group);
	else
		return true;
	return false;
}

static int open_conn(struct logtap *l)
{
	struct conn *c = &l->conn;
	char error[URI_ERROR_MAX];

	l->state = CONNECT;
	l->deadline = l->loop->now + l->cfg->timeout;
	if (!uri_for_hub(&l->cfg->taps, l->cfg->group, "log", NULL, l->tap.uri, c->uri, error)) {
		l->tap.uri[0] = '\0';
		return lose(l, FAULT_REFUSED, "%s", error);
	}
	if (!is_whole(l))
		return lose(l, FAULT_FENCED, "%s", l->refused);
	if (!l->warned && uri_exposes_data(l->tap.uri)) {
		l->warned = true;
		log_warn("the group goes over the network in plain text (%s); rephubs:// would encrypt it",
			 l->tap.uri);
	}
	c->loop = l->loop;
	c->cfg = l->cfg;
	c->replied = replied;
	c->owner = l;
	c->frame_max = FRAME_MAX;
	conn_open(c);
	return 0;
}

static int say_hello(struct logtap *l)
{
	struct conn *c = &l->conn;

	/* A HELLO must not be written into the image of a disk. */
	if (c->size != LOG_SIZE)
		return lose(l, FAULT_REFUSED, "what listens there is no rephub, for its export has %" PRIu64
			    " bytes; expected the address of a rephub, or nbd:// for another NBD server", c->size);
	frame_hello(l->hello, l->known.group, l->known.generation, l->stream->incarnation);
	l->got = false;
	l->state = HELLO;
	l->deadline = l->loop->now + l->cfg->timeout;
	conn_write(c, l->hello, 0, sizeof(l->hello), TAG_HELLO);
	return 0;
}

static void ask_session(struct logtap *l)
{
	l->got = false;
	l->state = SESSION;
	l->deadline = l->loop->now + l->cfg->timeout;
	conn_read(&l->conn, l->block, 0, sizeof(l->block), 0);
}

static void report_connected(const struct logtap *l)
{
	char hub[UUID_TEXT];

	log_info("connected to %s (hub %s, generation %" PRIu64 "), going on at record %" PRIu64, l->tap.uri,
		 uuid_text(hub, l->session.hub), l->session.generation, l->stream->next);
}

/* From behind this record on, all of the volume that is sent is noted: what it touches is not what the sums say. */
static void begin_sums(struct logtap *l, int i, uint64_t floor)
{
	const struct repagent_volume_info *v = &l->stream->volume[i].info;
	struct sums_of_whom of = { .cfg = l->cfg, .loop = l->loop, .incarnation = l->stream->incarnation };

	memcpy(of.hub, l->session.hub, sizeof(of.hub));
	memcpy(of.group_uuid, l->session.group, sizeof(of.group_uuid));
	memcpy(of.volume, v->name, sizeof(of.volume));
	if (!l->sums[i])
		l->sums[i] = calloc(1, sizeof(*l->sums[i]));
	if (!l->sums[i] || !sums_begin(l->sums[i], &of, v->id, l->stream->volume[i].limit, floor))
		log_warn("volume %s: there is no memory to compare it with the hub: all is sent", v->name);
}

/* A session opens: all behind its position is sent in it. */
static void begin_all_sums(struct logtap *l)
{
	int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (l->stream->volume[i].info.id && l->stream->volume[i].info.image == REPAGENT_IMAGE_RESYNC)
			begin_sums(l, i, l->stream->next - 1);
}

static int go_stream(struct logtap *l)
{
	report_connected(l);
	begin_all_sums(l);
	orders_begin(&l->orders);
	l->answered = l->durable = l->stream->next - 1;
	l->state = STREAM;
	l->deadline = UINT64_MAX;
	l->tap.connected = true;
	l->tap.fenced = false;
	l->tap.why[0] = '\0';
	return stream_hub(l->stream, true, REPAGENT_REASON_NONE);
}

/*
 * A volume whose write-intent map was relied on when it was activated: does the
 * hub have what the map does not list?  Return the index of the first for which
 * that is not known, or -1.
 */
static int first_doubted(struct logtap *l)
{
	int i, first = -1;

	for (i = REPAGENT_MAX_VOLUMES - 1; i >= 0; i--) {
		const struct repagent_volume_info *v = &l->stream->volume[i].info;

		if (v->id && v->id != l->marked[i] && v->map_incarnation &&
		    v->map_incarnation != l->stream->incarnation &&
		    (v->map_incarnation != l->base_incarnation || v->map_seq > l->base_seq) &&
		    !back_rests(&l->back, v, l->base_incarnation, l->base_seq))
			l->doubted[i] = v->id;
		if (l->doubted[i] && l->doubted[i] == v->id)
			first = i;
		else
			l->doubted[i] = 0;
	}
	return first;
}

/*
 * The hub lacks what it had acknowledged, or it is another one: from now on
 * nothing counts but what is read again.  The stream has a GAP then, and when
 * it goes on RESYNC_BEGIN of every volume.
 */
static int begin_lost(struct logtap *l)
{
	const struct session *s = &l->session;
	const struct stream *st = l->stream;

	if (s->incarnation == st->incarnation)
		snprintf(l->tap.why, sizeof(l->tap.why), "the hub has records up to %" PRIu64 " and had acknowledged %"
			 PRIu64 ": it was set back, and everything is read again", s->seq, st->acked);
	else if (s->owes && !st->acked)
		snprintf(l->tap.why, sizeof(l->tap.why), "a write-intent map could not be written when this host went down, "
			 "as the hub remembers: everything is read again");
	else if (s->incarnation)
		snprintf(l->tap.why, sizeof(l->tap.why), "the hub lacks what it had acknowledged: everything is read again");
	else
		snprintf(l->tap.why, sizeof(l->tap.why), "the hub has nothing of this group: everything is read again");
	log_warn("%s (%s)", l->tap.why, l->tap.uri);
	l->state = LOST;
	l->deadline = UINT64_MAX;
	return stream_hub(l->stream, false, REPAGENT_REASON_HUB_REFUSED);
}

static void describe_fence(const struct logtap *l, char *text, size_t size)
{
	time_t t = (time_t)(l->fenced_since / NSEC_PER_SEC);
	char when[32] = "";
	struct tm tm;

	if (t && gmtime_r(&t, &tm))
		strftime(when, sizeof(when), " since %Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(text, size, "fenced by generation %" PRIu64 "%s: ", l->fenced, when);
}

/* The hub took our stream before it was failed over, so our disks are old, unless somebody has seen to them. */
static bool was_source(const struct logtap *l)
{
	return known_any(&l->known) && !l->back.nr;
}

static int refused_session(struct logtap *l)
{
	static const struct {
		enum conn_fault fault;
		const char *remedy;
	} kind[SESSION_NR_STATES] = {
		[SESSION_FENCED] = { FAULT_FENCED, REJOIN_HINT },
		[SESSION_STALE] = { FAULT_FENCED, "another host, or a later life of this group, has written: one of them is to be ended" },
		[SESSION_FOREIGN] = { FAULT_REFUSED, RESYNC_HINT },
		[SESSION_FULL] = { FAULT_FULL, "make room there" },
		[SESSION_FAILED] = { FAULT_LOST, "look at the hub's log and its disk" },
	};
	const struct session *s = &l->session;
	bool of_group = s->state == SESSION_FOREIGN || s->state == SESSION_FENCED;
	const char *remedy = kind[s->state].remedy;
	char by[96] = "";

	l->foreign = s->state == SESSION_FOREIGN;
	if (s->state == SESSION_FENCED) {
		l->fenced = s->generation;
		l->fenced_since = s->since;
		if (strncmp(s->reason, "fenced by", 9))
			describe_fence(l, by, sizeof(by));
		if (was_source(l))
			remedy = BACK_HINT;
	}
	return lose(l, kind[s->state].fault, "%s%s; %s%s%s", by, s->reason[0] ? s->reason : "it does not say why",
		    remedy, of_group ? " " : "", of_group ? l->cfg->group : "");
}

static int same_hub(struct logtap *l)
{
	const struct session *s = &l->session;
	const struct known *k = &l->known;
	char is[UUID_TEXT], was[UUID_TEXT];

	if (strcmp(s->name, l->cfg->group))
		return lose(l, FAULT_REFUSED, "its session is of group '%s' and not of '%s'; look at the hub", s->name,
			    l->cfg->group);
	if (!known_any(k))
		return 1;
	l->foreign = true;
	if (memcmp(s->group, k->group, sizeof(k->group)))
		return lose(l, FAULT_REFUSED, "its group %s has the uuid %s and had %s: it is another hub, or was emptied; "
			    RESYNC_HINT " %s", s->name, uuid_text(is, s->group), uuid_text(was, k->group), s->name);
	if (memcmp(s->hub, k->hub, sizeof(k->hub)))
		return lose(l, FAULT_REFUSED, "it is the hub %s, and the group was at %s; " RESYNC_HINT " %s",
			    uuid_text(is, s->hub), uuid_text(was, k->hub), s->name);
	l->foreign = false;
	return 1;
}

/* It is the hub that we know from now on. */
static void meet(struct logtap *l)
{
	const struct session *s = &l->session;
	struct known k = { .generation = s->generation };

	memcpy(k.hub, s->hub, sizeof(k.hub));
	memcpy(k.group, s->group, sizeof(k.group));
	if (!memcmp(&k, &l->known, sizeof(k)))
		return;
	l->known = k;
	known_save(&k, l->cfg->state_dir, l->cfg->group);
}

/* The session block is there. */
static int judge_session(struct logtap *l)
{
	struct session *s = &l->session;
	struct stream *st = l->stream;
	char error[FRAME_ERROR_MAX];
	int r;

	if (l->error)
		return lose(l, FAULT_LOST, "the session block cannot be read: %s; look at the hub's log",
			    strerror(l->error));
	if (!session_decode(s, l->block, error))
		return lose(l, FAULT_REFUSED, "what listens there is no rephub that this daemon understands: %s", error);
	if (s->state != SESSION_ACCEPTING)
		return refused_session(l);
	r = same_hub(l);
	if (r <= 0)
		return r;
	if (s->frame_max < FRAME_MAX)
		return lose(l, FAULT_REFUSED, "it takes frames of at most %u bytes and they can have %u; "
			    "expected a rephub of this version", s->frame_max, FRAME_MAX);
	r = stream_refresh(st);
	if (!r)
		r = stream_rewind(st);
	if (r < 0)
		return r;
	if (s->incarnation == st->incarnation && s->seq > st->info.committed)
		return lose(l, FAULT_REFUSED, "it says it has record %" PRIu64 ", and the last one here is %" PRIu64
			    "; look at the hub: does another host write to this group?", s->seq,
			    (uint64_t)st->info.committed);
	if (!is_whole(l))	/* it began while the connection was made */
		return lose(l, FAULT_FENCED, "%s", l->refused);
	meet(l);
	l->fenced = l->fenced_since = 0;
	l->offset = s->offset;

	if (s->incarnation == st->incarnation && s->seq >= st->acked) {
		/* It may have made durable what it could not say any more. */
		if (s->seq > st->acked)
			r = stream_ack(st, s->seq);
		st->next = s->seq + 1;
		return r < 0 ? r : go_stream(l);
	}
	if (st->acked || s->incarnation == st->incarnation)
		return begin_lost(l);
	/* A new life of the ring, of which the hub has nothing yet. */
	l->base_incarnation = s->incarnation;
	l->base_seq = s->seq;
	return s->owes || first_doubted(l) >= 0 ? begin_lost(l) : go_stream(l);
}

/* Have a volume, or with -1 all, marked dirty; the answer is logtap_marked().  Return whether it begins. */
static bool mark(struct logtap *l, int i)
{
	if (l->marking || l->loop->now < l->next_mark)
		return false;
	l->which = i;
	l->marking = l->tap.mark_dirty(l->tap.owner, i < 0 ? NULL : l->stream->volume[i].info.name);
	l->next_mark = l->marking ? l->loop->now : l->loop->now + MARK_LOOK;
	return l->marking;
}

/* --- Frames --------------------------------------------------------------- */

/*
 * Begin a frame with the names of all volumes that this session has not been
 * told of.  Return whether there is room for it in memory.
 */
static bool begin_frame(struct logtap *l, uint64_t seq)
{
	struct frame_header h = {
		.generation = l->known.generation,
		.incarnation = l->stream->incarnation,
		.first = seq,
		.last = seq,
	};
	unsigned int i;
	void *buf;

	if (l->nr == FRAMES)
		return false;
	buf = take_buffer(l);
	if (!buf)
		return false;
	memcpy(h.group, l->known.group, sizeof(h.group));
	frame_begin(&l->open, buf, &h);
	l->open_records = l->open_bytes = 0;
	l->open_since = l->loop->now;
	l->open_urgent = false;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &l->stream->volume[i].info;
		struct frame_volume fv = { .id = v->id, .sectors = v->sectors };

		if (v->id && v->id != l->told[i]) {
			snprintf(fv.name, sizeof(fv.name), "%s", v->name);
			frame_add_volume(&l->open, &fv);
		}
		l->unsure |= v->id != l->told[i];
		l->told[i] = v->id;
	}
	return true;
}

/*
 * Whether the open frame has it now; else it is full, or its table lacks the volume. Zeroes are not sent byte by byte: a
 * first sync of a disk that is mostly empty costs next to nothing.
 */
static bool add_record(struct logtap *l, const struct record *r)
{
	const struct repagent_volume_info *v = r->volume < 0 ? NULL : &l->stream->volume[r->volume].info;
	struct frame_record fr = {
		.type = (uint8_t)r->type,
		.flags = (uint8_t)r->flags,
		.volume = v ? v->id : 0,
		.aux = r->aux,
		.seq = r->seq,
		.sector = r->offset >> 9,
		.nr_sectors = r->length >> 9,
		.time = r->time,
		.len = r->payload_len,
	};

	if (v && l->told[r->volume] != v->id)
		return false;
	if (record_is_zero(r)) {
		fr.type = REPAGENT_REC_ZEROES;
		fr.len = 0;
	}
	if (!r->type)
		frame_add_void(&l->open, r->seq);
	else if (!frame_add_record(&l->open, &fr, r->payload))
		return false;
	l->open_records++;
	return true;
}

/* Send the open frame.  Return false while the line has enough. */
static bool send_frame(struct logtap *l)
{
	uint64_t acked = l->durable;
	unsigned int place = (l->first + l->nr) % FRAMES;
	struct out *o = &l->out[place];
	size_t size = (l->open.len + FRAME_ALIGN - 1) & ~(size_t)(FRAME_ALIGN - 1);

	if (l->nr == FRAMES || !conn_takes(&l->conn, l->offset, l->offset + size, size))
		return false;
	if (l->cfg->compress && l->session.zstd && !l->scratch)
		l->scratch = malloc(FRAME_MAX);
	size = frame_end(&l->open, l->session.zstd && l->scratch ? l->cfg->compress : 0, l->scratch);
	*o = (struct out) {
		.buf = l->open.buf, .last = l->open.h.last, .records = l->open_records, .bytes = l->open_bytes,
	};
	frame_place(o->buf, l->offset, acked < l->open.h.first ? acked : 0);
	l->open.buf = NULL;
	l->nr++;
	conn_write(&l->conn, o->buf, l->offset, size, place);
	l->offset += size;
	return true;
}

/* A record of a kind that moves the image, so that a later checkpoint differs from the one before. */
static bool changes_image(const struct record *r)
{
	return r->type == REPAGENT_REC_WRITE || r->type == REPAGENT_REC_ZEROES ||
	       r->type == REPAGENT_REC_DISCARD || r->type == REPAGENT_REC_RESYNC ||
	       r->type == REPAGENT_REC_RESYNC_END;
}

/* What the record says of the sums of its volume, which are shown all that is sent. */
static void pass_sums(struct logtap *l, const struct record *r)
{
	struct sums *s = r->volume < 0 ? NULL : l->sums[r->volume];

	if (r->volume >= 0 && r->type == REPAGENT_REC_RESYNC_BEGIN)
		begin_sums(l, r->volume, r->seq);
	if (!s || s->state == SUMS_OFF)
		return;
	switch (r->type) {
	case REPAGENT_REC_WRITE:
	case REPAGENT_REC_ZEROES:
	case REPAGENT_REC_DISCARD:
	case REPAGENT_REC_RESYNC:
		sums_touch(s, r->offset, r->length);
		break;
	case REPAGENT_REC_RESYNC_END:
	case REPAGENT_REC_VOLUME_ADD:
	case REPAGENT_REC_VOLUME_RESIZE:
	case REPAGENT_REC_VOLUME_REMOVE:
		sums_end(s);
		break;
	default:
		break;
	}
}

/* Whether the ring has room enough that the stream can wait for sums: that must never end capture, nor delay a stop. */
static int is_patient(struct logtap *l, struct sums *s)
{
	struct stream *st = l->stream;
	int r;

	if (!l->held)
		l->held = l->loop->now;
	if (l->loop->now - l->held > HOLD_MAX)
		sums_give_up(s, "no sum came");
	if (st->end != UINT64_MAX || s->state == SUMS_FAILED)
		return false;
	r = stream_refresh(st);
	if (r < 0)
		return r;
	return st->info.payload_used < st->payload_size / 2 && st->info.head - st->acked < st->nr_slots / 2;
}

/*
 * Leave out of a record what the hub has; of one of which nothing is left, only the number goes, and so of one that is
 * to be compared, unless it is to mend what was found to differ. Return whether it is to wait, or a negative errno.
 */
static int leave_out(struct logtap *l, struct record *r)
{
	struct sums *s = r->type == REPAGENT_REC_RESYNC ? l->sums[r->volume] : NULL;
	int wait = 0;

	if (r->type == REPAGENT_REC_VERIFY && verify_sends(l->tap.verify, r))
		r->type = REPAGENT_REC_RESYNC;
	else if (r->type == REPAGENT_REC_VERIFY)
		*r = (struct record){ .seq = r->seq, .volume = -1 };
	if (s)
		switch (sums_compare(s, r)) {
		case SUMS_SEND:
			break;
		case SUMS_SAME:
			*r = (struct record){ .seq = r->seq, .volume = -1 };
			break;
		case SUMS_LATER:
			wait = is_patient(l, s);
			break;
		}
	if (!wait)
		l->held = 0;
	return wait;
}

/*
 * Whether the open frame is worth to be sent. One that has nothing but numbers, of what the hub had already, is only
 * owed for the ring's sake.
 */
static bool is_full(const struct logtap *l)
{
	return l->open_bytes >= (l->open.h.nr_records ? l->frame_bytes : l->limits.bytes / 4);
}

static bool lingers(const struct logtap *l)
{
	return l->open.buf && !l->open.h.nr_records && l->open_bytes && !l->open_urgent &&
	       l->stream->end == UINT64_MAX && l->loop->now - l->open_since < LINGER;
}

/*
 * Take records while there are any and the hub takes them.  Return whether the
 * stream moved, or a negative errno.
 */
static int take(struct logtap *l)
{
	struct record is, rec;
	bool moved = false;
	int got;

	l->dry = false;
	while (!l->conn.fault) {
		got = stream_peek(l->stream, &is);
		if (got < 0)
			return got;
		if (!got) {
			l->dry = true;
			break;
		}
		rec = is;
		got = leave_out(l, &rec);
		if (got < 0)
			return got;
		if (got || (!l->open.buf && !begin_frame(l, rec.seq)))
			break;
		if (add_record(l, &rec)) {
			stream_advance(l->stream);
			moved = true;
			l->open_bytes += is.payload_len;
			l->open_urgent |= is.type == REPAGENT_REC_VERIFY;
			pass_sums(l, &rec);
			if (verify_takes(l->tap.verify, &is))
				compare_add(&l->compare, &is);
			if (is.type == REPAGENT_REC_VOLUME_RESIZE)
				compare_resized(&l->compare);
			l->unsure |= rec.type == REPAGENT_REC_VOLUME_ADD || rec.type == REPAGENT_REC_RESYNC_BEGIN;
			if (changes_image(&rec) && l->checkpoint == UINT64_MAX && l->cfg->checkpoint)
				l->checkpoint = l->loop->now + l->cfg->checkpoint;
			if (!is_full(l))
				continue;
		} else if (!l->open_records) {
			log_err("record %" PRIu64 " fits into no frame", rec.seq);
			return -EBADMSG;
		}
		if (!send_frame(l))
			break;
	}
	if ((l->dry || l->held) && l->open.buf && l->nr < EAGER && !lingers(l))
		send_frame(l);
	return moved;
}

/* Frames count in their order, whatever the order of their replies. */
static void count_answered(struct logtap *l)
{
	for (; l->nr && l->out[l->first].answered; l->nr--, l->first = (l->first + 1) % FRAMES) {
		const struct out *o = &l->out[l->first];

		if (!l->waiting.records)
			l->since = l->loop->now;
		l->waiting.records += o->records;
		l->waiting.bytes += o->bytes;
		l->answered = o->last;
		give_buffer(l, o->buf);
	}
}

/* Whether a FLUSH is worth its price now: when the limits say so, or nothing else is to come. */
static bool flush_is_due(const struct logtap *l)
{
	if (l->flushing || !l->waiting.records)
		return false;
	return ((l->dry || l->held) && !l->nr && (!l->open.buf || lingers(l))) ||
	       l->waiting.records >= l->limits.records ||
	       l->waiting.bytes >= l->limits.bytes || l->loop->now - l->since >= l->limits.ns;
}

static int acknowledge(struct logtap *l)
{
	int r = stream_ack(l->stream, l->durable);

	if (r < 0)
		log_err("the kernel will not have record %" PRIu64 " acknowledged: %s", l->durable, strerror(-r));
	else
		l->pause = l->cfg->retry_min;
	if (r >= 0)
		back_forget(&l->back, l->cfg->state_dir, l->cfg->group);
	return r;
}

/* A point in time, if something came since the last one. */
static int timed_checkpoint(struct logtap *l)
{
	uint64_t seq;
	int r;

	if (l->loop->now < l->checkpoint)
		return 0;
	l->checkpoint = UINT64_MAX;
	if (l->stream->end != UINT64_MAX)
		return 0;
	r = stream_emit(l->stream, REPAGENT_REC_CHECKPOINT, TIMED, &seq);
	/* There is no place for it: the next one will do. */
	return r == -EAGAIN || r == -ENOSPC ? 0 : r;
}

/*
 * A volume that came later may rest on what the hub is not known to have: it is
 * read again as a whole.  Nothing is acknowledged before it is marked, for then
 * the kernel says no longer what it rests on.  Return whether one is still to be
 * marked, or a negative errno.
 */
static int doubt(struct logtap *l)
{
	int r, i;

	if (!l->unsure)
		return 0;
	r = stream_refresh(l->stream);
	if (r < 0)
		return r;
	i = first_doubted(l);
	l->unsure = i >= 0;
	if (i >= 0 && mark(l, i))
		log_notice("volume %s: the hub is not known to have what its write-intent map rests on; all of it is read again",
			   l->stream->volume[i].info.name);
	return l->unsure;
}

/* What is asked beside the stream. */
static void run_beside(struct logtap *l)
{
	unsigned int i;

	compare_run(&l->compare, l->durable);
	if (l->session.orders)
		orders_run(&l->orders);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (l->sums[i])
			sums_run(l->sums[i], l->durable);
}

static int stream_on(struct logtap *l)
{
	bool more;
	int r;

	r = timed_checkpoint(l);
	if (r < 0)
		return r;
	run_beside(l);
	do {
		count_answered(l);
		r = take(l);
		if (r < 0)
			return r;
		more = r;
		if (flush_is_due(l)) {
			l->flushing = l->answered;
			memset(&l->waiting, 0, sizeof(l->waiting));
			conn_flush(&l->conn, 0);
			more = true;
		}
		r = doubt(l);
		if (!r && l->durable > l->stream->acked) {
			r = acknowledge(l);
			more = true;
		}
		if (r < 0)
			return r;
	} while (more && !l->conn.fault);
	run_beside(l);	/* and so what was asked for is sent */
	conn_update(&l->conn);
	return 0;
}

/* --- The hub has lost something ------------------------------------------- */

static void logtap_marked(struct tap *tap, const char *error)
{
	struct logtap *l = to_logtap(tap);
	unsigned int i;

	if (!l->marking)
		return;		/* another tap's */
	l->marking = false;
	if (error) {
		log_err("what is to be read again cannot be marked (%s): trying again", error);
		l->next_mark = l->loop->now + l->cfg->retry_max;
	} else if (l->which >= 0) {
		l->marked[l->which] = l->doubted[l->which];
		l->doubted[l->which] = 0;
	} else if (l->state == LOST) {
		for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
			l->marked[i] = l->stream->volume[i].info.id;
		memset(l->doubted, 0, sizeof(l->doubted));
		l->state = SETTLE;
		l->deadline = l->loop->now;
	}
}

/*
 * All volumes are dirty, and nothing is captured: what is in the ring has no
 * meaning for the hub any more.  A GAP stands for it, with the number of its
 * last record, for the ring's own GAP may have been acknowledged.
 */
static int settle(struct logtap *l)
{
	struct stream *st = l->stream;
	struct record gap = {
		.type = REPAGENT_REC_GAP, .volume = -1, .aux = REPAGENT_REASON_HUB_REFUSED,
	};
	struct timespec ts;
	int r;

	if (l->loop->now < l->deadline)
		return 0;
	l->deadline = l->loop->now + SETTLE_LOOK;
	r = stream_refresh(st);
	if (r < 0)
		return r;
	if (st->info.committed + 1 < st->info.head || st->info.capture == REPAGENT_CAPTURE_STREAM)
		return 0;
	r = stream_rewind(st);
	if (r < 0)
		return r;
	gap.seq = st->info.head - 1;
	if (!gap.seq)
		return go_stream(l);	/* nothing was ever captured: it begins with RESYNC_BEGIN */
	if (!begin_frame(l, gap.seq))
		return 0;
	clock_gettime(CLOCK_REALTIME, &ts);
	gap.time = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	add_record(l, &gap);
	stream_skip(st, gap.seq);
	r = go_stream(l);
	/* As if nothing were at the hub, which is almost so. */
	l->answered = l->durable = st->acked < gap.seq ? st->acked : 0;
	return r;
}

/* --- The tap -------------------------------------------------------------- */

static bool is_late(const struct logtap *l)
{
	return l->loop->now >= l->deadline;
}

static void tick(struct logtap *l)
{
	unsigned int i;

	if (l->loop->now < l->next_tick)
		return;
	l->next_tick = l->loop->now + TICK;
	if (l->cfg->timeout / 4 < TICK)
		l->next_tick = l->loop->now + l->cfg->timeout / 4;
	conn_tick(&l->conn);
	conn_tick(&l->compare.conn);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (l->sums[i])
			sums_tick(l->sums[i]);
}

/* Not all replies wake us: conn_late(). */
static void look_for_replies(struct logtap *l)
{
	if (l->loop->now < l->next_look)
		return;
	l->next_look = UINT64_MAX;
	if (conn_late(&l->conn))
		conn_look(&l->conn);
}

/* One step; return 1 if the state changed, so that another is to follow, 0, or a negative errno. */
static int step(struct logtap *l)
{
	enum log_state before = l->state;
	int r = 0;

	switch (l->state) {
	case DOWN:
		if (is_late(l))
			r = open_conn(l);
		break;
	case CONNECT:
		if (l->conn.state == CONN_READY)
			r = say_hello(l);
		break;
	case HELLO:
		if (l->got)
			ask_session(l);
		break;
	case SESSION:
		if (l->got)
			r = judge_session(l);
		break;
	case LOST:
		mark(l, -1);
		break;
	case SETTLE:
		r = settle(l);
		break;
	case STREAM:
		r = stream_on(l);
		break;
	}
	if (r < 0)
		return r;
	if (l->state == HELLO && l->conn.fault == FAULT_REFUSED && known_any(&l->known)) {
		l->foreign = true;
		return lose(l, FAULT_REFUSED, "%s; if it is another hub, or was emptied, " RESYNC_HINT " %s", l->conn.why,
			    l->cfg->group);
	}
	if (l->state != DOWN && l->conn.fault)
		return lose(l, l->conn.fault, "%s", l->conn.why);
	if (l->state != DOWN && l->state < LOST && is_late(l))
		return lose(l, FAULT_LOST, "no answer while connecting");
	return l->state != before;
}

static int logtap_run(struct tap *tap)
{
	struct logtap *l = to_logtap(tap);
	int r;

	tick(l);
	look_for_replies(l);
	do {
		r = step(l);
	} while (r > 0 && l->state != DOWN);
	if (l->state != DOWN)
		conn_update(&l->conn);
	if (l->next_look == UINT64_MAX && conn_late(&l->conn))
		l->next_look = l->loop->now + LOOK;
	return r < 0 ? r : 0;
}

/* Records name their volumes; there is nothing to be connected for one that came. */
static int logtap_volumes(struct tap *tap)
{
	(void)tap;
	return 0;
}

static enum tap_want logtap_want(const struct tap *tap)
{
	const struct logtap *l = to_logtap(tap);

	if (l->state != STREAM || !l->dry)
		return TAP_NOTHING;
	return l->nr || l->open.buf || l->waiting.records || l->flushing ? TAP_RECORDS : TAP_RECORD;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t logtap_deadline(const struct tap *tap)
{
	const struct logtap *l = to_logtap(tap);
	uint64_t until = earlier(earlier(l->deadline, l->next_tick), l->next_look);
	unsigned int i;

	if (l->state == LOST && !l->marking)
		until = earlier(until, l->next_mark);
	if (l->state != STREAM)
		return until;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (l->sums[i])
			until = earlier(until, sums_deadline(l->sums[i]));
	until = earlier(until, compare_deadline(&l->compare));
	if (l->session.orders)
		until = earlier(until, orders_deadline(&l->orders));
	if (l->held)
		until = earlier(until, l->loop->now + HOLD_LOOK);
	if (lingers(l))
		until = earlier(until, l->open_since + LINGER);
	if (l->waiting.records && !l->flushing)
		until = earlier(until, l->since + l->limits.ns);
	if (l->unsure)
		until = earlier(until, l->next_mark);
	return earlier(until, l->checkpoint);
}

static int logtap_pause(struct tap *tap, bool on)
{
	struct logtap *l = to_logtap(tap);

	if (l->paused == on)
		return 0;
	l->paused = on;
	l->pause = l->cfg->retry_min;
	if (!on) {
		snprintf(tap->why, sizeof(tap->why), "connecting");
		l->deadline = l->loop->now;
		return 0;
	}
	snprintf(tap->why, sizeof(tap->why), "paused");
	tap->connected = false;
	go_down(l);
	return stream_hub(l->stream, false, REPAGENT_REASON_PAUSED);
}

static void logtap_accept(struct tap *tap)
{
	struct logtap *l = to_logtap(tap);

	if (!l->foreign)
		return;
	log_notice("the hub at %s takes the group anew, by command", tap->uri);
	memset(&l->known, 0, sizeof(l->known));
	l->foreign = false;
	if (l->state == DOWN && !l->paused)
		l->deadline = l->loop->now;
}

/*
 * Who was fenced off, or is new where a fail-over was, says with its HELLO which generation it was told is its own: the
 * hub takes it only if that is the present one.
 */
static bool logtap_rejoin(struct tap *tap, uint64_t generation, bool force, const char **why)
{
	struct logtap *l = to_logtap(tap);
	const struct repagent_volume_info *v;
	unsigned int i;

	if (tap->connected) {
		*why = "the hub takes the stream already";
		return false;
	}
	*why = l->refused;
	if (!is_whole(l))
		return false;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		v = &l->stream->volume[i].info;
		if (!v->id || back_ended(&l->back, v->name))
			continue;
		snprintf(l->refused, sizeof(l->refused), "volume %s is not yet what the hub has, though it was to be: repctl fail-back %s --finish. "
			 "If it got that in another way: rm %s/%s.back", v->name, l->cfg->group, l->cfg->state_dir, l->cfg->group);
		return false;
	}
	if (l->fenced && was_source(l) && !force) {
		snprintf(l->refused, sizeof(l->refused), "this host was the source before the fail-over, so its disks are old: repctl fail-back %s. "
			 "If what they have is to become the group's: repctl rejoin %s %" PRIu64 " --force", l->cfg->group, l->cfg->group, generation);
		return false;
	}
	log_notice("generation %" PRIu64 " of the hub at %s is this host's, by command", generation, tap->uri);
	l->known.generation = generation;
	known_save(&l->known, l->cfg->state_dir, l->cfg->group);
	l->pause = l->cfg->retry_min;
	if (l->state == DOWN && !l->paused)
		l->deadline = l->loop->now;
	return true;
}

static void logtap_describe(const struct tap *tap, struct json_object *o)
{
	const struct logtap *l = to_logtap(tap);
	char uuid[UUID_TEXT];
	struct json_object *fence;

	if (l->fenced) {
		fence = json_object_new_object();
		json_object_object_add(fence, "generation", json_object_new_uint64(l->fenced));
		json_object_object_add(fence, "since", l->fenced_since ?
				       json_object_new_double((double)l->fenced_since / 1e9) : NULL);
		json_object_object_add(o, "fenced", fence);
	}
	if (!known_any(&l->known))
		return;
	json_object_object_add(o, "identity", json_object_new_string(uuid_text(uuid, l->known.hub)));
	json_object_object_add(o, "group-uuid", json_object_new_string(uuid_text(uuid, l->known.group)));
	json_object_object_add(o, "generation", json_object_new_uint64(l->known.generation));
}

static void logtap_free(struct tap *tap)
{
	struct logtap *l = to_logtap(tap);
	unsigned int i;

	conn_close(&l->conn);
	drop_frames(l);
	while (l->nr_spare)
		free(l->spare[--l->nr_spare]);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		free(l->sums[i]);
	free(l->scratch);
	free(l);
}

static const struct tap_ops logtap_ops = {
	.run		= logtap_run,
	.volumes	= logtap_volumes,
	.want		= logtap_want,
	.deadline	= logtap_deadline,
	.pause		= logtap_pause,
	.marked		= logtap_marked,
	.accept		= logtap_accept,
	.rejoin		= logtap_rejoin,
	.describe	= logtap_describe,
	.free		= logtap_free,
};

static uint64_t at_least_one(uint64_t a, uint64_t b)
{
	uint64_t least = a < b ? a : b;

	return least ? least : 1;
}

/**
 * logtap_new - a tap for a rephub
 * @cfg: the configuration, whose tap of all volumes leads to a rephub; must outlive the tap
 * @loop: the loop it lives on
 * @stream: where the records come from
 * @verify: which of them to compare
 *
 * The caller sets tap.mark_dirty and tap.owner.
 *
 * Return: the tap, or NULL without memory.
 */
struct tap *logtap_new(const struct config *cfg, struct loop *loop, struct stream *stream,
		       struct verify *verify)
{
	struct logtap *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->tap.ops = &logtap_ops;
	l->tap.kind = "log";
	l->tap.verify = verify;
	verify->max = REPAGENT_MAX_VERIFY;
	l->compare = (struct compare) { .cfg = cfg, .loop = loop, .stream = stream, .verify = verify };
	l->orders = (struct orders) {
		.conn = &l->conn, .loop = loop, .stream = stream, .verify = verify, .tag_ask = TAG_ORDER,
		.tag_tell = TAG_REPORT, .ending = -1,
	};
	l->cfg = cfg;
	l->loop = loop;
	l->stream = stream;
	l->state = DOWN;
	l->next_look = UINT64_MAX;
	l->checkpoint = UINT64_MAX;
	l->pause = cfg->retry_min;
	/* What awaits a FLUSH, what is flushed, and what is in flight: each at most a quarter of the ring. */
	l->limits = (struct epoch_limits) {
		.records = at_least_one(cfg->epoch.records, stream->nr_slots / 4),
		.bytes = at_least_one(cfg->epoch.bytes, stream->payload_size / 4),
		.ns = cfg->epoch.ns,
	};
	known_load(&l->known, cfg->state_dir, cfg->group);
	l->frame_bytes = at_least_one(REPAGENT_MAX_RECORD, stream->payload_size / (4 * EAGER));
	snprintf(l->tap.why, sizeof(l->tap.why), "connecting");
	return &l->tap;
}
