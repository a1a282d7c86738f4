// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What repctl says: columns, moments, the state of a group in words, the word
 * that was meant; and what it reads of dm-mirror.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repctl/json.h"
#include "repctl/recovered.h"
#include "repctl/show.h"
#include "repctl/spans.h"
#include "repctl/suggest.h"
#include "repctl/table.h"

static char *text;
static size_t text_size;

static FILE *begin(void)
{
	return open_memstream(&text, &text_size);
}

static void expect(FILE *f, const char *expected)
{
	fclose(f);
	assert_string_equal(text, expected);
	free(text);
}

static struct json_object *parse(const char *json)
{
	struct json_object *o = json_tokener_parse(json);

	assert_non_null(o);
	return o;
}

static void test_columns(void **state)
{
	struct table t;
	FILE *f = begin();

	(void)state;
	table_init(&t, "lrl");
	table_row(&t, "A", "SIZE", "LAST");
	table_row(&t, "longer", "1", (const char *)NULL);
	table_row(&t, "", "12345", "x");
	table_print(&t, f, 2);
	expect(f, "  A        SIZE  LAST\n"
		  "  longer      1  -\n"
		  "          12345  x\n");
}

static void test_suggest(void **state)
{
	static const char *const words[] = { "status", "protect", "unprotect", "pause", "resume", "resync" };

	(void)state;
	assert_int_equal(suggest("statsu", words, 6), 0);
	assert_int_equal(suggest("sta", words, 6), 0);
	assert_int_equal(suggest("unprotct", words, 6), 2);
	assert_int_equal(suggest("resinc", words, 6), 5);
	assert_int_equal(suggest("res", words, 6), -1);	/* two begin so, and more is missing than is there */
	assert_int_equal(suggest("delete", words, 6), -1);
	assert_int_equal(suggest("", words, 6), -1);
	assert_int_equal(suggest("a-word-that-is-longer-than-any-that-can-be-meant", words, 6), -1);
}

static void test_since(void **state)
{
	char buf[32];

	(void)state;
	assert_string_equal(show_since(buf, sizeof(buf), 1764081150.5, 1764081151), "14:32:30");
	assert_string_equal(show_since(buf, sizeof(buf), 1764081150.5, 1764181151), "2025-11-25 14:32:30");
	assert_string_equal(show_since(buf, sizeof(buf), 1764081150.5, 1764081100), "2025-11-25 14:32:30");
	assert_string_equal(show_since(buf, sizeof(buf), -1, 1764081151), "-");
}

#define PROTECTED \
	"{'group':'vm0','state':'streaming','protected':true,'present':true,'daemon':true,'configured':true," \
	"'reason':'none','why':'','remedy':'','since':1764081150.1,'hub':{'connected':true,'why':''}," \
	"'lag':{'bytes':1258291,'records':312,'seconds':0.06}," \
	"'rate':{'in-bytes':12897484,'out-bytes':1024},'ring':{'used':1258291,'size':67108864,'last':41230,'acked':40918}," \
	"'resync':null,'volumes':[{'volume':'disk0','active':true,'size':21474836480,'image':'clean','reason':'none'," \
	"'dirty':0,'resync':null,'tap':'nbd://hub/disk0','device':'/dev/mapper/vm0-disk0','target':'repagent'," \
	"'origin':'/dev/vg/vm0'}]}"

#define SYNCING \
	"{'group':'vm1','state':'streaming','protected':false,'present':true,'daemon':true,'configured':true," \
	"'why':'','remedy':'','since':1764081150.1,'hub':{'connected':true,'why':''}," \
	"'lag':{'bytes':1048576,'records':1,'seconds':null},'rate':null,'ring':null," \
	"'resync':{'total':1073741824,'left':268435456,'rate':1048576,'seconds':256.0}," \
	"'volumes':[{'volume':'a','active':true,'size':1073741824,'image':'resync','reason':'first-sync','dirty':0," \
	"'resync':{'total':1073741824,'left':268435456},'tap':null,'device':null,'target':null,'origin':null}]}"

