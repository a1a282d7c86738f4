// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * pullhub - a stand-alone hub that is told nothing: it reads a protected volume
 * through repagent-reader, over and over, and keeps a copy.
 *
 * What the copy is compared by.  Each pass goes over the whole volume, holds
 * every block against the copy, byte for byte, and writes what differs.  Nothing
 * is remembered but the copy itself, so an interrupted run goes on where it was.
 *
 * When it is done.  When a pass after the first finds nothing that differs.  Then
 * each block was read twice, in the last pass and in the one before, and was the
 * same; and all first reads were over before any second one began.  So at the
 * moment between the two passes the volume was what the copy is, and the copy is
 * an image of one moment, although it was read bit by bit.  One thing escapes
 * this: a block that was changed and changed back between its two reads.
 *
 * What the context qemu:dirty-bitmap:repagent is good for, and what it is not.
 * It tells what the replication's stream lacks at this moment.  That a range is
 * dirty tells nothing of this copy: it may have been dirty for long, and read
 * since.  That it is not dirty tells nothing either: a write that finds its way
 * into the stream never makes its range dirty, and a resync that has read a range
 * makes it clean.  So it is listed, since an operator wants to know it of a
 * replica that is behind, and no read is spared because of it; what changed
 * without being dirty is counted.
 *
 * What base:allocation calls zeroes is not read.  The reader calls everything data,
 * for a block device knows no holes; other servers know them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../tools/libtest.h"

#define BLOCK		4096u			/* what is compared and written as one */
#define READ		(256u * 1024u)		/* bytes of one read */
#define IN_FLIGHT	16u
#define LOOK		(256u * 1024u * 1024u)	/* bytes of one block status */
#define ALLOCATION	LIBNBD_CONTEXT_BASE_ALLOCATION
#define DIRTY		"qemu:dirty-bitmap:repagent"
#define STATE_DIRTY	1u

static const char usage[] =
"usage: pullhub [OPTION]... URI TARGET\n"
"\n"
"Copies an NBD export, such as nbd://host/GROUP/VOLUME of repagent-reader, to TARGET,\n"
"a file (made if it does not exist) or a block device; then reads it again, and writes\n"
"what has changed, until a whole pass finds nothing changed.\n"
"\n"
"  --passes N      give up after N passes; default: 30, at least 2\n"
"  --interval MS   rest so long before a third pass and each after it; default: 1000\n"
"  --patience S    wait so long for a server that is gone or silent; default: 60\n"
"  --list          print each range that changed or is dirty\n"
"\n"
"Prints for each pass the bytes that were read, that were zeroes and not read, that\n"
"changed since the pass before, that changed without being dirty, and that are dirty:\n"
"which the replication's stream lacks, whatever this copy has. At the end: \"name value\"\n"
"lines.\n"
"\n"
"Exit status: 0 the copy is equal to the volume, as of the moment between the last two\n"
"passes; 1 it is not known to be, for the volume was changing all the time or a signal\n"
"ended it; 2 wrong usage, or a failure; 3 the server did not come (back) in time.\n";

struct range {
	uint64_t start, end;
	uint32_t flags;
};

/* In the order of the volume, with no overlaps. */
struct ranges {
	struct range *range;
	size_t nr, max;
};

static struct {
	uint64_t passes, interval, patience;
	bool list;
	const char *uri, *target;
} opt = { .passes = 30, .interval = 1000, .patience = 60 };

static struct nbd_handle *nbd;
static bool knows_dirty;
static uint64_t size;
static int target;

/* Of block status: since the last look. */
static struct ranges allocation, dirty_here;

/* Of the pass. */
static struct {
	uint64_t read, zero, changed, unmarked;
	struct ranges changes, dirty;
} pass;

static uint64_t total_read, total_changed, reconnects;

static void ranges_add(struct ranges *r, uint64_t start, uint64_t end, uint32_t flags)
{
	struct range *last = r->nr ? &r->range[r->nr - 1] : NULL;

	if (last && last->end == start && last->flags == flags) {
		last->end = end;
		return;
	}
	if (r->nr == r->max) {
		r->max = r->max ? 2 * r->max : 64;
		r->range = realloc(r->range, r->max * sizeof(*r->range));
		if (!r->range)
			die("out of memory");
	}
	r->range[r->nr++] = (struct range){ start, end, flags };
}

