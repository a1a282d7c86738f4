// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl protect, unprotect: from a disk to a protected one, and back.
 *
 * What can be seen to be wrong is said before anything is changed.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../common/parse.h"
#include "../common/uri.h"
#include "commands.h"
#include "devices.h"
#include "groups.h"
#include "json.h"
#include "note.h"
#include "state.h"
#include "system.h"

#define START_MS	20000	/* for daemon and hub to be there */
#define DRAIN_MS	30000

/* Options that are keys of the configuration: their number is OPT_KEY and an index. */
static const struct {
	enum conf_section section;
	unsigned int key;
} keys[] = {
	{ CONF_GROUP, CONF_G_TAP },
	{ CONF_GROUP, CONF_G_RING },
	{ CONF_GROUP, CONF_G_TLS_CERTIFICATES },
	{ CONF_VOLUME, CONF_V_NAME },
	{ CONF_VOLUME, CONF_V_REGION },
	{ CONF_VOLUME, CONF_V_DISCARD },
	{ CONF_VOLUME, CONF_V_BOUNCE },
	{ CONF_VOLUME, CONF_V_META },
};

#define NR_KEYS	(sizeof(keys) / sizeof(keys[0]))

enum {
	OPT_KEY = 256,
	OPT_REQUIRE = OPT_KEY + NR_KEYS,
	OPT_NO_FLUSH,
};

