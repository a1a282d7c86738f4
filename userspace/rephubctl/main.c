// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rephubctl: asks a hub on this host what it has, tells it what to keep, and fails groups over.
 */
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/parse.h"
#include "../common/usage.h"
#include "rephubctl.h"

#define DIR_DEFAULT	"/var/lib/rephub"
#define TIMEOUT_MS	30000

static const char usage_text[] =
"Usage: rephubctl [OPTION...] COMMAND [GROUP]\n"
"Show what a rephub on this host has, tell it what to keep, and fail groups over.\n"
"\n"
"  groups               its groups\n"
"  volumes GROUP        a group's volumes\n"
"  points GROUP         checkpoints, resyncs and holes in a group's history, the\n"
"                       newest first\n"
"  views                views that are open: whose, and at which point\n"
"  space                what the groups take of the disk, and when it is full\n"
"  events [GROUP]       what happened, the newest last\n"
"  retention GROUP      how much of a group's history is kept; or, with --age,\n"
"                       --bytes or --default, from now on\n"
"  forget GROUP         remove a group with all of its history\n"
"\n"
"  test start GROUP     let the volumes at a point be written as test/ID/VOLUME, for\n"
"                       a test; replication goes on. Prints the ID\n"
"  test stop ID         end it, and forget what was written\n"
"  test list            the tests that there are\n"
"  failover GROUP       fence the group's source off, and let the volumes at a point\n"
"                       be written as live/GROUP/VOLUME\n"
"  commit GROUP         what was written there stays; there is no way back\n"
"  rollback GROUP       nothing of it stays, and the source may go on\n"
"  changed GROUP        what was written to a volume since a point, by whomever\n"
"\n"
"  -d, --dir DIR        of the hub (" DIR_DEFAULT ")\n"
"      --control PATH   its control socket (DIR/control)\n"
"      --json           as JSON, with everything that is known\n"
"      --most N         points, events: at most so many (20)\n"
"      --timed          points: the checkpoints of each second too\n"
"  -f, --follow         events: go on, until it is ended\n"
"      --age DURATION   retention: of the journal, such as 36h or 7d (0: no limit)\n"
"      --bytes SIZE     retention: of the journal, such as 20G (0: no limit)\n"
"      --default        retention: as the hub has it for all groups\n"
"      --yes            forget: do not ask\n"
"      --at POINT       test, failover: latest, a position, a time, or a label\n"
"      --max-bytes SIZE test: that may be written (10G; 0: no limit)\n"
"      --passed, --failed, --note TEXT\n"
"                       test stop: what became of it, for the point\n"
"      --planned        failover: once the source has ended and all has come\n"
"      --wait DURATION  ... but no longer than that (60s)\n"
"      --partial        failover: without volumes that cannot be used there\n"
"      --commit-after DURATION\n"
"                       failover: commit by itself then\n"
"      --since POINT, --volume VOLUME\n"
"                       changed: which is asked for\n"
"\n"
"  -h, --help           show this\n"
"  -V, --version        show the version\n"
"\n"
"Exit status: 0 done, 1 failure, 2 wrong usage.  More in rephubctl(8).\n";

enum option_id {
	OPT_CONTROL = 256, OPT_JSON, OPT_MOST, OPT_TIMED, OPT_AGE, OPT_BYTES, OPT_DEFAULT, OPT_YES,
	OPT_AT, OPT_LIMIT, OPT_PASSED, OPT_FAILED, OPT_NOTE, OPT_PLANNED, OPT_WAIT, OPT_PARTIAL, OPT_COMMIT_AFTER,
	OPT_SINCE, OPT_VOLUME,
};

