// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define EVENTS_MAX	1000	/* that are kept while an answer is awaited */

static __attribute__((format(printf, 2, 3)))
bool fail(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, CLIENT_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* What is left until then; -1 for ever. */
static int ms_until(long long deadline)
{
	long long left;

	if (deadline < 0)
		return -1;
	left = deadline - now_ms();
	return left < 0 ? 0 : (int)left;
}

/**
 * control_path - where a group's daemon listens
 * @path: CONTROL_PATH_MAX bytes for the result
 * @group: its name, which uri_name_ok() accepted
 */
void control_path(char *path, const char *group)
{
	snprintf(path, CONTROL_PATH_MAX, "/run/repagent/%s.sock", group);
}

/* The next line as an object. 1; 0 when the time is over; -1 with a sentence. */
static int read_object(struct client *c, long long deadline, struct json_object **object,
		       char *error)
{
	struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
	enum json_tokener_error what;
	char *end;
	ssize_t n;
	int r;

	while (!(end = memchr(c->buf, '\n', c->len))) {
		if (c->len == CONTROL_LINE_MAX) {
			fail(error, "the daemon sent a line of more than %d bytes", CONTROL_LINE_MAX);
			return -1;
		}
		r = poll(&pfd, 1, ms_until(deadline));
		if (r == 0)
			return 0;
		n = r < 0 ? -1 : recv(c->fd, c->buf + c->len, CONTROL_LINE_MAX - c->len, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0) {
			fail(error, "the daemon cannot be read from: %s", strerror(errno));
			return -1;
		}
		if (n == 0) {
			fail(error, "the daemon has closed the connection");
			return -1;
		}
		c->len += (size_t)n;
	}
	*end = '\0';
	*object = json_tokener_parse_verbose(c->buf, &what);
	if (!json_object_is_type(*object, json_type_object)) {
		json_object_put(*object);
		fail(error, "the daemon sent what is no object: %.60s", c->buf);
		return -1;
	}
	c->len -= (size_t)(end + 1 - c->buf);
	memmove(c->buf, end + 1, c->len);
	return 1;
}

/**
 * client_connect - connect to a daemon and read its greeting
 * @c: out
 * @path: of its socket
 * @timeout_ms: for the greeting; negative: no limit
 * @error: CLIENT_ERROR_MAX bytes for a sentence
 *
 * Return: whether it is connected; client_close() is to be called only then.
 */
bool client_connect(struct client *c, const char *path, int timeout_ms, char *error)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	long long deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	struct json_object *object, *api;
	int r;

	memset(c, 0, sizeof(*c));
	c->fd = -1;
	if (strlen(path) >= sizeof(sa.sun_path))
		return fail(error, "%s: expected a path of at most %zu bytes", path,
			    sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	c->buf = malloc(CONTROL_LINE_MAX);
	c->events = json_object_new_array();
	if (!c->buf || !c->events) {
		client_close(c);
		return fail(error, "out of memory");
	}
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = errno;
		client_close(c);
		if (r == ENOENT || r == ECONNREFUSED)
			return fail(error, "%s: no daemon listens there", path);
		return fail(error, "%s: %s", path, strerror(r));
	}
	r = read_object(c, deadline, &object, error);
	if (r <= 0) {
		client_close(c);
		return r < 0 ? false : fail(error, "%s: the daemon does not greet", path);
	}
	c->greeting = json_object_get(json_object_object_get(object, "repagent"));
	if (!c->greeting) {
		/* It may have said why. */
		json_object_object_get_ex(object, "error", &api);
		json_object_object_get_ex(api, "desc", &api);
		fail(error, "%s: %s", path, api ? json_object_get_string(api) : "that is no repagentd");
		json_object_put(object);
		client_close(c);
		return false;
	}
	json_object_put(object);
	if (!json_object_object_get_ex(c->greeting, "api", &api) ||
	    json_object_get_int(api) != CONTROL_API) {
		fail(error, "%s: the daemon's control API is %s, and not %d; install what belongs together",
		     path, api ? json_object_get_string(api) : "unknown", CONTROL_API);
		client_close(c);
		return false;
	}
	return true;
}

