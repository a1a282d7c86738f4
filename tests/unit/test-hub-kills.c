// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rephub, as it is, is killed while it commits or rolls back, and its power may go with it: what live wrote is there, or
 * nothing of it is, on all volumes alike, and who may go on is told so accordingly.
 *
 * It is ended before each thing that it does to its files, one after the other, and then at random moments under load.
 *
 * HUB_KILLS=N: so many of the latter, of each kind. SEED=N: as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
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
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "cutdir.h"
#include "rephub/overlay.h"
#include "simagent.h"
#include "simbench.h"

#define SEGMENT		(4u << 20)	/* the least that rephub takes */
#define BYTES		(SIM_SECTORS * 512)
#define WRITES		4000u		/* of a live VM's, at most */
#define BY_ITSELF	24u		/* ... where nothing is written during the kill */
#define LIVE		0x999u		/* whose they are */

typedef uint8_t image[SIM_VOLUMES][BYTES];

static char disk[128], dir[160], stage[160], log_path[128], socket_path[128], fuse_path[128];
static char rephub[512], rephubctl[512], shim[512], why[HUB_REASON_MAX];
static _Atomic uint64_t *fuse;
static unsigned int seed;
static struct hub *hub;
static struct simagent a, b;
static pid_t server;

/*
 * What the stage is.
 * @point:	of the fail-over
 * @acked, @next, @ops: of the source
 * @generation:	that of the fail-over
 * @live:	what live has
 * @before:	what the source had
 */
static uint64_t point, acked, next, generation;
static size_t ops;
static image live, before, want;

static unsigned int chance(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static struct group *vm0(void)
{
	return hub_find(hub, "vm0");
}

static void run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run_command(const char *format, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command))
		fail_msg("%s", command);
}

static int setup(void **state)
{
	int fd;

	(void)state;
	bench_path(disk, sizeof(disk), "disk");
	bench_path(stage, sizeof(stage), "stage");
	bench_path(log_path, sizeof(log_path), "cutlog");
	bench_path(socket_path, sizeof(socket_path), "hub");
	bench_path(fuse_path, sizeof(fuse_path), "fuse");
	snprintf(dir, sizeof(dir), "%s/hub", disk);
	assert_int_equal(mkdir(disk, 0700), 0);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("none", disk, "tmpfs", 0, "size=512m"), 0);
	fd = open(fuse_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && !ftruncate(fd, sizeof(*fuse)));
	fuse = mmap(NULL, sizeof(*fuse), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_true(fuse != MAP_FAILED);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bench_end(&server, SIGKILL);
	sim_disconnect(&a);
	sim_disconnect(&b);
	if (hub)
		hub_close(hub);
	hub = NULL;
	free(a.op);
	free(b.op);
	munmap(fuse, sizeof(*fuse));
	return umount2(disk, MNT_DETACH) || rmdir(disk);
}

/* ---- the stage ------------------------------------------------------------- */

static void open_hub(void)
{
	hub = a.hub = b.hub = sim_hub(dir, SEGMENT, 0);
}

static void close_hub(void)
{
	sim_disconnect(&a);
	sim_disconnect(&b);
	hub_close(hub);
	hub = NULL;
}

static struct hub_disk *open_disk(unsigned int v)
{
	char volume[16];
	struct hub_disk *d;

	snprintf(volume, sizeof(volume), "disk%u", v);
	d = hub_live_open(hub, "vm0", volume, why);
	if (!d)
		fail_msg("live %s: %s", volume, why);
	return d;
}

