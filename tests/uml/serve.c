// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve.h"

#define MAX_SERVED	8u
#define SERVED_FLAGS	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | WRITE_ZEROES_FLAG)

/* Not in the headers of older systems; the protocol's numbers. */
#define WRITE_ZEROES_FLAG	(1 << 6)
#define COMMAND_FUA		(1u << 16)
enum { COMMAND_READ, COMMAND_WRITE, COMMAND_DISCONNECT, COMMAND_FLUSH, COMMAND_TRIM, COMMAND_ZEROES = 6 };

struct request {
	struct request *next;
	uint64_t due;
	char handle[8];
	unsigned int command;
	bool fua;
	uint64_t sector, nr;
	struct disk_flush *flush;
	uint8_t data[];		/* of COMMAND_WRITE */
};

pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;

static struct served *all;
static unsigned int nr_all;
static struct rng rng;		/* world */
static atomic_bool cut;
static uint64_t digest;		/* world */

static void note(uint64_t word)
{
	digest = (digest ^ word) * 0x100000001b3u;
	digest ^= digest >> 29;
}

static void write_fd(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0)
			die("nbd: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
}

static void read_fd(int fd, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n <= 0)
			die("nbd: %s", n ? strerror(errno) : "the kernel has hung up");
		p += n;
		len -= (size_t)n;
	}
}

static void answer(struct served *s, struct request *r, unsigned int error)
{
	struct nbd_reply reply = { .magic = htobe32(NBD_REPLY_MAGIC), .error = htobe32(error) };

	memcpy(&reply.handle, r->handle, sizeof(r->handle));
	write_fd(s->fd, &reply, sizeof(reply));
	if (r->command == COMMAND_READ && !error)
		write_fd(s->fd, s->disk->now + r->sector * SECTOR, r->nr * SECTOR);
	free(r);
}

static const void *data_of(const struct request *r)
{
	return r->command == COMMAND_WRITE ? r->data : NULL;
}

static bool is_write(const struct request *r)
{
	return r->command == COMMAND_WRITE || r->command == COMMAND_ZEROES;
}

/* The power fails while this request, and all that are queued, are on their way. */
static void cut_power(struct served *at, struct request *r)
{
	atomic_store(&cut, true);
	if (r && is_write(r))
		disk_write_some(at->disk, r->sector, r->nr, data_of(r), &rng);
	for (struct served *s = all; s < all + nr_all; s++) {
		struct request *q;

		for (q = s->queue; q; q = q->next)
			if (is_write(q))
				disk_write_some(s->disk, q->sector, q->nr, data_of(q), &rng);
		disk_lose_power(s->disk, &rng);
		while ((q = s->queue)) {
			s->queue = q->next;
			free(q->flush);
			answer(s, q, EIO);
		}
		s->cut_after = 0;
	}
}

void serve_cut(void)
{
	if (!atomic_load(&cut))
		cut_power(NULL, NULL);
}

bool serve_is_cut(void)
{
	return atomic_load(&cut);
}

static unsigned int do_write(struct served *s, struct request *r)
{
	bool fails = rng_below(&rng, 1000) < s->write_fails;

	if (s->cut_after && !--s->cut_after) {
		/* When it was done but not answered, or when it was not done, or half. */
		if (rng_below(&rng, 3))
			cut_power(s, r);
		else {
			disk_write(s->disk, r->sector, r->nr, data_of(r), r->fua);
			cut_power(NULL, NULL);
		}
		return EIO;
	}
	if (fails) {
		disk_write_some(s->disk, r->sector, r->nr, data_of(r), &rng);
		s->failed_writes++;
	} else {
		disk_write(s->disk, r->sector, r->nr, data_of(r), r->fua);
		if (!rng_below(&rng, 8))
			disk_destage(s->disk, r->sector + rng_below(&rng, r->nr));
	}
	if (s->wrote)
		s->wrote(s, r->sector, r->nr, data_of(r), fails);
	return fails ? EIO : 0;
}

static unsigned int do_flush(struct served *s, struct request *r)
{
	if (rng_below(&rng, 1000) < s->flush_fails) {
		disk_flush_fail(s->disk, r->flush, &rng);
		s->failed_flushes++;
		return EIO;
	}
	disk_flush_end(s->disk, r->flush);
	return 0;
}

static void execute(struct served *s, struct request *r)
{
	unsigned int error = 0;

	if (is_write(r))
		error = do_write(s, r);
	else if (r->command == COMMAND_FLUSH)
		error = do_flush(s, r);
	answer(s, r, error);
}