static const struct option protect_options[] = {
	{ "tap",		required_argument, NULL, OPT_KEY },
	{ "ring",		required_argument, NULL, OPT_KEY + 1 },
	{ "tls-certificates",	required_argument, NULL, OPT_KEY + 2 },
	{ "name",		required_argument, NULL, OPT_KEY + 3 },
	{ "region",		required_argument, NULL, OPT_KEY + 4 },
	{ "discard",		required_argument, NULL, OPT_KEY + 5 },
	{ "bounce",		required_argument, NULL, OPT_KEY + 6 },
	{ "meta",		required_argument, NULL, OPT_KEY + 7 },
	{ "require-protection",	no_argument, NULL, OPT_REQUIRE },
	{ "allow-no-flush",	no_argument, NULL, OPT_NO_FLUSH },
	{ "help",		no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* struct wish - the command line: volumes, their origins, values of keys. */
struct wish {
	const char *group;
	const char *value[NR_KEYS];
	bool require;
	bool allow_no_flush;
	unsigned int nr;
	struct {
		char volume[REPAGENT_NAME_MAX + 1];
		const char *device;
	} disk[REPAGENT_MAX_VOLUMES];
};

/* --- The command line ------------------------------------------------------- */

static int parse_disk(struct wish *w, const struct conf *conf, const char *arg)
{
	const char *eq = *arg == '/' ? NULL : strchr(arg, '=');
	unsigned int i, n = 0;
	char *name;
	bool taken;

	if (w->nr == REPAGENT_MAX_VOLUMES)
		return usage_error("'%s': expected at most %d volumes", arg, REPAGENT_MAX_VOLUMES);
	name = w->disk[w->nr].volume;
	w->disk[w->nr].device = eq ? eq + 1 : arg;
	if (w->disk[w->nr].device[0] != '/')
		return usage_error("'%s': expected the path of a block device, such as /dev/vg/vm0, or VOLUME=/dev/vg/vm0",
				   arg);
	if (eq) {
		snprintf(name, sizeof(w->disk[0].volume), "%.*s", (int)(eq - arg), arg);
		if ((size_t)(eq - arg) > REPAGENT_NAME_MAX || !uri_name_ok(name))
			return usage_error("'%s': '%.*s' is no name of a volume: expected 1 to %d letters, digits, '_', '.' or '-'",
					   arg, (int)(eq - arg), arg, REPAGENT_NAME_MAX);
	}
	/* A disk that is configured keeps its name; another gets the first that is free. */
	for (i = 0; !eq && i < conf->nr_volumes; i++)
		if (conf->volume[i].value[CONF_V_DEVICE] &&
		    !strcmp(conf->volume[i].value[CONF_V_DEVICE], arg))
			snprintf(name, sizeof(w->disk[0].volume), "%s", conf->volume[i].name);
	for (taken = !eq && !*name; taken; n++) {
		snprintf(name, sizeof(w->disk[0].volume), "disk%u", n);
		taken = false;
		for (i = 0; i < conf->nr_volumes; i++)
			taken |= !strcmp(conf->volume[i].name, name);
		for (i = 0; i < w->nr; i++)
			taken |= !strcmp(w->disk[i].volume, name);
	}
	for (i = 0; i < w->nr; i++)
		if (!strcmp(w->disk[i].volume, name))
			return usage_error("volume %s is there twice", name);
	w->nr++;
	return EXIT_FINE;
}

static int parse_protect(struct wish *w, struct conf *conf, int argc, char **argv)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX];
	int c, r, status;

	while ((c = next_option(argc, argv, ":", protect_options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status ? status : -1;	/* --help */
		if (c == OPT_REQUIRE)
			w->require = true;
		else if (c == OPT_NO_FLUSH)
			w->allow_no_flush = true;
		else
			w->value[c - OPT_KEY] = optarg;
	}
	if (!take_group(argc, argv, &w->group))
		return EXIT_WRONG_USAGE;
	conf_path(path, w->group);
	r = conf_load(conf, path, error);
	if (r && r != -ENOENT)
		return fail("%s\nMend it first; then type this again", error);
	if (optind == argc && !conf->nr_volumes)
		return usage_error("expected the VM's disk: a block device such as /dev/vg/%s", w->group);
	while (optind < argc) {
		status = parse_disk(w, conf, argv[optind++]);
		if (status)
			return status;
	}
	return EXIT_FINE;
}

static int apply_wish(const struct wish *w, struct conf *conf)
{
	char error[CONF_ERROR_MAX];
	unsigned int i, k;

	for (i = 0; i < w->nr; i++)
		if (!conf_set(conf, CONF_VOLUME, w->disk[i].volume, "device", w->disk[i].device, error))
			return usage_error("volume %s: %s", w->disk[i].volume, error);
	for (k = 0; k < NR_KEYS; k++) {
		const char *key = conf_key_name(keys[k].section, keys[k].key);

		if (!w->value[k])
			continue;
		if (keys[k].section == CONF_GROUP &&
		    !conf_set(conf, CONF_GROUP, NULL, key, w->value[k], error))
			return usage_error("--%s", error);
		if (keys[k].section == CONF_VOLUME && w->nr != 1 &&
		    (keys[k].key == CONF_V_NAME || keys[k].key == CONF_V_META))
			return usage_error("--%s '%s': expected one disk with it; protect the others one by one", key,
					   w->value[k]);
		for (i = 0; keys[k].section == CONF_VOLUME && i < w->nr; i++)
			if (!conf_set(conf, CONF_VOLUME, w->disk[i].volume, key, w->value[k], error))
				return usage_error("--%s", error);
	}
	if (w->require && !conf_set(conf, CONF_GROUP, NULL, "require-protection", "yes", error))
		return usage_error("--%s", error);
	if (w->allow_no_flush && !conf_set(conf, CONF_GROUP, NULL, "allow-no-flush", "yes", error))
		return usage_error("--%s", error);
	for (i = 0; i < conf->nr_volumes; i++)
		if (conf->volume[i].value[CONF_V_TAP] && uri_is_rephub(conf->group[CONF_G_TAP]))
			return usage_error("--tap '%s': a rephub takes the whole group, and volume %s goes to '%s'; expected one of them",
					   conf->group[CONF_G_TAP], conf->volume[i].name, conf->volume[i].value[CONF_V_TAP]);
	for (i = 0; i < conf->nr_volumes; i++)
		if (!conf->volume[i].value[CONF_V_TAP] && !conf->group[CONF_G_TAP])
			return usage_error("expected --tap URI: where shall group %s be sent? For example --tap nbd://hub/%%v",
					   w->group);
	return EXIT_FINE;
}

/* --- What can be seen to be wrong -------------------------------------------- */

static bool is_own(const struct conf_volume *v, const char *group)
{
	char name[DMDEV_NAME_MAX], error[DMDEV_ERROR_MAX];
	struct dmdev dev;

	volume_device_name(v, group, name);
	return dmdev_get(name, &dev, error) == DMDEV_OK &&
	       (is_volume(&dev, group, v->name) || !strcmp(dev.target, "linear"));
}

static int check_device(const struct conf_volume *v, const char *group)
{
	const char *path = v->value[CONF_V_DEVICE];
	char user[512];
	struct stat st;

	if (stat(path, &st))
		return fail("%s: %s%s", path, strerror(errno), errno == ENOENT ?
			    "\nTo see this host's disks, type: lsblk -o PATH,SIZE,TYPE,MOUNTPOINTS" : "");
	if (!S_ISBLK(st.st_mode))
		return fail("%s is no block device: expected the VM's disk, such as /dev/vg/%s. A file can be made one: losetup -f --show %s",
			    path, group, path);
	if (!is_own(v, group) && device_user(st.st_rdev, user, sizeof(user)))
		return fail("%s is in use: %s. Shut the VM down first: it has to be moved to another path", path,
			    user);
	return EXIT_FINE;
}

/* Names that the next boot may give to another disk. */
static void warn_of_name(const char *path)
{
	static const char *const fleeting[] = { "/dev/sd", "/dev/vd", "/dev/nvme", "/dev/dm-", "/dev/loop" };
	unsigned int i;

	for (i = 0; i < sizeof(fleeting) / sizeof(fleeting[0]); i++)
		if (!strncmp(path, fleeting[i], strlen(fleeting[i])))
			remark("Note: %s may be another disk after the next boot. To see names that stay: ls -l /dev/disk/by-id",
			       path);
}

/* --- The start ---------------------------------------------------------------- */

/* Have the daemon that runs take the volumes. */
static int tell_daemon(struct client *c, const struct wish *w, struct conf *conf)
{
	static const unsigned int features[] = { CONF_V_NAME, CONF_V_TAP, CONF_V_DISCARD, CONF_V_META };
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *arguments;
	struct conf_volume *v;
	const char *text;
	unsigned int i, k;

	for (i = 0; i < w->nr; i++) {
		v = conf_volume(conf, w->disk[i].volume);
		arguments = json_object_new_object();
		put_text(arguments, "volume", v->name);
		put_text(arguments, "device", v->value[CONF_V_DEVICE]);
		for (k = 0; k < sizeof(features) / sizeof(features[0]); k++)
			if (v->value[features[k]])
				put_text(arguments, conf_key_name(CONF_VOLUME, features[k]), v->value[features[k]]);
		if (!v->value[CONF_V_TAP] && conf->group[CONF_G_TAP])
			put_text(arguments, "tap", conf->group[CONF_G_TAP]);
		text = conf->group[CONF_G_RING];
		if (text)
			put_number(arguments, "ring", strtoull(text, NULL, 10));
		text = v->value[CONF_V_REGION];
		if (text)
			put_number(arguments, "region", strtoull(text, NULL, 10));
		if (v->value[CONF_V_BOUNCE])
			put_bool(arguments, "bounce", !strcmp(v->value[CONF_V_BOUNCE], "on"));
		if (!client_call(c, "start-protect", arguments, WORK_TIMEOUT_MS, NULL, class, error))
			return fail("volume %s: %s", v->name, error);
	}
	return EXIT_FINE;
}

static int enable_units(const char *group)
{
	char devices[80], daemon[80], output[OUTPUT_MAX];

	snprintf(devices, sizeof(devices), "repagent@%s.service", group);
	snprintf(daemon, sizeof(daemon), "repagentd@%s.service", group);
	if (systemctl(output, sizeof(output), "enable", devices, daemon))
		return fail("systemd does not enable the units, so that nothing will be protected after the next boot: %s",
			    output);
	if (systemctl(output, sizeof(output), "start", devices, daemon))
		return fail("%s\nType: repctl status %s; journalctl -u %s", output, group, devices);
	return EXIT_FINE;
}

/* The group is there, and it is known whether the hub is. */
static bool is_started(void *group)
{
	struct json_object *s = state_get(group), *hub = get(s, "hub");
	bool started = get_bool(s, "present") && get_bool(s, "daemon") &&
		       (get_bool(hub, "connected") || *get_text(hub, "why"));

	json_object_put(s);
	return started;
}

static bool changes_group(const struct wish *w)
{
	bool changes = w->allow_no_flush;
	unsigned int k;

	for (k = 0; k < NR_KEYS; k++)
		changes |= keys[k].section == CONF_GROUP && w->value[k];
	return changes;
}

static int start(const struct wish *w, struct conf *conf, bool *daemon)
{
	char path[CONTROL_PATH_MAX], error[CLIENT_ERROR_MAX];
	struct client c;
	int status;

	control_path(path, w->group);
	if (client_connect(&c, path, CALL_TIMEOUT_MS, error)) {
		*daemon = true;
		status = tell_daemon(&c, w, conf);
		client_close(&c);
		if (!status && changes_group(w))
			remark("Note: the daemon that runs keeps its settings until: systemctl restart repagentd@%s",
			       w->group);
		if (!status && have_systemd())
			status = enable_units(w->group);
		return status;
	}
	*daemon = have_systemd();
	status = activate(w->group, true, 0);
	return status || !*daemon ? status : enable_units(w->group);
}

static void tell_what_next(const struct wish *w, const struct conf *conf, bool daemon)
{
	char name[DMDEV_NAME_MAX];
	unsigned int i;

	for (i = 0; i < conf->nr_volumes; i++) {
		volume_device_name(&conf->volume[i], w->group, name);
		remark("The VM's disk %s is now: /dev/mapper/%s", conf->volume[i].value[CONF_V_DEVICE], name);
	}
	remark("Enter that in the VM's configuration (virsh edit %s) before it is started.", w->group);
	if (daemon)
		remark("The VM can be started at once: the first sync goes on beside it.\n"
		       "To watch it: repctl status %s --watch", w->group);
	else
		remark("Now start the daemon: repagentd %s", w->group);
}

static int run_protect(int argc, char **argv)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX];
	static struct conf conf;
	struct wish w = { 0 };
	struct json_object *s;
	bool daemon = false;
	unsigned int i;
	int status;

	conf_init(&conf);
	status = parse_protect(&w, &conf, argc, argv);
	if (status)
		return status < 0 ? EXIT_FINE : status;
	status = apply_wish(&w, &conf);
	for (i = 0; i < conf.nr_volumes && !status; i++)
		status = check_device(&conf.volume[i], w.group);
	if (status)
		return status;
	if (!load_module(error, sizeof(error)))
		return fail("%s\nType: make dkms (in the source tree), or install the package that has the module",
			    error);
	for (i = 0; i < w.nr; i++)
		warn_of_name(w.disk[i].device);
	conf_path(path, w.group);
	if (!conf_save(&conf, path, error))
		return fail("%s", error);
	if (!allow_group(path))
		remark("Note: there is no group repagent, so only root can read %s", path);
	remark("%s is written.", path);
	status = start(&w, &conf, &daemon);
	if (status)
		return status;
	if (daemon && !wait_until(is_started, (void *)w.group, START_MS))
		return fail("group %s is not at work after %d s\nType: repctl status %s; journalctl -u repagentd@%s",
			    w.group, START_MS / 1000, w.group, w.group);
	tell_what_next(&w, &conf, daemon);
	s = daemon ? state_get(w.group) : NULL;
	if (s && !get_bool(get(s, "hub"), "connected")) {
		fail("the hub does not take it yet: %s\nWhat is written is remembered meanwhile. Type: repctl status %s",
		     get_text(get(s, "hub"), "why"), w.group);
		status = EXIT_UNPROTECTED;
	}
	json_object_put(s);
	conf_free(&conf);
	return status;
}

