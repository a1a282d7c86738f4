// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon's core against real servers: what a random workload put into a
 * simulated ring must be in the replica, byte for byte, whoever was killed
 * meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/common/client.h"
#include "../../userspace/common/log.h"
#include "../../userspace/common/parse.h"
#include "../../userspace/repagentd/daemon.h"
#include "simbench.h"

static void compare(const struct disk *d)
{
	unsigned char *buf = malloc(VOLUME_SIZE);
	int fd = open(d->image, O_RDONLY);
	uint64_t i;

	assert_int_equal(read(fd, buf, VOLUME_SIZE), VOLUME_SIZE);
	close(fd);
	for (i = 0; i < VOLUME_SIZE; i++)
		if (buf[i] != d->oracle[i])
			fail_msg("%s differs at byte %lu", d->image, i);
	free(buf);
}

static void compare_all(struct bench *b)
{
	compare(&b->disk[0]);
	if (b->disk[1].id)
		compare(&b->disk[1]);
}

/* ---- servers ------------------------------------------------------------- */

static pid_t nbdkit(const char *socket, const char *image, const char *filter,
		    const char *arg)
{
	char path[128], file[160];
	char *argv[12];
	int n = 0;

	bench_path(path, sizeof(path), socket);
	unlink(path);
	snprintf(file, sizeof(file), "file=%s", image);
	argv[n++] = "nbdkit";
	argv[n++] = "-f";
	argv[n++] = "-U";
	argv[n++] = path;
	if (filter)
		argv[n++] = (char *)filter;
	argv[n++] = "file";
	argv[n++] = file;
	if (arg)
		argv[n++] = (char *)arg;
	argv[n] = NULL;
	return bench_run(argv);
}

static pid_t nbdkit_ready(const char *socket, const char *image, const char *filter,
			  const char *arg)
{
	pid_t pid = nbdkit(socket, image, filter, arg);
	char path[128];

	bench_await(bench_path(path, sizeof(path), socket));
	return pid;
}

static pid_t nbd_server(struct bench *b, const char *options)
{
	char conf[128], socket[128], pid_file[128];
	int pid = 0;
	FILE *f;

	bench_path(socket, sizeof(socket), "s");
	bench_path(pid_file, sizeof(pid_file), "pid");
	unlink(socket);
	unlink(pid_file);
	f = fopen(bench_path(conf, sizeof(conf), "conf"), "w");
	fprintf(f, "[generic]\nunixsock=%s\nport=%d\nlistenaddr=127.0.0.1\n", socket,
		20000 + getpid() % 10000);
	for (int i = 0; i < 2; i++)
		fprintf(f, "[v%d]\nexportname=%s\n%s", i, b->disk[i].image, options);
	fclose(f);
	bench_run((char *[]) { "nbd-server", "-C", conf, "-p", pid_file, NULL });
	bench_await(socket);
	f = fopen(pid_file, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	return pid;
}

static pid_t qemu_nbd(const char *socket, const char *image)
{
	char path[128];
	pid_t pid;

	bench_path(path, sizeof(path), socket);
	unlink(path);
	pid = bench_run((char *[]) { "qemu-nbd", "-f", "raw", "-t", "--discard=unmap", "-x", "v",
			       "-k", path, (char *)image, NULL });
	bench_await(path);
	return pid;
}

/* ---- tests --------------------------------------------------------------- */

static void plain(struct bench *b, unsigned int n)
{
	bench_start(b);
	bench_put(b, n);
	bench_drained(b);
	bench_put(b, n / 10);
	bench_stop(b);
	assert_int_equal(simring_acked(b->sim), simring_head(b->sim) - 1);
	compare_all(b);
}

static void test_nbdkit(void **state)
{
	struct bench b;
	pid_t second;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/%%v");
	bench_add_disk(&b, 0, "v0");
	bench_add_disk(&b, 1, "v1");
	b.server = nbdkit_ready("v0", b.disk[0].image, NULL, NULL);
	second = nbdkit_ready("v1", b.disk[1].image, NULL, NULL);
	plain(&b, 8000);
	bench_end(&second, SIGKILL);
	bench_finish(&b);
}

static void test_nbdkit_no_zero_no_trim(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, "--filter=nozero", NULL);
	plain(&b, 3000);
	bench_finish(&b);
}

