// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands that the daemon carries out, or the kernel if it can do so alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "../reader/volumes.h"
#include "commands.h"
#include "groups.h"
#include "json.h"
#include "state.h"
#include "system.h"

#define SECTOR	512

enum { OPT_JSON = 256, OPT_FORCE };

static const struct option options[] = {
	{ "follow",	no_argument, NULL, 'f' },
	{ "json",	no_argument, NULL, OPT_JSON },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static bool group_exists(const char *group)
{
	struct groups groups;
	bool found = false;
	unsigned int i;

	groups_find(&groups);
	for (i = 0; i < groups.nr && !found; i++)
		found = !strcmp(groups.name[i], group);
	groups_free(&groups);
	return found;
}

static int no_such_group(const char *group)
{
	char list[1024];

	list_groups(list, sizeof(list));
	return fail("there is no group %s on this host: %s", group, list);
}

/*
 * Options, a group and what follows it: *argument is NULL if nothing does.
 * Return whether to go on; else *status is the exit status.
 */
static bool take_words(int argc, char **argv, const char **group, const char **argument,
		       const char *expected, bool required, int *status)
{
	*argument = NULL;
	if (next_option(argc, argv, ":", options + 2, status) != -1)
		return false;
	*status = EXIT_WRONG_USAGE;
	if (!take_group(argc, argv, group))
		return false;
	if (expected && optind < argc)
		*argument = argv[optind++];
	if (optind < argc) {
		usage_error("'%s' is too much", argv[optind]);
	} else if (required && !*argument) {
		usage_error("expected %s", expected);
	} else if (!group_exists(*group)) {
		*status = no_such_group(*group);
	} else {
		*status = EXIT_FINE;
		return true;
	}
	return false;
}

static int no_daemon(const char *group, const char *why)
{
	return fail("the daemon of group %s does not answer (%s)\nType: systemctl start repagentd@%s; repctl status %s",
		    group, why, group, group);
}

static bool connect_daemon(struct client *c, const char *group, char *error)
{
	char path[CONTROL_PATH_MAX];

	control_path(path, group);
	return client_connect(c, path, CALL_TIMEOUT_MS, error);
}

/* What the daemon says to one command: an exit status, and *result to be put. */
static int ask(struct client *c, const char *group, const char *command, struct json_object *arguments,
	       struct json_object **result)
{
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];

	*result = NULL;
	if (client_call(c, command, arguments, WORK_TIMEOUT_MS, result, class, error))
		return EXIT_FINE;
	return *class ? fail("%s", error) : no_daemon(group, error);
}

static int no_volume(const char *group, const char *volume)
{
	return fail("group %s has no volume%s%s that is active\nType: repctl volumes %s", group,
		    volume ? " " : "", volume ? volume : "", group);
}

/* The kernel's answer to a message, to one volume of the group or to all; without a daemon. */
static int message(const char *group, const char *volume, bool all, const char *text)
{
	struct dmdev *devs = calloc(REPAGENT_MAX_VOLUMES, sizeof(*devs));
	char error[DMDEV_ERROR_MAX], reply[256];
	int nr, i, status = EXIT_FINE, told = 0;

	nr = devs ? dmdev_list(group, devs, REPAGENT_MAX_VOLUMES, error) : -1;
	if (nr < 0)
		status = fail("%s", devs ? error : "out of memory");
	for (i = 0; i < nr && (all || !told) && !status; i++) {
		if (volume && strcmp(devs[i].table.volume, volume))
			continue;
		told++;
		if (dmdev_message(devs[i].name, text, reply, sizeof(reply), error) != DMDEV_OK)
			status = fail("%s", error);
	}
	if (!status && !told)
		status = no_volume(group, volume);
	else if (!status)
		remark("done; repagentd does not run, so it will be sent later: systemctl start repagentd@%s", group);
	free(devs);
	return status;
}

