// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repagentd --recover: what a VM asks of its volumes on the recovery side is asked
 * of the hub.  Documentation/recover.md has the picture.
 *
 * Each volume has a ring of requests, and a connection of its own to the hub:
 *
 *	ABSENT ──device──► APART ──connected──► SERVING ──lost──► APART
 *
 * Requests are sent in the order of the ring, many at a time, but none while one
 * that overlaps it is under way.  A change of the disk is answered when the hub has
 * carried it out, and stays in the ring until a flush has made it durable.  With a
 * new connection, or a new daemon, all begins again behind what was acknowledged:
 * so changes are carried out again, in order, before anything is read.
 *
 * One thread, one loop; a volume without a hub does not hold up the others.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include <linux/dm-repagent-recover.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "conn.h"
#include "recover.h"
#include "window.h"

#define DEVICES		"/dev/rep-recover"
#define LOOK		NSEC_PER_SEC		/* for volumes */
#define TICK		(100 * NSEC_PER_MSEC)
#define DURABLE_WITHIN	NSEC_PER_SEC		/* what is in the ring is flushed at least so often */
#define SECTOR		512u
#define LARGE		(64u << 10)		/* a read of more has one of a few large buffers */
#define LARGE_MAX	16u
#define MAX_EVENTS	32

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER	57
#endif

enum state { ABSENT, APART, SERVING };

/*
 * struct request - under way to the hub, in pieces where it is larger than the hub takes
 * @at, @end:	what is still to be sent, bytes; first and last byte + 1 of the volume
 * @start:	of the request
 * @pending:	pieces without a reply
 * @error:	of a piece
 * @buf:	of a read
 */
struct request {
	uint64_t seq;
	uint64_t start, at, end;
	unsigned int pending;
	int error;
	uint8_t *buf;
	const struct repagent_slot *slot;
};

/*
 * struct volume
 * @ring_watch:	first, so that it leads back here
 * @sending:	the request that is not sent as a whole yet, or -1
 * @free:	bit i: request i is
 * @large:	bit i: large buffer i is in use
 * @done, @nr_done: answers that the kernel is to be told; @of: their requests
 * @freed:	bytes of payload that the ring had held up to what is acknowledged
 * @retry:	when to connect, ns; @pause: until then, the next time
 * @broken:	the connection answers what cannot be passed on
 * @end:	nothing behind it is begun: the daemon stops
 */
struct volume {
	struct watch ring_watch;
	struct recover *r;
	enum state state;
	char name[REPAGENT_NAME_MAX + 1];
	char uri[URI_MAX];
	int fd;
	const struct repagent_ring_header *hdr;
	const struct repagent_slot *slots;
	const uint8_t *payload;
	struct repagent_recover_info info;
	struct conn conn;
	struct window window;
	struct request request[INFLIGHT_MAX];
	int sending;
	uint64_t free;
	uint8_t *small_bufs;
	uint8_t *large_bufs;
	uint32_t large;
	struct repagent_recover_done done[REPAGENT_RECOVER_BATCH];
	int of[REPAGENT_RECOVER_BATCH];
	unsigned int nr_done;
	uint64_t freed;
	uint64_t retry, pause;
	bool broken;
	bool gone;
	bool told;
	uint64_t end;
};

struct recover {
	struct watch signal_watch;
	const struct config *cfg;
	struct loop loop;
	struct volume *volume[REPAGENT_MAX_VOLUMES];
	int signal_fd;
	uint64_t next_look, next_tick;
	uint64_t stop_by;
	bool stop_now;
	bool waiting_told;
};

static const uint8_t zeroes[REPAGENT_RECOVER_MAX];

static uint64_t monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static const struct repagent_slot *slot_of(const struct volume *v, uint64_t seq)
{
	return &v->slots[seq & (v->hdr->nr_slots - 1)];
}

