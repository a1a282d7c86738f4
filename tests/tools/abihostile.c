// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * abihostile - a daemon that means harm.  It holds a group's character device
 * and does to it whatever a process can, while somebody else writes to the
 * volumes: every command with every wrong size, extreme values in every field,
 * writes into the mapping past its protection, children that go on with it,
 * threads that wait while others close.
 *
 * It only never acknowledges what it should not: a hub that claims to have what
 * it has not is beyond what a kernel could notice.  So a good daemon can go on
 * afterwards.
 *
 * KTAP on stdout; exit status 1 if the device put up with anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libring.h"
#include "libtest.h"

#define FUZZ_CALLS	6000u
#define CLOSE_ROUNDS	60u

static unsigned int tests, failures;
static struct ring ring;
static struct rng rng;
static const char *group;

static bool result(bool good, const char *what)
{
	tests++;
	failures += !good;
	printf("%sok %u %s\n", good ? "" : "not ", tests, what);
	fflush(stdout);
	return good;
}

static void expect(int ret, int want, const char *what)
{
	if (!result(ret == want, what))
		printf("# %d (%s), expected %d (%s)\n", ret, strerror(ret < 0 ? -ret : 0), want,
		       strerror(want < 0 ? -want : 0));
}

static int call(unsigned long cmd, void *arg)
{
	int ret = ioctl(ring.fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static const unsigned long commands[] = {
	REPAGENT_IOC_INFO, REPAGENT_IOC_VOLUME, REPAGENT_IOC_HUB,
	REPAGENT_IOC_ACK, REPAGENT_IOC_WAIT, REPAGENT_IOC_EMIT,
	REPAGENT_IOC_DIRTY,
};

static bool is_command(unsigned long cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i] == cmd)
			return true;
	return false;
}

/* Each number with each size, in each direction; and the letters beside ours. */
static void probe_commands(void)
{
	static uint8_t buf[1 << _IOC_SIZEBITS];
	unsigned int wrong = 0, tried = 0;

	for (unsigned int dir = 0; dir < 4; dir++)
		for (unsigned int nr = 0; nr < 256; nr++)
			for (unsigned int k = 0; k < 24; k++) {
				static const int off[] = { -64, -8, -4, -1, 0, 1, 4, 8, 64 };
				unsigned long cmd;
				unsigned int size;

				if (nr >= 0xd0 && nr < 0xd0 + ARRAY_SIZE(commands) && k < ARRAY_SIZE(off))
					size = _IOC_SIZE(commands[nr - 0xd0]) + (unsigned int)off[k];
				else
					size = k < 12 ? k * 4 : (1u << (k - 10)) - 1;
				cmd = _IOC(dir, k == 23 ? 'Q' : 'R', nr, size & _IOC_SIZEMASK);
				if (is_command(cmd))
					continue;
				tried++;
				/* FIONREAD and its like are the kernel's own; ours begin at 0xd0. */
				if (nr >= 0xd0 && call(cmd, buf) != -ENOTTY) {
					printf("# command %#lx: %s\n", cmd, strerror(errno));
					wrong++;
				}
			}
	result(tried > 20000 && !wrong, "every command of another size, direction or number gets ENOTTY");
	expect(call(0, NULL), -ENOTTY, "command 0 gets ENOTTY");
	expect(call(UINT32_MAX, NULL), -ENOTTY, "the largest command gets ENOTTY");
}

static void probe_addresses(void)
{
	static const uintptr_t bad[] = { 0, 1, 4095, UINTPTR_MAX, UINTPTR_MAX - 7,
					 (uintptr_t)1 << 63, ((uintptr_t)1 << 47) - 8 };
	uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int wrong = 0;

	if (page == MAP_FAILED || munmap(page + 4096, 4096))
		die("mmap: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
			wrong += call(commands[i], (void *)bad[k]) != -EFAULT;
		/* The last byte is beyond the end of what is mapped; all zeroes but for it. */
		wrong += call(commands[i], page + 4096 - _IOC_SIZE(commands[i]) + 1) != -EFAULT;
		/* Into the ring, which cannot be written; out of it, whose words are no command. */
		if (_IOC_DIR(commands[i]) & _IOC_READ)
			wrong += call(commands[i], (void *)(uintptr_t)ring.map) >= 0;
	}
	result(!wrong, "every command gets EFAULT for addresses that are none of ours");
	munmap(page, 4096);
}

