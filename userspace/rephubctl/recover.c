// SPDX-License-Identifier: GPL-2.0-or-later
/* Fail-over, and its tests. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/parse.h"
#include "../common/usage.h"
#include "../repctl/table.h"
#include "rephubctl.h"

#define CALL_MS	300000	/* the disk may be slow */

static int done(struct hub *h, const char *command, struct json_object *arguments, const char *said)
{
	struct json_object *result = hub_ask(h, command, arguments);

	if (!result)
		return EXIT_FAILURE;
	if (h->opt->json)
		show_json(result);
	else
		printf("%s\n", said);
	json_object_put(result);
	return EXIT_SUCCESS;
}

static struct json_object *of(const char *name, const char *value)
{
	struct json_object *o = json_object_new_object();

	put_text(o, name, value);
	return o;
}

static struct json_object *exports_of(struct json_object *test)
{
	struct json_object *list = NULL;

	json_object_object_get_ex(test, "exports", &list);
	return list;
}

int test_start(struct hub *h)
{
	struct json_object *arguments = of("group", h->opt->group), *test, *exports;
	uint64_t n = 0;
	size_t i;

	put_text(arguments, "point", h->opt->at);
	if (h->opt->bytes && parse_size(h->opt->bytes, &n))
		put_number(arguments, "bytes", n);
	test = hub_ask(h, "test-start", arguments);
	if (!test)
		return EXIT_FAILURE;
	if (h->opt->json) {
		show_json(test);
	} else {
		printf("test %s of group %s at %s; these exports can be written, and nothing else is touched:\n",
		       get_text(test, "test"), h->opt->group, get_text(test, "point"));
		exports = exports_of(test);
		for (i = 0; i < length_of(exports); i++)
			printf("  %s\n", json_object_get_string(json_object_array_get_idx(exports, i)));
		printf("Its end: rephubctl test stop %s --passed (or --failed)\n", get_text(test, "test"));
	}
	json_object_put(test);
	return EXIT_SUCCESS;
}

int test_stop(struct hub *h)
{
	struct json_object *arguments = of("test", h->opt->group);

	if (h->opt->given & WITH_RESULT && h->opt->result)
		put_bool(arguments, "passed", !strcmp(h->opt->result, "passed"));
	if (h->opt->note)
		put_text(arguments, "note", h->opt->note);
	return done(h, "test-stop", arguments, "the test is over, and what it wrote is gone");
}

int test_list(struct hub *h)
{
	char since[WHEN_MAX], written[HUMAN_MAX], limit[HUMAN_MAX];
	struct json_object *list = hub_ask(h, "query-tests", NULL), *o;
	struct table t;
	size_t i;

	if (!list)
		return EXIT_FAILURE;
	if (h->opt->json) {
		show_json(list);
	} else {
		table_init(&t, "lllrrl");
		table_row(&t, "TEST", "GROUP", "SINCE", "WRITTEN", "LIMIT", "POINT");
		for (i = 0; i < length_of(list); i++) {
			o = json_object_array_get_idx(list, i);
			table_row(&t, get_text(o, "test"), get_text(o, "group"), when(since, o, "since"),
				  human_size(written, get_number(o, "written")),
				  get(o, "limit") ? human_size(limit, get_number(o, "limit")) : "none", get_text(o, "point"));
		}
		table_print(&t, stdout, 0);
		for (i = 0; i < length_of(list); i++) {
			o = json_object_array_get_idx(list, i);
			if (text_or_null(o, "trouble"))
				printf("%s: %s\n", get_text(o, "test"), get_text(o, "trouble"));
		}
	}
	json_object_put(list);
	return EXIT_SUCCESS;
}

/* Fail over once the source has said that it ended, if that comes in time. Return what do_failover() does. */
static int failover_when_drained(struct hub *h, struct json_object *arguments, const char *said)
{
	const struct timespec pause = { 0, 200 * 1000000 };
	char error[CLIENT_ERROR_MAX], class[CLIENT_CLASS_MAX];
	struct json_object *result = NULL;
	uint64_t waited;

	for (waited = 0;; waited += (uint64_t)pause.tv_nsec) {
		if (client_call(&h->client, "failover", json_object_get(arguments), CALL_MS, &result, class, error))
			break;
		if (strcmp(class, "NotDrained") || waited >= h->opt->wait) {
			fprintf(stderr, "rephubctl: %s\n", error);
			json_object_put(arguments);
			return EXIT_FAILURE;
		}
		if (!waited)
			fprintf(stderr, "rephubctl: waiting: %s\n", error);
		nanosleep(&pause, NULL);
	}
	json_object_put(arguments);
	if (h->opt->json)
		show_json(result);
	else
		printf("%s\n", said);
	json_object_put(result);
	return EXIT_SUCCESS;
}

int do_failover(struct hub *h)
{
	struct json_object *arguments = of("group", h->opt->group);
	char said[256];
	uint64_t n = 0;

	put_text(arguments, "point", h->opt->at);
	put_bool(arguments, "planned", h->opt->planned);
	put_bool(arguments, "partial", h->opt->partial);
	if (h->opt->age && parse_duration(h->opt->age, &n))
		put_number(arguments, "commit-after", n / NSEC_PER_SEC);
	snprintf(said, sizeof(said), "group %s is failed over: live/%s/VOLUME can be written, and its old source changes nothing any more\n"
		 "Then: rephubctl commit %s, or rephubctl rollback %s", h->opt->group, h->opt->group, h->opt->group,
		 h->opt->group);
	return failover_when_drained(h, arguments, said);
}

int do_commit(struct hub *h)
{
	return done(h, "commit", of("group", h->opt->group), "what was written since the fail-over stays");
}

int do_rollback(struct hub *h)
{
	return done(h, "rollback", of("group", h->opt->group), "nothing of what was written since the fail-over is left");
}

static void tell_ranges(const struct hub *h, struct json_object *list, struct json_object *all)
{
	struct json_object *pair;
	size_t i;

	for (i = 0; i < length_of(list); i++) {
		pair = json_object_array_get_idx(list, i);
		if (h->opt->json)
			json_object_array_add(all, json_object_get(pair));
		else
			printf("%" PRIu64 " %" PRIu64 "\n", json_object_get_uint64(json_object_array_get_idx(pair, 0)),
			       json_object_get_uint64(json_object_array_get_idx(pair, 1)));
	}
}

/* A range a line, offset and length in bytes. */
int show_changed(struct hub *h)
{
	struct json_object *all = json_object_new_array(), *arguments, *result;
	uint64_t from = 0;
	bool more = true;

	while (more) {
		arguments = of("group", h->opt->group);
		put_text(arguments, "volume", h->opt->volume);
		put_text(arguments, "since", h->opt->since);
		put_number(arguments, "from", from);
		result = hub_ask(h, "query-changed", arguments);
		if (!result) {
			json_object_put(all);
			return EXIT_FAILURE;
		}
		tell_ranges(h, get(result, "ranges"), all);
		more = get(result, "next");
		from = get_number(result, "next");
		json_object_put(result);
	}
	if (h->opt->json)
		show_json(all);
	json_object_put(all);
	return EXIT_SUCCESS;
}
