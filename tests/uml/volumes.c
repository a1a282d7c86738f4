// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/dm-repagent-map.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../../userspace/repctl/mapimage.h"
#include "scene.h"
#include "volumes.h"

#define SYNC_MS		300000u		/* for a resync, whatever happened before */

static const char *const state_words[] = {
	[MAP_BLANK]	= "blank",
	[MAP_FOREIGN]	= "foreign",
	[MAP_DAMAGED]	= "damaged",
	[MAP_OWED]	= "owed",
	[MAP_UNCLEAN]	= "unclean",
	[MAP_CLEAN]	= "clean",
};

static unsigned int minors[VOLUMES];	/* of the volumes' devices */
static bool untold[VOLUMES];		/* a map failed, and its device was not even told; world */
static bool everything[VOLUMES];	/* is to be read again */
static uint64_t lacks[VOLUMES];		/* sectors */
static bool no_owed_told[VOLUMES];	/* only a person knows */

/* A meta device was written: does it know that it owes a resync? Under the world's lock. */
static void meta_wrote(struct served *s, uint64_t sector, uint64_t nr, const void *data, bool failed)
{
	unsigned int v = (unsigned int)(s - served - VOLUMES);
	struct repagent_map_super super;

	if (failed)
		untold[v] = true;
	else if (nr == 1 && data && (sector == 0 || sector == REPAGENT_MAP_SUPER_STEP)) {
		memcpy(&super, data, sizeof(super));
		if (!(le32toh(super.flags) & REPAGENT_MAP_OWED))
			untold[v] = false;
	}
}

/* Before the activation: what has to be read again, and is it enough? */
void look_at_map(unsigned int v)
{
	static bool has[SECTORS];
	unsigned int differ = 0;
	struct map_image m;

	if (!map_image_parse(&m, meta[v].now, META_SECTORS * SECTOR))
		die("out of memory");
	if (m.state == MAP_FOREIGN)
		wrong("v%u: its meta device holds something else than a map", v);
	everything[v] = m.state != MAP_CLEAN && m.state != MAP_UNCLEAN;
	lacks[v] = 0;
	memset(has, everything[v], sizeof(has));
	for (size_t i = 0; i < m.lacks.nr && !everything[v]; i++) {
		memset(has + m.lacks.range[i].sector, true, m.lacks.range[i].nr_sectors);
		lacks[v] += m.lacks.range[i].nr_sectors;
	}
	if (everything[v])
		lacks[v] = SECTORS;
	else if (m.state == MAP_UNCLEAN && lacks[v] < SECTORS)
		sum.partial++;
	if (verbose)
		printf("seed %" PRIu64 ", life %u: v%u: map %s, %" PRIu64 " sectors, durable %" PRIu64 "\n",
		       seed, life, v, state_words[m.state], lacks[v], m.durable_seq);
	no_owed_told[v] = false;
	if (!everything[v] && hub_owes(&hub, v, m.durable_incarnation, m.durable_seq, 0)) {
		sum.owed_told++;
		memset(has, true, sizeof(has));
	} else if (!everything[v] && untold[v]) {
		/* Documentation/map.md: after a crash in this state a person has to ask. */
		sum.owed_untold++;
		no_owed_told[v] = true;
		memset(has, true, sizeof(has));
	}
	for (uint64_t s = 0; s < SECTORS; s++) {
		if (!memcmp(origin[v].now + s * SECTOR, hub.disk[v].now + s * SECTOR, SECTOR))
			continue;
		differ++;
		if (!has[s]) {
			wrong("v%u: sector %" PRIu64 " differs from the replica, and the map (%s) does not have it",
			      v, s, state_words[m.state]);
			break;
		}
	}
	sum.differed += differ && !everything[v];
	untold[v] = false;
	map_image_free(&m);
}

uint64_t map_lacks(unsigned int v)
{
	return lacks[v];
}

struct status {
	char capture[16], image[16], map[16];
	uint64_t last, acked, dirty;
};

static bool get_status(unsigned int v, struct status *s)
{
	const struct dm_target_spec *spec;
	const char *line;

	spec = dmctl_status(&dm, agent.device[v], &line);
	return spec && sscanf(line, "%*s %*s %15s %15s %*s %*s %" SCNu64 " %" SCNu64 " %" SCNu64 " %*s %*s %15s",
			      s->capture, s->image, &s->last, &s->acked, &s->dirty, s->map) == 6;
}