static const struct option options[] = {
	{ "dir",	required_argument, NULL, 'd' },
	{ "control",	required_argument, NULL, OPT_CONTROL },
	{ "json",	no_argument, NULL, OPT_JSON },
	{ "most",	required_argument, NULL, OPT_MOST },
	{ "timed",	no_argument, NULL, OPT_TIMED },
	{ "follow",	no_argument, NULL, 'f' },
	{ "age",	required_argument, NULL, OPT_AGE },
	{ "bytes",	required_argument, NULL, OPT_BYTES },
	{ "default",	no_argument, NULL, OPT_DEFAULT },
	{ "yes",	no_argument, NULL, OPT_YES },
	{ "at",		required_argument, NULL, OPT_AT },
	{ "max-bytes",	required_argument, NULL, OPT_LIMIT },
	{ "passed",	no_argument, NULL, OPT_PASSED },
	{ "failed",	no_argument, NULL, OPT_FAILED },
	{ "note",	required_argument, NULL, OPT_NOTE },
	{ "planned",	no_argument, NULL, OPT_PLANNED },
	{ "wait",	required_argument, NULL, OPT_WAIT },
	{ "partial",	no_argument, NULL, OPT_PARTIAL },
	{ "commit-after", required_argument, NULL, OPT_COMMIT_AFTER },
	{ "since",	required_argument, NULL, OPT_SINCE },
	{ "volume",	required_argument, NULL, OPT_VOLUME },
	{ "help",	no_argument, NULL, 'h' },
	{ "version",	no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static struct options cfg = {
	.dir = DIR_DEFAULT, .most = 20, .limit = UINT64_C(10) << 30, .wait = 60 * NSEC_PER_SEC,
};

enum wants_group { NO_GROUP, MAY_GROUP, GROUP, TEST };

static const struct command {
	const char *name;
	enum wants_group group;
	unsigned int with;
	int (*run)(struct hub *h);
} commands[] = {
	{ "groups",	NO_GROUP,	0,			show_groups },
	{ "volumes",	GROUP,		0,			show_volumes },
	{ "points",	GROUP,		WITH_MOST | WITH_TIMED,	show_points },
	{ "views",	NO_GROUP,	0,			show_views },
	{ "space",	NO_GROUP,	0,			show_space },
	{ "events",	MAY_GROUP,	WITH_MOST | WITH_FOLLOW, show_events },
	{ "retention",	GROUP,		WITH_RETENTION,		do_retention },
	{ "forget",	GROUP,		WITH_YES,		do_forget },
	{ "test start",	GROUP,		WITH_AT | WITH_LIMIT,	do_test_start },
	{ "test stop",	TEST,		WITH_RESULT,		do_test_stop },
	{ "test list",	NO_GROUP,	0,			show_tests },
	{ "failover",	GROUP,		WITH_AT | WITH_ORDER,	do_failover },
	{ "commit",	GROUP,		0,			do_commit },
	{ "rollback",	GROUP,		0,			do_rollback },
	{ "changed",	GROUP,		WITH_SINCE,		show_changed },
};

#define NR_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

/**
 * hub_connect - connect, anew if need be
 * @h: the hub
 *
 * Return: whether it is; else it was said why not.
 */
bool hub_connect(struct hub *h)
{
	char error[CLIENT_ERROR_MAX], path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/control", h->opt->dir);
	if (client_connect(&h->client, h->opt->control ? h->opt->control : path, TIMEOUT_MS, error))
		return true;
	fprintf(stderr, "rephubctl: %s\n", error);
	return false;
}

/**
 * hub_ask - have a command executed
 * @h: the hub
 * @command: its name
 * @arguments: of the command, which are put; NULL: none
 *
 * Return: what it returns, or NULL; then it was said why.
 */
struct json_object *hub_ask(struct hub *h, const char *command, struct json_object *arguments)
{
	char error[CLIENT_ERROR_MAX], class[CLIENT_CLASS_MAX];
	struct json_object *result = NULL;

	if (client_call(&h->client, command, arguments, TIMEOUT_MS, &result, class, error))
		return result;
	fprintf(stderr, "rephubctl: %s\n", error);
	return NULL;
}

static const char *command_names(void)
{
	static char text[512];
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", !i ? "" : i + 1 < NR_COMMANDS ? ", " :
			 " or ", commands[i].name);
	return text;
}

/* Those of tests and fail-over. Return whether it is one. */
static bool parse_failover_option(int c)
{
	static const struct { int c; unsigned int with; const char **text; bool *yes; } plain[] = {
		{ OPT_AT, WITH_AT, &cfg.at, NULL }, { OPT_NOTE, WITH_RESULT, &cfg.note, NULL },
		{ OPT_SINCE, WITH_SINCE, &cfg.since, NULL }, { OPT_VOLUME, WITH_SINCE, &cfg.volume, NULL },
		{ OPT_PLANNED, WITH_ORDER, NULL, &cfg.planned }, { OPT_PARTIAL, WITH_ORDER, NULL, &cfg.partial },
	};
	size_t i;

	for (i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (plain[i].c != c)
			continue;
		cfg.given |= plain[i].with;
		if (plain[i].text)
			*plain[i].text = optarg;
		else
			*plain[i].yes = true;
		return true;
	}
	switch (c) {
	case OPT_LIMIT:
		if (!parse_size(optarg, &cfg.limit) || (cfg.limit && cfg.limit < MIB) || cfg.limit > INT64_MAX)
			usage_error("--max-bytes '%s': expected a size such as 512M or 20G, or 0", optarg);
		cfg.given |= WITH_LIMIT;
		return true;
	case OPT_PASSED:
	case OPT_FAILED:
		if (cfg.result)
			usage_error("expected one of --passed and --failed");
		cfg.result = c == OPT_PASSED ? "passed" : "failed";
		cfg.given |= WITH_RESULT;
		return true;
	case OPT_WAIT:
		if (!parse_duration(optarg, &cfg.wait))
			usage_error("--wait '%s': expected a duration such as 30s or 5min", optarg);
		cfg.given |= WITH_ORDER;
		return true;
	case OPT_COMMIT_AFTER:
		if (!parse_duration(optarg, &cfg.commit_after) || cfg.commit_after < NSEC_PER_SEC)
			usage_error("--commit-after '%s': expected a duration of whole seconds such as 30min or 24h", optarg);
		cfg.given |= WITH_ORDER;
		return true;
	default:
		return false;
	}
}

static void parse_option(int c, char **argv)
{
	uint64_t n;

	if (parse_failover_option(c))
		return;
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
		if (!parse_count(optarg, &cfg.most) || !cfg.most)
			usage_error("--most '%s': expected a number from 1 on", optarg);
		cfg.given |= WITH_MOST;
		break;
	case OPT_TIMED:
		cfg.timed = true;
		cfg.given |= WITH_TIMED;
		break;
	case 'f':
		cfg.follow = true;
		cfg.given |= WITH_FOLLOW;
		break;
	case OPT_AGE:
		if (!parse_duration(optarg, &n) || (n && n < NSEC_PER_SEC))
			usage_error("--age '%s': expected a duration of whole seconds such as 36h or 7d, or 0", optarg);
		cfg.age = optarg;
		cfg.given |= WITH_RETENTION;
		break;
	case OPT_BYTES:
		if (!parse_size(optarg, &n) || n > INT64_MAX)
			usage_error("--bytes '%s': expected a size such as 512M or 20G, or 0", optarg);
		cfg.bytes = optarg;
		cfg.given |= WITH_RETENTION;
		break;
	case OPT_DEFAULT:
		cfg.to_default = true;
		cfg.given |= WITH_RETENTION;
		break;
	case OPT_YES:
		cfg.yes = true;
		cfg.given |= WITH_YES;
		break;
	default:
		usage_other(c, argv, usage_text);
	}
}

