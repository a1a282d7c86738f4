// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hub's exports.
 *
 * The NBD server's workers must not wait for disks.  So what may do that (reads,
 * and flushes of the log) is done by a few threads of our own; a frame is only
 * written to the page cache, and must be taken in the order in which it came: that
 * is done at once.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "../nbdserver/proto.h"
#include "export.h"


_Static_assert(HUB_REASON_MAX <= NBDS_REASON_MAX, "a reason fits into a request");

static const char *const view_contexts[] = { "base:allocation" };

/* struct export - one of the two is there. */
struct export {
	struct hub_session *session;
	struct hub_view *view;
};

/* In a request's scratch. */
struct job {
	STAILQ_ENTRY(job) link;
	struct export *export;
};

_Static_assert(sizeof(struct job) <= sizeof(((struct nbds_request *)0)->scratch), "a request has room for its job");

static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;	/* guards the list and jobs_end */
static pthread_cond_t jobs_more = PTHREAD_COND_INITIALIZER;
static STAILQ_HEAD(job_list, job) jobs = STAILQ_HEAD_INITIALIZER(jobs);
static bool jobs_end;
static pthread_t *jobs_thread;
static unsigned int nr_threads;

/* The server asks whether a peer may open an export right before it opens it, in the same thread. */
static __thread char peer_address[64];

static struct nbds_request *request_of(struct job *j)
{
	return (struct nbds_request *)(void *)((uint8_t *)j - offsetof(struct nbds_request, scratch));
}

static void carry_out(struct export *e, struct nbds_request *rq)
{
	uint64_t next;
	int err;

	if (e->session && rq->op == NBDS_FLUSH) {
		err = hub_session_flush(e->session, rq->reason);
	} else if (e->session) {
		err = hub_session_read(e->session, rq->offset, rq->buf, rq->length, rq->reason);
	} else if (!hub_view_next(e->view, rq->offset, rq->offset + rq->length, &next) &&
		   next == rq->offset + rq->length) {
		rq->hole = true;
		err = 0;
	} else {
		err = hub_view_read(e->view, rq->offset, rq->buf, rq->length, rq->reason);
	}
	nbds_complete(rq, err);
}

static void *jobs_run(void *arg)
{
	struct export *e;
	struct job *j;

	(void)arg;
	pthread_mutex_lock(&jobs_lock);
	for (;;) {
		while (STAILQ_EMPTY(&jobs) && !jobs_end)
			pthread_cond_wait(&jobs_more, &jobs_lock);
		j = STAILQ_FIRST(&jobs);
		if (!j)
			break;
		STAILQ_REMOVE_HEAD(&jobs, link);
		pthread_mutex_unlock(&jobs_lock);
		e = j->export;
		carry_out(e, request_of(j));
		pthread_mutex_lock(&jobs_lock);
	}
	pthread_mutex_unlock(&jobs_lock);
	return NULL;
}

/**
 * exports_start - start the threads that may wait
 * @threads: so many
 *
 * Return: false if not even one can be started.
 */
bool exports_start(unsigned int threads)
{
	jobs_thread = calloc(threads, sizeof(*jobs_thread));
	for (nr_threads = 0; jobs_thread && nr_threads < threads; nr_threads++)
		if (pthread_create(&jobs_thread[nr_threads], NULL, jobs_run, NULL))
			break;
	return nr_threads;
}

/**
 * exports_stop - end them; the server was stopped
 */
void exports_stop(void)
{
	pthread_mutex_lock(&jobs_lock);
	jobs_end = true;
	pthread_cond_broadcast(&jobs_more);
	pthread_mutex_unlock(&jobs_lock);
	while (nr_threads)
		pthread_join(jobs_thread[--nr_threads], NULL);
	free(jobs_thread);
}

/* ---- names --------------------------------------------------------------- */

/* log/GROUP: then @volume is empty; or view/GROUP/VOLUME@POINT, where @point is behind the @. */
static bool split(const char *name, char *group, char *volume, const char **point)
{
	bool log = !strncmp(name, "log/", 4);
	const char *slash, *at;

	*volume = '\0';
	if (log) {
		if (strlen(name + 4) > REPAGENT_NAME_MAX)
			return false;
		strcpy(group, name + 4);
		return frame_name_ok(group);
	}
	if (strncmp(name, "view/", 5))
		return false;
	name += 5;
	slash = strchr(name, '/');
	at = slash ? strchr(slash, '@') : NULL;
	if (!at || !at[1] || slash - name > REPAGENT_NAME_MAX || at - slash - 1 > REPAGENT_NAME_MAX)
		return false;
	snprintf(group, REPAGENT_NAME_MAX + 1, "%.*s", (int)(slash - name), name);
	snprintf(volume, REPAGENT_NAME_MAX + 1, "%.*s", (int)(at - slash - 1), slash + 1);
	*point = at + 1;
	return frame_name_ok(group) && frame_name_ok(volume);
}

/* What LIST shows: the n-th of log/GROUP and view/GROUP/VOLUME@latest. */
struct listing {
	struct hub *hub;
	unsigned int left;
	bool found;
	char *name;
	size_t size;
	char group[REPAGENT_NAME_MAX + 1];
};

static void list_volume(void *data, const struct hub_volume_info *v)
{
	struct listing *l = data;

	if (l->found || v->state)
		return;
	l->found = !l->left--;
	if (l->found)
		snprintf(l->name, l->size, "view/%s/%s@latest", v->group, v->name);
}