#define LINEAR \
	"{'group':'vm2','state':'waiting','protected':false,'present':false,'daemon':false,'configured':true," \
	"'why':'no module','remedy':'repctl activate vm2','since':null,'lag':null,'ring':null,'resync':null," \
	"'volumes':[{'volume':'disk0','active':false,'size':1024,'device':'/dev/mapper/x','target':'linear'," \
	"'origin':'/dev/y'}]}"

static void test_protected(void **state)
{
	struct json_object *s = parse(PROTECTED);
	FILE *f = begin();

	(void)state;
	show_group(f, s, 1764081160);
	expect(f, "vm0: protected since 14:32:30\n"
		  "  behind   1.2 MiB, 60 ms; 12.3 MiB/s written, 1 KiB/s sent\n"
		  "  hub      connected\n"
		  "  ring     1.2 MiB of 64 MiB, records up to 40918 of 41230 are at the hub\n"
		  "\n"
		  "  VOLUME    SIZE  IMAGE  DIRTY  DEVICE                 ORIGIN       GOES TO\n"
		  "  disk0   20 GiB  clean    0 B  /dev/mapper/vm0-disk0  /dev/vg/vm0  nbd://hub/disk0\n");
	json_object_put(s);
}

static void test_syncing(void **state)
{
	struct json_object *s = parse(SYNCING);
	FILE *f = begin();

	(void)state;
	show_group(f, s, 1764081160);
	expect(f, "vm1: syncing, streaming since 14:32:30\n"
		  "  behind   1 MiB\n"
		  "  resync   75 %, 256 MiB to go, 4 min\n"
		  "  hub      connected\n"
		  "\n"
		  "  VOLUME   SIZE  IMAGE                            DIRTY  DEVICE  ORIGIN  GOES TO\n"
		  "  a       1 GiB  first-sync, 75 %, 256 MiB to go    0 B  -       -       -\n");
	json_object_put(s);
}

static void test_all(void **state)
{
	struct json_object *all = json_object_new_array();
	FILE *f = begin();

	(void)state;
	json_object_array_add(all, parse(PROTECTED));
	json_object_array_add(all, parse(SYNCING));
	json_object_array_add(all, parse(LINEAR));
	show_groups(f, all, 1764081160);
	expect(f, "GROUP  PROTECTION     STATE      SINCE     RESYNC                              BEHIND\n"
		  "vm0    protected      streaming  14:32:30  -                           1.2 MiB, 60 ms\n"
		  "vm1    syncing        streaming  14:32:30  75 %, 256 MiB to go, 4 min           1 MiB\n"
		  "vm2    NOT PROTECTED  no daemon  -         -                                        -\n"
		  "\nvm2:\n"
		  "  why      no module\n"
		  "  what now repctl activate vm2\n");
	json_object_put(all);
}

static void test_linear(void **state)
{
	struct json_object *s = parse(LINEAR);
	FILE *f = begin();

	(void)state;
	show_volumes(f, s, 0);
	expect(f, "VOLUME   SIZE  IMAGE                 DIRTY  DEVICE         ORIGIN  GOES TO\n"
		  "disk0   1 KiB  unprotected (linear)      -  /dev/mapper/x  /dev/y  -\n");
	json_object_put(s);
}

/* An answer may lack anything, and have anything in its texts. */
static void test_hostile(void **state)
{
	static const char *const answers[] = {
		"{}", "[]", "7", "{'group':null,'volumes':7,'lag':[]}",
		"{'group':'g','daemon':true,'present':true,'volumes':[7,null,{}],'lag':{'bytes':-1,'seconds':'x'},"
		"'resync':{'total':0,'left':99},'ring':{},'rate':{},'hub':[],'since':1e300}",
	};
	struct json_object *s;
	unsigned int i;
	FILE *f;

	(void)state;
	for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		s = parse(answers[i]);
		f = begin();
		show_group(f, s, 0);
		show_volumes(f, s, 0);
		fclose(f);
		free(text);
		json_object_put(s);
	}
	s = parse("{'group':'g','daemon':true,'why':'\\u001b[2J red'}");
	f = begin();
	show_group(f, s, 0);
	fclose(f);
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "?[2J red"));
	free(text);
	json_object_put(s);
}

