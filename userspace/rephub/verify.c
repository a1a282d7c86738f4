// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * When the volumes of a group were compared with their sources, and when they are to
 * be again.  The agent compares (Documentation/sums.md); here is what is wanted of it,
 * one volume after the other, and what it reports.  All of a volume is in the file
 * `verify/VOLUME:` of the group's directory, written by the thread that tends, for
 * those that take reports must not wait for disks.
 *
 *	state	 means						leaves it by		to
 *	NEVER	 it was not yet compared			command, schedule	WANTED
 *	WANTED	 the agent is told, when those before are over	its report		RUNNING
 *	RUNNING	 the agent is at it				its report		DONE, STOPPED
 *								command			STOPPED
 *	DONE	 all of it was compared				command, schedule	WANTED
 *	STOPPED	 it was ended before				command, schedule	WANTED
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "../common/sums.h"
#include "engine.h"

#define VERIFY_MAGIC	UINT64_C(0x79667265766c6f76)
#define SAVE		30u		/* seconds between two states of one that is running */

/*
 * struct verified - what the file says
 * @state:	enum hub_verify_state
 * @serial:	of the order that was last
 * @rate:	bytes a second that were wanted
 * @wanted, @ended: when, ns since the epoch; 0: never
 * @sum:	of what was reported before the agent began anew
 * @now:	what it reported since
 */
struct counts {
	uint64_t differed, unrepaired, skipped;
};

struct verified {
	uint32_t state, reserved;
	uint64_t serial, rate;
	uint64_t wanted, ended;
	uint64_t reached;
	struct counts sum, now;
};

/*
 * struct verify_state - of a group, guarded by its lock
 * @volume:	at the place of the replay's volumes
 * @dirty:	bit each: the file says something else; @urgent: what ended, or was wanted
 * @serial:	of the order that was last
 */
