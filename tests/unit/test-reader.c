// SPDX-License-Identifier: GPL-2.0-or-later
/* The reader's words: rules, exports' names, table lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "reader/access.h"
#include "reader/volumes.h"

static void test_rules(void **state)
{
	static const char *const names_a[] = { "hub-a", "hub-a.example" }, *const names_b[] = { "hub-b" };
	struct nbds_peer a = { .tls = true, .nr_names = 2, .names = names_a };
	struct nbds_peer b = { .tls = true, .nr_names = 1, .names = names_b }, nobody = { .nr_names = 0 };
	char error[ACCESS_ERROR_MAX], why[NBDS_REASON_MAX];
	struct access_list list = { 0 };

	(void)state;
	assert_true(access_allows(&list, &nobody, "g/v", why, sizeof(why)));
	assert_true(access_add(&list, "HUB-A.example=vm0", error));
	assert_true(access_add(&list, "hub-b=vm1/disk0", error));
	assert_true(access_allows(&list, &a, "vm0/disk0", why, sizeof(why)));
	assert_true(access_allows(&list, &a, "vm0/disk1", why, sizeof(why)));
	assert_false(access_allows(&list, &a, "vm00/disk1", why, sizeof(why)));
	assert_false(access_allows(&list, &a, "vm0", why, sizeof(why)));
	assert_false(access_allows(&list, &a, "vm1/disk0", why, sizeof(why)));
	assert_non_null(strstr(why, "hub-a"));
	assert_true(access_allows(&list, &b, "vm1/disk0", why, sizeof(why)));
	assert_false(access_allows(&list, &b, "vm1/disk00", why, sizeof(why)));
	assert_false(access_allows(&list, &b, "vm1/disk", why, sizeof(why)));
	assert_false(access_allows(&list, &nobody, "vm0/disk0", why, sizeof(why)));
	assert_non_null(strstr(why, "without a name"));
	free(list.rule);
}

static void test_senseless_rules(void **state)
{
	static const struct { const char *arg, *word; } bad[] = {
		{ "", "expected NAME=GROUP" }, { "hub", "expected NAME=GROUP" },
		{ "=vm0", "expected NAME=GROUP" }, { "hub=", "''" }, { "hub=vm0/", "'vm0/'" },
		{ "hub=/disk", "'/disk'" }, { "hub=vm0/a/b", "'vm0/a/b'" }, { "hub=-x", "'-x'" },
		{ "hub=vm 0", "'vm 0'" },
	};
	struct access_list list = { 0 };
	char error[ACCESS_ERROR_MAX];
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (access_add(&list, bad[i].arg, error))
			fail_msg("'%s' was accepted", bad[i].arg);
		if (!strstr(error, bad[i].word))
			fail_msg("'%s': \"%s\" lacks \"%s\"", bad[i].arg, error, bad[i].word);
	}
	assert_int_equal(list.nr, 0);
}

static void test_names(void **state)
{
	static const char *const bad[] = {
		"", "/", "a", "a/", "/b", "a/b/c", "../b", ".a/b", "a/-b", "a/b\n",
		"0123456789012345678901234567890a/b", "a/0123456789012345678901234567890b",
	};
	char group[REPAGENT_NAME_MAX + 1], volume[REPAGENT_NAME_MAX + 1];
	unsigned int i;

	(void)state;
	assert_true(export_split("vm0/disk.0", group, volume));
	assert_string_equal(group, "vm0");
	assert_string_equal(volume, "disk.0");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (export_split(bad[i], group, volume))
			fail_msg("'%s' was accepted", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_senseless_rules),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
