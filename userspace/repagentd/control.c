// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Whatever a client does, it costs the replication a bounded time per turn of
 * the loop and a bounded memory:
 *
 *	clients		CONTROL_CLIENTS, one request of each a turn
 *	input		one line; who has not all of it said holds LINE_MAX bytes
 *	JSON		NODES_MAX objects and lists, NESTED_MAX deep
 *	output		OUT_MAX; what is behind OUT_WAIT makes its requests wait
 *	silence		who leaves output unread for STALL is dropped
 *
 * A client is marked dead where that is noticed, and freed in control_run(),
 * for epoll may have told of it more than once in a turn.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/client.h"
#include "../common/log.h"
#include "../common/parse.h"
#include "../common/uri.h"
#include "control.h"

#define LINE_MAX	CONTROL_LINE_MAX
#define OUT_MAX		(128 * 1024)
#define OUT_WAIT	(64 * 1024)
#define STALL		(30 * NSEC_PER_SEC)
#define SPARED		NSEC_PER_SEC	/* who spoke within that is not dropped for another */
#define NESTED_MAX	8
#define NODES_MAX	256
#define BACKLOG		64
#define ACCEPTS		16		/* in one turn */
#define ERROR_MAX	2048

/* struct buffer - bytes [start, end) of data are in use. */
struct buffer {
	char *data;
	size_t start, end, size;
};

/*
 * struct peer - a client.
 * @serial:	never given twice, so that a late answer finds its client or none
 * @pending:	calls without an answer
 * @scanned:	bytes of in that hold no newline
 * @heard:	when it said something last
 * @moved:	when it took something last, or nothing was waiting for it
 */
struct peer {
	struct watch watch;
	struct control *control;
	int fd;
	bool dead;
	bool subscribed;
	bool closing;		/* once its output is written */
	bool ended;		/* it will say nothing more, but may wait for answers */
	uint64_t serial;
	unsigned int pending;
	uint32_t interest;
	size_t scanned;
	uint64_t heard;
	uint64_t moved;
	struct buffer in, out;
};

struct control {
	struct watch watch;
	struct loop *loop;
	int fd;			/* that listens; -1 in tests */
	int lock;
	char path[CONTROL_PATH_MAX];
	const char *group;
	const struct command *commands;
	void *owner;
	uint64_t serials;
	unsigned int subscribers;
	struct json_tokener *parser;
	struct peer *peer[CONTROL_CLIENTS];
};

struct call {
	struct control *control;
	uint64_t serial;
	struct json_object *id;
};

/* --- Buffers ------------------------------------------------------------ */

static size_t used(const struct buffer *b)
{
	return b->end - b->start;
}

/* Room for some bytes behind what is there. */
static bool make_room(struct buffer *b, size_t more)
{
	size_t want = used(b) + more, size = b->size ? b->size : 2048;
	char *data;

	if (b->start && b->size - b->end < more) {
		memmove(b->data, b->data + b->start, used(b));
		b->end -= b->start;
		b->start = 0;
	}
	if (b->size - b->end >= more)
		return true;
	while (size < want)
		size *= 2;
	data = realloc(b->data, size);
	if (!data)
		return false;
	b->data = data;
	b->size = size;
	return true;
}

/* An idle client costs no buffers. */
static void consume(struct buffer *b, size_t n)
{
	b->start += n;
	if (b->start == b->end) {
		free(b->data);
		memset(b, 0, sizeof(*b));
	}
}

/* --- Output ------------------------------------------------------------- */

static void drop(struct peer *p, const char *why)
{
	if (p->dead)
		return;
	p->dead = true;
	if (why)
		log_warn("control: a client is dropped: %s", why);
}

static void flush(struct peer *p)
{
	ssize_t n;

	while (!p->dead && used(&p->out)) {
		n = send(p->fd, p->out.data + p->out.start, used(&p->out),
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			drop(p, NULL);	/* it went */
			return;
		}
		consume(&p->out, (size_t)n);
		p->moved = p->control->loop->now;
	}
}

static const char *line_of(struct json_object *object, size_t *len)
{
	*len = 0;
	return json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN |
						 JSON_C_TO_STRING_NOSLASHESCAPE, len);
}

