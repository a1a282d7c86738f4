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
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "core.h"
#include "group.h"

#define BATCH		64
#define NAP		1		/* ms */
#define REFRESH		NSEC_PER_SEC
#define MAX_EVENTS	16
#define LOOK		NSEC_PER_SEC	/* between two looks for the group */
#define FRESH		(10 * NSEC_PER_MSEC)

static uint64_t monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/**
 * daemon_stop - send what is in the ring, and end; a second time: end at once
 * @d: the daemon
 * @who: asks for it, for the log
 * @reason: for the event SHUTDOWN
 */
void daemon_stop(struct daemon *d, const char *who, const char *reason)
{
	struct json_object *data;
	char span[HUMAN_MAX];

	if (d->stop_by) {
		d->stop_now = true;
		return;
	}
	sd_notify(0, "STOPPING=1\nSTATUS=Draining");
	data = json_object_new_object();
	json_object_object_add(data, "reason", json_object_new_string(reason));
	control_event(d->control, "SHUTDOWN", data);
	d->stop_by = d->loop.now + d->cfg->drain;
	/* Whoever paused wants nothing sent. */
	d->stop_now = !d->ring || d->paused;
	if (!d->ring)
		return;
	if (stream_refresh(&d->stream) < 0) {
		d->gone = true;
		return;
	}
	d->stream.end = d->stream.info.head - 1;
	log_info("%s: sending what is in the ring, for at most %s", who,
		 human_duration(span, d->cfg->drain));
}