static bool is_change(const struct repagent_slot *s)
{
	return s->type == REPAGENT_RECOVER_WRITE || s->type == REPAGENT_RECOVER_ZEROES ||
	       s->type == REPAGENT_RECOVER_DISCARD;
}

/* ---- the kernel ---------------------------------------------------------- */

static int call(struct volume *v, unsigned long request, void *arg)
{
	int r;

	do {
		r = ioctl(v->fd, request, arg);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == ENODEV)
		v->gone = true;
	return r < 0 ? -errno : r;
}

/* The VM hears of what was done. */
static void tell_answers(struct volume *v)
{
	struct repagent_recover_answer a = {
		.incarnation = v->info.incarnation,
		.done = (uintptr_t)v->done,
		.nr = v->nr_done,
	};
	struct request *rq;
	unsigned int i;
	int r;

	if (!v->nr_done)
		return;
	r = call(v, REPAGENT_RECOVER_IOC_ANSWER, &a);
	if (r < 0 && r != -ENODEV) {
		log_err("volume %s: its answers are refused: %s", v->name, strerror(-r));
		v->broken = true;
	}
	for (i = 0; i < v->nr_done; i++) {
		if (r >= 0)
			window_answered(&v->window, v->done[i].seq);
		if (v->of[i] < 0)
			continue;
		rq = &v->request[v->of[i]];
		if (rq->buf >= v->large_bufs && rq->buf < v->large_bufs + LARGE_MAX * REPAGENT_RECOVER_MAX)
			v->large &= ~(1u << ((rq->buf - v->large_bufs) / REPAGENT_RECOVER_MAX));
		v->free |= UINT64_C(1) << v->of[i];
	}
	v->nr_done = 0;
}

static void put_answer(struct volume *v, uint64_t seq, int of, const void *data, uint32_t len, int error)
{
	v->done[v->nr_done] = (struct repagent_recover_done){
		.seq = seq, .data = (uintptr_t)data, .len = len, .error = (uint32_t)error,
	};
	v->of[v->nr_done++] = of;
	if (v->nr_done == REPAGENT_RECOVER_BATCH)
		tell_answers(v);
}

static void release_held(struct volume *v)
{
	uint64_t seq;

	while (window_release(&v->window, &seq))
		put_answer(v, seq, -1, NULL, 0, 0);
}

/* What is durable need not be kept. A call costs as much as a request, so it is made for many. */
static void acknowledge(struct volume *v, bool now)
{
	uint64_t seq = window_ack(&v->window), bytes;
	struct repagent_ack ack = { .incarnation = v->info.incarnation, .seq = seq };
	int r;

	if (seq == v->window.acked)
		return;
	bytes = slot_of(v, seq)->end - v->freed;
	if (!now && seq - v->window.acked < v->hdr->nr_slots / 8 && bytes < v->hdr->payload_size / 8)
		return;
	r = call(v, REPAGENT_RECOVER_IOC_ACK, &ack);
	if (r < 0 && r != -ENODEV) {
		log_err("volume %s: ACK of %" PRIu64 " failed: %s", v->name, seq, strerror(-r));
		v->broken = true;
		return;
	}
	v->freed = slot_of(v, seq)->end;
	v->window.acked = seq;
}

/* ---- the hub ------------------------------------------------------------- */

/* All pieces of a request are answered. */
static void finished(struct volume *v, int i)
{
	struct request *rq = &v->request[i];
	const struct repagent_slot *s = rq->slot;

	if (!is_change(s)) {
		if (rq->error)
			log_err("volume %s: the hub cannot read %" PRIu64 " bytes at byte %" PRIu64 " (%s); its log says why",
				v->name, rq->end - rq->start, rq->start, strerror(rq->error));
		put_answer(v, rq->seq, i, rq->buf, rq->error ? 0 : (uint32_t)(rq->end - rq->start), rq->error);
	} else if (window_made(&v->window, rq->seq, s->flags & REPAGENT_REC_FUA, v->r->loop.now)) {
		put_answer(v, rq->seq, i, NULL, 0, 0);
	} else {
		v->free |= UINT64_C(1) << i;
	}
}