/* Bytes of the sequence of UTF-8 at s; 0 if it is none. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
	static const struct { unsigned char mask, lead; uint32_t min; } kind[] = {
		{ 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 },
	};
	size_t n, i;
	uint32_t c;

	for (n = 0; n < 4 && (*s & kind[n].mask) != kind[n].lead; n++)
		;
	if (n == 4 || n >= left)
		return 0;
	c = *s & (unsigned char)~kind[n].mask;
	for (i = 1; i <= n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < kind[n].min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n + 1;
}

/* A sentence may have been cut within a letter, or hold what a hub said. */
static void mend_utf8(char *text, size_t len)
{
	size_t i, n;

	for (i = 0; i < len; i += n ? n : 1) {
		n = utf8_length((const unsigned char *)text + i, len - i);
		if (!n)
			text[i] = '?';
	}
}

/* One line for a client; the object is put. */
static void say(struct peer *p, struct json_object *object)
{
	size_t len;
	const char *text = line_of(object, &len);

	if (!p->dead && (!text || len >= LINE_MAX)) {
		drop(p, "an answer has no place in a line");
	} else if (!p->dead && used(&p->out) + len + 1 > OUT_MAX) {
		drop(p, "it does not read what it is sent");
	} else if (!p->dead && !make_room(&p->out, len + 1)) {
		drop(p, "out of memory");
	} else if (!p->dead) {
		if (!used(&p->out))
			p->moved = p->control->loop->now;
		memcpy(p->out.data + p->out.end, text, len);
		mend_utf8(p->out.data + p->out.end, len);
		p->out.data[p->out.end + len] = '\n';
		p->out.end += len + 1;
		flush(p);
	}
	json_object_put(object);
}

static struct json_object *error_object(const char *class, const char *desc,
					struct json_object *id)
{
	struct json_object *answer = json_object_new_object(), *error = json_object_new_object();

	json_object_object_add(error, "class", json_object_new_string(class));
	json_object_object_add(error, "desc", json_object_new_string(desc));
	json_object_object_add(answer, "error", error);
	json_object_object_add(answer, "id", id);
	return answer;
}

/* --- Calls -------------------------------------------------------------- */

static struct peer *peer_of(const struct call *call)
{
	struct control *c = call->control;
	unsigned int i;

	for (i = 0; i < CONTROL_CLIENTS; i++)
		if (c->peer[i] && c->peer[i]->serial == call->serial)
			return c->peer[i];
	return NULL;
}

static void answer(struct call *call, struct json_object *object)
{
	struct peer *p = peer_of(call);
	struct json_object *id = NULL;
	size_t len;

	line_of(object, &len);
	if (len >= LINE_MAX) {
		json_object_object_get_ex(object, "id", &id);
		id = json_object_get(id);
		json_object_put(object);
		object = error_object("Failed", "the answer has more than 65536 bytes", id);
	}
	if (p) {
		p->pending--;
		say(p, object);
	} else {
		json_object_put(object);	/* it did not wait */
	}
	free(call);
}

/**
 * call_return - answer a call
 * @call: the call, which ends; NULL: nobody asked
 * @value: what it returns; NULL: an empty object
 */
void call_return(struct call *call, struct json_object *value)
{
	struct json_object *object;

	if (!call) {
		json_object_put(value);
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "return", value ? value : json_object_new_object());
	json_object_object_add(object, "id", call->id);
	answer(call, object);
}

/**
 * call_fail - answer a call with an error
 * @call: the call, which ends; NULL: nobody asked
 * @class: of the error
 * @fmt: of a sentence
 */
void call_fail(struct call *call, const char *class, const char *fmt, ...)
{
	char desc[ERROR_MAX];
	va_list ap;

	if (!call)
		return;
	va_start(ap, fmt);
	vsnprintf(desc, sizeof(desc), fmt, ap);
	va_end(ap);
	answer(call, error_object(class, desc, call->id));
}

/**
 * call_subscribe - send the client of a call all events from now on
 * @call: the call
 */