static void list_group(void *data, const struct hub_group_info *g)
{
	struct listing *l = data;

	if (l->found)
		return;
	l->found = !l->left--;
	if (l->found)
		snprintf(l->name, l->size, "log/%s", g->name);
	else
		hub_volumes(l->hub, g->name, list_volume, l);
}

static bool exports_list(void *data, unsigned int index, char *name, size_t size)
{
	struct exports *x = data;
	struct listing l = { .hub = x->hub, .left = index, .name = name, .size = size };

	hub_groups(x->hub, list_group, &l);
	return l.found;
}

/* A rule for GROUP allows its log and all its volumes, one for GROUP/VOLUME the views of that. */
static bool exports_allowed(void *data, const struct nbds_peer *peer, const char *name,
			    char *reason, size_t size)
{
	char group[REPAGENT_NAME_MAX + 1], volume[REPAGENT_NAME_MAX + 1], what[2 * REPAGENT_NAME_MAX + 2];
	struct exports *x = data;
	const char *point;

	snprintf(peer_address, sizeof(peer_address), "%.30s%s%.30s", peer->nr_names ? peer->names[0] : "",
		 peer->nr_names ? " at " : "", peer->address);
	if (!split(name, group, volume, &point))
		return true;	/* and so it does not exist */
	snprintf(what, sizeof(what), "%s/%s", group, volume);
	return access_allows(&x->access, peer, what, reason, size);
}

/* ---- exports ------------------------------------------------------------- */

static void describe_log(struct nbds_info *info, const char *group)
{
	info->size = LOG_SIZE;
	info->min_block = FRAME_ALIGN;
	info->preferred_block = SESSION_SIZE;
	info->can_flush = true;
	snprintf(info->description, sizeof(info->description), "log of group %s", group);
}

static void describe_view(struct nbds_info *info, const struct hub_view *v, const char *group, const char *volume,
			  const char *point)
{
	uint64_t incarnation, seq, time;
	char when[32] = "";
	struct tm tm;
	time_t t;

	hub_view_position(v, &incarnation, &seq, &time);
	t = (time_t)(time / 1000000000);
	if (time && gmtime_r(&t, &tm))
		strftime(when, sizeof(when), ", %Y-%m-%dT%H:%M:%SZ", &tm);
	info->size = hub_view_size(v);
	info->min_block = 1;
	info->preferred_block = 4096;
	info->read_only = true;
	/* Several connections are one view only if all of them have the same point. */
	info->multi_conn = *point >= '0' && *point <= '9' && strchr(point, ':') && !strchr(point, '-');
	info->can_flush = true;
	info->nr_contexts = 1;
	info->contexts = view_contexts;
	snprintf(info->description, sizeof(info->description), "%s/%s at %016" PRIx64 ":%" PRIu64 "%s", group, volume,
		 incarnation, seq, when);
}

static void *exports_open(void *data, const char *name, struct nbds_info *info, char *reason, size_t size)
{
	char group[REPAGENT_NAME_MAX + 1], volume[REPAGENT_NAME_MAX + 1], why[HUB_REASON_MAX];
	struct exports *x = data;
	const char *point = NULL;
	struct export *e;

	if (!split(name, group, volume, &point)) {
		snprintf(reason, size, "expected log/GROUP or view/GROUP/VOLUME@POINT");
		return NULL;
	}
	e = calloc(1, sizeof(*e));
	snprintf(why, sizeof(why), "out of memory");
	if (e && !*volume)
		e->session = hub_session_new(x->hub, group, peer_address);
	else if (e)
		e->view = hub_view_open(x->hub, group, volume, point, why);
	if (e && e->view)
		hub_view_for(e->view, peer_address);
	if (!e || (!e->session && !e->view)) {
		snprintf(reason, size, "%s", why);
		free(e);
		return NULL;
	}
	if (e->session)
		describe_log(info, group);
	else
		describe_view(info, e->view, group, volume, point);
	return e;
}

static void exports_close(void *export)
{
	struct export *e = export;

	if (e->session)
		hub_session_free(e->session);
	else
		hub_view_close(e->view);
	free(e);
}

static void view_status(struct export *e, struct nbds_request *rq)
{
	uint64_t at = rq->offset, end = at + rq->length, next;
	bool more = true;

	while (at < end && more) {
		bool data = hub_view_next(e->view, at, end, &next);

		more = nbds_extent(rq, next - at, data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO);
		at = next;
	}
	nbds_complete(rq, 0);
}

static void exports_submit(void *export, struct nbds_request *rq)
{
	struct job *j = (struct job *)(void *)rq->scratch;
	struct export *e = export;

	switch (rq->op) {
	case NBDS_WRITE:
		nbds_complete(rq, hub_session_write(e->session, rq->offset, rq->buf, rq->length, rq->reason));
		return;
	case NBDS_STATUS:
		view_status(e, rq);
		return;
	case NBDS_FLUSH:
		if (!e->session) {
			nbds_complete(rq, 0);
			return;
		}
		break;
	default:
		break;
	}
	j->export = e;
	pthread_mutex_lock(&jobs_lock);
	STAILQ_INSERT_TAIL(&jobs, j, link);
	pthread_cond_signal(&jobs_more);
	pthread_mutex_unlock(&jobs_lock);
}

static bool exports_gone(void *export, char *reason, size_t size)
{
	struct export *e = export;
	char why[HUB_REASON_MAX];

	if (!e->session || !hub_session_over(e->session, why))
		return false;
	snprintf(reason, size, "%s", why);
	return true;
}

const struct nbds_ops exports_ops = {
	.list		= exports_list,
	.allowed	= exports_allowed,
	.open		= exports_open,
	.close		= exports_close,
	.submit		= exports_submit,
	.gone		= exports_gone,
};
