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
#include "simring.h"

#define VOLUME_SIZE	(8 * MIB)
#define NR_SLOTS	1024
#define RING_SIZE	(4 * MIB)

static char dir[64];

struct disk {
	uint16_t id;
	unsigned char *oracle;
	char image[128];
};

struct bench {
	struct simring *sim;
	struct config cfg;
	struct disk disk[2];
	char uri[256];
	pid_t daemon, server;
	unsigned int seed;
};

static char *in_dir(char *buf, size_t size, const char *name)
{
	snprintf(buf, size, "%s/%s", dir, name);
	return buf;
}

static pid_t run(char *const argv[])
{
	pid_t pid = fork();

	if (!pid) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!getenv("VERBOSE")) {
			int null = open("/dev/null", O_RDWR);

			dup2(null, 1);
			dup2(null, 2);
		}
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void end(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	if (kill(-*pid, signo) < 0)
		kill(*pid, signo);	/* the daemon is no group of its own */
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

/* Wait until somebody listens on the socket. */
static void await_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, i, r = -1;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	for (i = 0; i < 1000 && r < 0; i++) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
		close(fd);
		if (r < 0)
			usleep(10000);
	}
	assert_int_equal(r, 0);
}

static void make_image(const char *path, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void start_daemon(struct bench *b)
{
	sigset_t set;
	enum daemon_end e;

	b->daemon = fork();
	assert_true(b->daemon >= 0);
	if (b->daemon)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!getenv("VERBOSE")) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 2);
	}
	log_init("sim");
	e = daemon_run(&b->cfg, &b->sim->ring, signalfd(-1, &set, SFD_NONBLOCK));
	log_summary();
	_exit(e == DAEMON_STOPPED ? 0 : 1);
}

/* SIGTERM must drain and end well. */
static void stop_daemon(struct bench *b)
{
	int status;

	kill(b->daemon, SIGTERM);
	waitpid(b->daemon, &status, 0);
	b->daemon = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void add_disk(struct bench *b, int i, const char *name)
{
	char file[32];

	snprintf(file, sizeof(file), "%s.img", name);
	in_dir(b->disk[i].image, sizeof(b->disk[i].image), file);
	make_image(b->disk[i].image, VOLUME_SIZE);
	b->disk[i].oracle = calloc(1, VOLUME_SIZE);
	b->disk[i].id = simring_add_volume(b->sim, name, VOLUME_SIZE);
}

static void begin(struct bench *b, const char *uri)
{
	char error[URI_ERROR_MAX];

	memset(b, 0, sizeof(*b));
	b->sim = simring_new(NR_SLOTS, RING_SIZE);
	config_init(&b->cfg);
	b->cfg.group = "sim";
	b->cfg.timeout = 5 * NSEC_PER_SEC;
	b->cfg.retry_min = 20 * NSEC_PER_MSEC;
	b->cfg.retry_max = 200 * NSEC_PER_MSEC;
	b->cfg.retry_full = 200 * NSEC_PER_MSEC;
	snprintf(b->uri, sizeof(b->uri), uri, dir);
	assert_true(uri_add_tap(&b->cfg.taps, b->uri, error));
	b->seed = getenv("SEED") ? (unsigned int)atoi(getenv("SEED")) : (unsigned int)time(NULL);
	print_message("seed %u\n", b->seed);
}

static void finish(struct bench *b)
{
	int i;

	end(&b->daemon, SIGKILL);
	end(&b->server, SIGKILL);
	for (i = 0; i < 2; i++)
		free(b->disk[i].oracle);
	simring_free(b->sim);
}

static void fill(struct bench *b, unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i + 4 <= len; i += 4) {
		uint32_t v = (uint32_t)rand_r(&b->seed) * 2654435761u;

		memcpy(p + i, &v, 4);
	}
}

/*
 * One random record of volume @i: small and large, zeroes and data, and most
 * of it in a small part of the disk so that overlaps abound.
 */
