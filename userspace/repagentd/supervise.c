// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * It says READY=1 on a socket as systemd has it, and why it fails on stderr.
 * It gets SIGTERM when the daemon ends, however that ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "supervise.h"

#define PROGRAM		"repagent-reader"
#define START_TIME	(30 * NSEC_PER_SEC)
#define STOP_TIME	(10 * NSEC_PER_SEC)
#define PAUSE_MIN	NSEC_PER_SEC
#define PAUSE_MAX	(60 * NSEC_PER_SEC)
#define SETTLED		(60 * NSEC_PER_SEC)	/* who ran for that long begins with short pauses anew */
#define ARGS_MAX	1024

static const char *const state_names[READER_NR_STATES] = {
	[READER_STOPPED]  = "stopped",
	[READER_STARTING] = "starting",
	[READER_RUNNING]  = "running",
	[READER_WAITING]  = "waiting",
	[READER_STOPPING] = "stopping",
};

/**
 * reader_state_name - a word for a state
 * @state: the state
 */
const char *reader_state_name(enum reader_state state)
{
	return state_names[state];
}

static void enter(struct reader *r, enum reader_state state, uint64_t time)
{
	enum reader_state before = r->state;

	r->state = state;
	r->since = r->loop->now;
	r->deadline = time == UINT64_MAX ? time : r->loop->now + time;
	r->changed(r->owner, before);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* A line of its own log; the time in front of it is ours to say. */
static void take_line(struct reader *r)
{
	static const char subject[] = PROGRAM ": ";
	const char *text = strstr(r->line, subject);

	r->line[r->len] = '\0';
	text = text ? text + sizeof(subject) - 1 : r->line;
	if (*text && strncmp(text, "Try '", 5)) {
		snprintf(r->why, sizeof(r->why), "%s", text);
		log_info("reader: %s", text);
	}
	r->len = 0;
}

static void take_stderr(struct reader *r)
{
	char buf[512];
	ssize_t n, i;

	while (r->stderr_fd >= 0 && (n = read(r->stderr_fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		for (i = 0; i < n; i++) {
			if (buf[i] != '\n' && r->len + 1 < sizeof(r->line)) {
				/* What is no text must not get into answers. */
				r->line[r->len++] = buf[i] >= ' ' && buf[i] < 127 ? buf[i] : '?';
				r->line[r->len] = '\0';
			} else if (buf[i] == '\n') {
				take_line(r);
			}
		}
	}
	close_fd(&r->stderr_fd);
}

static void stderr_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	take_stderr((struct reader *)((char *)watch - offsetof(struct reader, stderr_watch)));
}

/* One datagram: only the reader's own counts. */
static void take_message(struct reader *r, char *text)
{
	char *line, *rest = NULL, *p;

	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (!strcmp(line, "READY=1") && r->state == READER_STARTING) {
			r->stay = true;
			enter(r, READER_RUNNING, UINT64_MAX);
		} else if (!strncmp(line, "STATUS=", 7)) {
			snprintf(r->status, sizeof(r->status), "%s", line + 7);
			for (p = r->status; *p; p++)
				if (*p < ' ' || *p > '~')
					*p = '?';
		}
	}
}

static void notify_ready(struct watch *watch, uint32_t events)
{
	struct reader *r = (struct reader *)watch;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char text[1024];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
	struct cmsghdr *cmsg;
	struct ucred who;
	unsigned int i;
	ssize_t n;

	(void)events;
	for (i = 0; i < 16 && r->notify_fd >= 0; i++) {
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof(control),
		};

		n = recvmsg(r->notify_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0)
			return;
		cmsg = CMSG_FIRSTHDR(&msg);
		if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&who, CMSG_DATA(cmsg), sizeof(who));
		if (who.pid != r->pid)
			continue;
		text[n] = '\0';
		take_message(r, text);
	}
}

