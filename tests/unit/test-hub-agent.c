// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The agent and the hub, both as they are, on a disk of the hub's that becomes full, or whose power goes. What was
 * acknowledged is never lost, the agent goes on by itself, and in the end the replica is the disk.
 *
 * HUB_CUTS=N: so many power cuts. SEED=N: as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "cutdir.h"
#include "simbench.h"

#define OUTSTANDING	200u	/* records: a GAP must have a place in the ring */

static char disk[128], log_path[128], socket_path[128], rephub[512], rephubctl[512], shim[512];

static void set_size(const char *size, unsigned long flags)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%s", size);
	assert_int_equal(mount("none", disk, "tmpfs", flags, options), 0);
}

static void begin(struct bench *b, const char *size)
{
	char path[160];
	int i;

	bench_path(disk, sizeof(disk), "disk");
	bench_path(log_path, sizeof(log_path), "cutlog");
	bench_path(socket_path, sizeof(socket_path), "hub");
	assert_int_equal(mkdir(disk, 0700), 0);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	set_size(size, 0);
	snprintf(path, sizeof(path), "%s/hub", disk);
	assert_int_equal(mkdir(path, 0700), 0);
	bench_begin(b, "rephub+unix:///?socket=%s/hub");
	b->cfg.state_dir = bench_dir;
	unlink(bench_path(path, sizeof(path), "sim.hub"));	/* whom it knew */
	for (i = 0; i < 2; i++)
		bench_add_disk(b, i, i ? "v1" : "v0");
}

static int teardown(void **state)
{
	(void)state;
	return umount2(disk, MNT_DETACH) || rmdir(disk);
}

static void start_hub(struct bench *b, const char *reserve, bool cut)
{
	char dir[160], preload[600], watch[160], note[160];
	/* A sanitizer wants to come first, and need not. */
	char *argv[] = { "env", cut ? preload : "x=", watch, note, "ASAN_OPTIONS=verify_asan_link_order=0", rephub, "--dir",
			 dir, "--listen", socket_path, "--segment", "4M", "--keep", "4M", "--reserve",
			 (char *)(uintptr_t)reserve, NULL };

	snprintf(dir, sizeof(dir), "%s/hub", disk);
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", shim);
	snprintf(watch, sizeof(watch), CUT_DIR_ENV "=%s", disk);
	snprintf(note, sizeof(note), CUT_LOG_ENV "=%s", log_path);
	unlink(socket_path);
	b->server = bench_run(argv);
	bench_await(socket_path);
}

/* All volumes are resynchronised, with what the oracle has. */
static void resync(struct bench *b, bool begin_too)
{
	uint64_t at, len = 128 * KIB;
	int i;

	for (i = 0; i < 2 && begin_too; i++)
		simring_put(b->sim, REPAGENT_REC_RESYNC_BEGIN, b->disk[i].id, 0, VOLUME_SIZE, NULL);
	for (i = 0; i < 2; i++) {
		for (at = 0; at < VOLUME_SIZE; at += len)
			simring_put(b->sim, REPAGENT_REC_RESYNC, b->disk[i].id, at, len, b->disk[i].oracle + at);
		simring_put(b->sim, REPAGENT_REC_RESYNC_END, b->disk[i].id, 0, 0, NULL);
	}
}

static void compare(struct bench *b)
{
	bench_view_is(b, 0);
	bench_view_is(b, 1);
}

/* Is that in what a command of rephubctl prints? */
static bool says(const char *command, const char *words)
{
	char line[1024];
	bool found = false;
	FILE *f;

	snprintf(line, sizeof(line), "%s --dir %s/hub %s", rephubctl, disk, command);
	f = popen(line, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, words) != NULL;
	pclose(f);
	return found;
}

static bool is_full(struct bench *b)
{
	struct repagent_hub hub = simring_hub(b->sim);

	return !hub.connected && hub.reason == REPAGENT_REASON_HUB_FULL;
}

