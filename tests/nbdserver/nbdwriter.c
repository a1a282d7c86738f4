// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdwriter - writes blocks from plain memory to an NBD server, as fast as
 * libnbd can: what any forwarder of writes is to be measured against.
 */
#include <inttypes.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>

#include "../tools/libtest.h"

#define IN_FLIGHT	64

static const char usage[] =
"usage: nbdwriter [OPTION]... URI\n"
"\n"
"  --bs SIZE    bytes of a write; default: 4k\n"
"  --count N    writes, then a flush; default: 10000\n"
"  --flush SIZE flush after each so many bytes, too; default: 0, never\n"
"  --seed N     of the places; default: 1\n"
"\n"
"At most 64 writes are in flight. Prints the nanoseconds from the first write to\n"
"the flush's answer.\n";

static int answered(void *user, int *error)
{
	unsigned int *in_flight = user;

	if (*error)
		die("the server answered with error %d", *error);
	--*in_flight;
	return 1;
}

static void check(int64_t ret)
{
	if (ret < 0)
		die("%s", nbd_get_error());
}

int main(int argc, char **argv)
{
	uint64_t bs = 4096, count = 10000, seed = 1, flush = 0, since = 0, blocks, begin;
	unsigned int in_flight = 0;
	struct nbd_handle *nbd;
	struct rng rng;
	uint8_t *buf;
	const char *uri;

	uri = *parse_options(argc, argv, (const struct tool_option[]){
		{ "bs", OPT_SIZE, { &bs } },
		{ "count", OPT_NUMBER, { &count } },
		{ "flush", OPT_SIZE, { &flush } },
		{ "seed", OPT_NUMBER, { &seed } },
		{ }
	}, usage, 1);
	if (!bs || bs > 32u << 20)
		usage_exit(usage);
	buf = malloc(bs);
	nbd = nbd_create();
	if (!buf || !nbd)
		die("out of memory");
	rng_seed(&rng, seed);
	rng_fill(&rng, buf, bs);
	check(nbd_connect_uri(nbd, uri));
	blocks = (uint64_t)nbd_get_size(nbd) / bs;
	if (!blocks)
		die("the export is smaller than a block");

	begin = now_ns();
	while (count || in_flight) {
		while (count && in_flight < IN_FLIGHT) {
			check(nbd_aio_pwrite(nbd, buf, bs, rng_below(&rng, blocks) * bs,
					     (nbd_completion_callback){ .callback = answered,
									.user_data = &in_flight }, 0));
			in_flight++;
			count--;
			since += bs;
			/* The others go on meanwhile, as an agent's do. */
			if (flush && since >= flush) {
				check(nbd_aio_flush(nbd, (nbd_completion_callback){ .callback = answered,
										    .user_data = &in_flight }, 0));
				in_flight++;
				since = 0;
			}
		}
		check(nbd_poll(nbd, -1));
	}
	check(nbd_flush(nbd, 0));
	printf("%" PRIu64 "\n", now_ns() - begin);
	nbd_close(nbd);
	free(buf);
	return EXIT_GOOD;
}