/* A source's history, of some segments, a fail-over at its end or before it, and what live wrote, of some more. */
static void make_stage(bool at_the_end, bool committed)
{
	static uint8_t buf[64 * 512];
	char at[64];
	unsigned int v, i;

	assert_int_equal(mkdir(dir, 0700), 0);
	sim_init(&a, NULL, 0xabc);
	sim_init(&b, NULL, 0xdef);
	open_hub();
	sim_start(&a);
	while (vm0()->nr_segments < 3)
		sim_random(&a, 10);
	assert_int_equal(sim_flush(&a), 0);
	acked = a.acked;
	point = at_the_end ? acked : acked - acked / 8;
	for (v = 0; v < SIM_VOLUMES; v++) {
		sim_model(&a, acked, v, before[v]);
		sim_model(&a, point, v, live[v]);
	}
	snprintf(at, sizeof(at), "%016" PRIx64 ":%" PRIu64, a.incarnation, point);
	if (hub_failover(hub, "vm0", &(struct hub_order){ .point = at }, why))
		fail_msg("%s", why);
	generation = vm0()->generation;
	for (i = 0; vm0()->nr_segments < 5; i++) {
		uint64_t nr = 1 + chance(64), sector = chance(SIM_SECTORS - 64);
		struct hub_disk *d = open_disk(i % SIM_VOLUMES);

		sim_fill(buf, 0x777, i, sector, nr);
		assert_int_equal(hub_disk_write(d, NULL, sector * 512, buf, nr * 512, why), 0);
		memcpy(live[i % SIM_VOLUMES] + sector * 512, buf, nr * 512);
		hub_disk_close(d);
	}
	if (committed)
		assert_int_equal(hub_commit(hub, "vm0", why), 0);
	close_hub();
	next = a.next;
	ops = a.nr_ops;
	run_command("rm -rf %s && cp -a %s %s", stage, dir, stage);
}

/* As it was made. */
static void set_stage(void)
{
	a.next = next;
	a.sent = a.acked = acked;
	a.nr_ops = ops;
	b.next = 1;
	b.sent = b.acked = b.nr_ops = 0;
	run_command("find %s -mindepth 1 -delete && cp -a %s %s", disk, stage, dir);
}

/* ---- a rephub that is going to be killed ------------------------------------ */

static bool is_dead(void)
{
	return server && waitpid(server, NULL, WNOHANG) == server && !(server = 0);
}

/* Return whether it came to its work. */
static bool start_hub(const char *keep, uint64_t burns)
{
	char preload[600], watch[160], note[160], burn[160];
	/* A sanitizer wants to come first, and need not. */
	char *argv[] = { "env", preload, watch, note, burn, "ASAN_OPTIONS=verify_asan_link_order=0", rephub, "--dir", dir, "--listen",
			 socket_path, "--segment", "4M", "--keep", (char *)(uintptr_t)keep, "--reserve", "16M", NULL };
	unsigned int i;

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", shim);
	snprintf(watch, sizeof(watch), CUT_DIR_ENV "=%s", disk);
	snprintf(note, sizeof(note), CUT_LOG_ENV "=%s", log_path);
	snprintf(burn, sizeof(burn), CUT_FUSE_ENV "=%s", fuse_path);
	unlink(socket_path);
	*fuse = burns;
	server = bench_run(argv);
	for (i = 0; i < 30000; i++) {
		if (is_dead())
			return false;
		if (bench_listens(socket_path))
			return true;
		usleep(1000);
	}
	fail_msg("rephub does not start");
	return false;
}

/* It is no more, nor its power, with all that was done since cutdir_begin(). */
static void cut_power(struct cutdir *c)
{
	cutdir_end(c, log_path, (unsigned int)rand_r(&seed));
	unlink(log_path);
}

static void end_hub(void)
{
	*fuse = 0;
	bench_end(&server, SIGUSR2);
}

