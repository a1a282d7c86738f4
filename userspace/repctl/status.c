// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl status, volumes, list: to look.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "commands.h"
#include "groups.h"
#include "json.h"
#include "recovered.h"
#include "show.h"
#include "state.h"

enum { OPT_JSON = 256 };

static const struct option options[] = {
	{ "watch",	optional_argument, NULL, 'w' },
	{ "json",	no_argument, NULL, OPT_JSON },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* Of one group, or of all: an array. */
static struct json_object *collect(const char *group)
{
	struct json_object *states = json_object_new_array();
	struct groups groups;
	unsigned int i;

	if (group) {
		json_object_array_add(states, state_get(group));
		return states;
	}
	groups_find(&groups);
	for (i = 0; i < groups.nr; i++)
		json_object_array_add(states, state_get(groups.name[i]));
	groups_free(&groups);
	return states;
}

static bool all_protected(struct json_object *states)
{
	size_t i;

	for (i = 0; i < length_of(states); i++)
		if (!state_protected(json_object_array_get_idx(states, i)))
			return false;
	return true;
}

static void print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int print_all(struct json_object *states)
{
	bool served, any = length_of(states);

	if (any)
		show_groups(stdout, states, time(NULL));
	if (!recovered_show(stdout, NULL, any, &served) && !any)
		puts("This host protects nothing. To begin: repctl protect --help");
	return served && all_protected(states) ? EXIT_FINE : EXIT_UNPROTECTED;
}

static int print_one(struct json_object *s, const char *group)
{
	bool served, any = state_exists(s);

	if (any)
		show_group(stdout, s, time(NULL));
	if (!recovered_show(stdout, group, any, &served) && !any)
		return fail("there is no group %s on this host: %s", group, get_text(s, "remedy"));
	return served && (!any || state_protected(s)) ? EXIT_FINE : EXIT_UNPROTECTED;
}

static int print_once(const char *group, bool json)
{
	struct json_object *states = collect(group);
	int status;

	if (json) {
		print_json(states);
		status = all_protected(states) ? EXIT_FINE : EXIT_UNPROTECTED;
	} else if (group) {
		status = print_one(json_object_array_get_idx(states, 0), group);
	} else {
		status = print_all(states);
	}
	json_object_put(states);
	return status;
}

static int watch(const char *group, bool json, uint64_t ns)
{
	const struct timespec ts = { (time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC) };
	bool screen = isatty(STDOUT_FILENO) && !json;
	int status;

	for (;;) {
		if (screen)
			fputs("\033[H\033[2J", stdout);
		status = print_once(group, json);
		if (status == EXIT_FAILED)
			return status;
		if (!screen && !json)
			putchar('\n');
		if (fflush(stdout))
			return EXIT_FAILED;
		nanosleep(&ts, NULL);
	}
}

static int run_status(int argc, char **argv)
{
	uint64_t every = NSEC_PER_SEC;
	const char *group = NULL;
	bool json = false, again = false;
	int c, status;

	while ((c = next_option(argc, argv, ":w", options, &status)) != -1) {
		switch (c) {
		case 'w':
			again = true;
			if (optarg && (!parse_duration(optarg, &every) || every < 100 * NSEC_PER_MSEC))
				return usage_error("--watch '%s': expected a time such as 2 or 500ms, and 100ms at least", optarg);
			break;
		case OPT_JSON:
			json = true;
			break;
		default:
			return status;
		}
	}
	if (optind < argc && !take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group, or none for all", argv[optind]);
	return again ? watch(group, json, every) : print_once(group, json);
}

const struct command cmd_status = {
	"status", "[GROUP] [--watch[=TIME] | --json]",
	"Is everything protected, how far behind is it, and why is it not?",
	"      --watch[=TIME]  again and again, every second or so often\n"
	"      --json          for programs\n"
	"\nExit status: 0 all is protected, 3 something is not.\n",
	run_status
};

static int run_volumes(int argc, char **argv)
{
	const char *group;
	struct json_object *s;
	bool json = false;
	int c, status;

	while ((c = next_option(argc, argv, ":", options + 1, &status)) != -1) {
		if (c != OPT_JSON)
			return status;
		json = true;
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group", argv[optind]);
	s = state_get(group);
	status = EXIT_FINE;
	if (!state_exists(s))
		status = fail("there is no group %s on this host: %s", group, get_text(s, "remedy"));
	else if (json)
		print_json(get(s, "volumes"));
	else
		show_volumes(stdout, s, 0);
	json_object_put(s);
	return status;
}

const struct command cmd_volumes = {
	"volumes", "GROUP [--json]",
	"The volumes of a group: sizes, images, devices, and where they go",
	"      --json  for programs\n",
	run_volumes
};

static int run_list(int argc, char **argv)
{
	struct groups groups;
	unsigned int i;
	int status;

	if (next_option(argc, argv, ":", options + 2, &status) != -1)
		return status;
	if (optind < argc)
		return usage_error("'%s' is too much: expected nothing", argv[optind]);
	groups_find(&groups);
	for (i = 0; i < groups.nr; i++)
		puts(groups.name[i]);
	groups_free(&groups);
	return EXIT_FINE;
}

const struct command cmd_list = {
	"list", "", "The names of this host's groups", "", run_list
};