static void put_one(struct bench *b, int i, bool discards)
{
	static unsigned char data[REPAGENT_MAX_RECORD];
	struct disk *d = &b->disk[i];
	uint64_t sectors = VOLUME_SIZE / 512, len, start;
	unsigned int what = (unsigned int)rand_r(&b->seed) % 100;

	if (rand_r(&b->seed) % 4)
		sectors /= 64;
	start = (uint64_t)rand_r(&b->seed) % sectors;
	len = 1 + (uint64_t)rand_r(&b->seed) % (rand_r(&b->seed) % 16 ? 16 : 256);
	if (len > sectors - start)
		len = sectors - start;
	start *= 512;
	len *= 512;

	if (what < 70) {
		fill(b, data, len);
		memcpy(d->oracle + start, data, len);
		simring_put(b->sim, REPAGENT_REC_WRITE, d->id, start, len, data);
	} else if (what < 80) {
		/* Nothing but zeroes is taken specially; nothing else may be. */
		memset(data, 0, len);
		if (what < 74)
			fill(b, data, len);
		else if (what < 77)
			data[len - 1 - (unsigned int)rand_r(&b->seed) % 256] = 1;
		memcpy(d->oracle + start, data, len);
		simring_put(b->sim, REPAGENT_REC_RESYNC, d->id, start, len, data);
	} else if (what < 90) {
		/* Rarely all of it: that would hide what was lost before. */
		if (rand_r(&b->seed) % 200 == 0) {
			start = 0;
			len = VOLUME_SIZE;
		}
		memset(d->oracle + start, 0, len);
		simring_put(b->sim, REPAGENT_REC_ZEROES, d->id, start, len, NULL);
	} else if (what < 93 && discards) {
		/* Undefined until written again. */
		simring_put(b->sim, REPAGENT_REC_DISCARD, d->id, start, len, NULL);
		fill(b, data, len);
		memcpy(d->oracle + start, data, len);
		simring_put(b->sim, REPAGENT_REC_WRITE, d->id, start, len, data);
	} else if (what < 98) {
		simring_put(b->sim, REPAGENT_REC_FLUSH, d->id, 0, 0, NULL);
	} else {
		struct repagent_slot slot = { .type = REPAGENT_REC_WRITE, .volume = d->id };
		unsigned char *payload;

		simring_commit(b->sim, simring_reserve(b->sim, &slot, &payload),
			       REPAGENT_SLOT_VOID);
	}
}

static void put_many(struct bench *b, unsigned int n)
{
	while (n--)
		put_one(b, b->disk[1].id ? rand_r(&b->seed) % 2 : 0, true);
}

static void drained(struct bench *b)
{
	if (!simring_wait_acked(b->sim, simring_head(b->sim) - 1, 60))
		fail_msg("record %lu of %lu is acknowledged", simring_acked(b->sim),
			 simring_head(b->sim) - 1);
}

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

	in_dir(path, sizeof(path), socket);
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
	return run(argv);
}

static pid_t nbdkit_ready(const char *socket, const char *image, const char *filter,
			  const char *arg)
{
	pid_t pid = nbdkit(socket, image, filter, arg);
	char path[128];

	await_socket(in_dir(path, sizeof(path), socket));
	return pid;
}

static pid_t nbd_server(struct bench *b, const char *options)
{
	char conf[128], socket[128], pid_file[128];
	int pid = 0;
	FILE *f;

	in_dir(socket, sizeof(socket), "s");
	in_dir(pid_file, sizeof(pid_file), "pid");
	unlink(socket);
	unlink(pid_file);
	f = fopen(in_dir(conf, sizeof(conf), "conf"), "w");
	fprintf(f, "[generic]\nunixsock=%s\nport=%d\nlistenaddr=127.0.0.1\n", socket,
		20000 + getpid() % 10000);
	for (int i = 0; i < 2; i++)
		fprintf(f, "[v%d]\nexportname=%s\n%s", i, b->disk[i].image, options);
	fclose(f);
	run((char *[]) { "nbd-server", "-C", conf, "-p", pid_file, NULL });
	await_socket(socket);
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

	in_dir(path, sizeof(path), socket);
	unlink(path);
	pid = run((char *[]) { "qemu-nbd", "-f", "raw", "-t", "--discard=unmap", "-x", "v",
			       "-k", path, (char *)image, NULL });
	await_socket(path);
	return pid;
}

