// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl recover, unrecover: the disk of a fail-over VM, as a device of this host.
 *
 * Two devices: NAME-hub asks the hub, by the target rep-recover and a daemon; NAME, which the VM opens, is linear over
 * it, so that it can be moved while the VM runs (takehome.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-repagent-recover.h>

#include "../common/parse.h"
#include "../common/uri.h"
#include "commands.h"
#include "devices.h"
#include "recovered.h"
#include "system.h"

#define SECTOR		512u
#define RING_MIN	4u	/* MiB, as the target takes it */
#define RING_MAX	16384u

enum { OPT_NAME = 256, OPT_RING };

static const struct option recover_options[] = {
	{ "name",	required_argument, NULL, OPT_NAME },
	{ "ring",	required_argument, NULL, OPT_RING },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/* struct wish - the command line. */
struct wish {
	const char *group, *volume;
	char name[DMDEV_NAME_MAX];
	uint64_t sectors;
	uint64_t ring;		/* MiB; 0: not given */
};

/**
 * take_volume - the next word is a volume's name
 * @argc: of the command
 * @argv: of the command
 * @volume: out: the name, which is well-formed; optind stands behind it
 *
 * Return: whether it is; else a sentence was said.
 */
bool take_volume(int argc, char **argv, const char **volume)
{
	if (optind == argc) {
		usage_error("expected a volume behind the group");
		return false;
	}
	*volume = argv[optind++];
	if (!uri_name_ok(*volume)) {
		usage_error("'%s' is no name of a volume: expected 1 to %d letters, digits, '_', '.' or '-', "
			    "not beginning with '.' or '-'", *volume, REPAGENT_NAME_MAX);
		return false;
	}
	return true;
}

static int parse_recover(struct wish *w, int argc, char **argv)
{
	const char *name = NULL;
	uint64_t bytes;
	int c, status;

	while ((c = next_option(argc, argv, ":", recover_options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status ? status : -1;	/* --help */
		if (c == OPT_NAME)
			name = optarg;
		else if (!parse_count(optarg, &w->ring) || w->ring < RING_MIN || w->ring > RING_MAX)
			return usage_error("--ring '%s': expected MiB, a number from %u to %u", optarg, RING_MIN,
					   RING_MAX);
	}
	if (!take_group(argc, argv, &w->group) || !take_volume(argc, argv, &w->volume))
		return EXIT_WRONG_USAGE;
	if (optind == argc)
		return usage_error("expected the size of the volume, as the hub tells it: nbdinfo --size nbd://hub/live/%s/%s",
				   w->group, w->volume);
	if (!parse_size(argv[optind], &bytes) || !bytes || bytes % SECTOR)
		return usage_error("'%s': expected a size, a multiple of %u bytes, such as 21474836480 or 20G", argv[optind],
				   SECTOR);
	w->sectors = bytes / SECTOR;
	if (++optind < argc)
		return usage_error("'%s' is too much: expected one volume", argv[optind]);
	if (name && (!dmdev_name_ok(name) || strlen(name) + sizeof(HUB_SUFFIX) > DMDEV_NAME_MAX))
		return usage_error("--name '%s': expected the name of a mapped device: at most %zu letters, digits or any of #+-.:=@_",
				   name, DMDEV_NAME_MAX - sizeof(HUB_SUFFIX));
	if (name)
		snprintf(w->name, sizeof(w->name), "%s", name);
	else
		snprintf(w->name, sizeof(w->name), "%s-%s", w->group, w->volume);
	return EXIT_FINE;
}

/* Both devices, as far as they are not there yet. */
static int make_devices(const struct wish *w)
{
	char hub[DMDEV_NAME_MAX + sizeof(HUB_SUFFIX)], uuid[DMDEV_NAME_MAX], line[DMDEV_NAME_MAX];
	char error[DMDEV_ERROR_MAX];
	enum dmdev_result result;
	struct recovered r;

	result = recovered_find(w->group, w->volume, &r, error);
	if (result == DMDEV_NOT_FOUND) {
		snprintf(hub, sizeof(hub), "%s" HUB_SUFFIX, w->name);
		snprintf(uuid, sizeof(uuid), "hub@%s-%s", w->group, w->volume);
		snprintf(line, sizeof(line), "%s %s", w->group, w->volume);
		if (w->ring)
			snprintf(line, sizeof(line), "%s %s 2 ring %" PRIu64, w->group, w->volume, w->ring);
		result = dmdev_make(hub, uuid, w->sectors, "rep-recover", line, error);
		if (result == DMDEV_OK)
			result = recovered_find(w->group, w->volume, &r, error);
	}
	if (result != DMDEV_OK)
		return fail("%s", error);
	if (strcmp(r.name, w->name))
		return fail("volume %s of group %s is there already, as %s, and not as %s" HUB_SUFFIX, w->volume,
			    w->group, r.hub.name, w->name);
	if (r.hub.sectors != w->sectors)
		return fail("%s is there already, with %" PRIu64 " bytes, and not %" PRIu64 "\nTo have another size, type: repctl unrecover %s %s",
			    r.hub.name, r.hub.sectors * SECTOR, w->sectors * SECTOR, w->group, w->volume);
	if (r.where == ELSEWHERE)
		return fail("there is a mapped device %s already, which is no such disk: expected another --name",
			    w->name);
	if (r.where != HUB_ONLY)
		return EXIT_FINE;
	snprintf(uuid, sizeof(uuid), "%s-%s", w->group, w->volume);
	snprintf(line, sizeof(line), "%u:%u 0", r.hub.major, r.hub.minor);
	return dmdev_make(w->name, uuid, w->sectors, "linear", line, error) == DMDEV_OK ? EXIT_FINE : fail("%s", error);
}

static int run_recover(int argc, char **argv)
{
	struct wish w = { 0 };
	char error[DMDEV_ERROR_MAX];
	int status = parse_recover(&w, argc, argv);

	if (status)
		return status < 0 ? EXIT_FINE : status;
	if (!load_module(error, sizeof(error)))
		return fail("%s\nType: make dkms (in the source tree), or install the package that has the module",
			    error);
	status = make_devices(&w);
	if (status)
		return status;
	remark("The VM's disk is: /dev/mapper/%s. What is asked of it waits until the daemon answers.", w.name);
	remark("Now start the daemon, once for the group: systemctl start repagent-recover@%s", w.group);
	remark("To move the disk to a device of this host while the VM runs: repctl take-home %s %s DEVICE\n"
	       "To undo this: repctl unrecover %s %s", w.group, w.volume, w.group, w.volume);
	return EXIT_FINE;
}

const struct command cmd_recover = {
	"recover", "GROUP VOLUME SIZE [--name NAME] [--ring MIB]",
	"After a fail-over: the hub's disk as a device of this host",
	"Makes /dev/mapper/GROUP-VOLUME, which the daemon of repagent-recover@GROUP answers from\n"
	"the hub; /etc/repagent/GROUP.conf has to name that, as tap in the section [group].\n"
	"SIZE is that of the hub's export: nbdinfo --size URI. The same command can be given again.\n\n"
	"      --name NAME  of the mapped device, instead of GROUP-VOLUME\n"
	"      --ring MIB   memory for what is not yet durable at the hub (64)\n\n"
	"  repctl recover vm0 disk0 20G\n"
	"\nUndo: repctl unrecover vm0 disk0\n",
	run_recover
};

/* --- unrecover ---------------------------------------------------------------- */

enum { OPT_FORGET = 256 };

static const struct option unrecover_options[] = {
	{ "forget",	no_argument, NULL, OPT_FORGET },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static int remove_unused(struct dmdev *dev)
{
	char user[512], error[DMDEV_ERROR_MAX];

	if (is_busy(dev)) {
		if (!device_user(makedev(dev->major, dev->minor), user, sizeof(user)))
			snprintf(user, sizeof(user), "it is open");
		return fail("/dev/mapper/%s is in use: %s. Shut the VM down first", dev->name, user);
	}
	return dmdev_remove(dev->name, error) == DMDEV_OK ? EXIT_FINE : fail("%s", error);
}

/* What the VM was answered, and the hub has not made durable, is given up. */
static int give_up(const char *group, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), err;

	if (fd < 0 && errno == EBUSY)
		return fail("%s: a daemon has it\nType: systemctl stop repagent-recover@%s, and this again", path, group);
	if (fd < 0 && errno != ENOENT)
		return fail("%s: %s", path, strerror(errno));
	if (fd < 0)
		return EXIT_FINE;
	err = ioctl(fd, REPAGENT_RECOVER_IOC_FORGET) ? errno : 0;
	close(fd);
	if (err)
		return fail("%s cannot be forgotten: %s", path, err == EBUSY ? "there is a device of it" : strerror(err));
	remark("What the VM was answered last, and the hub had not made durable, is forgotten.");
	return EXIT_FINE;
}

static int run_unrecover(int argc, char **argv)
{
	char error[DMDEV_ERROR_MAX], path[128];
	const char *group, *volume;
	enum dmdev_result result;
	bool forget = false;
	struct recovered r;
	int c, status;

	while ((c = next_option(argc, argv, ":", unrecover_options, &status)) != -1) {
		if (c == OPTION_ERROR)
			return status;
		forget = true;
	}
	if (!take_group(argc, argv, &group) || !take_volume(argc, argv, &volume))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one volume", argv[optind]);
	snprintf(path, sizeof(path), "/dev/rep-recover/%s/%s", group, volume);
	result = recovered_find(group, volume, &r, error);
	if (result == DMDEV_NOT_FOUND && forget && !access(path, F_OK))
		return give_up(group, path);
	if (result != DMDEV_OK)
		return fail("%s\nType: repctl status", error);
	if (r.where == COPYING)
		return fail("%s is on its way home\nTo end that first, type: repctl take-home %s %s --abort", r.name, group,
			    volume);
	if (r.where == HOME)
		return fail("%s is at home already, and the VM may run on it\nTo bring that to its end, type: repctl take-home %s %s --finish",
			    r.name, group, volume);
	if (r.where == AT_HUB && (status = remove_unused(&r.disk)))
		return status;
	r.hub.open_count = 1;	/* it was, by the one above */
	status = remove_unused(&r.hub);
	if (status)
		return status;
	remark("/dev/mapper/%s is removed.", *r.name ? r.name : r.hub.name);
	if (forget)
		return give_up(group, path);
	if (!access(path, F_OK))
		remark("The hub has not made all of it durable yet: let the daemon run until %s is gone.\n"
		       "To give that up: repctl unrecover %s %s --forget", path, group, volume);
	return EXIT_FINE;
}

const struct command cmd_unrecover = {
	"unrecover", "GROUP VOLUME [--forget]",
	"Remove the device that recover has made",
	"The VM has to be shut down. What it wrote stays at the hub; while the daemon still has\n"
	"something to send, /dev/rep-recover/GROUP/VOLUME is there.\n\n"
	"      --forget  give that up: its fail-over was rolled back, or the hub is lost\n",
	run_unrecover
};
