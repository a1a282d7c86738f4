// SPDX-License-Identifier: GPL-2.0-or-later
/* Fail-over, and its tests. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/parse.h"
#include "../repctl/table.h"
#include "rephubctl.h"

#define CALL_MS		300000	/* it may have to wait for the disk */
#define LOOK_MS		200	/* between two tries of a planned move */

static void tell_exports(struct json_object *o)
{
	struct json_object *list = get(o, "exports");
	size_t i;

	for (i = 0; i < length_of(list); i++)
		printf("%s\n", json_object_get_string(json_object_array_get_idx(list, i)));
}

static void tell_state(struct json_object *o)
{
	const char *failover = get_text(o, "failover"), *group = get_text(o, "group");
	char text[WHEN_MAX];

	if (!strcmp(failover, "none"))
		printf("%s: rolled back; its source may go on, at generation %" PRIu64 "\n", group, get_number(o, "generation"));
	else if (!strcmp(failover, "committed"))
		printf("%s: committed, at generation %" PRIu64 "\n", group, get_number(o, "generation"));
	else
		printf("%s: failed over, at generation %" PRIu64 "%s%s\n", group, get_number(o, "generation"),
		       when(text, o, "commit-at") ? "; commits by itself at " : "",
		       when(text, o, "commit-at") ? text : "");
	tell_exports(o);
}

int do_failover(struct hub *h)
{
	const struct timespec pause = { 0, LOOK_MS * 1000000 };
	char error[CLIENT_ERROR_MAX], class[CLIENT_CLASS_MAX];
	const struct options *opt = h->opt;
	struct json_object *arguments, *result = NULL;
	uint64_t waited = 0;

	for (;;) {
		arguments = of_group(h);
		put_text(arguments, "at", opt->at);
		put_bool(arguments, "planned", opt->planned);
		put_bool(arguments, "partial", opt->partial);
		if (opt->commit_after)
			put_number(arguments, "commit-after", opt->commit_after / NSEC_PER_SEC);
		if (client_call(&h->client, "failover", arguments, CALL_MS, &result, class, error))
			break;
		if (strcmp(class, "NotDrained") || !opt->planned || waited >= opt->wait) {
			fprintf(stderr, "rephubctl: %s\n", error);
			return EXIT_FAILURE;
		}
		if (!waited)
			fprintf(stderr, "rephubctl: waiting: %s\n", error);
		nanosleep(&pause, NULL);
		waited += LOOK_MS * NSEC_PER_MSEC;
	}
	if (opt->json)
		show_json(result);
	else
		tell_state(result);
	json_object_put(result);
	return EXIT_SUCCESS;
}

int do_commit(struct hub *h)
{
	return ask_and_show(h, "commit", of_group(h), tell_state);
}

int do_rollback(struct hub *h)
{
	return ask_and_show(h, "rollback", of_group(h), tell_state);
}

static void tell_test(struct json_object *o)
{
	printf("%s\n", get_text(o, "id"));
	tell_exports(o);
}

int do_test_start(struct hub *h)
{
	struct json_object *arguments = of_group(h);

	put_text(arguments, "at", h->opt->at);
	put_number(arguments, "max-bytes", h->opt->limit);
	return ask_and_show(h, "test-start", arguments, tell_test);
}

static void tell_nothing(struct json_object *o)
{
	(void)o;
}

int do_test_stop(struct hub *h)
{
	struct json_object *arguments = json_object_new_object();

	put_text(arguments, "id", h->opt->group);
	if (h->opt->result)
		put_text(arguments, "result", h->opt->result);
	if (h->opt->note)
		put_text(arguments, "note", h->opt->note);
	return ask_and_show(h, "test-stop", arguments, tell_nothing);
}

static void tell_tests(struct json_object *list)
{
	char time[WHEN_MAX], since[WHEN_MAX], used[HUMAN_MAX], limit[HUMAN_MAX], users[24];
	struct json_object *o;
	struct table t;
	size_t i;

	table_init(&t, "lllllrrr");
	table_row(&t, "TEST", "GROUP", "POINT", "OF", "SINCE", "WRITTEN", "AT MOST", "USERS");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		snprintf(users, sizeof(users), "%" PRIu64, get_number(o, "users"));
		table_row(&t, get_text(o, "id"), get_text(o, "group"), get_text(o, "point"), when(time, o, "point-time"),
			  when(since, o, "since"), human_size(used, get_number(o, "used")),
			  get(o, "max-bytes") ? human_size(limit, get_number(o, "max-bytes")) : "any", users);
	}
	table_print(&t, stdout, 0);
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (text_or_null(o, "trouble"))
			printf("%s is gone: %s\n", get_text(o, "id"), get_text(o, "trouble"));
	}
}

int show_tests(struct hub *h)
{
	return ask_and_show(h, "query-tests", NULL, tell_tests);
}

/* One range a line, offset and length in bytes; or all of them as JSON. */
int show_changed(struct hub *h)
{
	struct json_object *all = json_object_new_array(), *arguments, *result, *list, *pair;
	uint64_t from = 0;
	bool more = true;
	size_t i;

	while (more) {
		arguments = of_group(h);
		put_text(arguments, "volume", h->opt->volume);
		put_text(arguments, "since", h->opt->since);
		put_number(arguments, "from", from);
		result = hub_ask(h, "query-changed", arguments);
		if (!result) {
			json_object_put(all);
			return EXIT_FAILURE;
		}
		list = get(result, "ranges");
		for (i = 0; i < length_of(list); i++) {
			pair = json_object_array_get_idx(list, i);
			if (h->opt->json)
				json_object_array_add(all, json_object_get(pair));
			else
				printf("%" PRIu64 " %" PRIu64 "\n", json_object_get_uint64(json_object_array_get_idx(pair, 0)),
				       json_object_get_uint64(json_object_array_get_idx(pair, 1)));
		}
		more = get(result, "next");
		from = get_number(result, "next");
		json_object_put(result);
	}
	if (h->opt->json)
		show_json(all);
	json_object_put(all);
	return EXIT_SUCCESS;
}