const struct command cmd_protect = {
	"protect", "GROUP [VOLUME=]DEVICE... --tap URI [OPTION...]",
	"Protect a VM's disks, from now on and after each boot",
	"GROUP is a name for the VM. DEVICE is its disk on this host; VOLUME a name for it,\n"
	"disk0, disk1 and so on if it has none. The VM has to be shut down, once. All is kept\n"
	"in /etc/repagent/GROUP.conf; what is there already stays.\n\n"
	"      --tap URI               where the disks go: nbd://HOST[:PORT]/EXPORT; %v in it\n"
	"                              is the volume, %g the group; or rephub://HOST[:PORT]\n"
	"      --tls-certificates DIR  for nbds://\n"
	"      --allow-no-flush        take a server that has no FLUSH\n"
	"      --ring MIB              memory for what the hub has not yet (64)\n"
	"      --name NAME             of the mapped device, instead of GROUP-VOLUME\n"
	"      --discard WORD, --bounce WORD, --region KIB, --meta DEVICE\n"
	"                              features of the table line\n"
	"      --require-protection    rather no disk than an unprotected one at boot\n\n"
	"  repctl protect vm0 /dev/vg/vm0 --tap nbd://hub/%v\n"
	"  repctl protect vm1 root=/dev/vg/root data=/dev/vg/data --tap nbd://hub/%g/%v\n"
	"\nExit status: 3 if all is done, but the hub does not take it yet.\n",
	run_protect
};