static void test_nbd_server(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///%%v?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_add_disk(&b, 1, "v1");
	b.server = nbd_server(&b, "flush=true\ntrim=true\n");
	plain(&b, 8000);
	bench_finish(&b);
}

static void test_qemu_nbd(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///v?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	b.server = qemu_nbd("s", b.disk[0].image);
	plain(&b, 5000);
	bench_finish(&b);
}

/* A server that loses all that was not flushed, killed at random. */
static void test_server_killed(void **state)
{
	struct bench b;
	int i;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, "--filter=cache", "cache=writeback");
	bench_start(&b);
	for (i = 0; i < 12; i++) {
		bench_put(&b, (unsigned int)rand_r(&b.seed) % 800);
		bench_end(&b.server, SIGKILL);
		b.server = nbdkit("s", b.disk[0].image, "--filter=cache", "cache=writeback");
	}
	bench_drained(&b);
	bench_end(&b.server, SIGKILL);
	compare_all(&b);
	bench_finish(&b);
}

/* nbdkit 1.32 may crash when a client vanishes, so it is kept running. */
static void test_daemon_killed(void **state)
{
	char script[512], path[128];
	struct bench b;
	int i;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_path(path, sizeof(path), "s");
	snprintf(script, sizeof(script), "while :; do rm -f %s; nbdkit -f -U %s file file=%s; done",
		 path, path, b.disk[0].image);
	b.server = bench_run((char *[]) { "sh", "-c", script, NULL });
	bench_await(path);
	bench_start(&b);
	for (i = 0; i < 12; i++) {
		bench_put(&b, (unsigned int)rand_r(&b.seed) % 1500);
		bench_end(&b.daemon, SIGKILL);
		bench_start(&b);
	}
	bench_drained(&b);
	bench_stop(&b);
	compare_all(&b);
	bench_finish(&b);
}

/* A server whose requests fail for a while. */
static void errors(const char *error, unsigned int reason)
{
	char path[128], file[160], flag[128], arg[160];
	struct bench b;

	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_path(path, sizeof(path), "s");
	unlink(path);
	snprintf(file, sizeof(file), "file=%s", b.disk[0].image);
	snprintf(arg, sizeof(arg), "error-file=%s", bench_path(flag, sizeof(flag), "broken"));
	b.server = bench_run((char *[]) { "nbdkit", "-f", "-U", path, "--filter=error", "file", file,
				    (char *)error, "error-rate=100%", arg, NULL });
	bench_await(path);
	bench_start(&b);
	assert_true(simring_wait_hub(b.sim, 1, 0, 10));
	bench_put(&b, 500);
	bench_drained(&b);
	bench_image(flag, 0);
	bench_put(&b, 500);
	assert_true(simring_wait_hub(b.sim, 0, reason, 10));
	unlink(flag);
	bench_drained(&b);
	bench_put(&b, 500);
	bench_stop(&b);
	compare_all(&b);
	bench_finish(&b);
}

static void test_full(void **state)
{
	(void)state;
	errors("error=ENOSPC", REPAGENT_REASON_HUB_FULL);
}

static void test_forbidden(void **state)
{
	(void)state;
	errors("error=EPERM", REPAGENT_REASON_HUB_REFUSED);
}

static void test_failing(void **state)
{
	(void)state;
	errors("error=EIO", REPAGENT_REASON_NONE);
}

