// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fail-over: the group's volumes, as they were at a point, can be written as
 * live/GROUP/VOLUME, and no agent writes to the group any more.
 *
 * What live writes goes to the group's own log, as another incarnation, behind all
 * that the agents sent; if the point is not the latest, in a branch that goes on
 * from there (lineage.c).  So a commit has nothing to do but to say so, and to roll
 * back is to take that end of the log away.
 *
 * In this order, and each before the next:
 *
 *	1 ingest is stopped: the session is closed, and none is opened
 *	2 what came is durable
 *	3 the fork is noted (fork.c), and the group's file says the next generation, and LIVE:
 *	  that is the fail-over
 *	4 no FLUSH that came before is answered: its session is not the group's
 *	5 live's segment is begun, and its first record durable; live is open
 *
 * A hub that ends after 3 finds LIVE, and does 5.  Rolling back is one write of the
 * group's file too, which says ROLLBACK; what comes behind it is done again until it
 * is done.  See enum failover_state.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>
#include <time.h>

#include "overlay.h"

#define LABEL	"@fail-over"	/* of live's first record */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/**
 * failover_why - why an agent is fenced off
 * @g: the group, locked
 * @reason: HUB_REASON_MAX bytes for the sentence
 *
 * Return: @reason.
 */
const char *failover_why(const struct group *g, char *reason)
{
	time_t t = (time_t)(g->failover.since / 1000000000);
	char when[32] = "its making";
	struct tm tm;

	if (t && gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(reason, HUB_REASON_MAX, "fenced by generation %" PRIu64 " since %s", g->generation, when);
	return reason;
}

/* ---- what can be failed over to ------------------------------------------ */

/* Are all volumes to be used at this point, but those that are gone from their host? */
static int check_volumes(const struct group *g, uint64_t id, bool partial, char *reason)
{
	struct replay *r = malloc(sizeof(*r));
	unsigned int i, usable = 0;
	int err = 0;

	if (!r || !hubgroup_state(g, id, r)) {
		snprintf(reason, HUB_REASON_MAX, r ? "the point is gone" : "out of memory");
		free(r);
		return r ? ENOENT : ENOMEM;
	}
	for (i = 0; i < r->nr && !err; i++) {
		const struct replay_volume *v = &r->volume[i];

		usable += !replay_state(v);
		if (replay_state(v) && !v->removed && !partial && v->state != VOLUME_NAMED) {
			snprintf(reason, HUB_REASON_MAX, "volume %s %.80s", v->name, replay_state(v));
			err = ENOENT;
		}
	}
	if (!err && !usable) {
		snprintf(reason, HUB_REASON_MAX, "no volume can be used at that point");
		err = ENOENT;
	}
	free(r);
	return err;
}

/* Does this record change what a volume holds, or say that something is missing? */
static bool matters(unsigned int type)
{
	switch (type) {
	case REPAGENT_REC_FLUSH:
	case REPAGENT_REC_CHECKPOINT:
	case REPAGENT_REC_VERIFY:
	case REPAGENT_REC_VOLUME_REMOVE:
	case REPAGENT_REC_SHUTDOWN:
	case REPAGENT_REC_MAP_ERROR:
	case REPAGENT_REC_MAP_OK:
		return false;
	default:
		return true;
	}
}

/*
 * Nothing came behind the point, and if that is just the latest one, the source has said that it
 * ended. What is not durable yet counts.
 */
static bool drained(const struct group *g, const char *point, uint64_t id)
{
	bool any = strcmp(point, "latest");
	size_t i = g->nr_segments;

	while (i-- > 0) {
		const struct segment *s = g->segment[i];
		uint32_t k = s->nr_records;

		while (k-- > 0) {
			if (any && s->first_id + k < id)
				return true;
			if (!any && s->record[k].type == REPAGENT_REC_SHUTDOWN)
				return true;
			if (matters(s->record[k].type))
				return false;
		}
	}
	return any;
}

/**
 * failover_at_rest - is nobody there who could write to the group, before he opens it anew?
 * @g: the group, locked
 * @reason: HUB_REASON_MAX bytes for who is
 */
bool failover_at_rest(const struct group *g, char *reason)
{
	if (g->failover.state == FAILOVER_NONE && !drained(g, "latest", 0))
		snprintf(reason, HUB_REASON_MAX, "its source has not ended");
	else if (g->live && overlay_users(g->live))
		snprintf(reason, HUB_REASON_MAX, "live is open, %u times", overlay_users(g->live));
	else
		return true;
	return false;
}

/* ---- live ---------------------------------------------------------------- */

/* The segment in which live's writes begin; their number: there is none yet. */
static size_t find_segment(const struct group *g)
{
	size_t i;

	for (i = 0; i < g->nr_segments && g->segment[i]->start != g->failover.start; i++)
		;
	return i;
}

/* The last place that both live and what a rollback returns to go on from. */
static uint64_t find_hold(const struct group *g)
{
	const size_t i = find_segment(g);
	const struct segment *s = g->segment[i];
	uint64_t hold;

	if (!i || !s->branch)
		return s->first_id;
	hold = lineage_common(g->segment, g->nr_segments, lineage_last(g->segment, i, s->first_id), s->from);
	return hold == UINT64_MAX ? 0 : hold;
}

/* The segment in which live's writes begin. */
static int begin_segment(struct group *g, char *reason)
{
	const struct failover *f = &g->failover;
	const struct segment *last = hubgroup_last(g);
	struct replay *begin = malloc(sizeof(*begin));
	uint64_t id, from = UINT64_MAX;
	int err = 0;

	if (!begin) {
		snprintf(reason, HUB_REASON_MAX, "out of memory");
		return ENOMEM;
	}
	*begin = g->now;
	if (!point_of(g, f->incarnation, f->seq, &id, reason)) {
		err = ENOENT;
	} else if (id != last->first_id + last->nr_records) {
		from = id;
		if (!hubgroup_state(g, id, begin)) {
			snprintf(reason, HUB_REASON_MAX, "the point is gone");
			err = ENOENT;
		}
		begin->incarnation = f->incarnation;
		begin->seq = f->seq;
		/* Who wrote behind the point is over all the same. */
		begin->nr_seen = g->now.nr_seen;
		memcpy(begin->seen, g->now.seen, sizeof(begin->seen));
	}
	if (!err)
		err = hubgroup_begin(g, f->start, begin, from, reason);
	free(begin);
	return err;
}

/* The group is locked; it is unlocked meanwhile, when nothing else can change its state. */
static int open_live(struct group *g, char *reason)
{
	struct overlay *o;
	int err = 0;

	if (g->torn) {
		snprintf(reason, HUB_REASON_MAX, "the journal was damaged, and live may lack what was durable");
		return EIO;
	}
	if (find_segment(g) == g->nr_segments)
		err = begin_segment(g, reason);
	if (err)
		return err;
	g->hold = find_hold(g);
	if (g->now.incarnation != g->failover.live)
		err = overlay_begin(g, g->failover.live, &g->now, LABEL, reason);
	if (err)
		return err;
	pthread_mutex_unlock(&g->lock);
	o = overlay_open(g, g->failover.live, NULL, NULL, reason);
	pthread_mutex_lock(&g->lock);
	g->live = o;
	return o ? 0 : EIO;
}

/**
 * hub_live_open - open a volume of a group that is failed over
 * @hub: the hub
 * @group: name of the group
 * @volume: name of the volume
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: the disk, or NULL.
 */
struct hub_disk *hub_live_open(struct hub *hub, const char *group, const char *volume, char *reason)
{
	struct group *g = hub_find(hub, group);
	struct hub_disk *d = NULL;

	if (!g) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		return NULL;
	}
	pthread_mutex_lock(&g->lock);
	if (g->live)
		d = overlay_disk(g->live, volume, reason);
	else if (g->failover.state == FAILOVER_NONE)
		snprintf(reason, HUB_REASON_MAX, "group %s is not failed over", group);
	else
		snprintf(reason, HUB_REASON_MAX, "group %s is failed over, and cannot be written here: see the hub's log", group);
	pthread_mutex_unlock(&g->lock);
	return d;
}

