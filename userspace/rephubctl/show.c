// SPDX-License-Identifier: GPL-2.0-or-later
/* What the hub has, in tables. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/parse.h"
#include "../repctl/table.h"
#include "rephubctl.h"

/**
 * when - a time of the hub's, as a point is written: in UTC, to the second
 * @buf: WHEN_MAX bytes
 * @o: an object
 * @name: of its member
 *
 * Return: the text, or NULL where it is not known.
 */
const char *when(char *buf, struct json_object *o, const char *name)
{
	double seconds = get_seconds(o, name);
	time_t t = (time_t)seconds;
	struct tm tm;

	if (seconds < 0 || !gmtime_r(&t, &tm))
		return NULL;
	strftime(buf, WHEN_MAX, "%FT%TZ", &tm);
	return buf;
}

/** text_or_null - a member that is a text; NULL where it is none, or empty */
const char *text_or_null(struct json_object *o, const char *name)
{
	const char *text = get_text(o, name);

	return *text ? text : NULL;
}

/** show_json - print an object for programs */
void show_json(struct json_object *o)
{
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* Ask, and show what came, as JSON if so it is to be. */
static int ask_and_show(struct hub *h, const char *command, struct json_object *arguments,
			void (*show)(struct json_object *result))
{
	struct json_object *result = hub_ask(h, command, arguments);

	if (!result)
		return EXIT_FAILURE;
	if (h->opt->json)
		show_json(result);
	else
		show(result);
	json_object_put(result);
	return EXIT_SUCCESS;
}

static struct json_object *of_group(const struct hub *h)
{
	struct json_object *arguments = json_object_new_object();

	put_text(arguments, "group", h->opt->group);
	return arguments;
}

/* Who has the group: its agent, or a fail-over. */
static const char *whose(struct json_object *o)
{
	const char *failover = get_text(o, "failover");

	if (!strcmp(failover, "live"))
		return "failed over";
	if (!strcmp(failover, "none"))
		return get_bool(o, "connected") ? "connected" : "away";
	return failover;
}

static void tell_groups(struct json_object *list)
{
	char journal[HUMAN_MAX], base[HUMAN_MAX], oldest[WHEN_MAX], newest[WHEN_MAX], views[24];
	struct json_object *o;
	struct table t;
	size_t i;

	table_init(&t, "llllrrrl");
	table_row(&t, "GROUP", "AGENT", "OLDEST POINT", "NEWEST", "JOURNAL", "BASE", "VIEWS", "NEWEST POINT");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		snprintf(views, sizeof(views), "%" PRIu64, get_number(o, "views"));
		table_row(&t, get_text(o, "group"), whose(o),
			  when(oldest, o, "oldest-time"), when(newest, o, "newest-time"),
			  human_size(journal, get_number(o, "journal-bytes")),
			  human_size(base, get_number(o, "base-bytes")), views, text_or_null(o, "newest"));
	}
	table_print(&t, stdout, 0);
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (text_or_null(o, "trouble"))
			printf("%s: %s\n", get_text(o, "group"), get_text(o, "trouble"));
		if (get_number(o, "unrepaired"))
			printf("%s: %s are not what the source has, though they were sent again: see rephubctl volumes %s\n",
			       get_text(o, "group"), human_size(base, get_number(o, "unrepaired")), get_text(o, "group"));
		if (get_number(o, "generation") > 1)
			printf("%s: generation %" PRIu64 "\n", get_text(o, "group"), get_number(o, "generation"));
		if (when(oldest, o, "commit-at"))
			printf("%s: the fail-over commits by itself at %s\n", get_text(o, "group"), oldest);
	}
}

int show_groups(struct hub *h)
{
	return ask_and_show(h, "query-groups", NULL, tell_groups);
}

/* What the last comparison of a volume with its source says, or how far this one is. */
static const char *compared(char *buf, size_t size, struct json_object *o)
{
	struct json_object *v = get(o, "verify");
	uint64_t bytes = get_number(o, "bytes"), reached = get_number(v, "reached");
	const char *state = get_text(v, "state");
	char text[HUMAN_MAX], at[WHEN_MAX];
	size_t n = 0;

	if (!strcmp(state, "running") || !strcmp(state, "wanted"))
		n = (size_t)snprintf(buf, size, "%s, %" PRIu64 " %%", state, bytes ? (reached < bytes ? reached : bytes) * 100 / bytes : 100);
	else
		n = (size_t)snprintf(buf, size, "%s", !strcmp(state, "done") && when(at, v, "ended") ? at : state);
	if (get_number(v, "differed"))
		n += (size_t)snprintf(buf + n, size - n, ", %s differed", human_size(text, get_number(v, "differed")));
	if (get_number(v, "unrepaired"))
		snprintf(buf + n, size - n, ", %s still", human_size(text, get_number(v, "unrepaired")));
	return buf;
}