static bool send_all(struct client *c, const char *data, size_t len, char *error)
{
	while (len) {
		ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(error, "the daemon takes no request: %s", strerror(errno));
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static bool send_request(struct client *c, const char *command,
			 struct json_object *arguments, char *error)
{
	struct json_object *request = json_object_new_object();
	const char *text;
	char *line;
	size_t len;
	bool ok;

	json_object_object_add(request, "execute", json_object_new_string(command));
	if (arguments)
		json_object_object_add(request, "arguments", arguments);
	json_object_object_add(request, "id", json_object_new_int64(++c->last_id));
	text = json_object_to_json_string_length(request, JSON_C_TO_STRING_PLAIN |
						 JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	line = text ? malloc(len + 1) : NULL;
	if (!line) {
		json_object_put(request);
		return fail(error, "out of memory");
	}
	memcpy(line, text, len);
	line[len] = '\n';
	ok = len < CONTROL_LINE_MAX ? send_all(c, line, len + 1, error) :
	     fail(error, "the request has more than %d bytes", CONTROL_LINE_MAX);
	free(line);
	json_object_put(request);
	return ok;
}

/* Whether an object is the answer that is awaited. */
static bool is_answer(const struct client *c, struct json_object *object)
{
	struct json_object *id;

	return json_object_object_get_ex(object, "id", &id) &&
	       json_object_is_type(id, json_type_int) && json_object_get_int64(id) == c->last_id;
}

/**
 * client_call - execute one command
 * @c: the connection
 * @command: its name
 * @arguments: an object, which now belongs to the call, or NULL
 * @timeout_ms: for the answer; negative: no limit
 * @result: out: what it returned, to be put; may be NULL
 * @class: out: CLIENT_CLASS_MAX bytes for the class of an error that the daemon
 *	answered; empty if there was no answer at all
 * @error: CLIENT_ERROR_MAX bytes for a sentence
 *
 * Return: whether it was executed.  Events that come meanwhile are kept.
 */
bool client_call(struct client *c, const char *command, struct json_object *arguments,
		 int timeout_ms, struct json_object **result, char *class, char *error)
{
	long long deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	struct json_object *object, *value, *text;
	bool ok;
	int r;

	*class = '\0';
	if (!send_request(c, command, arguments, error))
		return false;
	for (;;) {
		r = read_object(c, deadline, &object, error);
		if (r <= 0)
			return r < 0 ? false : fail(error, "the daemon does not answer %s", command);
		if (is_answer(c, object))
			break;
		if (json_object_object_get_ex(object, "event", NULL) &&
		    json_object_array_length(c->events) < EVENTS_MAX)
			json_object_array_add(c->events, object);
		else
			json_object_put(object);
	}
	ok = json_object_object_get_ex(object, "return", &value);
	if (ok && result)
		*result = json_object_get(value);
	if (!ok) {
		json_object_object_get_ex(object, "error", &value);
		json_object_object_get_ex(value, "class", &text);
		snprintf(class, CLIENT_CLASS_MAX, "%s", text ? json_object_get_string(text) : "");
		json_object_object_get_ex(value, "desc", &text);
		fail(error, "%s", text ? json_object_get_string(text) : "the daemon gives no reason");
	}
	json_object_put(object);
	return ok;
}

/**
 * client_event - wait for an event
 * @c: the connection, which has executed subscribe
 * @timeout_ms: how long; negative: no limit
 * @event: out: the event, to be put
 * @error: CLIENT_ERROR_MAX bytes for a sentence
 *
 * Return: 1; 0 if none came; -1 if the connection is at its end.
 */
int client_event(struct client *c, int timeout_ms, struct json_object **event, char *error)
{
	long long deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	int r;

	if (json_object_array_length(c->events)) {
		*event = json_object_get(json_object_array_get_idx(c->events, 0));
		json_object_array_del_idx(c->events, 0, 1);
		return 1;
	}
	for (;;) {
		r = read_object(c, deadline, event, error);
		if (r <= 0 || json_object_object_get_ex(*event, "event", NULL))
			return r;
		json_object_put(*event);	/* an answer that nobody waits for any more */
	}
}

/**
 * client_close - end a connection
 * @c: the connection
 */
void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	json_object_put(c->greeting);
	json_object_put(c->events);
	free(c->buf);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}
