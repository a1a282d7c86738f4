// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <libnbd.h>
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
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/common/log.h"
#include "../../userspace/common/parse.h"
#include "../../userspace/repagentd/daemon.h"
#include "simbench.h"

char bench_dir[64];

/**
 * bench_path - the path of a file in the test's folder
 * @buf, @size: for the result
 * @name: of the file
 */
char *bench_path(char *buf, size_t size, const char *name)
{
	snprintf(buf, size, "%s/%s", bench_dir, name);
	return buf;
}

/**
 * bench_run - start a program, that ends with the test
 * @argv: it and its arguments
 */
pid_t bench_run(char *const argv[])
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

/**
 * bench_end - end a process, and wait for that
 * @pid: it; 0 afterwards, or none
 * @signo: how
 */
void bench_end(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	if (kill(-*pid, signo) < 0)
		kill(*pid, signo);	/* the daemon is no group of its own */
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

/**
 * bench_listens - does somebody listen?
 * @path: of the socket
 */
bool bench_listens(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, r;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	close(fd);
	return !r;
}

/**
 * bench_await - wait until somebody listens
 * @path: of the socket
 */
void bench_await(const char *path)
{
	int i;

	for (i = 0; i < 1000 && !bench_listens(path); i++)
		usleep(10000);
	assert_true(bench_listens(path));
}

/**
 * bench_image - make a file of zeroes
 * @path: its path
 * @size: bytes
 */
void bench_image(const char *path, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/**
 * bench_start - start the daemon
 * @b: the bench
 */
void bench_start(struct bench *b)
{
	sigset_t set;
	enum daemon_end e;

	b->daemon = fork();
	assert_true(b->daemon >= 0);
	if (b->daemon)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* What cmocka does about them would have a daemon that crashed go on with the tests. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	signal(SIGILL, SIG_DFL);
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
	_exit(e == DAEMON_STOPPED ? 0 : e == DAEMON_SHUT_DOWN ? 3 : 1);
}

/**
 * bench_stop - SIGTERM must drain, and end well
 * @b: the bench
 */
void bench_stop(struct bench *b)
{
	int status;

	kill(b->daemon, SIGTERM);
	waitpid(b->daemon, &status, 0);
	b->daemon = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/**
 * bench_add_disk - add a volume and its image
 * @b: the bench
 * @i: its index there
 * @name: its name
 */
void bench_add_disk(struct bench *b, int i, const char *name)
{
	char file[32];

	snprintf(file, sizeof(file), "%s.img", name);
	bench_path(b->disk[i].image, sizeof(b->disk[i].image), file);
	bench_image(b->disk[i].image, VOLUME_SIZE);
	b->disk[i].oracle = mmap(NULL, VOLUME_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(b->disk[i].oracle, MAP_FAILED);
	b->disk[i].name = name;
	b->disk[i].id = simring_add_volume(b->sim, name, VOLUME_SIZE);
	simring_set_disk(b->sim, b->disk[i].id, b->disk[i].oracle);
}

/**
 * bench_begin - make a ring and the daemon's configuration
 * @b: the bench
 * @uri: of the tap; %s is the test's folder
 */
void bench_begin(struct bench *b, const char *uri)
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
	snprintf(b->uri, sizeof(b->uri), uri, bench_dir);
	assert_true(uri_add_tap(&b->cfg.taps, b->uri, error));
	b->seed = getenv("SEED") ? (unsigned int)atoi(getenv("SEED")) : (unsigned int)time(NULL);
	print_message("seed %u\n", b->seed);
}

/**
 * bench_finish - end what runs, and free all
 * @b: the bench
 */
void bench_finish(struct bench *b)
{
	int i;

	bench_end(&b->daemon, SIGKILL);
	bench_end(&b->server, SIGKILL);
	for (i = 0; i < 2; i++)
		if (b->disk[i].oracle)
			munmap(b->disk[i].oracle, VOLUME_SIZE);
	simring_free(b->sim);
}

/**
 * bench_fill - random bytes
 * @b: the bench
 * @p, @len: where
 */
void bench_fill(struct bench *b, unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i + 4 <= len; i += 4) {
		uint32_t v = (uint32_t)rand_r(&b->seed) * 2654435761u;

		memcpy(p + i, &v, 4);
	}
}

/**
 * bench_put_one - put a random record into the ring, and into the oracle
 * @b: the bench
 * @i: index of the volume
 * @discards: some may be, which are written over at once
 *
 * Small and large, zeroes and data, and most of it in a small part of the disk
 * so that overlaps abound.
 */
void bench_put_one(struct bench *b, int i, bool discards)
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
		bench_fill(b, data, len);
		memcpy(d->oracle + start, data, len);
		simring_put(b->sim, REPAGENT_REC_WRITE, d->id, start, len, data);
	} else if (what < 80) {
		/* Nothing but zeroes is taken specially; nothing else may be. */
		memset(data, 0, len);
		if (what < 74)
			bench_fill(b, data, len);
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
		bench_fill(b, data, len);
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

/**
 * bench_put - put random records
 * @b: the bench
 * @n: how many
 */
void bench_put(struct bench *b, unsigned int n)
{
	while (n--)
		bench_put_one(b, b->disk[1].id ? rand_r(&b->seed) % 2 : 0, true);
}

/**
 * bench_drained - wait until all that was put is acknowledged
 * @b: the bench
 */
void bench_drained(struct bench *b)
{
	if (!simring_wait_acked(b->sim, simring_head(b->sim) - 1, 60))
		fail_msg("record %lu of %lu is acknowledged", simring_acked(b->sim),
			 simring_head(b->sim) - 1);
}

/**
 * bench_view_is - a rephub at the test's folder shows a volume as it has to be, at the latest point
 * @b: the bench
 * @i: index of the volume
 */
void bench_view_is(struct bench *b, int i)
{
	struct nbd_handle *nbd = nbd_create();
	unsigned char *buf = malloc(VOLUME_SIZE);
	const struct disk *d = &b->disk[i];
	char uri[256];
	uint64_t n;

	snprintf(uri, sizeof(uri), "nbd+unix:///view/sim/%s@latest?socket=%s/hub", d->name, bench_dir);
	if (nbd_connect_uri(nbd, uri) < 0)
		fail_msg("%s: %s", uri, nbd_get_error());
	assert_int_equal(nbd_get_size(nbd), VOLUME_SIZE);
	assert_int_equal(nbd_pread(nbd, buf, VOLUME_SIZE, 0, 0), 0);
	for (n = 0; n < VOLUME_SIZE; n++)
		if (buf[n] != d->oracle[n])
			fail_msg("%s differs at byte %lu", d->name, n);
	nbd_close(nbd);
	free(buf);
}

/**
 * bench_beside - what was built beside the program that runs
 * @path, @size: for its path
 * @name: from the program's folder
 *
 * Return: whether it is there.
 */
bool bench_beside(char *path, size_t size, const char *name)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);

	path[n > 0 ? n : 0] = '\0';
	if (!strrchr(path, '/'))
		return false;
	*strrchr(path, '/') = '\0';
	if (strlen(path) + strlen(name) + 2 > size)
		return false;
	strcat(path, "/");
	strcat(path, name);
	return !access(path, R_OK);
}

/**
 * bench_open - have a folder for the tests of a program, and an end if they hang
 * @name: of the program
 *
 * The environment says which tests (ONLY=glob).  Return: false without a folder.
 */
bool bench_open(const char *name)
{
	alarm(110);
	snprintf(bench_dir, sizeof(bench_dir), "%s/%s-XXXXXX",
		 getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 32 ? getenv("TMPDIR") : "/tmp", name);
	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return mkdtemp(bench_dir);
}

/**
 * bench_close - take the folder away
 *
 * Return: whether that went well.
 */
bool bench_close(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", bench_dir);
	return !system(command);
}
