// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * abiprobe - what the character device must refuse, one test a promise of
 * Documentation/abi.md.  KTAP on stdout.
 *
 * The group has to be idle, first-synced by another consumer, and to have one
 * volume: the probe writes to its device to have records.  A write has to take
 * some time there, so that busy ones can be met.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libring.h"
#include "libtest.h"

static unsigned int tests, failures;
static struct ring ring;

static void result(bool good, const char *what)
{
	tests++;
	failures += !good;
	printf("%sok %u %s\n", good ? "" : "not ", tests, what);
	fflush(stdout);
}

/* @ret as of the lib (negative errno), @want likewise. */
static void expect(int ret, int want, const char *what)
{
	if (ret != want)
		printf("# %d (%s), expected %d (%s)\n", ret, strerror(ret < 0 ? -ret : 0), want,
		       strerror(want < 0 ? -want : 0));
	result(ret == want, what);
}

static int sys(int ret)
{
	return ret < 0 ? -errno : ret;
}

static int map_error(int prot, int flags, uint64_t size, off_t offset)
{
	void *p = mmap(NULL, size, prot, flags, ring.fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, size);
	return 0;
}

static void write_some(const char *device, unsigned int n)
{
	int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	void *buf;

	if (fd < 0 || posix_memalign(&buf, 4096, 4096))
		die("%s: %s", device, strerror(errno));
	memset(buf, 0x5a, 4096);
	for (unsigned int i = 0; i < n; i++)
		if (pwrite(fd, buf, 4096, (off_t)i * 4096) != 4096)
			die("%s: %s", device, strerror(errno));
	close(fd);
}

static void probe_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	expect(fd < 0 ? -errno : fd, -EBUSY, "a second opener gets EBUSY");
	if (fd >= 0)
		close(fd);
}

/* Who opens it to read is no consumer, and stands beside one. */
static void probe_looking(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), other = open(path, O_RDONLY | O_CLOEXEC);
	struct repagent_volume_info volume = { .index = 0 };
	struct repagent_dirty d = { .volume = 0 };
	struct repagent_wait wait = { 0 };
	struct repagent_emit emit = { 0 };
	struct repagent_hub hub = { 0 };
	struct repagent_ack ack = { 0 };
	struct repagent_info info;
	void *p;

	result(fd >= 0 && other >= 0, "two more can open it to read");
	close(other);
	expect(sys(ioctl(fd, REPAGENT_IOC_INFO, &info)), 0, "... and have INFO");
	result(!ioctl(fd, REPAGENT_IOC_VOLUME, &volume) && volume.id, "... and VOLUME");
	expect(sys(ioctl(fd, REPAGENT_IOC_HUB, &hub)), -EBADF, "... but not HUB");
	expect(sys(ioctl(fd, REPAGENT_IOC_ACK, &ack)), -EBADF, "... nor ACK");
	expect(sys(ioctl(fd, REPAGENT_IOC_WAIT, &wait)), -EBADF, "... nor WAIT");
	expect(sys(ioctl(fd, REPAGENT_IOC_EMIT, &emit)), -EBADF, "... nor EMIT");
	p = mmap(NULL, ring.map_size, PROT_READ, MAP_SHARED, fd, 0);
	result(p == MAP_FAILED && errno == EACCES, "... nor the ring");
	expect(sys(ioctl(fd, REPAGENT_IOC_DIRTY, &d)), -ENOENT, "DIRTY of no volume gets ENOENT");
	d.volume = volume.id;
	d.reserved = 1;
	expect(sys(ioctl(fd, REPAGENT_IOC_DIRTY, &d)), -EINVAL, "DIRTY with a reserved word gets EINVAL");
	d.reserved = 0;
	result(!ioctl(fd, REPAGENT_IOC_DIRTY, &d) && !d.nr && d.sector == volume.sectors,
	       "DIRTY of a clean volume tells nothing, to its end");
	d.sector = UINT64_MAX;
	result(!ioctl(fd, REPAGENT_IOC_DIRTY, &d) && !d.nr, "... and nothing beyond it");
	close(fd);
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_INFO, &info)), 0, "the consumer has not noticed");
	fd = open(path, O_RDWR | O_CLOEXEC);
	expect(fd < 0 ? -errno : fd, -EBUSY, "... and is still the only one");
}

