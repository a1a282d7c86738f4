// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "../../userspace/repagentd/epoch.h"

static const struct epoch_limits wide = { .records = 100, .bytes = 1 << 20, .ns = 1000 };

static void test_overlap(void **state)
{
	struct inflight f = { 0 };
	int i;

	(void)state;
	i = inflight_add(&f, 100, 200);
	assert_true(inflight_overlaps(&f, 199, 300));
	assert_true(inflight_overlaps(&f, 0, 101));
	assert_true(inflight_overlaps(&f, 0, 1000));
	assert_true(inflight_overlaps(&f, 150, 160));
	assert_false(inflight_overlaps(&f, 200, 300));
	assert_false(inflight_overlaps(&f, 0, 100));
	inflight_del(&f, i);
	assert_false(inflight_overlaps(&f, 0, 1000));
	inflight_add(&f, 0, 0);
	assert_false(inflight_overlaps(&f, 0, 1000));
}

static void test_inflight_is_bounded(void **state)
{
	struct inflight f = { 0 };
	int i;

	(void)state;
	for (i = 0; i < INFLIGHT_MAX; i++)
		assert_int_equal(inflight_add(&f, (uint64_t)i, (uint64_t)i + 1), i);
	assert_int_equal(inflight_add(&f, 1000, 1001), -1);
	inflight_del(&f, 17);
	assert_int_equal(inflight_add(&f, 1000, 1001), 17);
}

static void test_closes_when(void **state)
{
	struct epochs e;
	int i;

	(void)state;
	epochs_init(&e, &wide);
	assert_false(epochs_close(&e, true, 0));	/* empty */
	epochs_add(&e, 1, 10, 5);
	assert_false(epochs_close(&e, false, 1004));	/* young */
	assert_true(epochs_close(&e, false, 1005));	/* old */

	epochs_init(&e, &wide);
	epochs_add(&e, 1, 10, 5);
	assert_true(epochs_close(&e, true, 5));		/* dry */

	epochs_init(&e, &wide);
	for (i = 0; i < 100; i++) {
		assert_true(epochs_room(&e));
		epochs_add(&e, (uint64_t)i + 1, 0, 0);
	}
	assert_false(epochs_room(&e));			/* full of records */
	assert_true(epochs_close(&e, false, 0));

	epochs_init(&e, &wide);
	epochs_add(&e, 1, 1 << 20, 0);
	assert_false(epochs_room(&e));			/* full of bytes */
	assert_true(epochs_close(&e, false, 0));
}

static void test_only_one_is_closed(void **state)
{
	struct epochs e;
	uint64_t touched;

	(void)state;
	epochs_init(&e, &wide);
	epochs_add(&e, 1, 0, 0);
	assert_true(epochs_close(&e, true, 0));
	epochs_add(&e, 2, 0, 0);
	assert_false(epochs_close(&e, true, 0));
	assert_true(epochs_flush(&e, &touched));
	assert_int_equal(touched, 0);
	assert_false(epochs_flush(&e, &touched));	/* once */
	assert_int_equal(epochs_done(&e), 1);
	assert_int_equal(epochs_done(&e), 0);		/* once */
	assert_true(epochs_close(&e, true, 0));
}

static void test_flushes_what_was_touched(void **state)
{
	struct epochs e;
	uint64_t touched;
	unsigned int a, b;

	(void)state;
	epochs_init(&e, &wide);
	epochs_add(&e, 1, 0, 0);
	a = epochs_send(&e, 3);
	b = epochs_send(&e, 63);
	assert_true(epochs_close(&e, true, 0));
	assert_false(epochs_flush(&e, &touched));
	epochs_reply(&e, a);
	assert_false(epochs_flush(&e, &touched));
	epochs_reply(&e, b);
	assert_true(epochs_flush(&e, &touched));
	assert_int_equal(touched, 1ULL << 3 | 1ULL << 63);
	epochs_flushed(&e);
	assert_int_equal(epochs_done(&e), 0);
	epochs_flushed(&e);
	assert_int_equal(epochs_done(&e), 1);
	assert_true(epochs_idle(&e));
}

/*
 * A model of two stock servers: each carries out what is in flight in any
 * order; what it has answered is volatile; a flush makes durable what was
 * answered before the flush was sent.
 */
#define NR_DISKS	2
#define NR_BLOCKS	24
#define NR_RECORDS	400

struct record {
	unsigned int disk, start, end;
};

