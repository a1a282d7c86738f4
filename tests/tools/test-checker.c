// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the checker itself, on synthetic streams: it has to be silent on a
 * good one and to speak on each kind of bad one.  KTAP on stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libcheck.h"
#include "libdep.h"
#include "libtest.h"

#define SECTORS		8192u
#define PAYLOAD_SIZE	(1024u * 1024u)
#define SLOTS		4u

static struct checker c;
static uint64_t seq, pos;
static unsigned int tests, failed;
static uint8_t data[DEP_BLOCK];

static int lookup(void *ctx, uint16_t id, char *name, uint64_t *sectors)
{
	(void)ctx;
	if (id < 1 || id > 2)
		return -ENOENT;
	snprintf(name, REPAGENT_NAME_MAX + 1, "v%u", id);
	*sectors = SECTORS;
	return 0;
}

static struct repagent_slot make(unsigned int type, unsigned int volume, uint64_t sector,
				 uint64_t nr_sectors)
{
	struct repagent_slot s = {
		.commit = REPAGENT_SLOT_WORD(seq++, REPAGENT_SLOT_READY),
		.type = (uint8_t)type,
		.volume = (uint16_t)volume,
		.sector = sector,
		.nr_sectors = nr_sectors,
		.pos = pos % PAYLOAD_SIZE,
		.time = realtime_ns(),
	};

	if (type == REPAGENT_REC_WRITE || type == REPAGENT_REC_RESYNC)
		s.len = (uint32_t)(nr_sectors * SECTOR);
	pos += s.len;
	s.end = pos;
	return s;
}

static void feed(struct repagent_slot s)
{
	check_record(&c, &s, data, c.payload_end);
}

static void put(unsigned int type, unsigned int volume, uint64_t sector, uint64_t nr_sectors)
{
	feed(make(type, volume, sector, nr_sectors));
}

/* Two volumes, first sync done: the point from which most streams start. */
static void begin(void)
{
	check_init(&c);
	c.payload_size = PAYLOAD_SIZE;
	c.start_ns = realtime_ns();
	c.lookup = lookup;
	c.dependent = true;
	seq = 1;
	pos = 0;
	memset(data, 0, sizeof(data));
	put(REPAGENT_REC_RESYNC_BEGIN, 1, 0, SECTORS);
	put(REPAGENT_REC_RESYNC_BEGIN, 2, 0, SECTORS);
	put(REPAGENT_REC_RESYNC, 1, 0, 8);
	put(REPAGENT_REC_RESYNC_END, 1, 0, 0);
	put(REPAGENT_REC_RESYNC_END, 2, 0, 0);
}

static void dep(unsigned int type, enum dep_side side, uint64_t n)
{
	uint64_t offset = n % SLOTS * DEP_BLOCK;

	dep_fill(data, 3, side, n, offset, SLOTS);
	put(type, side + 1, offset / SECTOR, DEP_BLOCK / SECTOR);
	memset(data, 0, sizeof(data));
}

static void expect(const char *what, bool errors)
{
	bool good = !c.errors == !errors;

	tests++;
	failed += !good;
	printf("%sok %u %s\n", good ? "" : "not ", tests, what);
}