static void probe_mapping(void)
{
	void *p;
	int ret;

	ret = map_error(PROT_READ | PROT_WRITE, MAP_SHARED, ring.map_size, 0);
	result(ret == -EACCES || ret == -EPERM, "a writable mapping is refused");
	ret = map_error(PROT_READ, MAP_PRIVATE, ring.map_size, 0);
	expect(ret, -EINVAL, "a private mapping gets EINVAL");
	expect(map_error(PROT_READ, MAP_SHARED, ring.map_size - 4096, 0), -EINVAL,
	       "a mapping that is too short gets EINVAL");
	expect(map_error(PROT_READ, MAP_SHARED, ring.map_size + 4096, 0), -EINVAL,
	       "a mapping that is too long gets EINVAL");
	expect(map_error(PROT_READ, MAP_SHARED, ring.map_size, 4096), -EINVAL,
	       "a mapping that does not begin at 0 gets EINVAL");

	p = mmap(NULL, ring.map_size, PROT_READ, MAP_SHARED, ring.fd, 0);
	if (p == MAP_FAILED) {
		result(false, "a second mapping of the opener is allowed");
		return;
	}
	ret = sys(mprotect(p, ring.map_size, PROT_READ | PROT_WRITE));
	result(ret == -EACCES || ret == -EPERM, "mprotect cannot make it writable");
	munmap(p, ring.map_size);
}

static void probe_fork(void)
{
	uint64_t value = ((const volatile struct repagent_ring_header *)ring.header)->magic;
	int status = 0;
	pid_t pid;

	if (value != REPAGENT_ABI_MAGIC)
		die("the magic is gone");
	pid = fork();
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		value = ((const volatile struct repagent_ring_header *)ring.header)->magic;
		_exit(value ? 1 : 2);
	}
	waitpid(pid, &status, 0);
	result(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS),
	       "a forked child does not have the mapping");
}

static void probe_double(void)
{
	/* The same page twice: what lies at 0 lies at payload_size too. */
	result(!memcmp(ring.payload, ring.payload + ring.payload_size, 65536),
	       "the payload is mapped twice in a row");
}

static void probe_info(void)
{
	struct repagent_volume_info v;
	struct repagent_info info;
	unsigned int n = 0;

	expect(ring_info(&ring, &info), 0, "INFO succeeds");
	result(info.abi_version == REPAGENT_ABI_VERSION && info.incarnation &&
	       info.incarnation == ring.header->incarnation && info.head == ring_head(&ring) &&
	       info.acked < info.head && info.committed < info.head,
	       "INFO agrees with the ring's header");
	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		n += !ring_volume(&ring, i, &v);
	result(n && n == info.nr_volumes, "VOLUME finds as many volumes as INFO says");
	expect(ring_volume(&ring, REPAGENT_MAX_VOLUMES - 1, &v), -ENOENT,
	       "VOLUME of an index without a volume gets ENOENT");
	expect(ring_volume(&ring, REPAGENT_MAX_VOLUMES, &v), -EINVAL,
	       "VOLUME of an index too large gets EINVAL");
	expect(ring_volume(&ring, UINT32_MAX, &v), -EINVAL,
	       "VOLUME of the largest index gets EINVAL");
}

static void probe_ioctl(void)
{
	expect(sys(ioctl(ring.fd, _IO('R', 0xff), 0)), -ENOTTY, "an unknown command gets ENOTTY");
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_INFO, NULL)), -EFAULT,
	       "INFO to no address gets EFAULT");
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_ACK, NULL)), -EFAULT,
	       "ACK from no address gets EFAULT");
}

static void probe_hub(void)
{
	struct repagent_hub hub = { .incarnation = ring.incarnation + 1, .connected = 1 };

	expect(sys(ioctl(ring.fd, REPAGENT_IOC_HUB, &hub)), -EINVAL,
	       "HUB with a foreign incarnation gets EINVAL");
	hub.incarnation = ring.incarnation;
	hub.connected = 0;
	hub.reason = REPAGENT_NR_REASONS;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_HUB, &hub)), -EINVAL,
	       "HUB with an unknown reason gets EINVAL");
	hub.reason = UINT32_MAX;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_HUB, &hub)), -EINVAL,
	       "HUB with the largest reason gets EINVAL");
	expect(ring_hub(&ring, true, REPAGENT_REASON_NONE), 0, "HUB(connected) succeeds");
}