/* ---- the changes of state ------------------------------------------------ */

/* The group's file says something else; locked. If that fails nobody knows what it says. */
static int say(struct group *g, const struct failover *f, uint64_t generation, uint64_t admitted, char *reason)
{
	const struct failover old_f = g->failover;
	const uint64_t old_generation = g->generation, old_admitted = g->admitted;
	int err;

	g->failover = *f;
	g->generation = generation;
	g->admitted = admitted;
	if (hubgroup_save(g))
		return 0;
	err = errno;
	g->failover = old_f;
	g->generation = old_generation;
	g->admitted = old_admitted;
	g->unsure = true;
	snprintf(g->trouble, sizeof(g->trouble),
		 "its file group cannot be written: %s; nobody writes to it until rephub was started anew", strerror(err));
	hub_say(g->hub, LOG_ERR, "group %s: %s", g->name, g->trouble);
	snprintf(reason, HUB_REASON_MAX, "%.150s", g->trouble);
	return EIO;
}

static int may_begin(const struct group *g, char *reason)
{
	if (g->unsure) {
		snprintf(reason, HUB_REASON_MAX, "%.150s", g->trouble);
		return EBUSY;
	}
	if (g->failover.state == FAILOVER_LIVE || g->failover.state == FAILOVER_ROLLBACK) {
		snprintf(reason, HUB_REASON_MAX, "it is failed over already, at generation %" PRIu64 ": commit or rollback first",
			 g->generation);
		return EBUSY;
	}
	if (g->live && overlay_users(g->live)) {
		snprintf(reason, HUB_REASON_MAX, "its live volumes are in use, %u times: end that first", overlay_users(g->live));
		return EBUSY;
	}
	return 0;
}