/* ---- tests --------------------------------------------------------------- */

static void plain(struct bench *b, unsigned int n)
{
	start_daemon(b);
	put_many(b, n);
	drained(b);
	put_many(b, n / 10);
	stop_daemon(b);
	assert_int_equal(simring_acked(b->sim), simring_head(b->sim) - 1);
	compare_all(b);
}

static void test_nbdkit(void **state)
{
	struct bench b;
	pid_t second;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/%%v");
	add_disk(&b, 0, "v0");
	add_disk(&b, 1, "v1");
	b.server = nbdkit_ready("v0", b.disk[0].image, NULL, NULL);
	second = nbdkit_ready("v1", b.disk[1].image, NULL, NULL);
	plain(&b, 8000);
	end(&second, SIGKILL);
	finish(&b);
}

static void test_nbdkit_no_zero_no_trim(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, "--filter=nozero", NULL);
	plain(&b, 3000);
	finish(&b);
}

static void test_nbd_server(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///%%v?socket=%s/s");
	add_disk(&b, 0, "v0");
	add_disk(&b, 1, "v1");
	b.server = nbd_server(&b, "flush=true\ntrim=true\n");
	plain(&b, 8000);
	finish(&b);
}

static void test_qemu_nbd(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///v?socket=%s/s");
	add_disk(&b, 0, "v0");
	b.server = qemu_nbd("s", b.disk[0].image);
	plain(&b, 5000);
	finish(&b);
}

/* A server that loses all that was not flushed, killed at random. */
static void test_server_killed(void **state)
{
	struct bench b;
	int i;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, "--filter=cache", "cache=writeback");
	start_daemon(&b);
	for (i = 0; i < 12; i++) {
		put_many(&b, (unsigned int)rand_r(&b.seed) % 800);
		end(&b.server, SIGKILL);
		b.server = nbdkit("s", b.disk[0].image, "--filter=cache", "cache=writeback");
	}
	drained(&b);
	end(&b.server, SIGKILL);
	compare_all(&b);
	finish(&b);
}

/* nbdkit 1.32 may crash when a client vanishes, so it is kept running. */
static void test_daemon_killed(void **state)
{
	char script[512], path[128];
	struct bench b;
	int i;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	in_dir(path, sizeof(path), "s");
	snprintf(script, sizeof(script), "while :; do rm -f %s; nbdkit -f -U %s file file=%s; done",
		 path, path, b.disk[0].image);
	b.server = run((char *[]) { "sh", "-c", script, NULL });
	await_socket(path);
	start_daemon(&b);
	for (i = 0; i < 12; i++) {
		put_many(&b, (unsigned int)rand_r(&b.seed) % 1500);
		end(&b.daemon, SIGKILL);
		start_daemon(&b);
	}
	drained(&b);
	stop_daemon(&b);
	compare_all(&b);
	finish(&b);
}

