// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control socket's protocol, and what clients may not do to it, without a
 * daemon behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/common/client.h"
#include "../../userspace/common/parse.h"
#include "../../userspace/repagentd/control.h"

#define TURNS	20000

static struct loop loop;
static struct control *control;
static struct call *kept;
static char heard[400000];
static char long_text[10000];

static void echo(void *owner, struct call *call, struct json_object *arguments)
{
	(void)owner;
	call_return(call, json_object_get(arguments));
}

static void keep(void *owner, struct call *call, struct json_object *arguments)
{
	(void)owner;
	(void)arguments;
	kept = call;
}

static void subscribe(void *owner, struct call *call, struct json_object *arguments)
{
	(void)owner;
	(void)arguments;
	call_subscribe(call);
	call_return(call, NULL);
}

/* An answer that is as long as one may be. */
static void much(void *owner, struct call *call, struct json_object *arguments)
{
	(void)owner;
	(void)arguments;
	call_return(call, json_object_new_string_len(long_text, 10000));
}

static const struct argument none[] = { { NULL, ARG_END, false } };
static const struct argument every[] = {
	{ "volume", ARG_NAME, true }, { "text", ARG_TEXT, false }, { "texts", ARG_TEXTS, false },
	{ "bool", ARG_BOOL, false }, { "count", ARG_COUNT, false }, { "number", ARG_NUMBER, false },
	{ NULL, ARG_END, false },
};

static const struct command commands[] = {
	{ "echo", every, echo }, { "keep", none, keep }, { "subscribe", none, subscribe },
	{ "much", none, much }, { NULL, NULL, NULL },
};

static void turn(void)
{
	struct epoll_event ev[64];
	int i, n;

	loop.now += NSEC_PER_MSEC;
	control_run(control);
	n = epoll_wait(loop.epfd, ev, 64, 0);
	for (i = 0; i < n; i++) {
		struct watch *w = ev[i].data.ptr;

		w->ready(w, ev[i].events);
	}
}

static void turns(unsigned int n)
{
	while (n--)
		turn();
}

static int setup(void **state)
{
	(void)state;
	memset(long_text, 0x61, sizeof(long_text));
	loop.now = NSEC_PER_SEC;
	loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	control = control_new_bare(&loop, "vm0", commands, NULL);
	kept = NULL;
	return !control;
}

static int teardown(void **state)
{
	(void)state;
	control_free(control);
	close(loop.epfd);
	return 0;
}

static int join(void)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	control_add(control, fd[0]);
	return fd[1];
}

