// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/common/uri.h"

static void expands_to(const char *arg, const char *group, const char *volume,
		       const char *expected)
{
	char uri[URI_MAX], error[URI_ERROR_MAX] = "";
	struct uri_map map = { 0 };

	if (!uri_add_tap(&map, arg, error) ||
	    !uri_for_volume(&map, group, volume, uri, error))
		fail_msg("%s", error);
	assert_string_equal(uri, expected);
}

static void test_templates(void **state)
{
	(void)state;
	expands_to("nbd://hub/%v", "vm0", "data", "nbd://hub/data");
	expands_to("nbd://hub:10810/%g/%v", "vm0", "data", "nbd://hub:10810/vm0/data");
	expands_to("nbd://hub/a%%20b", "vm0", "data", "nbd://hub/a%20b");
	expands_to("nbd://hub/%v", "vm0", "a+b", "nbd://hub/a%2Bb");
	expands_to("nbd://[::1]:99/x", "vm0", "data", "nbd://[::1]:99/x");
	expands_to("nbd+unix:///%v?socket=/run/%g.sock", "vm0", "data",
		   "nbd+unix:///data?socket=/run/vm0.sock");
	expands_to("nbds+unix:///?socket=/run/%v", "vm0", "data", "nbds+unix:///?socket=/run/data");
	expands_to("data=nbds://hub/x", "vm0", "data", "nbds://hub/x");
	expands_to("nbd://hub", "vm0", "data", "nbd://hub");
}

/* Each is refused, and the sentence holds the word that is wrong. */
static void test_refused(void **state)
{
	static const struct { const char *arg, *word; } bad[] = {
		{ "", "expected nbd://" },
		{ "http://hub/", "http://hub/" },
		{ "hub:10809", "expected nbd://" },
		{ "nbd://", "names no host" },
		{ "nbd:///x", "names no host" },
		{ "nbd://hub:0/x", ":0" },
		{ "nbd://hub:65536/x", ":65536" },
		{ "nbd://hub:99999999999999999999/x", "no port" },
		{ "nbd://hub:+5/x", ":+5" },
		{ "nbd://hub:/x", "no port" },
		{ "nbd://hub:10x/x", ":10x" },
		{ "nbd://[::1/x", "bracket" },
		{ "nbd://[::1]5/x", "no port" },
		{ "nbd://hub/%x", "'%x'" },
		{ "nbd://hub/%", "'%'" },
		{ "nbd://hub/x?socket=/y", "nbd+unix://" },
		{ "nbd://hub/x#y", "'#'" },
		{ "nbd+unix:///x", "lacks a socket" },
		{ "nbd+unix:///x?socket=", "lacks a socket" },
		{ "nbd+unix:///x?socket=rel", "lacks a socket" },
		{ "nbd+unix://host/x?socket=/y", "'host'" },
		{ "nbd+unix:///x?sokcet=/y", "'sokcet=/y'" },
		{ "nbd+unix:///x?socket=/y&tls-psk-file=/z", "tls-psk-file" },
		{ ".hidden=nbd://hub/x", "'.hidden'" },
		{ "rephub://", "expected rephub://HOST[:PORT]" },
		{ "rephub://hub:0", ":0" },
		{ "rephub://hub/vm0", "'vm0'" },
		{ "rephubs://hub/%v", "no export" },
		{ "rephub://%v.hub", "'%v'" },
		{ "rephub://me@hub", "'me@'" },
		{ "rephubs://hub?tls-certificates=/x", "expected --tls-certificates DIR" },
		{ "rephub://hub?socket=/x", "rephub+unix://" },
		{ "rephub+unix:///", "rephub+unix:///?socket=/ABSOLUTE/PATH" },
		{ "rephub+unix:///x?socket=/y", "'x'" },
		{ "rephub+unix://hub?socket=/y", "'hub'" },
		{ "data=rephub://hub", "expected rephub://hub, for all volumes" },
		{ "=nbd://hub/x", "is no volume" },
		{ "averyveryverylongnameofavolumethatis=nbd://hub/", "is no volume" },
	};
	char error[URI_ERROR_MAX];
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct uri_map map = { 0 };

		error[0] = '\0';
		if (uri_add_tap(&map, bad[i].arg, error))
			fail_msg("'%s' was accepted", bad[i].arg);
		if (!strstr(error, bad[i].word))
			fail_msg("'%s': \"%s\" lacks \"%s\"", bad[i].arg, error, bad[i].word);
	}
}

static void test_too_long(void **state)
{
	char arg[4 * URI_MAX], error[URI_ERROR_MAX];
	struct uri_map map = { 0 };

	(void)state;
	memset(arg, 'x', sizeof(arg));
	memcpy(arg, "nbd://h/", 8);
	arg[sizeof(arg) - 1] = '\0';
	assert_false(uri_add_tap(&map, arg, error));
	assert_non_null(strstr(error, "too long"));
	memset(arg, 0, sizeof(arg));
	while (strlen(arg) < 1000)
		strcat(arg, arg[0] ? "%v" : "nbd://h/");
	assert_false(uri_add_tap(&map, arg, error));
	assert_non_null(strstr(error, "too long"));
}