static const struct command *parse_options(int argc, char **argv)
{
	static const struct { unsigned int with; const char *names; } with_names[] = {
		{ WITH_MOST, "--most" }, { WITH_TIMED, "--timed" }, { WITH_FOLLOW, "--follow" }, { WITH_YES, "--yes" },
		{ WITH_RETENTION, "--age, --bytes or --default" }, { WITH_AT, "--at" }, { WITH_LIMIT, "--max-bytes" },
		{ WITH_ORDER, "--planned, --wait, --partial or --commit-after" },
		{ WITH_RESULT, "--passed, --failed or --note" }, { WITH_SINCE, "--since or --volume" },
	};
	const struct command *cmd = NULL;
	char word[40];
	int c, nr;
	size_t i;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":d:fhV", options, NULL)) != -1)
		parse_option(c, argv);
	if (optind == argc)
		usage_error("expected %s", command_names());
	if (!strcmp(argv[optind], "test"))
		snprintf(word, sizeof(word), "test %.20s", optind + 1 < argc ? argv[optind + 1] : "");
	else
		snprintf(word, sizeof(word), "%.30s", argv[optind]);
	for (i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(word, commands[i].name))
			cmd = &commands[i];
	if (!cmd)
		usage_error("'%s': expected %s", word, command_names());
	optind += strchr(word, ' ') ? 2 : 1;
	nr = argc - optind;
	if (nr > (cmd->group == NO_GROUP ? 0 : 1) || (!nr && cmd->group >= GROUP))
		usage_error("%s: expected %s behind it", cmd->name, cmd->group == NO_GROUP ? "nothing" :
			    cmd->group == GROUP ? "a group, and nothing more" : cmd->group == TEST ?
			    "the id of a test, and nothing more" : "a group, or nothing");
	if (nr)
		cfg.group = argv[optind];
	for (i = 0; i < sizeof(with_names) / sizeof(with_names[0]); i++)
		if (cfg.given & ~cmd->with & with_names[i].with)
			usage_error("%s does not know %s", cmd->name, with_names[i].names);
	if (cmd->with & WITH_AT && !cfg.at)
		usage_error("%s: expected --at POINT, such as --at latest", cmd->name);
	if (cmd->with & WITH_SINCE && (!cfg.since || !cfg.volume))
		usage_error("%s: expected --since POINT and --volume VOLUME", cmd->name);
	if (cmd->with & WITH_TIMED && cfg.most > POINTS_MOST)
		usage_error("--most %" PRIu64 ": expected at most %u points", cfg.most, POINTS_MOST);
	if (cfg.to_default && (cfg.age || cfg.bytes))
		usage_error("--default: expected it without --age and --bytes");
	return cmd;
}

int main(int argc, char **argv)
{
	const struct command *cmd = parse_options(argc, argv);
	struct hub h = { .opt = &cfg };
	int status;

	if (!hub_connect(&h))
		return EXIT_FAILURE;
	status = cmd->run(&h);
	client_close(&h.client);
	return status;
}
