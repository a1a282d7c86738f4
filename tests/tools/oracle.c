// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * oracle - random writes of every kind, to see whether a replica follows.
 *
 * Several threads write to the same range of a device: overlapping, not
 * aligned to 4 KiB, a sector to 1 MiB long, from memory that is not aligned to
 * pages; plain, FUA, NOWAIT, zeroes, discards, flushes.  What ends up on the
 * device is not predicted: the replica has to be equal to it, whatever it is.
 *
 * --scribble has a thread of its own change the buffers while their writes are
 * in flight.  --log writes each operation's result, for comparing two devices
 * that have to answer alike (one thread, same seed).
 *
 * Prints "name value" lines; exit status 1 when an operation failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "libtest.h"

#define MAX_THREADS	32u
#define PAGE		4096u

enum op { OP_WRITE, OP_FUA, OP_NOWAIT, OP_ZERO, OP_DISCARD, OP_FSYNC, OP_READ, NR_OPS };

static const char *const op_names[NR_OPS] = {
	[OP_WRITE]	= "write",
	[OP_FUA]	= "fua",
	[OP_NOWAIT]	= "nowait",
	[OP_ZERO]	= "zero",
	[OP_DISCARD]	= "discard",
	[OP_FSYNC]	= "fsync",
	[OP_READ]	= "read",
};

static unsigned int weight[NR_OPS] = {
	[OP_WRITE]	= 60,
	[OP_FUA]	= 10,
	[OP_NOWAIT]	= 10,
	[OP_ZERO]	= 5,
	[OP_DISCARD]	= 0,
	[OP_FSYNC]	= 2,
	[OP_READ]	= 0,
};

struct thread {
	pthread_t id;
	unsigned int nr;
	uint8_t *buf;
	_Atomic(uint8_t *) flight;	/* what is being written; NULL: nothing */
	atomic_size_t flight_len;
	uint64_t ops[NR_OPS];
	uint64_t errors, eagain, bytes;
	struct hist hist;
};

static const char usage[] =
"usage: oracle [OPTION]... DEVICE\n"
"\n"
"  --seconds S, --ops N     when to stop (N is the sum of all threads); or at SIGTERM\n"
"  --threads N              default: 4\n"
"  --seed N                 default: of the clock; it is printed\n"
"  --offset SIZE, --range SIZE\n"
"                           where to write; default: the whole device\n"
"  --min SIZE, --max SIZE   length of an operation; default: 512 (a block), 1M\n"
"  --align SIZE             of offset and length; default: a block\n"
"  --sequential             one after the other rather than at random\n"
"  --mix OP=WEIGHT[,...]    write, fua, nowait, zero, discard, fsync, read;\n"
"                           default: write=60,fua=10,nowait=10,zero=5,fsync=2\n"
"  --scribble               change the buffers while they are being written\n"
"  --rate N                 at most N operations a second, over all threads\n"
"  --log FILE               write each operation and its result\n"
"  --allow-errors           failed operations do not make the exit status 1\n";

static struct {
	uint64_t seconds, seed, ops, threads, rate, offset, range, min, max, align;
	bool sequential, scribble, allow_errors;
	FILE *log;
} opt = { .threads = 4, .max = 1024 * 1024 };

static int fd;
static unsigned int total_weight;
static uint64_t begin_ns, deadline;
static atomic_uint_fast64_t issued, scribbled;
static atomic_bool finished;
static struct thread threads[MAX_THREADS];

static enum op pick_op(struct rng *r)
{
	uint64_t n = rng_below(r, total_weight);
	unsigned int op;

	for (op = 0; n >= weight[op]; op++)
		n -= weight[op];
	return op;
}

/* Short ones are the common ones, as with a guest; long ones cross every limit. */
static uint64_t pick_length(struct rng *r)
{
	uint64_t len;

	switch (rng_below(r, 8)) {
	case 0:
		len = 1 + rng_below(r, opt.max);
		break;
	case 1: case 2:
		len = 1 + rng_below(r, opt.max < 65536 ? opt.max : 65536);
		break;
	default:
		len = 1 + rng_below(r, opt.max < 8192 ? opt.max : 8192);
		break;
	}
	len -= len % opt.align;
	if (len < opt.min)
		len = opt.min;
	return len;
}