static void reap(struct daemon *d)
{
	int status;
	pid_t pid;

	/* What a job has to say comes through its pipe. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		reader_reaped(&d->reader, pid, status);
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
			daemon_stop(d, strsignal((int)si.ssi_signo), "signal");
			break;
		case SIGUSR1:
			d->say_status = true;
			break;
		case SIGCHLD:
			reap(d);
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

	stats_take(&d->printed, &d->lines, &d->stream, &d->report, d->loop.now);
	stats_line(&d->lines, line, &d->stream, d->tap);
	len = strlen(line);
	line[len] = '\n';
	log_write(STDOUT_FILENO, line, len + 1);
}

static void notify_status(struct daemon *d)
{
	char line[STATS_LINE_MAX];

	if (!getenv("NOTIFY_SOCKET"))
		return;
	stats_line(&d->figures, line, &d->stream, d->tap);
	sd_notifyf(0, "STATUS=%s", line);
}

static int refresh(struct daemon *d)
{
	uint64_t silent;
	int r = stream_refresh(&d->stream);

	if (r < 0)
		return r;
	d->refresh = false;
	d->refreshed = d->loop.now;
	if (d->acked != d->stream.acked || d->stream.acked + 1 == d->stream.info.head) {
		d->acked = d->stream.acked;
		d->acked_at = d->loop.now;
	}
	silent = d->loop.now - d->acked_at;
	report_changes(&d->report, &d->stream, d->loop.now, silent);
	return d->tap->ops->volumes(d->tap);
}

/**
 * daemon_refresh - know the state as it is now, or was a moment ago
 * @d: the daemon
 */
void daemon_refresh(struct daemon *d)
{
	/* What fails here fails again in the next turn, which knows what to do. */
	if (d->ring && d->loop.now - d->refreshed >= FRESH && refresh(d) < 0)
		d->refresh = true;
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
		stats_take(&d->sampled, &d->figures, &d->stream, &d->report, d->loop.now);
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

static void tell_hub(struct daemon *d)
{
	struct json_object *data = json_object_new_object();

	d->hub_told = d->tap->connected;
	json_object_object_add(data, "connected", json_object_new_boolean(d->tap->connected));
	json_object_object_add(data, "why", json_object_new_string(d->tap->why));
	control_event(d->control, "HUB", data);
}

static void tell_group(struct daemon *d, bool present)
{
	struct json_object *data = json_object_new_object();

	json_object_object_add(data, "present", json_object_new_boolean(present));
	control_event(d->control, "GROUP", data);
}

/* What epoll takes: rounded up; -1 for ever. */
static int ms_until(const struct daemon *d, uint64_t until)
{
	if (until <= d->loop.now)
		return 0;
	until = (until - d->loop.now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return until < INT_MAX ? (int)until : -1;
}

/* Tell the ring when to wake us.  Return ms to sleep at most, or an errno. */
static int plan_sleep(struct daemon *d, uint64_t until)
{
	enum tap_want want = d->tap->ops->want(d->tap);
	uint64_t seq = UINT64_MAX;
	struct record rec;
	int nap = -1, n, r;

	if (d->tap->ops->deadline(d->tap) < until)
		until = d->tap->ops->deadline(d->tap);
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
	n = ms_until(d, until);
	return nap >= 0 && n > NAP ? nap : n;
}

/*
 * Serve the ring for one turn.  Return ms to sleep at most, or a negative errno;
 * *done tells that a clean stop is over.
 */
static int serve(struct daemon *d, uint64_t until, bool *done)
{
	uint64_t before;
	int r;

	r = do_timers(d);
	if (r < 0)
		return r;
	before = d->stream.next;
	r = d->tap->ops->run(d->tap);
	if (r < 0)
		return r;
	if (d->stream.next != before)
		d->rested = false;
	r = d->stop_by ? 0 : verify_run(&d->verify, &d->stream, d->tap->connected, d->loop.now);
	if (r < 0)
		return r;
	until = until < d->verify.deadline ? until : d->verify.deadline;
	if (d->tap->connected != d->hub_told)
		tell_hub(d);
	*done = d->stop_by && (d->stream.acked >= d->stream.end || d->stop_now ||
			       d->loop.now >= d->stop_by);
	return *done ? 0 : plan_sleep(d, until);
}

/* A tap of the kind that the configuration asks for, in the place of the one there is. */
static int new_tap(struct daemon *d)
{
	struct tap *tap = uri_is_rephub(d->cfg->taps.all) ? logtap_new(d->cfg, &d->loop, &d->stream, &d->verify) :
			  mirror_new(d->cfg, &d->loop, &d->stream, &d->verify);

	if (!tap)
		return -ENOMEM;
	if (d->tap)
		d->tap->ops->free(d->tap);
	d->tap = tap;
	d->tap->mark_dirty = commands_mark_dirty;
	d->tap->owner = d;
	return d->paused ? d->tap->ops->pause(d->tap, true) : 0;
}

/**
 * daemon_choose_tap - the tap of all volumes is another one
 * @d: the daemon
 *
 * Return: 0 or a negative errno.
 */
int daemon_choose_tap(struct daemon *d)
{
	return d->ring ? new_tap(d) : 0;
}

/* A group came: begin at its first unacknowledged record. */
static int attach(struct daemon *d, struct ring *ring)
{
	int r;

	d->gone = false;
	d->rested = false;
	d->refresh = true;
	d->hub_told = false;
	d->acked_at = d->loop.now;
	d->next_stats = d->loop.now + d->cfg->stats;
	d->next_refresh = d->loop.now;
	memset(&d->figures, 0, sizeof(d->figures));
	memset(&d->lines, 0, sizeof(d->lines));
	d->ring = ring;
	verify_init(&d->verify);
	r = stream_open(&d->stream, ring);
	if (r < 0)
		return r;
	r = new_tap(d);
	if (r < 0)
		return r;
	stats_begin(&d->sampled, &d->stream, d->loop.now);
	stats_begin(&d->printed, &d->stream, d->loop.now);
	r = watch_fd(d, ring->fd, EPOLLIN | EPOLLPRI, &d->ring_watch);
	tell_group(d, true);
	return r;
}

/* Let go of the ring.  What is in it stays in it. */
static void detach(struct daemon *d)
{
	if (!d->ring)
		return;
	if (d->tap)
		d->tap->ops->free(d->tap);
	d->tap = NULL;
	verify_stop(&d->verify, d->loop.now);
	epoll_ctl(d->loop.epfd, EPOLL_CTL_DEL, d->ring->fd, NULL);
	if (d->ring == &d->own)
		group_close(d->ring);
	d->ring = NULL;
	d->report = (struct report) { .tell = d->report.tell, .owner = d->report.owner };
	d->holding = false;
	tell_group(d, false);
}

static void lose_group(struct daemon *d)
{
	detach(d);
	log_notice("the group is gone; waiting for it to come back");
	sd_notifyf(0, "STATUS=Waiting for group %s", d->cfg->group);
	d->look_told = true;
	d->next_look = d->loop.now;
}

/* The group is taken.  Say by whom, and what to do. */
static void say_holder(const char *group, int pid, const char *program)
{
	if (pid > 0)
		log_err("group %s is served by process %d (%s) already, and a group has one daemon. "
			"To have this one take over, stop that one first: kill %d; no record is lost meanwhile",
			group, pid, program, pid);
	else
		log_err("group %s is served by another daemon already%s, and a group has one daemon. "
			"To have this one take over, stop that one first; no record is lost meanwhile",
			group, pid ? "" : ", in another container");
}

/* Is there a group?  Return 0 (see daemon.ring), or a negative errno (a line was logged). */
static int look(struct daemon *d)
{
	char program[GROUP_PROGRAM_MAX], path[GROUP_PATH_MAX];
	int r, pid;

	d->next_look = d->loop.now + LOOK;
	group_path(path, d->cfg->group);
	r = group_open(&d->own, d->cfg->group);
	switch (r) {
	case 0:
		d->look_told = false;
		return attach(d, &d->own);
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		if (!d->look_told) {
			log_notice("waiting for group %s: %s does not exist yet", d->cfg->group, path);
			sd_notifyf(0, "STATUS=Waiting for group %s", d->cfg->group);
		}
		d->look_told = true;
		return 0;
	case -EBUSY:
		pid = group_holder(d->cfg->group, program);
		if (pid == -ESRCH)
			return 0;	/* it went just now: try again */
		say_holder(d->cfg->group, pid, program);
		return -EBUSY;
	case -EPROTO:
		return r;
	default:
		log_err("%s: %s", path, strerror(-r));
		return -EBUSY;
	}
}

/**
 * daemon_look - the group may have come just now
 * @d: the daemon
 */
void daemon_look(struct daemon *d)
{
	/* What fails here fails again in the next turn, which knows what to do. */
	if (!d->ring && !d->stop_by && look(d) < 0) {
		detach(d);
		d->next_look = d->loop.now;
	}
}

/**
 * daemon_pause - close the taps, or go on
 * @d: the daemon
 * @on: which
 *
 * Return: 0 or a negative errno.
 */
int daemon_pause(struct daemon *d, bool on)
{
	d->paused = on;
	return d->ring ? d->tap->ops->pause(d->tap, on) : 0;
}

/* A turn without a group.  Return ms to sleep at most, or a negative errno. */
static int wait_for_group(struct daemon *d, uint64_t until, bool *done)
{
	int r;

	if (d->say_status) {
		printf("%-8s waiting for the group\n", d->cfg->group);
		fflush(stdout);
		d->say_status = false;
	}
	*done = d->stop_by;
	if (*done)
		return 0;
	if (d->loop.now >= d->next_look) {
		log_expire();
		r = look(d);
		if (r < 0 && r != -ENODEV)
			return r;
		if (r < 0)
			detach(d);
		if (d->ring)
			return 0;
	}
	return ms_until(d, until < d->next_look ? until : d->next_look);
}

static uint64_t life_signs(struct daemon *d)
{
	if (!d->watchdog)
		return UINT64_MAX;
	if (d->loop.now >= d->next_sign) {
		sd_notify(0, "WATCHDOG=1");
		d->next_sign = d->loop.now + d->watchdog;
	}
	return d->next_sign;
}

static int turn(struct daemon *d, bool *done)
{
	struct epoll_event ev[MAX_EVENTS];
	uint64_t until, when;
	int i, n, timeout;

	d->loop.now = monotonic();
	reader_run(&d->reader);
	commands_run(d);
	until = control_run(d->control);
	when = life_signs(d);
	until = until < when ? until : when;
	until = until < d->reader.deadline ? until : d->reader.deadline;
	until = until < d->next_protect ? until : d->next_protect;
	timeout = d->ring ? serve(d, until, done) : wait_for_group(d, until, done);
	if (timeout == -ENODEV && d->ring == &d->own) {
		lose_group(d);
		*done = d->stop_by;
		timeout = 0;
	}
	if (timeout < 0 || *done)
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
	if (d->gone && d->ring) {
		d->gone = false;
		if (d->ring != &d->own)
			return -ENODEV;
		lose_group(d);
	}
	return 0;
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

static bool open_control(struct daemon *d)
{
	char program[GROUP_PROGRAM_MAX];
	int holder;

	if (!d->cfg->control)
		return true;
	d->control = control_new(&d->loop, d->cfg->control, d->cfg->group, daemon_commands, d, &holder);
	if (d->control || holder < 0)
		return true;	/* without it replication goes on */
	process_name(holder, program);
	say_holder(d->cfg->group, holder, program);
	return false;
}

static int begin(struct daemon *d)
{
	uint64_t usec;
	int r;

	d->loop.now = monotonic();
	d->next_protect = UINT64_MAX;
	d->report.tell = commands_tell;
	d->report.owner = d;
	d->verify.ended = commands_verified;
	d->verify.owner = d;
	jobs_init(&d->jobs, &d->loop, d);
	reader_init(&d->reader, &d->loop, d->cfg->group, commands_reader_changed, d);
	d->loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	if (d->loop.epfd < 0)
		return -errno;
	r = watch_fd(d, d->signal_fd, EPOLLIN, &d->signal_watch);
	if (r < 0)
		return r;
	if (!open_control(d))
		return -EBUSY;
	if (sd_watchdog_enabled(0, &usec) > 0)
		d->watchdog = usec * 1000 / 3;
	return 0;
}

/**
 * daemon_run - drain a ring into its hub, and do as the control socket says, until told to stop
 * @cfg: the configuration; commands change its taps
 * @ring: an open ring, with which the run ends; NULL: the group's, whenever
 *	there is one
 * @signal_fd: a non-blocking signalfd: SIGTERM and SIGINT drain and stop,
 *	SIGUSR1 prints the status line, SIGCHLD is needed for the control
 *	socket, others are ignored
 *
 * Return: how it ended; what was acknowledged is durable at the hub, and the
 * rest is still in the ring.
 */
enum daemon_end daemon_run(struct config *cfg, struct ring *ring, int signal_fd)
{
	struct daemon d = {
		.signal_watch.ready = signal_ready,
		.ring_watch.ready = ring_ready,
		.cfg = cfg,
		.signal_fd = signal_fd,
		.loop.epfd = -1,
	};
	bool done = false;
	int r;

	r = begin(&d);
	if (!r)
		r = ring ? attach(&d, ring) : look(&d);
	if (r == -ENODEV && !ring) {
		lose_group(&d);
		r = 0;
	}
	if (!r) {
		commands_begin(&d);
		sd_notify(0, "READY=1");
	}
	while (!r && !done)
		r = turn(&d, &done);
	if (r >= 0 && d.ring)
		say_farewell(&d);
	else if (r < 0 && r != -ENODEV && r != -EBADMSG && r != -EPROTO && r != -EBUSY)
		log_err("failed: %s", strerror(-r));
	reader_free(&d.reader);
	control_free(d.control);
	d.control = NULL;
	detach(&d);
	if (d.loop.epfd >= 0)
		close(d.loop.epfd);
	if (r >= 0)
		return d.by_command ? DAEMON_SHUT_DOWN : DAEMON_STOPPED;
	return r == -ENODEV ? DAEMON_GONE : DAEMON_FAILED;
}