/* libnbd's lock is held: only notes are taken. */
static void replied(struct conn *conn, enum conn_op op, unsigned int tag, int error)
{
	struct volume *v = conn->owner;
	struct request *rq;

	if (op == OP_FLUSH) {
		window_flush_done(&v->window);
		release_held(v);
		return;
	}
	rq = &v->request[tag];
	/* Only a disk's own error is one for the VM; with all else the hub is asked again. */
	if (op == OP_READ && error && error != EIO) {
		v->broken = true;
		return;
	}
	if (op == OP_READ && error)
		rq->error = error;
	rq->pending--;
	if (!rq->pending && rq->at == rq->end && (int)tag != v->sending)
		finished(v, (int)tag);
}

static bool take_buffer(struct volume *v, int i, uint64_t len)
{
	unsigned int n = 0;

	v->request[i].buf = v->small_bufs + (size_t)i * LARGE;
	if (len <= LARGE)
		return true;
	while (n < LARGE_MAX && v->large & (1u << n))
		n++;
	if (n == LARGE_MAX)
		return false;
	v->large |= 1u << n;
	v->request[i].buf = v->large_bufs + (size_t)n * REPAGENT_RECOVER_MAX;
	return true;
}

/* Send what is left of the request that was begun last. False: it has to wait. */
static bool go_on(struct volume *v)
{
	struct request *rq = &v->request[v->sending];
	const struct repagent_slot *s = rq->slot;
	struct conn *c = &v->conn;
	unsigned int tag = (unsigned int)v->sending;
	uint64_t len, most;

	while (rq->at < rq->end) {
		most = c->max_request;
		if (s->type == REPAGENT_RECOVER_ZEROES && !c->zeroes && most > sizeof(zeroes))
			most = sizeof(zeroes);
		len = rq->end - rq->at < most ? rq->end - rq->at : most;
		if (!conn_takes(c, rq->at, rq->at + len, is_change(s) ? s->len : 0))
			return false;
		rq->pending++;
		if (s->type == REPAGENT_RECOVER_READ)
			conn_read(c, rq->buf + (rq->at - rq->start), rq->at, len, tag);
		else if (s->type == REPAGENT_RECOVER_WRITE)
			conn_write(c, v->payload + s->pos + (rq->at - rq->start), rq->at, len, tag);
		else if (s->type == REPAGENT_RECOVER_DISCARD)
			conn_trim(c, rq->at, len, tag);
		else if (c->zeroes)
			conn_zero(c, rq->at, len, tag);
		else
			conn_write(c, zeroes, rq->at, len, tag);
		rq->at += len;
	}
	v->sending = -1;
	if (!rq->pending)
		finished(v, (int)tag);
	return true;
}

/* A slot that holds a request beyond the volume is one of a kernel that errs; the hub refuses it. */
static bool begin(struct volume *v, const struct repagent_slot *s)
{
	struct window *w = &v->window;
	struct request *rq;
	int i;

	if (!v->free)
		return false;
	i = __builtin_ctzll(v->free);
	rq = &v->request[i];
	*rq = (struct request){
		.seq = w->next, .slot = s, .start = s->sector * SECTOR,
		.at = s->sector * SECTOR, .end = (s->sector + s->nr_sectors) * SECTOR,
	};
	if (s->type == REPAGENT_RECOVER_READ && !take_buffer(v, i, rq->end - rq->start))
		return false;
	if (s->type == REPAGENT_RECOVER_DISCARD && !v->conn.trims)
		rq->at = rq->end;	/* a hint that nobody takes */
	v->free &= ~(UINT64_C(1) << i);
	v->sending = i;
	window_begin(w, is_change(s));
	return true;
}