static bool watch_fd(struct reader *r, int fd, struct watch *watch)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = watch };

	return epoll_ctl(r->loop->epfd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

/* A socket whose name the kernel chooses. */
static bool open_notify(struct reader *r, char *name, size_t size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa.sun_family);
	int on = 1;

	r->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->notify_fd < 0 || bind(r->notify_fd, (struct sockaddr *)&sa, len) < 0 ||
	    setsockopt(r->notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return false;
	len = sizeof(sa);
	if (getsockname(r->notify_fd, (struct sockaddr *)&sa, &len) < 0)
		return false;
	snprintf(name, size, "@%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path) - 1),
		 sa.sun_path + 1);
	return watch_fd(r, r->notify_fd, &r->notify_watch);
}

/* Options from the words of a list. */
static void add_options(char **argv, int *argc, char *option, char *words)
{
	char *word, *rest = NULL;

	for (word = words ? strtok_r(words, " ", &rest) : NULL; word; word = strtok_r(NULL, " ", &rest)) {
		if (*argc + 3 > ARGS_MAX)
			return;
		argv[(*argc)++] = option;
		argv[(*argc)++] = word;
	}
}

/* Beside our own program, as in a build folder, else where programs are looked for. */
static void exec_reader(char **argv)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof(PROGRAM) - 1);
	char *slash;

	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		strcpy(slash + 1, PROGRAM);
		execv(path, argv);
	}
	execvp(PROGRAM, argv);
}

static __attribute__((noreturn)) void child(struct reader *r, int error_fd, const char *notify,
					    pid_t parent)
{
	char **value = r->conf.reader;
	char *argv[ARGS_MAX];
	sigset_t none;
	int argc = 0, fd;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	argv[argc++] = PROGRAM;
	argv[argc++] = "--only";
	argv[argc++] = (char *)r->group;
	/* It is our copy of the memory: the words may be cut. */
	add_options(argv, &argc, "--listen", value[CONF_R_LISTEN]);
	add_options(argv, &argc, "--allow", value[CONF_R_ALLOW]);
	if (value[CONF_R_TLS_CERT_DIR]) {
		argv[argc++] = "--tls-cert-dir";
		argv[argc++] = value[CONF_R_TLS_CERT_DIR];
	}
	if (value[CONF_R_RATE]) {
		argv[argc++] = "--rate";
		argv[argc++] = value[CONF_R_RATE];
	}
	argv[argc] = NULL;

	setenv("NOTIFY_SOCKET", notify, 1);
	unsetenv("JOURNAL_STREAM");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	/* The daemon is spared from the out-of-memory killer, the reader is not. */
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "0", 1) < 0)
		fd = -1;
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(error_fd, 2);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	exec_reader(argv);
	dprintf(2, PROGRAM ": cannot be run: %s\n", strerror(errno));
	_exit(127);
}

static bool spawn(struct reader *r)
{
	char notify[sizeof(struct sockaddr_un)];
	int fd[2] = { -1, -1 };
	pid_t parent = getpid();

	r->why[0] = r->status[0] = '\0';
	r->len = 0;
	r->killed = false;
	if (!open_notify(r, notify, sizeof(notify)) || pipe2(fd, O_CLOEXEC) < 0)
		goto failed;
	r->stderr_fd = fd[0];
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	if (!watch_fd(r, fd[0], &r->stderr_watch))
		goto failed;
	r->pid = fork();
	if (r->pid == 0)
		child(r, fd[1], notify, parent);
	if (r->pid < 0)
		goto failed;
	close(fd[1]);
	return true;
failed:
	snprintf(r->why, sizeof(r->why), "cannot be started: %s", strerror(errno));
	close_fd(&fd[1]);
	close_fd(&r->notify_fd);
	close_fd(&r->stderr_fd);
	r->pid = 0;
	return false;
}

/**
 * reader_init - there is none yet
 * @r: the reader
 * @loop: the loop
 * @group: whose volumes it will serve; must outlive it
 * @changed: called when its state has changed
 * @owner: for @changed
 */
