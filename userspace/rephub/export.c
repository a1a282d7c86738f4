// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hub's exports.
 *
 * The NBD server's workers must not wait for disks.  So what may do that (reads,
 * flushes, and all writes to a test's or a fail-over's volumes) is done by a few threads of our own; a frame of the log is only
 * written to the page cache, and must be taken in the order in which it came: that
 * is done at once.  Sums have threads that do nothing else, for each takes the
 * reading of a MiB and more, and a FLUSH is not to wait for that.
 *
 * A frame of a group that is slowed, for room is being made for it, was taken and
 * is not answered yet: whoever waits for that sends no more.  A thread of its own
 * looks when it is answered, so that no other group waits with it.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "../common/parse.h"
#include "../nbdserver/proto.h"
#include "export.h"


_Static_assert(HUB_REASON_MAX <= NBDS_REASON_MAX, "a reason fits into a request");

enum { CONTEXT_ALLOCATION, CONTEXT_CHANGED };

static const char *const disk_contexts[] = {
	[CONTEXT_ALLOCATION]	= "base:allocation",
	[CONTEXT_CHANGED]	= "qemu:dirty-bitmap:changed",	/* of changed/GROUP/VOLUME alone */
};

/*
 * struct export - one of the first five is there.
 * @back:	@view is its, if there is one
 * @writer:	of a disk
 */
struct export {
	struct hub_session *session;
	struct hub_disk *disk;
	struct hub_sums *sums;
	struct hub_back *back;
	struct hub_view *view;
	struct hub_writer writer;
};

/* In a request's scratch. @since: when it was held back, ns of CLOCK_MONOTONIC */
struct job {
	STAILQ_ENTRY(job) link;
	struct export *export;
	uint64_t since;
};

_Static_assert(sizeof(struct job) <= sizeof(((struct nbds_request *)0)->scratch), "a request has room for its job");

/*
 * struct pool - threads that may wait, and what they are to do
 * @lock:	guards @jobs and @end
 */
struct pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	STAILQ_HEAD(pool_jobs, job) jobs;
	bool end;
	pthread_t *thread;
	unsigned int nr;
};

#define POOL(name) { \
	.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .jobs = STAILQ_HEAD_INITIALIZER(name.jobs), \
}
#define SUM_THREADS	2u
#define HELD_LOOK	(20 * NSEC_PER_MSEC)	/* between two looks at whether a group is still slowed */
#define HELD_MAX	(8 * NSEC_PER_SEC)	/* an agent takes no answer for a loss of the hub, and has 10 s to end in, unless told otherwise */

static struct pool jobs = POOL(jobs), sums_jobs = POOL(sums_jobs), held = POOL(held);

/* The server asks whether a peer may open an export right before it opens it, in the same thread. */
static __thread char peer_address[64];

static atomic_uint_fast64_t clients;	/* that have opened a disk */
static atomic_bool ending;		/* nothing is held back any more */

static struct nbds_request *request_of(struct job *j)
{
	return (struct nbds_request *)(void *)((uint8_t *)j - offsetof(struct nbds_request, scratch));
}

static int carry_out_on_disk(const struct export *e, struct nbds_request *rq)
{
	struct hub_disk *d = e->disk;
	uint64_t next;
	int err;

	switch (rq->op) {
	case NBDS_READ:
		rq->hole = !hub_disk_next(d, rq->offset, rq->offset + rq->length, &next) &&
			   next == rq->offset + rq->length && !hub_disk_over(d, rq->reason);
		return rq->hole ? 0 : hub_disk_read(d, rq->offset, rq->buf, rq->length, rq->reason);
	case NBDS_WRITE:
		err = hub_disk_write(d, &e->writer, rq->offset, rq->buf, rq->length, rq->reason);
		break;
	case NBDS_FLUSH:
		return hub_disk_flush(d, rq->reason);
	default:
		err = hub_disk_zero(d, &e->writer, rq->offset, rq->length, rq->op == NBDS_TRIM, rq->reason);
		break;
	}
	return err || !rq->fua ? err : hub_disk_flush(d, rq->reason);
}

