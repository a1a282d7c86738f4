// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/nbdserver/nbdserver.h"
#include "fakehub.h"

#define IN_FLIGHT	64	/* more than any agent has */

/* struct peer - a connection */
struct peer {
	bool hello;
	int failed;
};

/* A request that is not answered yet; of a frame with its records, of a FLUSH what it covers. */
struct held {
	struct nbds_request *rq;
	uint64_t first, last;
};

/* The hub's process. */
static struct fakehub *hub;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards all that follows */
static struct peer *current;			/* who has the session */
static struct fakehub_position taken;		/* in this session */
static uint64_t frame_start, frame_end_at, byte_at;	/* of the frame that comes in */
static struct held frame[IN_FLIGHT];		/* not answered, or answered behind one that is not */
static unsigned int nr_frames;
static struct held flush[IN_FLIGHT];
static unsigned int nr_flushes;

static void set_durable(const struct fakehub_position *to)
{
	unsigned int next = !hub->which;

	hub->durable[next] = *to;
	__atomic_store_n(&hub->which, next, __ATOMIC_SEQ_CST);
}

static bool list(void *data, unsigned int i, char *name, size_t size)
{
	(void)data;
	snprintf(name, size, "log/%s", hub->session.name);
	return !i;
}

static void *open_export(void *data, const char *name, struct nbds_info *info, char *reason, size_t size)
{
	(void)data;
	if (strncmp(name, "log/", 4) || strcmp(name + 4, hub->session.name)) {
		snprintf(reason, size, "there is only log/%s", hub->session.name);
		return NULL;
	}
	info->size = hub->size ? hub->size : LOG_SIZE;
	info->min_block = info->preferred_block = FRAME_ALIGN;
	info->can_flush = true;
	return calloc(1, sizeof(struct peer));
}

static void close_export(void *export)
{
	pthread_mutex_lock(&lock);
	if (current == export)
		current = NULL;
	pthread_mutex_unlock(&lock);
	free(export);
}

static int refuse(struct peer *p, struct nbds_request *rq, int error, const char *why)
{
	if (!p->failed) {
		hub->refused++;
		snprintf(hub->refusal, sizeof(hub->refusal), "%s", why);
	}
	p->failed = error;
	snprintf(rq->reason, sizeof(rq->reason), "%s", why);
	return error;
}

static int read_block(struct peer *p, struct nbds_request *rq)
{
	struct session s = hub->session;
	unsigned int i;

	if (rq->offset || rq->length != SESSION_SIZE)
		return refuse(p, rq, EINVAL, "only the session block is read");
	if (!p->hello)
		return refuse(p, rq, EINVAL, "the session block is read after a HELLO");
	if (s.state == SESSION_ACCEPTING) {
		current = p;
		p->failed = 0;
		taken = fakehub_position(hub);
		byte_at = frame_start = frame_end_at = taken.offset;
		hub->allowed = taken.seq;
		for (i = 0; i < nr_frames; i++)
			if (frame[i].rq)
				nbds_complete(frame[i].rq, ESHUTDOWN);
		for (i = 0; i < nr_flushes; i++)
			nbds_complete(flush[i].rq, ESHUTDOWN);
		nr_frames = nr_flushes = 0;
	}
	s.offset = taken.offset;
	s.incarnation = taken.incarnation;
	s.seq = taken.seq;
	session_encode(&s, rq->buf);
	if (hub->tamper)
		hub->tamper(rq->buf);
	hub->sessions++;
	return 0;
}

static int take_hello(struct peer *p, struct nbds_request *rq)
{
	char error[FRAME_ERROR_MAX];
	struct frame_header h;

	hub->hellos++;
	if (rq->length != FRAME_ALIGN || !frame_header_parse(&h, rq->buf, error) || !(h.flags & FRAME_HELLO))
		return refuse(p, rq, EINVAL, "no HELLO");
	if (hub->hello_error)
		return refuse(p, rq, hub->hello_error, "as the test says");
	p->hello = true;
	return 0;
}

