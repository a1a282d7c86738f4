// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A group's state is an object in the shape of the daemon's `query-status`
 * (Documentation/control.md), whoever gave it: the daemon, or if there is none
 * the kernel.  The configuration and device-mapper add what they know.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../common/reason.h"
#include "groups.h"
#include "json.h"
#include "note.h"
#include "repctl.h"
#include "state.h"

#define SECTOR		512

static const char *const captures[] = { "init", "stream", "track" };
static const char *const states[] = { "starting", "streaming", "tracking" };
static const char *const images[] = { "clean", "dirty", "resync" };

static const char *word(const char *const *words, unsigned int nr, unsigned int i)
{
	return i < nr && words[i] ? words[i] : "unknown";
}

#define WORD(words, i)	word(words, sizeof(words) / sizeof(words[0]), i)

/**
 * volume_device_name - of the mapped device that a configured volume has
 * @v: the volume
 * @group: its group
 * @name: DMDEV_NAME_MAX bytes
 */
void volume_device_name(const struct conf_volume *v, const char *group, char *name)
{
	if (v->value[CONF_V_NAME])
		snprintf(name, DMDEV_NAME_MAX, "%s", v->value[CONF_V_NAME]);
	else
		snprintf(name, DMDEV_NAME_MAX, "%s-%s", group, v->name);
}

/* --- Without a daemon: what the kernel says -------------------------------- */

static struct json_object *kernel_volumes(int fd, uint64_t *dirty, uint64_t *left, uint64_t *total)
{
	struct json_object *list = json_object_new_array(), *v, *resync;
	struct repagent_volume_info info;
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		memset(&info, 0, sizeof(info));
		info.index = i;
		if (ioctl(fd, REPAGENT_IOC_VOLUME, &info))
			continue;
		info.name[REPAGENT_NAME_MAX] = '\0';
		v = json_object_new_object();
		put_text(v, "volume", info.name);
		put_bool(v, "active", info.active);
		put_number(v, "size", info.sectors * SECTOR);
		put_text(v, "image", WORD(images, info.image));
		put_text(v, "reason", reason_name(info.reason));
		put_null(v, "since");
		put_number(v, "dirty", info.dirty * SECTOR);
		put_number(v, "failed", info.failed);
		put_number(v, "resyncs", info.resyncs);
		resync = NULL;
		if (info.image == REPAGENT_IMAGE_RESYNC) {
			resync = json_object_new_object();
			put_number(resync, "total", info.sectors * SECTOR);
			put_number(resync, "left", info.resync_left * SECTOR);
			*left += info.resync_left * SECTOR;
			*total += info.sectors * SECTOR;
		}
		json_object_object_add(v, "resync", resync);
		if (info.map_error)
			put_text(v, "map-error", strerror((int)info.map_error));
		else
			put_null(v, "map-error");
		if (info.busy_seq)
			put_number(v, "busy", info.busy_seq);
		else
			put_null(v, "busy");
		put_null(v, "tap");
		json_object_array_add(list, v);
		*dirty += info.dirty * SECTOR;
	}
	return list;
}