/* A server whose requests fail for a while. */
static void errors(const char *error, unsigned int reason)
{
	char path[128], file[160], flag[128], arg[160];
	struct bench b;

	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	in_dir(path, sizeof(path), "s");
	unlink(path);
	snprintf(file, sizeof(file), "file=%s", b.disk[0].image);
	snprintf(arg, sizeof(arg), "error-file=%s", in_dir(flag, sizeof(flag), "broken"));
	b.server = run((char *[]) { "nbdkit", "-f", "-U", path, "--filter=error", "file", file,
				    (char *)error, "error-rate=100%", arg, NULL });
	await_socket(path);
	start_daemon(&b);
	assert_true(simring_wait_hub(b.sim, 1, 0, 10));
	put_many(&b, 500);
	drained(&b);
	make_image(flag, 0);
	put_many(&b, 500);
	assert_true(simring_wait_hub(b.sim, 0, reason, 10));
	unlink(flag);
	drained(&b);
	put_many(&b, 500);
	stop_daemon(&b);
	compare_all(&b);
	finish(&b);
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
	begin(&b, "nbd+unix:///wrong?socket=%s/s");
	add_disk(&b, 0, "v0");
	b.server = qemu_nbd("s", b.disk[0].image);
	start_daemon(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	end(&b.server, SIGKILL);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	finish(&b);
}

/* Nobody could know when its records are durable. */
static void test_no_flush(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///%%v?socket=%s/s");
	add_disk(&b, 0, "v0");
	b.server = nbd_server(&b, "");
	start_daemon(&b);
	put_many(&b, 10);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	assert_int_equal(simring_acked(b.sim), 0);
	finish(&b);

	begin(&b, "nbd+unix:///%%v?socket=%s/s");
	b.cfg.allow_no_flush = true;
	add_disk(&b, 0, "v0");
	b.server = nbd_server(&b, "");
	plain(&b, 200);
	finish(&b);
}

static void test_small_grows(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	make_image(b.disk[0].image, VOLUME_SIZE / 2);
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	start_daemon(&b);
	put_many(&b, 100);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	assert_int_equal(truncate(b.disk[0].image, VOLUME_SIZE), 0);
	end(&b.server, SIGTERM);
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	drained(&b);
	stop_daemon(&b);
	compare_all(&b);
	finish(&b);
}

static void test_read_only(void **state)
{
	struct bench b;
	char path[128], file[160];

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	in_dir(path, sizeof(path), "s");
	unlink(path);
	snprintf(file, sizeof(file), "file=%s", b.disk[0].image);
	b.server = run((char *[]) { "nbdkit", "-f", "-r", "-U", path, "file", file, NULL });
	await_socket(path);
	start_daemon(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	finish(&b);
}

/* A volume comes while the others are written to, and another goes. */
static void test_volume_comes_and_goes(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///%%v?socket=%s/s");
	add_disk(&b, 0, "v0");
	in_dir(b.disk[1].image, sizeof(b.disk[1].image), "v1.img");
	make_image(b.disk[1].image, VOLUME_SIZE);
	b.server = nbd_server(&b, "flush=true\ntrim=true\n");
	start_daemon(&b);
	put_many(&b, 1000);
	add_disk(&b, 1, "v1");
	simring_put(b.sim, REPAGENT_REC_VOLUME_ADD, b.disk[1].id, 0, VOLUME_SIZE, NULL);
	put_many(&b, 1000);
	simring_remove_volume(b.sim, b.disk[1].id);
	simring_put(b.sim, REPAGENT_REC_VOLUME_REMOVE, b.disk[1].id, 0, 0, NULL);
	drained(&b);
	compare_all(&b);
	b.disk[1].id = 0;
	put_many(&b, 1000);
	stop_daemon(&b);
	compare(&b.disk[0]);
	finish(&b);
}

/*
 * A hub that hangs is given up, and what it was sent is sent again.  What it
 * still has in hand must not overwrite newer data when it wakes up.
 */
static void test_stall(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.timeout = 500 * NSEC_PER_MSEC;
	b.cfg.heartbeat = 100 * NSEC_PER_MSEC;
	add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	start_daemon(&b);
	put_many(&b, 150);
	kill(-b.server, SIGSTOP);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	put_many(&b, 150);
	kill(-b.server, SIGCONT);
	drained(&b);
	stop_daemon(&b);
	compare_all(&b);
	finish(&b);
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
	in_dir(addr->sun_path, sizeof(addr->sun_path), name);
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
	begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.timeout = 2 * NSEC_PER_SEC;
	b.cfg.heartbeat = 100 * NSEC_PER_MSEC;
	add_disk(&b, 0, "v0");
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

	start_daemon(&b);
	put_many(&b, 100);
	drained(&b);
	__atomic_store_n(&relay->hold, 1, __ATOMIC_SEQ_CST);
	put_many(&b, 150);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_NONE, 10));
	assert_true(relay_is(&relay->held));
	/* Time enough to send all of this through a new connection. */
	put_many(&b, 300);
	usleep(500000);
	__atomic_store_n(&relay->hold, 0, __ATOMIC_SEQ_CST);
	assert_true(relay_is(&relay->late));
	drained(&b);
	stop_daemon(&b);
	compare_all(&b);
	end(&between, SIGKILL);
	finish(&b);
	munmap(relay, sizeof(*relay));
}

