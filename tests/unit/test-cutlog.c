// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a power cut may leave, on a log with known content: each write fills its
 * sectors with its own number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tools/libcutlog.h"

#define SECTORS	64u

static char log_name[] = "/tmp/test-cutlog.XXXXXX";
static struct cutlog cutlog;
static int log_fd, image;
static uint64_t end, entries;
static uint32_t unit;
static char error[200];
static struct rng rng;

static void begin(uint32_t sectorsize)
{
	unit = sectorsize;
	end = unit;
	entries = 0;
	assert_int_equal(ftruncate(log_fd, 0), 0);
}

static void put(const void *data, size_t len)
{
	assert_int_equal(pwrite(log_fd, data, len, (off_t)end), len);
	end += unit;
}

static void entry(uint64_t sector, uint64_t sectors, uint64_t flags, const char *mark)
{
	uint8_t buf[4096] = { 0 };
	uint64_t words[4] = { htole64(sector), htole64(sectors), htole64(flags), htole64(mark ? strlen(mark) : 0) };

	memcpy(buf, words, sizeof(words));
	if (mark)
		memcpy(buf + sizeof(words), mark, strlen(mark));
	put(buf, unit);
	entries++;
}

static void write_entry(uint64_t sector, uint64_t sectors, uint64_t flags)
{
	uint8_t buf[4096];

	entry(sector, sectors, flags, NULL);
	memset(buf, (int)entries, sizeof(buf));
	while (sectors--)
		put(buf, unit);
}

static bool finish(uint64_t nr)
{
	struct {
		uint64_t magic, version, nr;
		uint32_t unit;
	} super = { htole64(0x6a736677736872), htole64(1), htole64(nr), htole32(unit) };

	assert_int_equal(pwrite(log_fd, &super, sizeof(super), 0), sizeof(super));
	assert_int_equal(ftruncate(log_fd, (off_t)end), 0);
	return cutlog_open(&cutlog, log_name, error, sizeof(error));
}

/* An image of sectors "." and what the cut makes of it: a letter a sector. */
static const char *after(const struct cut_part *part, uint64_t cut, unsigned int percent)
{
	static char text[SECTORS + 1];
	static struct cut_figures figures;
	struct cut_part p = *part;
	uint8_t buf[SECTOR];

	memset(buf, '.', sizeof(buf));
	p.fd = image;
	for (uint64_t i = 0; i < p.length; i++)
		assert_int_equal(pwrite(image, buf, SECTOR, (off_t)(i * SECTOR)), SECTOR);
	assert_true(cutlog_rebuild(&cutlog, &p, cut, &rng, percent, &figures));
	for (uint64_t i = 0; i < p.length; i++) {
		assert_int_equal(pread(image, buf, SECTOR, (off_t)(i * SECTOR)), SECTOR);
		for (unsigned int k = 1; k < SECTOR; k++)
			assert_int_equal(buf[k], buf[0]);
		text[i] = buf[0] == '.' ? '.' : buf[0] ? (char)('0' + buf[0]) : '0';
	}
	text[p.length] = 0;
	return text;
}

static const struct cut_part whole = { .length = 8, .only = true };

static void test_all_or_nothing(void **state)
{
	(void)state;
	begin(512);
	write_entry(0, 2, 0);			/* 1 */
	entry(0, 0, CUTLOG_FLUSH, NULL);	/* 2 */
	write_entry(2, 2, 0);			/* 3 */
	write_entry(4, 1, CUTLOG_FUA);		/* 4 */
	write_entry(5, 2, 0);			/* 5 */
	entry(0, 1, CUTLOG_DISCARD, NULL);	/* 6 */
	assert_true(finish(entries));

	/* before the flush nothing is sure */
	assert_string_equal(after(&whole, 1, 0), "........");
	assert_string_equal(after(&whole, 1, 100), "11......");
	assert_string_equal(after(&whole, 2, 0), "11......");
	/* what was written with FUA is */
	assert_string_equal(after(&whole, 6, 0), "11..4...");
	assert_string_equal(after(&whole, 6, 100), "0133455.");
	cutlog_close(&cutlog);
}