/* --- unprotect ------------------------------------------------------------------ */

enum { OPT_LIVE = 256, OPT_FORCE };

static const struct option unprotect_options[] = {
	{ "live",	no_argument, NULL, OPT_LIVE },
	{ "force",	no_argument, NULL, OPT_FORCE },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static int stop_volume(struct client *c, const struct dmdev *dev, bool live)
{
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX + DMDEV_ERROR_MAX];
	struct json_object *arguments;
	enum dmdev_result result;

	if (c && !strcmp(dev->target, "repagent")) {
		arguments = json_object_new_object();
		put_text(arguments, "volume", dev->table.volume);
		put_text(arguments, "device", live ? "linear" : "remove");
		if (!client_call(c, "stop-protect", arguments, WORK_TIMEOUT_MS, NULL, class, error))
			return fail("volume %s: %s", dev->table.volume, error);
		return EXIT_FINE;
	}
	if (!live)
		result = dmdev_remove(dev->name, error);
	else if (!strcmp(dev->target, "repagent"))
		result = dmdev_linear(dev->name, error);
	else
		result = DMDEV_OK;
	return result == DMDEV_OK ? EXIT_FINE : fail("volume %s: %s", dev->table.volume, error);
}

static bool is_named(const char *volume, int argc, char **argv)
{
	int i;

	for (i = optind; i < argc; i++)
		if (!strcmp(argv[i], volume))
			return true;
	return optind == argc;
}

