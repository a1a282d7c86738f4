// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../userspace/common/parse.h"

static void test_sizes(void **state)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{ "0", 0 }, { "4096", 4096 }, { "64K", 65536 }, { "64k", 65536 },
		{ "1.5MiB", 1572864 }, { "2G", 2147483648 }, { "3 TiB", 3298534883328 },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const bad[] = {
		"", "-1", "x", "1x", "1KB", "18446744073709551616", "99999999T", " 1", "0x10",
		"+1", "1..5",
	};
	uint64_t v;
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(parse_size(good[i].text, &v));
		assert_int_equal(v, good[i].bytes);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse_size(bad[i], &v))
			fail_msg("'%s' was accepted", bad[i]);
}

static void test_durations(void **state)
{
	uint64_t v;

	(void)state;
	assert_true(parse_duration("30", &v));
	assert_int_equal(v, 30 * NSEC_PER_SEC);
	assert_true(parse_duration("0.5", &v));
	assert_int_equal(v, NSEC_PER_SEC / 2);
	assert_true(parse_duration("200ms", &v));
	assert_int_equal(v, NSEC_PER_SEC / 5);
	assert_true(parse_duration("2min", &v));
	assert_int_equal(v, 120 * NSEC_PER_SEC);
	assert_false(parse_duration("soon", &v));
	assert_false(parse_duration("5 days", &v));
	assert_true(parse_count("7", &v));
	assert_int_equal(v, 7);
	assert_false(parse_count("7K", &v));
	assert_false(parse_count("7.5", &v));
}

static void test_human(void **state)
{
	char buf[HUMAN_MAX];

	(void)state;
	assert_string_equal(human_size(buf, 0), "0 B");
	assert_string_equal(human_size(buf, 1023), "1023 B");
	assert_string_equal(human_size(buf, 1024), "1 KiB");
	assert_string_equal(human_size(buf, 1536), "1.5 KiB");
	assert_string_equal(human_size(buf, 1048575), "1.0 MiB");
	assert_string_equal(human_size(buf, 10 * 1024 * MIB), "10 GiB");
	assert_string_equal(human_size(buf, UINT64_MAX), "16 EiB");
	assert_string_equal(human_duration(buf, 60000), "0.1 ms");
	assert_string_equal(human_duration(buf, 60 * NSEC_PER_MSEC), "60 ms");
	assert_string_equal(human_duration(buf, 1500 * NSEC_PER_MSEC), "1.5 s");
	assert_string_equal(human_duration(buf, 34 * NSEC_PER_SEC), "34 s");
	assert_string_equal(human_duration(buf, 300 * NSEC_PER_SEC), "5 min");
	assert_string_equal(human_duration(buf, 8100 * NSEC_PER_SEC), "2 h 15 min");
	assert_string_equal(human_duration(buf, UINT64_MAX), "213503 days");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_human),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