static int carry_out_on_sums(struct hub_sums *s, struct nbds_request *rq)
{
	bool hole = false;
	int err;

	if (rq->op == NBDS_WRITE)
		return hub_sums_want(s, rq->offset, rq->buf, rq->length, rq->reason);
	err = hub_sums_read(s, rq->offset, rq->buf, rq->length, &hole, rq->reason);
	rq->hole = hole;
	return err;
}

static void carry_out(struct export *e, struct nbds_request *rq)
{
	uint64_t next;
	int err;

	if (e->sums) {
		err = carry_out_on_sums(e->sums, rq);
	} else if (e->disk) {
		err = carry_out_on_disk(e, rq);
	} else if (e->session && rq->op == NBDS_FLUSH) {
		err = hub_session_flush(e->session, rq->reason);
	} else if (e->session) {
		err = hub_session_read(e->session, rq->offset, rq->buf, rq->length, rq->reason);
	} else if (!e->view) {
		snprintf(rq->reason, sizeof(rq->reason), "%s", hub_back_text(e->back));
		err = EPERM;
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
	struct pool *p = arg;
	struct export *e;
	struct job *j;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (STAILQ_EMPTY(&p->jobs) && !p->end)
			pthread_cond_wait(&p->more, &p->lock);
		j = STAILQ_FIRST(&p->jobs);
		if (!j)
			break;
		STAILQ_REMOVE_HEAD(&p->jobs, link);
		pthread_mutex_unlock(&p->lock);
		e = j->export;
		carry_out(e, request_of(j));
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* The frames that are not answered. */
static void *held_run(void *arg)
{
	const struct timespec look = { .tv_nsec = HELD_LOOK };
	struct pool *p = arg;
	struct hub_session *asked;
	struct pool_jobs all;
	bool slowed = false;
	struct job *j;

	pthread_mutex_lock(&p->lock);
	while (!p->end || !STAILQ_EMPTY(&p->jobs)) {
		while (STAILQ_EMPTY(&p->jobs) && !p->end)
			pthread_cond_wait(&p->more, &p->lock);
		STAILQ_INIT(&all);
		STAILQ_CONCAT(&all, &p->jobs);
		pthread_mutex_unlock(&p->lock);
		asked = NULL;
		while ((j = STAILQ_FIRST(&all))) {
			STAILQ_REMOVE_HEAD(&all, link);
			/* A frame comes in many pieces, which lie side by side. */
			if (j->export->session != asked) {
				asked = j->export->session;
				slowed = hub_session_still_slowed(asked);
			}
			if (ending || now_ns() - j->since > HELD_MAX || !slowed) {
				nbds_complete(request_of(j), 0);
				asked = NULL;	/* it may be gone with that */
				continue;
			}
			pthread_mutex_lock(&p->lock);
			STAILQ_INSERT_TAIL(&p->jobs, j, link);
			pthread_mutex_unlock(&p->lock);
		}
		nanosleep(&look, NULL);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static bool pool_start(struct pool *p, void *(*run)(void *), unsigned int threads)
{
	p->thread = calloc(threads, sizeof(*p->thread));
	for (p->nr = 0; p->thread && p->nr < threads; p->nr++)
		if (pthread_create(&p->thread[p->nr], NULL, run, p))
			break;
	return p->nr;
}

static void pool_stop(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->end = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	while (p->nr)
		pthread_join(p->thread[--p->nr], NULL);
	free(p->thread);
}

/**
 * exports_start - start the threads that may wait
 * @threads: so many, and those for sums and for what is held back
 *
 * Return: false if not even one of each can be started.
 */
bool exports_start(unsigned int threads)
{
	return pool_start(&jobs, jobs_run, threads) && pool_start(&sums_jobs, jobs_run, SUM_THREADS) &&
	       pool_start(&held, held_run, 1);
}

/**
 * exports_release - answer what is held back, and hold nothing back any more; before the server is stopped
 */
void exports_release(void)
{
	ending = true;
}

/**
 * exports_stop - end them; the server was stopped
 */
void exports_stop(void)
{
	pool_stop(&jobs);
	pool_stop(&sums_jobs);
	pool_stop(&held);
}

/* ---- names --------------------------------------------------------------- */

enum kind { KIND_LOG, KIND_VIEW, KIND_LIVE, KIND_TEST, KIND_SUMS, KIND_CHANGED, KIND_NONE };

/*
 * struct parts - of an export's name
 * @group:	of KIND_TEST the test's
 * @volume:	not of KIND_LOG
 * @point:	of KIND_VIEW and KIND_CHANGED: what is behind the @; NULL without
 * @token:	of KIND_LIVE and KIND_TEST: the same, 16 hexadecimal digits; 0 without
 */
struct parts {
	enum kind kind;
	char group[REPAGENT_NAME_MAX + 1], volume[REPAGENT_NAME_MAX + 1];
	const char *point;
	uint64_t token;
};

/* Sixteen hexadecimal digits, and nothing else. */
static bool take_token(uint64_t *token, const char *from)
{
	return strlen(from) == 16 && strspn(from, "0123456789abcdef") == 16 && sscanf(from, "%" SCNx64, token) == 1;
}

static bool take_name(char *to, const char *from, ptrdiff_t len)
{
	if (len > REPAGENT_NAME_MAX)
		return false;
	snprintf(to, REPAGENT_NAME_MAX + 1, "%.*s", (int)len, from);
	return frame_name_ok(to);
}

/* log/GROUP, view/GROUP/VOLUME@POINT, live/GROUP/VOLUME[@TOKEN], test/ID/VOLUME[@TOKEN], sums/GROUP/VOLUME or changed/GROUP/VOLUME[@POINT]? */
static bool split(const char *name, struct parts *p)
{
	static const char *const kinds[] = { "log/", "view/", "live/", "test/", "sums/", "changed/" };
	const char *slash, *end;

	*p = (struct parts){ .kind = KIND_LOG };
	while (p->kind < KIND_NONE && strncmp(name, kinds[p->kind], strlen(kinds[p->kind])))
		p->kind++;
	if (p->kind == KIND_NONE)
		return false;
	name += strlen(kinds[p->kind]);
	if (p->kind == KIND_LOG)
		return take_name(p->group, name, (ptrdiff_t)strlen(name));
	slash = strchr(name, '/');
	if (!slash)
		return false;
	end = slash + strcspn(slash, "@");
	if (*end && (p->kind == KIND_VIEW || p->kind == KIND_CHANGED))
		p->point = end + 1;
	else if (*end && (p->kind == KIND_SUMS || !take_token(&p->token, end + 1)))
		return false;
	if (p->point ? !*p->point : p->kind == KIND_VIEW)
		return false;
	return take_name(p->group, name, slash - name) && take_name(p->volume, slash + 1, end - slash - 1);
}

/* What LIST shows: the n-th of log/GROUP, view/GROUP/VOLUME@latest, live/GROUP/VOLUME and test/ID/VOLUME. */
struct listing {
	struct hub *hub;
	unsigned int left;
	bool found;
	char *name;
	size_t size;
	const char *kind, *behind;
};

static void list_volume(void *data, const struct hub_volume_info *v)
{
	struct listing *l = data;

	if (l->found || v->state)
		return;
	l->found = !l->left--;
	if (l->found)
		snprintf(l->name, l->size, "%s/%s/%s%s", l->kind, v->group, v->name, l->behind);
}

static void list_test(void *data, const struct hub_test_info *t)
{
	struct listing *l = data;
	unsigned int i;

	for (i = 0; i < t->nr_volumes && !l->found; i++) {
		l->found = !l->left--;
		if (l->found)
			snprintf(l->name, l->size, "test/%s/%s", t->id, t->volume[i]);
	}
}

static void list_group(void *data, const struct hub_group_info *g)
{
	struct listing *l = data;

	if (l->found)
		return;
	l->found = !l->left--;
	if (l->found) {
		snprintf(l->name, l->size, "log/%s", g->name);
		return;
	}
	l->kind = "view";
	l->behind = "@latest";
	hub_volumes(l->hub, g->name, list_volume, l);
	l->kind = "live";
	l->behind = "";
	if (g->live)
		hub_volumes(l->hub, g->name, list_volume, l);
}

static bool exports_list(void *data, unsigned int index, char *name, size_t size)
{
	struct exports *x = data;
	struct listing l = { .hub = x->hub, .left = index, .name = name, .size = size };

	hub_groups(x->hub, list_group, &l);
	if (!l.found)
		hub_tests(x->hub, list_test, &l);
	return l.found;
}

/*
 * A rule for GROUP allows its log, all its volumes, and to write those of its tests and its fail-over; one for
 * GROUP/VOLUME the views of that, its sums, and what has changed.
 */
static bool exports_allowed(void *data, const struct nbds_peer *peer, const char *name,
			    char *reason, size_t size)
{
	char what[2 * REPAGENT_NAME_MAX + 2];
	struct exports *x = data;
	struct parts p;

	snprintf(peer_address, sizeof(peer_address), "%.30s%s%.30s", peer->nr_names ? peer->names[0] : "",
		 peer->nr_names ? " at " : "", peer->address);
	if (!split(name, &p) || (p.kind == KIND_TEST && !hub_test_group(x->hub, p.group, p.group)))
		return true;	/* and so it does not exist */
	snprintf(what, sizeof(what), "%s/%s", p.group,
		 p.kind == KIND_VIEW || p.kind == KIND_SUMS || p.kind == KIND_CHANGED ? p.volume : "");
	return access_allows(&x->access, peer, what, reason, size);
}

/* ---- exports ------------------------------------------------------------- */

static void describe_changed(struct nbds_info *info, const struct hub_back *b)
{
	info->size = hub_back_view(b) ? hub_view_size(hub_back_view(b)) : 0;
	info->min_block = 1;
	info->preferred_block = 4096;
	info->read_only = true;
	info->can_flush = true;
	info->nr_contexts = sizeof(disk_contexts) / sizeof(disk_contexts[0]);
	info->contexts = disk_contexts;
	snprintf(info->description, sizeof(info->description), "%s", hub_back_text(b));
}

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
	info->nr_contexts = CONTEXT_ALLOCATION + 1;
	info->contexts = disk_contexts;
	snprintf(info->description, sizeof(info->description), "%s/%s at %016" PRIx64 ":%" PRIu64 "%s", group, volume,
		 incarnation, seq, when);
}

/* The replica that a fail-over VM runs on: one disk, of one writer. */
static void describe_disk(struct nbds_info *info, const struct hub_disk *d, const struct parts *p)
{
	info->size = hub_disk_size(d);
	info->min_block = 512;
	info->preferred_block = 4096;
	info->can_flush = true;
	info->can_fua = true;
	info->can_trim = true;
	info->can_zero = true;
	info->can_fast_zero = true;
	info->nr_contexts = CONTEXT_ALLOCATION + 1;
	info->contexts = disk_contexts;
	snprintf(info->description, sizeof(info->description), "%s of %s %s, incarnation %016" PRIx64, p->volume,
		 p->kind == KIND_LIVE ? "group" : "test", p->group, hub_disk_incarnation(d));
}

static void describe_sums(struct nbds_info *info, const struct hub_sums *s, const struct parts *p)
{
	info->size = hub_sums_size(s);
	info->min_block = 1;
	info->preferred_block = 4096;
	info->can_flush = true;
	snprintf(info->description, sizeof(info->description), "sums of %s/%s", p->group, p->volume);
}

static void *exports_open(void *data, const char *name, struct nbds_info *info, char *reason, size_t size)
{
	char why[HUB_REASON_MAX];
	struct exports *x = data;
	struct export *e;
	struct parts p;

	if (!split(name, &p)) {
		snprintf(reason, size, "expected log/GROUP, view/GROUP/VOLUME@POINT, live/GROUP/VOLUME, test/ID/VOLUME, sums/GROUP/VOLUME or changed/GROUP/VOLUME[@POINT]");
		return NULL;
	}
	e = calloc(1, sizeof(*e));
	snprintf(why, sizeof(why), "out of memory");
	if (e && p.kind == KIND_LOG)
		e->session = hub_session_new(x->hub, p.group, peer_address);
	else if (e && p.kind == KIND_VIEW)
		e->view = hub_view_open(x->hub, p.group, p.volume, p.point, why);
	else if (e && p.kind == KIND_LIVE)
		e->disk = hub_live_open(x->hub, p.group, p.volume, why);
	else if (e && p.kind == KIND_CHANGED)
		e->back = hub_back_open(x->hub, p.group, p.volume, p.point, why);
	else if (e && p.kind == KIND_SUMS)
		e->sums = hub_sums_open(x->hub, p.group, p.volume, peer_address, why);
	else if (e)
		e->disk = hub_test_open(x->hub, p.group, p.volume, why);
	if (e && e->disk && hub_disk_displaced(e->disk, p.token, why)) {
		hub_disk_close(e->disk);
		e->disk = NULL;
	}
	if (e && e->back)
		e->view = hub_back_view(e->back);
	if (e && e->view)
		hub_view_for(e->view, peer_address);
	if (!e || (!e->session && !e->view && !e->disk && !e->sums && !e->back)) {
		snprintf(reason, size, "%s", why);
		free(e);
		return NULL;
	}
	e->writer = (struct hub_writer){ .client = atomic_fetch_add(&clients, 1) + 1, .token = p.token };
	if (e->session)
		describe_log(info, p.group);
	else if (e->sums)
		describe_sums(info, e->sums, &p);
	else if (e->back)
		describe_changed(info, e->back);
	else if (e->view)
		describe_view(info, e->view, p.group, p.volume, p.point);
	else
		describe_disk(info, e->disk, &p);
	return e;
}

static void exports_close(void *export)
{
	struct export *e = export;

	if (e->session)
		hub_session_free(e->session);
	else if (e->back)
		hub_back_close(e->back);
	else if (e->view)
		hub_view_close(e->view);
	else if (e->sums)
		hub_sums_close(e->sums);
	else
		hub_disk_close(e->disk);
	free(e);
}

static void disk_status(struct export *e, struct nbds_request *rq)
{
	uint64_t at = rq->offset, end = at + rq->length, next;
	uint32_t state;
	bool more = e->view || e->disk;

	if (!more) {
		nbds_complete(rq, EPERM);
		return;
	}
	while (at < end && more) {
		if (rq->context == CONTEXT_CHANGED)
			state = hub_back_next(e->back, at, end, &next) ? NBD_STATE_DIRTY : 0;
		else if (e->view ? hub_view_next(e->view, at, end, &next) : hub_disk_next(e->disk, at, end, &next))
			state = 0;
		else
			state = NBD_STATE_HOLE | NBD_STATE_ZERO;
		more = nbds_extent(rq, next - at, state);
		at = next;
	}
	nbds_complete(rq, 0);
}

static void add_job(struct pool *p, struct export *e, struct nbds_request *rq)
{
	struct job *j = (struct job *)(void *)rq->scratch;

	*j = (struct job){ .export = e, .since = p == &held ? now_ns() : 0 };
	pthread_mutex_lock(&p->lock);
	STAILQ_INSERT_TAIL(&p->jobs, j, link);
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
}

static void take_frames(struct export *e, struct nbds_request *rq)
{
	int err = hub_session_write(e->session, rq->offset, rq->buf, rq->length, rq->reason);

	if (err || ending || !hub_session_slowed(e->session)) {
		nbds_complete(rq, err);
		return;
	}
	nbds_release(rq);
	add_job(&held, e, rq);
}

static void exports_submit(void *export, struct nbds_request *rq)
{
	struct export *e = export;

	switch (rq->op) {
	case NBDS_WRITE:
		if (!e->session)
			break;
		take_frames(e, rq);
		return;
	case NBDS_STATUS:
		disk_status(e, rq);
		return;
	case NBDS_FLUSH:
		if (e->view || e->sums || e->back) {
			nbds_complete(rq, 0);
			return;
		}
		break;
	default:
		break;
	}
	add_job(e->sums ? &sums_jobs : &jobs, e, rq);
}

static bool exports_gone(void *export, char *reason, size_t size)
{
	struct export *e = export;
	char why[HUB_REASON_MAX];

	if (e->view || e->sums || e->back || !(e->session ? hub_session_over(e->session, why) : hub_disk_over(e->disk, why)))
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