/* All that was said to a client; NULL once it was dropped. */
static const char *hear(int fd)
{
	size_t len = 0;
	ssize_t n;

	while ((n = recv(fd, heard + len, sizeof(heard) - 1 - len, MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	heard[len] = '\0';
	return n == 0 && !len ? NULL : heard;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What comes for a line. */
static const char *answer(int fd, const char *line)
{
	say(fd, line);
	say(fd, "\n");
	turns(4);
	return hear(fd);
}

static int greeted(void)
{
	int fd = join();

	assert_string_equal(hear(fd), "{\"repagent\":{\"version\":\"" REPAGENT_VERSION
			    "\",\"api\":1,\"group\":\"vm0\"}}\n");
	return fd;
}

static void test_requests(void **state)
{
	static const struct { const char *line, *answer; } good[] = {
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\"},\"id\":7}",
		  "{\"return\":{\"volume\":\"v\"},\"id\":7}\n" },
		{ " { \"id\" : {\"a\":[1]}, \"arguments\":{\"volume\":\"v\",\"texts\":[\"a\",\"b\"]}, \"execute\":\"echo\"}\r",
		  "{\"return\":{\"volume\":\"v\",\"texts\":[\"a\",\"b\"]},\"id\":{\"a\":[1]}}\n" },
		{ "{\"execute\":\"subscribe\"}", "{\"return\":{},\"id\":null}\n" },
		{ "", "" },
	};
	static const struct { const char *line, *class, *word; } bad[] = {
		{ "x", "InvalidJSON", "at byte" }, { "{", "InvalidJSON", "not complete" },
		{ "[]", "InvalidJSON", "no other value" }, { "1", "InvalidJSON", "" },
		{ "{} {}", "InvalidJSON", "there is more" },
		{ "{\"execute\":\"echo\",\"id\":\"\xff\"}", "InvalidJSON", "at byte" },
		{ "{\"id\":[[[[[[[[[[]]]]]]]]]]}", "InvalidJSON", "at byte" },
		{ "{}", "InvalidRequest", "execute is missing" },
		{ "{\"execute\":1}", "InvalidRequest", "expected a text" },
		{ "{\"execute\":\"echo\",\"arguments\":[]}", "InvalidRequest", "expected an object" },
		{ "{\"execute\":\"echo\",\"argument\":{}}", "InvalidRequest", "'argument' is unknown" },
		{ "{\"execute\":\"e\"}", "CommandNotFound", "'e' is unknown" },
		{ "{\"execute\":\"echo\"}", "InvalidArgument", "volume is missing" },
		{ "{\"execute\":\"keep\",\"arguments\":{\"x\":1}}", "InvalidArgument", "expected none" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"x\":1}}", "InvalidArgument",
		  "'x' is unknown: expected volume, text, texts, bool, count, number" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"-v\"}}", "InvalidArgument", "expected a name" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\\u0000w\"}}", "InvalidArgument", "expected a name" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":null}}", "InvalidArgument", "expected a name" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"text\":1}}", "InvalidArgument", "expected a text" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"texts\":[]}}", "InvalidArgument", "list of texts" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"texts\":[1]}}", "InvalidArgument", "list of texts" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"bool\":1}}", "InvalidArgument", "true or false" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"count\":-1}}", "InvalidArgument", "from 0" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"count\":1.5}}", "InvalidArgument", "from 0" },
		{ "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\",\"number\":0}}", "InvalidArgument", "above 0" },
	};
	char class[64];
	unsigned int i;
	int fd = greeted();

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_string_equal(answer(fd, good[i].line), good[i].answer);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *said = answer(fd, bad[i].line);

		snprintf(class, sizeof(class), "{\"error\":{\"class\":\"%s\"", bad[i].class);
		if (!said || strncmp(said, class, strlen(class)) || !strstr(said, bad[i].word))
			fail_msg("%s: %s", bad[i].line, said ? said : "dropped");
	}
	close(fd);
}

/* Byte by byte, and many in one go: each line has one answer. */
static void test_pieces(void **state)
{
	static const char line[] = "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\"}}\n";
	char many[100 * sizeof(line)] = "";
	unsigned int i, answers = 0;
	int fd = greeted();
	const char *p;

	(void)state;
	for (i = 0; line[i]; i++) {
		assert_string_equal(hear(fd), "");
		assert_int_equal(send(fd, line + i, 1, 0), 1);
		turns(2);
	}
	turns(2);
	assert_string_equal(hear(fd), "{\"return\":{\"volume\":\"v\"},\"id\":null}\n");
	for (i = 0; i < 100; i++)
		strcat(many, line);
	say(fd, many);
	shutdown(fd, SHUT_WR);		/* it says no more, and waits for its answers */
	turns(300);
	for (p = hear(fd); (p = strstr(p, "return")); p++)
		answers++;
	assert_int_equal(answers, 100);
	turns(4);
	assert_null(hear(fd));
	close(fd);
}

static void test_long_line(void **state)
{
	static char line[CONTROL_LINE_MAX + 1];
	int fd = greeted(), well = greeted();
	unsigned int i;
	ssize_t n;

	(void)state;
	memset(line, ' ', sizeof(line));
	for (i = 0, n = 0; i < TURNS && n < CONTROL_LINE_MAX; i++) {
		ssize_t r = send(fd, line + n, sizeof(line) - 1 - (size_t)n, MSG_NOSIGNAL);

		n += r > 0 ? r : 0;
		turn();
	}
	turns(40);
	assert_non_null(strstr(hear(fd), "LineTooLong"));
	turns(4);
	assert_null(hear(fd));
	assert_non_null(strstr(answer(well, "{\"execute\":\"subscribe\"}"), "return"));
	close(fd);
	close(well);
}

/* A few bytes must not become many megabytes. */
static void test_wide(void **state)
{
	static char line[60001];
	int fd = greeted();
	unsigned int i;

	(void)state;
	for (i = 0; i < 60000; i += 3)
		memcpy(line + i, "{},", 3);
	assert_int_equal(send(fd, line, 60000, 0), 60000);
	say(fd, "\n");
	turns(40);
	assert_non_null(strstr(hear(fd), "at most 256"));
	close(fd);
}

/* Who does not read is dropped, whether events or its own answers pile up. */
static void test_never_reads(void **state)
{
	int events = greeted(), asks = greeted(), well = greeted();
	struct json_object *data = json_object_new_string_len(long_text, 5000);
	unsigned int i;

	(void)state;
	say(events, "{\"execute\":\"subscribe\"}\n");
	turns(4);
	for (i = 0; i < 400; i++) {
		control_event(control, "E", json_object_get(data));
		if (send(asks, "{\"execute\":\"much\"}\n", 19, MSG_NOSIGNAL) < 0)
			turn();
		turn();
	}
	json_object_put(data);
	turns(4);
	assert_int_equal(send(events, "x", 1, MSG_NOSIGNAL), -1);
	/* The other one's requests wait, and half a minute later it goes too. */
	loop.now += 31 * NSEC_PER_SEC;
	turns(4);
	assert_int_equal(send(asks, "x", 1, MSG_NOSIGNAL), -1);
	assert_non_null(strstr(answer(well, "{\"execute\":\"subscribe\"}"), "return"));
	close(events);
	close(asks);
	close(well);
}

/* A sentence that is cut within a letter, and an answer that is too long, are still lines of JSON. */
static void test_answers_are_lines(void **state)
{
	char line[400] = "{\"execute\":\"a";
	struct json_object *o;
	const char *said;
	unsigned int i;
	int fd = greeted();

	(void)state;
	for (i = 0; i < 60; i++)
		strcat(line, "\xc3\xa9");
	strcat(line, "\"}");
	said = answer(fd, line);
	assert_non_null(strstr(said, "CommandNotFound"));
	assert_non_null(strstr(said, "\xc3\xa9\xc3\xa9?'"));
	assert_string_equal(answer(fd, "{\"execute\":\"keep\",\"id\":3}"), "");
	o = json_object_new_array();
	for (i = 0; i < 10; i++)
		json_object_array_add(o, json_object_new_string_len(long_text, sizeof(long_text)));
	call_return(kept, o);
	assert_string_equal(hear(fd), "{\"error\":{\"class\":\"Failed\",\"desc\":\"the answer has more than 65536 bytes\"},\"id\":3}\n");
	close(fd);
}

/* An answer that comes late finds its client, or nobody. */
static void test_late_answers(void **state)
{
	int fd = greeted(), other;

	(void)state;
	assert_string_equal(answer(fd, "{\"execute\":\"keep\",\"id\":1}"), "");
	assert_string_equal(answer(fd, "{\"execute\":\"echo\",\"arguments\":{\"volume\":\"v\"}}"),
			    "{\"return\":{\"volume\":\"v\"},\"id\":null}\n");
	call_fail(kept, "Failed", "no");
	assert_string_equal(hear(fd), "{\"error\":{\"class\":\"Failed\",\"desc\":\"no\"},\"id\":1}\n");
	assert_string_equal(answer(fd, "{\"execute\":\"keep\",\"id\":2}"), "");
	close(fd);
	turns(4);
	other = greeted();		/* in the same place */
	call_return(kept, NULL);
	turns(4);
	assert_string_equal(hear(other), "");
	close(other);
}

static void test_events(void **state)
{
	int fd = greeted(), other = greeted();

	(void)state;
	assert_false(control_heard(control));
	answer(fd, "{\"execute\":\"subscribe\"}");
	assert_true(control_heard(control));
	control_event(control, "E", json_object_new_int(1));
	assert_non_null(strstr(hear(fd), "{\"event\":\"E\",\"data\":1,\"timestamp\":{\"seconds\":"));
	assert_string_equal(hear(other), "");
	close(fd);
	turns(4);
	assert_false(control_heard(control));
	close(other);
}

/* A thousand come through the door and stay; then one means well. */
static void test_crowd(void **state)
{
	static int crowd[1000];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct rlimit files = { 4096, 4096 };
	unsigned int i, j, in = 0, away = 0;
	const char *said;
	int fd, holder;

	(void)state;
	setrlimit(RLIMIT_NOFILE, &files);
	control_free(control);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/tmp/test-control.%d/sock", (int)getpid());
	control = control_new(&loop, sa.sun_path, "vm0", commands, NULL, &holder);
	assert_non_null(control);
	for (i = 0; i < 1000; i++) {
		crowd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		for (j = 0; j < 100 && connect(crowd[i], (struct sockaddr *)&sa, sizeof(sa)); j++)
			turn();
		turn();
	}
	turns(100);
	for (i = 0; i < 1000; i++) {
		said = hear(crowd[i]);
		in += said && strstr(said, "repagent") != NULL;
		away += said && strstr(said, "TooManyClients") != NULL;
	}
	assert_true(in >= CONTROL_CLIENTS);
	assert_true(away > 0);
	assert_int_equal(in + away, 1000);
	loop.now += 2 * NSEC_PER_SEC;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	turns(10);
	assert_non_null(strstr(answer(fd, "{\"execute\":\"subscribe\"}"), "return"));
	for (i = 0; i < 1000; i++)
		close(crowd[i]);
	close(fd);
	turns(40);

	/* A second one finds the first one. */
	assert_null(control_new(&loop, sa.sun_path, "vm0", commands, NULL, &holder));
	assert_int_equal(holder, getpid());
	control_free(control);
	assert_int_not_equal(access(sa.sun_path, F_OK), 0);
	control = control_new_bare(&loop, "vm0", commands, NULL);
	strcat(sa.sun_path, ".lock");
	unlink(sa.sun_path);
	*strrchr(sa.sun_path, '/') = '\0';
	rmdir(sa.sun_path);
}

#define control_unit_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		control_unit_test(test_requests),
		control_unit_test(test_pieces),
		control_unit_test(test_long_line),
		control_unit_test(test_wide),
		control_unit_test(test_never_reads),
		control_unit_test(test_answers_are_lines),
		control_unit_test(test_late_answers),
		control_unit_test(test_events),
		control_unit_test(test_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