static void probe_ack(const char *device)
{
	struct repagent_ack ack = { 0 };
	struct repagent_info info;
	uint64_t acked;

	write_some(device, 16);
	ring_info(&ring, &info);
	result(info.committed >= info.acked + 16, "there are unacknowledged records");
	acked = info.acked;

	ack.incarnation = ring.incarnation + 1;
	ack.seq = info.committed;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_ACK, &ack)), -EINVAL,
	       "ACK with a foreign incarnation gets EINVAL");
	ack.incarnation = 0;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_ACK, &ack)), -EINVAL,
	       "ACK with incarnation 0 gets EINVAL");
	expect(ring_ack(&ring, info.committed + 1), -EINVAL, "ACK beyond committed gets EINVAL");
	expect(ring_ack(&ring, UINT64_MAX), -EINVAL, "ACK of the largest number gets EINVAL");
	if (acked)
		expect(ring_ack(&ring, acked - 1), -EINVAL, "ACK backwards gets EINVAL");
	ring_info(&ring, &info);
	result(info.acked == acked, "refused ACKs change nothing");

	expect(ring_ack(&ring, acked + 8), 0, "ACK of a part succeeds");
	ring_info(&ring, &info);
	result(info.acked == acked + 8, "... and INFO says so");
	expect(ring_ack(&ring, acked + 7), -EINVAL, "ACK backwards gets EINVAL, by one");
	expect(ring_ack(&ring, info.committed), 0, "ACK of all succeeds");
	ring_info(&ring, &info);
	result(info.acked == info.committed && !info.payload_used,
	       "with all acknowledged the ring is empty");
}

/* A write that is on its way has a number, but no record yet. */
static void probe_ack_busy(const char *device)
{
	struct repagent_info info;
	bool met = false;
	pid_t pid;
	int ret = 0;

	pid = fork();
	if (!pid) {
		write_some(device, 20);
		_exit(0);
	}
	for (int i = 0; i < 5000 && !met; i++) {
		ring_info(&ring, &info);
		if (info.head > info.committed + 1) {
			ret = ring_ack(&ring, info.head - 1);
			/* Only if it was busy all the time. */
			met = ring_commit(&ring, info.head - 1) ==
			      REPAGENT_SLOT_WORD(info.head - 1, REPAGENT_SLOT_BUSY);
		} else {
			usleep(1000);
		}
	}
	waitpid(pid, NULL, 0);
	result(met, "there is a busy record");
	expect(ret, -EINVAL, "ACK of a busy record gets EINVAL");
	ring_info(&ring, &info);
	ring_ack(&ring, info.committed);
}

static void probe_wait(const char *device)
{
	struct pollfd pfd = { .fd = ring.fd, .events = POLLIN | POLLPRI };
	struct repagent_wait wait = { 0 };
	struct repagent_info info;
	int ret;

	ring_info(&ring, &info);
	wait.seq = info.head;
	wait.events = info.events;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_WAIT, &wait)), 0, "WAIT for what is not there is 0");
	expect(poll(&pfd, 1, 100), 0, "... and poll() waits");
	write_some(device, 1);
	ret = poll(&pfd, 1, 5000);
	result(ret == 1 && (pfd.revents & POLLIN), "... until the record is there");
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_WAIT, &wait)), 1, "WAIT for what is there is 1");

	wait.seq = info.head + 4;
	ioctl(ring.fd, REPAGENT_IOC_WAIT, &wait);
	write_some(device, 1);
	expect(poll(&pfd, 1, 100), 0, "poll() waits for a record further ahead");
	write_some(device, 4);
	ret = poll(&pfd, 1, 5000);
	result(ret == 1 && (pfd.revents & POLLIN), "... until that one is there");

	ring_info(&ring, &info);
	wait.seq = info.head + 1000;
	wait.events = info.events;
	ioctl(ring.fd, REPAGENT_IOC_WAIT, &wait);
	ring_hub(&ring, false, REPAGENT_REASON_PAUSED);
	ret = poll(&pfd, 1, 5000);
	result(ret == 1 && (pfd.revents & POLLPRI), "a change of state wakes poll() with POLLPRI");
	ring_info(&ring, &info);
	result(info.capture == REPAGENT_CAPTURE_TRACK && info.reason == REPAGENT_REASON_PAUSED,
	       "HUB(paused) stops capture at once");
	result(info.events != wait.events, "... and is counted as an event");
}