static uint64_t extreme(void)
{
	static const uint64_t values[] = {
		0, 1, 2, 3, 7, 8, 255, 511, 512, 513, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x10000,
		INT32_MAX, (uint64_t)INT32_MAX + 1, UINT32_MAX, (uint64_t)UINT32_MAX + 1,
		INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 1, UINT64_MAX,
	};
	uint64_t v = values[rng_below(&rng, ARRAY_SIZE(values))];

	switch (rng_below(&rng, 6)) {
	case 0:
		return rng_next(&rng);
	case 1:
		return (uint64_t)1 << rng_below(&rng, 64);
	default:
		return v;
	}
}

/* Returns whether the answer is one that Documentation/abi.md knows. */
static bool fuzz_one(struct repagent_info *info)
{
	struct repagent_volume_info v;
	struct repagent_wait wait;
	struct repagent_emit emit;
	struct repagent_hub hub;
	struct repagent_ack ack;
	int ret;

	switch (rng_below(&rng, 6)) {
	case 0:
		ret = ring_info(&ring, info);
		return !ret && info->incarnation == ring.incarnation && info->acked < info->head &&
		       info->committed < info->head && info->payload_used <= info->payload_size;
	case 1:
		rng_fill(&rng, &v, sizeof(v));
		v.index = (uint32_t)extreme();
		ret = call(REPAGENT_IOC_VOLUME, &v);
		return ret == (v.index >= REPAGENT_MAX_VOLUMES ? -EINVAL : v.index ? -ENOENT : 0);
	case 2:
		hub.incarnation = rng_below(&rng, 4) ? ring.incarnation : extreme();
		hub.connected = (uint32_t)extreme();
		hub.reason = (uint32_t)extreme();
		ret = call(REPAGENT_IOC_HUB, &hub);
		if (hub.incarnation != ring.incarnation || hub.connected > 1 ||
		    hub.reason >= REPAGENT_NR_REASONS || (hub.connected && hub.reason))
			return ret == -EINVAL;
		return !ret || ret == -EINVAL;
	case 3:
		/* Never what would be accepted as progress. */
		if (ring_info(&ring, info))
			return false;
		ack.incarnation = rng_below(&rng, 2) ? ring.incarnation : extreme();
		ack.seq = extreme();
		if (ack.incarnation == ring.incarnation && ack.seq >= info->acked &&
		    ack.seq < info->head + (1u << 24))
			ack.seq = UINT64_MAX - ack.seq;
		ret = call(REPAGENT_IOC_ACK, &ack);
		return ret == -EINVAL;
	case 4:
		wait.seq = extreme();
		wait.events = extreme();
		ret = call(REPAGENT_IOC_WAIT, &wait);
		return ret == 0 || ret == 1;
	default:
		rng_fill(&rng, &emit, sizeof(emit));
		emit.type = (uint16_t)(rng_below(&rng, 3) ? REPAGENT_REC_VERIFY : extreme());
		emit.volume = (uint16_t)(rng_below(&rng, 2) ? 1 : extreme());
		emit.reserved = (uint32_t)(rng_below(&rng, 2) ? 0 : extreme());
		emit.sector = extreme();
		emit.nr_sectors = extreme();
		if (rng_below(&rng, 2))
			emit.label[rng_below(&rng, sizeof(emit.label))] = '\0';
		ret = call(REPAGENT_IOC_EMIT, &emit);
		if (emit.reserved)
			return ret == -EINVAL;
		return ret == 0 || ret == -EINVAL || ret == -EAGAIN || ret == -ENOSPC ||
		       ret == -ENOENT;
	}
}

static void probe_values(void)
{
	struct repagent_info before, info;
	unsigned int wrong = 0;

	if (ring_info(&ring, &before))
		die("INFO: %s", strerror(errno));
	for (unsigned int i = 0; i < FUZZ_CALLS; i++)
		wrong += !fuzz_one(&info);
	if (ring_info(&ring, &info))
		die("INFO: %s", strerror(errno));
	result(!wrong, "extreme values in every field get the errors that are documented");
	if (wrong)
		printf("# %u of %u calls did not\n", wrong, FUZZ_CALLS);
	result(info.acked == before.acked, "... and acknowledge nothing");
	/* As it was: the hub takes the stream, nothing is waited for. */
	expect(ring_hub(&ring, true, REPAGENT_REASON_NONE), 0, "HUB(connected) succeeds afterwards");
}

static void probe_reserved(void)
{
	struct repagent_emit emit = { .type = REPAGENT_REC_CHECKPOINT, .reserved = 1, .label = "x" };

	expect(call(REPAGENT_IOC_EMIT, &emit), -EINVAL, "EMIT with a reserved word that is not 0 gets EINVAL");
	emit.reserved = 1u << 31;
	expect(call(REPAGENT_IOC_EMIT, &emit), -EINVAL, "... whatever its bit");
}