static bool command(const char *word)
{
	char *argv[] = { rephubctl, "--dir", dir, (char *)(uintptr_t)word, "vm0", NULL };
	pid_t pid = bench_run(argv);
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static struct nbd_handle *connect_to(const char *name)
{
	struct nbd_handle *h = nbd_create();

	assert_non_null(h);
	assert_int_equal(nbd_set_export_name(h, name), 0);
	if (!nbd_connect_unix(h, socket_path))
		return h;
	nbd_close(h);
	return NULL;
}

/*
 * A VM's writes, one after the other, on all volumes by turns.
 * @sent, @answered, @flushed: so many
 */
static struct {
	struct sim_op write[WRITES];
	atomic_uint sent, answered, flushed;
} vm;

/* Until there are so many of them, or one fails. */
static void write_live(unsigned int most)
{
	static uint8_t buf[64 * 512];
	struct nbd_handle *h[SIM_VOLUMES];
	unsigned int v, i, answered;
	char name[32];
	bool ok = true;

	for (v = 0; v < SIM_VOLUMES; v++) {
		snprintf(name, sizeof(name), "live/vm0/disk%u", v);
		h[v] = connect_to(name);
		ok &= h[v] != NULL;
	}
	for (i = 0; ok && i < most; i++) {
		v = i % SIM_VOLUMES;
		sim_fill(buf, LIVE, vm.write[i].seq, vm.write[i].sector, vm.write[i].nr);
		vm.sent = i + 1;
		ok = !nbd_pwrite(h[v], buf, vm.write[i].nr * 512, vm.write[i].sector * 512, 0);
		if (!ok)
			break;
		answered = ++vm.answered;
		if (i % 16 == 11) {
			ok = !nbd_flush(h[v], 0);
			if (ok)
				vm.flushed = answered;
		}
	}
	for (v = 0; v < SIM_VOLUMES; v++)
		if (h[v])
			nbd_close(h[v]);
}

static void *write_on(void *arg)
{
	(void)arg;
	write_live(WRITES);
	return NULL;
}

static void new_writes(void)
{
	unsigned int i;

	vm.sent = vm.answered = vm.flushed = 0;
	for (i = 0; i < WRITES; i++)
		vm.write[i] = (struct sim_op){ i + 1, REPAGENT_REC_WRITE, i % SIM_VOLUMES, chance(SIM_SECTORS - 16), 1 + chance(16) };
}

/* ---- the verdict ------------------------------------------------------------ */

static char what[128];	/* is being judged */

static void read_live(image *m)
{
	struct hub_disk *d;
	unsigned int v;

	for (v = 0; v < SIM_VOLUMES; v++) {
		d = open_disk(v);
		if (hub_disk_read(d, 0, (*m)[v], BYTES, why))
			fail_msg("%s: %s", what, why);
		hub_disk_close(d);
	}
}

static void read_latest(image *m)
{
	struct hub_view *view;
	char volume[16];
	unsigned int v;

	for (v = 0; v < SIM_VOLUMES; v++) {
		snprintf(volume, sizeof(volume), "disk%u", v);
		view = hub_view_open(hub, "vm0", volume, "latest", why);
		if (!view || hub_view_read(view, 0, (*m)[v], BYTES, why))
			fail_msg("%s: %s", what, why);
		hub_view_close(view);
	}
}

/* All that live had, and writes up to one of these: not less on one volume than on the other. Makes @want so. */
static void is_live(const image *m, const struct sim_op *op, uint64_t incarnation, size_t least, size_t most)
{
	size_t i;

	memcpy(want, live, sizeof(want));
	for (i = 0;; i++, op++) {
		if (i >= least && !memcmp(m, want, sizeof(want)))
			return;
		if (i == most)
			fail_msg("%s: it is not what live had after any of the writes %zu to %zu", what, least, most);
		sim_fill(want[op->volume] + op->sector * 512, incarnation, op->seq, op->sector, op->nr);
	}
}

static void is_before(const image *m)
{
	size_t i;

	for (i = 0; i < sizeof(*m); i++)
		if (((const uint8_t *)m)[i] != ((uint8_t *)before)[i])
			fail_msg("%s: volume %zu differs from what its source had at byte %zu", what, i / BYTES, i % BYTES);
}

static bool folded(void)
{
	return vm0()->segment[0]->start != SESSION_SIZE;
}

static void reads(uint64_t seq, bool may_be_gone)
{
	uint64_t id;

	if (point_of(vm0(), a.incarnation, seq, &id, why) && id >= vm0()->floor)
		sim_compare(&a, seq);
	else if (!folded() || !may_be_gone)
		fail_msg("%s: point %" PRIu64 " is gone", what, seq);
}

/* It is as it was, but for what was folded: as long as there is a fail-over, that is before its point. */
static void history(void)
{
	uint64_t seq = 3 * SIM_VOLUMES + 1 + chance((unsigned int)acked - 3 * SIM_VOLUMES);
	bool over = vm0()->failover.state == FAILOVER_NONE;

	reads(point, over);
	reads(seq, over || seq < point);
	sim_compare(&a, acked);
}

static void source_is(enum session_state state)
{
	a.block.generation = generation - 1;
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, state);
	if (state == SESSION_ACCEPTING) {
		assert_int_equal(a.block.seq, acked);
		sim_random(&a, 20);
		assert_int_equal(sim_flush(&a), 0);
		sim_compare(&a, a.acked);
	}
	sim_disconnect(&a);
}

