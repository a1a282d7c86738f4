// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nbdcheck - a client that checks an NBD server against the file that it
 * serves.  Prints TAP.
 *
 *	nbdcheck URI FILE	the export is writable and as long as FILE
 */
#include <errno.h>
#include <libnbd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#define MIB		(1u << 20)
#define BLOCK		4096u
#define MANY		60u

static struct nbd_handle *nbd;
static uint8_t *model;
static uint64_t size;
static const char *uri, *file;
static int number, failed;

static void result(bool ok, const char *what)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++number, what);
	failed += !ok;
}

static void note(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

static void must(int64_t r)
{
	if (r >= 0)
		return;
	note("%s", nbd_get_error());
	printf("Bail out!\n");
	exit(1);
}

static void connect_it(bool structured)
{
	if (nbd) {
		nbd_shutdown(nbd, 0);
		nbd_close(nbd);
	}
	nbd = nbd_create();
	if (!nbd)
		exit(1);
	must(nbd_set_strict_mode(nbd, 0));	/* what the client would refuse is for the server */
	must(nbd_set_request_structured_replies(nbd, structured));
	if (structured)
		must(nbd_add_meta_context(nbd, "base:allocation"));
	must(nbd_set_uri_allow_local_file(nbd, true));
	must(nbd_connect_uri(nbd, uri));
	size = (uint64_t)nbd_get_size(nbd);
}

static uint64_t pick(uint64_t n)
{
	return (((uint64_t)random() << 31) ^ (uint64_t)random()) % n;
}

/* ---- many at a time ------------------------------------------------------ */

struct job {
	uint8_t *buf;
	uint64_t offset, len;
	bool read;
	int64_t cookie;
};

static void run_jobs(struct job *jobs, unsigned int nr, const char *what)
{
	unsigned int i, left = nr, bad = 0;

	while (left) {
		must(nbd_poll(nbd, 20000));
		for (i = 0; i < nr; i++) {
			int r = jobs[i].cookie ? nbd_aio_command_completed(nbd, (uint64_t)jobs[i].cookie) : 0;

			if (!jobs[i].cookie || !r)
				continue;
			if (r < 0) {
				note("%s", nbd_get_error());
				bad++;
			}
			jobs[i].cookie = 0;
			left--;
			if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd)) {
				note("the connection is lost");
				bad++;
				left = 0;
			}
		}
	}
	for (i = 0; i < nr; i++) {
		if (jobs[i].read && memcmp(jobs[i].buf, model + jobs[i].offset, jobs[i].len)) {
			note("%llu bytes at %llu differ", (unsigned long long)jobs[i].len,
			     (unsigned long long)jobs[i].offset);
			bad++;
		}
		free(jobs[i].buf);
	}
	result(!bad, what);
}

/* Reads of all sizes, so many in flight that small ones pass large ones. */
static void reads(const char *what)
{
	static const uint64_t top[] = { 1, 8, 64, 70, 600 };	/* blocks */
	struct job jobs[MANY];
	unsigned int i;

	for (i = 0; i < MANY; i++) {
		jobs[i].len = (1 + pick(top[i % 5])) * BLOCK;
		jobs[i].offset = pick((size - jobs[i].len) / BLOCK + 1) * BLOCK;
		jobs[i].buf = malloc(jobs[i].len);
		jobs[i].read = true;
		jobs[i].cookie = nbd_aio_pread(nbd, jobs[i].buf, jobs[i].len, jobs[i].offset,
					       NBD_NULL_COMPLETION, 0);
		must(jobs[i].cookie);
	}
	run_jobs(jobs, MANY, what);
}

/* Writes that do not overlap, of all sizes and kinds, and reads elsewhere between them. */
static void writes(const char *what)
{
	uint64_t slot = size / MANY / BLOCK * BLOCK, len;
	struct job jobs[MANY];
	unsigned int i;

	for (i = 0; i < MANY; i++) {
		len = (1 + pick(i % 4 ? 16 : slot / BLOCK)) * BLOCK;
		if (len > slot)
			len = slot;
		jobs[i].len = len;
		jobs[i].offset = i * slot + pick((slot - len) / BLOCK + 1) * BLOCK;
		jobs[i].buf = malloc(len);
		jobs[i].read = i % 5 == 4;
		if (jobs[i].read) {
			jobs[i].cookie = nbd_aio_pread(nbd, jobs[i].buf, len, jobs[i].offset,
						       NBD_NULL_COMPLETION, 0);
		} else if (i % 5 == 3) {
			memset(model + jobs[i].offset, 0, len);
			jobs[i].cookie = nbd_aio_zero(nbd, len, jobs[i].offset, NBD_NULL_COMPLETION,
						      i % 2 ? LIBNBD_CMD_FLAG_NO_HOLE : 0);
		} else {
			memset(jobs[i].buf, (int)random(), len);
			memset(jobs[i].buf, (int)random(), 8);
			memcpy(model + jobs[i].offset, jobs[i].buf, len);
			jobs[i].cookie = nbd_aio_pwrite(nbd, jobs[i].buf, len, jobs[i].offset,
							NBD_NULL_COMPLETION,
							i % 3 ? 0 : LIBNBD_CMD_FLAG_FUA);
		}
		must(jobs[i].cookie);
	}
	run_jobs(jobs, MANY, what);
}

