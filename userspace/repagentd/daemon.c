// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The loop.
 *
 * Sleeping has a price: a wakeup per record would cost more than the record.
 * While replies are awaited anyway the ring is asked to wake us BATCH records
 * ahead, or a NAP later; when all is quiet the very next record wakes us.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "daemon.h"
#include "stats.h"
#include "tap.h"

#define BATCH		64
#define NAP		1		/* ms */
#define REFRESH		NSEC_PER_SEC
#define MAX_EVENTS	16

/*
 * struct daemon
 * @signal_watch, @ring_watch: first, so that a watch leads back here
 * @refresh:	the state has changed: ask the kernel
 * @gone:	the group's device has ended
 * @stop_by:	when a clean stop ends in any case, ns; 0: not stopping
 * @rested:	the last nap brought nothing: sleep deeply
 * @acked_at:	when something was acknowledged last, or nothing was waiting
 */
struct daemon {
	struct watch signal_watch;
	struct watch ring_watch;
	const struct config *cfg;
	struct loop loop;
	struct stream stream;
	struct tap *tap;
	struct report report;
	struct stats stats;
	struct stats notified;
	int signal_fd;
	bool refresh;
	bool gone;
	bool say_status;
	bool stop_now;
	bool rested;
	uint64_t stop_by;
	uint64_t next_refresh;
	uint64_t next_stats;
	uint64_t acked;
	uint64_t acked_at;
};

static uint64_t monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void stop(struct daemon *d, unsigned int signo)
{
	char span[HUMAN_MAX];

	if (d->stop_by) {
		d->stop_now = true;
		return;
	}
	sd_notify(0, "STOPPING=1\nSTATUS=Draining");
	if (stream_refresh(&d->stream) < 0) {
		d->gone = true;
		return;
	}
	d->stream.end = d->stream.info.head - 1;
	d->stop_by = d->loop.now + d->cfg->drain;
	log_info("%s: sending what is in the ring, for at most %s", strsignal((int)signo),
		 human_duration(span, d->cfg->drain));
}

static void signal_ready(struct watch *watch, uint32_t events)
{
	struct daemon *d = (struct daemon *)watch;
	struct signalfd_siginfo si;

	(void)events;
	while (read(d->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGTERM:
		case SIGINT:
			stop(d, si.ssi_signo);
			break;
		case SIGUSR1:
			d->say_status = true;
			break;
		}
	}
}

static void ring_ready(struct watch *watch, uint32_t events)
{
	struct daemon *d = (struct daemon *)(watch - 1);

	stream_woken(&d->stream);
	if (events & (EPOLLHUP | EPOLLERR))
		d->gone = true;
	if (events & EPOLLPRI)
		d->refresh = true;
}

