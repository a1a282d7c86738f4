// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets to listen on. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbdserver.h"

#define BACKLOG	1024

static int listen_unix(const char *path, char *error, size_t size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, probe;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		snprintf(error, size, "'%s': expected a path of at most %zu bytes", path,
			 sizeof(sa.sun_path) - 1);
		return -1;
	}
	strcpy(sa.sun_path, path);
	/* A socket that nobody listens on any more is in the way. */
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
		probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (probe >= 0 && connect(probe, (struct sockaddr *)&sa, sizeof(sa)) < 0 &&
		    errno == ECONNREFUSED)
			unlink(path);
		if (probe >= 0)
			close(probe);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		snprintf(error, size, "'%s': %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* The resolver takes any number, and its lowest 16 bits. The name of a service is its own affair. */
static bool port_ok(const char *port)
{
	size_t digits = strspn(port, "0123456789");

	return port[digits] || (digits <= 5 && atoi(port) >= 1 && atoi(port) <= 65535);
}

/**
 * nbds_listen_on - make a socket that listens
 * @where: ADDRESS:PORT, [ADDRESS]:PORT, :PORT for all addresses, or the path
 *	   of a Unix socket, which begins with '/'
 * @error: a sentence if that fails
 * @size: of @error
 *
 * Return: its descriptor, or -1.
 */
int nbds_listen_on(const char *where, char *error, size_t size)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
	const char *colon = strrchr(where, ':'), *host = where, *end = colon;
	struct addrinfo *list, *ai;
	char name[256];
	int fd = -1, err, yes = 1;

	if (*where == '/')
		return listen_unix(where, error, size);
	if (colon && *where == '[' && colon > where + 1 && colon[-1] == ']') {
		host++;
		end--;
	}
	if (!colon || !colon[1] || end < host || (size_t)(end - host) >= sizeof(name) ||
	    (host == where && memchr(host, ':', (size_t)(end - host)))) {
		snprintf(error, size, "'%s': expected ADDRESS:PORT, [ADDRESS]:PORT, :PORT or /PATH",
			 where);
		return -1;
	}
	if (!port_ok(colon + 1)) {
		snprintf(error, size, "'%s': expected a port from 1 to 65535", where);
		return -1;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(end - host), host);
	err = getaddrinfo(*name ? name : NULL, colon + 1, &hints, &list);
	if (err) {
		snprintf(error, size, "'%s': %s", where, gai_strerror(err));
		return -1;
	}
	/* :PORT means all addresses; with IPv6 one socket serves both. */
	for (ai = list; ai && !*name && ai->ai_family != AF_INET6; ai = ai->ai_next)
		;
	for (ai = ai ? ai : list; ai && fd < 0; ai = ai->ai_next) {
		fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
		if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
			err = errno;
			close(fd);
			fd = -1;
			errno = err;
		}
	}
	if (fd < 0)
		snprintf(error, size, "'%s': %s", where, strerror(errno));
	freeaddrinfo(list);
	return fd;
}
