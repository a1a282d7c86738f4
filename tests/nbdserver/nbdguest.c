// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdguest SOCKET EXPORT: a guest's disk load, until SIGTERM, through an NBD client that does not lose a server which ends and comes
 * back. The first 16 MiB are zeroed; then each block of 4 KiB of them has a number that rises with every write to it. What was not flushed is written
 * anew after a reconnection, in its order. In the end, and after each reconnection, every block is read: never may one be older
 * than what was flushed, or newer than what was sent.
 */
#include <inttypes.h>
#include <libnbd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	4096u
#define BLOCKS	4096u
#define PENDING	512u

static const char *path, *name;
static struct nbd_handle *nbd;
static uint64_t sent[BLOCKS], flushed[BLOCKS], number, reconnects, checked;

/* Answered or not, and not known to be durable. */
static struct { unsigned int block; uint64_t number; } pending[PENDING];
static unsigned int nr_pending;

static volatile sig_atomic_t over;

static void end_it(int number_of_signal)
{
	(void)number_of_signal;
	over = 1;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fill(uint64_t *buf, uint64_t block, uint64_t n)
{
	unsigned int i;

	for (i = 0; i < BLOCK / 8; i += 2) {
		buf[i] = n;
		buf[i + 1] = block;
	}
}

static void reconnect(void)
{
	double end = seconds() + 30;

	for (;;) {
		if (nbd)
			nbd_close(nbd);
		nbd = nbd_create();
		if (nbd && !nbd_set_export_name(nbd, name) && !nbd_connect_unix(nbd, path))
			return;
		if (seconds() > end) {
			fprintf(stderr, "nbdguest: %s\n", nbd_get_error());
			exit(1);
		}
		usleep(20000);
	}
}

/* Every block is whole, and neither too old nor too new. Return false if the server ended. */
static bool check(void)
{
	static uint64_t all[BLOCKS][BLOCK / 8], want[BLOCK / 8];
	unsigned int i;

	for (i = 0; i < BLOCKS; i += 64)
		if (nbd_pread(nbd, all[i], 64 * BLOCK, (uint64_t)i * BLOCK, 0))
			return false;
	for (i = 0; i < BLOCKS; i++) {
		if (!sent[i])
			continue;
		fill(want, i, all[i][0]);
		if (all[i][0] >= flushed[i] && all[i][0] <= sent[i] && (!all[i][0] || !memcmp(all[i], want, BLOCK)))
			continue;
		printf("block %u has %" PRIu64 " of %" PRIu64 ": expected from %" PRIu64 " to %" PRIu64 "\n", i, all[i][0],
		       all[i][1], flushed[i], sent[i]);
		exit(1);
	}
	checked++;
	return true;
}

static bool write_block(unsigned int block, uint64_t n, bool fua)
{
	uint64_t buf[BLOCK / 8];

	fill(buf, block, n);
	return !nbd_pwrite(nbd, buf, BLOCK, (uint64_t)block * BLOCK, fua ? LIBNBD_CMD_FLAG_FUA : 0);
}

static bool flush(void)
{
	unsigned int i;

	if (nbd_flush(nbd, 0))
		return false;
	for (i = 0; i < nr_pending; i++)
		flushed[pending[i].block] = pending[i].number;
	nr_pending = 0;
	return true;
}

/* Until it succeeds: connect, look at everything, write what may be lost. */
static void come_back(void)
{
	unsigned int i;
	bool ok = false;

	while (!ok) {
		reconnect();
		reconnects++;
		ok = check();
		for (i = 0; i < nr_pending && ok; i++)
			ok = write_block(pending[i].block, pending[i].number, false);
	}
}

int main(int argc, char **argv)
{
	struct sigaction on_term = { .sa_handler = end_it, .sa_flags = SA_RESTART };
	unsigned int block;

	if (argc != 3) {
		fprintf(stderr, "Usage: nbdguest SOCKET EXPORT\n");
		return 2;
	}
	path = argv[1];
	name = argv[2];
	reconnect();
	/* Whatever was there. */
	if (nbd_zero(nbd, (uint64_t)BLOCKS * BLOCK, 0, 0) || nbd_flush(nbd, 0)) {
		fprintf(stderr, "nbdguest: %s\n", nbd_get_error());
		return 1;
	}
	sigaction(SIGTERM, &on_term, NULL);
	while (!over) {
		block = (unsigned int)random() % BLOCKS;
		sent[block] = ++number;
		pending[nr_pending].block = block;
		pending[nr_pending++].number = number;
		if (!write_block(block, number, false))
			come_back();
		if ((nr_pending == PENDING || !(random() % 50)) && !flush())
			come_back();
	}
	while (!flush() || !check())
		come_back();
	printf("%" PRIu64 " writes, %" PRIu64 " reconnections, all read %" PRIu64 " times\n", number, reconnects, checked);
	return 0;
}