static void test_what_was_flushed_stays(void **state)
{
	bool lost = false, kept = false, mixed = false;

	(void)state;
	begin(512);
	write_entry(0, 4, 0);			/* 1 */
	entry(0, 0, CUTLOG_FLUSH, NULL);	/* 2 */
	write_entry(2, 6, 0);			/* 3 */
	assert_true(finish(entries));
	for (int i = 0; i < 200; i++) {
		const char *text = after(&whole, 3, 50);
		unsigned int new = 0;

		assert_memory_equal(text, "11", 2);
		for (unsigned int k = 2; k < 8; k++) {
			assert_true(text[k] == '3' || text[k] == (k < 4 ? '1' : '.'));
			new += text[k] == '3';
		}
		lost |= text[4] == '.';
		kept |= text[4] == '3';
		mixed |= new && new < 6;
	}
	assert_true(lost && kept && mixed);
	cutlog_close(&cutlog);
}

/* A later write that is lost must not bring back what an earlier one replaced. */
static void test_order(void **state)
{
	(void)state;
	begin(512);
	write_entry(0, 1, 0);			/* 1 */
	write_entry(0, 1, CUTLOG_FUA);		/* 2 */
	write_entry(0, 1, 0);			/* 3 */
	assert_true(finish(entries));
	for (int i = 0; i < 100; i++) {
		assert_int_equal(after(&whole, 2, 50)[0], '2');
		assert_true(strchr("23", after(&whole, 3, 50)[0]));
	}
	cutlog_close(&cutlog);
}

static void test_parts(void **state)
{
	static const struct cut_part a = { .start = 0, .length = 4 }, b = { .start = 4, .length = 4 };

	(void)state;
	begin(512);
	write_entry(2, 4, 0);			/* 1: in both */
	entry(4, 0, CUTLOG_FLUSH, NULL);	/* 2: of b */
	entry(0, 0, CUTLOG_MARK, "ready");	/* 3 */
	write_entry(0, 1, 0);			/* 4 */
	entry(0, 0, CUTLOG_FLUSH, NULL);	/* 5: of a */
	assert_true(finish(entries));
	assert_int_equal(cutlog_find_mark(&cutlog, "ready"), 3);
	assert_int_equal(cutlog_find_mark(&cutlog, "read"), UINT64_MAX);
	/* a flush of one is none of the other */
	assert_string_equal(after(&a, 4, 0), "....");
	assert_string_equal(after(&b, 4, 0), "11..");
	assert_string_equal(after(&a, 5, 0), "4.11");
	cutlog_close(&cutlog);
}

static void test_large_sectors(void **state)
{
	static const struct cut_part part = { .length = 24, .only = true };

	(void)state;
	begin(4096);
	write_entry(1, 1, 0);
	entry(0, 0, CUTLOG_FLUSH, NULL);
	assert_true(finish(entries));
	assert_string_equal(after(&part, 2, 0), "........11111111........");
	cutlog_close(&cutlog);
}

static void test_damage(void **state)
{
	(void)state;
	begin(512);
	write_entry(0, 2, 0);
	entry(0, 0, CUTLOG_FLUSH, NULL);
	assert_false(finish(entries + 1));
	assert_non_null(strstr(error, "entry 2"));

	/* reserved, but never written */
	entry(0, 0, 0, NULL);
	assert_false(finish(entries));
	assert_non_null(strstr(error, "entry 2 of 3 is empty"));

	begin(512);
	entry(0, 1000, 0, NULL);
	assert_false(finish(1));
	assert_non_null(strstr(error, "beyond the log"));

	begin(512);
	entry(0, UINT64_MAX / 2, 0, NULL);
	assert_false(finish(1));
	assert_non_null(strstr(error, "no entry"));

	assert_false(finish(1u << 30));
	assert_non_null(strstr(error, "room"));
	begin(513);
	assert_false(finish(0));
	assert_non_null(strstr(error, "512 to 4096"));
	assert_int_equal(ftruncate(log_fd, 0), 0);
	assert_false(cutlog_open(&cutlog, log_name, error, sizeof(error)));
	assert_non_null(strstr(error, "no log of writes"));
}

static int make_files(void **state)
{
	char image_name[] = "/tmp/test-cutlog.XXXXXX";

	(void)state;
	rng_seed(&rng, 1);
	log_fd = mkstemp(log_name);
	image = mkstemp(image_name);
	return log_fd < 0 || image < 0 || unlink(image_name);
}

static int remove_files(void **state)
{
	(void)state;
	return unlink(log_name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_or_nothing),
		cmocka_unit_test(test_what_was_flushed_stays),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_large_sectors),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests_name("cutlog", tests, make_files, remove_files);
}