static int run_checkpoint(int argc, char **argv)
{
	char error[CLIENT_ERROR_MAX], text[128];
	const char *group, *label;
	struct json_object *arguments, *result;
	struct client c;
	int status;

	if (!take_words(argc, argv, &group, &label, "a label", true, &status))
		return status;
	if (!connect_daemon(&c, group, error)) {
		snprintf(text, sizeof(text), "checkpoint %s", label);
		return message(group, NULL, false, text);
	}
	arguments = json_object_new_object();
	put_text(arguments, "label", label);
	status = ask(&c, group, "checkpoint", arguments, &result);
	if (!status)
		remark("checkpoint %s is record %ju of %s", label, (uintmax_t)get_number(result, "record"),
		       get_text(result, "incarnation"));
	json_object_put(result);
	client_close(&c);
	return status;
}

const struct command cmd_checkpoint = {
	"checkpoint", "GROUP LABEL", "Label this moment in the stream",
	"LABEL has 1 to 63 printable ASCII characters and no blanks, for example\n"
	"before-upgrade. The point lies behind every write that had completed.\n",
	run_checkpoint
};

static int run_resync(int argc, char **argv)
{
	char error[CLIENT_ERROR_MAX];
	const char *group, *volume;
	struct json_object *arguments, *result;
	struct client c;
	int status;

	if (!take_words(argc, argv, &group, &volume, "a volume", false, &status))
		return status;
	if (!connect_daemon(&c, group, error))
		return message(group, volume, true, "resync");
	arguments = json_object_new_object();
	if (volume)
		put_text(arguments, "volume", volume);
	status = ask(&c, group, "resync", arguments, &result);
	if (!status)
		remark("the resync began; to watch it: repctl status %s --watch", group);
	json_object_put(result);
	client_close(&c);
	return status;
}

const struct command cmd_resync = {
	"resync", "GROUP [VOLUME]", "Read all of a volume, or of all volumes, again",
	"For example after the hub's copy was changed or restored from elsewhere.\n",
	run_resync
};

/* --- verify ----------------------------------------------------------------- */

enum { OPT_RATE = 256, OPT_BACKGROUND };