/* Send what can be sent. Return whether that is all there is. */
static bool serve(struct volume *v)
{
	struct window *w = &v->window;
	const struct repagent_slot *s;
	uint64_t word;

	while (w->next <= v->end && window_has_room(w)) {
		if (v->sending >= 0 && !go_on(v))
			return false;
		s = slot_of(v, w->next);
		word = __atomic_load_n(&s->commit, __ATOMIC_ACQUIRE);
		if (word == REPAGENT_SLOT_WORD(w->next, REPAGENT_SLOT_VOID))
			window_skip(w);
		else if (word != REPAGENT_SLOT_WORD(w->next, REPAGENT_SLOT_READY))
			return true;
		else if (s->type == REPAGENT_RECOVER_FLUSH)
			window_hold_flush(w);
		else if (!begin(v, s))
			return false;
	}
	if (v->sending >= 0)
		go_on(v);
	return false;
}

static void flush(struct volume *v)
{
	struct window *w = &v->window;
	bool soon = w->next - w->acked > v->hdr->nr_slots / 4 || v->r->stop_by ||
		    (w->dirty && v->r->loop.now - w->dirty_since > DURABLE_WITHIN);

	if (!soon && w->dirty && w->next > w->acked + 1)
		soon = slot_of(v, w->next - 1)->end - v->freed > v->hdr->payload_size / 4;
	if (v->conn.state != CONN_READY || v->conn.fault || !window_wants_flush(w, soon))
		return;
	window_flush_sent(w);
	conn_flush(&v->conn, 0);
}

static void begin_again(struct volume *v)
{
	window_rewind(&v->window, v->window.acked);
	v->sending = -1;
	v->free = UINT64_MAX >> 2;	/* as many as a connection takes beside a flush */
	v->large = 0;
	v->nr_done = 0;
	v->broken = false;
}

static void lose_hub(struct volume *v, const char *why)
{
	char span[HUMAN_MAX];

	log_warn("volume %s: %s: %s; its requests wait, and it is tried again in %s", v->name, v->uri, why,
		 human_duration(span, v->pause));
	conn_close(&v->conn);
	begin_again(v);
	v->state = APART;
	v->retry = v->r->loop.now + v->pause;
	v->pause = 2 * v->pause < v->r->cfg->retry_max ? 2 * v->pause : v->r->cfg->retry_max;
}

static void connect_hub(struct volume *v)
{
	struct recover *r = v->r;
	char error[URI_ERROR_MAX], given[URI_MAX], name[VOLUME_NAME_MAX];
	bool ok;

	if (uri_is_rephub(r->cfg->taps.all)) {
		/* The hub knows this ring by its incarnation, over all connections. */
		snprintf(name, sizeof(name), "%s@%016" PRIx64, v->name, (uint64_t)v->info.incarnation);
		ok = uri_for_hub(&r->cfg->taps, r->cfg->group, "live", v->name, given, v->uri, error) &&
		     uri_for_hub(&r->cfg->taps, r->cfg->group, "live", name, given, v->conn.uri, error);
	} else {
		ok = uri_for_volume(&r->cfg->taps, r->cfg->group, v->name, v->conn.uri, error);
		snprintf(v->uri, sizeof(v->uri), "%s", v->conn.uri);
	}
	if (ok && uri_exposes_data(v->conn.uri) && !v->told)
		log_warn("volume %s: %s: what the VM reads and writes goes there in plain text; use TLS", v->name, v->uri);
	v->told = true;
	if (!ok) {
		lose_hub(v, error);
		return;
	}
	conn_open(&v->conn);
}

/*
 * A rephub describes the disk of a fail-over by the incarnation of its writes; where it has moved to does not matter.
 * Of others, and of tests, whose names are unique, the URI says which disk it is. The hash is FNV-1a.
 */