static void test_same_export(void **state)
{
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	add_disk(&b, 1, "v1");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	start_daemon(&b);
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_HUB_REFUSED, 10));
	finish(&b);
}

/* Something listens that is no NBD server. */
static void test_garbage(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), i, peer;
	unsigned char junk[256];
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.timeout = 300 * NSEC_PER_MSEC;
	add_disk(&b, 0, "v0");
	in_dir(addr.sun_path, sizeof(addr.sun_path), "s");
	unlink(addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	start_daemon(&b);
	put_many(&b, 100);
	for (i = 0; i < 8; i++) {
		peer = accept(fd, NULL, NULL);
		fill(&b, junk, sizeof(junk));
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
	drained(&b);
	stop_daemon(&b);
	compare_all(&b);
	finish(&b);
}

/* A busy slot holds back what is behind it, and nothing is burnt waiting. */
static void test_busy_holds(void **state)
{
	struct repagent_slot slot = { .type = REPAGENT_REC_WRITE, .nr_sectors = 1, .len = 512 };
	unsigned char *payload;
	uint64_t busy, calls;
	struct bench b;

	(void)state;
	begin(&b, "nbd+unix:///?socket=%s/s");
	add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	start_daemon(&b);
	put_many(&b, 10);
	drained(&b);
	slot.volume = b.disk[0].id;
	busy = simring_reserve(b.sim, &slot, &payload);
	memset(payload, 7, 512);
	memset(b.disk[0].oracle, 7, 512);
	put_many(&b, 200);
	usleep(200000);
	calls = simring_calls(b.sim);
	usleep(2000000);
	assert_in_range(simring_calls(b.sim) - calls, 0, 40);
	assert_true(simring_acked(b.sim) < busy);
	simring_commit(b.sim, busy, REPAGENT_SLOT_READY);
	drained(&b);
	stop_daemon(&b);
	compare_all(&b);
	finish(&b);
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
	begin(&b, "nbd+unix:///?socket=%s/s");
	b.cfg.control = in_dir(path, sizeof(path), "control");
	add_disk(&b, 0, "v0");
	b.server = nbdkit_ready("s", b.disk[0].image, NULL, NULL);
	start_daemon(&b);
	await_socket(path);
	if (!client_connect(&c, path, 10000, error))
		fail_msg("%s", error);
	json_object_put(call(&c, "subscribe", NULL));
	put_many(&b, 200);
	drained(&b);
	json_object_put(call(&c, "pause", NULL));
	assert_true(simring_wait_hub(b.sim, 0, REPAGENT_REASON_PAUSED, 10));
	acked = simring_acked(b.sim);
	put_many(&b, 100);
	json_object_put(call(&c, "query-status", NULL));
	assert_int_equal(simring_acked(b.sim), acked);
	json_object_put(call(&c, "resume", NULL));
	drained(&b);
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
	put_many(&b, 50);
	seq = number(call(&c, "shutdown", NULL), "shutdown");
	waitpid(b.daemon, &status, 0);
	b.daemon = 0;
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(simring_acked(b.sim), seq);
	compare_all(&b);
	client_close(&c);
	finish(&b);
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
	char command[96];
	int r;

	alarm(110);	/* rather an end than a test that hangs */
	snprintf(dir, sizeof(dir), "%s/mirror-XXXXXX",
		 getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 32 ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command))
		r = 1;
	return r;
}