/* All checks first: then either all of them go, or none. */
static int check_stop(struct dmdev *devs, int nr, const struct conf *conf, const char *group,
		      bool live, int argc, char **argv)
{
	char text[DEVICES_ERROR_MAX];
	unsigned int k;
	bool known;
	int i, n;

	for (i = optind; i < argc; i++) {
		known = false;
		for (n = 0; n < nr; n++)
			known |= !strcmp(devs[n].table.volume, argv[i]);
		for (k = 0; k < conf->nr_volumes; k++)
			known |= !strcmp(conf->volume[k].name, argv[i]);
		if (!known)
			return fail("group %s has no volume %s\nType: repctl volumes %s", group, argv[i], group);
	}
	for (n = 0; n < nr && !live; n++) {
		if (!is_named(devs[n].table.volume, argc, argv) || !is_busy(&devs[n]))
			continue;
		explain_busy(&devs[n], text, sizeof(text));
		return fail("%s.\nTo end protection while it runs, type: repctl unprotect %s --live", text, group);
	}
	return EXIT_FINE;
}

static int stop_volumes(const struct dmdev *devs, int nr, const char *group, bool live, int argc,
			char **argv, bool *daemon)
{
	char path[CONTROL_PATH_MAX], error[CLIENT_ERROR_MAX];
	int n, status = EXIT_FINE;
	struct client c;

	control_path(path, group);
	*daemon = client_connect(&c, path, CALL_TIMEOUT_MS, error);
	for (n = 0; n < nr && !status; n++)
		if (is_named(devs[n].table.volume, argc, argv))
			status = stop_volume(*daemon ? &c : NULL, &devs[n], live);
	if (*daemon)
		client_close(&c);
	return status;
}

