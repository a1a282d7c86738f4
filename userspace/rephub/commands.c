// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "hub.h"

static void put_text(struct json_object *o, const char *name, const char *text)
{
	json_object_object_add(o, name, text ? json_object_new_string(text) : NULL);
}

static void put_number(struct json_object *o, const char *name, uint64_t number)
{
	json_object_object_add(o, name, json_object_new_uint64(number));
}

/* Seconds since the epoch; null: not known. */
static void put_time(struct json_object *o, const char *name, uint64_t ns)
{
	char text[40];

	snprintf(text, sizeof(text), "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
	json_object_object_add(o, name, ns ? json_object_new_double_s((double)ns / 1e9, text) : NULL);
}

static void put_uuid(struct json_object *o, const char *name, const uint8_t *u)
{
	char text[40];

	snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	put_text(o, name, text);
}

/* As a view's name has it; null: there is nothing yet. */
static void put_position(struct json_object *o, const char *name, uint64_t incarnation, uint64_t seq)
{
	char text[48];

	snprintf(text, sizeof(text), "%016" PRIx64 ":%" PRIu64, incarnation, seq);
	put_text(o, name, incarnation ? text : NULL);
}

static void add_group(void *data, const struct hub_group_info *g)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "group", g->name);
	put_uuid(o, "uuid", g->uuid);
	put_number(o, "generation", g->generation);
	json_object_object_add(o, "connected", json_object_new_boolean(g->connected));
	put_position(o, "newest", g->incarnation, g->seq);
	put_time(o, "newest-time", g->newest_time);
	put_position(o, "oldest", g->oldest_incarnation, g->oldest_seq);
	put_time(o, "oldest-time", g->oldest_time);
	put_number(o, "journal-bytes", g->journal_bytes);
	put_number(o, "base-bytes", g->base_bytes);
	put_number(o, "segments", g->segments);
	put_number(o, "records", g->records);
	put_number(o, "views", g->views);
	put_text(o, "trouble", g->trouble);
	json_object_array_add(data, o);
}

static void query_groups(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();

	(void)arguments;
	hub_groups(owner, add_group, list);
	call_return(call, list);
}

static void query_hub(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *o = json_object_new_object();
	uint8_t uuid[16];

	(void)arguments;
	hub_identity(owner, uuid);
	put_uuid(o, "uuid", uuid);
	put_text(o, "version", REPAGENT_VERSION);
	call_return(call, o);
}

static void add_volume(void *data, const struct hub_volume_info *v)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "volume", v->name);
	put_number(o, "bytes", v->sectors * 512);
	json_object_object_add(o, "removed", json_object_new_boolean(v->removed));
	json_object_object_add(o, "usable", json_object_new_boolean(!v->state));
	put_text(o, "why", v->state);
	json_object_array_add(data, o);
}

static const char *group_of(struct json_object *arguments)
{
	return json_object_get_string(json_object_object_get(arguments, "group"));
}

static void finish(struct call *call, bool found, struct json_object *list, const char *group)
{
	if (found) {
		call_return(call, list);
		return;
	}
	json_object_put(list);
	call_fail(call, "NoSuchGroup", "there is no group '%.64s' here", group);
}

static void query_volumes(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();
	const char *group = group_of(arguments);

	finish(call, hub_volumes(owner, group, add_volume, list), list, group);
}

static void add_point(void *data, const struct hub_point_info *p)
{
	struct json_object *o = json_object_new_object();

	put_position(o, "point", p->incarnation, p->seq);
	put_time(o, "time", p->time);
	put_text(o, "what", p->what);
	put_text(o, "of", *p->text ? p->text : NULL);
	json_object_array_add(data, o);
}

static void query_points(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array(), *most = NULL;
	bool timed = json_object_get_boolean(json_object_object_get(arguments, "timed"));
	const char *group = group_of(arguments);
	uint64_t n = POINTS_MOST;

	if (json_object_object_get_ex(arguments, "most", &most))
		n = json_object_get_uint64(most);
	if (!n || n > POINTS_MOST) {
		json_object_put(list);
		call_fail(call, "InvalidArgument", "most %" PRIu64 ": expected 1 to %u", n, POINTS_MOST);
		return;
	}
	finish(call, hub_points(owner, group, timed, (unsigned int)n, add_point, list), list, group);
}

static const struct argument no_arguments[] = { { NULL, ARG_END, false } };
static const struct argument group_argument[] = {
	{ "group", ARG_NAME, true },
	{ NULL, ARG_END, false }
};
static const struct argument points_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "most", ARG_COUNT, false },
	{ "timed", ARG_BOOL, false },
	{ NULL, ARG_END, false }
};

const struct command hub_commands[] = {
	{ "query-hub", no_arguments, query_hub },
	{ "query-groups", no_arguments, query_groups },
	{ "query-volumes", group_argument, query_volumes },
	{ "query-points", points_arguments, query_points },
	{ NULL, NULL, NULL }
};
