// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdvolume - what a client of an export sees while the volume behind it is
 * written to, or changes its size.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tools/libtest.h"

#define LONGEST		(32u * 1024u)
#define SILENCE_MS	20000

static const char usage[] =
"usage: nbdvolume [OPTION]... URI\n"
"\n"
"  --writes DEVICE   write to DEVICE with O_DIRECT, and after each write read the same\n"
"                    range through URI: it has to be what was written\n"
"  --rounds N        of that; default: 10000\n"
"  --seed N          of places, lengths and content; default: 1\n"
"\n"
"  --context NAME    ask for the block status of all of the export in this context, over\n"
"                    and over, until the server ends the connection\n"
"\n"
"Prints \"name value\" lines. Exit status: 0 as it should be, 1 a read was older than\n"
"a write, 2 wrong usage or an error, 3 no answer for 20 s.\n";

static struct nbd_handle *nbd;
static uint64_t answers, refusals;

static void check(int64_t ret)
{
	if (ret < 0)
		die("%s", nbd_get_error());
}

/* --- Writes, and the reads after them ----------------------------------------------- */

static int write_and_read(const char *device, uint64_t rounds, uint64_t seed)
{
	unsigned int block, stale = 0;
	uint64_t blocks, done, at;
	void *written, *read;
	struct rng rng;
	size_t len;
	int fd;

	fd = open(device, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", device, strerror(errno));
	block = device_block_size(fd);
	blocks = device_size(fd) / block;
	if (device_size(fd) != (uint64_t)nbd_get_size(nbd) || blocks <= LONGEST / block)
		die("%s and the export differ in size, or are too small", device);
	if (posix_memalign(&written, 4096, LONGEST) || posix_memalign(&read, 4096, LONGEST))
		die("out of memory");
	rng_seed(&rng, seed);
	for (done = 0; done < rounds && !stale && !stop; done++) {
		len = (1 + rng_below(&rng, rng_below(&rng, 4) ? 8 : LONGEST / block)) * block;
		at = rng_below(&rng, blocks - len / block + 1) * block;
		rng_fill(&rng, written, len);
		if (pwrite(fd, written, len, (off_t)at) != (ssize_t)len)
			die("%s: write at byte %" PRIu64 ": %s", device, at, strerror(errno));
		check(nbd_pread(nbd, read, len, at, 0));
		if (memcmp(written, read, len)) {
			fprintf(stderr, "round %" PRIu64 ": %zu bytes at byte %" PRIu64
				" are not what was written before they were read\n", done, len, at);
			stale = 1;
		}
	}
	printf("rounds %" PRIu64 "\nstale %u\n", done, stale);
	close(fd);
	free(written);
	free(read);
	return stale ? EXIT_BAD : EXIT_GOOD;
}

/* --- Block status until the end ------------------------------------------------------ */

static int on_extents(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t nr,
		      int *error)
{
	(void)user;
	(void)context;
	(void)offset;
	(void)entries;
	(void)nr;
	(void)error;
	return 0;
}

static int ask_until_the_end(void)
{
	uint64_t size = (uint64_t)nbd_get_size(nbd);
	int64_t cookie;
	int ret = 0;

	for (;;) {
		cookie = nbd_aio_block_status(nbd, size, 0, (nbd_extent_callback){ .callback = on_extents },
					      NBD_NULL_COMPLETION, 0);
		while (cookie >= 0 && !(ret = nbd_aio_command_completed(nbd, (uint64_t)cookie))) {
			ret = nbd_poll(nbd, SILENCE_MS);
			if (!ret) {
				fprintf(stderr, "no answer for %d ms\n", SILENCE_MS);
				return EXIT_TIMEOUT;
			}
			if (ret < 0)
				break;
		}
		if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd) || cookie < 0)
			break;
		if (ret < 0)
			refusals++;
		else if (!answers++)
			puts("ready");
		fflush(stdout);
	}
	printf("answers %" PRIu64 "\nrefusals %" PRIu64 "\n", answers, refusals);
	return EXIT_GOOD;
}

int main(int argc, char **argv)
{
	const char *device = NULL, *context = NULL, *uri;
	uint64_t rounds = 10000, seed = 1;
	int ret;

	uri = *parse_options(argc, argv, (const struct tool_option[]){
		{ "writes", OPT_TEXT, { &device } },
		{ "rounds", OPT_NUMBER, { &rounds } },
		{ "seed", OPT_NUMBER, { &seed } },
		{ "context", OPT_TEXT, { &context } },
		{ }
	}, usage, 1);
	if (!device == !context)
		usage_exit(usage);
	catch_stop();
	nbd = nbd_create();
	if (!nbd)
		die("%s", nbd_get_error());
	if (context)
		check(nbd_add_meta_context(nbd, context));
	check(nbd_connect_uri(nbd, uri));
	if (context && nbd_can_meta_context(nbd, context) != 1)
		die("the export has no context %s", context);
	ret = device ? write_and_read(device, rounds, seed) : ask_until_the_end();
	nbd_close(nbd);
	return ret;
}