static bool is_the_same_disk(struct volume *v)
{
	const char *from[] = { uri_is_rephub(v->r->cfg->taps.all) ? v->name : v->uri, v->conn.description };
	uint64_t hub = UINT64_C(0xcbf29ce484222325);
	const char *c;
	unsigned int i;

	for (i = 0; i < 2; i++)
		for (c = from[i]; *c; c++)
			hub = (hub ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
	hub |= !hub;
	return call(v, REPAGENT_RECOVER_IOC_BIND, &hub) != -ESTALE;
}

static void run_hub(struct volume *v)
{
	struct conn *c = &v->conn;

	conn_tick(c);
	if (c->state == CONN_CLOSED && v->r->loop.now >= v->retry)
		connect_hub(v);
	if (c->state == CONN_CLOSED)
		return;
	if (c->state == CONN_READY && v->state == APART && !c->fault) {
		conn_check_size(c, v->info.sectors * SECTOR);
		if (!c->fault && !is_the_same_disk(v)) {
			lose_hub(v, "what the VM was answered, and is not durable, is of another fail-over, and must not get there: "
				 "roll back to that, or end the VM, remove its device and have it forgotten");
			return;
		}
		if (!c->fault) {
			log_notice("volume %s: served from %s", v->name, v->uri);
			v->state = SERVING;
			v->pause = v->r->cfg->retry_min;
			begin_again(v);
		}
	}
	if (c->fault || v->broken)
		lose_hub(v, c->fault ? c->why : "it answered with what cannot be passed on");
}

/* ---- volumes ------------------------------------------------------------- */

static void ring_ready(struct watch *watch, uint32_t events)
{
	struct volume *v = (struct volume *)watch;

	if (events & (EPOLLHUP | EPOLLERR))
		v->gone = true;
}

static void close_volume(struct recover *r, unsigned int i)
{
	struct volume *v = r->volume[i];

	conn_close(&v->conn);
	if (v->hdr)
		munmap((void *)v->hdr, v->info.map_size);
	if (v->fd >= 0)
		close(v->fd);
	window_exit(&v->window);
	free(v->small_bufs);
	free(v->large_bufs);
	free(v);
	r->volume[i] = NULL;
}

static int map_volume(struct volume *v)
{
	void *map;
	int r = call(v, REPAGENT_RECOVER_IOC_INFO, &v->info);

	if (r < 0)
		return r;
	if (v->info.abi_version != REPAGENT_RECOVER_ABI_VERSION) {
		log_err("volume %s: the kernel's rep-recover speaks ABI version %u and this daemon version %d; "
			"install the daemon that belongs to the module",
			v->name, v->info.abi_version, REPAGENT_RECOVER_ABI_VERSION);
		return -EPROTO;
	}
	map = mmap(NULL, v->info.map_size, PROT_READ, MAP_SHARED, v->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	v->hdr = map;
	v->slots = (const void *)((const uint8_t *)map + v->hdr->slots_offset);
	v->payload = (const uint8_t *)map + v->hdr->payload_offset;
	v->small_bufs = malloc((size_t)INFLIGHT_MAX * LARGE);
	v->large_bufs = malloc((size_t)LARGE_MAX * REPAGENT_RECOVER_MAX);
	if (!v->small_bufs || !v->large_bufs || !window_init(&v->window, v->hdr->nr_slots))
		return -ENOMEM;
	v->window.acked = v->info.acked;
	v->freed = slot_of(v, v->info.acked)->end;
	return 0;
}

static void open_volume(struct recover *r, unsigned int i, const char *name)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	char path[sizeof(DEVICES) + 2 * REPAGENT_NAME_MAX + 3];
	struct volume *v = calloc(1, sizeof(*v));
	int err = -ENOMEM;

	if (!v)
		return;
	r->volume[i] = v;
	snprintf(v->name, sizeof(v->name), "%.*s", REPAGENT_NAME_MAX, name);
	snprintf(path, sizeof(path), DEVICES "/%s/%s", r->cfg->group, v->name);
	v->r = r;
	v->ring_watch.ready = ring_ready;
	v->conn.loop = &r->loop;
	v->conn.cfg = r->cfg;
	v->conn.replied = replied;
	v->conn.owner = v;
	v->conn.described = true;
	v->end = UINT64_MAX;
	v->pause = r->cfg->retry_min;
	v->state = APART;
	v->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (v->fd < 0)
		err = -errno;
	else
		err = map_volume(v);
	ev.data.ptr = &v->ring_watch;
	if (!err && epoll_ctl(r->loop.epfd, EPOLL_CTL_ADD, v->fd, &ev) < 0)
		err = -errno;
	if (err) {
		if (err == -EBUSY)
			log_warn("volume %s: another daemon answers for it already; it is looked at again", name);
		else if (err != -ENODEV && err != -ENXIO && err != -ENOENT)
			log_err("volume %s: %s cannot be used: %s", name, path, strerror(-err));
		close_volume(r, i);
		return;
	}
	begin_again(v);
	log_notice("volume %s: %" PRIu64 " MiB%s", v->name, (uint64_t)v->info.sectors >> 11, v->info.head - 1 == v->info.acked ?
		   "" : ", with requests that are not durable yet");
}

static bool has_volume(const struct recover *r, const char *name, unsigned int *place)
{
	unsigned int i;

	*place = REPAGENT_MAX_VOLUMES;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		if (r->volume[i] && !strcmp(r->volume[i]->name, name))
			return true;
		if (!r->volume[i] && *place == REPAGENT_MAX_VOLUMES)
			*place = i;
	}
	return false;
}