static void no_group(struct json_object *s)
{
	static const char *const members[] = { "incarnation", "capture", "lag", "rate", "ring", "resync" };
	unsigned int i;

	put_text(s, "state", "waiting");
	put_bool(s, "present", false);
	for (i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		put_null(s, members[i]);
	put_text(s, "reason", "none");
	json_object_object_add(s, "volumes", json_object_new_array());
}

static void kernel_group(struct json_object *s, int fd, const struct repagent_info *info)
{
	struct json_object *lag = json_object_new_object(), *ring = json_object_new_object();
	struct json_object *resync = NULL, *volumes;
	uint64_t dirty = 0, left = 0, total = 0;
	char incarnation[24];

	volumes = kernel_volumes(fd, &dirty, &left, &total);
	put_text(s, "state", WORD(states, info->capture));
	put_bool(s, "present", true);
	snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, (uint64_t)info->incarnation);
	put_text(s, "incarnation", incarnation);
	put_text(s, "capture", WORD(captures, info->capture));
	put_text(s, "reason", reason_name(info->reason));
	put_number(lag, "bytes", info->payload_used + dirty);
	put_number(lag, "records", info->head - 1 - info->acked);
	put_null(lag, "seconds");
	json_object_object_add(s, "lag", lag);
	put_null(s, "rate");
	put_number(ring, "used", info->payload_used);
	put_number(ring, "size", info->payload_size);
	put_number(ring, "last", info->head - 1);
	put_number(ring, "acked", info->acked);
	json_object_object_add(s, "ring", ring);
	if (total) {
		resync = json_object_new_object();
		put_number(resync, "total", total);
		put_number(resync, "left", left);
		put_null(resync, "rate");
		put_null(resync, "seconds");
	}
	json_object_object_add(s, "resync", resync);
	json_object_object_add(s, "volumes", volumes);
}

static struct json_object *from_kernel(const char *group)
{
	struct json_object *s = json_object_new_object(), *hub = json_object_new_object();
	struct repagent_info info;
	char path[64];
	int fd;

