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
	WITH_RESULT	= 1 << 6,	/* --passed, --failed, --note */
	WITH_ORDER	= 1 << 7,	/* --planned, --partial, --commit-after */
	WITH_BYTES	= 1 << 8,
	WITH_SINCE	= 1 << 9,	/* --since, --volume */
	WITH_WAIT	= 1 << 10,
	WITH_VERIFY	= 1 << 11,	/* --rate, --stop */
};

/*
 * struct options - what was said on the command line
 * @group:	NULL: none; of test stop the test; of verify perhaps with a volume behind it
 * @given:	enum option_bit, of those that were said
 * @age, @bytes, @when_full: texts that are sound; NULL: not said
 * @wait:	ns, for a planned move, or the end of a comparison
 */
struct options {
	const char *dir, *control;
	const char *group;
	unsigned int given;
	bool json, timed, follow, yes, to_default;
	uint64_t most;
	const char *age, *bytes, *when_full;
	const char *at, *result, *note;
	const char *since, *volume;
	uint64_t wait;
	bool planned, partial, stop;
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
int show_groups(struct hub *h);
int show_volumes(struct hub *h);
int show_points(struct hub *h);
int show_views(struct hub *h);
int show_space(struct hub *h);

/* events.c, change.c */
int show_events(struct hub *h);
int do_retention(struct hub *h);
int do_forget(struct hub *h);

/* verify.c */
int do_verify(struct hub *h);

/* recover.c */
int test_start(struct hub *h);
int test_stop(struct hub *h);
int test_list(struct hub *h);
int do_failover(struct hub *h);
int do_commit(struct hub *h);
int do_rollback(struct hub *h);
int show_changed(struct hub *h);

#endif /* REPHUBCTL_H */