static void test_refused(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///wrong?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	b.server = qemu_nbd("s", b.disk[0].image);
	bench_start(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	bench_end(&b.server, SIGKILL);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	bench_finish(&b);
}

/* Nobody could know when its records are durable. */
static void test_no_flush(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///%%v?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	b.server = nbd_server(&b, "");
	bench_start(&b);
	bench_put(&b, 10);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	assert_int_equal(simring_acked(b.sim), 0);
	bench_finish(&b);

	bench_begin(&b, "nbd+unix:///%%v?socket=%s/s");
	b.cfg.allow_no_flush = true;
	bench_add_disk(&b, 0, "v0");
	b.server = nbd_server(&b, "");
	plain(&b, 200);
	bench_finish(&b);
}

static void test_small_grows(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_image(b.disk[0].image, VOLUME_SIZE / 2);
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_start(&b);
	bench_put(&b, 100);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	assert_int_equal(truncate(b.disk[0].image, VOLUME_SIZE), 0);
	bench_end(&b.server, SIGTERM);
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_drained(&b);
	bench_stop(&b);
	compare_all(&b);
	bench_finish(&b);
}

static void test_read_only(void **state)
{
	struct bench b;
	char path[128], file[160];

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_path(path, sizeof(path), "s");
	unlink(path);
	snprintf(file, sizeof(file), "file=%s", b.disk[0].image);
	b.server = bench_run((char *[]) { "nbdkit", "-f", "-r", "-U", path, "file", file, NULL });
	bench_await(path);
	bench_start(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	bench_finish(&b);
}

/* A volume comes while the others are written to, and another goes. */
static void test_volume_comes_and_goes(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///%%v?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_path(b.disk[1].image, sizeof(b.disk[1].image), "v1.img");
	bench_image(b.disk[1].image, VOLUME_SIZE);
	b.server = nbd_server(&b, "flush=true\ntrim=true\n");
	bench_start(&b);
	bench_put(&b, 1000);
	bench_add_disk(&b, 1, "v1");
	simring_put(b.sim, REPAGENT_REC_VOLUME_ADD, b.disk[1].id, 0, VOLUME_SIZE, NULL);
	bench_put(&b, 1000);
	simring_remove_volume(b.sim, b.disk[1].id);
	simring_put(b.sim, REPAGENT_REC_VOLUME_REMOVE, b.disk[1].id, 0, 0, NULL);
	bench_drained(&b);
	compare_all(&b);
	b.disk[1].id = 0;
	bench_put(&b, 1000);
	bench_stop(&b);
	compare(&b.disk[0]);
	bench_finish(&b);
}

/*
 * A hub that hangs is given up, and what it was sent is sent again.  What it
 * still has in hand must not overwrite newer data when it wakes up.
 */
static void test_stall(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.timeout = 500 * NSEC_PER_MSEC;
	b.cfg.heartbeat = 100 * NSEC_PER_MSEC;
	bench_add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_start(&b);
	bench_put(&b, 150);
	kill(-b.server, SIGSTOP);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	bench_put(&b, 150);
	kill(-b.server, SIGCONT);
	bench_drained(&b);
	bench_stop(&b);
	compare_all(&b);
	bench_finish(&b);
}

/*
 * A relay between the daemon and its server.  What comes through its first
 * connection it can hold, and pass on later, though the daemon may have closed
 * that long ago: as a server does that was too busy to look at it.
 */
static struct relay {
	int hold;		/* ask for it */
	int held;		/* something was */
	int late;		/* ... and the server has answered it */
} *relay;

struct pipe {
	int from, to;
	bool first, requests;
};

static void *pump(void *arg)
{
	const struct pipe *p = arg;
	static _Thread_local char buf[65536];
	ssize_t n, done, w;

	while ((n = read(p->from, buf, sizeof(buf))) > 0) {
		if (p->first && p->requests) {
			while (__atomic_load_n(&relay->hold, __ATOMIC_SEQ_CST)) {
				__atomic_store_n(&relay->held, 1, __ATOMIC_SEQ_CST);
				usleep(1000);
			}
		} else if (p->first && __atomic_load_n(&relay->held, __ATOMIC_SEQ_CST) &&
			   !__atomic_load_n(&relay->hold, __ATOMIC_SEQ_CST)) {
			__atomic_store_n(&relay->late, 1, __ATOMIC_SEQ_CST);
		}
		for (done = 0; done < n; done += w) {
			w = write(p->to, buf + done, (size_t)(n - done));
			if (w <= 0)
				break;
		}
	}
	shutdown(p->to, SHUT_WR);
	return NULL;
}

static int relay_socket(const char *name, struct sockaddr_un *addr)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	bench_path(addr->sun_path, sizeof(addr->sun_path), name);
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static void relay_run(int listener)
{
	static struct pipe pipes[64];
	struct sockaddr_un addr;
	pthread_t thread;
	int i, client, server;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < 64; i += 2) {
		client = accept(listener, NULL, NULL);
		server = relay_socket("real", &addr);
		if (client < 0 || connect(server, (struct sockaddr *)&addr, sizeof(addr)) < 0)
			break;
		pipes[i] = (struct pipe) { client, server, i == 0, true };
		pipes[i + 1] = (struct pipe) { server, client, i == 0, false };
		if (pthread_create(&thread, NULL, pump, &pipes[i]) ||
		    pthread_create(&thread, NULL, pump, &pipes[i + 1]))
			break;
	}
	_exit(1);
}

static bool relay_is(const int *flag)
{
	int i;

	for (i = 0; i < 1000 && !__atomic_load_n(flag, __ATOMIC_SEQ_CST); i++)
		usleep(10000);
	return __atomic_load_n(flag, __ATOMIC_SEQ_CST);
}

/*
 * Nor may a hub that answers again before long find newer data overwritten by
 * what it was sent before: the daemon waits for it before it connects anew.
 */
static void test_late_requests(void **state)
{
	struct sockaddr_un addr;
	struct bench b;
	pid_t between;
	int listener;

	(void)state;
	relay = mmap(NULL, sizeof(*relay), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(relay != MAP_FAILED);
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.timeout = 2 * NSEC_PER_SEC;
	b.cfg.heartbeat = 100 * NSEC_PER_MSEC;
	bench_add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("real", b.disk[0].image, NULL, NULL);
	listener = relay_socket("s", &addr);
	unlink(addr.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 8), 0);
	between = fork();
	assert_true(between >= 0);
	if (!between)
		relay_run(listener);
	close(listener);

	bench_start(&b);
	bench_put(&b, 100);
	bench_drained(&b);
	__atomic_store_n(&relay->hold, 1, __ATOMIC_SEQ_CST);
	bench_put(&b, 150);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	assert_true(relay_is(&relay->held));
	/* Time enough to send all of this through a new connection. */
	bench_put(&b, 300);
	usleep(500000);
	__atomic_store_n(&relay->hold, 0, __ATOMIC_SEQ_CST);
	assert_true(relay_is(&relay->late));
	bench_drained(&b);
	bench_stop(&b);
	compare_all(&b);
	bench_end(&between, SIGKILL);
	bench_finish(&b);
	munmap(relay, sizeof(*relay));
}

static void test_same_export(void **state)
{
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	bench_add_disk(&b, 1, "v1");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_start(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	bench_finish(&b);
}

/* Something listens that is no NBD server. */
static void test_garbage(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), i, peer;
	unsigned char junk[256];
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.timeout = 300 * NSEC_PER_MSEC;
	bench_add_disk(&b, 0, "v0");
	bench_path(addr.sun_path, sizeof(addr.sun_path), "s");
	unlink(addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	bench_start(&b);
	bench_put(&b, 100);
	for (i = 0; i < 8; i++) {
		peer = accept(fd, NULL, NULL);
		bench_fill(&b, junk, sizeof(junk));
		/* Half of them begin well. */
		if (i % 2)
			memcpy(junk, "NBDMAGICIHAVEOPT\0\3", 18);
		assert_true(write(peer, junk, sizeof(junk)) > 0);
		/* Until the daemon has had enough of it. */
		while (read(peer, junk, sizeof(junk)) > 0)
			;
		close(peer);
	}
	close(fd);
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_drained(&b);
	bench_stop(&b);
	compare_all(&b);
	bench_finish(&b);
}

/* A busy slot holds back what is behind it, and nothing is burnt waiting. */
static void test_busy_holds(void **state)
{
	struct repagent_slot slot = { .type = REPAGENT_REC_WRITE, .nr_sectors = 1, .len = 512 };
	unsigned char *payload;
	uint64_t busy, calls;
	struct bench b;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	bench_add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_start(&b);
	bench_put(&b, 10);
	bench_drained(&b);
	slot.volume = b.disk[0].id;
	busy = simring_reserve(b.sim, &slot, &payload);
	memset(payload, 7, 512);
	memset(b.disk[0].oracle, 7, 512);
	bench_put(&b, 200);
	usleep(200000);
	calls = simring_calls(b.sim);
	usleep(2000000);
	assert_in_range(simring_calls(b.sim) - calls, 0, 40);
	assert_true(simring_acked(b.sim) < busy);
	simring_commit(b.sim, busy, REPAGENT_SLOT_READY);
	bench_drained(&b);
	bench_stop(&b);
	compare_all(&b);
	bench_finish(&b);
}

static struct json_object *call(struct client *c, const char *command, struct json_object *arguments)
{
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *result;

	if (!client_call(c, command, arguments, 10000, &result, class, error))
		fail_msg("%s: %s: %s", command, class, error);
	return result;
}

static uint64_t number(struct json_object *o, const char *name)
{
	uint64_t n = (uint64_t)json_object_get_int64(json_object_object_get(o, name));

	json_object_put(o);
	return n;
}

/* By the control socket: a pause sends nothing and loses nothing, and a shutdown ends behind its record. */
static void test_control(void **state)
{
	struct json_object *arguments = json_object_new_object(), *event;
	char path[128], class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	uint64_t seq, acked;
	struct client c;
	struct bench b;
	int status;

	(void)state;
	bench_begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.control = bench_path(path, sizeof(path), "control");
	bench_add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	bench_start(&b);
	bench_await(path);
	if (!client_connect(&c, path, 10000, error))
		fail_msg("%s", error);
	json_object_put(call(&c, "subscribe", NULL));
	bench_put(&b, 200);
	bench_drained(&b);
	json_object_put(call(&c, "pause", NULL));
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_PAUSED, 10));
	acked = simring_acked(b.sim);
	bench_put(&b, 100);
	json_object_put(call(&c, "query-status", NULL));
	assert_int_equal(simring_acked(b.sim), acked);
	json_object_put(call(&c, "resume", NULL));
	bench_drained(&b);
	assert_false(client_call(&c, "stop-reader", NULL, 10000, NULL, class, error));
	assert_string_equal(class, "ReaderNotRunning");
	json_object_object_add(arguments, "label", json_object_new_string("here"));
	seq = number(call(&c, "checkpoint", arguments), "record");
	assert_true(simring_wait_acked(b.sim, seq, 10));
	do {
		assert_int_equal(client_event(&c, 10000, &event, error), 1);
		status = strcmp(json_object_get_string(json_object_object_get(event, "event")), "CHECKPOINT");
		json_object_put(event);
	} while (status);
	bench_put(&b, 50);
	seq = number(call(&c, "shutdown", NULL), "shutdown");
	waitpid(b.daemon, &status, 0);
	b.daemon = 0;
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	assert_int_equal(simring_acked(b.sim), seq);
	compare_all(&b);
	client_close(&c);
	bench_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nbdkit),
		cmocka_unit_test(test_nbdkit_no_zero_no_trim),
		cmocka_unit_test(test_nbd_server),
		cmocka_unit_test(test_qemu_nbd),
		cmocka_unit_test(test_server_killed),
		cmocka_unit_test(test_daemon_killed),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_failing),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_flush),
		cmocka_unit_test(test_small_grows),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_volume_comes_and_goes),
		cmocka_unit_test(test_stall),
		cmocka_unit_test(test_late_requests),
		cmocka_unit_test(test_same_export),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_busy_holds),
		cmocka_unit_test(test_control),
	};
	int r;

	if (!bench_open("mirror"))
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	return bench_close() ? r : 1;
}