static void probe_emit(void)
{
	struct repagent_emit emit = { .type = REPAGENT_REC_CHECKPOINT, .label = "x" };
	struct repagent_info info;

	/* Paused by probe_wait(): nothing can be emitted. */
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EAGAIN,
	       "EMIT while not streaming gets EAGAIN");

	ring_info(&ring, &info);
	ring_ack(&ring, info.committed);
	ring_hub(&ring, true, REPAGENT_REASON_NONE);
	for (int i = 0; i < 400; i++) {
		ring_info(&ring, &info);
		if (info.capture == REPAGENT_CAPTURE_STREAM)
			break;
		if (info.committed > info.acked)
			ring_ack(&ring, info.committed);
		usleep(25000);
	}
	result(info.capture == REPAGENT_CAPTURE_STREAM, "HUB(connected) brings capture back");

	emit.type = REPAGENT_REC_WRITE;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL, "EMIT of a WRITE gets EINVAL");
	emit.type = 0;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL, "EMIT of type 0 gets EINVAL");
	emit.type = REPAGENT_NR_TYPES;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL,
	       "EMIT of an unknown type gets EINVAL");
	emit.type = REPAGENT_REC_CHECKPOINT;
	memset(emit.label, 'x', sizeof(emit.label));
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL,
	       "EMIT of a label without its NUL gets EINVAL");
	emit.type = REPAGENT_REC_VERIFY;
	emit.volume = 0xfffe;
	emit.nr_sectors = 8;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -ENOENT,
	       "EMIT of a VERIFY of no volume gets ENOENT");
}

static void probe_verify(void)
{
	struct repagent_emit emit = { .type = REPAGENT_REC_VERIFY };
	struct repagent_volume_info v = { 0 };
	struct repagent_info info;
	bool found = false;
	uint64_t first;

	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (!ring_volume(&ring, i, &v))
			break;
	emit.volume = v.id;
	emit.sector = v.sectors - 4;
	emit.nr_sectors = 8;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL,
	       "EMIT of a VERIFY behind the end gets EINVAL");
	emit.sector = UINT64_MAX - 3;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL,
	       "EMIT of a VERIFY whose end overflows gets EINVAL");
	emit.sector = 0;
	emit.nr_sectors = 0;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL,
	       "EMIT of an empty VERIFY gets EINVAL");
	emit.nr_sectors = REPAGENT_MAX_RECORD / SECTOR + 1;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), -EINVAL,
	       "EMIT of a VERIFY too long gets EINVAL");

	ring_info(&ring, &info);
	first = info.head;
	emit.nr_sectors = 8;
	expect(sys(ioctl(ring.fd, REPAGENT_IOC_EMIT, &emit)), 0, "EMIT of a VERIFY succeeds");
	for (int i = 0; i < 200 && !found; i++) {
		ring_info(&ring, &info);
		for (uint64_t seq = first; seq <= info.committed && !found; seq++) {
			const struct repagent_slot *s = ring_slot(&ring, seq);

			if (ring_commit(&ring, seq) !=
			    REPAGENT_SLOT_WORD(seq, REPAGENT_SLOT_READY) ||
			    s->type != REPAGENT_REC_VERIFY)
				continue;
			found = s->volume == v.id && !s->sector && s->nr_sectors == 8 &&
				s->len == 8 * SECTOR && ring.payload[s->pos] == 0x5a;
		}
		if (!found)
			usleep(25000);
	}
	result(found, "... and its record has what the disk has");
	ring_info(&ring, &info);
	ring_ack(&ring, info.committed);
}

int main(int argc, char **argv)
{
	char path[128];

	if (argc != 3)
		die("usage: abiprobe GROUP DEVICE");
	snprintf(path, sizeof(path), "/dev/repagent/%s", argv[1]);
	ring_must_open(&ring, argv[1]);

	printf("TAP version 13\n");
	probe_open(path);
	probe_looking(path);
	probe_mapping();
	probe_fork();
	probe_double();
	probe_info();
	probe_ioctl();
	probe_hub();
	probe_ack(argv[2]);
	probe_ack_busy(argv[2]);
	probe_wait(argv[2]);
	probe_emit();
	probe_verify();
	ring_close(&ring);
	printf("1..%u\n", tests);
	return failures ? EXIT_BAD : EXIT_GOOD;
}