struct model {
	struct epochs e;
	struct inflight in_flight[NR_DISKS];
	struct { unsigned int tag; uint64_t seq; } request[NR_DISKS][INFLIGHT_MAX];
	uint64_t answered[NR_DISKS][NR_BLOCKS];
	uint64_t covered[NR_DISKS][NR_BLOCKS];	/* by the flush under way */
	uint64_t durable[NR_DISKS][NR_BLOCKS];
	uint64_t flushing;
	struct record record[NR_RECORDS + 1];
	uint64_t next, acked;
};

static void model_send(struct model *m)
{
	const struct record *r = &m->record[m->next];
	struct inflight *f = &m->in_flight[r->disk];
	int i;

	if (m->next > NR_RECORDS || !epochs_room(&m->e) ||
	    inflight_overlaps(f, r->start, r->end) || !~f->used)
		return;
	epochs_add(&m->e, m->next, 1, 0);
	i = inflight_add(f, r->start, r->end);
	m->request[r->disk][i].tag = epochs_send(&m->e, r->disk);
	m->request[r->disk][i].seq = m->next++;
}

static void model_answer(struct model *m, unsigned int disk)
{
	struct inflight *f = &m->in_flight[disk];
	unsigned int i = (unsigned int)random() % INFLIGHT_MAX;
	uint64_t b;

	if (!(f->used >> i & 1))
		return;
	for (b = f->start[i]; b < f->end[i]; b++)
		m->answered[disk][b] = m->request[disk][i].seq;
	inflight_del(f, (int)i);
	epochs_reply(&m->e, m->request[disk][i].tag);
}

static void model_flushed(struct model *m, unsigned int disk)
{
	if (!(m->flushing >> disk & 1))
		return;
	m->flushing &= ~(1ULL << disk);
	memcpy(m->durable[disk], m->covered[disk], sizeof(m->durable[disk]));
	epochs_flushed(&m->e);
}

/* Every block's last acknowledged write, or a later one, must be durable. */
static void model_acked(struct model *m, uint64_t seq)
{
	unsigned int b;

	assert_true(seq > m->acked);
	m->acked = seq;
	for (; seq; seq--)
		for (b = m->record[seq].start; b < m->record[seq].end; b++)
			assert_true(m->durable[m->record[seq].disk][b] >= seq);
}

static void test_model(void **state)
{
	const struct epoch_limits limits = { .records = 20, .bytes = 15, .ns = UINT64_MAX };
	unsigned int seed = (unsigned int)time(NULL), round, d, b;
	struct model *m = malloc(sizeof(*m));
	uint64_t seq, touched;

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	for (round = 0; round < 300; round++) {
		memset(m, 0, sizeof(*m));
		epochs_init(&m->e, &limits);
		m->next = 1;
		for (seq = 1; seq <= NR_RECORDS; seq++) {
			struct record *r = &m->record[seq];

			r->disk = (unsigned int)random() % NR_DISKS;
			r->start = (unsigned int)random() % NR_BLOCKS;
			r->end = r->start + 1 + (unsigned int)random() % (NR_BLOCKS - r->start);
		}
		while (m->acked < NR_RECORDS) {
			d = (unsigned int)random() % NR_DISKS;
			switch (random() % 6) {
			case 0:
			case 1:
				model_send(m);
				break;
			case 2:
			case 3:
				model_answer(m, d);
				break;
			case 4:
				model_flushed(m, d);
				break;
			default:
				epochs_close(&m->e, random() % 8 == 0 || m->next > NR_RECORDS, 0);
				if (epochs_flush(&m->e, &touched)) {
					m->flushing = touched;
					memcpy(m->covered, m->answered, sizeof(m->covered));
				}
				seq = epochs_done(&m->e);
				if (seq)
					model_acked(m, seq);
			}
		}
		/* In the end each block holds its last write. */
		for (d = 0; d < NR_DISKS; d++) {
			for (b = 0; b < NR_BLOCKS; b++) {
				for (seq = NR_RECORDS; seq; seq--)
					if (m->record[seq].disk == d && m->record[seq].start <= b &&
					    b < m->record[seq].end)
						break;
				assert_int_equal(m->durable[d][b], seq);
			}
		}
	}
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_inflight_is_bounded),
		cmocka_unit_test(test_closes_when),
		cmocka_unit_test(test_only_one_is_closed),
		cmocka_unit_test(test_flushes_what_was_touched),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
