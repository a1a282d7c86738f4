// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A log that goes on from earlier points, also from abandoned ones: what is shown, folded, and told of what has changed.
 *
 *	A (p, then q) ... e	the agent's: p and q are points in it, e its end
 *	D from p		live's
 *	E from q		live's, the next one's
 *
 * HUB_SEED=N, HUB_ROUNDS=N: so many random histories, from this seed on.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "rephub/overlay.h"
#include "badread.h"
#include "hubfixture.h"

#define SEGMENT		(64u << 10)
#define KEEP		(2 * SEGMENT)
#define NAME		64

/* Of each sector its first word, which no other write has; 0: zeroes. */
typedef uint64_t image[SIM_VOLUMES][SIM_SECTORS];

struct point {
	char name[NAME];
	uint64_t incarnation, id;
	image m;
};

static image now;

static int setup(void **state)
{
	(void)state;
	memset(now, 0, sizeof(now));
	fixture_begin(23, SEGMENT, 0xa, 0xb);
	return 0;
}

static void tell_model(uint64_t incarnation, uint64_t number, unsigned int v, uint64_t sector, uint64_t nr)
{
	uint64_t i;

	for (i = sector; i < sector + nr; i++)
		now[v][i] = incarnation << 48 ^ number << 16 ^ i;
}

static void agent_writes(struct simagent *x, unsigned int frames)
{
	unsigned int v, i;
	uint64_t at, nr;

	while (frames--) {
		sim_begin(x, true);
		for (i = 0; i < 5; i++) {
			v = (unsigned int)random() % SIM_VOLUMES;
			nr = 1 + (uint64_t)random() % 8;
			at = (uint64_t)random() % (SIM_SECTORS - nr);
			tell_model(x->incarnation, x->next, v, at, nr);
			assert_true(sim_add(x, REPAGENT_REC_WRITE, v, at, nr));
		}
		assert_int_equal(sim_send(x), 0);
	}
	assert_int_equal(sim_flush(x), 0);
}

static void live_writes(unsigned int nr)
{
	static uint8_t buf[8 * 512];
	static uint64_t number;
	struct hub_disk *d;
	unsigned int v;
	uint64_t at, n;

	while (nr--) {
		v = (unsigned int)random() % SIM_VOLUMES;
		n = 1 + (uint64_t)random() % 8;
		at = (uint64_t)random() % (SIM_SECTORS - n);
		sim_fill(buf, 0x777, ++number, at, n);
		tell_model(0x777, number, v, at, n);
		d = open_disk(NULL, v);
		assert_int_equal(hub_disk_write(d, NULL, at * 512, buf, n * 512, why), 0);
		assert_int_equal(nr ? 0 : hub_disk_flush(d, why), 0);
		hub_disk_close(d);
	}
}

/* The latest point. */
static void note(struct point *at)
{
	at->incarnation = vm0()->durable.incarnation;
	at->id = vm0()->durable.id;
	snprintf(at->name, sizeof(at->name), "%016" PRIx64 ":%" PRIu64, at->incarnation, vm0()->durable.seq);
	memcpy(at->m, now, sizeof(now));
}

static uint8_t bytes[SIM_SECTORS * 512];

static void differ(unsigned int v, const image *want, const char *what)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < SIM_SECTORS; i++) {
		memcpy(&word, bytes + i * 512, sizeof(word));
		if (word != (*want)[v][i])
			fail_msg("%s: disk%u differs at sector %zu", what, v, i);
	}
}

static void compare_view(const char *point, const image *want)
{
	unsigned int v;

	for (v = 0; v < SIM_VOLUMES; v++) {
		read_view(point, v, bytes);
		differ(v, want, point);
	}
}

/* Of a test, or live. */
static void compare_disk(const char *test, const image *want)
{
	struct hub_disk *d;
	unsigned int v;

	for (v = 0; v < SIM_VOLUMES; v++) {
		d = open_disk(test, v);
		if (hub_disk_read(d, 0, bytes, sizeof(bytes), why))
			fail_msg("%s: %s", test ? test : "live", why);
		hub_disk_close(d);
		differ(v, want, test ? test : "live");
	}
}

static void fail_over_and_commit(const struct point *p, unsigned int writes)
{
	failed_over(p->name);
	memcpy(now, p->m, sizeof(now));
	live_writes(writes);
	if (hub_commit(hub, "vm0", why))
		fail_msg("%s", why);
}

