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

static void fail(struct call *call, int err, const char *what, const char *reason)
{
	call_fail(call, err == ENOENT ? "NotFound" : err == EBUSY ? "WrongState" : err == EAGAIN ? "NotDrained" : "Failed",
		  "%.64s: %s", what, reason);
}

static const char *text_of(struct json_object *arguments, const char *name)
{
	return get(arguments, name) ? get_text(arguments, name) : NULL;
}

/* struct found - the state of one group, and what can be opened of it */
struct found {
	const char *group;
	struct json_object *o;
	struct json_object *exports;
};

static void add_export(void *data, const struct hub_volume_info *v)
{
	char name[2 * REPAGENT_NAME_MAX + 8];
	struct found *f = data;

	if (v->state)
		return;
	snprintf(name, sizeof(name), "live/%s/%s", v->group, v->name);
	json_object_array_add(f->exports, json_object_new_string(name));
}

static void add_state(void *data, const struct hub_group_info *g)
{
	struct found *f = data;

	if (strcmp(g->name, f->group))
		return;
	put_text(f->o, "group", g->name);
	put_number(f->o, "generation", g->generation);
	put_failover(f->o, g);
	if (!g->live)
		f->exports = NULL;
}

static void return_state(void *owner, struct call *call, const char *group)
{
	struct json_object *exports = json_object_new_array();
	struct found f = { group, json_object_new_object(), exports };

	hub_groups(owner, add_state, &f);
	if (f.exports)
		hub_volumes(owner, group, add_export, &f);
	json_object_object_add(f.o, "exports", exports);
	call_return(call, f.o);
}

/** put_failover - whether a group is failed over, and who has it open */
void put_failover(struct json_object *o, const struct hub_group_info *g)
{
	put_text(o, "failover", g->failover);
	put_time(o, "fenced-since", g->fenced_since);
	put_time(o, "commit-at", g->commit_at);
	put_number(o, "live-users", g->live_users);
}

/** failover - let the group's volumes be written here, as they were at a point */
void failover(void *owner, struct call *call, struct json_object *arguments)
{
	const char *group = get_text(arguments, "group");
	uint64_t after = get_number(arguments, "commit-after");
	struct hub_order order = {
		.point = get_text(arguments, "at"),
		.planned = get_bool(arguments, "planned"),
		.partial = get_bool(arguments, "partial"),
		.commit_after = after * NSEC_PER_SEC,
	};
	char reason[HUB_REASON_MAX];
	int err;

	if (after > INT64_MAX / NSEC_PER_SEC / 2) {
		call_fail(call, "InvalidArgument", "commit-after %" PRIu64 ": expected seconds, fewer than 150 years of them", after);
		return;
	}
	err = hub_failover(owner, group, &order, reason);
	if (err)
		fail(call, err, group, reason);
	else
		return_state(owner, call, group);
}

/** commit - what was written since a fail-over stays */
void commit(void *owner, struct call *call, struct json_object *arguments)
{
	const char *group = get_text(arguments, "group");
	char reason[HUB_REASON_MAX];
	int err = hub_commit(owner, group, reason);

	if (err)
		fail(call, err, group, reason);
	else
		return_state(owner, call, group);
}

/** rollback - nothing of what was written since a fail-over stays */
void rollback(void *owner, struct call *call, struct json_object *arguments)
{
	const char *group = get_text(arguments, "group");
	char reason[HUB_REASON_MAX];
	int err = hub_rollback(owner, group, reason);

	if (err)
		fail(call, err, group, reason);
	else
		return_state(owner, call, group);
}

static void add_test(void *data, const struct hub_test_info *t)
{
	struct json_object *o = json_object_new_object(), *exports = json_object_new_array();
	char name[REPAGENT_NAME_MAX + HUB_TEST_ID + 8];
	unsigned int i;

	put_text(o, "id", t->id);
	put_text(o, "group", t->group);
	put_position(o, "point", t->incarnation, t->seq);
	put_time(o, "point-time", t->point_time);
	put_time(o, "since", t->since);
	put_number(o, "used", t->used);
	if (t->limit)
		put_number(o, "max-bytes", t->limit);
	else
		put_null(o, "max-bytes");
	put_number(o, "users", t->users);
	put_text(o, "trouble", t->trouble);
	for (i = 0; i < t->nr_volumes; i++) {
		snprintf(name, sizeof(name), "test/%s/%s", t->id, t->volume[i]);
		json_object_array_add(exports, json_object_new_string(name));
	}
	json_object_object_add(o, "exports", exports);
	json_object_array_add(data, o);
}

/** query_tests - the fail-over tests that there are */
void query_tests(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array();

	(void)arguments;
	hub_tests(owner, add_test, list);
	call_return(call, list);
}

/** test_start - let the group's volumes at a point be written, and forget that later */
void test_start(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list, *o = NULL;
	const char *group = get_text(arguments, "group");
	char id[HUB_TEST_ID], reason[HUB_REASON_MAX];
	size_t i;
	int err;

	err = hub_test_start(owner, group, get_text(arguments, "at"), get_number(arguments, "max-bytes"), id, reason);
	if (err) {
		fail(call, err, group, reason);
		return;
	}
	list = json_object_new_array();
	hub_tests(owner, add_test, list);
	for (i = 0; i < length_of(list); i++)
		if (!strcmp(get_text(json_object_array_get_idx(list, i), "id"), id))
			o = json_object_get(json_object_array_get_idx(list, i));
	json_object_put(list);
	call_return(call, o);
}

/* A line that a person wrote, to be kept in a line. */
static bool note_ok(const char *note)
{
	size_t len = strlen(note);

	for (; *note; note++)
		if ((unsigned char)*note < ' ' || *note == 127)
			return false;
	return len && len <= HUB_NOTE_MAX;
}

/** test_stop - forget what was written to a test, and note what became of it */
void test_stop(void *owner, struct call *call, struct json_object *arguments)
{
	const char *id = get_text(arguments, "id"), *result = text_of(arguments, "result");
	const char *note = text_of(arguments, "note");
	char reason[HUB_REASON_MAX];
	int err;

	if (result && strcmp(result, "passed") && strcmp(result, "failed")) {
		call_fail(call, "InvalidArgument", "result '%.40s': expected passed or failed", result);
		return;
	}
	if (note && !note_ok(note)) {
		call_fail(call, "InvalidArgument", "note: expected 1 to %u bytes of one line", HUB_NOTE_MAX);
		return;
	}
	err = hub_test_stop(owner, id, result ? result : note ? "ended" : NULL, note, reason);
	if (err)
		fail(call, err, id, reason);
	else
		call_return(call, NULL);
}

/* struct ranges - of one answer: those from @from on */
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
	const char *group = get_text(arguments, "group");
	struct ranges r = { .from = get_number(arguments, "from"), .next = UINT64_MAX };
	char reason[HUB_REASON_MAX];
	struct json_object *o;
	int err;

	if (!most_of(call, arguments, RANGES_MOST, &r.most))
		return;
	r.list = json_object_new_array();
	err = hub_changed(owner, group, get_text(arguments, "volume"), get_text(arguments, "since"), add_range, &r, reason);
	if (err) {
		json_object_put(r.list);
		fail(call, err, group, reason);
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