/* The hub is full: the kernel is told, the hole and its reason are at the hub, and all goes on when there is room. */
static void test_hub_full(void **state)
{
	uint64_t acked, put = 0;
	unsigned int i;
	struct bench b;

	(void)state;
	begin(&b, "56m");
	simring_track(b.sim);
	start_hub(&b, "16M", false);
	bench_start(&b);
	resync(&b, true);
	bench_drained(&b);
	assert_false(says("retention sim --bytes 0", "no group"));
	while (!is_full(&b)) {
		if (simring_head(b.sim) - simring_acked(b.sim) < OUTSTANDING)
			bench_put(&b, 1), put++;
		else
			usleep(500);
		assert_true(put < 100000);
	}
	acked = simring_acked(b.sim);
	assert_true(says("space", "full"));
	assert_true(says("events sim", "nothing is taken until there is room"));
	/* It asks again, five times a second, and that changes nothing. */
	for (i = 0; i < 50; i++) {
		assert_true(is_full(&b) && simring_acked(b.sim) == acked);
		usleep(10000);
	}
	set_size("200m", MS_REMOUNT);
	assert_true(simring_wait_hub(b.sim, 1, REPAGENT_REASON_NONE, 10));
	resync(&b, false);
	bench_put(&b, 200);
	bench_drained(&b);
	assert_int_equal(simring_marks(b.sim), 0);
	assert_true(says("points sim", "hub full"));
	compare(&b);
	bench_stop(&b);
	bench_finish(&b);
}

/* Damage that a cut did is none of what was acknowledged, so there is none. */
static void no_damage(void)
{
	assert_false(says("events --most 100", "damaged"));
	assert_false(says("events --most 100", "fold-failed"));
	assert_false(says("events --most 100", "not-served"));
}

/* Writes for as long as it may. */
static struct writer {
	struct bench *b;
	pthread_mutex_t lock;	/* is free when it puts nothing */
	atomic_bool end;
} writer;

static void *write_on(void *arg)
{
	while (!writer.end) {
		pthread_mutex_lock(&writer.lock);
		bench_put(arg, 8);
		pthread_mutex_unlock(&writer.lock);
		usleep(500);
	}
	return NULL;
}

/* All is there, while nothing is written. */
static void replica_is_disk(struct bench *b)
{
	pthread_mutex_lock(&writer.lock);
	bench_drained(b);
	compare(b);
	pthread_mutex_unlock(&writer.lock);
	no_damage();
}

/*
 * I10: the hub's power goes, at any moment, after it was killed once or not: of what was not synced the disk has any part.
 */
static void test_power_cuts(void **state)
{
	unsigned int cuts = getenv("HUB_CUTS") ? (unsigned int)atoi(getenv("HUB_CUTS")) : 6, i, k, kills = 0, under_way = 0;
	unsigned int seed, longest = cuts > 6 ? 300000 : 50000;
	pthread_t thread;
	struct cutdir *c;
	struct bench b;

	(void)state;
	alarm(110 + cuts * 10);
	begin(&b, "512m");
	seed = b.seed;
	start_hub(&b, "16M", false);
	bench_start(&b);
	resync(&b, true);
	bench_drained(&b);
	bench_end(&b.server, SIGTERM);
	writer.end = false;
	pthread_mutex_init(&writer.lock, NULL);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &b), 0);
	for (i = 0; i < cuts; i++) {
		c = cutdir_begin(disk);
		unlink(log_path);
		for (k = (unsigned int)rand_r(&seed) % 2; k < 2; k++) {
			start_hub(&b, "16M", true);
			if (!simring_wait_acked(b.sim, simring_acked(b.sim) + 1, 30))
				fail_msg("cut %u: the agent does not go on", i);
			if (simring_marks(b.sim))
				fail_msg("cut %u: the hub lacks what it had acknowledged", i);
			if (k && i)
				replica_is_disk(&b);
			usleep((unsigned int)rand_r(&seed) % longest);
			bench_end(&b.server, SIGUSR2);
			under_way += simring_head(b.sim) - 1 > simring_acked(b.sim);
			kills++;
		}
		cutdir_end(c, log_path, (unsigned int)rand_r(&seed));
	}
	start_hub(&b, "16M", false);
	replica_is_disk(&b);
	assert_int_equal(simring_marks(b.sim), 0);
	writer.end = true;
	pthread_join(thread, NULL);
	print_message("# %u kills, after %u of them the power cut; in %u something was under way\n", kills, cuts, under_way);
	assert_true(under_way > cuts / 2);
	bench_stop(&b);
	bench_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_hub_full, teardown),
		cmocka_unit_test_teardown(test_power_cuts, teardown),
	};
	int failed;

	if (!bench_beside(shim, sizeof(shim), "../cutshim.so") || !bench_beside(rephub, sizeof(rephub), "../../rephub") ||
	    !bench_beside(rephubctl, sizeof(rephubctl), "../../rephubctl")) {
		printf("1..0 # SKIP rephub, rephubctl or cutshim.so is not built\n");
		return 1;
	}
	if (!bench_open("hubagent"))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return bench_close() ? failed : 1;
}