void call_subscribe(struct call *call)
{
	struct peer *p = peer_of(call);

	if (p && !p->subscribed) {
		p->subscribed = true;
		call->control->subscribers++;
	}
}

/* --- Requests ----------------------------------------------------------- */

static const char *const type_words[] = {
	[ARG_NAME]   = "a name of 1 to 31 letters, digits, '_', '.' or '-', not beginning with '.' or '-'",
	[ARG_TEXT]   = "a text",
	[ARG_TEXTS]  = "a text, or a list of texts",
	[ARG_BOOL]   = "true or false",
	[ARG_COUNT]  = "a number without a fraction, from 0",
	[ARG_NUMBER] = "a number above 0",
};

/* A text that is what C takes it for. */
static bool is_text(struct json_object *value)
{
	return json_object_is_type(value, json_type_string) &&
	       strlen(json_object_get_string(value)) == (size_t)json_object_get_string_len(value);
}

static bool are_texts(struct json_object *value)
{
	size_t i;

	if (!json_object_is_type(value, json_type_array))
		return is_text(value);
	for (i = 0; i < json_object_array_length(value); i++)
		if (!is_text(json_object_array_get_idx(value, i)))
			return false;
	return i > 0;
}

static bool fits(enum argument_type type, struct json_object *value)
{
	double d;

	switch (type) {
	case ARG_NAME:
		return is_text(value) && uri_name_ok(json_object_get_string(value));
	case ARG_TEXT:
		return is_text(value);
	case ARG_TEXTS:
		return are_texts(value);
	case ARG_BOOL:
		return json_object_is_type(value, json_type_boolean);
	case ARG_COUNT:
		return json_object_is_type(value, json_type_int) && json_object_get_int64(value) >= 0;
	case ARG_NUMBER:
		if (!json_object_is_type(value, json_type_int) &&
		    !json_object_is_type(value, json_type_double))
			return false;
		d = json_object_get_double(value);
		return isfinite(d) && d > 0;
	case ARG_END:
		break;
	}
	return false;
}

static const struct argument *find_argument(const struct command *cmd, const char *name)
{
	const struct argument *a;

	for (a = cmd->arguments; a->type != ARG_END; a++)
		if (!strcmp(a->name, name))
			return a;
	return NULL;
}

