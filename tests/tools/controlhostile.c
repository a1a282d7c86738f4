// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * controlhostile: clients of repagentd's control socket that do not mean well.
 *
 * Prints "name value" lines; exit status 1 when the socket was not there, or a
 * client that means well was not served in the end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CROWD	1000
#define SILENT	8
#define KINDS_LEAST	24		/* lines of nonsense, on a machine that is slow ... */
#define ERRORS_LEAST	12		/* ... and answers to them */
#define LINE	(128 * 1024)
#define DROPPED	60		/* s in which who does not read is dropped */
#define SERVED	10		/* s in which a client that means well is served */

static const char *path;
static unsigned long connected, refused, sent, dropped, errors;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int join(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		connected++;
		return fd;
	}
	refused++;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* As much as it takes at once.  Return whether the connection is still there. */
static bool push(int fd, const char *data, size_t len)
{
	ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

	if (n > 0)
		sent += (unsigned long)n;
	return n >= 0 || errno == EAGAIN;
}

/* What is said to this one, until that is an error, or its end, or nothing for a while. */
static void listen_to(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char buf[4096];
	ssize_t n;

	while (poll(&pfd, 1, ms) == 1) {
		n = recv(fd, buf, sizeof(buf) - 1, 0);
		if (n <= 0) {
			dropped++;
			return;
		}
		buf[n] = '\0';
		if (strstr(buf, "\"error\"")) {
			errors++;
			return;
		}
	}
}

/* Whatever is there, or some of it. */
static void hear(int fd)
{
	char buf[65536];

	if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) < 0 && errno != EAGAIN)
		dropped++;
}

static void garbage(char *line, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		line[i] = (char)rand();
}

/* One line of a kind that a client should not say. */
static void one_line(int fd, unsigned int kind)
{
	static char line[LINE];
	size_t len = 0;

	switch (kind % 6) {
	case 0:		/* binary */
		len = (size_t)rand() % 4096 + 1;
		garbage(line, len);
		break;
	case 1:		/* no end */
		memset(line, 'a', sizeof(line));
		len = sizeof(line);
		break;
	case 2:		/* deep */
		memset(line, '[', 60000);
		len = 60000;
		break;
	case 3:		/* wide */
		for (len = 0; len < 60000; len += 3)
			memcpy(line + len, "[],", 3);
		break;
	case 4:		/* a part of a request */
		len = (size_t)snprintf(line, sizeof(line), "{\"execute\":\"query-st");
		push(fd, line, len);
		return;
	case 5:		/* many at once */
		while (len + 64 < sizeof(line))
			len += (size_t)snprintf(line + len, sizeof(line) - len,
						"{\"execute\":\"query-status\",\"id\":%zu}\n", len);
		break;
	}
	line[len - 1] = '\n';
	push(fd, line, len);
}

/* Does a client that means well get its answer? */
static bool is_served(void)
{
	static const char request[] = "{\"execute\":\"query-status\",\"id\":\"well\"}\n";
	double end = now() + SERVED;
	char buf[65536];
	size_t len;
	ssize_t n;

	while (now() < end) {
		int fd = join();
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		len = 0;
		if (fd >= 0)
			push(fd, request, sizeof(request) - 1);
		while (fd >= 0 && len < sizeof(buf) - 1 && poll(&pfd, 1, 1000) == 1) {
			n = recv(fd, buf + len, sizeof(buf) - 1 - len, 0);
			if (n <= 0)
				break;
			len += (size_t)n;
			buf[len] = '\0';
			if (strstr(buf, "\"id\":\"well\"")) {
				close(fd);
				return true;
			}
		}
		if (fd >= 0)
			close(fd);
		poll(NULL, 0, 100);
	}
	return false;
}

int main(int argc, char **argv)
{
	static const char checkpoint[] =
		"{\"execute\":\"checkpoint\",\"arguments\":{\"label\":\"again\"}}\n";
	int silent[SILENT], crowd[CROWD], fd, busy;
	unsigned int i, kind = 0, lines = 0;
	double end;
	bool served, gone = false;

	if (argc != 3 || !strcmp(argv[1], "--help")) {
		fputs("Usage: controlhostile SOCKET SECONDS\n"
		      "Do to a control socket what a client should not, and see that it serves in the end.\n",
		      argc == 2 && !strcmp(argv[1], "--help") ? stdout : stderr);
		return argc == 2 ? 0 : 2;
	}
	path = argv[1];
	end = now() + atof(argv[2]);
	signal(SIGPIPE, SIG_IGN);

	/* Who asks, and asks for events, and reads nothing. */
	for (i = 0; i < SILENT; i++) {
		silent[i] = join();
		push(silent[i], "{\"execute\":\"subscribe\"}\n", 24);
	}
	busy = join();
	while (now() < end || ((!gone || kind < KINDS_LEAST || errors < ERRORS_LEAST) && now() < end + DROPPED)) {
		/* Each of these is an event, too, for those who do not read. */
		for (i = 0; i < 64; i++)
			push(busy, checkpoint, sizeof(checkpoint) - 1);
		hear(busy);
		for (i = 0; i < 16 * SILENT; i++)
			gone |= !push(silent[i % SILENT], "{\"execute\":\"query-commands\"}\n", 29);
		if (now() >= end && kind >= KINDS_LEAST && errors >= ERRORS_LEAST) {
			poll(NULL, 0, 5);
			continue;
		}
		fd = join();
		if (fd < 0)
			continue;
		for (i = 0; i < 4; i++, lines++)
			one_line(fd, kind);
		kind++;
		listen_to(fd, 300);
		close(fd);
	}
	/* A crowd that comes and stays. */
	for (i = 0; i < CROWD; i++) {
		crowd[i] = join();
		if (crowd[i] < 0)
			poll(NULL, 0, 1);
	}
	served = is_served();
	for (i = 0; i < CROWD; i++)
		if (crowd[i] >= 0)
			close(crowd[i]);
	printf("connected %lu\nrefused %lu\nbytes %lu\nlines %u\nended %lu\nerrors %lu\nserved %d\n",
	       connected, refused, sent, lines, dropped, errors, served);
	return served ? 0 : 1;
}