static void good_streams(void)
{
	struct repagent_slot s;

	begin();
	for (uint64_t n = 1; n < 20; n++) {
		dep(REPAGENT_REC_WRITE, DEP_A, n);
		dep(REPAGENT_REC_WRITE, DEP_B, n);
	}
	expect("a good dependent stream passes", false);

	begin();
	dep(REPAGENT_REC_WRITE, DEP_A, 1);
	s = make(REPAGENT_REC_GAP, 0, 0, 0);
	s.aux = REPAGENT_REASON_RING_FULL;
	feed(s);
	put(REPAGENT_REC_RESYNC_BEGIN, 1, 0, SECTORS);
	put(REPAGENT_REC_RESYNC_BEGIN, 2, 0, SECTORS);
	/* Meanwhile B(1), A(2), B(2), A(3) went to the disks alone. */
	dep(REPAGENT_REC_RESYNC, DEP_B, 2);
	dep(REPAGENT_REC_WRITE, DEP_B, 3);
	dep(REPAGENT_REC_RESYNC, DEP_B, 1);
	put(REPAGENT_REC_RESYNC_END, 2, 0, 0);
	dep(REPAGENT_REC_RESYNC, DEP_A, 3);
	dep(REPAGENT_REC_RESYNC, DEP_A, 2);
	put(REPAGENT_REC_RESYNC_END, 1, 0, 0);
	dep(REPAGENT_REC_WRITE, DEP_A, 4);
	expect("a gap with a resync passes", false);
	if (c.dep.images != 2 || c.reasons[REPAGENT_REASON_RING_FULL] != 1)
		expect("... and its end was checked as an image", true);
}

static void bad_order(void)
{
	begin();
	dep(REPAGENT_REC_WRITE, DEP_B, 1);
	expect("B before A is found", true);

	begin();
	dep(REPAGENT_REC_WRITE, DEP_A, 1);
	dep(REPAGENT_REC_WRITE, DEP_A, 2);
	expect("the next A before B is found", true);

	begin();
	dep(REPAGENT_REC_WRITE, DEP_A, 1);
	dep(REPAGENT_REC_WRITE, DEP_B, 1);
	dep(REPAGENT_REC_WRITE, DEP_A, 3);
	expect("a lost pair is found", true);

	begin();
	dep(REPAGENT_REC_WRITE, DEP_A, 1);
	dep(REPAGENT_REC_WRITE, DEP_B, 1);
	dep(REPAGENT_REC_WRITE, DEP_A, 1);
	expect("a write that comes twice is found", true);

	begin();
	put(REPAGENT_REC_RESYNC_BEGIN, 2, 0, SECTORS);
	dep(REPAGENT_REC_RESYNC, DEP_B, 1);
	put(REPAGENT_REC_RESYNC_END, 2, 0, 0);
	expect("a resync that ends with B and no A is found", true);

	begin();
	for (uint64_t n = 1; n < 8; n++) {
		dep(REPAGENT_REC_WRITE, DEP_A, n);
		dep(REPAGENT_REC_WRITE, DEP_B, n);
	}
	put(REPAGENT_REC_RESYNC_BEGIN, 1, 0, SECTORS);
	dep(REPAGENT_REC_RESYNC, DEP_A, 2);
	put(REPAGENT_REC_RESYNC_END, 1, 0, 0);
	expect("a resync that brings back an old block is found", true);

	begin();
	dep_fill(data, 3, DEP_A, 1, DEP_BLOCK, SLOTS);
	data[2000] ^= 1;
	put(REPAGENT_REC_WRITE, 1, 8, 8);
	expect("a block with a flipped bit is found", true);

	begin();
	dep_fill(data, 3, DEP_A, 1, DEP_BLOCK, SLOTS);
	put(REPAGENT_REC_WRITE, 1, 16, 8);
	expect("a block at the wrong place is found", true);
}

