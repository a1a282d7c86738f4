// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rephubctl: asks a hub on this host what it has.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/client.h"
#include "../common/parse.h"
#include "../common/usage.h"
#include "../repctl/json.h"
#include "../repctl/table.h"

#define DIR_DEFAULT	"/var/lib/rephub"
#define TIMEOUT_MS	30000

static const char usage_text[] =
"Usage: rephubctl [OPTION...] groups\n"
"       rephubctl [OPTION...] volumes GROUP\n"
"       rephubctl [OPTION...] points GROUP\n"
"Show what a rephub on this host has: its groups; a group's volumes; and where in\n"
"a group's history there are checkpoints, resyncs and holes, the newest first.\n"
"\n"
"  -d, --dir DIR        of the hub (" DIR_DEFAULT ")\n"
"      --control PATH   its control socket (DIR/control)\n"
"      --json           as JSON, with everything that is known\n"
"      --most N         points: at most so many, up to 200 (20)\n"
"      --timed          points: the checkpoints of each second too\n"
"\n"
"  -h, --help           show this\n"
"  -V, --version        show the version\n"
"\n"
"Exit status: 0 done, 1 failure, 2 wrong usage.  More in rephubctl(8).\n";

enum option_id { OPT_CONTROL = 256, OPT_JSON, OPT_MOST, OPT_TIMED };

static const struct option options[] = {
	{ "dir",	required_argument, NULL, 'd' },
	{ "control",	required_argument, NULL, OPT_CONTROL },
	{ "json",	no_argument, NULL, OPT_JSON },
	{ "most",	required_argument, NULL, OPT_MOST },
	{ "timed",	no_argument, NULL, OPT_TIMED },
	{ "help",	no_argument, NULL, 'h' },
	{ "version",	no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static struct {
	const char *dir;
	const char *control;
	bool json, timed;
	uint64_t most;
} cfg = { .dir = DIR_DEFAULT, .most = 20 };

/* A time of the hub's, in this host's zone. */
static const char *when(char *buf, size_t size, struct json_object *o, const char *name)
{
	double seconds = get_seconds(o, name);
	time_t t = (time_t)seconds;
	struct tm tm;

	if (seconds < 0 || !localtime_r(&t, &tm))
		return NULL;
	strftime(buf, size, "%F %T", &tm);
	return buf;
}

static const char *text_or_null(struct json_object *o, const char *name)
{
	const char *text = get_text(o, name);

	return *text ? text : NULL;
}

static void show_groups(struct json_object *list)
{
	char journal[HUMAN_MAX], base[HUMAN_MAX], oldest[32], newest[32], views[24];
	struct json_object *o;
	struct table t;
	size_t i;

	table_init(&t, "llllrrrl");
	table_row(&t, "GROUP", "AGENT", "OLDEST POINT", "NEWEST", "JOURNAL", "BASE", "VIEWS", "NEWEST POINT");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		snprintf(views, sizeof(views), "%" PRIu64, get_number(o, "views"));
		table_row(&t, get_text(o, "group"), get_bool(o, "connected") ? "connected" : "away",
			  when(oldest, sizeof(oldest), o, "oldest-time"), when(newest, sizeof(newest), o, "newest-time"),
			  human_size(journal, get_number(o, "journal-bytes")),
			  human_size(base, get_number(o, "base-bytes")), views, text_or_null(o, "newest"));
	}
	table_print(&t, stdout, 0);
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (text_or_null(o, "trouble"))
			printf("%s: %s\n", get_text(o, "group"), get_text(o, "trouble"));
	}
}

static void show_volumes(struct json_object *list)
{
	struct json_object *o;
	char size[HUMAN_MAX];
	struct table t;
	size_t i;

	table_init(&t, "lrl");
	table_row(&t, "VOLUME", "SIZE", "STATE");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		table_row(&t, get_text(o, "volume"), human_size(size, get_number(o, "bytes")),
			  !get_bool(o, "usable") ? get_text(o, "why") : get_bool(o, "removed") ?
			  "removed on its host; can be viewed" : "can be viewed");
	}
	table_print(&t, stdout, 0);
}

static void show_points(struct json_object *list)
{
	struct json_object *o;
	struct table t;
	char time[32];
	size_t i;

	table_init(&t, "llll");
	table_row(&t, "TIME", "POINT", "WHAT", "");
	for (i = 0; i < length_of(list); i++) {
		o = json_object_array_get_idx(list, i);
		table_row(&t, when(time, sizeof(time), o, "time"), get_text(o, "point"), get_text(o, "what"),
			  get_text(o, "of"));
	}
	table_print(&t, stdout, 0);
}

static const struct query {
	const char *name, *command;
	bool group;
	void (*show)(struct json_object *list);
} queries[] = {
	{ "groups", "query-groups", false, show_groups },
	{ "volumes", "query-volumes", true, show_volumes },
	{ "points", "query-points", true, show_points },
};

static const struct query *parse_options(int argc, char **argv)
{
	size_t i;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":d:hV", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			cfg.dir = optarg;
			break;
		case OPT_CONTROL:
			cfg.control = optarg;
			break;
		case OPT_JSON:
			cfg.json = true;
			break;
		case OPT_MOST:
			if (!parse_count(optarg, &cfg.most) || !cfg.most || cfg.most > 200)
				usage_error("--most '%s': expected a number from 1 to 200", optarg);
			break;
		case OPT_TIMED:
			cfg.timed = true;
			break;
		default:
			usage_other(c, argv, usage_text);
		}
	}
	if (optind == argc)
		usage_error("expected groups, volumes or points");
	for (i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		if (strcmp(argv[optind], queries[i].name))
			continue;
		if (argc - optind - 1 != queries[i].group)
			usage_error("%s: expected %s behind it", argv[optind], queries[i].group ? "a group, and nothing more" :
				    "nothing");
		return &queries[i];
	}
	usage_error("'%s': expected groups, volumes or points", argv[optind]);
}

int main(int argc, char **argv)
{
	const struct query *q = parse_options(argc, argv);
	struct json_object *arguments = json_object_new_object(), *result = NULL;
	char error[CLIENT_ERROR_MAX], class[CLIENT_CLASS_MAX], path[PATH_MAX];
	struct client c;
	bool ok;

	snprintf(path, sizeof(path), "%s/control", cfg.dir);
	if (q->group)
		put_text(arguments, "group", argv[optind + 1]);
	if (q->show == show_points) {
		put_number(arguments, "most", cfg.most);
		put_bool(arguments, "timed", cfg.timed);
	}
	if (!client_connect(&c, cfg.control ? cfg.control : path, TIMEOUT_MS, error)) {
		json_object_put(arguments);
		fprintf(stderr, "rephubctl: %s\n", error);
		return EXIT_FAILURE;
	}
	ok = client_call(&c, q->command, arguments, TIMEOUT_MS, &result, class, error);
	client_close(&c);
	if (!ok) {
		fprintf(stderr, "rephubctl: %s\n", error);
		return EXIT_FAILURE;
	}
	if (cfg.json)
		printf("%s\n", json_object_to_json_string_ext(result, JSON_C_TO_STRING_PRETTY |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		q->show(result);
	json_object_put(result);
	return EXIT_SUCCESS;
}