static int watch_fd(struct daemon *d, int fd, uint32_t events, struct watch *watch)
{
	struct epoll_event ev = { .events = events, .data.ptr = watch };

	return epoll_ctl(d->loop.epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void print_status(struct daemon *d)
{
	char line[STATS_LINE_MAX + 1];
	size_t len;

	stats_line(&d->stats, line, &d->stream, d->tap, &d->report, d->loop.now);
	len = strlen(line);
	line[len] = '\n';
	log_write(STDOUT_FILENO, line, len + 1);
}

static void notify_status(struct daemon *d)
{
	char line[STATS_LINE_MAX];

	if (!getenv("NOTIFY_SOCKET"))
		return;
	stats_line(&d->notified, line, &d->stream, d->tap, &d->report, d->loop.now);
	sd_notifyf(0, "STATUS=%s", line);
}

static int refresh(struct daemon *d)
{
	uint64_t silent;
	int r = stream_refresh(&d->stream);

	if (r < 0)
		return r;
	d->refresh = false;
	if (d->acked != d->stream.acked || d->stream.acked + 1 == d->stream.info.head) {
		d->acked = d->stream.acked;
		d->acked_at = d->loop.now;
	}
	silent = d->loop.now - d->acked_at;
	report_changes(&d->report, &d->stream, d->loop.now, silent);
	return d->tap->ops->volumes(d->tap);
}

static int do_timers(struct daemon *d)
{
	bool due = d->loop.now >= d->next_refresh;
	bool stats = d->cfg->stats && d->loop.now >= d->next_stats;
	int r;

	if (due || stats || d->refresh || d->say_status) {
		r = refresh(d);
		if (r < 0)
			return r;
	}
	if (due) {
		d->next_refresh = d->loop.now + REFRESH;
		log_expire();
		notify_status(d);
	}
	if (stats) {
		d->next_stats += d->cfg->stats;
		if (d->next_stats < d->loop.now)
			d->next_stats = d->loop.now + d->cfg->stats;
	}
	if (stats || d->say_status)
		print_status(d);
	d->say_status = false;
	return 0;
}

/* Tell the ring when to wake us.  Return ms to sleep at most, or an errno. */
static int plan_sleep(struct daemon *d)
{
	enum tap_want want = d->tap->ops->want(d->tap);
	uint64_t until = d->tap->ops->deadline(d->tap), seq = UINT64_MAX;
	struct record rec;
	int nap = -1, r;

	if (d->next_refresh < until)
		until = d->next_refresh;
	if (d->cfg->stats && d->next_stats < until)
		until = d->next_stats;
	if (d->stop_by && d->stop_by < until)
		until = d->stop_by;

	if (want != TAP_NOTHING && d->stream.next <= d->stream.end) {
		seq = d->stream.next;
		if (want == TAP_RECORDS && !d->rested) {
			seq += BATCH;
			nap = NAP;
		}
	}
	r = stream_wait(&d->stream, seq);
	if (r < 0)
		return r;
	if (r > 0) {
		/*
		 * There is a record, or the state has changed, or one ahead is
		 * there but the next is still busy.
		 */
		if (seq != UINT64_MAX && stream_peek(&d->stream, &rec) > 0)
			return 0;
		if (nap >= 0)
			d->rested = true;
		else
			d->refresh = true;
		return 0;
	}
	if (until <= d->loop.now)
		return 0;
	until = (until - d->loop.now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return nap >= 0 && until > NAP ? nap : (int)until;
}

static int turn(struct daemon *d)
{
	struct epoll_event ev[MAX_EVENTS];
	uint64_t before;
	int i, n, timeout, r;

	d->loop.now = monotonic();
	r = do_timers(d);
	if (r < 0)
		return r;
	before = d->stream.next;
	r = d->tap->ops->run(d->tap);
	if (r < 0)
		return r;
	if (d->stream.next != before)
		d->rested = false;
	if (d->stop_by && (d->stream.acked >= d->stream.end || d->stop_now ||
			   d->loop.now >= d->stop_by))
		return 1;
	timeout = plan_sleep(d);
	if (timeout < 0)
		return timeout;
	n = epoll_wait(d->loop.epfd, ev, MAX_EVENTS, timeout);
	if (n < 0 && errno != EINTR)
		return -errno;
	if (n == 0 && timeout == NAP)
		d->rested = true;
	for (i = 0; i < n; i++) {
		struct watch *w = ev[i].data.ptr;

		w->ready(w, ev[i].events);
	}
	return d->gone ? -ENODEV : 0;
}

static void say_farewell(const struct daemon *d)
{
	char left[HUMAN_MAX];

	if (d->stream.acked >= d->stream.end)
		log_notice("stopped: everything up to record %" PRIu64 " is at the hub; capture goes on without a daemon",
			   d->stream.acked);
	else
		log_warn("stopped with %" PRIu64 " records (%s) not yet at the hub%s%s; capture goes on without a daemon "
			 "and the next one continues there", d->stream.end - d->stream.acked,
			 human_size(left, d->stream.info.payload_used),
			 d->tap->connected ? "" : ": ", d->tap->why);
}

static int begin(struct daemon *d, struct ring *ring)
{
	int r;

	d->loop.now = monotonic();
	d->acked_at = d->loop.now;
	d->next_stats = d->loop.now + d->cfg->stats;
	d->refresh = true;
	sd_notify(0, "READY=1");
	r = stream_open(&d->stream, ring);
	if (r < 0)
		return r;
	d->tap = mirror_new(d->cfg, &d->loop, &d->stream);
	if (!d->tap)
		return -ENOMEM;
	stats_begin(&d->stats, &d->stream, d->loop.now);
	stats_begin(&d->notified, &d->stream, d->loop.now);
	d->loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	if (d->loop.epfd < 0)
		return -errno;
	r = watch_fd(d, ring->fd, EPOLLIN | EPOLLPRI, &d->ring_watch);
	if (!r)
		r = watch_fd(d, d->signal_fd, EPOLLIN, &d->signal_watch);
	return r;
}

/**
 * daemon_run - drain a ring into its hub until told to stop
 * @cfg: the configuration
 * @ring: an open ring
 * @signal_fd: a non-blocking signalfd: SIGTERM and SIGINT drain and stop,
 *	SIGUSR1 prints the status line, others are ignored
 *
 * Return: how it ended; what was acknowledged is durable at the hub, and the
 * rest is still in the ring.
 */
enum daemon_end daemon_run(const struct config *cfg, struct ring *ring, int signal_fd)
{
	struct daemon d = {
		.signal_watch.ready = signal_ready,
		.ring_watch.ready = ring_ready,
		.cfg = cfg,
		.signal_fd = signal_fd,
		.loop.epfd = -1,
	};
	int r;

	r = begin(&d, ring);
	while (!r)
		r = turn(&d);
	if (r > 0)
		say_farewell(&d);
	else if (r != -ENODEV && r != -EBADMSG && r != -EPROTO)
		log_err("failed: %s", strerror(-r));
	if (d.tap)
		d.tap->ops->free(d.tap);
	if (d.loop.epfd >= 0)
		close(d.loop.epfd);
	if (r > 0)
		return DAEMON_STOPPED;
	return r == -ENODEV ? DAEMON_GONE : DAEMON_FAILED;
}
