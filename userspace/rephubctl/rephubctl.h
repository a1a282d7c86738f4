/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of rephubctl share. */
#ifndef REPHUBCTL_H
#define REPHUBCTL_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/client.h"
#include "../repctl/json.h"

#define WHEN_MAX	32	/* bytes that suffice for a time */
#define POINTS_MOST	200u	/* in one answer */

/* Options that a command knows, beside those of all. */
enum option_bit {
	WITH_MOST	= 1 << 0,
	WITH_TIMED	= 1 << 1,
	WITH_FOLLOW	= 1 << 2,
	WITH_RETENTION	= 1 << 3,
	WITH_YES	= 1 << 4,
	WITH_AT		= 1 << 5,
	WITH_LIMIT	= 1 << 6,
	WITH_ORDER	= 1 << 7,
	WITH_RESULT	= 1 << 8,
	WITH_SINCE	= 1 << 9,
};

/*
 * struct options - what was said on the command line
 * @group:	NULL: none; of a test its id
 * @given:	enum option_bit, of those that were said
 * @age, @bytes: texts that are sound; NULL: not said
 * @at, @since, @volume, @result, @note: NULL: not said
 * @commit_after, @wait: ns
 */
struct options {
	const char *dir, *control;
	const char *group;
	unsigned int given;
	bool json, timed, follow, yes, to_default;
	uint64_t most;
	const char *age, *bytes;
	const char *at, *since, *volume, *result, *note;
	bool planned, partial;
	uint64_t limit, commit_after, wait;
};

/* struct hub - a connection, and what was asked for */
struct hub {
	struct client client;
	struct options *opt;
};

/* main.c */
bool hub_connect(struct hub *h);
struct json_object *hub_ask(struct hub *h, const char *command, struct json_object *arguments);

/* show.c: each returns the exit status */
const char *when(char *buf, struct json_object *o, const char *name);
const char *text_or_null(struct json_object *o, const char *name);
void show_json(struct json_object *o);
int ask_and_show(struct hub *h, const char *command, struct json_object *arguments,
		 void (*show)(struct json_object *result));
struct json_object *of_group(const struct hub *h);
int show_groups(struct hub *h);
int show_volumes(struct hub *h);
int show_points(struct hub *h);
int show_views(struct hub *h);
int show_space(struct hub *h);

/* events.c, change.c */
int show_events(struct hub *h);
int do_retention(struct hub *h);
int do_forget(struct hub *h);

/* failover.c */
int do_failover(struct hub *h);
int do_commit(struct hub *h);
int do_rollback(struct hub *h);
int do_test_start(struct hub *h);
int do_test_stop(struct hub *h);
int show_tests(struct hub *h);
int show_changed(struct hub *h);

#endif /* REPHUBCTL_H */