static const struct option verify_options[] = {
	{ "rate",	required_argument, NULL, OPT_RATE },
	{ "background",	no_argument, NULL, OPT_BACKGROUND },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* The volume's last comparison, of what query-volumes returned; or NULL. */
static struct json_object *comparison(struct json_object *volumes, const char *name)
{
	size_t i;

	for (i = 0; i < length_of(volumes); i++) {
		struct json_object *v = json_object_array_get_idx(volumes, i);

		if (!strcmp(get_text(v, "volume"), name))
			return get(v, "verify");
	}
	return NULL;
}

/* What became of one volume. */
static int tell_comparison(const char *name, struct json_object *o)
{
	uint64_t differed = get_number(o, "differed"), skipped = get_number(o, "skipped");
	char a[HUMAN_MAX], b[HUMAN_MAX];

	if (!o || strcmp(get_text(o, "state"), "done"))
		return fail("volume %s: the comparison was stopped", name);
	if (differed || skipped)
		return fail("volume %s: %s differed and was written anew, %s could not be read; the daemon's log has the places",
			    name, human_size(a, differed), human_size(b, skipped));
	printf("%s: %s compared, and the same at the hub\n", name, human_size(a, get_number(o, "total")));
	return EXIT_FINE;
}

/* Until all is compared. */
static int follow_comparison(struct client *c, const char *group, struct json_object *names)
{
	static const struct timespec pause = { .tv_nsec = 300000000 };
	struct json_object *volumes, *o;
	char a[HUMAN_MAX], b[HUMAN_MAX];
	const char *name;
	int status, one;
	bool going;
	size_t i;

	do {
		nanosleep(&pause, NULL);
		status = ask(c, group, "query-volumes", NULL, &volumes);
		going = false;
		for (i = 0; i < length_of(names) && !going && !status; i++) {
			name = json_object_get_string(json_object_array_get_idx(names, i));
			o = comparison(volumes, name);
			going = !strcmp(get_text(o, "state"), "running") || !strcmp(get_text(o, "state"), "waiting");
			if (going && isatty(STDERR_FILENO))
				fprintf(stderr, "\r%s: %s, %s of %s to go\033[K", name, get_text(o, "state"),
					human_size(a, get_number(o, "left")), human_size(b, get_number(o, "total")));
		}
		if (!going && isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[K");
		for (i = 0; i < length_of(names) && !going && status != EXIT_FAILED; i++) {
			name = json_object_get_string(json_object_array_get_idx(names, i));
			one = tell_comparison(name, comparison(volumes, name));
			status = one ? one : status;
		}
		json_object_put(volumes);
	} while (going && !status);
	return status;
}

static int run_verify(int argc, char **argv)
{
	struct json_object *arguments, *result;
	char error[CLIENT_ERROR_MAX];
	const char *group, *volume = NULL;
	bool background = false;
	struct client client;
	uint64_t rate = 0;
	int c, status;

	while ((c = next_option(argc, argv, ":", verify_options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status;
		if (c == OPT_BACKGROUND)
			background = true;
		else if (!parse_size(optarg, &rate) || !rate)
			return usage_error("--rate '%s': expected bytes a second, such as 50M", optarg);
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		volume = argv[optind++];
	if (optind < argc)
		return usage_error("'%s' is too much: expected a group, and one volume or none", argv[optind]);
	if (!group_exists(group))
		return no_such_group(group);
	if (!connect_daemon(&client, group, error))
		return no_daemon(group, error);
	arguments = json_object_new_object();
	if (volume)
		put_text(arguments, "volume", volume);
	if (rate)
		put_number(arguments, "rate", rate);
	status = ask(&client, group, "verify", arguments, &result);
	if (!status && background)
		remark("the comparison began; to see what it finds: repctl events %s --follow", group);
	else if (!status)
		status = follow_comparison(&client, group, get(result, "volumes"));
	json_object_put(result);
	client_close(&client);
	return status;
}

const struct command cmd_verify = {
	"verify", "GROUP [VOLUME] [--rate BYTES] [--background]",
	"Compare volumes with their replicas, and mend these",
	"The VM goes on, and so does the stream. What differs is written to the replica anew.\n"
	"      --rate BYTES  a second, at most; for example 50M\n"
	"      --background  do not wait for the end\n"
	"\nThe exit status is 0 if all was the same.\n",
	run_verify
};

static int simple(int argc, char **argv, const char *command, const char *done)
{
	const char *group, *ignored;
	char error[CLIENT_ERROR_MAX];
	struct json_object *result;
	struct client c;
	int status;

	if (!take_words(argc, argv, &group, &ignored, NULL, false, &status))
		return status;
	if (!connect_daemon(&c, group, error))
		return no_daemon(group, error);
	status = ask(&c, group, command, NULL, &result);
	if (!status)
		remark("group %s %s: repctl status %s", group, done, group);
	json_object_put(result);
	client_close(&c);
	return status;
}

static int run_pause(int argc, char **argv)
{
	return simple(argc, argv, "pause", "is paused until repctl resume; what is written is remembered");
}

const struct command cmd_pause = {
	"pause", "GROUP", "Send nothing for a while; what is written is remembered",
	"The VM goes on. A pause ends with the daemon.\n", run_pause
};

static int run_resume(int argc, char **argv)
{
	return simple(argc, argv, "resume", "goes on");
}

const struct command cmd_resume = {
	"resume", "GROUP", "End a pause", "", run_resume
};

/* --- dirty ------------------------------------------------------------------ */

/* Ranges that touch are one, though they came in two pieces. */
struct ranges {
	struct json_object *list;	/* with --json, else NULL */
	uint64_t start, length;		/* bytes; not yet told */
	uint64_t nr, bytes;
};

static void tell_range(struct ranges *r)
{
	struct json_object *pair;

	if (!r->length)
		return;
	r->nr++;
	r->bytes += r->length;
	if (r->list) {
		pair = json_object_new_array();
		json_object_array_add(pair, json_object_new_int64((int64_t)r->start));
		json_object_array_add(pair, json_object_new_int64((int64_t)r->length));
		json_object_array_add(r->list, pair);
	} else {
		printf("%18" PRIu64 "%18" PRIu64 "\n", r->start, r->length);
	}
}

static void add_range(struct ranges *r, uint64_t start, uint64_t length)
{
	if (r->length && r->start + r->length == start) {
		r->length += length;
		return;
	}
	tell_range(r);
	r->start = start;
	r->length = length;
}

static int dirty_volume(const char *group, const char *name, uint64_t size, struct json_object *out)
{
	struct ranges r = { .list = out ? json_object_new_array() : NULL };
	struct repagent_dirty d = { 0 };
	struct dmdev v = { 0 };
	char bytes[HUMAN_MAX], all[HUMAN_MAX];
	struct json_object *o;
	unsigned int i;
	uint64_t before;
	int fd, err = 0;

	snprintf(v.table.group, sizeof(v.table.group), "%s", group);
	snprintf(v.table.volume, sizeof(v.table.volume), "%s", name);
	fd = dirty_open(&v, &d.volume);
	if (fd < 0) {
		json_object_put(r.list);
		return fail("volume %s of group %s: %s", name, group, strerror(-fd));
	}
	if (!out)
		printf("%s: what its replica lacks, in bytes\n%18s%18s\n", name, "OFFSET", "LENGTH");
	do {
		before = d.sector;
		err = dirty_next(fd, &d);
		for (i = 0; !err && i < d.nr; i++)
			add_range(&r, d.range[i].sector * SECTOR, d.range[i].nr_sectors * SECTOR);
	} while (!err && d.sector > before && d.sector * SECTOR < size);
	tell_range(&r);
	close(fd);
	if (err) {
		json_object_put(r.list);
		return fail("volume %s of group %s: %s", name, group, strerror(-err));
	}
	if (out) {
		o = json_object_new_object();
		put_text(o, "volume", name);
		put_number(o, "size", size);
		put_number(o, "dirty", r.bytes);
		json_object_object_add(o, "ranges", r.list);
		json_object_array_add(out, o);
	} else {
		printf("%s in %" PRIu64 " range%s, of %s\n", human_size(bytes, r.bytes), r.nr,
		       r.nr == 1 ? "" : "s", human_size(all, size));
	}
	return EXIT_FINE;
}

static int run_dirty(int argc, char **argv)
{
	struct json_object *s, *volumes, *v, *out = NULL;
	const char *group, *volume = NULL;
	bool json = false, found = false;
	int c, status;
	size_t i;

	while ((c = next_option(argc, argv, ":", options + 1, &status)) != -1) {
		if (c != OPT_JSON)
			return status;
		json = true;
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		volume = argv[optind++];
	if (optind < argc)
		return usage_error("'%s' is too much: expected a group, and one volume or none", argv[optind]);
	if (!group_exists(group))
		return no_such_group(group);
	if (json)
		out = json_object_new_array();
	s = state_get(group);
	volumes = get(s, "volumes");
	status = EXIT_FINE;
	for (i = 0; i < length_of(volumes) && !status; i++) {
		v = json_object_array_get_idx(volumes, i);
		if (!get_bool(v, "active") || (volume && strcmp(get_text(v, "volume"), volume)))
			continue;
		found = true;
		status = dirty_volume(group, get_text(v, "volume"), get_number(v, "size"), out);
	}
	if (!status && !found)
		status = no_volume(group, volume);
	else if (!status && json)
		puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_SPACED));
	json_object_put(out);
	json_object_put(s);
	return status;
}

const struct command cmd_dirty = {
	"dirty", "GROUP [VOLUME] [--json]", "What the replica lacks, range by range",
	"      --json  for programs\n", run_dirty
};

/* --- events ----------------------------------------------------------------- */

/* "17:40:12 CAPTURE  capture track, reason ring-full" */
static void print_event(struct json_object *event, bool json)
{
	struct json_object *data = get(event, "data");
	time_t then = (time_t)get_number(get(event, "timestamp"), "seconds");
	struct json_object_iterator at, end;
	bool first = true;
	const char *text;
	char when[32];
	struct tm tm;

	if (json) {
		puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN));
		return;
	}
	localtime_r(&then, &tm);
	strftime(when, sizeof(when), "%F %T", &tm);
	printf("%s  %-12s", when, get_text(event, "event"));
	if (json_object_is_type(data, json_type_object)) {
		at = json_object_iter_begin(data);
		end = json_object_iter_end(data);
		for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
			text = json_object_get_string(json_object_iter_peek_value(&at));
			if (!text || !*text)
				continue;
			printf("%s %s %s", first ? "" : ",", json_object_iter_peek_name(&at), text);
			first = false;
		}
	}
	putchar('\n');
}

static int follow(const char *group, bool json)
{
	char error[CLIENT_ERROR_MAX];
	struct json_object *event;
	struct client c;
	int status, r = 0;

	if (!connect_daemon(&c, group, error))
		return no_daemon(group, error);
	status = ask(&c, group, "subscribe", NULL, &event);
	json_object_put(event);
	while (!status && (r = client_event(&c, -1, &event, error)) > 0) {
		print_event(event, json);
		json_object_put(event);
		if (fflush(stdout))
			status = EXIT_FAILED;
	}
	client_close(&c);
	return status ? status : fail("the daemon of group %s has ended: %s", group, error);
}

static int journal(const char *group)
{
	char daemon[80], devices[80];
	char *const argv[] = { "journalctl", "--no-pager", "--quiet", "--output=short-iso", "--lines=30",
			       "--unit", daemon, "--unit", devices, NULL };

	if (!have_systemd())
		return fail("this host has no journal; to see what happens from now on: repctl events %s --follow",
			    group);
	snprintf(daemon, sizeof(daemon), "repagentd@%s.service", group);
	snprintf(devices, sizeof(devices), "repagent@%s.service", group);
	execvp(argv[0], argv);
	return fail("journalctl cannot be started");
}

static int run_events(int argc, char **argv)
{
	bool json = false, on = false;
	const char *group;
	int c, status;

	while ((c = next_option(argc, argv, ":f", options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status;
		if (c == OPT_JSON)
			json = true;
		on = true;
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group", argv[optind]);
	if (!group_exists(group))
		return no_such_group(group);
	return on ? follow(group, json) : journal(group);
}

const struct command cmd_events = {
	"events", "GROUP [--follow] [--json]", "What happened to a group, or happens from now on",
	"  -f, --follow  wait for what happens, until the daemon ends\n"
	"      --json    the same, a line of JSON for each\n"
	"\nWithout them: the last lines of the daemon's log.\n",
	run_events
};

static const struct option rejoin_options[] = {
	{ "force",	no_argument, NULL, OPT_FORCE },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static int run_rejoin(int argc, char **argv)
{
	const char *group, *generation;
	char error[CLIENT_ERROR_MAX];
	bool force = false;
	struct json_object *arguments, *result;
	struct client c;
	uint64_t n;
	int status, o;

	while ((o = next_option(argc, argv, ":", rejoin_options, &status)) != -1) {
		if (o == OPTION_ERROR)
			return status;
		force = true;
	}
	if (!take_words(argc, argv, &group, &generation, "the hub's generation, as rephubctl groups shows it there", true,
			&status))
		return status;
	if (!parse_count(generation, &n) || !n)
		return usage_error("'%s': expected the hub's generation, a number from 1 on", generation);
	if (!connect_daemon(&c, group, error))
		return no_daemon(group, error);
	arguments = json_object_new_object();
	put_number(arguments, "generation", n);
	if (force)
		json_object_object_add(arguments, "force", json_object_new_boolean(true));
	status = ask(&c, group, "rejoin", arguments, &result);
	if (!status)
		remark("group %s asks the hub anew, as of generation %" PRIu64 ": repctl status %s", group, n, group);
	json_object_put(result);
	client_close(&c);
	return status;
}

const struct command cmd_rejoin = {
	"rejoin", "GROUP GENERATION [--force]", "After a fail-over: this host is the group's source again",
	"The hub takes it only if GENERATION is its present one, the fail-over there is committed,\n"
	"and nobody uses its live volumes. Another source that is connected is displaced, its VM\n"
	"running or not. What the hub has then becomes what this host has; so the VM must have been\n"
	"moved here before: where this host was the source, by repctl fail-back.\n\n"
	"      --force  without that: what the old disks have becomes the group's\n", run_rejoin
};