static void test_mapping(void **state)
{
	char uri[URI_MAX], error[URI_ERROR_MAX];
	struct uri_map map = { 0 };

	(void)state;
	assert_true(uri_add_tap(&map, "root=nbd://hub/r", error));
	assert_false(uri_add_tap(&map, "root=nbd://hub/s", error));
	assert_non_null(strstr(error, "root has a tap already"));
	assert_false(uri_for_volume(&map, "vm0", "data", uri, error));
	assert_non_null(strstr(error, "--tap data=URI"));
	assert_true(uri_add_tap(&map, "nbd://hub/%v", error));
	assert_false(uri_add_tap(&map, "nbd://other/%v", error));
	assert_true(uri_for_volume(&map, "vm0", "data", uri, error));
	assert_string_equal(uri, "nbd://hub/data");
	assert_true(uri_for_volume(&map, "vm0", "root", uri, error));
	assert_string_equal(uri, "nbd://hub/r");
}

static void leads_to(const char *arg, const char *group, const char *expected, const char *expected_nbd)
{
	char uri[URI_MAX], nbd[URI_MAX], error[URI_ERROR_MAX] = "";
	struct uri_map map = { 0 };

	if (!uri_add_tap(&map, arg, error) || !uri_map_check(&map, error) ||
	    !uri_for_hub(&map, group, "log", NULL, uri, nbd, error))
		fail_msg("%s", error);
	assert_true(uri_is_rephub(map.all));
	assert_string_equal(uri, expected);
	assert_string_equal(nbd, expected_nbd);
}

static void test_rephub(void **state)
{
	char uri[URI_MAX], nbd[URI_MAX], long_one[URI_MAX], error[URI_ERROR_MAX];
	struct uri_map map = { 0 };

	(void)state;
	leads_to("rephub://hub", "vm0", "rephub://hub", "nbd://hub:10809/log/vm0");
	leads_to("rephub://hub/", "vm0", "rephub://hub/", "nbd://hub:10809/log/vm0");
	leads_to("rephubs://hub.example:99", "vm0", "rephubs://hub.example:99", "nbds://hub.example:99/log/vm0");
	leads_to("RepHub://[::1]:99", "a.b-c_1", "RepHub://[::1]:99", "nbd://[::1]:99/log/a.b-c_1");
	leads_to("rephub://%g.hubs", "vm0", "rephub://vm0.hubs", "nbd://vm0.hubs:10809/log/vm0");
	leads_to("rephub+unix:///?socket=/run/h", "vm0", "rephub+unix:///?socket=/run/h",
		 "nbd+unix:///log/vm0?socket=/run/h");
	leads_to("rephubs+unix://?socket=/run/%g", "vm0", "rephubs+unix://?socket=/run/vm0",
		 "nbds+unix:///log/vm0?socket=/run/vm0");

	/* Not beside taps of single volumes, whichever came first. */
	assert_true(uri_add_tap(&map, "rephub://hub", error));
	assert_true(uri_map_check(&map, error));
	assert_true(uri_add_tap(&map, "data=nbd://hub/data", error));
	assert_false(uri_map_check(&map, error));
	assert_non_null(strstr(error, "data alone"));

	memset(&map, 0, sizeof(map));
	memset(long_one, 'h', sizeof(long_one));
	memcpy(long_one, "rephub://", 9);
	long_one[URI_MAX - 1] = '\0';
	assert_true(uri_add_tap(&map, long_one, error));
	assert_false(uri_for_hub(&map, "vm0", "log", NULL, uri, nbd, error));
	assert_non_null(strstr(error, "too long"));
}

static void test_same(void **state)
{
	(void)state;
	assert_true(uri_same("nbd://hub/x", "nbd://HUB:10809/x"));
	assert_true(uri_same("nbd://hub/", "nbds://hub"));
	assert_false(uri_same("nbd://hub/x", "nbd://hub/y"));
	assert_false(uri_same("nbd://hub/x", "nbd://hub:1/x"));
	assert_true(uri_same("nbd+unix:///x?socket=/a", "nbd+unix:///x?socket=/a"));
	assert_false(uri_same("nbd+unix:///x?socket=/a", "nbd+unix:///x?socket=/ab"));
	assert_false(uri_same("nbd+unix:///x?socket=/a", "nbd://hub/x"));
}

static void test_exposes(void **state)
{
	(void)state;
	assert_true(uri_exposes_data("nbd://hub/x"));
	assert_true(uri_exposes_data("nbd://10.0.0.1/x"));
	assert_false(uri_exposes_data("nbds://hub/x"));
	assert_false(uri_exposes_data("nbd://localhost/x"));
	assert_false(uri_exposes_data("nbd://127.0.0.1:99/x"));
	assert_false(uri_exposes_data("nbd://[::1]/x"));
	assert_false(uri_exposes_data("nbd+unix:///x?socket=/a"));
	assert_true(uri_exposes_data("rephub://hub"));
	assert_false(uri_exposes_data("rephubs://hub"));
	assert_false(uri_exposes_data("rephub+unix:///?socket=/a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_templates),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_mapping),
		cmocka_unit_test(test_rephub),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_exposes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