/* The mapping cannot be written to, by whatever way. */
static void probe_writes(void)
{
	uint64_t *word = (uint64_t *)(uintptr_t)(ring.payload + ring.payload_size / 2), was = *word;
	uint64_t evil = ~was;
	struct iovec from = { &evil, sizeof(evil) }, to = { word, sizeof(evil) };
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC), fd;
	ssize_t n;

	if (mem < 0)
		die("/proc/self/mem: %s", strerror(errno));
	n = pwrite(mem, &evil, sizeof(evil), (off_t)(uintptr_t)word);
	result(n < 0, "/proc/self/mem does not write into the ring");
	close(mem);
	n = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	result(n < 0, "process_vm_writev() does not write into the ring");
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	n = read(fd, word, sizeof(*word));
	result(n < 0 && errno == EFAULT, "read() does not write into the ring");
	close(fd);
	result(mprotect((void *)(uintptr_t)ring.map, ring.map_size, PROT_READ | PROT_WRITE) &&
	       (errno == EACCES || errno == EPERM), "mprotect() does not make it writable");
	result(mprotect((void *)(uintptr_t)ring.map, 4096, PROT_READ | PROT_EXEC) &&
	       (errno == EACCES || errno == EPERM), "... nor executable");
	result(mmap(NULL, ring.map_size, PROT_READ | PROT_EXEC, MAP_SHARED, ring.fd, 0) == MAP_FAILED,
	       "it cannot be mapped executable");
	result(mmap(NULL, ring.map_size, PROT_WRITE, MAP_SHARED, ring.fd, 0) == MAP_FAILED,
	       "... nor for writing only");
	result(mmap(NULL, ring.map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, ring.fd, 0) == MAP_FAILED,
	       "... nor as a copy that can be written");
	result(write(ring.fd, &evil, sizeof(evil)) < 0 && pwrite(ring.fd, &evil, 8, 0) < 0,
	       "write() to the device fails");
	result(read(ring.fd, &evil, sizeof(evil)) < 0, "read() from the device fails");
	result(ftruncate(ring.fd, 0) < 0, "ftruncate() of the device fails");
	result(*word == was, "the ring still holds what it held");
}