/* All is as live had it, least to most of the VM's writes. */
static void judge_live(unsigned int least, unsigned int most)
{
	static image got;

	assert_int_equal(vm0()->generation, generation);
	read_live(&got);
	is_live(&got, vm.write, LIVE, least, most);
	read_latest(&got);
	if (memcmp(got, want, sizeof(got)))
		fail_msg("%s: the latest point is not what live has", what);
	history();
	source_is(SESSION_FENCED);
}

static void judge_before(void)
{
	static image got;

	assert_int_equal(vm0()->generation, generation + 1);
	assert_null(hub_live_open(hub, "vm0", "disk0", why));
	read_latest(&got);
	is_before(&got);
	history();
	source_is(SESSION_ACCEPTING);
	history();
}

/*
 * The hub is started anew. @said: the command had said that it was done. At least @least of the VM's writes are there, and those that
 * were answered before the commit are in it.
 */
static void judge(bool back, bool said, unsigned int least, unsigned int asked)
{
	int err;

	open_hub();
	if (*vm0()->trouble)
		fail_msg("%s: %s", what, vm0()->trouble);
	switch (vm0()->failover.state) {
	case FAILOVER_LIVE:
		if (said)
			fail_msg("%s: what was said to be done is not", what);
		judge_live(least, vm.sent);
		/* It is typed again. */
		err = back ? hub_rollback(hub, "vm0", why) : hub_commit(hub, "vm0", why);
		if (err)
			fail_msg("%s: typed again: %s", what, why);
		break;
	case FAILOVER_COMMITTED:
		assert_false(back);
		if (asked > least)
			least = asked;
		assert_int_equal(hub_commit(hub, "vm0", why), EBUSY);
		break;
	default:
		if (!back)
			fail_msg("%s: state %u", what, vm0()->failover.state);
		assert_int_equal(hub_rollback(hub, "vm0", why), EBUSY);
	}
	close_hub();
	open_hub();
	assert_string_equal(vm0()->trouble, "");
	assert_int_equal(vm0()->failover.state, back ? FAILOVER_NONE : FAILOVER_COMMITTED);
	if (back)
		judge_before();
	else
		judge_live(least, vm.sent);
	close_hub();
}

/*
 * enum end - what becomes of a hub that was killed
 *
 *	KILL	it is started again, maybe after it was killed in the midst of that, too
 *	POWER	likewise, but its power went with one kill or with each
 *	LATER	its power goes with the second kill alone: what the first one left is gone on with, and was not durable
 */
enum end { KILL, POWER, LATER, NR_ENDS };

static bool came_up;	/* the hub, before it was killed once more */

/* @c: not NULL unless KILL. @burns: things that the hub does before it is killed again; 0: some. */
static void end_on(const char *keep, struct cutdir *c, enum end end, uint64_t burns)
{
	bool again = end == LATER || chance(2);

	for (;; again = end != LATER && chance(2)) {
		if (c && (!again || (end == POWER && chance(2)))) {
			cut_power(c);
			c = again ? cutdir_begin(disk) : NULL;
		}
		if (!again)
			break;
		came_up = start_hub(keep, burns ? burns : 1 + chance(24));
		end_hub();
	}
	unlink(log_path);
}

