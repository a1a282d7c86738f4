// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl activate, deactivate, shutdown: a group's mapped devices, at boot and at the end.
 *
 * The VM has to find its disk under the same name whatever is missing of its
 * protection: then the mapped device is linear, which is said aloud.  Only a
 * group that requires protection stays without its devices.
 */
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/client.h"
#include "../common/parse.h"
#include "commands.h"
#include "devices.h"
#include "note.h"
#include "state.h"
#include "system.h"

#define DRAIN_MS	30000
#define CONTROL_MS	10000
#define SHUTDOWN_MS	90000	/* a unit's daemon is killed then */

enum { OPT_REQUIRE = 256, OPT_WAIT, OPT_DIRECT, OPT_FORCE };

static const struct option deactivate_options[] = {
	{ "direct",	no_argument, NULL, OPT_DIRECT },
	{ "force",	no_argument, NULL, OPT_FORCE },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static const struct option options[] = {
	{ "require-protection", no_argument, NULL, OPT_REQUIRE },
	{ "wait",	required_argument, NULL, OPT_WAIT },
	{ "direct",	no_argument, NULL, OPT_DIRECT },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/*
 * struct attempt - one activation.
 * @require: no device rather than an unprotected one
 * @why, @remedy: the first thing that is missing, and what to type; "" if nothing
 * @unprotected: how many volumes have a linear device
 * @absent: how many have none
 */
struct attempt {
	const char *group;
	bool require;
	char why[NOTE_MAX];
	char remedy[NOTE_MAX];
	unsigned int unprotected;
	unsigned int absent;
};

/* What can be used of a file that has an error somewhere. */
static int take_what_is_right(void *arg, const char *section, const char *name, const char *value)
{
	char error[CONF_ERROR_MAX];
	const char *volume;

	if (!strcmp(section, "group") && !strcmp(name, conf_key_name(CONF_GROUP, CONF_G_REQUIRE)))
		conf_set(arg, CONF_GROUP, NULL, name, value, error);
	if (strncmp(section, "volume ", 7))
		return 1;
	volume = section + 7 + strspn(section + 7, " \t");
	if (!strcmp(name, conf_key_name(CONF_VOLUME, CONF_V_DEVICE)) ||
	    !strcmp(name, conf_key_name(CONF_VOLUME, CONF_V_NAME)))
		conf_set(arg, CONF_VOLUME, volume, name, value, error);
	return 1;
}

static void missing(struct attempt *a, const char *remedy, const char *why)
{
	if (*a->why)
		return;
	snprintf(a->why, sizeof(a->why), "%s", why);
	snprintf(a->remedy, sizeof(a->remedy), "%srepctl activate %s", remedy, a->group);
}

static bool is_block(void *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode);
}

/* Wait for a device that may still come. If it does not, the others have had the same time. */
static void await(char *path, unsigned int *wait_ms)
{
	if (path && *wait_ms && !wait_until(is_block, path, *wait_ms))
		*wait_ms = 0;
}

/* The linear device instead, or none. */
static void do_without(struct attempt *a, const char *name, const struct dmdev_table *table)
{
	char error[DMDEV_ERROR_MAX];
	struct dmdev dev;

	if (!a->require && dmdev_fallback(name, table, error) != DMDEV_OK) {
		fail("volume %s: not even an unprotected device can be had: %s", table->volume, error);
		a->absent++;
		return;
	}
	if (dmdev_get(name, &dev, error) != DMDEV_OK)
		a->absent++;
	else if (!is_volume(&dev, a->group, table->volume))
		a->unprotected++;
}

static void activate_volume(struct attempt *a, const struct conf *conf, const struct conf_volume *v,
			    bool possible)
{
	char name[DMDEV_NAME_MAX], error[DMDEV_ERROR_MAX], why[NOTE_MAX];
	struct dmdev_table table;
	enum dmdev_done done;
	struct dmdev dev;

	volume_device_name(v, a->group, name);
	volume_table(conf, v, a->group, &table);
	if (possible && dmdev_protect(name, &table, &dev, &done, error) == DMDEV_OK) {
		if (done != DMDEV_ADOPTED)
			remark("volume %s is protected: /dev/mapper/%s", v->name, name);
		return;
	}
	if (possible) {
		snprintf(why, sizeof(why), "volume %s: %s", v->name, error);
		missing(a, "mend this, then: ", why);
	}
	do_without(a, name, &table);
}

static int report(const struct attempt *a)
{
	if (!*a->why) {
		note_remove(a->group);
		return EXIT_FINE;
	}
	if (!note_write(a->group, a->why, a->remedy))
		fail("/run/repagent/%s.unprotected: %s", a->group, strerror(errno));
	if (a->unprotected)
		fail("group %s: %u volume%s WITHOUT PROTECTION, by the same name, so that the VM can start",
		     a->group, a->unprotected, a->unprotected == 1 ? " is there" : "s are there");
	if (a->absent)
		fail("group %s: %u volume%s no device%s", a->group, a->absent, a->absent == 1 ? " has" : "s have",
		     a->require ? ", for it requires protection" : "");
	return fail("%s\nType: %s", a->why, a->remedy);
}

/**
 * activate - make the mapped devices of a configured group
 * @group: the group
 * @require: no device rather than an unprotected one
 * @wait_ms: how long to wait for origins and meta devices that are not there yet
 *
 * Return: an exit status; what is missing was said, and is kept for `status`.
 */
int activate(const char *group, bool require, unsigned int wait_ms)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX], module[512];
	struct attempt a = { .group = group };
	bool possible = true;
	struct conf conf;
	unsigned int i;
	char *origin;
	int r;

	conf_init(&conf);
	conf_path(path, group);
	r = conf_load(&conf, path, error);
	if (r == -ENOENT)
		return load_configuration(&conf, group, &r) ? EXIT_FAILED : r;
	if (r) {
		possible = false;
		missing(&a, "mend it, then: ", error);
		ini_parse(path, take_what_is_right, &conf);
	}
	a.require = require || (conf.group[CONF_G_REQUIRE] && !strcmp(conf.group[CONF_G_REQUIRE], "yes"));
	if (possible && !load_module(module, sizeof(module))) {
		possible = false;
		missing(&a, "make dkms (in the source tree), or install the package that has the module; then: ",
			module);
	}
	for (i = 0; i < conf.nr_volumes; i++) {
		origin = conf.volume[i].value[CONF_V_DEVICE];
		if (!origin) {
			snprintf(error, sizeof(error), "%s: volume %s has no 'device = ...'", path,
				 conf.volume[i].name);
			missing(&a, "mend it, then: ", error);
			a.absent++;
			continue;
		}
		await(origin, &wait_ms);
		await(conf.volume[i].value[CONF_V_META], &wait_ms);
		activate_volume(&a, &conf, &conf.volume[i], possible);
	}
	conf_free(&conf);
	return report(&a);
}

