// SPDX-License-Identifier: GPL-2.0-or-later
#undef _FORTIFY_SOURCE	/* which forbids a longjmp() to another stack */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "sim.h"

bool trace_on;
unsigned long step;

void say(const char *fmt, ...)
{
	va_list ap;

	if (!trace_on)
		return;
	printf("# %6lu ", step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* ---- chance --------------------------------------------------------------- */

static uint64_t rnd_state;

static uint64_t rnd_next(void)
{
	/* splitmix64 */
	uint64_t z = rnd_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void rnd_seed(uint64_t seed)
{
	rnd_state = seed;
}

uint32_t rnd(uint32_t below)
{
	return (uint32_t)((rnd_next() >> 32) * below >> 32);
}

bool chance(unsigned int in, unsigned int of)
{
	return rnd(of) < in;
}

/* ---- tasks ------------------------------------------------------------------ */

#define STACK	(128 << 10)

/* A write that a disk has not completed. */
struct inflight {
	struct disk		*disk;		/* NULL: none */
	unsigned int		at, nr;
	const struct sector	*from;
};

/* setjmp() asks the kernel for nothing, as swapcontext() does. */
static struct task {
	ucontext_t	context;	/* to begin with */
	jmp_buf		go_on;
	bool		begun;
	char		*stack;
	void		(*run)(int arg);
	int		arg;
	unsigned int	weight;		/* how often it has its turn */
	struct inflight	write;
} tasks[SIM_TASKS];
static int nr_tasks;
static unsigned int weights;
static struct task *current;
static jmp_buf scheduler;

static void task_main(int i)
{
	tasks[i].run(tasks[i].arg);
	abort();	/* none of them ends */
}

void task_restart(int i)
{
	struct task *t = &tasks[i];

	t->write.disk = NULL;
	t->begun = false;
	getcontext(&t->context);
	t->context.uc_stack.ss_sp = t->stack;
	t->context.uc_stack.ss_size = STACK;
	t->context.uc_link = NULL;
	makecontext(&t->context, (void (*)(void))task_main, 1, i);
}

int task_add(void (*run)(int arg), int arg)
{
	struct task *t = &tasks[nr_tasks];

	if (nr_tasks == SIM_TASKS)
		abort();
	if (!t->stack)
		t->stack = malloc(STACK);
	if (!t->stack)
		abort();
	t->run = run;
	t->arg = arg;
	/* Some are slow in one run, and quick in another. */
	t->weight = 1u << rnd(5);
	weights += t->weight;
	task_restart(nr_tasks);
	return nr_tasks++;
}

void tasks_reset(void)
{
	nr_tasks = 0;
	weights = 0;
}

void task_step(void)
{
	uint32_t n = rnd(weights);
	struct task *t = tasks;

	for (; n >= t->weight; t++)
		n -= t->weight;
	current = t;
	step++;
	if (_setjmp(scheduler))
		return;
	if (current->begun)
		_longjmp(current->go_on, 1);
	current->begun = true;
	setcontext(&current->context);
}

void give_way(void)
{
	if (!_setjmp(current->go_on))
		_longjmp(scheduler, 1);
}

/* ---- disks ------------------------------------------------------------------ */

static uint32_t versions;

void disk_init(struct disk *d, const char *name, int number, unsigned int nr)
{
	if (nr > DISK_SECTORS)
		abort();
	memset(d, 0, sizeof(*d));
	d->name = name;
	d->number = number;
	d->nr = nr;
}

static void make_safe(struct cell *c, const struct sector *is, uint32_t version)
{
	if (version <= c->safe_version || version == c->doomed)
		return;
	c->safe = *is;
	c->safe_version = version;
}

/* A sector is written at once, into the cache. */
void disk_put(struct disk *d, unsigned int at, const struct sector *from)
{
	d->cell[at].now = *from;
	d->cell[at].now_version = ++versions;
}

/*
 * Write sectors. Another task may run until they are written; if the power
 * fails meanwhile any of them are. Nobody else writes there.
 *
 * Returns 0; or -1 if it failed: any of them are written then.
 */
int disk_write(struct disk *d, unsigned int at, unsigned int nr, const struct sector *from, bool fua)
{
	struct inflight *w = &current->write;
	unsigned int i, epoch = d->epoch;
	int err = 0;

	*w = (struct inflight){ d, at, nr, from };
	give_way();
	w->disk = NULL;
	if (d->epoch != epoch)
		return -1;
	for (i = 0; i < nr && !err; i++)
		err = d->fails && d->fails(d, at + i) ? -1 : 0;
	for (i = 0; i < nr; i++) {
		if (err && (chance(1, 2) || d->fails(d, at + i)))
			continue;
		disk_put(d, at + i, &from[i]);
		if (fua)
			make_safe(&d->cell[at + i], &d->cell[at + i].now, d->cell[at + i].now_version);
	}
	say("%s%d: write %u+%u%s%s", d->name, d->number, at, nr, fua ? " fua" : "", err ? " FAILED" : "");
	return err;
}

/*
 * What the disk has when this begins is safe when it returns 0. If it fails the
 * disk forgets that some of its cache was not safe: no later flush covers that.
 */
int disk_flush(struct disk *d)
{
	unsigned int i, epoch = d->epoch;
	uint32_t version[DISK_SECTORS];
	struct sector was[DISK_SECTORS];

	for (i = 0; i < d->nr; i++) {
		was[i] = d->cell[i].now;
		version[i] = d->cell[i].now_version;
	}
	say("%s%d: flush begins", d->name, d->number);
	give_way();
	if (d->epoch != epoch)
		return -1;
	if (d->flush_fails) {
		d->flush_fails = false;
		for (i = 0; i < d->nr; i++)
			if (version[i] > d->cell[i].safe_version && chance(1, 2))
				d->cell[i].doomed = version[i];
		say("%s%d: flush FAILED", d->name, d->number);
		return -1;
	}
	for (i = 0; i < d->nr; i++)
		make_safe(&d->cell[i], &was[i], version[i]);
	say("%s%d: flush done", d->name, d->number);
	return 0;
}

/* A disk may write out of its cache whatever it likes. */
void disk_destage(struct disk *d, unsigned int at)
{
	make_safe(&d->cell[at], &d->cell[at].now, d->cell[at].now_version);
}

/* Any of what is not safe is lost; any of what was on its way may have come. */
void disk_lose_power(struct disk *d)
{
	static const unsigned int odds[] = { 0, 1, 2, 3, 4 };
	unsigned int i, keep = odds[rnd(5)];
	struct task *t;

	for (i = 0; i < d->nr; i++)
		if (chance(keep, 4))
			disk_destage(d, i);
	for (t = tasks; t < tasks + nr_tasks; t++) {
		if (t->write.disk != d)
			continue;
		for (i = 0; i < t->write.nr; i++)
			if (chance(keep, 4))
				make_safe(&d->cell[t->write.at + i], &t->write.from[i], ++versions);
		t->write.disk = NULL;
	}
	for (i = 0; i < d->nr; i++) {
		struct cell *c = &d->cell[i];

		c->now = c->safe;
		c->now_version = c->safe_version;
		c->doomed = 0;
	}
	d->epoch++;
}
