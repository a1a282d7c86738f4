// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Log lines to stderr.
 *
 * A line that was said less than REPEAT_SECONDS ago is counted and not said
 * again; when that time is over one line tells how often it came.  A few
 * recent lines are remembered and not only the last, since a hub that flaps
 * says two things in turn.
 *
 * A reader of stderr that has stopped reading must not stop the daemon: what
 * cannot be written at once is dropped and counted.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define REPEAT_SECONDS	60
#define NR_RECENT	8
#define LINE_MAX_BYTES	1024

struct recent {
	time_t since;		/* 0: unused */
	int priority;
	unsigned int repeats;
	char text[LINE_MAX_BYTES];
};

/* Guards all that follows but what log_init() sets; lines may come from any thread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct recent recent[NR_RECENT];
static char subject[64] = "repagentd";
static bool journal;
static unsigned int dropped;

static time_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + 1;
}

/* systemd says in JOURNAL_STREAM which socket is the journal's. */
static bool stderr_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	uintmax_t dev, ino;
	struct stat st;

	return env && sscanf(env, "%ju:%ju", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

/**
 * log_init - choose the form of the lines
 * @who: what the lines are about, put in front of each; NULL: as it was
 */
void log_init(const char *who)
{
	if (who)
		snprintf(subject, sizeof(subject), "%s", who);
	journal = stderr_is_journal();
	tzset();
}

/**
 * log_write - write a line unless that would mean to wait
 * @fd: where to
 * @line: the line
 * @len: its length in bytes, at most PIPE_BUF
 *
 * Return: whether it was written.
 */
bool log_write(int fd, const char *line, size_t len)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	ssize_t n;

	n = send(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno == ENOTSOCK && poll(&pfd, 1, 0) == 1 &&
	    (pfd.revents & POLLOUT))
		n = write(fd, line, len);
	return n == (ssize_t)len;
}

static void emit(int priority, const char *text)
{
	char line[LINE_MAX_BYTES + 128], when[32];
	struct tm tm;
	time_t now;
	int len;

	if (journal) {
		len = snprintf(line, sizeof(line), "<%d>%s: %s\n", priority,
			       subject, text);
	} else {
		now = time(NULL);
		localtime_r(&now, &tm);
		strftime(when, sizeof(when), "%F %T", &tm);
		len = snprintf(line, sizeof(line), "%s %s: %s\n", when,
			       subject, text);
	}
	if (!log_write(STDERR_FILENO, line, (size_t)len))
		dropped++;
}

static void expire(struct recent *r)
{
	char text[LINE_MAX_BYTES + 64];

	if (r->repeats == 1) {
		emit(r->priority, r->text);
	} else if (r->repeats) {
		snprintf(text, sizeof(text), "message repeated %u times: %s",
			 r->repeats, r->text);
		emit(r->priority, text);
	}
	memset(r, 0, sizeof(*r));
}

static void expire_all(void)
{
	time_t now = seconds();
	char text[64];
	unsigned int i;

	for (i = 0; i < NR_RECENT; i++)
		if (recent[i].since && now - recent[i].since >= REPEAT_SECONDS)
			expire(&recent[i]);
	if (dropped) {
		snprintf(text, sizeof(text), "%u lines were lost: nobody read them",
			 dropped);
		dropped = 0;
		emit(LOG_WARNING, text);
	}
}

/**
 * log_expire - say what was held back for long enough; call it now and then
 */
void log_expire(void)
{
	pthread_mutex_lock(&lock);
	expire_all();
	pthread_mutex_unlock(&lock);
}

/**
 * log_summary - say all that was held back; call it before the end
 */
void log_summary(void)
{
	unsigned int i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < NR_RECENT; i++)
		expire(&recent[i]);
	pthread_mutex_unlock(&lock);
}

static void log_text(int priority, const char *text)
{
	struct recent *slot = &recent[0];
	unsigned int i;

	expire_all();
	for (i = 0; i < NR_RECENT; i++) {
		if (recent[i].since && !strcmp(recent[i].text, text)) {
			recent[i].repeats++;
			return;
		}
		if (recent[i].since < slot->since)
			slot = &recent[i];
	}
	expire(slot);
	slot->since = seconds();
	slot->priority = priority;
	snprintf(slot->text, sizeof(slot->text), "%s", text);
	emit(priority, text);
}

/**
 * log_msg - log one line
 * @priority: LOG_ERR and so on
 * @fmt: of printf(), without the newline
 */
void log_msg(int priority, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lock);
	log_text(priority, text);
	pthread_mutex_unlock(&lock);
}