static uint64_t ranges_bytes(const struct ranges *r)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < r->nr; i++)
		bytes += r->range[i].end - r->range[i].start;
	return bytes;
}

static uint64_t ranges_end(const struct ranges *r)
{
	return r->nr ? r->range[r->nr - 1].end : 0;
}

static bool is_dirty(uint64_t start, uint64_t end)
{
	const struct range *r = dirty_here.range;
	size_t low = 0, high = dirty_here.nr, mid;

	while (low < high) {	/* the first that ends behind @start */
		mid = (low + high) / 2;
		if (r[mid].end > start)
			high = mid;
		else
			low = mid + 1;
	}
	for (; low < dirty_here.nr && r[low].start < end; low++)
		if (r[low].flags & STATE_DIRTY)
			return true;
	return false;
}

static void print_ranges(const char *what, uint64_t nr, const struct ranges *r)
{
	for (size_t i = 0; i < r->nr; i++)
		printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", what, nr, r->range[i].start,
		       r->range[i].end - r->range[i].start);
}

/* --- The connection ----------------------------------------------------------------- */

static void disconnect(void)
{
	if (nbd)
		nbd_close(nbd);
	nbd = NULL;
}

static int timeout_ms(void)
{
	return opt.patience > 1000000 ? -1 : (int)opt.patience * 1000;
}

/* Return whether it stands; else nbd_get_error() says why not. */
static bool try_connect(void)
{
	disconnect();
	nbd = nbd_create();
	if (!nbd)
		die("%s", nbd_get_error());
	if (nbd_add_meta_context(nbd, ALLOCATION) < 0 || nbd_add_meta_context(nbd, DIRTY) < 0 ||
	    nbd_aio_connect_uri(nbd, opt.uri) < 0)
		return false;
	while (nbd_aio_is_connecting(nbd)) {
		int ret = nbd_poll(nbd, timeout_ms());

		if (!ret)
			fprintf(stderr, "pullhub: the server says nothing\n");
		if (ret <= 0)
			return false;
	}
	return nbd_aio_is_ready(nbd);
}

static void nap(unsigned int ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);	/* a signal ends it early, as it should */
}

static void take_size(bool first)
{
	int64_t now = nbd_get_size(nbd);

	if (now < 0)
		die("the size of the export: %s", nbd_get_error());
	if (!first && (uint64_t)now != size)
		die("the volume has %" PRId64 " bytes now, not %" PRIu64 ": run this again, with room for them",
		    now, size);
	size = (uint64_t)now;
	knows_dirty = nbd_can_meta_context(nbd, DIRTY) == 1;
	if (first && !knows_dirty)
		fprintf(stderr, "pullhub: the server has no context " DIRTY ": what is dirty is not known\n");
}

/* The connection is lost: have another one, or end. */
static void reconnect(void)
{
	uint64_t end = now_ns() + opt.patience * 1000000000u;
	unsigned int ms = 50;

	fprintf(stderr, "pullhub: the connection is lost: %s; trying to have another one\n",
		nbd_get_error() ? nbd_get_error() : "the server ended it");
	while (!stop && !try_connect()) {
		if (now_ns() > end) {
			fprintf(stderr, "pullhub: no server for %" PRIu64 " s: %s\n", opt.patience,
				nbd_get_error() ? nbd_get_error() : "it is silent");
			exit(EXIT_TIMEOUT);
		}
		nap(ms);
		ms = ms < 500 ? 2 * ms : 1000;
	}
	if (stop)
		return;
	reconnects++;
	take_size(false);
}

/*
 * Wait for commands.  Return whether all are done; if not, the connection is
 * lost.  A command that the server refuses ends the program: another connection
 * would not help.
 */
static bool finish(const int64_t *cookies, unsigned int nr, const char *what, uint64_t at)
{
	unsigned int i, left = nr;
	uint32_t done = 0;
	int ret;

	for (i = 0; i < nr; i++)
		if (cookies[i] < 0)
			return false;
	while (left) {
		ret = nbd_poll(nbd, timeout_ms());
		if (!ret)
			fprintf(stderr, "pullhub: no answer for %" PRIu64 " s\n", opt.patience);
		if (ret <= 0 || stop)
			return false;
		for (i = 0; i < nr; i++) {
			ret = done & 1u << i ? 0 : nbd_aio_command_completed(nbd, (uint64_t)cookies[i]);
			if (ret < 0 && (nbd_get_errno() == ESHUTDOWN || !nbd_aio_is_ready(nbd)))
				return false;
			if (ret < 0)
				die("%s at byte %" PRIu64 ": %s", what, at, nbd_get_error());
			if (ret) {
				done |= 1u << i;
				left--;
			}
		}
		if (left && (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd)))
			return false;
	}
	return true;
}

