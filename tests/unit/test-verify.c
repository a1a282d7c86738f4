// SPDX-License-Identifier: GPL-2.0-or-later
/* What the kernel may answer when it is asked for a chunk to compare. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/repagentd/verify.h"

static int answer;
static unsigned int asked;

static int emit(struct ring *ring, struct repagent_emit *e)
{
	(void)ring;
	assert_int_equal(e->type, REPAGENT_REC_VERIFY);
	asked++;
	return answer;
}

/* What has no place now is asked for later, and is nothing that the daemon ends of. */
static void test_no_place_now(void **state)
{
	static const int passing[] = { EAGAIN, ENOSPC, ENOMEM, ENOENT, EINVAL };
	static const struct ring_ops ops = { .emit = emit };
	static struct ring ring = { .ops = &ops };
	static struct stream s = { .ring = &ring };
	static struct verify v;
	unsigned int i, before;
	uint64_t now = 1;

	(void)state;
	s.info.capture = REPAGENT_CAPTURE_STREAM;
	s.volume[0].info = (struct repagent_volume_info) { .id = 1, .active = 1, .sectors = 4096 };
	verify_init(&v);
	verify_start(&v, &s, 1, 0, 0);
	for (i = 0; i < sizeof(passing) / sizeof(*passing); i++) {
		answer = -passing[i];
		before = asked;
		assert_int_equal(verify_run(&v, &s, true, now), 0);
		assert_int_equal(asked, before + 1);
		assert_true(v.deadline > now && v.deadline != UINT64_MAX);
		assert_int_equal(v.volume[0].state, VERIFY_RUNNING);
		now = v.deadline;
	}
	answer = -ENODEV;
	assert_int_equal(verify_run(&v, &s, true, now), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_place_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