void reader_init(struct reader *r, struct loop *loop, const char *group,
		 void (*changed)(void *owner, enum reader_state before), void *owner)
{
	memset(r, 0, sizeof(*r));
	conf_init(&r->conf);
	r->notify_watch.ready = notify_ready;
	r->stderr_watch.ready = stderr_ready;
	r->loop = loop;
	r->group = group;
	r->notify_fd = r->stderr_fd = -1;
	r->deadline = UINT64_MAX;
	r->changed = changed;
	r->owner = owner;
}

/* It ended, or could not be started. */
static void ended(struct reader *r)
{
	if (r->state == READER_STOPPING || !r->stay) {
		r->stay = false;
		enter(r, READER_STOPPED, UINT64_MAX);
		return;
	}
	if (r->state == READER_RUNNING && r->loop->now - r->since > SETTLED)
		r->pause = PAUSE_MIN;
	enter(r, READER_WAITING, r->pause);
	r->pause = r->pause * 2 > PAUSE_MAX ? PAUSE_MAX : r->pause * 2;
}

/**
 * reader_start - start it with the options of reader.conf
 * @r: the reader, in READER_STOPPED
 * @stay: start it again even if it never was ready
 *
 * Return: whether there is a process, or will be one.
 */
bool reader_start(struct reader *r, bool stay)
{
	r->stay = stay;
	r->restarts = 0;
	r->pause = PAUSE_MIN;
	if (spawn(r)) {
		enter(r, READER_STARTING, START_TIME);
		return true;
	}
	if (stay)
		ended(r);
	return stay;
}

/**
 * reader_stop - have it end; reader.changed tells of READER_STOPPED
 * @r: the reader
 */
void reader_stop(struct reader *r)
{
	switch (r->state) {
	case READER_STARTING:
	case READER_RUNNING:
		kill(r->pid, SIGTERM);
		enter(r, READER_STOPPING, STOP_TIME);
		break;
	case READER_WAITING:
		r->stay = false;
		enter(r, READER_STOPPED, UINT64_MAX);
		break;
	default:
		break;
	}
}

/**
 * reader_run - do what is due at reader.deadline
 * @r: the reader
 */
void reader_run(struct reader *r)
{
	if (r->loop->now < r->deadline)
		return;
	r->deadline = UINT64_MAX;
	switch (r->state) {
	case READER_STARTING:
	case READER_STOPPING:
		if (r->killed)
			break;
		log_warn("reader: it does not %s in time and is killed",
			 r->state == READER_STARTING ? "get ready" : "end");
		r->killed = true;
		kill(r->pid, SIGKILL);
		break;
	case READER_WAITING:
		r->restarts++;
		if (spawn(r))
			enter(r, READER_STARTING, START_TIME);
		else
			ended(r);
		break;
	default:
		break;
	}
}

/**
 * reader_reaped - a process has ended
 * @r: the reader
 * @pid: which
 * @status: of waitpid()
 */
void reader_reaped(struct reader *r, pid_t pid, int status)
{
	char said[sizeof(r->why)];

	if (!r->pid || pid != r->pid)
		return;
	r->pid = 0;
	take_stderr(r);
	close_fd(&r->notify_fd);
	close_fd(&r->stderr_fd);
	snprintf(said, sizeof(said), "%s", r->why);
	if (WIFSIGNALED(status))
		snprintf(r->why, sizeof(r->why), "it was ended by signal %d%s%.400s", WTERMSIG(status),
			 said[0] ? ": " : "", said);
	else if (WEXITSTATUS(status))
		snprintf(r->why, sizeof(r->why), "it ended with status %d%s%.400s", WEXITSTATUS(status),
			 said[0] ? ": " : "", said);
	r->status[0] = '\0';
	if (r->state != READER_STOPPING)
		log_warn("reader: %s", r->why[0] ? r->why : "it ended");
	ended(r);
}

/**
 * reader_free - have it end, and forget it
 * @r: the reader
 */
void reader_free(struct reader *r)
{
	if (r->pid)
		kill(r->pid, SIGTERM);
	close_fd(&r->notify_fd);
	close_fd(&r->stderr_fd);
	conf_free(&r->conf);
}