	put_text(s, "group", group);
	put_null(s, "pid");
	put_bool(s, "protected", false);
	put_text(s, "why", "");
	put_text(s, "remedy", "");
	put_null(s, "since");
	put_bool(s, "paused", false);
	put_bool(s, "stopping", false);
	put_bool(hub, "connected", false);
	put_text(hub, "why", "repagentd does not run");
	json_object_object_add(s, "hub", hub);
	put_null(s, "reader");
	snprintf(path, sizeof(path), "/dev/repagent/%s", group);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && !ioctl(fd, REPAGENT_IOC_INFO, &info)) {
		kernel_group(s, fd, &info);
	} else {
		no_group(s);
		if (fd < 0 && errno != ENOENT && errno != ENXIO && errno != ENODEV)
			put_text(s, "why", errno == EACCES ? "only root may look" : strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return s;
}

static struct json_object *from_daemon(const char *group)
{
	char path[CONTROL_PATH_MAX], class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *s = NULL;
	struct client c;

	control_path(path, group);
	if (!client_connect(&c, path, CALL_TIMEOUT_MS, error))
		return NULL;
	if (!client_call(&c, "query-status", NULL, CALL_TIMEOUT_MS, &s, class, error))
		s = NULL;
	client_close(&c);
	if (!json_object_is_type(s, json_type_object)) {
		json_object_put(s);
		return NULL;
	}
	return s;
}

/* --- What is added to either ---------------------------------------------- */

static struct json_object *find_volume(struct json_object *list, const char *name)
{
	struct json_object *v;
	size_t i;

	for (i = 0; i < length_of(list); i++) {
		v = json_object_array_get_idx(list, i);
		if (!strcmp(get_text(v, "volume"), name))
			return v;
	}
	v = json_object_new_object();
	put_text(v, "volume", name);
	put_bool(v, "active", false);
	json_object_array_add(list, v);
	return v;
}

static void add_device(struct json_object *v, const struct dmdev *dev, const char *origin)
{
	char path[DMDEV_PATH_MAX];

	put_text(v, "device", dmdev_path(dev, path, sizeof(path)) ? path : NULL);
	put_text(v, "target", dev->target);
	put_text(v, "origin", origin);
	if (!get(v, "size"))
		put_number(v, "size", dev->sectors * SECTOR);
}

/* Return how many of the configured volumes have no repagent device. */
static unsigned int add_devices(struct json_object *volumes, const char *group, const struct conf *conf)
{
	char name[DMDEV_NAME_MAX], error[DMDEV_ERROR_MAX];
	struct dmdev *devs = calloc(REPAGENT_MAX_VOLUMES, sizeof(*devs)), dev;
	unsigned int i, missing = 0;
	enum dmdev_result result;
	struct json_object *v;
	int nr;

	for (i = 0; i < conf->nr_volumes; i++) {
		v = find_volume(volumes, conf->volume[i].name);
		volume_device_name(&conf->volume[i], group, name);
		result = dmdev_get(name, &dev, error);
		if (result == DMDEV_OK) {
			add_device(v, &dev, conf->volume[i].value[CONF_V_DEVICE]);
			missing += strcmp(dev.target, "repagent") != 0;
			continue;
		}
		put_null(v, "device");
		put_null(v, "target");
		put_text(v, "origin", conf->volume[i].value[CONF_V_DEVICE]);
		/* Only root may ask device-mapper; what others do not see is not missing. */
		missing += result == DMDEV_NOT_FOUND && !get_bool(v, "active");
	}
	nr = devs ? dmdev_list(group, devs, REPAGENT_MAX_VOLUMES, error) : 0;
	for (; nr > 0; nr--) {
		v = find_volume(volumes, devs[nr - 1].table.volume);
		if (!get(v, "origin"))
			add_device(v, &devs[nr - 1], devs[nr - 1].table.origin);
	}
	free(devs);
	return missing;
}

static void say(struct json_object *s, const char *why, const char *remedy)
{
	put_bool(s, "protected", false);
	put_text(s, "why", why);
	put_text(s, "remedy", remedy);
}

/* Why the devices are not all there: what `activate` has noted, or what is seen. */
static void say_missing(struct json_object *s, const char *group)
{
	char why[NOTE_MAX], remedy[NOTE_MAX];

	if (note_read(group, why, remedy)) {
		say(s, why, remedy);
		return;
	}
	snprintf(why, sizeof(why), "not every volume of the group has its protected device");
	snprintf(remedy, sizeof(remedy), "repctl activate %s", group);
	say(s, why, remedy);
}

/**
 * state_get - all that is known of a group
 * @group: its name
 *
 * Return: an object as `query-status` returns it, with more members: see
 * --json in repctl(8).
 */
struct json_object *state_get(const char *group)
{
	char path[CONF_PATH_MAX], error[CONF_ERROR_MAX], remedy[256];
	struct json_object *s = from_daemon(group);
	bool daemon = s, configured;
	unsigned int missing;
	struct conf conf;
	int r;

	if (!s)
		s = from_kernel(group);
	if (!json_object_is_type(get(s, "volumes"), json_type_array))
		json_object_object_add(s, "volumes", json_object_new_array());
	conf_init(&conf);
	conf_path(path, group);
	r = conf_load(&conf, path, error);
	configured = r != -ENOENT;
	put_bool(s, "daemon", daemon);
	put_bool(s, "configured", configured);
	missing = add_devices(get(s, "volumes"), group, &conf);
	conf_free(&conf);
	if (configured && r) {
		snprintf(remedy, sizeof(remedy), "mend it, then: repctl activate %s", group);
		if (!get_bool(s, "protected"))
			say(s, error, remedy);
	} else if (missing) {
		say_missing(s, group);
	} else if (!state_exists(s)) {
		list_groups(error, sizeof(error));
		say(s, "there is no such group", error);
	} else if (!daemon && !*get_text(s, "why")) {
		snprintf(remedy, sizeof(remedy), configured ? "systemctl start repagentd@%s" :
			 "repagentd %s --tap URI", group);
		say(s, "repagentd does not run, so nothing is sent", remedy);
	}
	return s;
}

/**
 * state_exists - is there anything at all of this group?
 * @s: from state_get()
 */
bool state_exists(struct json_object *s)
{
	return get_bool(s, "present") || get_bool(s, "configured") || get_bool(s, "daemon");
}

/**
 * state_protected - does the replica follow every write of every volume?
 * @s: from state_get()
 */
bool state_protected(struct json_object *s)
{
	return get_bool(s, "protected");
}
