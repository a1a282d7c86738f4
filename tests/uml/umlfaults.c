// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * umlfaults - fault runs: I8 and I9, thousands of times.
 *
 * A run has a group of two volumes with maps, on disks in memory (disk.h, serve.h), an
 * agent (agent.h) and a hub (hub.h), and a few lives. In each life the volumes are activated
 * and written, while what can fail does: origin and meta devices, flushes, memory, the agent,
 * the hub. It ends with a power cut or a clean stop. Before the next one
 *
 *   * what differs between an origin and its replica has to be in what the map has,
 *     unless the hub itself knows that it lacks more,
 *
 * then the kernel has to have just that as dirty, and in the last life
 *
 *   * no more than that is read again, and the replicas are the disks then.
 *
 * Everything random comes from the run's seed. Where the clock counts what happens and
 * not what time it is (tests/uml/run --virtual-time), the runs of a boot are the same each
 * time; but a seed's is not quite the same behind others, for the kernel remembers something.
 *
 * Prints for each run a digest of what its disks were asked, what went wrong, and "name
 * value" lines. Exit status 1 when a run went wrong: it is the last one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "leaks.h"
#include "scene.h"
#include "trouble.h"
#include "volumes.h"
#include "writers.h"

#define LIVES_MAX	4u
#define HANG_S		2000
#define PARAMETER	"/sys/module/dm_repagent_mod/parameters/map_clear_ms"

static const char usage[] =
"usage: umlfaults [OPTION]...\n"
"\n"
"  --seed N        of the first run; default: of the clock\n"
"  --runs N        so many, the seeds in a row; default: 1\n"
"  --module FILE   load it first\n"
"  --text-size N   of the module's code, bytes: allocations that it makes may fail ...\n"
"  --not-in FROM:TO\n"
"                  ... but for those that are made in here\n"
"  --leaks         ask kmemleak in the end whether the module lost memory\n"
"  --verbose       a line for each volume in each life\n";

static struct {
	uint64_t seed, runs, text_size;
	const char *module, *not_in;
	bool leaks;
} opt = { .runs = 1 };

static bool flush_failed[VOLUMES];	/* perhaps, since the last cut: nothing is cleared then */
static _Atomic uint64_t progress;	/* for the watchdog */

enum end { END_CUT, END_CUT_IN_BEGIN, END_CUT_IN_LOAD, END_CUT_IN_STOP, END_STOP, NR_ENDS };

static void cut_in(void)
{
	pthread_mutex_lock(&world);
	served[VOLUMES + rng_below(&rng, VOLUMES)].cut_after = 1 + rng_below(&rng, ONE_OF(2, 8, 30));
	pthread_mutex_unlock(&world);
}

static void load(void)
{
	unsigned int steps = 2 + (unsigned int)rng_below(&rng, 12);

	start_writers();
	while (steps-- && !serve_is_cut() && !bad) {
		nap_us(rng_below(&rng, ONE_OF(2000, 20000, 60000)));
		if (!serve_is_cut())
			trouble_step();
	}
}

/* The power is back. To the module it is another boot if the clock says so. */
static void boot(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 3600;
	if (clock_settime(CLOCK_REALTIME, &t))
		die("the clock cannot be set: %s", strerror(errno));
	memset(flush_failed, 0, sizeof(flush_failed));
	serve_power();
}

/* From what the disks have to what they have at its end. */
static void live(enum end end, const struct features *features)
{
	bool quiet = chance(30);

	atomic_store(&may_fail, false);
	if (end == END_CUT_IN_BEGIN)
		cut_in();
	activate(features);
	if (bad)
		return;
	if (chance(90))
		agent_start(&agent);
	if (quiet)
		wait_synced();
	if (end == END_CUT_IN_LOAD)
		cut_in();
	if (!serve_is_cut())
		load();
	if (end == END_CUT) {
		pthread_mutex_lock(&world);
		serve_cut();
		if (chance(30))
			hub_crash(&hub, &rng);
		pthread_mutex_unlock(&world);
	}
	end_writers();
	trouble_end();
	if (bad)
		return;
	if (!serve_is_cut() && chance(40)) {
		agent_start(&agent);
		expect_sync();
	}
	if (end == END_CUT_IN_STOP)
		cut_in();
	agent_kill(&agent);
	deactivate();
	for (unsigned int i = 0; i < ARRAY_SIZE(served); i++) {
		*(i < VOLUMES ? &sum.failed_writes : &sum.failed_meta_writes) += served[i].failed_writes;
		sum.failed_flushes += served[i].failed_flushes;
		/* A write with FUA that fails may have been one. */
		if (i < VOLUMES && (served[i].failed_flushes || served[i].failed_writes))
			flush_failed[i] = true;
		served[i].failed_writes = served[i].failed_flushes = served[i].cut_after = 0;
	}
	if (serve_is_cut()) {
		sum.cuts++;
		boot();
	} else {
		sum.stops++;
	}
}

/* The last life: nothing fails. */
static void live_on(void)
{
	uint64_t most = 0, read;

	atomic_store(&may_fail, false);
	activate(&plain);
	for (unsigned int v = 0; v < VOLUMES; v++)
		most += map_lacks(v) * SECTOR;
	atomic_store(&agent.resync_bytes, 0);
	if (bad)
		return;
	agent_start(&agent);
	expect_sync();
	read = atomic_load(&agent.resync_bytes);
	for (unsigned int v = 0; v < VOLUMES; v++)
		if (agent.asked[v])
			most += (SECTORS - map_lacks(v)) * SECTOR;
	if (read > most)
		wrong("%" PRIu64 " bytes were read again, and the maps had %" PRIu64, read, most);
	agent_kill(&agent);
	deactivate();
	for (unsigned int v = 0; v < VOLUMES && !bad; v++) {
		look_at_map(v);
		if (map_lacks(v) && !flush_failed[v])
			wrong("v%u: after a clean stop with nothing left to do its map has %" PRIu64 " sectors",
			      v, map_lacks(v));
	}
}