static void look_for_volumes(struct recover *r)
{
	char path[sizeof(DEVICES) + REPAGENT_NAME_MAX + 2];
	unsigned int place;
	struct dirent *de;
	DIR *dir;

	if (r->loop.now < r->next_look || r->stop_by)
		return;
	snprintf(path, sizeof(path), DEVICES "/%s", r->cfg->group);
	dir = opendir(path);
	while (dir && (de = readdir(dir)))
		if (uri_name_ok(de->d_name) && !has_volume(r, de->d_name, &place) && place < REPAGENT_MAX_VOLUMES)
			open_volume(r, place, de->d_name);
	if (dir)
		closedir(dir);
	else if (!r->waiting_told)
		log_info("waiting for volumes: there is no %s; they come with dmsetup create ... rep-recover %s VOLUME",
			 path, r->cfg->group);
	r->waiting_told = true;
	r->next_look = r->loop.now + LOOK;
}

/* A resize, or a removed device. */
static void refresh(struct volume *v)
{
	struct repagent_recover_info info;

	if (call(v, REPAGENT_RECOVER_IOC_INFO, &info) < 0)
		return;
	if (info.sectors != v->info.sectors && v->state == SERVING)
		conn_check_size(&v->conn, info.sectors * SECTOR);
	v->info = info;
}

/* One turn for a volume; true: do not sleep, there is more to be done. */
static bool run_volume(struct volume *v, bool tick)
{
	struct repagent_wait wait = { 0 };
	bool dry;

	if (tick)
		refresh(v);
	run_hub(v);
	if (v->state != SERVING || v->gone)
		return false;
	dry = serve(v);
	flush(v);
	release_held(v);
	tell_answers(v);
	acknowledge(v, tick);
	conn_update(&v->conn);
	if (v->conn.fault || v->broken)
		return true;
	wait.seq = v->window.next;
	return dry && call(v, REPAGENT_RECOVER_IOC_WAIT, &wait) == 1;
}

/* ---- the loop ------------------------------------------------------------ */