static void file_is_model(const char *what)
{
	uint8_t *now = malloc(size);
	int fd = open(file, O_RDONLY);
	bool ok;

	must(nbd_flush(nbd, 0));
	ok = fd >= 0 && now && pread(fd, now, size, 0) == (ssize_t)size && !memcmp(now, model, size);
	result(ok, what);
	close(fd);
	free(now);
}

/* ---- one at a time ------------------------------------------------------- */

static void fails(int64_t r, int error, const char *what)
{
	bool ok = r < 0 && nbd_get_errno() == error;

	if (!ok)
		note("expected %s, got: %s", strerror(error), r < 0 ? nbd_get_error() : "success");
	result(ok, what);
}

static void errors(void)
{
	uint8_t *buf = calloc(33, MIB);

	fails(nbd_pread(nbd, buf, BLOCK, size, 0), EINVAL, "a read beyond the end");
	fails(nbd_pread(nbd, buf, 2 * BLOCK, size - BLOCK, 0), EINVAL, "a read across the end");
	if (nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM) > 1) {
		fails(nbd_pread(nbd, buf, 512, 0, 0), EINVAL, "a read of no whole block");
		fails(nbd_pread(nbd, buf, BLOCK, 1, 0), EINVAL, "a read at no whole block");
		fails(nbd_pwrite(nbd, buf, 100, 0, 0), EINVAL, "a write of no whole block");
	} else {
		result(!nbd_pread(nbd, buf, 10001, 77, 0) && !memcmp(buf, model + 77, 10001),
		       "a read of no whole block");
	}
	fails(nbd_pwrite(nbd, buf, BLOCK, size, 0), ENOSPC, "a write beyond the end");
	fails(nbd_pwrite(nbd, buf, 33 * MIB, 0, 0), EINVAL, "a write that is too long");
	fails(nbd_zero(nbd, BLOCK, size, 0), ENOSPC, "zeroes beyond the end");
	fails(nbd_trim(nbd, BLOCK, size, 0), EINVAL, "a trim beyond the end");
	fails(nbd_cache(nbd, BLOCK, 0, 0), EINVAL, "CACHE, which is not offered");
	fails(nbd_pwrite(nbd, buf, BLOCK, 0, 1u << 13), EINVAL, "a write with an unknown flag");
	free(buf);
}

static void whole(const char *what)
{
	uint8_t *buf = malloc(32 * MIB);

	must(nbd_pread(nbd, buf, 32 * MIB, 0, 0));
	result(!memcmp(buf, model, 32 * MIB), what);
	free(buf);
}

struct extents {
	uint64_t data, zero;
	unsigned int nr;
};

static int extent(void *user, const char *context, uint64_t offset, uint32_t *e, size_t nr, int *error)
{
	struct extents *x = user;
	size_t i;

	(void)offset;
	(void)error;
	if (strcmp(context, "base:allocation"))
		return 0;
	for (i = 0; i < nr; i += 2) {
		x->nr++;
		*(e[i + 1] ? &x->zero : &x->data) += e[i];
	}
	return 0;
}

static void status(void)
{
	nbd_extent_callback cb = { .callback = extent };
	struct extents x = { 0, 0, 0 };

	must(nbd_trim(nbd, 8 * MIB, 8 * MIB, 0));
	memset(model + 8 * MIB, 0, 8 * MIB);
	must(nbd_pwrite(nbd, model, MIB, 0, LIBNBD_CMD_FLAG_FUA));
	cb.user_data = &x;
	must(nbd_block_status(nbd, 20 * MIB, 0, cb, 0));
	note("%u extents, %llu bytes of data, %llu of zeroes", x.nr,
	     (unsigned long long)x.data, (unsigned long long)x.zero);
	result(x.zero >= 8 * MIB && x.data >= MIB && x.data + x.zero == 20 * MIB,
	       "block status tells holes from data");
	x = (struct extents){ 0, 0, 0 };
	must(nbd_block_status(nbd, 20 * MIB, 0, cb, LIBNBD_CMD_FLAG_REQ_ONE));
	result(x.nr == 1, "with REQ_ONE it tells one extent");
}

int main(int argc, char **argv)
{
	unsigned int i;
	int fd;

	if (argc != 3) {
		fputs("usage: nbdcheck URI FILE\n", stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	uri = argv[1];
	file = argv[2];
	srandom(getenv("SEED") ? (unsigned int)atoi(getenv("SEED")) : 1);
	connect_it(true);
	model = malloc(size);
	fd = open(file, O_RDONLY);
	if (!model || fd < 0 || size < 40 * MIB || pread(fd, model, size, 0) != (ssize_t)size) {
		printf("Bail out! %s cannot be read, or has less than 40 MiB\n", file);
		return 1;
	}
	close(fd);
	for (i = 0; i < 2; i++) {
		reads("reads of all sizes, structured replies");
		writes("writes of all sizes, structured replies");
	}
	whole("32 MiB in one read, structured replies");
	errors();
	status();
	file_is_model("the file has what was written");
	connect_it(false);
	for (i = 0; i < 2; i++) {
		reads("reads of all sizes, simple replies");
		writes("writes of all sizes, simple replies");
	}
	whole("32 MiB in one read, simple replies");
	errors();
	must(nbd_pwrite(nbd, model, 32 * MIB, 0, 0));
	file_is_model("32 MiB in one write, and the file is right in the end");
	nbd_shutdown(nbd, 0);
	nbd_close(nbd);
	printf("1..%d\n", number);
	free(model);
	return failed ? 1 : 0;
}