/* The unit shall know of it: what is active is taken down when the host is. */
static int by_systemd(const char *verb, const char *unit_name, const char *group)
{
	char unit[96], output[OUTPUT_MAX];

	snprintf(unit, sizeof(unit), "%s@%s.service", unit_name, group);
	return systemctl(output, sizeof(output), verb, unit) ? fail("%s", output) : EXIT_FINE;
}

static int run_activate(int argc, char **argv)
{
	bool require = false, direct = false;
	uint64_t wait = 0;
	const char *group;
	int c, status;

	while ((c = next_option(argc, argv, ":", options, &status)) != -1) {
		switch (c) {
		case OPT_REQUIRE:
			require = true;
			break;
		case OPT_WAIT:
			if (!parse_duration(optarg, &wait) || wait > 3600 * NSEC_PER_SEC)
				return usage_error("--wait '%s': expected a time such as 30 or 2min, and at most 1 h", optarg);
			break;
		case OPT_DIRECT:
			direct = true;
			break;
		default:
			return status;
		}
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group", argv[optind]);
	status = activate(group, require, (unsigned int)(wait / NSEC_PER_MSEC));
	if (!status && !direct && unit_is("is-enabled", "repagent", group) &&
	    !unit_is("is-active", "repagent", group))
		status = by_systemd("start", "repagent", group);
	return status;
}

const struct command cmd_activate = {
	"activate", "GROUP [--require-protection] [--wait=TIME]",
	"Make the group's mapped devices, as its configuration says",
	"repagent@GROUP.service does this when the host boots. A device that is there\n"
	"without protection gets it, while the VM goes on. Where protection cannot be had\n"
	"the device is made without: the VM starts, and this fails and says why.\n\n"
	"      --require-protection  no device rather than one without protection\n"
	"      --wait=TIME           wait so long for the origin devices to appear\n"
	"      --direct              leave systemd alone\n",
	run_activate
};

/* The group's devices, none of which is open: an exit status, and *devs to be freed. */
static int idle_devices(const struct conf *conf, const char *group, struct dmdev **devs, int *nr)
{
	char error[DEVICES_ERROR_MAX], text[DEVICES_ERROR_MAX];
	int i;

	*nr = own_devices(conf, group, devs, error);
	if (*nr < 0)
		return fail("%s", error);
	for (i = 0; i < *nr; i++) {
		if (!is_busy(&(*devs)[i]))
			continue;
		explain_busy(&(*devs)[i], text, sizeof(text));
		return fail("%s", text);
	}
	return EXIT_FINE;
}

/* All or none. */
static int remove_devices(const struct conf *conf, const char *group)
{
	char error[DEVICES_ERROR_MAX];
	struct dmdev *devs;
	int nr, i, status;

	status = idle_devices(conf, group, &devs, &nr);
	for (i = 0; i < nr && !status; i++)
		if (dmdev_remove(devs[i].name, error) != DMDEV_OK)
			status = fail("%s", error);
	free(devs);
	return status;
}

static void load_what_is_right(struct conf *conf, const char *group)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX];

	conf_init(conf);
	conf_path(path, group);
	if (conf_load(conf, path, error) == -EINVAL)
		ini_parse(path, take_what_is_right, conf);
}

