// SPDX-License-Identifier: GPL-2.0-or-later
/* What happened at the hub, once or as it comes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../repctl/table.h"
#include "rephubctl.h"

#define EVENTS_MOST	100u	/* in one answer */

static struct json_object *ask(struct hub *h, const char *bound, uint64_t serial, uint64_t most)
{
	struct json_object *arguments = json_object_new_object();

	if (h->opt->group)
		put_text(arguments, "group", h->opt->group);
	if (serial)
		put_number(arguments, bound, serial);
	put_number(arguments, "most", most < EVENTS_MOST ? most : EVENTS_MOST);
	return hub_ask(h, "query-events", arguments);
}

/* The last of them, in as many answers as it takes, the oldest first. NULL: it was said why not. */
static struct json_object *last_events(struct hub *h)
{
	struct json_object *all = json_object_new_array(), *part, *o;
	uint64_t left = h->opt->most, before = 0;
	size_t i, nr;

	while (left) {
		part = ask(h, "before", before, left);
		if (!part) {
			json_object_put(all);
			return NULL;
		}
		nr = length_of(part);
		for (i = 0; i < length_of(all); i++)
			json_object_array_add(part, json_object_get(json_object_array_get_idx(all, i)));
		json_object_put(all);
		all = part;
		o = json_object_array_get_idx(all, 0);
		before = o ? get_number(o, "serial") : 0;
		if (!nr || !before)
			break;
		left -= nr < left ? nr : left;
	}
	return all;
}

static void tell(const struct hub *h, struct json_object *list)
{
	char time[WHEN_MAX];
	struct json_object *o;
	struct table t;
	size_t i;

	table_init(&t, "lllll");
	if (!h->opt->follow)
		table_row(&t, "TIME", "GROUP", "WHAT", "POINT", "");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		table_row(&t, when(time, o, "time"), text_or_null(o, "group"), get_text(o, "what"),
			  text_or_null(o, "point"), get_text(o, "text"));
	}
	table_print(&t, stdout, 0);
}

/* One line each, so that it can be read as it comes. */
static void tell_json(struct json_object *list)
{
	size_t i;

	for (i = 0; i < length_of(list); i++)
		printf("%s\n", json_object_to_json_string_ext(json_object_array_get_idx(list, i),
							      JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* What came after an event is asked for time and again: nothing is missed, also when the hub was restarted. */
static int follow(struct hub *h, uint64_t serial)
{
	const struct timespec pause = { 0, 300000000 };
	struct json_object *list, *last;

	for (;;) {
		list = ask(h, "after", serial, EVENTS_MOST);
		if (!list)
			return EXIT_FAILURE;
		if (length_of(list)) {
			last = json_object_array_get_idx(list, length_of(list) - 1);
			serial = get_number(last, "serial");
			if (h->opt->json)
				tell_json(list);
			else
				tell(h, list);
		} else {
			nanosleep(&pause, NULL);
		}
		json_object_put(list);
		if (fflush(stdout))
			return EXIT_FAILURE;	/* nobody reads it any more */
	}
}

int show_events(struct hub *h)
{
	struct json_object *list = last_events(h), *last;
	uint64_t serial = 0;

	if (!list)
		return EXIT_FAILURE;
	if (length_of(list)) {
		last = json_object_array_get_idx(list, length_of(list) - 1);
		serial = get_number(last, "serial");
	}
	if (h->opt->json && h->opt->follow)
		tell_json(list);
	else if (h->opt->json)
		show_json(list);
	else
		tell(h, list);
	json_object_put(list);
	fflush(stdout);
	return h->opt->follow ? follow(h, serial) : EXIT_SUCCESS;
}
