// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libFuzzer: bytes of a client, for the handshake and for requests, through a
 * socket pair into the server's own loop.  `make fuzz-nbd` builds and runs it.
 *
 * The first byte says whether the rest begins with the handshake, or behind a
 * good one; its other bits, how many bytes are sent at a time.
 *
 * The server's buffer hides a look beyond what was sent. So a handshake is given
 * to its state machine as well, each option in memory that has not a byte more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbdserver/negotiate.h"
#include "nbdserver/server.h"

#define SIZE	(1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t disk[SIZE];
static unsigned int open_now;
static const char *const contexts[] = { "base:allocation", "x:y" };

static bool ops_list(void *data, unsigned int i, char *name, size_t size)
{
	(void)data;
	snprintf(name, size, "e%u", i);
	return i < 3;
}

static bool ops_allowed(void *data, const struct nbds_peer *peer, const char *name, char *reason,
			size_t size)
{
	(void)data;
	(void)peer;
	snprintf(reason, size, "no");
	return *name != 'n';
}

static void *ops_open(void *data, const char *name, struct nbds_info *info, char *reason,
		      size_t size)
{
	(void)data;
	(void)reason;
	(void)size;
	if (*name != 'e')
		return NULL;
	open_now++;
	info->size = SIZE;
	info->min_block = name[1] == '1' ? 512 : 1;
	info->read_only = name[1] == '2';
	info->can_flush = info->can_fua = info->can_trim = info->can_zero = info->can_fast_zero = true;
	info->nr_contexts = 2;
	info->contexts = contexts;
	return disk;
}

static void ops_close(void *export)
{
	(void)export;
	open_now--;
}

static void ops_submit(void *export, struct nbds_request *rq)
{
	int error = 0;

	(void)export;
	if (rq->offset > SIZE || rq->length > SIZE - rq->offset)
		abort();	/* the library lets nothing through that is beyond the end */
	switch (rq->op) {
	case NBDS_READ:
		if (rq->offset % 7 == 3)
			error = EIO;
		else if (rq->offset % 7 == 5)
			rq->hole = true;
		else
			memcpy(rq->buf, disk + rq->offset, rq->length);
		break;
	case NBDS_WRITE:
		memcpy(disk + rq->offset, rq->buf, rq->length);
		break;
	case NBDS_STATUS:
		while (nbds_extent(rq, 4096, rq->context + (unsigned int)random() % 2))
			;
		break;
	default:
		break;
	}
	nbds_complete(rq, error);
}

static const struct nbds_ops ops = {
	.list = ops_list, .allowed = ops_allowed, .open = ops_open, .close = ops_close,
	.submit = ops_submit,
};

static void log_line(void *data, int priority, const char *line)
{
	(void)data;
	(void)priority;
	if (!*line)
		abort();
}

static void negotiate(const uint8_t *data, size_t size)
{
	static const struct nbds_peer nobody;
	struct nego n = { .ops = &ops, .peer = &nobody, .log = log_line };
	size_t want, used;
	uint8_t *exact;

	for (nego_init(&n); n.state <= NEGO_SKIP; data += used, size -= used) {
		want = n.state == NEGO_FLAGS ? 4 : n.state == NEGO_OPTION ? NBD_OPTION_SIZE :
		       n.state == NEGO_PAYLOAD ? n.length : n.skip;
		if (want > size)
			break;
		exact = malloc(want);
		if (!exact)
			abort();
		memcpy(exact, data, want);
		n.out_len = 0;
		used = nego_feed(&n, exact, want);
		free(exact);
		if (used != want)
			abort();	/* it has all that it needs */
	}
	nego_exit(&n);
	if (open_now)
		abort();
}

static struct nbds_server *server;

static void begin(void)
{
	struct nbds_config cfg;
	char error[256];

	nbds_config_init(&cfg);
	cfg.workers = 1;
	cfg.memory = 2u << 20;
	cfg.ops = &ops;
	server = server_new(&cfg, error, sizeof(error));
	if (!server) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	worker_turn(server_worker(server, 0), 0);
}

static void drain(int fd)
{
	static uint8_t buf[65536];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static void give(int fd, const uint8_t *data, size_t size, size_t step)
{
	struct worker *w = server_worker(server, 0);
	unsigned int idle = 0;
	ssize_t n;

	while (size && idle < 50) {
		n = send(fd, data, size < step ? size : step, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return;		/* it has hung up */
		idle = n > 0 ? 0 : idle + 1;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
		worker_turn(w, 0);
		drain(fd);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t good[] = "\0\0\0\3IHAVEOPT\0\0\0\10\0\0\0\0IHAVEOPT\0\0\0\12\0\0\0\35"
		"\0\0\0\2e0\0\0\0\1\0\0\0\17base:allocationIHAVEOPT\0\0\0\7\0\0\0\10\0\0\0\2e0\0";
	struct nbds_stats stats;
	unsigned int turns;
	int fd[2];

	if (!server)
		begin();
	if (size && !(data[0] & 1))
		negotiate(data + 1, size - 1);
	if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
		return 0;
	if (nbds_add(server, fd[0]) < 0)
		abort();
	if (data[0] & 1)
		give(fd[1], good, sizeof(good), sizeof(good));
	give(fd[1], data + 1, size - 1, data[0] & 2 ? 1 + (data[0] >> 2) : size);
	shutdown(fd[1], SHUT_WR);
	for (turns = 0; turns < 2000; turns++) {
		worker_turn(server_worker(server, 0), 0);
		drain(fd[1]);
		nbds_get_stats(server, &stats);
		if (!stats.connections)
			break;
	}
	close(fd[1]);
	/* A client that has gone must not leave anything. */
	for (; stats.connections && turns < 4000; turns++) {
		worker_turn(server_worker(server, 0), 0);
		nbds_get_stats(server, &stats);
	}
	if (stats.connections || open_now)
		abort();
	return 0;
}