/* "'x' is unknown" and what is known. */
static void unknown_argument(const struct command *cmd, const char *name, char *error)
{
	const struct argument *a;
	char list[256] = "none";
	size_t n = 0;

	for (a = cmd->arguments; a->type != ARG_END; a++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", a->name);
	snprintf(error, ERROR_MAX, "'%.80s' is unknown: expected %s", name, list);
}

static bool check_arguments(const struct command *cmd, struct json_object *arguments,
			    char *error)
{
	struct json_object *value;
	const struct argument *a;

	if (arguments) {
		json_object_object_foreach(arguments, key, given) {
			a = find_argument(cmd, key);
			if (!a) {
				unknown_argument(cmd, key, error);
				return false;
			}
			if (!fits(a->type, given)) {
				snprintf(error, ERROR_MAX, "%s %.80s: expected %s", a->name,
					 json_object_to_json_string_ext(given, JSON_C_TO_STRING_PLAIN),
					 type_words[a->type]);
				return false;
			}
		}
	}
	for (a = cmd->arguments; a->type != ARG_END; a++) {
		if (a->required && !json_object_object_get_ex(arguments, a->name, &value)) {
			snprintf(error, ERROR_MAX, "%s is missing: expected %s", a->name,
				 type_words[a->type]);
			return false;
		}
	}
	return true;
}

/* Whether an object is a request, but for its arguments; all out pointers are borrowed. */
static bool check_request(struct json_object *request, struct json_object **execute,
			  struct json_object **arguments, char *error)
{
	*execute = *arguments = NULL;
	json_object_object_foreach(request, key, value) {
		if (!strcmp(key, "execute")) {
			*execute = value;
		} else if (!strcmp(key, "arguments")) {
			*arguments = value;
			if (!json_object_is_type(value, json_type_object)) {
				snprintf(error, ERROR_MAX, "arguments: expected an object");
				return false;
			}
		} else if (strcmp(key, "id")) {
			snprintf(error, ERROR_MAX, "'%.80s' is unknown: expected execute, arguments, id", key);
			return false;
		}
	}
	if (*execute && is_text(*execute))
		return true;
	snprintf(error, ERROR_MAX, *execute ? "execute: expected a text" :
		 "execute is missing: expected the name of a command");
	return false;
}

static void execute(struct peer *p, struct json_object *request)
{
	struct json_object *name, *arguments, *id = NULL;
	const struct command *cmd;
	char error[ERROR_MAX];
	struct call *call;

	json_object_object_get_ex(request, "id", &id);
	if (!check_request(request, &name, &arguments, error)) {
		say(p, error_object("InvalidRequest", error, json_object_get(id)));
		return;
	}
	for (cmd = p->control->commands; cmd->name; cmd++)
		if (!strcmp(cmd->name, json_object_get_string(name)))
			break;
	if (!cmd->name) {
		snprintf(error, sizeof(error), "'%.80s' is unknown: query-commands lists the commands",
			 json_object_get_string(name));
		say(p, error_object("CommandNotFound", error, json_object_get(id)));
		return;
	}
	if (!check_arguments(cmd, arguments, error)) {
		say(p, error_object("InvalidArgument", error, json_object_get(id)));
		return;
	}
	call = calloc(1, sizeof(*call));
	if (!call) {
		say(p, error_object("Failed", "out of memory", json_object_get(id)));
		return;
	}
	call->control = p->control;
	call->serial = p->serial;
	call->id = json_object_get(id);
	p->pending++;
	cmd->run(p->control->owner, call, arguments);
}

static size_t count_nodes(const char *line, size_t len)
{
	size_t i, n = 0;

	for (i = 0; i < len; i++)
		n += line[i] == '{' || line[i] == '[';
	return n;
}

static void take_line(struct peer *p, const char *line, size_t len)
{
	struct json_tokener *parser = p->control->parser;
	struct json_object *request;
	char error[ERROR_MAX] = "";
	size_t end;

	while (len && isspace((unsigned char)line[len - 1]))
		len--;
	if (!len)
		return;
	/* Each costs some hundred bytes, however few it takes to say it. */
	if (count_nodes(line, len) > NODES_MAX) {
		say(p, error_object("InvalidJSON", "expected at most 256 objects and lists in a line", NULL));
		return;
	}
	json_tokener_reset(parser);
	request = json_tokener_parse_ex(parser, line, (int)len);
	end = json_tokener_get_parse_end(parser);
	if (json_tokener_get_error(parser) == json_tokener_continue)
		snprintf(error, sizeof(error), "expected one JSON object a line: it is not complete");
	else if (json_tokener_get_error(parser) != json_tokener_success)
		snprintf(error, sizeof(error), "expected one JSON object a line: %s at byte %zu",
			 json_tokener_error_desc(json_tokener_get_error(parser)), end + 1);
	else if (end != len)
		snprintf(error, sizeof(error), "expected one JSON object a line: there is more from byte %zu on",
			 end + 1);
	else if (!json_object_is_type(request, json_type_object))
		snprintf(error, sizeof(error), "expected one JSON object a line, and no other value");
	if (error[0])
		say(p, error_object("InvalidJSON", error, NULL));
	else
		execute(p, request);
	json_object_put(request);
}

/* --- Input -------------------------------------------------------------- */

static const char *line_end(struct peer *p)
{
	const char *end;

	if (used(&p->in) == p->scanned)
		return NULL;
	end = memchr(p->in.data + p->in.start + p->scanned, '\n', used(&p->in) - p->scanned);
	if (!end)
		p->scanned = used(&p->in);
	return end;
}

static void read_some(struct peer *p)
{
	size_t room = LINE_MAX - used(&p->in);
	ssize_t n;

	if (room > 4096)
		room = 4096;
	if (!room)
		return;
	if (!make_room(&p->in, room)) {
		drop(p, "out of memory");
		return;
	}
	n = recv(p->fd, p->in.data + p->in.end, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		consume(&p->in, 0);
		return;
	}
	if (n < 0) {
		drop(p, NULL);
		return;
	}
	p->ended = !n;
	p->in.end += (size_t)n;
	p->heard = p->control->loop->now;
}

static bool may_speak(const struct peer *p)
{
	return !p->dead && !p->closing && used(&p->out) < OUT_WAIT;
}

/* At most one line.  Return whether there is another one. */
static bool take_input(struct peer *p)
{
	const char *end = may_speak(p) ? line_end(p) : NULL;
	size_t len;

	if (!end) {
		if (may_speak(p) && p->scanned == LINE_MAX) {
			p->closing = true;
			say(p, error_object("LineTooLong",
					    "a line has more than 65536 bytes; the connection is closed", NULL));
		}
		return false;
	}
	len = (size_t)(end - p->in.data) - p->in.start;
	p->scanned = 0;
	take_line(p, p->in.data + p->in.start, len);
	consume(&p->in, len + 1);
	return may_speak(p) && line_end(p);
}

static void set_interest(struct peer *p)
{
	struct epoll_event ev = { .data.ptr = &p->watch };

	/* Who waits to be answered is still heard going. */
	ev.events = (used(&p->out) ? EPOLLOUT : 0) |
		    (may_speak(p) && !p->ended && !line_end(p) ? EPOLLIN : 0);
	if (ev.events == p->interest)
		return;
	p->interest = ev.events;
	epoll_ctl(p->control->loop->epfd, EPOLL_CTL_MOD, p->fd, &ev);
}

static void peer_ready(struct watch *watch, uint32_t events)
{
	struct peer *p = (struct peer *)watch;

	if (p->dead)
		return;
	if (events & EPOLLOUT)
		flush(p);
	if (events & EPOLLIN && !p->dead)
		read_some(p);
	else if (events & (EPOLLHUP | EPOLLERR) && !(may_speak(p) && line_end(p)))
		drop(p, NULL);	/* what it had said before is carried out */
}

/* --- Clients ------------------------------------------------------------ */

static void free_peer(struct control *c, unsigned int i)
{
	struct peer *p = c->peer[i];

	c->peer[i] = NULL;
	c->subscribers -= p->subscribed;
	/* A process that was forked just now may have it still, and then epoll would. */
	epoll_ctl(c->loop->epfd, EPOLL_CTL_DEL, p->fd, NULL);
	close(p->fd);
	free(p->in.data);
	free(p->out.data);
	free(p);
}

static int free_place(const struct control *c)
{
	int i;

	for (i = 0; i < CONTROL_CLIENTS; i++)
		if (!c->peer[i])
			return i;
	return -1;
}

/*
 * Have the one that was silent longest go, for another one waits.  Return
 * whether there will be a place: in the next turn, for this turn's events may
 * still name the one that goes.
 */
static bool spare_one(struct control *c)
{
	struct peer *oldest = NULL;
	unsigned int i;

	for (i = 0; i < CONTROL_CLIENTS; i++) {
		struct peer *p = c->peer[i];

		if (p->dead)
			return true;
		if (p->subscribed || p->pending || c->loop->now - p->heard < SPARED)
			continue;
		if (!oldest || p->heard < oldest->heard)
			oldest = p;
	}
	if (oldest)
		drop(oldest, "another one connects, and it was silent longest");
	return oldest;
}

static void turn_away(int fd)
{
	struct json_object *object = error_object("TooManyClients", "32 clients are connected already", NULL);
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	struct iovec line[2] = {
		{ .iov_base = (void *)text, .iov_len = strlen(text) },
		{ .iov_base = "\n", .iov_len = 1 },
	};
	struct msghdr msg = { .msg_iov = line, .msg_iovlen = 2 };

	log_warn("control: a client is turned away: %d are connected, and none can be spared",
		 CONTROL_CLIENTS);
	if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_info("control: it was gone already");
	json_object_put(object);
	close(fd);
}

static void greet(struct peer *p)
{
	struct json_object *object = json_object_new_object(), *about = json_object_new_object();

	json_object_object_add(about, "version", json_object_new_string(REPAGENT_VERSION));
	json_object_object_add(about, "api", json_object_new_int(CONTROL_API));
	json_object_object_add(about, "group", json_object_new_string(p->control->group));
	json_object_object_add(object, "repagent", about);
	say(p, object);
}

/**
 * control_add - a client has connected
 * @c: the control socket
 * @fd: of the connection, which now belongs to it
 */
void control_add(struct control *c, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int i = free_place(c);
	struct peer *p;

	if (i < 0) {
		turn_away(fd);
		return;
	}
	p = calloc(1, sizeof(*p));
	ev.data.ptr = &p->watch;
	if (!p || epoll_ctl(c->loop->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		free(p);
		close(fd);
		return;
	}
	p->watch.ready = peer_ready;
	p->control = c;
	p->fd = fd;
	p->serial = ++c->serials;
	p->interest = EPOLLIN;
	p->heard = p->moved = c->loop->now;
	c->peer[i] = p;
	greet(p);
}

static void listener_ready(struct watch *watch, uint32_t events)
{
	struct control *c = (struct control *)watch;
	unsigned int i;
	int fd;

	(void)events;
	for (i = 0; i < ACCEPTS; i++) {
		if (free_place(c) < 0 && spare_one(c))
			return;
		fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		control_add(c, fd);
	}
}

/* It said its last, and all is answered. */
static bool is_done(struct peer *p)
{
	return p->ended && !p->pending && !p->subscribed && !line_end(p);
}

/**
 * control_run - take requests, send answers, free who went; once a turn
 * @c: the control socket, or NULL
 *
 * Return: when to call it again if nothing else happens, ns; 0: at once;
 * UINT64_MAX: there is no hurry.
 */
uint64_t control_run(struct control *c)
{
	uint64_t when = UINT64_MAX;
	unsigned int i;

	for (i = 0; c && i < CONTROL_CLIENTS; i++) {
		struct peer *p = c->peer[i];

		if (!p)
			continue;
		if (take_input(p))
			when = 0;
		if (used(&p->out) && c->loop->now - p->moved >= STALL)
			drop(p, "it has not read what it was sent for 30 s");
		if (p->dead || (!used(&p->out) && (p->closing || is_done(p)))) {
			free_peer(c, i);
			continue;
		}
		set_interest(p);
		if (used(&p->out) && p->moved + STALL < when)
			when = p->moved + STALL;
	}
	return when;
}

/**
 * control_heard - whether anybody listens to events
 * @c: the control socket, or NULL
 */
bool control_heard(const struct control *c)
{
	return c && c->subscribers;
}

/**
 * control_event - tell those who subscribed
 * @c: the control socket, or NULL
 * @event: its name
 * @data: its data, which is put
 */
void control_event(struct control *c, const char *event, struct json_object *data)
{
	struct json_object *object, *stamp;
	struct timeval now;
	unsigned int i;

	if (!control_heard(c)) {
		json_object_put(data);
		return;
	}
	gettimeofday(&now, NULL);
	stamp = json_object_new_object();
	json_object_object_add(stamp, "seconds", json_object_new_int64(now.tv_sec));
	json_object_object_add(stamp, "microseconds", json_object_new_int64(now.tv_usec));
	object = json_object_new_object();
	json_object_object_add(object, "event", json_object_new_string(event));
	json_object_object_add(object, "data", data);
	json_object_object_add(object, "timestamp", stamp);
	for (i = 0; i < CONTROL_CLIENTS; i++)
		if (c->peer[i] && c->peer[i]->subscribed && !c->peer[i]->closing)
			say(c->peer[i], json_object_get(object));
	json_object_put(object);
}

/* --- Life --------------------------------------------------------------- */

static gid_t owner_group(void)
{
	struct group *g = getgrnam("repagent");

	if (g)
		return g->gr_gid;
	log_info("control: there is no group 'repagent': only root may connect");
	return 0;
}

/* Who has the lock, is the only one to listen there.  Its process stands in it. */
static bool take_lock(struct control *c, int *holder)
{
	char path[CONTROL_PATH_MAX + 8], text[16] = "";
	ssize_t n;

	snprintf(path, sizeof(path), "%s.lock", c->path);
	c->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->lock < 0) {
		log_err("%s: %s", path, strerror(errno));
		return false;
	}
	if (flock(c->lock, LOCK_EX | LOCK_NB) < 0) {
		n = pread(c->lock, text, sizeof(text) - 1, 0);
		*holder = n > 0 && atoi(text) > 0 ? atoi(text) : 0;
		return false;
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(c->lock, 0) < 0 || pwrite(c->lock, text, (size_t)n, 0) != n)
		log_info("%s: %s", path, strerror(errno));
	return true;
}

static bool listen_on(struct control *c)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &c->watch };
	mode_t mask;
	bool ok;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", c->path);
	unlink(c->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	ok = c->fd >= 0 && !bind(c->fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(mask);
	/* Nobody can connect before it listens, and none but its owners after that. */
	if (ok && (chown(c->path, 0, owner_group()) < 0 || chmod(c->path, 0660) < 0))
		log_warn("%s: %s: only user %d may connect", c->path, strerror(errno), (int)getuid());
	if (!ok || listen(c->fd, BACKLOG) < 0 ||
	    epoll_ctl(c->loop->epfd, EPOLL_CTL_ADD, c->fd, &ev) < 0) {
		log_err("control: %s: %s", c->path, strerror(errno));
		return false;
	}
	return true;
}

static void make_folder(const char *path)
{
	char folder[CONTROL_PATH_MAX];
	char *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		return;
	*slash = '\0';
	if (mkdir(folder, 0755) < 0 && errno != EEXIST)
		log_err("control: %s: %s", folder, strerror(errno));
}

/**
 * control_new_bare - clients without a socket that listens: control_add() brings them
 * @loop: the loop they live on
 * @group: the group's name, for the greeting; must outlive it
 * @commands: ends with a name that is NULL
 * @owner: for the commands
 *
 * Return: it, or NULL without memory.
 */
struct control *control_new_bare(struct loop *loop, const char *group,
				 const struct command *commands, void *owner)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->watch.ready = listener_ready;
	c->loop = loop;
	c->fd = c->lock = -1;
	c->group = group;
	c->commands = commands;
	c->owner = owner;
	c->parser = json_tokener_new_ex(NESTED_MAX);
	if (!c->parser) {
		free(c);
		return NULL;
	}
	json_tokener_set_flags(c->parser, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS |
			       JSON_TOKENER_VALIDATE_UTF8);
	return c;
}

