// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands of the control socket by which the hub is administered; Documentation/segments.md has them. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../common/parse.h"
#include "commands.h"
#include "hub.h"
#include "put.h"

#define VIEWS_MOST	300u	/* in one answer */

static void fail(struct call *call, int err, const char *group, const char *reason)
{
	if (err == ENOENT)
		call_fail(call, "NoSuchGroup", "there is no group '%.64s' here", group);
	else
		call_fail(call, err == EBUSY ? "GroupInUse" : "Failed", "group %.64s: %s", group, reason);
}

static void add_view(void *data, const struct hub_view_info *v)
{
	struct json_object *o;

	if (length_of(data) == VIEWS_MOST)
		return;
	o = json_object_new_object();
	put_text(o, "group", v->group);
	put_text(o, "volume", v->volume);
	put_position(o, "point", v->incarnation, v->seq);
	put_time(o, "time", v->time);
	put_text(o, "who", v->who);
	put_time(o, "since", v->since);
	json_object_array_add(data, o);
}

/** query_views - the views that are open, of each group the newest first */
void query_views(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();

	(void)arguments;
	hub_views(owner, add_view, list);
	call_return(call, list);
}

/* A limit; null: there is none. */
static void put_limit(struct json_object *o, const char *name, uint64_t limit, uint64_t unit)
{
	if (!limit)
		put_null(o, name);
	else if (limit % unit)
		json_object_object_add(o, name, json_object_new_double((double)limit / (double)unit));
	else
		put_number(o, name, limit / unit);
}

static void put_retention(struct json_object *o, const struct hub_retention *keep)
{
	put_limit(o, "keep-bytes", keep->bytes, 1);
	put_limit(o, "keep-seconds", keep->ns, NSEC_PER_SEC);
	put_bool(o, "own", keep->own);
	put_text(o, "when-full", hub_when_full_name(keep->when_full));
	put_bool(o, "own-when-full", keep->own_when_full);
}

static void add_space(void *data, const struct hub_space_info *s)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "group", s->group);
	put_number(o, "journal-bytes", s->journal);
	put_number(o, "index-bytes", s->index);
	put_number(o, "base-bytes", s->base);
	put_number(o, "rate", (uint64_t)s->rate);
	put_retention(o, &s->keep);
	put_text(o, "state", s->state);
	json_object_array_add(data, o);
}

/** query_space - what is taken of the disk, and when it will be full */
void query_space(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct hub_space_total total;

	(void)arguments;
	hub_space(owner, &total, add_space, list);
	put_number(o, "size", total.size);
	put_number(o, "free", total.free);
	put_number(o, "reserve", total.reserve);
	if (total.full < 0)
		put_null(o, "seconds-to-full");
	else
		put_number(o, "seconds-to-full", (uint64_t)total.full);
	put_text(o, "warning", *total.warning ? total.warning : NULL);
	json_object_object_add(o, "groups", list);
	call_return(call, o);
}

static void add_event(void *data, const struct hub_event *e)
{
	struct json_object *o = json_object_new_object();

	put_number(o, "serial", e->serial);
	put_time(o, "time", e->time);
	put_text(o, "group", *e->group ? e->group : NULL);
	put_text(o, "what", e->what);
	put_position(o, "point", e->incarnation, e->seq);
	put_text(o, "text", *e->text ? e->text : NULL);
	json_object_array_add(data, o);
}

/** query_events - what happened, the oldest first */
void query_events(void *owner, struct call *call, struct json_object *arguments)
{
	struct hub_event_query q = {
		.group = get(arguments, "group") ? get_text(arguments, "group") : NULL,
		.after = get_number(arguments, "after"),
		.before = get_number(arguments, "before"),
	};
	struct json_object *list;

	if (!most_of(call, arguments, EVENTS_MOST, &q.most))
		return;
	list = json_object_new_array();
	hub_events(owner, &q, add_event, list);
	call_return(call, list);
}

/** query_retention - how much of a group's journal is kept */
void query_retention(void *owner, struct call *call, struct json_object *arguments)
{
	const char *group = get_text(arguments, "group");
	struct hub_retention keep;
	struct json_object *o;

	if (hub_get_retention(owner, group, &keep)) {
		fail(call, ENOENT, group, "");
		return;
	}
	o = json_object_new_object();
	put_text(o, "group", group);
	put_retention(o, &keep);
	call_return(call, o);
}

/** set_retention - ... from now on; what is not said stays as it is */
void set_retention(void *owner, struct call *call, struct json_object *arguments)
{
	const char *group = get_text(arguments, "group");
	bool to_default = get_bool(arguments, "default"), limits = get(arguments, "bytes") || get(arguments, "age");
	const char *when_full = get(arguments, "when-full") ? get_text(arguments, "when-full") : NULL;
	struct hub_retention keep;
	char reason[HUB_REASON_MAX];
	uint64_t age = get_number(arguments, "age");
	int err = hub_get_retention(owner, group, &keep);

	if (to_default == (limits || when_full)) {
		call_fail(call, "InvalidArgument", "expected bytes, age or when-full, or default alone");
		return;
	}
	if (when_full && !hub_when_full_parse(when_full, &keep.when_full)) {
		call_fail(call, "InvalidArgument", "when-full '%.40s': expected drop-history or stop-ingest", when_full);
		return;
	}
	if (age > UINT64_MAX / NSEC_PER_SEC) {
		call_fail(call, "InvalidArgument", "age %" PRIu64 ": expected at most %" PRIu64 " seconds", age,
			  UINT64_MAX / NSEC_PER_SEC);
		return;
	}
	keep.own = !to_default && (keep.own || limits);
	keep.own_when_full = !to_default && (keep.own_when_full || when_full);
	if (get(arguments, "bytes"))
		keep.bytes = get_number(arguments, "bytes");
	if (get(arguments, "age"))
		keep.ns = age * NSEC_PER_SEC;
	if (!err)
		err = hub_set_retention(owner, group, &keep, reason);
	if (err)
		fail(call, err, group, reason);
	else
		query_retention(owner, call, arguments);
}

/** forget - take a group away, with all of its history */
void forget(void *owner, struct call *call, struct json_object *arguments)
{
	const char *group = get_text(arguments, "group");
	char reason[HUB_REASON_MAX];
	int err = hub_forget(owner, group, reason);

	if (err)
		fail(call, err, group, reason);
	else
		call_return(call, NULL);
}

static void have_verified(struct hub *hub, struct call *call, struct json_object *arguments, bool stop)
{
	const char *group = get_text(arguments, "group");
	char reason[HUB_REASON_MAX] = "";
	int err;

	err = hub_verify(hub, group, get(arguments, "volume") ? get_text(arguments, "volume") : NULL, stop,
			 get_number(arguments, "rate"), reason);
	if (err)
		fail(call, err, group, reason);
	else
		call_return(call, NULL);
}

/** verify - have volumes compared with their source */
void verify(void *owner, struct call *call, struct json_object *arguments)
{
	have_verified(owner, call, arguments, false);
}

/** stop_verify - ... no longer */
void stop_verify(void *owner, struct call *call, struct json_object *arguments)
{
	have_verified(owner, call, arguments, true);
}