/* One request from the kernel: it is queued, or done at once. Under the world's lock. */
static void take(struct served *s)
{
	struct request *r, **at;
	struct nbd_request head;
	uint32_t type;

	read_fd(s->fd, &head, sizeof(head));
	type = be32toh(head.type);
	if (be32toh(head.magic) != NBD_REQUEST_MAGIC)
		die("nbd: a request without its magic");
	r = calloc(1, sizeof(*r) + ((type & 0xffff) == COMMAND_WRITE ? be32toh(head.len) : 0));
	if (!r)
		die("out of memory");
	r->command = type & 0xffff;
	r->fua = type & COMMAND_FUA;
	r->sector = be64toh(head.from) / SECTOR;
	r->nr = be32toh(head.len) / SECTOR;
	memcpy(r->handle, &head.handle, sizeof(r->handle));
	if (r->command == COMMAND_WRITE)
		read_fd(s->fd, r->data, r->nr * SECTOR);
	if (r->command == COMMAND_DISCONNECT || r->command == COMMAND_TRIM || r->command > COMMAND_ZEROES ||
	    r->sector + r->nr > s->disk->sectors)
		die("nbd: command %u of sectors %llu + %llu was not expected", r->command,
		    (unsigned long long)r->sector, (unsigned long long)r->nr);
	note((uint64_t)(s - all) << 56 ^ (uint64_t)type << 24 ^ r->nr << 40 ^ r->sector);
	if (atomic_load(&cut)) {
		answer(s, r, EIO);
		return;
	}
	if (r->command == COMMAND_FLUSH)
		r->flush = disk_flush_begin(s->disk);
	if (!s->delay_ns) {
		execute(s, r);
		return;
	}
	r->due = now_ns() + rng_below(&rng, s->delay_ns);
	for (at = &s->queue; *at && (*at)->due <= r->due; at = &(*at)->next)
		;
	r->next = *at;
	*at = r;
}

/* Does what is due; returns when something will be. Under the world's lock. */
static uint64_t work(void)
{
	uint64_t next = UINT64_MAX, now = now_ns();

	for (struct served *s = all; s < all + nr_all; s++) {
		struct request *r;

		while ((r = s->queue) && r->due <= now) {
			s->queue = r->next;
			execute(s, r);
		}
		if (r && r->due < next)
			next = r->due;
	}
	return next;
}

static void *server(void *arg)
{
	struct pollfd fds[MAX_SERVED];

	(void)arg;
	for (unsigned int i = 0; i < nr_all; i++)
		fds[i] = (struct pollfd){ .fd = all[i].fd, .events = POLLIN };
	for (;;) {
		struct timespec wait = { 0 };
		uint64_t next, now;

		pthread_mutex_lock(&world);
		for (unsigned int i = 0; i < nr_all; i++)
			if (fds[i].revents)
				take(&all[i]);
		next = work();
		pthread_mutex_unlock(&world);
		now = now_ns();
		if (next != UINT64_MAX && next > now) {
			wait.tv_sec = (time_t)((next - now) / 1000000000);
			wait.tv_nsec = (long)((next - now) % 1000000000);
		}
		if (ppoll(fds, nr_all, next == UINT64_MAX ? NULL : &wait, NULL) < 0)
			die("ppoll: %s", strerror(errno));
	}
	return NULL;
}

/* The kernel's side of a device lives in this call. */
static void *client(void *arg)
{
	int fd = *(int *)arg;

	ioctl(fd, NBD_DO_IT);
	die("nbd: the kernel has left a device");
}

static void start(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg))
		die("no thread");
}

void serve(struct served *served, unsigned int nr)
{
	static int devices[MAX_SERVED];

	all = served;
	nr_all = nr;
	for (unsigned int i = 0; i < nr; i++) {
		char path[32];
		int pair[2];

		snprintf(path, sizeof(path), "/dev/nbd%u", i);
		devices[i] = open(path, O_RDWR | O_CLOEXEC);
		if (devices[i] < 0)
			die("%s: %s", path, strerror(errno));
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			die("socketpair: %s", strerror(errno));
		served[i].fd = pair[0];
		if (ioctl(devices[i], NBD_SET_BLKSIZE, (unsigned long)SECTOR) ||
		    ioctl(devices[i], NBD_SET_SIZE_BLOCKS, (unsigned long)served[i].disk->sectors) ||
		    ioctl(devices[i], NBD_SET_FLAGS, (unsigned long)SERVED_FLAGS) ||
		    ioctl(devices[i], NBD_SET_SOCK, (unsigned long)pair[1]))
			die("%s: %s", path, strerror(errno));
	}
	start(server, NULL);
	for (unsigned int i = 0; i < nr; i++)
		start(client, &devices[i]);
}

void serve_begin(uint64_t seed)
{
	pthread_mutex_lock(&world);
	rng_seed(&rng, seed);
	digest = 0;
	for (struct served *s = all; s < all + nr_all; s++) {
		s->delay_ns = s->write_fails = s->flush_fails = 0;
		s->cut_after = s->failed_writes = s->failed_flushes = 0;
	}
	pthread_mutex_unlock(&world);
	serve_power();
}

void serve_power(void)
{
	atomic_store(&cut, false);
}

uint64_t serve_digest(void)
{
	uint64_t is;

	pthread_mutex_lock(&world);
	is = digest;
	pthread_mutex_unlock(&world);
	return is;
}
