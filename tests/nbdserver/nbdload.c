// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdload - reads at random places of an NBD export, as fast as libnbd can:
 * what two servers are compared by.
 */
#include <errno.h>
#include <libnbd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char usage[] =
"usage: nbdload URI BLOCK DEPTH SECONDS\n"
"\n"
"Keeps DEPTH reads of BLOCK bytes in flight, on one connection. Prints reads a second.\n";

static unsigned int in_flight;
static uint64_t done;

static int answered(void *user, int *error)
{
	(void)user;
	if (*error) {
		fprintf(stderr, "nbdload: a read failed with error %d\n", *error);
		exit(1);
	}
	in_flight--;
	done++;
	return 1;
}

static void check(int64_t ret)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "nbdload: %s\n", nbd_get_error());
	exit(1);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	nbd_completion_callback cb = { .callback = answered };
	unsigned int depth, i = 0;
	struct nbd_handle *nbd;
	uint64_t blocks, bs;
	double begin, end;
	uint8_t *buf;

	if (argc != 5) {
		fputs(usage, stderr);
		return 2;
	}
	bs = strtoull(argv[2], NULL, 10);
	depth = (unsigned int)strtoul(argv[3], NULL, 10);
	nbd = nbd_create();
	buf = malloc(bs * depth);
	if (!nbd || !buf || !depth || !bs) {
		fputs(usage, stderr);
		return 2;
	}
	check(nbd_connect_uri(nbd, argv[1]));
	blocks = (uint64_t)nbd_get_size(nbd) / bs;
	if (!blocks) {
		fprintf(stderr, "nbdload: the export is smaller than a block\n");
		exit(1);
	}
	begin = seconds();
	end = begin + atof(argv[4]);
	for (;;) {
		while (in_flight < depth && seconds() < end) {
			check(nbd_aio_pread(nbd, buf + bs * (i++ % depth), bs,
					    (uint64_t)random() % blocks * bs, cb, 0));
			in_flight++;
		}
		if (!in_flight)
			break;
		check(nbd_poll(nbd, -1));
	}
	printf("%.0f\n", (double)done / (seconds() - begin));
	nbd_close(nbd);
	free(buf);
	return 0;
}