/* --- What the server tells without being read ----------------------------------------- */

static int on_extents(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t nr,
		      int *error)
{
	struct ranges *r = !strcmp(context, ALLOCATION) ? &allocation : &dirty_here;

	(void)user;
	(void)error;
	for (size_t i = 0; i + 1 < nr; i += 2) {
		ranges_add(r, offset, offset + entries[i], entries[i + 1]);
		offset += entries[i];
	}
	return 0;
}

/* Return up to where all contexts have told, if not to @end. */
static uint64_t look(uint64_t at, uint64_t end)
{
	bool knows_allocation = nbd_can_meta_context(nbd, ALLOCATION) == 1;
	int64_t cookie;

	do {
		allocation.nr = dirty_here.nr = 0;
		if (!knows_allocation && !knows_dirty)
			break;
		cookie = nbd_aio_block_status(nbd, end - at, at,
					      (nbd_extent_callback){ .callback = on_extents },
					      NBD_NULL_COMPLETION, 0);
		if (finish(&cookie, 1, "block status", at))
			break;
		reconnect();
	} while (!stop);
	if (!allocation.nr)
		ranges_add(&allocation, at, end, 0);
	if (ranges_end(&allocation) < end)
		end = ranges_end(&allocation);
	if (dirty_here.nr && ranges_end(&dirty_here) < end)
		end = ranges_end(&dirty_here);
	if (end <= at && !stop)
		die("block status at byte %" PRIu64 ": the server tells nothing", at);
	return end;
}

/* --- The copy ------------------------------------------------------------------------- */