static int run_deactivate(int argc, char **argv)
{
	bool direct = false, force = false, drained;
	struct conf conf;
	const char *group;
	int c, status;

	while ((c = next_option(argc, argv, ":", deactivate_options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status;
		direct |= c == OPT_DIRECT;
		force |= c == OPT_FORCE;
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group", argv[optind]);
	load_what_is_right(&conf, group);
	status = remove_devices(&conf, group);
	conf_free(&conf);
	if (status || direct)
		return status;
	/* The daemon sends what is left, unless there is none. */
	drained = wait_group_gone(group, !force && unit_is("is-active", "repagentd", group) ? DRAIN_MS : 0);
	if (unit_is("is-active", "repagent", group))
		status = by_systemd("stop", "repagent", group);
	if (!drained && !force)
		return fail("the devices are gone, but the hub lacks the last records of group %s. They stay in memory\n"
			    "Type: repctl status %s. To drop them: repctl deactivate %s --force", group, group, group);
	if (unit_is("is-active", "repagentd", group))
		status = by_systemd("stop", "repagentd", group) || status ? EXIT_FAILED : EXIT_FINE;
	if (!drained && !forget_group(group))
		return fail("group %s cannot be forgotten: %s\nType: cat /sys/class/repagent/%s/consumer", group, strerror(errno), group);
	return status;
}

const struct command cmd_deactivate = {
	"deactivate", "GROUP [--force]",
	"Remove the group's mapped devices, until the next activate or boot",
	"The VM has to be shut down. What is in the ring is sent first, for at most 30 s.\n\n"
	"      --force   drop what is not yet sent, and begin a new life with the next activate; volumes\n"
	"                with a write-intent map remember it there\n"
	"      --direct  leave systemd and the daemon alone\n",
	run_deactivate
};

static int run_shutdown(int argc, char **argv)
{
	char path[CONTROL_PATH_MAX], class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *result = NULL, *event;
	const char *group;
	struct dmdev *devs;
	struct client c;
	struct conf conf;
	uint64_t record;
	int nr, status, r;

	if (next_option(argc, argv, ":", deactivate_options + 2, &status) != -1)
		return status;
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group", argv[optind]);
	load_what_is_right(&conf, group);
	status = idle_devices(&conf, group, &devs, &nr);
	free(devs);
	conf_free(&conf);
	if (status)
		return status;
	control_path(path, group);
	if (!client_connect(&c, path, CONTROL_MS, error))
		return fail("the daemon of group %s does not answer (%s)\nType: systemctl start repagentd@%s", group, error, group);
	if (!client_call(&c, "shutdown", NULL, CONTROL_MS, &result, class, error)) {
		client_close(&c);
		return fail("%s", error);
	}
	record = json_object_get_uint64(json_object_object_get(result, "shutdown"));
	json_object_put(result);
	/* It hangs up when it ends, which is when all was sent, or its time is up. */
	while ((r = client_event(&c, SHUTDOWN_MS, &event, error)) > 0)
		json_object_put(event);
	client_close(&c);
	if (!r)
		return fail("the daemon of group %s has not ended yet\nType: repctl status %s", group, group);
	if (!record)
		return fail("the daemon has ended, but group %s did not stream: the hub does not know", group);
	remark("group %s: the record SHUTDOWN has the number %" PRIu64 ", and the daemon has ended. If the hub has it: rephubctl failover %s --at latest --planned\n"
	       "Undo: systemctl start repagentd@%s", group, record, group, group);
	return EXIT_FINE;
}

const struct command cmd_shutdown = {
	"shutdown", "GROUP",
	"Before a planned move: send all, tell the hub that this was all, and end the daemon",
	"The VM has to be shut down, and stay so. The devices and the configuration stay; what is\n"
	"written nevertheless is remembered. The hub can be failed over then with --planned.\n"
	"\nUndo: systemctl start repagentd@GROUP\n",
	run_shutdown
};