static void bad_grammar(void)
{
	struct repagent_slot s;

	check_init(&c);
	c.payload_size = PAYLOAD_SIZE;
	c.lookup = lookup;
	seq = 1;
	put(REPAGENT_REC_WRITE, 1, 0, 8);
	expect("a WRITE as the first record is found", true);

	begin();
	s = make(REPAGENT_REC_GAP, 0, 0, 0);
	s.aux = REPAGENT_REASON_RING_FULL;
	feed(s);
	put(REPAGENT_REC_WRITE, 1, 0, 8);
	expect("a WRITE after a GAP is found", true);

	begin();
	put(REPAGENT_REC_RESYNC_BEGIN, 1, 0, SECTORS);
	s = make(REPAGENT_REC_GAP, 0, 0, 0);
	s.aux = REPAGENT_REASON_RING_FULL;
	feed(s);
	put(REPAGENT_REC_RESYNC_BEGIN, 2, 0, SECTORS);
	put(REPAGENT_REC_WRITE, 1, 0, 8);
	expect("a torn volume without a RESYNC_BEGIN of its own is found", true);

	begin();
	put(REPAGENT_REC_RESYNC, 1, 0, 8);
	expect("a RESYNC outside a resync is found", true);

	begin();
	put(REPAGENT_REC_RESYNC_END, 1, 0, 0);
	expect("a RESYNC_END too many is found", true);

	begin();
	seq++;
	put(REPAGENT_REC_WRITE, 1, 0, 8);
	expect("a hole in the numbers is found", true);

	begin();
	put(REPAGENT_REC_WRITE, 1, SECTORS - 4, 8);
	expect("a write behind the end is found", true);

	begin();
	put(REPAGENT_REC_WRITE, 7, 0, 8);
	expect("an unknown volume is found", true);

	begin();
	s = make(REPAGENT_REC_WRITE, 1, 0, 8);
	s.len = 512;
	feed(s);
	expect("a payload of the wrong length is found", true);

	begin();
	s = make(REPAGENT_REC_WRITE, 1, 0, 8);
	s.pos = PAYLOAD_SIZE;
	feed(s);
	expect("a payload outside the ring is found", true);

	begin();
	s = make(REPAGENT_REC_WRITE, 1, 0, 8);
	s.pos -= 512;
	feed(s);
	expect("a payload over its predecessor's is found", true);

	begin();
	s = make(REPAGENT_REC_WRITE, 1, 0, 8);
	s.end += PAYLOAD_SIZE;
	feed(s);
	expect("a payload over an unacknowledged one is found", true);

	begin();
	s = make(REPAGENT_REC_WRITE, 1, 0, 8);
	s.time -= 1000000000;
	feed(s);
	expect("a time that runs back is found", true);

	begin();
	s = make(REPAGENT_REC_FLUSH, 1, 0, 0);
	s.flags = REPAGENT_REC_FUA;
	feed(s);
	expect("a flag that does not belong there is found", true);
}

static void replica(void)
{
	char path[] = "/tmp/test-checker.XXXXXX";
	uint8_t buf[DEP_BLOCK];
	bool good;
	int fd = mkstemp(path);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	unlink(path);

	check_init(&c);
	check_replica(&c, "v1", fd);
	c.payload_size = PAYLOAD_SIZE;
	c.lookup = lookup;
	c.start_ns = realtime_ns();
	seq = 1;
	pos = 0;
	put(REPAGENT_REC_RESYNC_BEGIN, 1, 0, SECTORS);
	memset(data, 0xaa, sizeof(data));
	put(REPAGENT_REC_RESYNC, 1, 8, 8);
	memset(data, 0xbb, sizeof(data));
	put(REPAGENT_REC_WRITE, 1, 9, 1);
	put(REPAGENT_REC_ZEROES, 1, 10, 1);
	put(REPAGENT_REC_RESYNC_END, 1, 0, 0);
	good = pread(fd, buf, sizeof(buf), 8 * SECTOR) == (ssize_t)sizeof(buf) &&
	       buf[0] == 0xaa && buf[511] == 0xaa && buf[512] == 0xbb && buf[1023] == 0xbb &&
	       !buf[1024] && !buf[1535] && buf[1536] == 0xaa && buf[4095] == 0xaa &&
	       lseek(fd, 0, SEEK_END) == (off_t)SECTORS * SECTOR;
	expect("a stream with a replica passes", false);
	tests++;
	failed += !good;
	printf("%sok %u the replica is what the stream said\n", good ? "" : "not ", tests);
	close(fd);
}

int main(void)
{
	/* What the checker says of the bad streams is of no interest here. */
	if (!freopen("/dev/null", "w", stderr))
		return EXIT_USAGE;
	printf("TAP version 13\n");
	good_streams();
	bad_order();
	bad_grammar();
	replica();
	printf("1..%u\n", tests);
	return failed ? EXIT_BAD : EXIT_GOOD;
}
