// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "hub.h"
#include "put.h"

static void add_group(void *data, const struct hub_group_info *g)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "group", g->name);
	put_uuid(o, "uuid", g->uuid);
	put_number(o, "generation", g->generation);
	put_bool(o, "connected", g->connected);
	put_position(o, "newest", g->incarnation, g->seq);
	put_time(o, "newest-time", g->newest_time);
	put_position(o, "oldest", g->oldest_incarnation, g->oldest_seq);
	put_time(o, "oldest-time", g->oldest_time);
	put_number(o, "journal-bytes", g->journal_bytes);
	put_number(o, "base-bytes", g->base_bytes);
	put_number(o, "segments", g->segments);
	put_number(o, "records", g->records);
	put_number(o, "views", g->views);
	put_text(o, "failover", g->failover);
	put_time(o, "fenced-since", g->fenced_since);
	put_time(o, "commit-at", g->commit_at);
	put_number(o, "live-users", g->live_users);
	put_time(o, "verified", g->verified);
	put_number(o, "differed", g->differed);
	put_number(o, "unrepaired", g->unrepaired);
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

static struct json_object *verify_object(const struct hub_verify_info *v)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "state", v->state);
	put_time(o, "wanted", v->wanted);
	put_time(o, "ended", v->ended);
	put_number(o, "reached", v->reached);
	put_number(o, "rate", v->rate);
	put_number(o, "differed", v->differed);
	put_number(o, "unrepaired", v->unrepaired);
	put_number(o, "skipped", v->skipped);
	return o;
}

static void add_volume(void *data, const struct hub_volume_info *v)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "volume", v->name);
	put_number(o, "bytes", v->sectors * 512);
	put_bool(o, "removed", v->removed);
	put_bool(o, "usable", !v->state);
	put_text(o, "why", v->state);
	put_bool(o, "map-error", v->map_error);
	json_object_object_add(o, "verify", verify_object(&v->verify));
	json_object_array_add(data, o);
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

/* How many are asked for; without a word of it all that may be. */
bool most_of(struct call *call, struct json_object *arguments, unsigned int limit, unsigned int *most)
{
	uint64_t n = get(arguments, "most") ? get_number(arguments, "most") : limit;

	*most = (unsigned int)n;
	if (n && n <= limit)
		return true;
	call_fail(call, "InvalidArgument", "most %" PRIu64 ": expected 1 to %u", n, limit);
	return false;
}

static void query_volumes(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();
	const char *group = get_text(arguments, "group");

	finish(call, hub_volumes(owner, group, add_volume, list), list, group);
}

static void add_point(void *data, const struct hub_point_info *p)
{
	struct json_object *o = json_object_new_object();

	put_position(o, "point", p->incarnation, p->seq);
	put_time(o, "time", p->time);
	put_text(o, "what", p->what);
	put_text(o, "of", *p->text ? p->text : NULL);
	put_text(o, "why", *p->why ? p->why : NULL);
	json_object_array_add(data, o);
}

static void query_points(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();
	bool timed = json_object_get_boolean(json_object_object_get(arguments, "timed"));
	const char *group = get_text(arguments, "group");
	unsigned int n;

	if (!most_of(call, arguments, POINTS_MOST, &n)) {
		json_object_put(list);
		return;
	}
	finish(call, hub_points(owner, group, timed, n, add_point, list), list, group);
}

static const struct argument no_arguments[] = { { NULL, ARG_END, false } };
static const struct argument group_argument[] = {
	{ "group", ARG_NAME, true },
	{ NULL, ARG_END, false }
};
static const struct argument events_arguments[] = {
	{ "group", ARG_NAME, false },
	{ "after", ARG_COUNT, false },
	{ "before", ARG_COUNT, false },
	{ "most", ARG_COUNT, false },
	{ NULL, ARG_END, false }
};
static const struct argument retention_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "bytes", ARG_COUNT, false },
	{ "age", ARG_COUNT, false },
	{ "when-full", ARG_TEXT, false },
	{ "default", ARG_BOOL, false },
	{ NULL, ARG_END, false }
};
static const struct argument points_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "most", ARG_COUNT, false },
	{ "timed", ARG_BOOL, false },
	{ NULL, ARG_END, false }
};

static const struct argument test_start_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "point", ARG_TEXT, true },
	{ "bytes", ARG_COUNT, false },
	{ NULL, ARG_END, false }
};
static const struct argument test_stop_arguments[] = {
	{ "test", ARG_TEXT, true },
	{ "passed", ARG_BOOL, false },
	{ "note", ARG_TEXT, false },
	{ NULL, ARG_END, false }
};
static const struct argument failover_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "point", ARG_TEXT, true },
	{ "planned", ARG_BOOL, false },
	{ "partial", ARG_BOOL, false },
	{ "commit-after", ARG_COUNT, false },
	{ NULL, ARG_END, false }
};

static const struct argument verify_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "volume", ARG_NAME, false },
	{ "rate", ARG_COUNT, false },
	{ NULL, ARG_END, false }
};
static const struct argument stop_verify_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "volume", ARG_NAME, false },
	{ NULL, ARG_END, false }
};

static const struct argument changed_arguments[] = {
	{ "group", ARG_NAME, true },
	{ "volume", ARG_NAME, true },
	{ "since", ARG_TEXT, true },
	{ "from", ARG_COUNT, false },
	{ "most", ARG_COUNT, false },
	{ NULL, ARG_END, false }
};

const struct command hub_commands[] = {
	{ "query-hub", no_arguments, query_hub },
	{ "query-groups", no_arguments, query_groups },
	{ "query-volumes", group_argument, query_volumes },
	{ "query-points", points_arguments, query_points },
	{ "query-views", no_arguments, query_views },
	{ "query-space", no_arguments, query_space },
	{ "query-events", events_arguments, query_events },
	{ "query-retention", group_argument, query_retention },
	{ "set-retention", retention_arguments, set_retention },
	{ "forget", group_argument, forget },
	{ "query-tests", no_arguments, query_tests },
	{ "test-start", test_start_arguments, test_start },
	{ "test-stop", test_stop_arguments, test_stop },
	{ "failover", failover_arguments, failover },
	{ "commit", group_argument, commit },
	{ "rollback", group_argument, rollback },
	{ "verify", verify_arguments, verify },
	{ "stop-verify", stop_verify_arguments, stop_verify },
	{ "query-changed", changed_arguments, query_changed },
	{ NULL, NULL, NULL }
};