static void signal_ready(struct watch *watch, uint32_t events)
{
	struct recover *r = (struct recover *)watch;
	struct repagent_recover_info info;
	struct signalfd_siginfo si;
	char span[HUMAN_MAX];
	unsigned int i;

	(void)events;
	while (read(r->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo != SIGTERM && si.ssi_signo != SIGINT)
			continue;
		r->stop_now = r->stop_by;
		r->stop_by = r->loop.now + r->cfg->drain;
		log_info("%s: what the VM was answered is made durable, within %s", strsignal((int)si.ssi_signo),
			 human_duration(span, r->cfg->drain));
		sd_notify(0, "STOPPING=1");
		for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
			if (r->volume[i] && !call(r->volume[i], REPAGENT_RECOVER_IOC_INFO, &info))
				r->volume[i]->end = info.head - 1;
	}
}

static bool has_stopped(const struct recover *r)
{
	unsigned int i;

	if (!r->stop_by)
		return false;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (r->volume[i] && r->volume[i]->window.acked < r->volume[i]->end)
			return r->stop_now || r->loop.now >= r->stop_by;
	return true;
}

static int turn(struct recover *r)
{
	struct epoll_event ev[MAX_EVENTS];
	bool tick, late = false, more = false;
	unsigned int i;
	int k, n;

	r->loop.now = monotonic();
	tick = r->loop.now >= r->next_tick;
	if (tick)
		r->next_tick = r->loop.now + TICK;
	look_for_volumes(r);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		struct volume *v = r->volume[i];

		if (!v)
			continue;
		more |= run_volume(v, tick || r->stop_by);
		if (v->gone) {
			log_notice("volume %s: its device is gone", v->name);
			close_volume(r, i);
			continue;
		}
		late |= conn_late(&v->conn);
	}
	n = epoll_wait(r->loop.epfd, ev, MAX_EVENTS, more ? 0 : late ? 1 : (int)(TICK / NSEC_PER_MSEC));
	if (n < 0 && errno != EINTR)
		return -errno;
	for (i = 0; i < REPAGENT_MAX_VOLUMES && !n; i++)
		if (r->volume[i] && conn_late(&r->volume[i]->conn))
			conn_look(&r->volume[i]->conn);
	for (k = 0; k < n; k++) {
		struct watch *w = ev[k].data.ptr;

		w->ready(w, ev[k].events);
	}
	return 0;
}

/**
 * recover_run - answer for the volumes of a group that a VM runs on at the recovery side
 * @cfg: the configuration: the taps say where the hub is
 * @signal_fd: a non-blocking signalfd: SIGTERM and SIGINT stop it
 *
 * What the VM was answered is durable at the hub when it ends well, and else in the
 * kernel, for the next one.
 *
 * Return: whether it was stopped as asked.
 */
bool recover_run(const struct config *cfg, int signal_fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct recover *r = calloc(1, sizeof(*r));
	unsigned int i;
	int err = 0;

	if (!r) {
		log_err("out of memory");
		return false;
	}
	r->cfg = cfg;
	r->signal_fd = signal_fd;
	r->signal_watch.ready = signal_ready;
	r->loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	ev.data.ptr = &r->signal_watch;
	if (r->loop.epfd < 0 || epoll_ctl(r->loop.epfd, EPOLL_CTL_ADD, signal_fd, &ev) < 0)
		err = -errno;
	/* Memory must not be had by writing to the very disk that waits for us. */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_info("PR_SET_IO_FLUSHER: %s: under memory pressure the VM's disk may stall", strerror(errno));
	if (!err)
		sd_notify(0, "READY=1");
	while (!err && !has_stopped(r))
		err = turn(r);
	if (err)
		log_err("failed: %s", strerror(-err));
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		struct volume *v = r->volume[i];

		if (!v)
			continue;
		if (v->window.acked < v->end && !err)
			log_warn("volume %s: %" PRIu64 " requests are not durable at the hub; they wait for the next daemon",
				 v->name, v->end - v->window.acked);
		close_volume(r, i);
	}
	close(r->loop.epfd);
	free(r);
	return !err;
}
