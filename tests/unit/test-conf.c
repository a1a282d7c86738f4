// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/common/conf.h"
#include "../../userspace/common/dmdev.h"

static char file[64];

static int load(struct conf *conf, const char *text, size_t len, char *error)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	return conf_load(conf, file, error);
}

static int load_text(struct conf *conf, const char *text, char *error)
{
	return load(conf, text, strlen(text), error);
}

static const char good[] =
	"# a comment\n"
	"[group]\n"
	"tap = nbd://hub:10809/%g-%v\n"
	"ring = 128\n"
	"  timeout : 5s\n"
	"allow-no-flush = yes\n"
	"; another\n"
	"[volume disk0]\n"
	"device=/dev/vg/vm0   ; the root\n"
	"discard = pass\n"
	"\n"
	"[volume disk1]\n"
	"device = /dev/vg/vm0-data\n"
	"tap = nbd+unix:///x?socket=/run/hub\n"
	"bounce = off\n"
	"name = prot1\n"
	"[reader]\n"
	"listen = :10810 /run/reader\n"
	"listen = [::1]:10811\n"
	"allow = hub=vm0\n"
	"allow = audit=vm0/disk0\n"
	"rate = 0.5\n";

static void check_good(struct conf *conf)
{
	assert_string_equal(conf->group[CONF_G_TAP], "nbd://hub:10809/%g-%v");
	assert_string_equal(conf->group[CONF_G_RING], "128");
	assert_string_equal(conf->group[CONF_G_TIMEOUT], "5s");
	assert_string_equal(conf->group[CONF_G_ALLOW_NO_FLUSH], "yes");
	assert_null(conf->group[CONF_G_HEARTBEAT]);
	assert_int_equal(conf->nr_volumes, 2);
	assert_string_equal(conf_volume(conf, "disk0")->value[CONF_V_DEVICE], "/dev/vg/vm0");
	assert_string_equal(conf_volume(conf, "disk0")->value[CONF_V_DISCARD], "pass");
	assert_string_equal(conf_volume(conf, "disk1")->value[CONF_V_BOUNCE], "off");
	assert_string_equal(conf_volume(conf, "disk1")->value[CONF_V_NAME], "prot1");
	assert_null(conf_volume(conf, "disk2"));
	assert_true(conf->has_reader);
	assert_string_equal(conf->reader[CONF_R_LISTEN], ":10810 /run/reader [::1]:10811");
	assert_string_equal(conf->reader[CONF_R_ALLOW], "hub=vm0 audit=vm0/disk0");
	assert_string_equal(conf->reader[CONF_R_RATE], "0.5");
}

static void test_read_and_write(void **state)
{
	char error[CONF_ERROR_MAX];
	struct conf conf;

	(void)state;
	conf_init(&conf);
	if (load_text(&conf, good, error))
		fail_msg("%s", error);
	check_good(&conf);
	/* What is written is read back as the same. */
	assert_true(conf_save(&conf, file, error));
	conf_free(&conf);
	assert_int_equal(conf_load(&conf, file, error), 0);
	check_good(&conf);
	conf_del_volume(&conf, "disk0");
	assert_int_equal(conf.nr_volumes, 1);
	assert_string_equal(conf.volume[0].name, "disk1");
	conf_del_reader(&conf);
	assert_true(conf_save(&conf, file, error));
	conf_free(&conf);
	assert_int_equal(conf_load(&conf, file, error), 0);
	assert_null(conf_volume(&conf, "disk0"));
	assert_false(conf.has_reader);
	conf_free(&conf);
}