struct verify_state {
	struct verified volume[REPAGENT_MAX_VOLUMES];
	uint64_t dirty, urgent;
	uint64_t serial;
	int dir;
	unsigned int seconds;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void file_name(char *name, const char *volume)
{
	snprintf(name, REPAGENT_NAME_MAX + 2, "%s:", volume);
}

/**
 * verify_open - read what is known of a group's comparisons
 * @g: the group, just opened; not that of a test
 * @error: HUB_ERROR_MAX bytes
 *
 * What cannot be read counts as never compared.
 *
 * Return: false if nothing can be kept.
 */
bool verify_open(struct group *g, char *error)
{
	char name[REPAGENT_NAME_MAX + 2];
	struct verify_state *v;
	unsigned int i;
	int err;

	v = g->verify = calloc(1, sizeof(*v));
	if (!v) {
		snprintf(error, HUB_ERROR_MAX, "out of memory");
		return false;
	}
	v->dir = -1;
	if (!mkdirat(g->dir, "verify", 0700) || errno == EEXIST)
		v->dir = openat(g->dir, "verify", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->dir < 0) {
		snprintf(error, HUB_ERROR_MAX, "its directory verify: %s", strerror(errno));
		return false;
	}
	for (i = 0; i < g->now.nr; i++) {
		file_name(name, g->now.volume[i].name);
		err = seal_read(v->dir, name, VERIFY_MAGIC, &v->volume[i], sizeof(v->volume[i]));
		if (err && err != ENOENT)
			hub_say(g->hub, LOG_WARNING, "group %s: its file verify/%s: %s: the volume counts as never compared", g->name,
				name, err == EBADMSG ? "it is not what was written" : strerror(err));
		if (err || v->volume[i].state >= HUB_VERIFY_NR_STATES)
			memset(&v->volume[i], 0, sizeof(v->volume[i]));
		if (v->volume[i].serial > v->serial)
			v->serial = v->volume[i].serial;
	}
	return true;
}

/* Make the files of some volumes say what is so. The lock is let go meanwhile. */
static void save(struct group *g, uint64_t which)
{
	struct verify_state *v = g->verify;
	char name[REPAGENT_NAME_MAX + 2];
	struct verified what;
	unsigned int i;
	bool ok;

	for (i = 0; i < g->now.nr && which; i++) {
		if (!(which & UINT64_C(1) << i))
			continue;
		what = v->volume[i];
		file_name(name, g->now.volume[i].name);
		v->dirty &= ~(UINT64_C(1) << i);
		pthread_mutex_unlock(&g->lock);
		ok = seal_write(v->dir, name, VERIFY_MAGIC, &what, sizeof(what));
		pthread_mutex_lock(&g->lock);
		if (!ok) {
			hub_say(g->hub, LOG_WARNING, "group %s: its file verify/%s cannot be written: %s", g->name, name,
				strerror(errno));
			v->dirty |= UINT64_C(1) << i;
		}
	}
}

/**
 * verify_close - end
 * @g: the group, not in use
 */
void verify_close(struct group *g)
{
	if (!g->verify)
		return;
	pthread_mutex_lock(&g->lock);
	if (!g->forgotten)
		save(g, g->verify->dirty);
	pthread_mutex_unlock(&g->lock);
	if (g->verify->dir >= 0)
		close(g->verify->dir);
	free(g->verify);
	g->verify = NULL;
}

static void touched(struct verify_state *v, unsigned int i, bool urgent)
{
	v->dirty |= UINT64_C(1) << i;
	v->urgent |= urgent ? UINT64_C(1) << i : 0;
}

static bool is_wanted(const struct verified *w)
{
	return w->state == HUB_VERIFY_WANTED || w->state == HUB_VERIFY_RUNNING;
}

static void want(struct group *g, unsigned int i, uint64_t rate)
{
	struct verify_state *v = g->verify;
	uint64_t ended = v->volume[i].ended;

	v->volume[i] = (struct verified){
		.state = HUB_VERIFY_WANTED, .serial = ++v->serial, .rate = rate, .wanted = now_ns(), .ended = ended,
	};
	touched(v, i, true);
}

/* Is it due by the schedule, which is there? What was never compared is due when it is whole. */
static bool is_due(const struct group *g, unsigned int i, uint64_t now)
{
	const struct verified *w = &g->verify->volume[i];
	uint64_t last = w->ended > w->wanted ? w->ended : w->wanted;

	return !is_wanted(w) && g->now.volume[i].state == VOLUME_GOOD && !g->now.volume[i].removed &&
	       (!last || now - last >= g->hub->o.verify_every);
}

/**
 * verify_tend - want what is due, keep what was reported
 * @g: the group; called every second or so, in a thread that may wait
 */
void verify_tend(struct group *g)
{
	struct verify_state *v;
	uint64_t now = now_ns(), which;
	unsigned int i;

	pthread_mutex_lock(&g->lock);
	v = g->forgotten ? NULL : g->verify;
	for (i = 0; v && g->hub->o.verify_every && g->session && i < g->now.nr; i++)
		if (is_due(g, i, now))
			want(g, i, g->hub->o.verify_rate);
	if (v) {
		which = ++v->seconds % SAVE ? v->urgent : v->dirty;
		v->urgent = 0;
		save(g, which);
	}
	pthread_mutex_unlock(&g->lock);
}

/**
 * verify_order - what is wanted of the agent now
 * @g: the group, locked
 * @o: out
 */
void verify_order(const struct group *g, struct order *o)
{
	const struct verify_state *v = g->verify;
	const struct verified *w, *first = NULL;
	unsigned int i, at = 0;

	memset(o, 0, sizeof(*o));
	for (i = 0; v && i < g->now.nr; i++) {
		w = &v->volume[i];
		if (!is_wanted(w) || (first && (first->state == HUB_VERIFY_RUNNING || w->serial > first->serial) &&
				      w->state != HUB_VERIFY_RUNNING))
			continue;
		first = w;
		at = i;
	}
	if (!first)
		return;
	*o = (struct order){ .serial = first->serial, .from = first->reached, .rate = first->rate };
	memcpy(o->volume, g->now.volume[at].name, sizeof(o->volume));
}

/* An agent that begins anew counts anew. */
static void add_counts(struct verified *w, const struct verify_report *r)
{
	if (r->differed < w->now.differed || r->unrepaired < w->now.unrepaired || r->skipped < w->now.skipped) {
		w->sum.differed += w->now.differed;
		w->sum.unrepaired += w->now.unrepaired;
		w->sum.skipped += w->now.skipped;
	}
	w->now = (struct counts){ r->differed, r->unrepaired, r->skipped };
}

static void tell_end(struct group *g, const struct verified *w, const char *volume)
{
	uint64_t differed = w->sum.differed + w->now.differed, unrepaired = w->sum.unrepaired + w->now.unrepaired;
	char size[HUMAN_MAX], rest[HUMAN_MAX];

	if (w->state == HUB_VERIFY_STOPPED)
		hubgroup_event(g, "verify-stopped", g->now.incarnation, g->now.seq, "%s, at %s", volume, human_size(size, w->reached));
	else if (unrepaired)
		hubgroup_event(g, "verify-failed", g->now.incarnation, g->now.seq, "%s: %s differed, of which %s do so still", volume,
			       human_size(size, differed), human_size(rest, unrepaired));
	else
		hubgroup_event(g, "verified", g->now.incarnation, g->now.seq, differed ? "%s: %s differed, and were sent again" :
			       "%s: all is the same", volume, human_size(size, differed));
}

/**
 * verify_report - an agent says how far it is
 * @g: the group, locked
 * @r: that
 */
void verify_report(struct group *g, const struct verify_report *r)
{
	struct verify_state *v = g->verify;
	uint64_t before;
	char size[HUMAN_MAX];
	struct verified *w;
	unsigned int i;

	for (i = 0; i < g->now.nr && strcmp(g->now.volume[i].name, r->volume); i++)
		;
	if (!v || i == g->now.nr)
		return;
	w = &v->volume[i];
	/* Of an order that is over; or of the source's own, which is no reason to forget what is wanted. */
	if (r->serial ? r->serial != w->serial || !is_wanted(w) : is_wanted(w))
		return;
	if (!r->serial)
		*w = (struct verified){ .serial = w->serial, .wanted = w->wanted, .ended = w->ended };
	before = w->sum.differed + w->now.differed;
	add_counts(w, r);
	w->reached = r->reached;
	w->state = r->state == REPORT_DONE ? HUB_VERIFY_DONE : r->state == REPORT_STOPPED ? HUB_VERIFY_STOPPED :
		   r->serial ? HUB_VERIFY_RUNNING : HUB_VERIFY_STOPPED;
	touched(v, i, r->state != REPORT_RUNNING);
	if (w->sum.differed + w->now.differed > before) {
		hub_say(g->hub, LOG_ERR, "group %s: volume %s: %s are not what the source has; they are sent again", g->name, r->volume,
			human_size(size, w->sum.differed + w->now.differed - before));
		hubgroup_event(g, "differs", g->now.incarnation, g->now.seq, "%s: %s, which are sent again", r->volume, size);
	}
	if (r->state == REPORT_RUNNING)
		return;
	w->ended = now_ns();
	tell_end(g, w, r->volume);
}

/**
 * verify_info - what is known of a volume's comparison
 * @g: the group, locked
 * @i: the volume's place in the replay
 * @info: out
 */
void verify_info(const struct group *g, unsigned int i, struct hub_verify_info *info)
{
	static const char *const states[HUB_VERIFY_NR_STATES] = {
		[HUB_VERIFY_NEVER] = "never", [HUB_VERIFY_WANTED] = "wanted", [HUB_VERIFY_RUNNING] = "running",
		[HUB_VERIFY_DONE] = "done", [HUB_VERIFY_STOPPED] = "stopped",
	};
	static const struct verified none;
	const struct verified *w = g->verify ? &g->verify->volume[i] : &none;

	*info = (struct hub_verify_info){
		.state = states[w->state], .wanted = w->wanted, .ended = w->ended, .reached = w->reached,
		.rate = w->rate, .differed = w->sum.differed + w->now.differed, .unrepaired = w->sum.unrepaired + w->now.unrepaired,
		.skipped = w->sum.skipped + w->now.skipped,
	};
}

/**
 * hub_verify - have volumes compared with their source, or no longer
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume; NULL: all that have an image; one that is in its resync has to wait for the end of that
 * @stop: no longer
 * @rate: bytes a second; 0: no limit
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0; ENOENT: there is no such group; EINVAL: no such volume, or none that has an image.
 */
int hub_verify(struct hub *hub, const char *group, const char *volume, bool stop, uint64_t rate, char *reason)
{
	struct group *g = hub_find(hub, group);
	unsigned int i, nr = 0;

	if (!g)
		return ENOENT;
	pthread_mutex_lock(&g->lock);
	for (i = 0; !g->forgotten && g->verify && i < g->now.nr; i++) {
		struct verified *w = &g->verify->volume[i];

		if (volume && strcmp(volume, g->now.volume[i].name))
			continue;
		if (stop && is_wanted(w)) {
			w->state = HUB_VERIFY_STOPPED;
			w->ended = now_ns();
			touched(g->verify, i, true);
			tell_end(g, w, g->now.volume[i].name);
		} else if (!stop) {
			if (g->now.volume[i].removed || (!volume && g->now.volume[i].state == VOLUME_NAMED))
				continue;
			want(g, i, rate);
		}
		nr++;
	}
	pthread_mutex_unlock(&g->lock);
	if (nr)
		return 0;
	snprintf(reason, HUB_REASON_MAX, volume ? "it has no volume %s that could be compared" :
		 "it has no volume that could be compared%s", volume ? volume : "");
	return EINVAL;
}