static void probe_remap(void)
{
	const volatile struct repagent_ring_header *h;
	uint8_t *p = mmap(NULL, ring.map_size, PROT_READ, MAP_SHARED, ring.fd, 0), *moved;

	if (p == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	result(mremap(p, ring.map_size, ring.map_size + 4096, MREMAP_MAYMOVE) == MAP_FAILED,
	       "mremap() does not make the mapping larger");
	result(mremap(p, 0, ring.map_size, MREMAP_MAYMOVE) == MAP_FAILED,
	       "mremap() does not make another of it");
	moved = mremap(p, ring.map_size, ring.map_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (void *)((uintptr_t)0x200000000000));
	if (moved != MAP_FAILED)
		p = moved;
	h = (const volatile struct repagent_ring_header *)p;
	result(h->magic == REPAGENT_ABI_MAGIC && h->incarnation == ring.incarnation,
	       "a mapping that was moved is still the ring");
	/* Holes, a piece at a time, in no order. */
	munmap(p + 4096, 4096);
	munmap(p + ring.map_size - 8192, 8192);
	result(h->magic == REPAGENT_ABI_MAGIC, "a mapping with holes still begins with the ring");
	munmap(p, ring.map_size);
	for (unsigned int i = 1; i < 9; i++) {
		uint64_t size = i < 8 ? ring.map_size >> i : 4096;

		p = mmap(NULL, size, PROT_READ, MAP_SHARED, ring.fd, 0);
		if (p != MAP_FAILED) {
			result(false, "a mapping of another size is refused");
			return;
		}
	}
	result(true, "mappings of other sizes are refused");
}

/* A child goes on with device and mapping; the parent's end is not the group's. */
static void probe_fork(void)
{
	struct repagent_info info;
	int status = 0, fd, gate[2];
	char path[128], c;
	pid_t pid;

	snprintf(path, sizeof(path), "/dev/repagent/%s", group);
	if (pipe(gate))
		die("pipe: %s", strerror(errno));
	/* The mapping is not for children; whoever insists gets it, read-only as ever. */
	madvise((void *)(uintptr_t)ring.map, ring.map_size, MADV_DOFORK);
	pid = fork();
	if (!pid) {
		close(gate[1]);
		if (read(gate[0], &c, 1) != 0)
			_exit(10);
		/* By now the parent has closed its own. */
		if (ring_info(&ring, &info) || info.incarnation != ring.incarnation)
			_exit(11);
		if (open(path, O_RDWR | O_CLOEXEC) >= 0 || errno != EBUSY)
			_exit(12);
		_exit(0);
	}
	close(gate[0]);
	ring_close(&ring);
	fd = open(path, O_RDWR | O_CLOEXEC);
	expect(fd < 0 ? -errno : fd, -EBUSY, "the group is taken as long as a child has it");
	close(gate[1]);
	waitpid(pid, &status, 0);
	result(WIFEXITED(status) && !WEXITSTATUS(status), "the child can go on with it");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		printf("# its status: %#x\n", (unsigned int)status);
	ring_must_open(&ring, group);
	result(true, "when it ends the group is free");
}

struct waiter {
	pthread_t id;
	int fd;
	atomic_bool stop;
	atomic_uint calls;
	atomic_int bad;
};

static void *wait_on(void *arg)
{
	struct waiter *w = arg;
	struct rng r;

	rng_seed(&r, (uintptr_t)w);
	while (!atomic_load(&w->stop)) {
		struct repagent_wait wait = { .seq = rng_next(&r) >> rng_below(&r, 64) };
		struct pollfd pfd = { .fd = w->fd, .events = POLLIN | POLLPRI };

		/* The device may be closed meanwhile, or be another one: the same again. */
		if (ioctl(w->fd, REPAGENT_IOC_WAIT, &wait) < 0 && errno != EBADF && errno != ENOTTY)
			atomic_store(&w->bad, errno);
		poll(&pfd, 1, 1);
		atomic_fetch_add(&w->calls, 1);
	}
	return NULL;
}

/* Two threads wait, the third closes and opens again under their hands. */
static void probe_close(void)
{
	struct waiter w[2] = { 0 };
	unsigned int opened = 0;

	for (int i = 0; i < 2; i++) {
		w[i].fd = ring.fd;
		if (pthread_create(&w[i].id, NULL, wait_on, &w[i]))
			die("cannot start a thread");
	}
	for (unsigned int i = 0; i < CLOSE_ROUNDS; i++) {
		const char *what;
		uint64_t end = now_ns() + 10000000000u;
		int ret;

		usleep((useconds_t)rng_below(&rng, 3000));
		ring_close(&ring);
		/* A poll() that is under way keeps it open a moment longer. */
		while ((ret = ring_open(&ring, group, &what)) == -EBUSY && now_ns() < end)
			usleep(100);
		if (ret)
			die("%s: %s: %s", group, what, strerror(-ret));
		ring_hub(&ring, true, REPAGENT_REASON_NONE);
		opened += w[0].fd == ring.fd;
	}
	for (int i = 0; i < 2; i++) {
		atomic_store(&w[i].stop, true);
		pthread_join(w[i].id, NULL);
	}
	result(!w[0].bad && !w[1].bad && w[0].calls > CLOSE_ROUNDS && w[1].calls > CLOSE_ROUNDS,
	       "two threads wait while a third one closes and opens");
	printf("# %u and %u times; %u of %u under the same number\n", w[0].calls, w[1].calls,
	       opened, CLOSE_ROUNDS);
}

/* Killed with records read and not acknowledged, waiting, in the middle of the stream. */
static void probe_kill(void)
{
	unsigned int killed = 0;

	ring_close(&ring);
	for (unsigned int i = 0; i < 10; i++) {
		int status = 0;
		pid_t pid = fork();

		if (!pid) {
			ring_must_open(&ring, group);
			for (;;)
				ring_wait(&ring, UINT64_MAX, 0, 1);
		}
		usleep(2000 + (useconds_t)rng_below(&rng, 10000));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		killed += WIFSIGNALED(status);
	}
	ring_must_open(&ring, group);
	result(killed == 10, "ten that are killed leave the group to the next");
}

int main(int argc, char **argv)
{
	struct repagent_info info;

	if (argc != 3)
		die("usage: abihostile SEED GROUP");
	rng_seed(&rng, parse_number(argv[1]));
	group = argv[2];
	ring_must_open(&ring, group);
	if (ring_hub(&ring, true, REPAGENT_REASON_NONE))
		die("HUB: %s", strerror(errno));

	printf("TAP version 13\n");
	probe_commands();
	probe_addresses();
	probe_reserved();
	probe_writes();
	probe_remap();
	probe_values();
	probe_fork();
	probe_close();
	probe_kill();
	expect(ring_info(&ring, &info), 0, "INFO succeeds to the end");
	ring_close(&ring);
	printf("1..%u\n", tests);
	return failures ? EXIT_BAD : EXIT_GOOD;
}
