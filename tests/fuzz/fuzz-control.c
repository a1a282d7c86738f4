// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libFuzzer: bytes of a client of the control socket, through a socket pair
 * into its own loop.  `make fuzz-control` builds and runs it.
 *
 * The first byte says how many bytes are sent at a time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "repagentd/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned int calls;

static void run(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *value;

	(void)owner;
	/* What gets here was checked: a name is one, a number is one. */
	if (json_object_object_get_ex(arguments, "volume", &value) &&
	    (!json_object_is_type(value, json_type_string) ||
	     json_object_get_string_len(value) > 31 || !json_object_get_string_len(value)))
		abort();
	if (json_object_object_get_ex(arguments, "count", &value) && json_object_get_int64(value) < 0)
		abort();
	switch (calls++ % 3) {
	case 0:
		call_return(call, json_object_get(arguments));
		break;
	case 1:
		call_fail(call, "Failed", "%s", json_object_to_json_string(arguments));
		break;
	default:
		call_subscribe(call);
		call_return(call, NULL);
	}
}

static const struct argument arguments[] = {
	{ "volume", ARG_NAME, false }, { "text", ARG_TEXT, false }, { "texts", ARG_TEXTS, false },
	{ "bool", ARG_BOOL, false }, { "count", ARG_COUNT, false }, { "number", ARG_NUMBER, false },
	{ NULL, ARG_END, false },
};

static const struct command commands[] = { { "a", arguments, run }, { NULL, NULL, NULL } };

static void turn(struct control *c, struct loop *loop)
{
	struct epoll_event ev[4];
	int i, n;

	loop->now += 1000000;
	control_run(c);
	n = epoll_wait(loop->epfd, ev, 4, 0);
	for (i = 0; i < n; i++) {
		struct watch *w = ev[i].data.ptr;

		w->ready(w, ev[i].events);
	}
}

/* Every answer is one line that is JSON. */
static void hear(int fd)
{
	char buf[65536 * 2];
	ssize_t n, len = 0;
	char *line, *end;

	while (len < (ssize_t)sizeof(buf) - 1 &&
	       (n = recv(fd, buf + len, sizeof(buf) - 1 - (size_t)len, MSG_DONTWAIT)) > 0)
		len += n;
	buf[len] = '\0';
	for (line = buf; (end = strchr(line, '\n')); line = end + 1) {
		struct json_object *o;

		*end = '\0';
		o = json_tokener_parse(line);
		if (!o)
			abort();
		json_object_put(o);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop loop = { .now = 1000000000 };
	struct control *c;
	size_t step, at = 1, n;
	int fd[2], i;

	if (!size)
		return 0;
	step = (size_t)data[0] * 64 + 1;
	loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	c = control_new_bare(&loop, "g", commands, NULL);
	if (loop.epfd < 0 || !c || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0)
		abort();
	control_add(c, fd[0]);
	while (at < size) {
		n = size - at < step ? size - at : step;
		if (send(fd[1], data + at, n, MSG_NOSIGNAL) < 0)
			break;
		at += n;
		turn(c, &loop);
	}
	shutdown(fd[1], SHUT_WR);
	for (i = 0; i < 64 && control_run(c) == 0; i++)
		turn(c, &loop);
	control_event(c, "E", NULL);
	turn(c, &loop);
	hear(fd[1]);
	close(fd[1]);
	turn(c, &loop);
	control_free(c);
	close(loop.epfd);
	return 0;
}
