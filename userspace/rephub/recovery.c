// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands of the control socket for fail-over and its tests; Documentation/segments.md has them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../common/parse.h"
#include "commands.h"
#include "hub.h"
#include "put.h"

#define RANGES_MOST	1000u	/* in one answer */

/* The error's class; the reason says the rest. */
static void fail(struct call *call, int err, const char *reason)
{
	call_fail(call, err == ENOENT ? "NotFound" : err == EBUSY ? "WrongState" : err == EAGAIN ? "NotDrained" : "Failed",
		  "%s", reason);
}

static void finish(struct call *call, int err, const char *reason)
{
	if (err)
		fail(call, err, reason);
	else
		call_return(call, NULL);
}

static void add_test(void *data, const struct hub_test_info *t)
{
	struct json_object *o = json_object_new_object(), *exports = json_object_new_array();
	char name[16 + HUB_TEST_ID + REPAGENT_NAME_MAX];
	unsigned int i;

	put_text(o, "test", t->id);
	put_text(o, "group", t->group);
	put_position(o, "point", t->incarnation, t->seq);
	put_time(o, "point-time", t->point_time);
	put_time(o, "since", t->since);
	put_number(o, "written", t->used);
	if (t->limit)
		put_number(o, "limit", t->limit);
	else
		put_null(o, "limit");
	for (i = 0; i < t->nr_volumes; i++) {
		snprintf(name, sizeof(name), "test/%s/%s", t->id, t->volume[i]);
		json_object_array_add(exports, json_object_new_string(name));
	}
	json_object_object_add(o, "exports", exports);
	put_number(o, "users", t->users);
	put_text(o, "trouble", t->trouble);
	json_object_array_add(data, o);
}

/** query_tests - the fail-over tests that are there */
void query_tests(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();

	(void)arguments;
	hub_tests(owner, add_test, list);
	call_return(call, list);
}

/** test_start - begin a fail-over test */
void test_start(void *owner, struct call *call, struct json_object *arguments)
{
	char id[HUB_TEST_ID], reason[HUB_REASON_MAX];
	struct json_object *list, *o = NULL;
	size_t i;
	int err = hub_test_start(owner, get_text(arguments, "group"), get_text(arguments, "point"),
				 get_number(arguments, "bytes"), id, reason);

	if (err) {
		fail(call, err, reason);
		return;
	}
	list = json_object_new_array();
	hub_tests(owner, add_test, list);
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (!strcmp(get_text(o, "test"), id))
			break;
	}
	call_return(call, i < length_of(list) ? json_object_get(o) : NULL);
	json_object_put(list);
}

/** test_stop - end one, and keep what came of it */
void test_stop(void *owner, struct call *call, struct json_object *arguments)
{
	const char *note = get(arguments, "note") ? get_text(arguments, "note") : NULL, *result = NULL, *p;
	char reason[HUB_REASON_MAX];

	for (p = note; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			call_fail(call, "InvalidArgument", "note: expected one line, and byte %zu of it is 0x%02x", (size_t)(p - note),
				  (unsigned char)*p);
			return;
		}
	if (note && strlen(note) >= HUB_NOTE_MAX) {
		call_fail(call, "InvalidArgument", "note: expected at most %u bytes", HUB_NOTE_MAX - 1);
		return;
	}
	if (get(arguments, "passed"))
		result = get_bool(arguments, "passed") ? "passed" : "failed";
	else if (note) {
		call_fail(call, "InvalidArgument", "note: expected it with passed");
		return;
	}
	finish(call, hub_test_stop(owner, get_text(arguments, "test"), result, note, reason), reason);
}

/** failover - let the volumes of a group be written here, and by its old source no more */
void failover(void *owner, struct call *call, struct json_object *arguments)
{
	uint64_t seconds = get_number(arguments, "commit-after");
	struct hub_order order = {
		.point = get_text(arguments, "point"), .planned = get_bool(arguments, "planned"),
		.partial = get_bool(arguments, "partial"), .commit_after = seconds * NSEC_PER_SEC,
	};
	char reason[HUB_REASON_MAX];

	if (seconds > UINT64_MAX / NSEC_PER_SEC / 2) {
		call_fail(call, "InvalidArgument", "commit-after %" PRIu64 ": expected at most %" PRIu64 " seconds", seconds,
			  UINT64_MAX / NSEC_PER_SEC / 2);
		return;
	}
	finish(call, hub_failover(owner, get_text(arguments, "group"), &order, reason), reason);
}

/** commit - what was written since the fail-over stays, for good */
void commit(void *owner, struct call *call, struct json_object *arguments)
{
	char reason[HUB_REASON_MAX];

	finish(call, hub_commit(owner, get_text(arguments, "group"), reason), reason);
}

/** rollback - nothing of what was written since the fail-over stays */
void rollback(void *owner, struct call *call, struct json_object *arguments)
{
	char reason[HUB_REASON_MAX];

	finish(call, hub_rollback(owner, get_text(arguments, "group"), reason), reason);
}

/* struct ranges - of one answer: those from @from on; @next: where to go on, UINT64_MAX: all is told */
struct ranges {
	struct json_object *list;
	uint64_t from, next;
	unsigned int most;
};

static bool add_range(void *data, uint64_t offset, uint64_t length)
{
	struct ranges *r = data;
	struct json_object *pair;

	if (offset + length <= r->from)
		return true;
	if (length_of(r->list) == r->most) {
		r->next = offset;
		return false;
	}
	pair = json_object_new_array();
	json_object_array_add(pair, json_object_new_uint64(offset));
	json_object_array_add(pair, json_object_new_uint64(length));
	json_object_array_add(r->list, pair);
	return true;
}

/** query_changed - which ranges of a volume were written since a point, by whomever */
void query_changed(void *owner, struct call *call, struct json_object *arguments)
{
	struct ranges r = { .from = get_number(arguments, "from"), .next = UINT64_MAX };
	char reason[HUB_REASON_MAX];
	struct json_object *o;
	int err;

	if (!most_of(call, arguments, RANGES_MOST, &r.most))
		return;
	r.list = json_object_new_array();
	err = hub_changed(owner, get_text(arguments, "group"), get_text(arguments, "volume"), get_text(arguments, "since"),
			  add_range, &r, reason);
	if (err) {
		json_object_put(r.list);
		fail(call, err, reason);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "ranges", r.list);
	if (r.next == UINT64_MAX)
		put_null(o, "next");
	else
		put_number(o, "next", r.next);
	call_return(call, o);
}