/* A whole frame lies in the log. */
static int check_frame(struct peer *p, struct nbds_request *rq, struct frame_header *h)
{
	static uint8_t raw[FRAME_BODY_MAX];
	const uint8_t *bytes = hub->log + frame_start;
	char error[FRAME_ERROR_MAX];
	struct frame_reader r;
	struct frame_volume v;
	struct frame_record rec = { 0 };
	const void *payload;
	unsigned int first = 0;
	uint64_t records = 0;
	int n;

	if (!frame_open(&r, h, bytes + FRAME_HEADER, raw, error))
		return refuse(p, rq, EINVAL, error);
	while ((n = frame_next_volume(&r, &v)) > 0)
		;
	while (!n && (n = frame_next_record(&r, &rec, &payload)) > 0) {
		if (!records++)
			first = rec.type;
		n = 0;
	}
	if (n < 0)
		return refuse(p, rq, EINVAL, error);
	if (memcmp(h->group, hub->session.group, 16) || h->generation != hub->session.generation)
		return refuse(p, rq, EPERM, "another group or generation");
	if (h->offset != frame_start)
		return refuse(p, rq, EINVAL, "the frame belongs elsewhere");
	if (h->incarnation == taken.incarnation ?
	    h->first != taken.seq + 1 && (first != REPAGENT_REC_GAP || h->first <= taken.seq) :
	    h->first != 1 && first != REPAGENT_REC_GAP)
		return refuse(p, rq, EINVAL, "records are missing before it");
	if (records > hub->records_max)
		hub->records_max = records;
	if (hub->frame_error)
		return refuse(p, rq, hub->frame_error, "as the test says");
	return 0;
}

/* How far the answers have no hole. */
static void note_answers(void)
{
	unsigned int n = 0;

	while (n < nr_frames && !frame[n].rq)
		n++;
	nr_frames -= n;
	memmove(frame, frame + n, nr_frames * sizeof(*frame));
}

/* Answer a frame, or a piece of one.  Return true if that is done later. */
static bool write_piece(struct peer *p, struct nbds_request *rq, int *error)
{
	char why[FRAME_ERROR_MAX];
	struct frame_header h;

	*error = p->failed ? p->failed : current != p ? ESHUTDOWN : 0;
	if (*error)
		return false;
	if (rq->offset != byte_at || byte_at + rq->length > FAKEHUB_LOG) {
		*error = refuse(p, rq, EINVAL, "not the next bytes of the log");
		return false;
	}
	memcpy(hub->log + byte_at, rq->buf, rq->length);
	if (byte_at == frame_start) {
		if (!frame_header_parse(&h, hub->log + frame_start, why)) {
			*error = refuse(p, rq, EINVAL, why);
			return false;
		}
		frame_end_at = frame_start + frame_size(&h);
	}
	byte_at += rq->length;
	if (byte_at < frame_end_at)
		return false;
	if (byte_at > frame_end_at) {
		*error = refuse(p, rq, EINVAL, "a request that is no frame");
		return false;
	}
	frame_header_parse(&h, hub->log + frame_start, why);
	*error = check_frame(p, rq, &h);
	if (*error)
		return false;
	hub->frames++;
	taken = (struct fakehub_position) { byte_at, h.incarnation, h.last };
	frame_start = byte_at;
	if (nr_frames == IN_FLIGHT) {
		*error = refuse(p, rq, EINVAL, "too many frames in flight");
		return false;
	}
	frame[nr_frames++] = (struct held) { rq, h.first, h.last };
	return true;
}

static int take_flush(struct peer *p, struct nbds_request *rq)
{
	if (p->failed)
		return p->failed;
	if (current != p)
		return ESHUTDOWN;
	if (hub->flush_error)
		return refuse(p, rq, hub->flush_error, "as the test says");
	/* All that was answered before, without a hole, may be acknowledged when this is answered. */
	flush[nr_flushes++] = (struct held) { .rq = rq, .last = nr_frames ? frame[0].first - 1 : taken.seq };
	hub->held_flushes = nr_flushes;
	return -1;
}