/* A commit or a rollback is killed, @burns from when it is asked for. Return whether it did all that it had to. */
static bool kill_it(bool back, uint64_t burns, enum end end, uint64_t again, bool load)
{
	struct cutdir *c = NULL;
	unsigned int least, asked, then;
	pthread_t thread;
	bool said, done;

	set_stage();
	new_writes();
	if (end != KILL)
		c = cutdir_begin(disk);
	assert_true(start_hub(load ? "4M" : "0", 0));
	if (load) {
		assert_int_equal(pthread_create(&thread, NULL, write_on, NULL), 0);
		while (vm.answered < burns)
			usleep(100);
	} else {
		write_live(BY_ITSELF);
		assert_int_equal(vm.answered, BY_ITSELF);
	}
	asked = vm.answered;
	*fuse = burns;
	said = command(back ? "rollback" : "commit");
	then = vm.answered;
	done = said && !is_dead() && *fuse;
	end_hub();
	if (load)
		pthread_join(thread, NULL);
	/* One may have had its answer before that was noted. */
	if (back && said && vm.answered > then + 1)
		fail_msg("%s: a write was taken behind the rollback", what);
	least = c ? vm.flushed : vm.answered;
	end_on(load ? "4M" : "0", c, end, again);
	judge(back, said, least, asked);
	return done;
}

/* It is killed again at each @step of its start, too. */
static unsigned int each_step(bool back, bool at_the_end, unsigned int step)
{
	unsigned int kills = 0;
	uint64_t k, again;
	bool done;

	make_stage(at_the_end, false);
	for (k = 1, done = false; !done; k++) {
		snprintf(what, sizeof(what), "%s, %s, thing %" PRIu64, back ? "rollback" : "commit",
			 at_the_end ? "latest" : "an earlier point", k);
		done = kill_it(back, k, POWER, 0, false);
		kills++;
		for (came_up = false, again = 1 + step / 2; !came_up; again += step, kills++)
			(void)kill_it(back, k, LATER, again, false);
	}
	assert_true(k > 5);
	return kills;
}

static void at_each_step(bool back)
{
	bool at_length = getenv("HUB_KILLS");
	unsigned int kills;

	alarm(at_length ? 7200 : 110);
	kills = each_step(back, false, at_length ? 1 : 4);
	if (at_length) {
		run_command("find %s -mindepth 1 -delete", disk);
		free(a.op);
		free(b.op);
		kills += each_step(back, true, 2);
	}
	print_message("# %u kills\n", kills);
}

static void test_commit(void **state)
{
	(void)state;
	at_each_step(false);
}

static void test_rollback(void **state)
{
	(void)state;
	at_each_step(true);
}

/* Kills at random moments, while a VM writes, and what is older than it needs to be is folded. */
static void under_load(bool back)
{
	unsigned int kills = (unsigned int)sim_many("HUB_KILLS", 6), i, under_way = 0;

	alarm(110 + 10 * kills);
	make_stage(false, false);
	for (i = 0; i < kills; i++) {
		snprintf(what, sizeof(what), "%s under load, kill %u", back ? "rollback" : "commit", i);
		under_way += !kill_it(back, 1 + chance(60), i % NR_ENDS, 0, true);
	}
	print_message("# %u kills; in %u of them it was not done yet\n", kills, under_way);
	assert_true(under_way > kills / 4);
}

static void test_commit_under_load(void **state)
{
	(void)state;
	under_load(false);
}

static void test_rollback_under_load(void **state)
{
	(void)state;
	under_load(true);
}

/* ---- behind the commit ------------------------------------------------------ */

static struct nbd_handle *agent;

static int result(int r)
{
	return !r ? 0 : nbd_get_errno() ? nbd_get_errno() : EIO;
}

static int over_write(struct simagent *x, uint64_t offset, const void *buf, size_t len)
{
	(void)x;
	return result(nbd_pwrite(agent, buf, len, offset, 0));
}