static void device(const char *name, const char *target, const char *parameters)
{
	int ret = dmctl_create(&dm, name);

	if (!ret)
		ret = dmctl_load(&dm, name, SECTORS, target, parameters);
	if (!ret)
		ret = dmctl_resume(&dm, name);
	if (ret && !serve_is_cut())
		wrong("%s cannot be made of \"%s\": %s", name, parameters, strerror(-ret));
}

const struct features plain = { 6, "" }, no_bounce = { 8, " bounce off" }, no_discard = { 8, " discard ignore" };
static char tables[VOLUMES][160];

/* The origins are made anew, as after a boot: nothing was written to them. */
void activate(const struct features *features)
{
	char name[8], table[64];

	for (unsigned int v = 0; v < VOLUMES; v++) {
		struct status s;

		look_at_map(v);
		if (bad)
			return;
		snprintf(name, sizeof(name), "o%u", v);
		snprintf(table, sizeof(table), "/dev/nbd%u 0", v);
		device(name, "linear", table);
		snprintf(tables[v], sizeof(tables[v]), "%u:%u " GROUP " v%u %u ring 1 meta /dev/nbd%u region 64%s",
			 major(dm.io.dev), minor(dm.io.dev), v, features->words, VOLUMES + v, features->text);
		device(agent.device[v], "repagent", tables[v]);
		minors[v] = minor(dm.io.dev);
		if (bad || serve_is_cut())
			return;
		if (!get_status(v, &s))
			wrong("v%u has no status", v);
		else if (s.dirty != lacks[v] && !serve_is_cut())
			wrong("v%u: %" PRIu64 " sectors are dirty, and its map has %" PRIu64, v, s.dirty, lacks[v]);
		if (no_owed_told[v])
			dmctl_message(&dm, agent.device[v], "resync");
		agent.asked[v] = no_owed_told[v];
	}
}

void deactivate(void)
{
	const char *const names[] = { "p0", "p1", "o0", "o1" };

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		int ret = dmctl_remove(&dm, names[i]);

		if (ret && ret != -ENXIO)
			wrong("%s cannot be removed: %s", names[i], strerror(-ret));
	}
	if (!access("/sys/class/repagent/" GROUP, F_OK))
		put("/sys/class/repagent/" GROUP "/forget", GROUP);
}

static bool is_synced(void)
{
	struct status s;
	bool knows;

	/* A hub that was set back lacks something before anybody knows. */
	pthread_mutex_lock(&world);
	knows = atomic_load(&agent.epoch) == hub.epoch;
	pthread_mutex_unlock(&world);
	if (!knows)
		return false;
	for (unsigned int v = 0; v < VOLUMES; v++)
		if (!get_status(v, &s) || strcmp(s.capture, "stream") || strcmp(s.image, "clean") || s.last != s.acked)
			return false;
	return true;
}

bool wait_synced(void)
{
	uint64_t end = now_ns() + SYNC_MS * 1000000ull;

	while (!serve_is_cut() && !is_synced() && now_ns() < end)
		nap_us(20000);
	return !serve_is_cut() && is_synced();
}

/* Nobody writes, nothing fails, the hub is there. */
void expect_sync(void)
{
	if (!wait_synced()) {
		if (!serve_is_cut())
			wrong("the volumes do not become clean");
		return;
	}
	pthread_mutex_lock(&world);
	for (unsigned int v = 0; v < VOLUMES && !serve_is_cut(); v++)
		if (memcmp(origin[v].now, hub.disk[v].now, SECTORS * SECTOR))
			wrong("v%u: its volume is clean, and the replica is not the disk", v);
	pthread_mutex_unlock(&world);
}

void reload(unsigned int v, bool no_memory)
{
	int ret = dmctl_load(&dm, agent.device[v], SECTORS, "repagent", tables[v]);

	if (ret == -ENOMEM && no_memory)
		return;
	if (!ret)
		ret = dmctl_suspend(&dm, agent.device[v]);
	if (!ret)
		ret = dmctl_resume(&dm, agent.device[v]);
	if (ret && !serve_is_cut())
		wrong("the table of v%u cannot be loaded again: %s", v, strerror(-ret));
	sum.reloads++;
}

unsigned int minor_of(unsigned int v)
{
	return minors[v];
}

void volumes_begin(void)
{
	for (unsigned int v = 0; v < VOLUMES; v++) {
		disk_reset(&origin[v], &rng);
		disk_reset(&meta[v], NULL);
		served[VOLUMES + v].wrote = meta_wrote;
		untold[v] = false;
	}
}