static int choose_point(const struct group *g, const struct hub_order *o, uint64_t *id, char *reason)
{
	if (!point_find(g, o->point, id, reason))
		return ENOENT;
	if (g->folding && (*id <= g->floor || !fork_may_begin(g, *id))) {
		snprintf(reason, HUB_REASON_MAX, "that point is just being folded, or what comes before it: try again");
		return EAGAIN;
	}
	if (o->planned && !drained(g, o->point, *id)) {
		snprintf(reason, HUB_REASON_MAX, strcmp(o->point, "latest") ? "there are writes behind that point" :
			 "the source has not said that it ended: end the VM there, and type repctl shutdown");
		return EAGAIN;
	}
	return check_volumes(g, *id, o->partial, reason);
}

/* Steps 1 to 5; locked. */
static int fail_over(struct group *g, const struct hub_order *o, char *reason)
{
	struct failover f = { .state = FAILOVER_LIVE, .before = g->generation };
	struct overlay *old;
	uint64_t id, time;
	int err;

	g->stopping = true;
	g->session = NULL;
	hub_step(g->hub, "ingest is stopped");
	if (!hubgroup_mend(g, reason))
		return EIO;
	err = hubgroup_sync(g, reason);
	if (!err)
		err = choose_point(g, o, &id, reason);
	if (err)
		return err;
	hub_step(g->hub, "the journal is durable");
	point_position(g, id, &f.incarnation, &f.seq, &time);
	f.since = now_ns();
	f.start = hubgroup_last(g)->end + FRAME_ALIGN;
	f.commit_at = o->commit_after ? f.since + o->commit_after : 0;
	if (getrandom(&f.live, sizeof(f.live), 0) != sizeof(f.live) || !f.live) {
		snprintf(reason, HUB_REASON_MAX, "there are no random numbers");
		return EIO;
	}
	err = fork_begin(g, &f, id, reason);
	if (err)
		return err;
	hub_step(g->hub, "the fork is noted");
	if (g->live)
		overlay_end(g->live, "the group was failed over anew");
	err = say(g, &f, g->generation + 1, 0, reason);
	if (err) {
		fork_end(g, f.start);
		return err;
	}
	/* Whatever becomes of live now, there is a way back; all is kept, until it is known what that needs. */
	g->before = g->now;
	g->hold = 0;
	hub_step(g->hub, "the generation is raised");
	hub_say(g->hub, LOG_NOTICE, "group %s: failed over to %016" PRIx64 ":%" PRIu64 ", generation %" PRIu64, g->name,
		f.incarnation, f.seq, g->generation);
	hubgroup_event(g, "failed-over", f.incarnation, f.seq, "generation %" PRIu64, g->generation);
	old = g->live;
	g->live = NULL;
	err = open_live(g, reason);
	hub_step(g->hub, "live is open");
	/* Not before: it is done unlocked, and what the point needs might have been folded meanwhile. */
	if (old) {
		pthread_mutex_unlock(&g->lock);
		overlay_put(old);
		pthread_mutex_lock(&g->lock);
	}
	return err;
}