static void tell_volumes(struct json_object *list)
{
	char size[HUMAN_MAX], verified[128];
	struct json_object *o;
	struct table t;
	size_t i;

	table_init(&t, "lrll");
	table_row(&t, "VOLUME", "SIZE", "STATE", "COMPARED");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		table_row(&t, get_text(o, "volume"), human_size(size, get_number(o, "bytes")),
			  !get_bool(o, "usable") ? get_text(o, "why") : get_bool(o, "removed") ?
			  "removed on its host; can be viewed" : "can be viewed", compared(verified, sizeof(verified), o));
	}
	table_print(&t, stdout, 0);
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (get_bool(o, "map-error") && !get_bool(o, "removed"))
			printf("%s: its host cannot write its write-intent map: after a crash of that host all of it is read again\n",
			       get_text(o, "volume"));
	}
}

int show_volumes(struct hub *h)
{
	return ask_and_show(h, "query-volumes", of_group(h), tell_volumes);
}

/* What a point is of, or why; where writes are missing that is said in words. */
static const char *about(char *buf, size_t size, struct json_object *o)
{
	static const struct { const char *what, *words; } holes[] = {
		{ "gap", "writes were not captured from here on, until each volume's resync has ended" },
		{ "lost", "writes before this never came: no volume can be viewed until its resync has ended" },
	};
	const char *what = get_text(o, "what"), *of = get_text(o, "of"), *why = get_text(o, "why");
	size_t i;

	snprintf(buf, size, "%s%s%s", of, *of && *why ? ": " : "", why);
	for (i = 0; i < sizeof(holes) / sizeof(holes[0]); i++)
		if (!strcmp(what, holes[i].what))
			snprintf(buf, size, "%s: %s", why, holes[i].words);
	return buf;
}

static void tell_points(struct json_object *list)
{
	struct json_object *o;
	char time[WHEN_MAX], text[256];
	struct table t;
	size_t i;

	table_init(&t, "llll");
	table_row(&t, "TIME", "POINT", "WHAT", "");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		table_row(&t, when(time, o, "time"), get_text(o, "point"), get_text(o, "what"),
			  about(text, sizeof(text), o));
	}
	table_print(&t, stdout, 0);
}

int show_points(struct hub *h)
{
	struct json_object *arguments = of_group(h);

	put_number(arguments, "most", h->opt->most);
	put_bool(arguments, "timed", h->opt->timed);
	return ask_and_show(h, "query-points", arguments, tell_points);
}

static void tell_views(struct json_object *list)
{
	char since[WHEN_MAX], time[WHEN_MAX];
	struct json_object *o;
	struct table t;
	size_t i;

	if (!length_of(list)) {
		printf("No view is open.\n");
		return;
	}
	table_init(&t, "llllll");
	table_row(&t, "GROUP", "VOLUME", "POINT", "OF", "OPEN SINCE", "WHO");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		table_row(&t, get_text(o, "group"), get_text(o, "volume"), get_text(o, "point"), when(time, o, "time"),
			  when(since, o, "since"), text_or_null(o, "who"));
	}
	table_print(&t, stdout, 0);
}

int show_views(struct hub *h)
{
	return ask_and_show(h, "query-views", NULL, tell_views);
}

/* Seconds as a person says them; NULL: there are none. */
static const char *duration(char *buf, struct json_object *o, const char *name)
{
	double seconds = get_seconds(o, name);

	return seconds < 0 ? NULL : human_duration(buf, (uint64_t)(seconds * 1e9));
}

static void tell_space(struct json_object *space)
{
	char journal[HUMAN_MAX], base[HUMAN_MAX], rate[HUMAN_MAX + 2], bytes[HUMAN_MAX], age[HUMAN_MAX], full[HUMAN_MAX];
	struct json_object *list = get(space, "groups"), *o;
	struct table t;
	size_t i;

	table_init(&t, "lrrrrrll");
	table_row(&t, "GROUP", "JOURNAL", "BASE", "COMES", "KEPT", "KEPT FOR", "WHEN FULL", "DISK");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		human_size(rate, get_number(o, "rate"));
		strcat(rate, "/s");
		table_row(&t, get_text(o, "group"),
			  human_size(journal, get_number(o, "journal-bytes") + get_number(o, "index-bytes")),
			  human_size(base, get_number(o, "base-bytes")), rate,
			  get(o, "keep-bytes") ? human_size(bytes, get_number(o, "keep-bytes")) : "any size",
			  get(o, "keep-seconds") ? duration(age, o, "keep-seconds") : "any age",
			  get_text(o, "when-full"), get_text(o, "state"));
	}
	table_print(&t, stdout, 0);
	printf("\n%s of %s are free, %s of it in reserve", human_size(journal, get_number(space, "free")),
	       human_size(base, get_number(space, "size")), human_size(bytes, get_number(space, "reserve")));
	if (duration(full, space, "seconds-to-full"))
		printf("; if it goes on like this, full in %s\n", full);
	else
		printf("; if it goes on like this, it will not be full\n");
	if (get(space, "warning"))
		printf("Warning: %s.\n", get_text(space, "warning"));
}

int show_space(struct hub *h)
{
	return ask_and_show(h, "query-space", NULL, tell_space);
}