/* Another agent has the group. */
static void taken_by(struct simagent *x)
{
	x->block.generation = vm0()->generation;
	memcpy(x->block.group, vm0()->uuid, sizeof(x->block.group));
	assert_int_equal(sim_connect(x), 0);
	if (x->block.state != SESSION_ACCEPTING)
		fail_msg("%s", x->block.reason);
}

static void keep(uint64_t much)
{
	struct hub_retention r = { .bytes = much, .own = true };

	assert_int_equal(hub_set_retention(hub, "vm0", &r, why), 0);
}

static void fold_all(void)
{
	int i;

	for (i = 0; i < 50; i++)
		hub_tend(hub);
	assert_string_equal(vm0()->trouble, "");
}

/* It writes until nothing is left of what was before it. */
static void goes_on_and_folds(struct simagent *x)
{
	unsigned int round;

	taken_by(x);
	keep(KEEP);
	for (round = 0; round < 400 && vm0()->segment[0]->begin.incarnation != x->incarnation; round++) {
		agent_writes(x, 4);
		hub_tend(hub);
	}
	assert_true(round < 400);
	assert_string_equal(vm0()->trouble, "");
}

static bool note_range(void *data, uint64_t offset, uint64_t length)
{
	memset((uint8_t *)data + offset / 512, 1, length / 512);
	return true;
}

/*
 * A disk that is what the volumes were at a point, but for what its writer knows that it wrote there up to his end (NULL: nothing),
 * is what they are now where nothing is told. Return how many sectors are told, -1: it is not known.
 */
static int told(const struct point *p, const image *end)
{
	static uint8_t changed[SIM_SECTORS];
	char name[16], since[NAME + 1];
	unsigned int v, sectors = 0;
	size_t i;

	snprintf(since, sizeof(since), "%s%s", p->name, end ? "+" : "");
	for (v = 0; v < SIM_VOLUMES; v++) {
		snprintf(name, sizeof(name), "disk%u", v);
		memset(changed, 0, sizeof(changed));
		if (hub_changed(hub, "vm0", name, since, note_range, changed, why))
			return -1;
		for (i = 0; i < SIM_SECTORS; i++) {
			sectors += changed[i];
			if (p->m[v][i] != now[v][i] && !changed[i] && (!end || p->m[v][i] == (*end)[v][i]))
				fail_msg("since %s: sector %zu of %s differs, and is not told", since, i, name);
		}
	}
	return (int)sectors;
}

/* A with its points, and D from p. */
static struct point p, q, e, d;

static void two_ways(void)
{
	sim_start(&a);
	agent_writes(&a, 8);
	note(&p);
	agent_writes(&a, 20);
	note(&q);
	agent_writes(&a, 8);
	note(&e);
	fail_over_and_commit(&p, 30);
	note(&d);
	compare_view("latest", &now);
}

/* ---- what has changed ------------------------------------------------------ */