static void submit(void *export, struct nbds_request *rq)
{
	int error = EINVAL;

	pthread_mutex_lock(&lock);
	if (rq->op == NBDS_READ)
		error = read_block(export, rq);
	else if (rq->op == NBDS_WRITE && !rq->offset)
		error = take_hello(export, rq);
	else if (rq->op == NBDS_WRITE)
		error = write_piece(export, rq, &error) ? -1 : error;
	else if (rq->op == NBDS_FLUSH)
		error = take_flush(export, rq);
	pthread_mutex_unlock(&lock);
	if (error >= 0)
		nbds_complete(rq, error);
}

static void answer_frame(unsigned int i)
{
	struct nbds_request *rq = frame[i].rq;

	if (!rq)
		return;
	if (hub->stuck_seq && frame[i].last >= hub->stuck_seq && (!hub->stuck || hub->stuck == frame[i].last)) {
		hub->stuck = frame[i].last;
		return;
	}
	frame[i].rq = NULL;
	nbds_complete(rq, 0);
}

static void answer_flushes(void)
{
	unsigned int i;

	for (i = 0; i < nr_flushes; i++) {
		/* The fsync is done by now. */
		set_durable(&taken);
		hub->flushes++;
		if (flush[i].last > hub->allowed)
			__atomic_store_n(&hub->allowed, flush[i].last, __ATOMIC_SEQ_CST);
		if (!hub->mute_flush)
			nbds_complete(flush[i].rq, 0);
	}
	nr_flushes = 0;
	hub->held_flushes = 0;
}

/* Answers come from here alone. */
static void answers(void)
{
	unsigned int i;

	for (;;) {
		pthread_mutex_lock(&lock);
		for (i = 0; i < nr_frames; i++)
			answer_frame(hub->shuffle ? nr_frames - 1 - i : i);
		note_answers();
		if (!hub->hold_flush)
			answer_flushes();
		pthread_mutex_unlock(&lock);
		usleep(hub->shuffle ? 2000 : 100);
	}
}

static void log_line(void *data, int priority, const char *line)
{
	(void)data;
	if (getenv("VERBOSE"))
		fprintf(stderr, "<%d>fakehub: %s\n", priority, line);
}

/**
 * fakehub_new - a hub with an empty log
 * @group: whose
 */