static void test_errors(void **state)
{
	static const struct { const char *text, *place, *word; } bad[] = {
		{ "tap = nbd://h/x\n", ":1:", "no section" },
		{ "[grope]\nring = 1\n", ":2:", "[grope] is unknown" },
		{ "[group]\n\nrung = 1\n", ":3:", "'rung' is unknown in [group]" },
		{ "[group]\nring = 0\n", ":2:", "ring '0': expected a number of MiB, from 1 to 16384" },
		{ "[group]\nring = 1\nring = 2\n", ":3:", "ring is there already ('1')" },
		{ "[group]\nring\n", ":2:", "'key = value'" },
		{ "[group\nring = 1\n", ":1:", "[section]" },
		{ "[group]\nring =\n", ":2:", "ring has no value" },
		{ "[group]\ntap = http://hub\n", ":2:", "tap 'http://hub' is no tap" },
		{ "[group]\ntls-certificates = /nonesuch\n", ":2:", "expected a directory with ca-cert.pem" },
		{ "[group]\nallow-no-flush = maybe\n", ":2:", "expected yes or no" },
		{ "[group]\ntimeout = 1ms\n", ":2:", "expected a time from 100 ms" },
		{ "[group]\nepoch-records = 0\n", ":2:", "expected a number from 1" },
		{ "[group]\nepoch-size = big\n", ":2:", "expected a size" },
		{ "[group]\ncheckpoint-interval = often\n", ":2:", "expected a time from 0" },
		{ "[group]\ncongestion = reno\n", ":2:", "expected system or bbr" },
		{ "[group]\ncompress = gzip\n", ":2:", "expected no or zstd" },
		{ "[group]\ntap = rephub://hub/vm0\n", ":2:", "no export" },
		{ "[volume v]\ntap = rephub://hub\n", ":2:", "expected it in [group]" },
		{ "[volume]\ndevice = /dev/x\n", ":2:", "[volume] is unknown" },
		{ "[volume .x]\ndevice = /dev/x\n", ":2:", "'.x' is no name of a volume" },
		{ "[volume v]\ndevice = sda\n", ":2:", "expected the absolute path" },
		{ "[volume v]\nname = a/b\n", ":2:", "name 'a/b'" },
		{ "[volume v]\nregion = 100\n", ":2:", "a power of two" },
		{ "[volume v]\ndiscard = never\n", ":2:", "expected zero, pass or ignore" },
		{ "[volume v]\nbounce = yes\n", ":2:", "expected on or off" },
		{ "[reader]\nallow = hub\n", ":2:", "expected NAME=GROUP" },
		{ "[reader]\nallow = hub=a/b/c\n", ":2:", "expected NAME=GROUP" },
		{ "[reader]\nrate = fast\n", ":2:", "expected MiB a second" },
		{ "[reader]\nrate = 0\n", ":2:", "expected MiB a second" },
	};
	char error[CONF_ERROR_MAX];
	struct conf conf;
	unsigned int i;

	(void)state;
	conf_init(&conf);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		*error = '\0';
		if (load_text(&conf, bad[i].text, error) != -EINVAL)
			fail_msg("'%s' was accepted", bad[i].text);
		if (strncmp(error, file, strlen(file)) || !strstr(error, bad[i].place) ||
		    !strstr(error, bad[i].word))
			fail_msg("'%s': \"%s\" lacks \"%s\" or \"%s\"", bad[i].text, error,
				 bad[i].place, bad[i].word);
	}
	assert_int_equal(conf_load(&conf, "/nonesuch/conf", error), -ENOENT);
	/* An error leaves what was there. */
	assert_int_equal(load_text(&conf, good, error), 0);
	assert_int_equal(load_text(&conf, bad[0].text, error), -EINVAL);
	check_good(&conf);
	conf_free(&conf);
}

static void test_hostile_files(void **state)
{
	static char text[70000];
	char error[CONF_ERROR_MAX];
	struct conf conf;
	unsigned int i;

	(void)state;
	conf_init(&conf);
	assert_int_equal(load(&conf, "[group]\nring = 1\0", 17, error), -EINVAL);
	assert_non_null(strstr(error, ":2:"));
	assert_non_null(strstr(error, "a byte is 0"));
	memset(text, 'a', sizeof(text));
	assert_int_equal(load(&conf, text, sizeof(text), error), -EINVAL);
	assert_non_null(strstr(error, "too long"));
	for (i = 0; i < 2000; i++) {
		size_t j, len = (size_t)rand() % 3000;

		for (j = 0; j < len; j++)
			text[j] = (char)(rand() % 4 ? "[]=:;# \n\tgroupvlme"[rand() % 18] : rand());
		if (!load(&conf, text, len, error))
			conf_free(&conf);
	}
	conf_free(&conf);
}

/* A value that the file could not hold is refused where it is set. */
static void test_values(void **state)
{
	static const char *const bad[] = { "", " x", "x ", "a ;b", "a\nb", ";x" };
	char error[CONF_ERROR_MAX], many[64];
	struct conf conf;
	unsigned int i;

	(void)state;
	conf_init(&conf);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(conf_set(&conf, CONF_READER, NULL, "listen", bad[i], error));
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		snprintf(many, sizeof(many), "v%u", i);
		assert_true(conf_set(&conf, CONF_VOLUME, many, "device", "/dev/x", error));
	}
	assert_false(conf_set(&conf, CONF_VOLUME, "one-more", "device", "/dev/x", error));
	assert_true(conf_set(&conf, CONF_VOLUME, "v1", "device", NULL, error));
	assert_null(conf_volume(&conf, "v1")->value[CONF_V_DEVICE]);
	conf_free(&conf);
}

static void test_table_lines(void **state)
{
	static const char *const same[] = {
		"254:1 vm0 disk0", "/dev/vg/a vm0 disk0 2 ring 128",
		"254:1 g v 10 ring 8 region 64 discard ignore bounce off meta /dev/m",
	};
	static const char *const bad[] = {
		"", "254:1", "254:1 g", "254:1 g v 2 ring", "254:1 g v 2 ring x", "254:1 g v 1 ring",
		"254:1 12345678901234567890123456789012 v", "254:1 g v 2 discard 12345678",
	};
	struct dmdev_table t;
	char line[2048];
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(dmdev_parse(same[i], &t));
		assert_true(dmdev_line(&t, line, sizeof(line)));
		assert_string_equal(line, same[i]);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (dmdev_parse(bad[i], &t))
			fail_msg("'%s' was accepted", bad[i]);
	assert_true(dmdev_parse("253:17 g v 4 news 128 bounce off ", &t));
	assert_string_equal(t.volume, "v");
	assert_string_equal(t.bounce, "off");
	assert_true(dmdev_name_ok("vm0-disk0"));
	assert_false(dmdev_name_ok("a/b"));
	assert_false(dmdev_name_ok(".."));
	assert_false(dmdev_name_ok(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_and_write),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_table_lines),
	};
	int failed;

	snprintf(file, sizeof(file), "/tmp/test-conf.%d", (int)getpid());
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file);
	return failed;
}
