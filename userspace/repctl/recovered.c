// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/parse.h"
#include "recovered.h"
#include "table.h"

#define SECTOR		512u
#define REGION		2048u	/* sectors: what a write may have to wait for */

/* NAME of NAME-hub, or "". */
static void take_name(struct recovered *r)
{
	size_t len = strlen(r->hub.name), tail = strlen(HUB_SUFFIX);

	r->name[0] = '\0';
	if (len > tail && !strcmp(r->hub.name + len - tail, HUB_SUFFIX))
		snprintf(r->name, sizeof(r->name), "%.*s", (int)(len - tail), r->hub.name);
}

static enum where where_is(const struct recovered *r)
{
	char hub[32];

	snprintf(hub, sizeof(hub), "%u:%u", r->hub.major, r->hub.minor);
	if (r->disk.sectors != r->hub.sectors)
		return ELSEWHERE;
	if (!strcmp(r->disk.target, "mirror") && !strcmp(r->disk.leg[0], hub) && r->disk.leg[1][0])
		return COPYING;
	if (strcmp(r->disk.target, "linear") || !r->disk.table.origin[0])
		return ELSEWHERE;
	return strcmp(r->disk.table.origin, hub) ? HOME : AT_HUB;
}

static enum dmdev_result look(struct recovered *r, char *error)
{
	enum dmdev_result result;

	take_name(r);
	r->where = ELSEWHERE;
	if (!*r->name)
		return DMDEV_OK;
	result = dmdev_get(r->name, &r->disk, error);
	if (result == DMDEV_NOT_FOUND)
		r->where = HUB_ONLY;
	else if (result == DMDEV_OK)
		r->where = where_is(r);
	else
		return result;
	return DMDEV_OK;
}

/**
 * recovered_find - find a volume that has, or had, its disk at the hub
 * @group: its group
 * @volume: its name
 * @r: out
 * @error: DMDEV_ERROR_MAX bytes for a sentence
 *
 * Return: DMDEV_OK; DMDEV_NOT_FOUND if no device asks the hub for it; DMDEV_FAILED.
 */
enum dmdev_result recovered_find(const char *group, const char *volume, struct recovered *r, char *error)
{
	struct dmdev *devs = NULL;
	int nr = dmdev_list_recover(&devs, error), i;

	for (i = 0; i < nr; i++)
		if (!strcmp(devs[i].table.group, group) && !strcmp(devs[i].table.volume, volume))
			break;
	if (nr >= 0 && i == nr) {
		snprintf(error, DMDEV_ERROR_MAX, "no device of this host asks the hub for volume %s of group %s", volume,
			 group);
		free(devs);
		return DMDEV_NOT_FOUND;
	}
	if (nr > 0)
		r->hub = devs[i];
	free(devs);
	return nr < 0 ? DMDEV_FAILED : look(r, error);
}

/**
 * recovered_path - the usual path of a device of which device-mapper shows the number
 * @number: major:minor
 * @path: DMDEV_PATH_MAX bytes
 *
 * Return: @path; where there is no better one, @number.
 */
const char *recovered_path(const char *number, char *path)
{
	char link[DMDEV_PATH_MAX], name[DMDEV_NAME_MAX] = "", *last;
	ssize_t n;
	FILE *f;

	snprintf(path, DMDEV_PATH_MAX, "/sys/dev/block/%.32s", number);
	n = readlink(path, link, sizeof(link) - 1);
	snprintf(path, DMDEV_PATH_MAX, "/sys/dev/block/%.32s/dm/name", number);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
	link[n > 0 ? n : 0] = '\0';
	last = strrchr(link, '/');
	if (*name)
		snprintf(path, DMDEV_PATH_MAX, "/dev/mapper/%s", name);
	else
		snprintf(path, DMDEV_PATH_MAX, "%s%.128s", last ? "/dev/" : "", last ? last + 1 : number);
	return path;
}

/**
 * mirror_line - the table line of a disk on its way home
 * @line: MIRROR_LINE_MAX bytes
 * @sectors: the disk's size
 * @hub: major:minor of NAME-hub, which is read until all is copied
 * @local: major:minor of the local device
 *
 * handle_errors: without it the kernel counts a region as copied that could not be, and says of a write that it is done
 * if only the local device has it, of which it does not read. With it such a write waits until repctl has put the hub
 * back in place (take-home watches for that), and then is carried out there. Not keep_log: if the hub fails a read, that
 * reads of the local device what is not there yet.
 */
