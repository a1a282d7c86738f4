// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rephubctl: asks a hub on this host what it has, and tells it what to keep.
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
"Show what a rephub on this host has, and tell it what to keep.\n"
"\n"
"  groups               its groups\n"
"  volumes GROUP        a group's volumes\n"
"  points GROUP         checkpoints, resyncs and holes in a group's history, the\n"
"                       newest first\n"
"  views                views that are open: whose, and at which point\n"
"  space                what the groups take of the disk, and when it is full\n"
"  events [GROUP]       what happened, the newest last\n"
"  retention GROUP      how much of a group's history is kept; or, with --age,\n"
"                       --bytes, --when-full or --default, from now on\n"
"  verify GROUP[/VOLUME]   have volumes compared with their source, beside its\n"
"                       writes, and what differs sent again\n"
"  forget GROUP         remove a group with all of its history\n"
"\n"
"  test start GROUP --at POINT   the group's volumes at a point, to be written to;\n"
"                       the replica is not touched, and replication goes on\n"
"  test stop TEST       end it, with its result: --passed or --failed\n"
"  test list            the tests that there are\n"
"  failover GROUP --at POINT     let the VM run on live/GROUP/VOLUME; from now on\n"
"                       its old source can change nothing here\n"
"  commit GROUP         keep what was written since\n"
"  rollback GROUP       forget what was written since\n"
"  changed GROUP --since POINT --volume VOLUME\n"
"                       which ranges were written since, by whomever\n"
"\n"
"  -d, --dir DIR        of the hub (" DIR_DEFAULT ")\n"
"      --control PATH   its control socket (DIR/control)\n"
"      --json           as JSON, with everything that is known\n"
"      --most N         points, events: at most so many (20)\n"
"      --timed          points: the checkpoints of each second too\n"
"  -f, --follow         events: go on, until it is ended\n"
"      --age DURATION   retention: of the journal, such as 36h or 7d (0: no limit)\n"
"      --bytes SIZE     retention: of the journal, such as 20G (0: no limit)\n"
"      --when-full WORD retention: when the hub's disk is full, drop-history (the\n"
"                       oldest) or stop-ingest (until there is room)\n"
"      --default        retention: as the hub has it for all groups\n"
"      --rate SIZE      verify: at most so much a second, such as 10M\n"
"      --stop           verify: no longer\n"
"      --yes            forget: do not ask\n"
"      --at POINT       latest, a position, a time or a label, as behind the @ of\n"
"                       a view's name\n"
"      --max-bytes SIZE test start: at most so much can be written\n"
"      --passed, --failed, --note TEXT  test stop: what points will show\n"
"      --planned        failover: only if the source has ended, with all it had\n"
"      --wait DURATION  ... wait for that, but no longer than this (0); verify: wait\n"
"                       until it is over, and fail unless all is well then\n"
"      --partial        failover: without volumes that cannot be used at that point\n"
"      --commit-after DURATION  failover: it commits by itself then\n"
"\n"
"  -h, --help           show this\n"
"  -V, --version        show the version\n"
"\n"
"Exit status: 0 done, 1 failure, 2 wrong usage.  More in rephubctl(8).\n";

enum option_id { OPT_CONTROL = 256, OPT_JSON, OPT_MOST, OPT_TIMED, OPT_AGE, OPT_BYTES, OPT_DEFAULT, OPT_YES,
	OPT_AT, OPT_MAX, OPT_PASSED, OPT_FAILED, OPT_NOTE, OPT_PLANNED, OPT_PARTIAL, OPT_COMMIT,
	OPT_WAIT, OPT_SINCE, OPT_VOLUME, OPT_RATE, OPT_STOP, OPT_WHEN_FULL };