/**
 * hub_failover - let the volumes of a group be written here
 * @hub: the hub
 * @group: name of the group
 * @o: how
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Context: waits for the disk. One thread at a time calls this, hub_commit() and hub_rollback().
 * Return: 0, ENOENT (group or point), EBUSY (it is failed over), EAGAIN (not yet drained), or another errno.
 */
int hub_failover(struct hub *hub, const char *group, const struct hub_order *o, char *reason)
{
	struct group *g = hub_find(hub, group);
	uint64_t id;
	int err;

	if (!g) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		return ENOENT;
	}
	pthread_mutex_lock(&g->lock);
	err = may_begin(g, reason);
	/* Who cannot be served does not disturb the replication. */
	if (!err)
		err = choose_point(g, o, &id, reason);
	if (!err) {
		err = fail_over(g, o, reason);
		g->stopping = false;
	}
	pthread_mutex_unlock(&g->lock);
	return err;
}

/* Locked; unlocked meanwhile. By command, or by the thread that tends: they may meet each other, and a rollback. */
static int commit(struct group *g, char *reason)
{
	const uint64_t live = g->failover.live;
	struct failover f;
	int err;

	err = hubgroup_sync(g, reason);
	if (!err && (g->failover.state != FAILOVER_LIVE || g->failover.live != live)) {
		snprintf(reason, HUB_REASON_MAX, "it was committed or rolled back meanwhile");
		err = EBUSY;
	}
	f = g->failover;
	f.state = FAILOVER_COMMITTED;
	f.commit_at = 0;
	if (!err)
		err = say(g, &f, g->generation, 0, reason);
	hub_step(g->hub, "committed");
	if (err)
		return err;
	hub_say(g->hub, LOG_NOTICE, "group %s: the fail-over is committed, at generation %" PRIu64, g->name, g->generation);
	hubgroup_event(g, "committed", 0, 0, "generation %" PRIu64, g->generation);
	return 0;
}

/* Take what live wrote away; also what was left of that by a hub that ended. Locked. */
static int roll_back(struct group *g, char *reason)
{
	struct failover f = g->failover;
	struct overlay *o = g->live;
	int err;

	if (f.state == FAILOVER_LIVE) {
		f.state = FAILOVER_ROLLBACK;
		f.since = now_ns();
		err = say(g, &f, g->generation + 1, f.before, reason);
		if (err)
			return err;
		hub_step(g->hub, "the rollback is noted");
	}
	g->live = NULL;
	if (o) {
		overlay_end(o, "the fail-over was rolled back");
		pthread_mutex_unlock(&g->lock);
		overlay_put(o);
		pthread_mutex_lock(&g->lock);
	}
	err = hubgroup_cut(g, f.start, &g->before, reason);
	if (err)
		return err;
	hub_step(g->hub, "the writes are gone");
	fork_end(g, f.start);
	g->hold = UINT64_MAX;
	f.state = FAILOVER_NONE;
	err = say(g, &f, g->generation, g->admitted, reason);
	hub_step(g->hub, "rolled back");
	if (err)
		return err;
	hub_say(g->hub, LOG_NOTICE, "group %s: the fail-over is rolled back; its source may go on, at generation %" PRIu64,
		g->name, g->generation);
	hubgroup_event(g, "rolled-back", 0, 0, "generation %" PRIu64, g->generation);
	return 0;
}

/* A group in a state in which that can be done, locked; or NULL, and *err says why. */
static struct group *get_failed_over(struct hub *hub, const char *group, bool back, int *err, char *reason)
{
	struct group *g = hub_find(hub, group);