static int over_read(struct simagent *x, uint64_t offset, void *buf, size_t len)
{
	(void)x;
	return result(nbd_pread(agent, buf, len, offset, 0));
}

static int over_flush(struct simagent *x)
{
	(void)x;
	return result(nbd_flush(agent, 0));
}

/* Until the hub is killed, or this was enough to have all that was before folded. */
static void stream(void)
{
	unsigned int i, k;
	uint64_t nr;

	b.write = over_write;
	b.read = over_read;
	b.flush = over_flush;
	memcpy(b.block.group, a.block.group, sizeof(b.block.group));
	b.block.generation = generation;
	agent = connect_to("log/vm0");
	if (!agent)
		return;
	if (!sim_connect(&b)) {
		assert_int_equal(b.block.state, SESSION_ACCEPTING);
		for (i = 0; i < 300; i++) {
			sim_begin(&b, !i);
			for (k = 0; k < 20; k++) {
				nr = 1 + chance(64);
				assert_true(sim_add(&b, REPAGENT_REC_WRITE, chance(SIM_VOLUMES), chance((unsigned int)(SIM_SECTORS - nr)), nr));
			}
			if (sim_send(&b) || (i % 4 == 3 && sim_flush(&b)))
				break;
		}
	}
	nbd_close(agent);
	b.write = NULL;
	b.read = NULL;
	b.flush = NULL;
}

/* An agent that knows the generation has the group again; what live had is kept, and is folded in the end. */
static void test_return(void **state)
{
	unsigned int kills = (unsigned int)sim_many("HUB_KILLS", 6), i, nr_folded = 0, ended = 0;
	static image got;
	struct cutdir *c;

	(void)state;
	alarm(110 + 10 * kills);
	make_stage(false, true);
	for (i = 0; i < kills; i++) {
		snprintf(what, sizeof(what), "return, kill %u", i);
		set_stage();
		c = i % NR_ENDS != KILL ? cutdir_begin(disk) : NULL;
		if (start_hub("4M", 1 + chance(500)))
			stream();
		end_hub();
		end_on("4M", c, i % NR_ENDS, 0);
		open_hub();
		assert_string_equal(vm0()->trouble, "");
		assert_int_equal(vm0()->generation, generation);
		if (vm0()->failover.state == FAILOVER_COMMITTED) {
			assert_int_equal(b.acked, 0);
			read_live(&got);
			is_live(&got, NULL, 0, 0, 0);
		} else {
			assert_int_equal(vm0()->failover.state, FAILOVER_NONE);
			ended++;
		}
		read_latest(&got);
		is_live(&got, b.op, b.incarnation, b.acked, b.nr_ops);
		a.block.generation = generation - 1;
		assert_int_equal(sim_connect(&a), 0);
		assert_int_not_equal(a.block.state, SESSION_ACCEPTING);
		nr_folded += folded();
		if (!folded())
			history();
		close_hub();
	}
	print_message("# %u kills, behind %u of them the agent had the group, behind %u something was folded\n", kills, ended, nr_folded);
	assert_true(ended && nr_folded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rollback, setup, teardown),
		cmocka_unit_test_setup_teardown(test_commit_under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rollback_under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_return, setup, teardown),
	};
	int failed;

	if (!bench_beside(shim, sizeof(shim), "../cutshim.so") || !bench_beside(rephub, sizeof(rephub), "../../rephub") ||
	    !bench_beside(rephubctl, sizeof(rephubctl), "../../rephubctl")) {
		printf("1..0 # SKIP rephub, rephubctl or cutshim.so is not built\n");
		return 1;
	}
	if (!bench_open("hubkills"))
		return 1;
	seed = getenv("SEED") ? (unsigned int)strtoul(getenv("SEED"), NULL, 10) : (unsigned int)getpid();
	print_message("# SEED=%u\n", seed);
	srandom(seed);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return bench_close() ? failed : 1;
}