/* The side that wrote D goes on, and comes back behind a fail-over to what D had abandoned. */
static void test_back_over_abandoned(void **state)
{
	(void)state;
	two_ways();
	fail_over_and_commit(&q, 10);
	assert_in_range(told(&d, NULL), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	assert_in_range(told(&e, NULL), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	reopen(0);
	assert_in_range(told(&d, &d.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	/* The same when the journal has none of it. */
	goes_on_and_folds(&b);
	assert_int_equal(told(&d, NULL), -1);
	assert_in_range(told(&d, &d.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	assert_in_range(told(&e, &e.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	reopen(KEEP);
	assert_in_range(told(&d, &d.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	compare_view("latest", &now);
}

/* A later fail-over goes to before the point of an earlier one: who came to his end then has more that differs. */
static void test_back_before_earlier(void **state)
{
	static struct point between;

	(void)state;
	sim_start(&a);
	agent_writes(&a, 8);
	note(&p);
	agent_writes(&a, 10);
	note(&between);
	agent_writes(&a, 10);
	note(&q);
	agent_writes(&a, 2);
	note(&e);
	fail_over_and_commit(&q, 10);
	note(&d);
	fail_over_and_commit(&p, 10);
	assert_in_range(told(&between, NULL), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	reopen(0);
	goes_on_and_folds(&b);
	assert_in_range(told(&between, &e.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	assert_in_range(told(&e, &e.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
	assert_in_range(told(&d, &d.m), 1, SIM_VOLUMES * SIM_SECTORS - 1);
}

/* ---- folding ------------------------------------------------------------- */

/* What a rollback returns to is not folded, also where that went on from before the point. */
static void test_rolled_back(void **state)
{
	int i;

	(void)state;
	two_ways();
	taken_by(&b);
	agent_writes(&b, 10);
	note(&d);
	for (i = 0; i < 2; i++) {
		failed_over(q.name);
		keep(KEEP);
		fold_all();
		if (i)
			reopen(0);
		fold_all();
		memcpy(now, q.m, sizeof(now));
		live_writes(30);
		fold_all();
		compare_disk(NULL, &now);
		assert_int_equal(hub_rollback(hub, "vm0", why), 0);
		keep(0);
		compare_view("latest", &d.m);
		compare_view(e.name, &e.m);
		reopen(0);
		compare_view("latest", &d.m);
	}
	memcpy(now, d.m, sizeof(now));
	goes_on_and_folds(&b);
	compare_view("latest", &now);
}

/* The point of a test stays, in what was abandoned too: in the first segment, and behind it. */
static void test_test_of_abandoned(void **state)
{
	char id[HUB_TEST_ID];
	struct point *at;
	int i;

	(void)state;
	sim_start(&a);
	agent_writes(&a, 1);
	note(&p);
	agent_writes(&a, 1);
	note(&d);
	agent_writes(&a, 20);
	note(&q);
	assert_true(vm0()->segment[0]->nr_records > vm0()->durable.id / 8);
	fail_over_and_commit(&p, 30);
	taken_by(&b);
	for (i = 0; i < 2; i++) {
		at = i ? &d : &q;
		assert_int_equal(hub_test_start(hub, "vm0", at->name, 0, id, why), 0);
		keep(KEEP);
		fold_all();
		agent_writes(&b, 10);
		fold_all();
		compare_disk(id, &at->m);
		keep(0);
		reopen(0);
		compare_disk(id, &at->m);
		assert_int_equal(hub_test_stop(hub, id, NULL, NULL, why), 0);
		taken_by(&b);
	}
	goes_on_and_folds(&b);
	compare_view("latest", &now);
}

/* A view of what live wrote stays what it was when that was rolled back. */
static void test_view_of_rolled_back(void **state)
{
	struct hub_view *view;

	(void)state;
	sim_start(&a);
	agent_writes(&a, 20);
	/* There are bases. */
	keep(KEEP);
	fold_all();
	keep(0);
	agent_writes(&a, 1);
	note(&p);
	agent_writes(&a, 10);
	note(&e);
	failed_over(p.name);
	memcpy(now, p.m, sizeof(now));
	live_writes(30);
	note(&d);
	view = hub_view_open(hub, "vm0", "disk1", "latest", why);
	assert_non_null(view);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	memcpy(now, e.m, sizeof(now));
	sim_disconnect(&a);
	taken_by(&a);
	keep(KEEP);
	agent_writes(&a, 20);
	fold_all();
	assert_int_equal(hub_view_read(view, 0, bytes, sizeof(bytes), why), 0);
	hub_view_close(view);
	differ(1, &d.m, "the view");
	fold_all();
	assert_true(vm0()->segment[0]->first_id > p.id);
	compare_view("latest", &now);
}

/* Folding up to where the log went on from an earlier point is put off half-way: what is behind that can be seen all the while. */
static void test_half_folded(void **state)
{
	(void)state;
	sim_start(&a);
	agent_writes(&a, 1);
	note(&p);
	agent_writes(&a, 20);
	note(&e);
	fail_over_and_commit(&p, 30);
	taken_by(&b);
	agent_writes(&b, 10);
	note(&d);
	keep(KEEP);
	bad_read = (struct bad_read){ ENOMEM, UINT_MAX, 0 };
	hub_tend(hub);
	bad_read.err = 0;
	assert_true(vm0()->half);
	compare_view("latest", &now);
	compare_view(d.name, &now);
	assert_null(hub_view_open(hub, "vm0", "disk0", e.name, why));
	assert_null(hub_view_open(hub, "vm0", "disk0", p.name, why));
	failed_over("latest");
	live_writes(10);
	compare_view("latest", &now);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	compare_view("latest", &d.m);
	vm0()->fold_next = 0;
	fold_all();
	assert_false(vm0()->half);
	assert_true(vm0()->segment[0]->first_id > e.id);
	compare_view("latest", &d.m);
}

/* ---- the place where a branch begins --------------------------------------- */

/* What a view has of an abandoned end does not go on in the branch. */
static void test_advance_over_branch(void **state)
{
	struct hub_view *view;

	(void)state;
	sim_start(&a);
	agent_writes(&a, 8);
	note(&p);
	agent_writes(&a, 8);
	view = view_open(vm0(), "disk0", "latest", true, why);
	assert_non_null(view);
	assert_true(view_advance(view, "latest", why));
	failed_over(p.name);
	memcpy(now, p.m, sizeof(now));
	live_writes(5);
	assert_false(view_advance(view, "latest", why));
	hub_view_close(view);
	view = view_open(vm0(), "disk0", "latest", true, why);
	assert_non_null(view);
	live_writes(5);
	assert_true(view_advance(view, "latest", why));
	assert_int_equal(hub_view_read(view, 0, bytes, sizeof(bytes), why), 0);
	differ(0, &now, "the view");
	hub_view_close(view);
}

static unsigned int seen_empty, wrong;
static bool look_at_empty, fail_sync;

/* Is the latest point what it has to be? Nothing may fail here. */
static bool is_latest(const image *want)
{
	struct hub_view *view = hub_view_open(hub, "vm0", "disk0", "latest", why);
	bool same = view && !hub_view_read(view, 0, bytes, sizeof(bytes), why);
	size_t i;

	if (view)
		hub_view_close(view);
	for (i = 0; same && i < SIM_SECTORS; i++)
		same = !memcmp(bytes + i * 512, &(*want)[0][i], sizeof(uint64_t));
	return same;
}

/* Is just what live begins with being synced, with no lock held? */
int fdatasync(int fd)
{
	const struct segment *s;
	bool empty;

	if (look_at_empty && !pthread_mutex_trylock(&vm0()->lock)) {
		s = hubgroup_last(vm0());
		empty = s->branch && s->nr_records && vm0()->durable.id == s->first_id;
		pthread_mutex_unlock(&vm0()->lock);
		if (empty) {
			seen_empty++;
			wrong += !is_latest(&p.m);
			if (fail_sync) {
				errno = EIO;
				return -1;
			}
		}
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static int end_of_looking(void **state)
{
	look_at_empty = false;
	return fixture_end(state);
}

/* A branch in which nothing is durable yet: the latest point is that from which it goes on. */
static void test_empty_branch(void **state)
{
	struct hub_view *view;
	uint64_t incarnation, seq, time;
	char at[NAME];

	(void)state;
	sim_start(&a);
	agent_writes(&a, 8);
	note(&p);
	agent_writes(&a, 20);
	note(&e);
	look_at_empty = true;
	seen_empty = wrong = 0;
	failed_over(p.name);
	assert_true(seen_empty > 0);
	assert_int_equal(wrong, 0);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	compare_view("latest", &e.m);
	fail_sync = true;
	assert_int_equal(hub_failover(hub, "vm0", &(struct hub_order){ .point = p.name }, why), EIO);
	look_at_empty = fail_sync = false;
	assert_int_equal(wrong, 0);
	compare_view("latest", &p.m);
	compare_view(e.name, &e.m);
	view = hub_view_open(hub, "vm0", "disk0", "latest", why);
	assert_non_null(view);
	hub_view_position(view, &incarnation, &seq, &time);
	hub_view_close(view);
	snprintf(at, sizeof(at), "%016" PRIx64 ":%" PRIu64, incarnation, seq);
	assert_string_equal(at, p.name);
	memcpy(now, p.m, sizeof(now));
	assert_true(told(&e, NULL) > 0);
	reopen(0);
	compare_disk(NULL, &p.m);
	assert_int_equal(hub_rollback(hub, "vm0", why), 0);
	compare_view("latest", &e.m);
}

/* ---- any history ----------------------------------------------------------- */

#define POINTS	24u
#define WRITERS	64u
#define LOOKS	3u
#define STEPS	60u
#define FORKS	8u	/* that are kept */

/*
 * struct writer - an agent, or live
 * @end:	what the volumes were at its end, if a fail-over was that: @over
 * @forks:	so many fail-overs were noted since, @most of them at a time
 */
static struct writer {
	uint64_t incarnation;
	bool over;
	unsigned int forks, most;
	image end;
} writers[WRITERS];

static struct point points[POINTS], before;
static unsigned int nr_points, nr_writers;
static struct look {
	struct hub_view *view;
	unsigned int disk;
	image m;
} looks[LOOKS];
static struct { char id[HUB_TEST_ID]; image m; } test;
static struct hub_view *advancing;
static struct simagent *agent;
static bool connected;

static struct writer *writer(uint64_t incarnation)
{
	unsigned int i;

	for (i = 0; i < nr_writers; i++)
		if (writers[i].incarnation == incarnation)
			return &writers[i];
	assert_true(nr_writers < WRITERS);
	writers[nr_writers].incarnation = incarnation;
	return &writers[nr_writers++];
}

static void some_write(void)
{
	static uint64_t life;
	struct point *at;

	if (vm0()->failover.state == FAILOVER_LIVE || (vm0()->failover.state == FAILOVER_COMMITTED && random() % 3)) {
		live_writes(1 + (unsigned int)random() % 20);
	} else {
		if (vm0()->failover.state == FAILOVER_COMMITTED) {
			sim_disconnect(agent);
			free(agent->op);
			sim_init(agent, hub, 0x100 + ++life);
			connected = false;
		}
		if (!connected) {
			sim_disconnect(agent);
			taken_by(agent);
		}
		connected = true;
		agent_writes(agent, 1 + (unsigned int)random() % 6);
	}
	at = &points[nr_points < POINTS ? nr_points++ : (unsigned int)random() % POINTS];
	note(at);
	writer(at->incarnation);
}

static void some_failover(void)
{
	const struct point *to = random() % 4 ? &points[(unsigned int)random() % nr_points] : NULL;
	uint64_t last = vm0()->now.incarnation;
	struct writer *w;
	unsigned int i;

	memcpy(before.m, now, sizeof(now));
	before.incarnation = vm0()->failover.state;
	if (hub_failover(hub, "vm0", &(struct hub_order){ .point = to ? to->name : "latest" }, why)) {
		/* It was folded. */
		if (!to || vm0()->segment[0]->start == SESSION_SIZE)
			fail_msg("%s: %s", to ? to->name : "latest", why);
		return;
	}
	connected = false;
	w = writer(last);
	w->over = true;
	w->forks = w->most = 0;
	memcpy(w->end, now, sizeof(now));
	for (i = 0; i < nr_writers; i++) {
		writers[i].forks++;
		if (writers[i].most < writers[i].forks)
			writers[i].most = writers[i].forks;
	}
	snprintf(before.name, sizeof(before.name), "%016" PRIx64, last);
	if (to)
		memcpy(now, to->m, sizeof(now));
}

static void roll_back(void)
{
	uint64_t live = vm0()->failover.live;
	unsigned int i;
	int err = hub_rollback(hub, "vm0", why);

	if (err == EBUSY && *test.id) {
		assert_int_equal(hub_test_stop(hub, test.id, NULL, NULL, why), 0);
		*test.id = '\0';
		err = hub_rollback(hub, "vm0", why);
	}
	if (err)
		fail_msg("%s", why);
	memcpy(now, before.m, sizeof(now));
	for (i = 0; i < nr_points;) {
		if (points[i].incarnation == live)
			points[i] = points[--nr_points];
		else
			i++;
	}
	for (i = 0; i < nr_writers; i++)
		writers[i].forks--;
	writer(strtoull(before.name, NULL, 16))->over = false;
	/* Who had the group before an earlier fail-over does not get it back. */
	if (before.incarnation == FAILOVER_COMMITTED) {
		sim_disconnect(agent);
		free(agent->op);
		sim_init(agent, hub, 0x1000 + vm0()->generation);
	}
}

static void close_looks(void)
{
	unsigned int i;

	for (i = 0; i < LOOKS; i++) {
		if (!looks[i].view)
			continue;
		if (hub_view_read(looks[i].view, 0, bytes, sizeof(bytes), why))
			fail_msg("%s", why);
		differ(looks[i].disk, &looks[i].m, "a view that was open");
		hub_view_close(looks[i].view);
		looks[i].view = NULL;
	}
}

static void start_anew(void)
{
	close_looks();
	if (advancing)
		hub_view_close(advancing);
	advancing = NULL;
	connected = false;
	reopen(0);
	if (*test.id)
		compare_disk(test.id, &test.m);
}

static void look_at(const struct point *at)
{
	struct look *l = &looks[(unsigned int)random() % LOOKS];
	const struct writer *w = writer(at->incarnation);
	char volume[16];
	struct hub_view *view;

	told(at, NULL);
	if (w->over && told(at, &w->end) < 0 && w->most <= FORKS)
		fail_msg("since %s: %s", at->name, why);
	view = hub_view_open(hub, "vm0", "disk0", at->name, why);
	if (!view) {
		/* It was folded. */
		if (vm0()->segment[0]->start == SESSION_SIZE)
			fail_msg("%s: %s", at->name, why);
		return;
	}
	hub_view_close(view);
	compare_view(at->name, &at->m);
	if (!*test.id && !hub_test_start(hub, "vm0", at->name, 0, test.id, why))
		memcpy(test.m, at->m, sizeof(now));
	if (l->view)
		return;
	l->disk = (unsigned int)random() % SIM_VOLUMES;
	snprintf(volume, sizeof(volume), "disk%u", l->disk);
	l->view = hub_view_open(hub, "vm0", volume, at->name, why);
	assert_non_null(l->view);
	memcpy(l->m, at->m, sizeof(now));
}

static void check(void)
{
	assert_string_equal(vm0()->trouble, "");
	compare_view("latest", &now);
	if (advancing && !view_advance(advancing, "latest", why)) {
		hub_view_close(advancing);
		advancing = NULL;
	}
	if (!advancing)
		advancing = view_open(vm0(), "disk1", "latest", true, why);
	assert_non_null(advancing);
	assert_int_equal(hub_view_read(advancing, 0, bytes, sizeof(bytes), why), 0);
	differ(1, &now, "a view that goes on");
	if (*test.id && !(random() % 4))
		compare_disk(test.id, &test.m);
}

static void one_history(unsigned int seed)
{
	unsigned int i;

	memset(now, 0, sizeof(now));
	memset(writers, 0, sizeof(writers));
	nr_points = nr_writers = 0;
	*test.id = '\0';
	fixture_begin(seed, SEGMENT, 0xa, 0xb);
	agent = &a;
	sim_start(agent);
	connected = true;
	some_write();
	for (i = 0; i < STEPS; i++) {
		switch (random() % 12) {
		default:
			some_write();
			break;
		case 0: case 1:
			if (vm0()->failover.state != FAILOVER_LIVE)
				some_failover();
			break;
		case 2:
			if (vm0()->failover.state == FAILOVER_LIVE)
				roll_back();
			break;
		case 3:
			if (vm0()->failover.state == FAILOVER_LIVE)
				assert_int_equal(hub_commit(hub, "vm0", why), 0);
			break;
		case 4:
			keep(random() % 4 ? (1 + (uint64_t)random() % 4) * SEGMENT : 0);
			hub_tend(hub);
			hub_tend(hub);
			break;
		case 5:
			start_anew();
			break;
		case 6:
			close_looks();
			if (*test.id && random() % 2) {
				assert_int_equal(hub_test_stop(hub, test.id, NULL, NULL, why), 0);
				*test.id = '\0';
			}
			break;
		case 7: case 8:
			look_at(&points[(unsigned int)random() % nr_points]);
			break;
		}
		check();
	}
	start_anew();
	check();
	hub_view_close(advancing);
	advancing = NULL;
	fixture_end(NULL);
}

static void test_any_history(void **state)
{
	unsigned int seed = (unsigned int)sim_many("HUB_SEED", 1), rounds = (unsigned int)sim_many("HUB_ROUNDS", 6);

	(void)state;
	for (; rounds--; seed++) {
		print_message("# seed %u\n", seed);
		one_history(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_back_over_abandoned, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_back_before_earlier, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_rolled_back, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_test_of_abandoned, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_view_of_rolled_back, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_half_folded, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_advance_over_branch, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_empty_branch, setup, end_of_looking),
		cmocka_unit_test(test_any_history),
	};

	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