	*err = ENOENT;
	if (!g) {
		snprintf(reason, HUB_REASON_MAX, "there is no group %s here", group);
		return NULL;
	}
	pthread_mutex_lock(&g->lock);
	if (!g->unsure && (g->failover.state == FAILOVER_LIVE || (back && g->failover.state == FAILOVER_ROLLBACK)))
		return g;
	*err = EBUSY;
	snprintf(reason, HUB_REASON_MAX, "%.150s", g->unsure ? g->trouble : g->failover.state == FAILOVER_COMMITTED ?
		 "the fail-over is committed already" : g->failover.state == FAILOVER_NONE ? "it is not failed over" :
		 "it is being rolled back");
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

/**
 * hub_commit - what live wrote stays; there is no way back
 * @hub: the hub
 * @group: name of the group
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Live goes on, until an agent that knows the present generation opens a session.
 *
 * Return: 0, ENOENT, EBUSY (it is in no state for it), or another errno.
 */
int hub_commit(struct hub *hub, const char *group, char *reason)
{
	struct group *g;
	int err;

	g = get_failed_over(hub, group, false, &err, reason);
	if (!g)
		return err;
	err = commit(g, reason);
	pthread_mutex_unlock(&g->lock);
	return err;
}

/**
 * hub_rollback - nothing of what live wrote stays, and the source may go on
 * @hub: the hub
 * @group: name of the group
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: 0, ENOENT, EBUSY (it is in no state for it), or another errno.
 */
int hub_rollback(struct hub *hub, const char *group, char *reason)
{
	char test[HUB_TEST_ID];
	struct group *g;
	int err;

	g = get_failed_over(hub, group, true, &err, reason);
	if (!g)
		return err;
	if (g->hold != UINT64_MAX && scratch_beyond(g, g->failover.start, test)) {
		snprintf(reason, HUB_REASON_MAX, "test %s stands on what would be rolled back: stop it first", test);
		err = EBUSY;
	} else {
		err = roll_back(g, reason);
	}
	pthread_mutex_unlock(&g->lock);
	return err;
}

/**
 * failover_ended - may an agent that knows the generation have the group again?
 * @g: the group, locked
 * @reason: HUB_REASON_MAX bytes for why not
 *
 * Return: if so, true, and live is over, for good.
 */
bool failover_ended(struct group *g, char *reason)
{
	struct failover f = g->failover;

	if (f.state == FAILOVER_NONE)
		return true;
	if (f.state != FAILOVER_COMMITTED) {
		snprintf(reason, HUB_REASON_MAX, "the group is failed over");
		return false;
	}
	if (g->live && overlay_users(g->live)) {
		snprintf(reason, HUB_REASON_MAX, "its live volumes are in use here, %u times", overlay_users(g->live));
		return false;
	}
	f.state = FAILOVER_NONE;
	if (say(g, &f, g->generation, g->admitted, reason))
		return false;
	g->hold = UINT64_MAX;
	if (g->live)
		overlay_end(g->live, "the group's agent has it again");
	hub_say(g->hub, LOG_NOTICE, "group %s: the fail-over has ended: its agent writes again", g->name);
	hubgroup_event(g, "live-ended", 0, 0, "its agent writes again");
	return true;
}

/* ---- beginning and end --------------------------------------------------- */

/**
 * failover_open - go on where the hub ended
 * @g: the group, just opened
 * @error: SEGMENT_ERROR_MAX bytes
 *
 * Return: whether the group can be used.
 */
bool failover_open(struct group *g, char *error)
{
	char reason[HUB_REASON_MAX];
	int err = 0;

	pthread_mutex_lock(&g->lock);
	switch (g->failover.state) {
	case FAILOVER_LIVE:
	case FAILOVER_COMMITTED:
		err = open_live(g, reason);
		/* It is fenced all the same; and the views are there. */
		if (err) {
			snprintf(g->trouble, sizeof(g->trouble), "it is failed over, and cannot be written here: %s", reason);
			hub_say(g->hub, LOG_ERR, "group %s: %s", g->name, g->trouble);
			g->hold = 0;
		}
		err = 0;
		break;
	case FAILOVER_ROLLBACK:
		err = roll_back(g, reason);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&g->lock);
	if (err)
		snprintf(error, SEGMENT_ERROR_MAX, "it cannot be rolled back: %s", reason);
	return !err;
}

/**
 * failover_tend - what is to be done now and then
 * @g: the group
 */
void failover_tend(struct group *g)
{
	char reason[HUB_REASON_MAX];
	struct overlay *over = NULL;

	pthread_mutex_lock(&g->lock);
	if (!g->unsure && !g->stopping && g->failover.state == FAILOVER_LIVE && g->failover.commit_at &&
	    now_ns() >= g->failover.commit_at && commit(g, reason))
		hub_say(g->hub, LOG_ERR, "group %s: it cannot be committed: %s", g->name, reason);
	if (g->failover.state == FAILOVER_NONE && g->live) {
		over = g->live;
		g->live = NULL;
	}
	pthread_mutex_unlock(&g->lock);
	if (over)
		overlay_put(over);
}

/**
 * failover_close - the hub ends
 * @g: the group
 */
void failover_close(struct group *g)
{
	if (g->live)
		overlay_put(g->live);
	g->live = NULL;
}