static const struct option options[] = {
	{ "dir",	required_argument, NULL, 'd' },
	{ "control",	required_argument, NULL, OPT_CONTROL },
	{ "json",	no_argument, NULL, OPT_JSON },
	{ "most",	required_argument, NULL, OPT_MOST },
	{ "timed",	no_argument, NULL, OPT_TIMED },
	{ "follow",	no_argument, NULL, 'f' },
	{ "age",	required_argument, NULL, OPT_AGE },
	{ "bytes",	required_argument, NULL, OPT_BYTES },
	{ "when-full",	required_argument, NULL, OPT_WHEN_FULL },
	{ "default",	no_argument, NULL, OPT_DEFAULT },
	{ "yes",	no_argument, NULL, OPT_YES },
	{ "at",		required_argument, NULL, OPT_AT },
	{ "max-bytes",	required_argument, NULL, OPT_MAX },
	{ "passed",	no_argument, NULL, OPT_PASSED },
	{ "failed",	no_argument, NULL, OPT_FAILED },
	{ "note",	required_argument, NULL, OPT_NOTE },
	{ "planned",	no_argument, NULL, OPT_PLANNED },
	{ "partial",	no_argument, NULL, OPT_PARTIAL },
	{ "commit-after", required_argument, NULL, OPT_COMMIT },
	{ "wait",	required_argument, NULL, OPT_WAIT },
	{ "since",	required_argument, NULL, OPT_SINCE },
	{ "volume",	required_argument, NULL, OPT_VOLUME },
	{ "rate",	required_argument, NULL, OPT_RATE },
	{ "stop",	no_argument, NULL, OPT_STOP },
	{ "help",	no_argument, NULL, 'h' },
	{ "version",	no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static struct options cfg = { .dir = DIR_DEFAULT, .most = 20 };

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
	{ "verify",	GROUP,		WITH_VERIFY | WITH_WAIT, do_verify },
	{ "forget",	GROUP,		WITH_YES,		do_forget },
	{ "test start",	GROUP,		WITH_AT | WITH_BYTES,	test_start },
	{ "test stop",	TEST,		WITH_RESULT,		test_stop },
	{ "test list",	NO_GROUP,	0,			test_list },
	{ "failover",	GROUP,		WITH_AT | WITH_ORDER | WITH_WAIT, do_failover },
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

static void parse_option(int c, char **argv)
{
	uint64_t n;

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
	case OPT_WHEN_FULL:
		if (strcmp(optarg, "drop-history") && strcmp(optarg, "stop-ingest"))
			usage_error("--when-full '%s': expected drop-history or stop-ingest", optarg);
		cfg.when_full = optarg;
		cfg.given |= WITH_RETENTION;
		break;
	case OPT_DEFAULT:
		cfg.to_default = true;
		cfg.given |= WITH_RETENTION;
		break;
	case OPT_AT:
		cfg.at = optarg;
		cfg.given |= WITH_AT;
		break;
	case OPT_MAX:
		if (!parse_size(optarg, &n) || !n || n > INT64_MAX)
			usage_error("--max-bytes '%s': expected a size such as 512M or 20G", optarg);
		cfg.bytes = optarg;
		cfg.given |= WITH_BYTES;
		break;
	case OPT_PASSED:
	case OPT_FAILED:
		if (cfg.result)
			usage_error("expected --passed or --failed once");
		cfg.result = c == OPT_PASSED ? "passed" : "failed";
		cfg.given |= WITH_RESULT;
		break;
	case OPT_NOTE:
		cfg.note = optarg;
		cfg.given |= WITH_RESULT;
		break;
	case OPT_PLANNED:
		cfg.planned = true;
		cfg.given |= WITH_ORDER;
		break;
	case OPT_PARTIAL:
		cfg.partial = true;
		cfg.given |= WITH_ORDER;
		break;
	case OPT_COMMIT:
		if (!parse_duration(optarg, &n) || n < NSEC_PER_SEC)
			usage_error("--commit-after '%s': expected a duration of whole seconds such as 30min or 36h", optarg);
		cfg.age = optarg;
		cfg.given |= WITH_ORDER;
		break;
	case OPT_WAIT:
		if (!parse_duration(optarg, &cfg.wait))
			usage_error("--wait '%s': expected a duration such as 30s or 5min", optarg);
		cfg.given |= WITH_WAIT;
		break;
	case OPT_RATE:
		if (!parse_size(optarg, &n) || !n || n > INT64_MAX)
			usage_error("--rate '%s': expected a size such as 512K or 10M", optarg);
		cfg.bytes = optarg;
		cfg.given |= WITH_VERIFY;
		break;
	case OPT_STOP:
		cfg.stop = true;
		cfg.given |= WITH_VERIFY;
		break;
	case OPT_SINCE:
		cfg.since = optarg;
		cfg.given |= WITH_SINCE;
		break;
	case OPT_VOLUME:
		cfg.volume = optarg;
		cfg.given |= WITH_SINCE;
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
	const struct command *cmd = NULL;
	char name[32];
	int c, nr;
	size_t i;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":d:fhV", options, NULL)) != -1)
		parse_option(c, argv);
	if (optind == argc)
		usage_error("expected %s", command_names());
	/* test has words of its own */
	snprintf(name, sizeof(name), "%s", argv[optind]);
	if (!strcmp(name, "test") && optind + 1 < argc)
		snprintf(name, sizeof(name), "test %s", argv[++optind]);
	for (i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			cmd = &commands[i];
	if (!cmd)
		usage_error("'%s': expected %s", name, command_names());
	nr = argc - optind - 1;
	if (nr > (cmd->group == NO_GROUP ? 0 : 1) || (!nr && cmd->group >= GROUP))
		usage_error("%s: expected %s behind it", cmd->name, cmd->group == NO_GROUP ? "nothing" :
			    cmd->group == GROUP ? "a group, and nothing more" :
			    cmd->group == TEST ? "a test, and nothing more" : "a group, or nothing");
	if (nr)
		cfg.group = argv[optind + 1];
	if (cfg.given & ~cmd->with)
		usage_error("%s does not know %s", cmd->name,
			    cfg.given & ~cmd->with & WITH_MOST ? "--most" : cfg.given & ~cmd->with & WITH_TIMED ? "--timed" :
			    cfg.given & ~cmd->with & WITH_FOLLOW ? "--follow" : cfg.given & ~cmd->with & WITH_YES ? "--yes" :
			    cfg.given & ~cmd->with & WITH_AT ? "--at" : cfg.given & ~cmd->with & WITH_BYTES ? "--max-bytes" :
			    cfg.given & ~cmd->with & WITH_RESULT ? "--passed, --failed or --note" :
			    cfg.given & ~cmd->with & WITH_ORDER ? "--planned, --partial or --commit-after" :
			    cfg.given & ~cmd->with & WITH_WAIT ? "--wait" : cfg.given & ~cmd->with & WITH_VERIFY ? "--rate or --stop" :
			    cfg.given & ~cmd->with & WITH_SINCE ? "--since or --volume" :
			    "--age, --bytes, --when-full or --default");
	if (cmd->with & WITH_AT && !cfg.at)
		usage_error("%s: expected --at POINT, such as --at latest", cmd->name);
	if (cmd->with & WITH_SINCE && (!cfg.since || !cfg.volume))
		usage_error("%s: expected --since POINT and --volume VOLUME", cmd->name);
	if (cfg.wait && !cfg.planned && cmd->with & WITH_ORDER)
		usage_error("--wait: expected it with --planned");
	if (cfg.stop && (cfg.bytes || cfg.wait))
		usage_error("--stop: expected it without --rate and --wait");
	if (cfg.note && !cfg.result)
		usage_error("--note: expected it with --passed or --failed");
	if (cmd->with & WITH_TIMED && cfg.most > POINTS_MOST)
		usage_error("--most %" PRIu64 ": expected at most %u points", cfg.most, POINTS_MOST);
	if (cfg.to_default && (cfg.age || cfg.bytes || cfg.when_full))
		usage_error("--default: expected it without --age, --bytes and --when-full");
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