struct fakehub *fakehub_new(const char *group)
{
	struct fakehub *h = mmap(NULL, sizeof(*h) + FAKEHUB_LOG, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(h != MAP_FAILED);
	h->session = (struct session) {
		.state = SESSION_ACCEPTING, .generation = 1, .frame_max = FRAME_MAX,
	};
	memset(h->session.hub, 0x11, sizeof(h->session.hub));
	memset(h->session.group, 0x22, sizeof(h->session.group));
	snprintf(h->session.name, sizeof(h->session.name), "%s", group);
	h->durable[0].offset = SESSION_SIZE;
	return h;
}

/**
 * fakehub_free - free its log
 * @h: a hub that does not run
 */
void fakehub_free(struct fakehub *h)
{
	munmap(h, sizeof(*h) + FAKEHUB_LOG);
}

/**
 * fakehub_start - have it listen
 * @h: the hub, which does not run
 * @socket: path of a Unix socket
 *
 * What was not durable is gone.  Return: the process.
 */
pid_t fakehub_start(struct fakehub *h, const char *socket)
{
	static const struct nbds_ops ops = {
		.list = list, .open = open_export, .close = close_export, .submit = submit,
	};
	struct nbds_config cfg;
	char error[512];
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	hub = h;
	unlink(socket);
	nbds_config_init(&cfg);
	cfg.workers = 1;
	cfg.ops = &ops;
	cfg.log = log_line;
	fd = nbds_listen_on(socket, error, sizeof(error));
	if (fd < 0 || nbds_listen_fd(nbds_start(&cfg, error, sizeof(error)), fd))
		_exit(1);
	answers();
	_exit(0);
}

/**
 * fakehub_position - what is durable
 * @h: the hub
 */
struct fakehub_position fakehub_position(const struct fakehub *h)
{
	return h->durable[__atomic_load_n(&h->which, __ATOMIC_SEQ_CST)];
}

/**
 * fakehub_set_back - lose something
 * @h: a hub that does not run
 * @to: what is left; NULL: nothing
 */
void fakehub_set_back(struct fakehub *h, const struct fakehub_position *to)
{
	const struct fakehub_position none = { .offset = SESSION_SIZE };

	h->durable[h->which] = to ? *to : none;
}

static void apply(const struct frame_record *r, const void *payload, const struct fakehub_volume *v)
{
	uint64_t at = r->sector * 512, len = r->nr_sectors * 512;

	switch (r->type) {
	case REPAGENT_REC_WRITE:
	case REPAGENT_REC_RESYNC:
		assert_true(at + len <= v->size && r->len == len);
		memcpy(v->data + at, payload, len);
		break;
	case REPAGENT_REC_ZEROES:
		assert_true(at + len <= v->size);
		memset(v->data + at, 0, len);
		break;
	}
}

static void count(struct fakehub_contents *c, const struct frame_record *r, const char *payload)
{
	c->records++;
	c->fua += r->flags & REPAGENT_REC_FUA;
	switch (r->type) {
	case REPAGENT_REC_GAP:
		c->gaps++;
		c->first_gap_begins = 0;
		break;
	case REPAGENT_REC_RESYNC_BEGIN:
		c->begins++;
		c->first_gap_begins++;
		break;
	case REPAGENT_REC_CHECKPOINT:
		assert_true(r->len && !payload[r->len - 1]);
		c->labels++;
		c->timed += !strcmp(payload, "@timed");
		break;
	case REPAGENT_REC_VERIFY:
		c->verifies++;
		break;
	}
}

/**
 * fakehub_replay - what the durable log has, and makes of volumes
 * @h: a hub that is quiet
 * @from: offset of a frame
 * @volumes, @nr: the volumes, whose images are changed
 * @contents: out
 */
void fakehub_replay(const struct fakehub *h, uint64_t from, const struct fakehub_volume *volumes,
		    unsigned int nr, struct fakehub_contents *contents)
{
	static const struct fakehub_volume *told[65536];
	static uint8_t raw[FRAME_BODY_MAX];
	uint64_t at = from, end = fakehub_position(h).offset, numbers = 0;
	char error[FRAME_ERROR_MAX];
	struct frame_record rec;
	struct frame_header hdr;
	struct frame_reader r;
	struct frame_volume v;
	const void *payload;
	unsigned int i;

	memset(contents, 0, sizeof(*contents));
	memset(told, 0, sizeof(told));
	while (at < end) {
		if (!frame_header_parse(&hdr, h->log + at, error) ||
		    !frame_open(&r, &hdr, h->log + at + FRAME_HEADER, raw, error))
			fail_msg("at %lu: %s", at, error);
		contents->frames++;
		contents->packed += (hdr.flags & FRAME_ZSTD) != 0;
		numbers += hdr.last - hdr.first + 1;
		while (frame_next_volume(&r, &v) > 0)
			for (i = 0; i < nr; i++)
				if (!strcmp(v.name, volumes[i].name))
					told[v.id] = &volumes[i];
		while (frame_next_record(&r, &rec, &payload) > 0) {
			if (rec.volume && !told[rec.volume])
				fail_msg("record %lu is of volume %u, which no frame has named", rec.seq, rec.volume);
			if (rec.volume)
				apply(&rec, payload, told[rec.volume]);
			count(contents, &rec, payload);
		}
		at += frame_size(&hdr);
	}
	assert_int_equal(at, end);
	contents->voids = numbers - contents->records;
}