void mirror_line(char *line, uint64_t sectors, const char *hub, const char *local)
{
	unsigned int region = REGION;

	while (region > sectors && region > 2)
		region /= 2;
	snprintf(line, MIRROR_LINE_MAX, "core 1 %u 2 %.32s 0 %.32s 0 1 handle_errors", region, hub, local);
}

/**
 * mirror_parse - read dm-mirror's status line
 * @status: "2 253:0 7:1 12/64 1 AA 1 core"
 * @m: out
 *
 * Return: whether it is one, of two legs.
 */
bool mirror_parse(const char *status, struct mirror *m)
{
	unsigned int legs;
	char health[8];

	if (sscanf(status, "%u %*s %*s %" SCNu64 "/%" SCNu64 " 1 %7s", &legs, &m->done, &m->total, health) != 4 ||
	    legs != 2 || strlen(health) != 2 || !m->total || m->done > m->total)
		return false;
	m->hub_failed = health[0] != 'A';
	m->local_failed = health[1] != 'A';
	return true;
}

static void describe(const struct recovered *r, char *text, size_t size)
{
	char line[256], path[DMDEV_PATH_MAX], error[DMDEV_ERROR_MAX];
	struct mirror m;

	switch (r->where) {
	case HUB_ONLY:
		snprintf(text, size, "nowhere");
		break;
	case AT_HUB:
		snprintf(text, size, "at the hub");
		break;
	case COPYING:
		if (dmdev_status(r->name, "mirror", line, sizeof(line), error) != DMDEV_OK || !mirror_parse(line, &m))
			snprintf(text, size, "?");
		else if (m.hub_failed || m.local_failed)
			snprintf(text, size, "at the hub, and %.200s FAILED",
				 recovered_path(r->disk.leg[m.local_failed], path));
		else
			snprintf(text, size, "at the hub, %" PRIu64 " %% on %.200s", 100 * m.done / m.total,
				 recovered_path(r->disk.leg[1], path));
		break;
	case HOME:
		snprintf(text, size, "on %.200s", recovered_path(r->disk.table.origin, path));
		break;
	default:
		snprintf(text, size, "?");
	}
}

static void add_row(struct table *t, const struct recovered *r, bool *served)
{
	char line[256], text[256], disk[DMDEV_NAME_MAX + 16], size[HUMAN_MAX], kept[HUMAN_MAX], waiting[16] = "?",
	     daemon[16] = "?", error[DMDEV_ERROR_MAX];
	unsigned int n = 0;
	uint64_t used = 0;

	if (dmdev_status(r->hub.name, "rep-recover", line, sizeof(line), error) == DMDEV_OK &&
	    sscanf(line, "%*s %*s %15s %u %" SCNu64, daemon, &n, &used) == 3)
		snprintf(waiting, sizeof(waiting), "%u", n);
	*served &= !strcmp(daemon, "daemon");
	snprintf(disk, sizeof(disk), "/dev/mapper/%s", *r->name ? r->name : r->hub.name);
	describe(r, text, sizeof(text));
	table_row(t, r->hub.table.group, r->hub.table.volume, human_size(size, r->hub.sectors * SECTOR), disk,
		  !strcmp(daemon, "daemon") ? "runs" : "NONE", waiting, human_size(kept, used * SECTOR), text);
}

/**
 * recovered_show - a line for each volume that this host has from a hub
 * @f: where to
 * @group: of this group alone, or NULL
 * @below: something stands above it
 * @served: out: whether each has a daemon that answers
 *
 * Return: how many there are; none if they cannot be asked for.
 */
unsigned int recovered_show(FILE *f, const char *group, bool below, bool *served)
{
	char error[DMDEV_ERROR_MAX];
	struct dmdev *devs = NULL;
	int nr = dmdev_list_recover(&devs, error), i;
	struct recovered r;
	struct table t;
	unsigned int shown = 0;

	*served = true;
	table_init(&t, "llrllrrl");
	for (i = 0; i < nr; i++) {
		if (group && strcmp(devs[i].table.group, group))
			continue;
		if (!shown++)
			table_row(&t, "GROUP", "VOLUME", "SIZE", "DISK", "DAEMON", "WAIT", "KEPT", "IS");
		memset(&r, 0, sizeof(r));
		r.hub = devs[i];
		if (look(&r, error) != DMDEV_OK)
			r.where = ELSEWHERE;
		add_row(&t, &r, served);
	}
	free(devs);
	if (shown)
		fprintf(f, "%sRecovered from a hub:\n\n", below ? "\n" : "");
	table_print(&t, f, 2);
	return shown;
}