/**
 * control_new - listen
 * @loop: the loop it lives on
 * @path: of the socket; its folder is made if there is none
 * @group: as in control_new_bare()
 * @commands: as there
 * @owner: as there
 * @holder: out: -1, or the process that has the socket already; 0 if that is unknown
 *
 * Return: it, or NULL (a line was logged, but where there is a @holder).
 */
struct control *control_new(struct loop *loop, const char *path, const char *group,
			    const struct command *commands, void *owner, int *holder)
{
	struct control *c = control_new_bare(loop, group, commands, owner);

	*holder = -1;
	if (!c)
		return NULL;
	if (strlen(path) >= sizeof(c->path)) {
		log_err("control: '%s': expected a path of at most %d bytes", path, CONTROL_PATH_MAX - 1);
		control_free(c);
		return NULL;
	}
	snprintf(c->path, sizeof(c->path), "%s", path);
	make_folder(path);
	if (!take_lock(c, holder)) {
		c->path[0] = '\0';
		control_free(c);
		return NULL;
	}
	if (!listen_on(c)) {
		control_free(c);
		return NULL;
	}
	return c;
}

/**
 * control_free - end all connections, after a last try to send what they wait for
 * @c: the control socket, or NULL
 */
void control_free(struct control *c)
{
	unsigned int i;

	if (!c)
		return;
	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (c->peer[i]) {
			flush(c->peer[i]);
			free_peer(c, i);
		}
	}
	if (c->fd >= 0) {
		unlink(c->path);
		close(c->fd);
	}
	if (c->lock >= 0)
		close(c->lock);
	json_tokener_free(c->parser);
	free(c);
}