/* What the clock says begins alike in each run. */
static void wait_for_second(void)
{
	struct timespec t = { .tv_sec = (time_t)(now_ns() / 1000000000 + 1) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void run(void)
{
	unsigned int lives;
	char text[64];

	/* For who finds a splat in the kernel's log. */
	snprintf(text, sizeof(text), "umlfaults: seed %" PRIu64 "\n", seed);
	put("/dev/kmsg", text);
	rng_seed(&rng, seed);
	bad = false;
	wait_for_second();
	serve_begin(rng_next(&rng));
	rng_seed(&agent.rng, rng_next(&rng));
	hub_reset(&hub);
	memset(flush_failed, 0, sizeof(flush_failed));
	volumes_begin();
	agent.kept.incarnation = 0;
	atomic_store(&agent.errors, 0);
	agent.flush_every = (unsigned int)ONE_OF(1, 4, 20, 100);
	put_number(PARAMETER, ONE_OF(10, 20, 50, 200));
	for (unsigned int v = 0; v < VOLUMES; v++) {
		served[v].delay_ns = ONE_OF(0, 100000, 1000000, 10000000);
		served[VOLUMES + v].delay_ns = ONE_OF(0, 100000, 2000000, 20000000);
	}
	trouble_begin();
	lives = 1 + (unsigned int)rng_below(&rng, LIVES_MAX - 1);
	for (life = 0; life < lives && !bad; life++)
		live((enum end)rng_below(&rng, NR_ENDS), chance(70) ? &plain : chance(50) ? &no_bounce : &no_discard);
	if (!bad)
		live_on();
	if (atomic_load(&agent.errors))
		wrong("the stream is not good");
	sum.hub_crashes += hub.crashes;
	sum.set_backs += hub.set_backs;
	sum.lives += life;
	sum.runs++;
	printf("seed %" PRIu64 ": digest %016" PRIx64 "\n", seed, serve_digest());
}

static void *watch(void *arg)
{
	uint64_t was = 0;

	(void)arg;
	for (;; was = atomic_load(&progress)) {
		nap_us(HANG_S * 1000000ull);
		if (was != atomic_load(&progress))
			continue;
		printf("seed %" PRIu64 ", life %u: it hangs\n", seed, life);
		fflush(stdout);
		put("/proc/sysrq-trigger", "w");
		_exit(EXIT_BAD);
	}
	return NULL;
}

static void load_module(void)
{
	int fd;

	if (!opt.module)
		return;
	fd = open(opt.module, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		die("%s: %s", opt.module, strerror(errno));
	close(fd);
}

static void prepare(void)
{
	pthread_t thread;

	load_module();
	dmctl_open(&dm);
	hub_init(&hub, SECTORS);
	for (unsigned int v = 0; v < VOLUMES; v++) {
		disk_init(&origin[v], SECTORS);
		disk_init(&meta[v], META_SECTORS);
		served[v].disk = &origin[v];
		served[VOLUMES + v].disk = &meta[v];
	}
	serve(served, ARRAY_SIZE(served));
	if (pthread_create(&thread, NULL, watch, NULL))
		die("no thread");
	trouble_prepare(opt.text_size, opt.not_in);
	if (opt.leaks)
		leaks_prepare(opt.text_size);
}

int main(int argc, char **argv)
{
	uint64_t n;

	opt.seed = realtime_ns() & 0xffffffff;
	parse_options(argc, argv, (const struct tool_option[]){
		{ "seed", OPT_NUMBER, { &opt.seed } },
		{ "runs", OPT_NUMBER, { &opt.runs } },
		{ "module", OPT_TEXT, { &opt.module } },
		{ "text-size", OPT_NUMBER, { &opt.text_size } },
		{ "not-in", OPT_TEXT, { &opt.not_in } },
		{ "leaks", OPT_FLAG, { &opt.leaks } },
		{ "verbose", OPT_FLAG, { &verbose } },
		{ }
	}, usage, 0);
	setlinebuf(stdout);
	/* Else a sleep would end with that of another. The threads inherit it. */
	prctl(PR_SET_TIMERSLACK, 1);
	prepare();
	for (n = 0, seed = opt.seed; n < opt.runs && !bad; n++, seed++) {
		atomic_fetch_add(&progress, 1);
		run();
	}
	if (!bad && leaks_find())
		wrong("the module lost memory");
#define TELL(name) printf(#name " %" PRIu64 "\n", sum.name)
	TELL(runs);
	TELL(lives);
	TELL(cuts);
	TELL(stops);
	TELL(partial);
	TELL(differed);
	TELL(owed_told);
	TELL(owed_untold);
	TELL(agents_killed);
	TELL(hub_crashes);
	TELL(set_backs);
	TELL(reloads);
	TELL(failed_writes);
	TELL(failed_meta_writes);
	TELL(failed_flushes);
	TELL(writer_errors);
	TELL(writes);
	return bad ? EXIT_BAD : EXIT_GOOD;
}