static int do_write(struct thread *t, uint8_t *buf, uint64_t len, uint64_t at, int flags)
{
	while (len) {
		struct iovec iov = { .iov_base = buf, .iov_len = len };
		ssize_t n;

		atomic_store(&t->flight_len, len);
		atomic_store(&t->flight, buf);
		n = pwritev2(fd, &iov, 1, (off_t)at, flags);
		if (n < 0 && errno == EAGAIN && (flags & RWF_NOWAIT)) {
			t->eagain++;
			flags &= ~RWF_NOWAIT;
			continue;
		}
		atomic_store(&t->flight, NULL);
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO;
		buf += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int do_op(struct thread *t, enum op op, uint8_t *buf, uint64_t at, uint64_t len)
{
	uint64_t range[2] = { at, len };
	ssize_t n;

	switch (op) {
	case OP_WRITE:
		return do_write(t, buf, len, at, 0);
	case OP_FUA:
		return do_write(t, buf, len, at, RWF_DSYNC);
	case OP_NOWAIT:
		return do_write(t, buf, len, at, RWF_NOWAIT);
	case OP_ZERO:
		return ioctl(fd, BLKZEROOUT, range) ? -errno : 0;
	case OP_DISCARD:
		return ioctl(fd, BLKDISCARD, range) ? -errno : 0;
	case OP_FSYNC:
		return fsync(fd) ? -errno : 0;
	case OP_READ:
		n = pread(fd, buf, len, (off_t)at);
		return n < 0 ? -errno : (uint64_t)n == len ? 0 : -EIO;
	default:
		return -EINVAL;
	}
}

/*
 * Filling every buffer anew would cost more than the write: most of it stays
 * random from the start, and each sector gets words of its own.
 */
static void stamp(struct rng *r, uint8_t *buf, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += SECTOR) {
		uint64_t v = rng_next(r);

		memcpy(buf + i + (v & 0x1f8), &v, sizeof(v));
	}
}

static void pace(uint64_t n)
{
	while (!stop && n * 1000000000u / opt.rate > now_ns() - begin_ns) {
		struct timespec ms = { .tv_nsec = 1000000 };

		nanosleep(&ms, NULL);
	}
}

static void *run(void *arg)
{
	struct thread *t = arg;
	uint64_t next = 0;
	struct rng r;

	rng_seed(&r, opt.seed * MAX_THREADS + t->nr);
	while (!stop && (!deadline || now_ns() < deadline)) {
		uint64_t n = atomic_fetch_add(&issued, 1);
		uint64_t len, at, begin;
		uint8_t *buf;
		enum op op;
		int ret;

		if (opt.ops && n >= opt.ops)
			break;
		if (opt.rate)
			pace(n);
		op = pick_op(&r);
		len = pick_length(&r);
		at = opt.offset + rng_below(&r, (opt.range - len) / opt.align + 1) * opt.align;
		if (opt.sequential) {
			if (next + len > opt.range)
				next = 0;
			at = opt.offset + next;
			next += len;
		}
		buf = t->buf + rng_below(&r, 2 * PAGE / SECTOR) * SECTOR;
		stamp(&r, buf, len);

		begin = now_ns();
		ret = do_op(t, op, buf, at, len);
		hist_add(&t->hist, now_ns() - begin);

		t->ops[op]++;
		t->bytes += op == OP_FSYNC || op == OP_READ ? 0 : len;
		if (ret) {
			t->errors++;
			if (!opt.allow_errors)
				fprintf(stderr, "%s of %" PRIu64 " bytes at %" PRIu64 ": %s\n",
					op_names[op], len, at, strerror(-ret));
		}
		if (opt.log)
			fprintf(opt.log, "%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %d\n", n,
				op_names[op], at, len, ret);
	}
	return NULL;
}

static void *scribble(void *arg)
{
	struct rng r;

	(void)arg;
	rng_seed(&r, ~opt.seed);
	while (!atomic_load(&finished)) {
		for (unsigned int i = 0; i < opt.threads; i++) {
			uint8_t *buf = atomic_load(&threads[i].flight);
			size_t len = atomic_load(&threads[i].flight_len);

			if (!buf || !len)
				continue;
			for (int k = 0; k < 64; k++)
				buf[rng_below(&r, len)] ^= (uint8_t)(1 + k);
			atomic_fetch_add(&scribbled, 1);
		}
	}
	return NULL;
}

static void parse_mix(char *arg)
{
	char *item, *save = NULL;

	memset(weight, 0, sizeof(weight));
	for (item = strtok_r(arg, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		char *value = strchr(item, '=');
		unsigned int op;

		if (value)
			*value++ = '\0';
		for (op = 0; op < NR_OPS && strcmp(op_names[op], item); op++)
			;
		if (op == NR_OPS)
			die("unknown operation '%s'", item);
		weight[op] = value ? (unsigned int)parse_number(value) : 1;
	}
}

static void open_log(char *file)
{
	opt.log = fopen(file, "w");
	if (!opt.log)
		die("%s: %s", file, strerror(errno));
}

static void set_up(int argc, char **argv)
{
	static const struct tool_option options[] = {
		{ "seconds", OPT_NUMBER, { &opt.seconds } },
		{ "ops", OPT_NUMBER, { &opt.ops } },
		{ "threads", OPT_NUMBER, { &opt.threads } },
		{ "seed", OPT_NUMBER, { &opt.seed } },
		{ "offset", OPT_SIZE, { &opt.offset } },
		{ "range", OPT_SIZE, { &opt.range } },
		{ "min", OPT_SIZE, { &opt.min } },
		{ "max", OPT_SIZE, { &opt.max } },
		{ "align", OPT_SIZE, { &opt.align } },
		{ "sequential", OPT_FLAG, { &opt.sequential } },
		{ "mix", OPT_CALL, { .call = parse_mix } },
		{ "scribble", OPT_FLAG, { &opt.scribble } },
		{ "rate", OPT_NUMBER, { &opt.rate } },
		{ "log", OPT_CALL, { .call = open_log } },
		{ "allow-errors", OPT_FLAG, { &opt.allow_errors } },
		{ }
	};
	const char *device;
	unsigned int block;
	uint64_t size;

	opt.seed = realtime_ns() & 0xffffffff;
	device = *parse_options(argc, argv, options, usage, 1);
	if (!opt.threads || opt.threads > MAX_THREADS)
		usage_exit(usage);
	if (opt.seconds)
		deadline = now_ns() + opt.seconds * 1000000000u;
	for (unsigned int op = 0; op < NR_OPS; op++)
		total_weight += weight[op];
	if (!total_weight)
		die("--mix leaves nothing to do");

	fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", device, strerror(errno));
	size = device_size(fd);
	block = device_block_size(fd);
	if (opt.offset >= size)
		die("--offset is behind the end");
	if (!opt.range)
		opt.range = size - opt.offset;
	if (!opt.align)
		opt.align = block;
	opt.range -= opt.range % opt.align;
	if (opt.min < opt.align)
		opt.min = opt.align;
	if (opt.max < opt.min)
		opt.max = opt.min;
	if (opt.max > opt.range)
		opt.max = opt.range;
	if (opt.align % block || opt.offset % block || opt.min % opt.align ||
	    opt.offset + opt.range > size || opt.min > opt.range)
		die("the range, or its alignment, does not fit the device");
}

int main(int argc, char **argv)
{
	static struct hist hist;
	uint64_t ops[NR_OPS] = { 0 }, total = 0, errors = 0, eagain = 0, bytes = 0;
	pthread_t scribbler;
	struct rng r;

	set_up(argc, argv);
	catch_stop();
	printf("seed %" PRIu64 "\n", opt.seed);
	fflush(stdout);
	begin_ns = now_ns();

	rng_seed(&r, opt.seed);
	for (unsigned int i = 0; i < opt.threads; i++) {
		void *buf;

		if (posix_memalign(&buf, PAGE, opt.max + 2 * PAGE))
			die("out of memory");
		rng_fill(&r, buf, opt.max + 2 * PAGE);
		threads[i].buf = buf;
		threads[i].nr = i;
	}
	if (opt.scribble && pthread_create(&scribbler, NULL, scribble, NULL))
		die("cannot start a thread");
	for (unsigned int i = 0; i < opt.threads; i++)
		if (pthread_create(&threads[i].id, NULL, run, &threads[i]))
			die("cannot start a thread");
	for (unsigned int i = 0; i < opt.threads; i++) {
		struct thread *t = &threads[i];

		pthread_join(t->id, NULL);
		for (unsigned int op = 0; op < NR_OPS; op++)
			ops[op] += t->ops[op];
		errors += t->errors;
		eagain += t->eagain;
		bytes += t->bytes;
		hist_merge(&hist, &t->hist);
	}
	atomic_store(&finished, true);
	if (opt.scribble)
		pthread_join(scribbler, NULL);
	if (opt.log && fclose(opt.log))
		die("--log: %s", strerror(errno));

	for (unsigned int op = 0; op < NR_OPS; op++) {
		printf("%s %" PRIu64 "\n", op_names[op], ops[op]);
		total += ops[op];
	}
	printf("ops %" PRIu64 "\n", total);
	printf("bytes %" PRIu64 "\n", bytes);
	printf("errors %" PRIu64 "\n", errors);
	printf("eagain %" PRIu64 "\n", eagain);
	printf("scribbles %" PRIu64 "\n", (uint64_t)scribbled);
	hist_print(&hist);
	return errors && !opt.allow_errors ? EXIT_BAD : EXIT_GOOD;
}