/* The last volume is gone: so go the configuration, the units and what was not sent. */
static int end_group(const char *group, bool daemon, bool force)
{
	char path[CONF_PATH_MAX], devices[80], unit[80], output[OUTPUT_MAX];
	bool drained;

	conf_path(path, group);
	if (unlink(path) && errno != ENOENT)
		return fail("%s: %s", path, strerror(errno));
	note_remove(group);
	snprintf(devices, sizeof(devices), "repagent@%s.service", group);
	snprintf(unit, sizeof(unit), "repagentd@%s.service", group);
	if (have_systemd() && systemctl(output, sizeof(output), "disable", devices, unit))
		fail("%s", output);
	drained = wait_group_gone(group, daemon && !force ? DRAIN_MS : 0);
	if (!drained && !force)
		return fail("the hub lacks the last records of group %s; they stay in memory%s\n"
			    "To drop them, type: repctl unprotect %s --force", group,
			    daemon ? ", and the daemon sends them when it can" : "", group);
	if (have_systemd()) {
		if (systemctl(output, sizeof(output), "stop", unit, devices))
			fail("%s", output);
		systemctl(output, sizeof(output), "reset-failed", unit, devices);
	}
	if (!drained && !forget_group(group))
		return fail("group %s cannot be forgotten: %s\nType: cat /sys/class/repagent/%s/consumer", group,
			    strerror(errno), group);
	return EXIT_FINE;
}

static void tell_the_end(const struct dmdev *devs, int nr, const struct conf *conf, bool live, int argc,
			 char **argv)
{
	const char *origin;
	struct conf_volume *v;
	int n;

	for (n = 0; n < nr; n++) {
		if (!is_named(devs[n].table.volume, argc, argv))
			continue;
		v = conf_volume((struct conf *)conf, devs[n].table.volume);
		origin = v && v->value[CONF_V_DEVICE] ? v->value[CONF_V_DEVICE] : devs[n].table.origin;
		if (live)
			remark("/dev/mapper/%s goes on WITHOUT PROTECTION, until the VM is shut down. Then type: dmsetup remove %s\n"
			       "It is not there after the next boot: give the VM its disk %s back (virsh edit)",
			       devs[n].name, devs[n].name, origin);
		else
			remark("%s is no longer protected: give the VM this disk back (virsh edit)", origin);
	}
}

static int run_unprotect(int argc, char **argv)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX + DMDEV_ERROR_MAX], list[1024];
	bool live = false, force = false, daemon, all;
	struct dmdev *devs = NULL;
	static struct conf conf;
	const char *group;
	int c, nr, r, i, status;

	while ((c = next_option(argc, argv, ":", unprotect_options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status;
		live |= c == OPT_LIVE;
		force |= c == OPT_FORCE;
	}
	if (!take_group(argc, argv, &group))
		return EXIT_WRONG_USAGE;
	conf_init(&conf);
	conf_path(path, group);
	r = conf_load(&conf, path, error);
	if (r && r != -ENOENT)
		return fail("%s\nMend it first; then type this again", error);
	nr = own_devices(&conf, group, &devs, error);
	if (nr < 0)
		return fail("%s", error);
	if (r == -ENOENT && !nr && wait_group_gone(group, 0)) {
		list_groups(list, sizeof(list));
		return fail("there is no group %s on this host: %s", group, list);
	}
	status = check_stop(devs, nr, &conf, group, live, argc, argv);
	if (!status)
		status = stop_volumes(devs, nr, group, live, argc, argv, &daemon);
	if (!status) {
		tell_the_end(devs, nr, &conf, live, argc, argv);
		all = optind == argc;
		for (i = optind; i < argc; i++)
			conf_del_volume(&conf, argv[i]);
		if (all || !conf.nr_volumes)
			status = end_group(group, daemon, force);
		else if (!conf_save(&conf, path, error) || !allow_group(path))
			status = fail("%s", error);
	}
	free(devs);
	conf_free(&conf);
	return status;
}

const struct command cmd_unprotect = {
	"unprotect", "GROUP [VOLUME...] [--live] [--force]",
	"End protection, of a group or of some of its volumes",
	"The VM has to be shut down, or --live be said. What is in the ring is sent first,\n"
	"for at most 30 s.\n\n"
	"      --live   the VM goes on, with an unprotected device in its place\n"
	"      --force  drop what is not yet sent; the replica stays as it is\n",
	run_unprotect
};