static void test_mirror(void **state)
{
	static const char *const wrong[] = {
		"", "2", "2 253:0 7:1", "2 253:0 7:1 12/64", "2 253:0 7:1 12/64 1", "2 253:0 7:1 65/64 1 AA 1 core",
		"2 253:0 7:1 0/0 1 AA 1 core", "3 253:0 7:1 7:2 12/64 1 AAA 1 core", "2 253:0 7:1 12/64 1 AAA 1 core",
		"2 253:0 7:1 12/64 1 A 1 core", "g v daemon 0 0/8192 0 0 0",
	};
	struct mirror m;
	unsigned int i;

	(void)state;
	assert_true(mirror_parse("2 253:0 7:1 12/64 1 AA 1 core", &m));
	assert_int_equal(m.done, 12);
	assert_int_equal(m.total, 64);
	assert_false(m.hub_failed || m.local_failed);
	assert_true(mirror_parse("2 253:0 7:1 64/64 1 AD 1 core", &m));
	assert_true(!m.hub_failed && m.local_failed);
	assert_true(mirror_parse("2 253:0 7:1 64/64 1 RA 3 disk 253:2 A", &m));
	assert_true(m.hub_failed && !m.local_failed);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(mirror_parse(wrong[i], &m));
}

static void test_mirror_line(void **state)
{
	char line[MIRROR_LINE_MAX];

	(void)state;
	/* The kernel wants a power of 2 that is no larger than the disk. */
	mirror_line(line, 41943040, "253:0", "7:1");
	assert_string_equal(line, "core 1 2048 2 253:0 0 7:1 0 1 handle_errors");
	mirror_line(line, 2047, "253:0", "7:1");
	assert_string_equal(line, "core 1 1024 2 253:0 0 7:1 0 1 handle_errors");
	mirror_line(line, 3, "253:0", "7:1");
	assert_string_equal(line, "core 1 2 2 253:0 0 7:1 0 1 handle_errors");
}

/* Parts of a disk, against a map of its blocks. */
static void test_spans(void **state)
{
	enum { BLOCKS = 64, ALIGN = 8, SIZE = BLOCKS * ALIGN - 3 };
	bool a[BLOCKS], b[BLOCKS], is[BLOCKS];
	struct spans s[2], out;
	unsigned int round, i, k;
	size_t n;

	(void)state;
	srandom(3);
	for (round = 0; round < 2000; round++) {
		memset(s, 0, sizeof(s));
		memset(a, 0, sizeof(a));
		memset(b, 0, sizeof(b));
		for (k = 0; k < 2; k++) {
			for (i = (unsigned int)random() % 6; i; i--) {
				uint64_t start = (uint64_t)random() % (SIZE + 20), end = start + (uint64_t)random() % 60, at;

				assert_true(spans_add(&s[k], start, end));
				for (at = start; at < end && at < SIZE; at++)
					(k ? b : a)[at / ALIGN] = true;
			}
			spans_tidy(&s[k], ALIGN, SIZE);
		}
		out = (struct spans){ 0 };
		assert_true(spans_without(&s[0], &s[1], &out));
		memset(is, 0, sizeof(is));
		for (n = 0; n < out.nr; n++) {
			assert_true(out.span[n].start < out.span[n].end && out.span[n].end <= SIZE);
			assert_true(!n || out.span[n].start > out.span[n - 1].end);
			assert_int_equal(out.span[n].start % ALIGN, 0);
			assert_true(out.span[n].end % ALIGN == 0 || out.span[n].end == SIZE);
			for (i = (unsigned int)out.span[n].start / ALIGN; i * ALIGN < out.span[n].end; i++)
				is[i] = true;
		}
		for (i = 0; i < BLOCKS; i++)
			assert_int_equal(is[i], a[i] && !b[i]);
		for (n = 0, i = 0; i < BLOCKS; i++)
			n += is[i] ? i == BLOCKS - 1 ? SIZE % ALIGN : ALIGN : 0;
		assert_int_equal(spans_bytes(&out), n);
		spans_free(&s[0]);
		spans_free(&s[1]);
		spans_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_suggest),
		cmocka_unit_test(test_since),
		cmocka_unit_test(test_protected),
		cmocka_unit_test(test_syncing),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_mirror_line),
		cmocka_unit_test(test_spans),
	};

	setenv("TZ", "UTC0", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