static void target_io(bool write, uint8_t *buf, size_t len, uint64_t at)
{
	ssize_t n;

	for (; len; buf += n, at += (uint64_t)n, len -= (size_t)n) {
		n = write ? pwrite(target, buf, len, (off_t)at) : pread(target, buf, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			die("%s: %s at byte %" PRIu64 ": %s", opt.target, write ? "write" : "read", at,
			    n ? strerror(errno) : "it ends there");
	}
}

static void put_change(uint8_t *data, uint64_t from, uint64_t to)
{
	target_io(true, data, (size_t)(to - from), from);
	ranges_add(&pass.changes, from, to, 0);
	pass.changed += to - from;
}

/* Hold @len bytes of the volume at @at against the copy, and mend the copy. */
static void take(uint8_t *data, uint64_t at, size_t len)
{
	static uint8_t copy[READ];
	uint64_t end = at + len, pos, next, from = end;

	target_io(false, copy, len, at);
	for (pos = at; pos < end; pos = next) {
		next = pos - pos % BLOCK + BLOCK;
		if (next > end)
			next = end;
		if (memcmp(data + (pos - at), copy + (pos - at), (size_t)(next - pos))) {
			if (from == end)
				from = pos;
			if (!is_dirty(pos, next))
				pass.unmarked += next - pos;
		} else if (from != end) {
			put_change(data + (from - at), from, pos);
			from = end;
		}
	}
	if (from != end)
		put_change(data + (from - at), from, end);
}

static void take_zeroes(uint64_t at, uint64_t end)
{
	static uint8_t zeroes[READ];

	pass.zero += end - at;
	for (; at < end && !stop; at += READ)
		take(zeroes, at, end - at < READ ? (size_t)(end - at) : READ);
}

static void take_data(uint64_t at, uint64_t end)
{
	static uint8_t buf[IN_FLIGHT][READ];
	int64_t cookie[IN_FLIGHT];
	size_t len[IN_FLIGHT];
	uint64_t begin = at, pos;
	unsigned int nr, i;

	while (at < end && !stop) {
		for (nr = 0, pos = at; nr < IN_FLIGHT && pos < end; pos += len[nr++]) {
			len[nr] = end - pos < READ ? (size_t)(end - pos) : READ;
			cookie[nr] = nbd_aio_pread(nbd, buf[nr], len[nr], pos, NBD_NULL_COMPLETION, 0);
		}
		if (!finish(cookie, nr, "read", at)) {
			if (!stop)
				reconnect();
			continue;
		}
		for (i = 0; i < nr; at += len[i++])
			take(buf[i], at, len[i]);
	}
	pass.read += at - begin;
}

static void run_pass(uint64_t nr)
{
	uint64_t at, end;

	pass.read = pass.zero = pass.changed = pass.unmarked = 0;
	pass.changes.nr = pass.dirty.nr = 0;
	for (at = 0; at < size && !stop; at = end) {
		end = look(at, size - at < LOOK ? size : at + LOOK);
		for (size_t i = 0; i < dirty_here.nr && dirty_here.range[i].start < end; i++)
			if (dirty_here.range[i].flags & STATE_DIRTY)
				ranges_add(&pass.dirty, dirty_here.range[i].start,
					   dirty_here.range[i].end < end ? dirty_here.range[i].end : end, 0);
		for (size_t i = 0; i < allocation.nr && allocation.range[i].start < end; i++) {
			const struct range *r = &allocation.range[i];
			uint64_t stop_at = r->end < end ? r->end : end;

			if (r->flags & LIBNBD_STATE_ZERO)
				take_zeroes(r->start, stop_at);
			else
				take_data(r->start, stop_at);
		}
	}
	if (fsync(target) < 0)
		die("%s: fsync: %s", opt.target, strerror(errno));
	total_read += pass.read;
	total_changed += pass.changed;
	if (opt.list) {
		print_ranges("changed", nr, &pass.changes);
		print_ranges("dirty", nr, &pass.dirty);
	}
	printf("pass %" PRIu64 ": read %" PRIu64 " zero %" PRIu64 " changed %" PRIu64
	       " unmarked %" PRIu64 " dirty ", nr, pass.read, pass.zero, pass.changed, pass.unmarked);
	if (knows_dirty)
		printf("%" PRIu64 "\n", ranges_bytes(&pass.dirty));
	else
		printf("unknown\n");
	fflush(stdout);
}

static void open_target(void)
{
	struct stat st;

	target = open(opt.target, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (target < 0 || fstat(target, &st) < 0)
		die("%s: %s", opt.target, strerror(errno));
	if (S_ISREG(st.st_mode)) {
		if (ftruncate(target, (off_t)size) < 0)
			die("%s: cannot have %" PRIu64 " bytes: %s", opt.target, size, strerror(errno));
	} else if (!S_ISBLK(st.st_mode)) {
		die("%s: expected a file or a block device", opt.target);
	} else if (device_size(target) < size) {
		die("%s: has %" PRIu64 " bytes, expected at least the volume's %" PRIu64, opt.target,
		    device_size(target), size);
	}
}

int main(int argc, char **argv)
{
	static const struct tool_option options[] = {
		{ "passes", OPT_NUMBER, { &opt.passes } },
		{ "interval", OPT_NUMBER, { &opt.interval } },
		{ "patience", OPT_NUMBER, { &opt.patience } },
		{ "list", OPT_FLAG, { &opt.list } },
		{ }
	};
	bool equal = false;
	char **operands;
	uint64_t nr = 0;

	operands = parse_options(argc, argv, options, usage, 2);
	opt.uri = operands[0];
	opt.target = operands[1];
	if (opt.passes < 2)
		die("--passes %" PRIu64 ": expected 2 at least: it takes two to see that nothing changes",
		    opt.passes);
	if (opt.interval > 3600000)
		die("--interval %" PRIu64 ": expected at most 3600000 ms", opt.interval);
	if (!opt.patience || opt.patience > 86400)
		die("--patience %" PRIu64 ": expected 1 to 86400 s", opt.patience);
	catch_stop();
	if (!try_connect())
		die("%s: %s", opt.uri, nbd_get_error() ? nbd_get_error() : "the server is silent");
	take_size(true);
	open_target();

	while (!stop && !equal && nr < opt.passes) {
		if (nr > 1)
			nap((unsigned int)opt.interval);
		run_pass(++nr);
		equal = !stop && nr > 1 && !pass.changed;
	}
	printf("passes %" PRIu64 "\nreconnects %" PRIu64 "\nread_bytes %" PRIu64 "\nchanged_bytes %" PRIu64
	       "\nequal %d\n", nr, reconnects, total_read, total_changed, equal);
	if (!equal)
		fprintf(stderr, "pullhub: %s is not known to be equal to the volume: %s\n", opt.target,
			stop ? "it was told to stop" : "something had changed in each pass");
	disconnect();
	return equal ? EXIT_GOOD : EXIT_BAD;
}
