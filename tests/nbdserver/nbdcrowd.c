// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdcrowd - many connections to an NBD server at a Unix socket, written from
 * the protocol alone: of clients that do what libnbd never would.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "nbdserver/proto.h"

static const char usage[] =
"usage: nbdcrowd MODE N SOCKET EXPORT [SECONDS]\n"
"\n"
"  silent  N connections that say nothing\n"
"  idle    N connections that have opened the export, and ask for nothing\n"
"  stall   N that ask for 64 MiB each, and read nothing of it\n"
"  busy    N that read 64 KiB blocks, 4 at a time, for SECONDS, and until each has had\n"
"          one, but for a minute at most; prints the sum of what they read, and the\n"
"          least and the most that one of them read\n"
"\n"
"All but busy print \"ready\" when they stand so, then wait for the end of their\n"
"input, and print how many of the connections the server has ended.\n";

#define BLOCK	65536u
#define DEPTH	4u

static __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "nbdcrowd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void put(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;
	ssize_t n;

	for (; len; p += n, len -= (size_t)n) {
		n = send(fd, p, len, MSG_NOSIGNAL);
		if (n < 0)
			die("send");
	}
}

static void take(int fd, void *data, size_t len)
{
	uint8_t *p = data;
	ssize_t n;

	for (; len; p += n, len -= (size_t)n) {
		n = recv(fd, p, len, 0);
		if (n <= 0)
			die("the server ended a connection");
	}
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	while (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		if (errno != EAGAIN)
			die(path);
	if (fd < 0)
		die("socket");
	return fd;
}

static void open_export(int fd, const char *name)
{
	uint8_t b[512], *p;
	uint32_t len = (uint32_t)strlen(name), type;

	take(fd, b, 18);
	p = put_be32(b, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	p = put_be64(p, NBD_OPTION_MAGIC);
	p = put_be32(p, NBD_OPT_GO);
	p = put_be32(p, 4 + len + 2);
	p = put_be32(p, len);
	memcpy(p, name, len);
	p = put_be16(p + len, 0);
	put(fd, b, (size_t)(p - b));
	do {
		take(fd, b, 20);
		type = get_be32(b + 12);
		len = get_be32(b + 16);
		if (type & 1u << 31 || len > sizeof(b)) {
			errno = EPROTO;
			die("the export was refused");
		}
		take(fd, b, len);
	} while (type != NBD_REP_ACK);
}

static uint8_t *request(uint8_t *p, uint64_t offset, uint32_t len)
{
	p = put_be32(p, NBD_REQUEST_MAGIC);
	p = put_be16(p, 0);
	p = put_be16(p, NBD_CMD_READ);
	p = put_be64(p, 1);
	p = put_be64(p, offset);
	return put_be32(p, len);
}

static void ask(int fd, uint64_t offset, uint32_t len)
{
	uint8_t b[NBD_REQUEST_SIZE];

	put(fd, b, (size_t)(request(b, offset, len) - b));
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

struct client {
	size_t got;		/* bytes of the reply at hand */
	uint64_t bytes;
};

static void busy(struct pollfd *pfd, unsigned int n, double time)
{
	struct client *c = calloc(n, sizeof(*c));
	uint64_t sum = 0, least = UINT64_MAX, most = 0;
	static uint8_t buf[BLOCK + NBD_SIMPLE_REPLY_SIZE];
	double begin = seconds(), end = begin + time;
	unsigned int i, j, without = n;
	ssize_t r;

	for (i = 0; i < n; i++)
		for (j = 0; j < DEPTH; j++)
			ask(pfd[i].fd, (uint64_t)(random() % 512) * BLOCK, BLOCK);
	while (seconds() < end || (without && seconds() < begin + 60)) {
		if (poll(pfd, n, 1000) < 0)
			die("poll");
		for (i = 0; i < n; i++) {
			if (!pfd[i].revents)
				continue;
			r = recv(pfd[i].fd, buf, sizeof(buf) - c[i].got, MSG_DONTWAIT);
			if (r <= 0)
				die("the server ended a connection");
			if (c[i].got < 8 && c[i].got + (size_t)r >= 8 && !c[i].got && get_be32(buf + 4)) {
				errno = EIO;
				die("a read failed");
			}
			c[i].got += (size_t)r;
			if (c[i].got < sizeof(buf))
				continue;
			c[i].got = 0;
			without -= !c[i].bytes;
			c[i].bytes += BLOCK;
			ask(pfd[i].fd, (uint64_t)(random() % 512) * BLOCK, BLOCK);
		}
	}
	for (i = 0; i < n; i++) {
		sum += c[i].bytes;
		least = c[i].bytes < least ? c[i].bytes : least;
		most = c[i].bytes > most ? c[i].bytes : most;
	}
	printf("sum=%llu least=%llu most=%llu\n", (unsigned long long)sum,
	       (unsigned long long)least, (unsigned long long)most);
	free(c);
}

/* Read until there is nothing more: was it ended? */
static bool is_ended(int fd)
{
	static uint8_t buf[65536];
	ssize_t r;

	do {
		r = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	} while (r > 0);
	return !r || errno != EAGAIN;
}

int main(int argc, char **argv)
{
	struct rlimit lim = { 4096, 4096 };
	unsigned int n, i, j, ended = 0;
	struct pollfd *pfd;
	const char *mode;
	char c;

	if (argc < 5) {
		fputs(usage, stderr);
		return 2;
	}
	mode = argv[1];
	n = (unsigned int)atoi(argv[2]);
	setrlimit(RLIMIT_NOFILE, &lim);
	pfd = calloc(n, sizeof(*pfd));
	if (!pfd)
		die("calloc");
	for (i = 0; i < n; i++) {
		pfd[i].fd = connect_to(argv[3]);
		pfd[i].events = POLLIN;
		if (*mode != 's' || mode[1] == 't')
			open_export(pfd[i].fd, argv[4]);
		if (*mode == 's' && mode[1] == 't')
			for (j = 0; j < 64; j++)
				ask(pfd[i].fd, 0, 1u << 20);
	}
	if (*mode == 'b') {
		busy(pfd, n, argc > 5 ? atof(argv[5]) : 1);
		return 0;
	}
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	for (i = 0; i < n; i++)
		ended += is_ended(pfd[i].fd);
	printf("%u ended\n", ended);
	return 0;
}
