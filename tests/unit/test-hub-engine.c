// SPDX-License-Identifier: GPL-2.0-or-later
/* The hub's engine: what goes in comes out, as it was at any point, whatever happens to the hub. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "hubfixture.h"

#define SEGMENT	(1u << 20)

static int setup(void **state)
{
	(void)state;
	fixture_begin(7, SEGMENT, 0xabc, 0xb);
	return 0;
}

static void run(unsigned int frames)
{
	while (frames--) {
		sim_random(&a, 1 + (unsigned int)random() % 40);
		if (!(random() % 4))
			assert_int_equal(sim_flush(&a), 0);
	}
	assert_int_equal(sim_flush(&a), 0);
}

static uint64_t some_point(void)
{
	return 3 * SIM_VOLUMES + (uint64_t)random() % (a.acked - 3 * SIM_VOLUMES) + 1;
}

/* Random writes to three volumes; any point, before and after the hub was started anew. */
static void test_oracle(void **state)
{
	int i;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 3; i++) {
		a.level = i == 1;
		run(100);
		assert_true(hub_find(hub, "vm0")->nr_segments > 2);
		for (int k = 0; k < 15; k++)
			sim_compare(&a, some_point());
		sim_compare(&a, a.acked);
		reopen(0);
		assert_true(!strstr(sim_log, "damaged") && !strstr(sim_log, "cut"));
		assert_int_equal(sim_connect(&a), 0);
		assert_int_equal(a.block.seq, a.acked);
		assert_int_equal(a.block.incarnation, a.incarnation);
		for (int k = 0; k < 15; k++)
			sim_compare(&a, some_point());
	}
	/* Without the indexes it is the same. */
	char command[256];

	snprintf(command, sizeof(command), "rm %s/groups/vm0/journal/*.index", dir);
	assert_int_equal(system(command), 0);
	reopen(0);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	for (int k = 0; k < 15; k++)
		sim_compare(&a, some_point());
}

/* The dependent writes of a guest: A(n), then B(n). At every record B's number is never above A's. */
static void test_dependent_writes(void **state)
{
	static uint8_t scratch[FRAME_BODY_MAX], payload[4096];
	uint64_t counter[2] = { 0, 0 }, n = sim_many("HUB_WRITES", 20000), boundaries = 0, gone[2] = { 0, 0 };
	char error[SEGMENT_ERROR_MAX];
	const struct group *g;
	size_t i;

	(void)state;
	sim_start(&a);
	sim_dependent_writes(&a, n);
	g = hub_find(hub, "vm0");
	for (i = 0; i < g->nr_segments; i++) {
		const struct segment *s = g->segment[i];
		uint32_t k;

		for (k = 0; k < s->nr_records; k++, boundaries++) {
			const struct log_record *rec = &s->record[k];

			if (rec->type != REPAGENT_REC_WRITE || rec->slot > 1)
				continue;
			assert_int_equal(segment_read(s, rec, payload, scratch, error), 0);
			memcpy(&counter[rec->slot], payload, 8);
			assert_true(counter[0] >= counter[1] && counter[rec->slot] > gone[rec->slot]);
			gone[rec->slot] = counter[rec->slot];
		}
	}
	assert_int_equal(counter[0], n);
	assert_int_equal(counter[1], n);
	assert_true(boundaries > 3 * n);
	print_message("# %" PRIu64 " boundaries of records\n", boundaries);
	/* And through views, at some of them. */
	for (i = 0; i < 60; i++) {
		char point[32], why[HUB_REASON_MAX];
		uint64_t at[2];
		unsigned int k;

		snprintf(point, sizeof(point), "%" PRIu64, some_point());
		for (k = 0; k < 2; k++) {
			struct hub_view *v = hub_view_open(hub, "vm0", k ? "disk1" : "disk0", point, why);

			assert_non_null(v);
			assert_int_equal(hub_view_read(v, SIM_COUNTER, &at[k], 8, why), 0);
			hub_view_close(v);
		}
		assert_true(at[0] >= at[1] && at[0] <= at[1] + 1);
	}
}

static uint64_t group_bytes(const struct group *g)
{
	return hubgroup_last(g)->end - g->segment[0]->start;
}

static void path_of_last(char *path, size_t size)
{
	snprintf(path, size, "%s/groups/vm0/journal/%s", dir, hubgroup_last(hub_find(hub, "vm0"))->name);
}

static size_t get_file(const char *path, uint8_t *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, size);

	assert_true(fd >= 0 && n >= 0);
	close(fd);
	return (size_t)n;
}

static void put_file(const char *path, const uint8_t *buf, size_t size)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, size), size);
	close(fd);
}

/* The file ends anywhere in its last frames, none of which was acknowledged. */
static void test_torn_tail(void **state)
{
	static uint8_t kept[2 * SEGMENT], mark[512];
	char path[256], mark_path[256];
	uint64_t durable, full, at, acked;
	struct stat st;

	(void)state;
	sim_start(&a);
	run(5);
	acked = a.acked;
	path_of_last(path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	durable = (uint64_t)st.st_size;
	for (int i = 0; i < 3; i++) {
		sim_begin(&a, false);
		assert_true(sim_add(&a, REPAGENT_REC_WRITE, 1, 5, 1));
		assert_int_equal(sim_send(&a), 0);
	}
	assert_int_equal(stat(path, &st), 0);
	full = (uint64_t)st.st_size;
	/* As it is now, for a hub that is closed syncs all. */
	snprintf(mark_path, sizeof(mark_path), "%s/groups/vm0/mark", dir);
	assert_int_equal(get_file(path, kept, sizeof(kept)), full);
	assert_int_equal(get_file(mark_path, mark, sizeof(mark)), sizeof(mark));
	for (at = durable; at <= full; at++) {
		uint64_t whole = (at - durable) / 1024;

		sim_disconnect(&a);
		if (hub)
			hub_close(hub);
		hub = NULL;
		put_file(path, kept, at);
		put_file(mark_path, mark, sizeof(mark));
		reopen(0);
		assert_int_equal(sim_connect(&a), 0);
		assert_int_equal(a.block.state, SESSION_ACCEPTING);
		assert_int_equal(a.block.seq, acked + whole);
		assert_string_equal(hub_find(hub, "vm0")->trouble, "");
		if (!(at % 64))
			sim_compare(&a, acked + whole);
		/* It goes on there. */
		a.next = a.block.seq + 1;
		sim_begin(&a, true);
		frame_add_void(&a.b, a.next);
		assert_int_equal(sim_send(&a), 0);
		assert_int_equal(sim_flush(&a), 0);
	}
}

/* A later frame is there and the one before is not: the power went, and the disk wrote them in its own order. */
static void test_torn_middle(void **state)
{
	char path[256], mark_path[256];
	uint64_t acked, durable;
	uint8_t mark[512];
	struct stat st;
	int fd;

	(void)state;
	sim_start(&a);
	run(5);
	acked = a.acked;
	path_of_last(path, sizeof(path));
	snprintf(mark_path, sizeof(mark_path), "%s/groups/vm0/mark", dir);
	get_file(mark_path, mark, sizeof(mark));
	assert_int_equal(stat(path, &st), 0);
	durable = (uint64_t)st.st_size;
	for (int i = 0; i < 3; i++) {
		sim_begin(&a, false);
		assert_true(sim_add(&a, REPAGENT_REC_WRITE, 1, 5, 1));
		assert_int_equal(sim_send(&a), 0);
	}
	sim_disconnect(&a);
	hub_close(hub);
	hub = NULL;
	put_file(mark_path, mark, sizeof(mark));
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "????????", 8, (off_t)durable + 600), 8);
	close(fd);
	reopen(0);
	assert_non_null(strstr(sim_log, "never acknowledged"));
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, durable);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.seq, acked);
	sim_compare(&a, acked);
}

static void flip(const char *path, uint64_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
	b ^= 4;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
	close(fd);
}

/* A byte of an old segment: found when it is read, named, never given. */
static void flip_old_segment(int level)
{
	static uint8_t buf[SIM_SECTORS * 512];
	unsigned int found = 0, v;
	char path[256], why[HUB_REASON_MAX], name[16];
	const struct segment *s;

	a.level = level;
	sim_start(&a);
	run(level ? 400 : 100);
	s = hub_find(hub, "vm0")->segment[1];
	assert_true(s->sealed);
	snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, s->name);
	reopen(0);
	s = hub_find(hub, "vm0")->segment[1];
	/* Every write in it gets a bad byte: what a view still needs of it cannot be read. */
	for (uint32_t i = 0; i < s->nr_frames && level; i++)
		if (s->frame[i].flags & FRAME_ZSTD)
			flip(path, SEGMENT_HEADER + s->frame[i].offset - s->start + FRAME_HEADER + s->frame[i].stored / 2);
	for (uint32_t i = 0; i < s->nr_records && !level; i++)
		if (s->record[i].len)
			flip(path, SEGMENT_HEADER + s->frame[s->record[i].frame].offset - s->start +
			     FRAME_HEADER + s->record[i].at + 100);
	for (v = 0; v < SIM_VOLUMES; v++) {
		uint64_t at;
		struct hub_view *view;
		char point[32];

		snprintf(name, sizeof(name), "disk%u", v);
		snprintf(point, sizeof(point), "%" PRIu64, s->record[s->nr_records - 1].seq);
		view = hub_view_open(hub, "vm0", name, point, why);
		assert_non_null(view);
		sim_model(&a, s->record[s->nr_records - 1].seq, v, buf);
		for (at = 0; at < sizeof(buf); at += 512) {
			uint8_t got[512];

			if (hub_view_read(view, at, got, sizeof(got), why)) {
				found++;
				assert_non_null(strstr(why, s->name));
				assert_non_null(strstr(why, "damaged"));
			} else {
				assert_memory_equal(got, buf + at, sizeof(got));
			}
		}
		hub_view_close(view);
	}
	assert_true(found > 10);
	assert_non_null(strstr(sim_log, "damaged"));
}

static void test_flipped_byte_in_old_segment(void **state)
{
	(void)state;
	flip_old_segment(0);
}

static void test_flipped_byte_in_compressed_segment(void **state)
{
	(void)state;
	flip_old_segment(1);
}

/* What the readers of test_cache() share; @bad: records, from the first on, that were damaged. */
static struct { struct cache *cache; bool *bad; atomic_uint found, good, wrong; } cached;

static const struct log_record *some_record(const struct segment **s, unsigned int *seed, uint64_t *id)
{
	const struct group *g = hub_find(hub, "vm0");
	const struct log_record *rec;

	do {
		*s = g->segment[(size_t)rand_r(seed) % g->nr_segments];
		rec = (*s)->nr_records ? &(*s)->record[(uint32_t)rand_r(seed) % (*s)->nr_records] : NULL;
	} while (!rec || !rec->len);
	*id = (*s)->first_id + (uint64_t)(rec - (*s)->record);
	return rec;
}

static void *read_cached(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg, i;
	uint8_t *want = malloc(512 * 512), *got = malloc(512 * 512);
	char error[SEGMENT_ERROR_MAX];
	const struct log_record *rec;
	const struct segment *s;
	size_t skip, len;
	uint64_t id;

	for (i = 0; i < 1000; i++) {
		rec = some_record(&s, &seed, &id);
		skip = (size_t)rand_r(&seed) % rec->len;
		len = 1 + (size_t)rand_r(&seed) % (rec->len - skip);
		sim_fill(want, a.incarnation, rec->seq, rec->sector, rec->nr_sectors);
		if (!cache_read(cached.cache, s, rec, skip, got, len, error)) {
			cached.wrong += cached.bad[id] || memcmp(got, want + skip, len);
			cached.good++;
		} else {
			cached.wrong += !cached.bad[id] || !strstr(error, s->name) || !strstr(error, "damaged");
			cached.found++;
		}
	}
	free(want);
	free(got);
	return NULL;
}

/* Several threads read parts of records, some of which are damaged, through caches that have room for none, few or all. */
static void test_cache(void **state)
{
	static const size_t bytes[] = { 0, 100000, 300000, 1 << 20, 64 << 20 };
	char path[256], error[SEGMENT_ERROR_MAX];
	const struct log_record *rec;
	const struct segment *s;
	unsigned int i, k, seed = 7;
	pthread_t thread[4];
	uint8_t byte[2];
	uint64_t id;

	(void)state;
	sim_start(&a);
	run(40);
	a.level = 1;
	run(300);
	cached.bad = calloc(a.next + 1, sizeof(bool));
	for (i = 0; i < 40; i++) {
		rec = some_record(&s, &seed, &id);
		if (cached.bad[id])
			continue;
		snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, s->name);
		if (s->frame[rec->frame].flags & FRAME_ZSTD) {
			flip(path, SEGMENT_HEADER + s->frame[rec->frame].offset - s->start + FRAME_HEADER +
			     s->frame[rec->frame].stored / 2);
			for (k = 0; k < s->frame[rec->frame].nr_records; k++)
				cached.bad[s->first_id + s->frame[rec->frame].record + k] = true;
		} else {
			flip(path, SEGMENT_HEADER + s->frame[rec->frame].offset - s->start + FRAME_HEADER + rec->at +
			     (uint64_t)rand_r(&seed) % rec->len);
			cached.bad[id] = true;
		}
	}
	for (i = 0; i < sizeof(bytes) / sizeof(*bytes); i++) {
		cached.cache = cache_new(bytes[i]);
		assert_non_null(cached.cache);
		cached.found = cached.good = cached.wrong = 0;
		for (k = 0; k < 4; k++)
			assert_int_equal(pthread_create(&thread[k], NULL, read_cached, (void *)(uintptr_t)(4 * i + k + 1)), 0);
		for (k = 0; k < 4; k++)
			pthread_join(thread[k], NULL);
		assert_int_equal(cached.wrong, 0);
		assert_true(cached.found > 30 && cached.good > 1000);
		cache_free(cached.cache);
	}
	/* A byte changes after the record was read: what was good is still given, and whoever reads the file finds it. */
	do
		rec = some_record(&s, &seed, &id);
	while (cached.bad[id] || s->frame[rec->frame].flags & FRAME_ZSTD);
	cached.cache = cache_new(1 << 20);
	assert_int_equal(cache_read(cached.cache, s, rec, 101, byte, 1, error), 0);
	snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, s->name);
	flip(path, SEGMENT_HEADER + s->frame[rec->frame].offset - s->start + FRAME_HEADER + rec->at + 101);
	assert_int_equal(cache_read(cached.cache, s, rec, 101, byte + 1, 1, error), 0);
	assert_int_equal(byte[0], byte[1]);
	cache_free(cached.cache);
	cached.cache = cache_new(1 << 20);
	assert_int_equal(cache_read(cached.cache, s, rec, 0, byte, 1, error), EBADMSG);
	cache_free(cached.cache);
	free(cached.bad);
}

/*
 * Any byte of an old segment or its index: whatever is read is what was written, and what cannot be read names the file. A
 * header that makes no sense ends the journal there, with trouble: points before it stay, and the agent resynchronises.
 */
static void test_flipped_anywhere(void **state)
{
	static uint8_t want[SIM_SECTORS * 512], got[65536];
	unsigned int flips = (unsigned int)sim_many("HUB_FLIPS", 30), found = 0, i, v;
	char command[600], path[300], why[HUB_REASON_MAX], point[32], name[16], of[SEGMENT_NAME_MAX];
	struct hub_view *view;
	struct stat st;
	uint64_t at, seq, end;

	(void)state;
	sim_start(&a);
	run(100);
	end = a.acked;
	sim_disconnect(&a);
	hub_close(hub);
	hub = NULL;
	snprintf(command, sizeof(command), "cp -a %s/groups/vm0 %s/kept", dir, dir);
	assert_int_equal(system(command), 0);
	for (i = 0; i < flips; i++) {
		if (hub)
			hub_close(hub);
		hub = NULL;
		snprintf(command, sizeof(command), "rm -rf %s/groups/vm0 && cp -a %s/kept %s/groups/vm0", dir, dir, dir);
		assert_int_equal(system(command), 0);
		reopen(0);
		snprintf(of, sizeof(of), "%.16s", hub_find(hub, "vm0")->segment[1]->name);
		snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s%s", dir, of, i % 3 ? ".log" : ".index");
		hub_close(hub);
		hub = NULL;
		assert_int_equal(stat(path, &st), 0);
		flip(path, (uint64_t)random() % (uint64_t)(i % 5 ? st.st_size : 4096));
		reopen(0);
		if (*hub_find(hub, "vm0")->trouble) {
			assert_non_null(strstr(hub_find(hub, "vm0")->trouble, of));
			found++;
		}
		for (v = 0; v < SIM_VOLUMES; v++) {
			seq = 3 * SIM_VOLUMES + (uint64_t)random() % (end - 3 * SIM_VOLUMES) + 1;
			snprintf(point, sizeof(point), "%" PRIu64 ":%" PRIu64, a.incarnation, seq);
			snprintf(name, sizeof(name), "disk%u", v);
			view = hub_view_open(hub, "vm0", name, point, why);
			if (!view) {
				assert_true(*hub_find(hub, "vm0")->trouble);
				continue;
			}
			sim_model(&a, seq, v, want);
			for (at = 0; at < sizeof(want); at += sizeof(got)) {
				if (!hub_view_read(view, at, got, sizeof(got), why)) {
					assert_memory_equal(got, want + at, sizeof(got));
				} else {
					found++;
					assert_non_null(strstr(why, of));
				}
			}
			hub_view_close(view);
		}
	}
	print_message("# %u times what was flipped was of use, and found\n", found);
	assert_true(found);
}

/* Flipped in what was acknowledged, at the end of the journal, where all is read at the start. */
static void test_flipped_byte_in_last_segment(void **state)
{
	uint64_t good, start;
	char path[256];
	const struct segment *s;

	(void)state;
	sim_start(&a);
	run(10);
	s = hubgroup_last(hub_find(hub, "vm0"));
	path_of_last(path, sizeof(path));
	good = s->frame[s->nr_frames / 2].first - 1;
	start = s->frame[s->nr_frames / 2].offset - s->start + SEGMENT_HEADER;
	sim_disconnect(&a);
	hub_close(hub);
	hub = NULL;
	flip(path, start + 200);
	reopen(0);
	assert_non_null(strstr(hub_find(hub, "vm0")->trouble, strrchr(path, '/') + 1));
	sim_compare(&a, good);
	/* The agent is told the last good position, and resynchronises. */
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_ACCEPTING);
	assert_int_equal(a.block.seq, good);
	sim_begin(&a, true);
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(&a), EINVAL);
	a.nr_ops--;
	a.next--;
	assert_int_equal(sim_connect(&a), 0);
	sim_begin(&a, true);
	assert_true(sim_add(&a, REPAGENT_REC_GAP, 0, 0, 0));
	for (unsigned int v = 0; v < SIM_VOLUMES; v++) {
		assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, v, 0, SIM_SECTORS));
		assert_true(sim_add(&a, REPAGENT_REC_ZEROES, v, 0, SIM_SECTORS));
		assert_true(sim_add(&a, REPAGENT_REC_RESYNC_END, v, 0, 0));
	}
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	run(10);
	sim_compare(&a, a.acked);
	/* The next start knows of it, and needs no other place to begin. */
	reopen(0);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	sim_compare(&a, a.acked);
	sim_compare(&a, good);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.seq, a.acked);
}

/* A whole segment is missing, or its header is bad: what is behind is set aside. */
static void test_lost_segment(void **state)
{
	char path[256], command[512];
	uint64_t good;
	struct group *g;

	(void)state;
	sim_start(&a);
	run(100);
	g = hub_find(hub, "vm0");
	assert_true(g->nr_segments > 3);
	good = g->segment[2]->begin.seq;
	snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, g->segment[2]->name);
	sim_disconnect(&a);
	hub_close(hub);
	hub = NULL;
	flip(path, 50);
	reopen(0);
	g = hub_find(hub, "vm0");
	assert_true(*g->trouble);
	assert_int_equal(g->nr_segments, 3);
	assert_int_equal(g->now.seq, good);
	snprintf(command, sizeof(command), "test -e %s.damaged", path);
	assert_int_equal(system(command), 0);
	sim_compare(&a, good);
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.seq, good);
	assert_true(a.block.offset > good);
	reopen(0);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
}

/* Files that cannot be opened now are not taken for damaged: nothing is changed, and later all is there. */
static void test_out_of_files(void **state)
{
	struct rlimit old, less;
	char why[HUB_REASON_MAX];

	(void)state;
	sim_start(&a);
	run(150);
	assert_true(hub_find(hub, "vm0")->nr_segments > 6);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (unsigned int i = 9; i < 24; i++) {
		sim_disconnect(&a);
		hub_close(hub);
		hub = NULL;
		less = old;
		less.rlim_cur = i;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
		hub = a.hub = sim_hub(dir, SEGMENT, 0);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		if (!hub_find(hub, "vm0")) {
			assert_non_null(strstr(sim_log, "is not served"));
			assert_null(hub_view_open(hub, "vm0", "disk0", "latest", why));
			assert_int_equal(sim_connect(&a), EPERM);	/* its uuid is known, and it is not here */
		} else {
			assert_string_equal(hub_find(hub, "vm0")->trouble, "");
		}
	}
	reopen(0);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	sim_compare(&a, a.acked);
	sim_compare(&a, some_point());
}

/* The first segment is missing: the base is not what goes before the second, so nothing of that is used. */
static void test_lost_first_segment(void **state)
{
	char path[256], why[HUB_REASON_MAX];
	struct group *g;

	(void)state;
	sim_start(&a);
	run(100);
	g = hub_find(hub, "vm0");
	snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, g->segment[0]->name);
	assert_int_equal(unlink(path), 0);
	reopen(0);
	g = hub_find(hub, "vm0");
	assert_non_null(strstr(g->trouble, "first segment is missing"));
	assert_null(hub_view_open(hub, "vm0", "disk0", "latest", why));
	reopen(0);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	assert_null(hub_view_open(hub, "vm0", "disk0", "latest", why));
	/* It is as if it were new, and its agent resynchronises: what it has sent is over. */
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.state, SESSION_ACCEPTING);
	assert_int_equal(a.block.seq, 0);
	assert_true(a.block.offset > SESSION_SIZE);
	sim_begin(&a, true);
	assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, 0, 1));
	assert_int_equal(sim_send(&a), EINVAL);
	assert_int_equal(sim_connect(&a), 0);
	sim_begin(&a, true);
	assert_true(sim_add(&a, REPAGENT_REC_GAP, 0, 0, 0));
	for (unsigned int v = 0; v < SIM_VOLUMES; v++) {
		assert_true(sim_add(&a, REPAGENT_REC_RESYNC_BEGIN, v, 0, SIM_SECTORS));
		assert_true(sim_add(&a, REPAGENT_REC_ZEROES, v, 0, SIM_SECTORS));
		assert_true(sim_add(&a, REPAGENT_REC_RESYNC_END, v, 0, 0));
	}
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	run(20);
	sim_compare(&a, a.acked);
	/* The whole journal is gone. */
	snprintf(path, sizeof(path), "rm %s/groups/vm0/journal/*", dir);
	assert_int_equal(system(path), 0);
	reopen(0);
	assert_non_null(strstr(hub_find(hub, "vm0")->trouble, "journal is gone"));
	assert_int_equal(sim_connect(&a), 0);
	assert_int_equal(a.block.seq, 0);
}

/* Old journal goes to the base; what is left is the same, also if the hub ends in the midst. */
static void test_folding(void **state)
{
	uint64_t first, oldest = 0;
	char why[HUB_REASON_MAX], point[32];
	struct group *g;
	unsigned int i;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 4; i++) {
		struct hub_view *held = NULL;

		run(60);
		reopen(3 * SEGMENT);
		g = hub_find(hub, "vm0");
		first = g->segment[0]->begin.seq;
		if (i == 2) {	/* a view keeps it from being folded */
			snprintf(point, sizeof(point), "%" PRIu64, g->segment[1]->begin.seq - 1);
			held = hub_view_open(hub, "vm0", "disk0", point, why);
			assert_non_null(held);
			hub_tend(hub);
			assert_int_equal(g->segment[0]->begin.seq, first);
			hub_view_close(held);
		}
		/* One at the end does not, and stays as it is. */
		held = hub_view_open(hub, "vm0", "disk1", "latest", why);
		assert_non_null(held);
		hub_tend(hub);
		oldest = g->segment[0]->begin.seq;
		assert_true(oldest > first);
		assert_true(hubgroup_last(g)->end - g->segment[0]->start <= 3 * SEGMENT);
		static uint8_t got[SIM_SECTORS * 512], want[SIM_SECTORS * 512];

		assert_int_equal(hub_view_read(held, 0, got, sizeof(got), why), 0);
		sim_model(&a, a.acked, 1, want);
		assert_memory_equal(got, want, sizeof(got));
		hub_view_close(held);
		sim_compare(&a, oldest);
		sim_compare(&a, a.acked);
		for (unsigned int k = 0; k < 10; k++)
			sim_compare(&a, oldest + (uint64_t)random() % (a.acked - oldest));
		snprintf(point, sizeof(point), "%" PRIu64, oldest - 1);
		assert_null(hub_view_open(hub, "vm0", "disk0", point, why));
		assert_non_null(strstr(why, "older than what is kept"));
		assert_int_equal(sim_connect(&a), 0);
	}
	/* It ended with the note written, and some of the data. */
	g = hub_find(hub, "vm0");
	const struct segment *s = g->segment[0];
	struct first note = { s->start, 1 };
	uint64_t after = g->segment[1]->begin.seq;
	char path[256];
	int fd;

	assert_true(seal_write(g->dir, "first", FIRST_MAGIC, &note, sizeof(note)));
	for (i = 0; i < s->nr_records; i++)
		if (s->record[i].type == REPAGENT_REC_WRITE)
			break;
	snprintf(path, sizeof(path), "%s/groups/vm0/base/disk%u", dir, s->record[i].slot);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "other bytes", 11, (off_t)s->record[i].sector * 512), 11);
	close(fd);
	reopen(0);
	g = hub_find(hub, "vm0");
	assert_int_equal(g->segment[0]->begin.seq, after);
	sim_compare(&a, after);
	sim_compare(&a, a.acked);
}

/* A view of any point is the same while frames come, segments are folded, and the hub cuts its journal. */
static void test_view_never_changes(void **state)
{
	enum { VIEWS = 12 };
	static uint8_t before[VIEWS][SIM_SECTORS * 512], now[SIM_SECTORS * 512];
	struct hub_view *v[VIEWS];
	char point[32], name[16], why[HUB_REASON_MAX];
	struct group *g;
	unsigned int i, k;

	(void)state;
	sim_start(&a);
	run(100);
	reopen(2 * SEGMENT);
	assert_int_equal(sim_connect(&a), 0);
	g = hub_find(hub, "vm0");
	for (i = 0; i < VIEWS; i++) {
		snprintf(name, sizeof(name), "disk%u", i % SIM_VOLUMES);
		snprintf(point, sizeof(point), "%" PRIu64, a.acked - i * 20);
		v[i] = hub_view_open(hub, "vm0", name, i < 3 ? "latest" : point, why);
		assert_non_null(v[i]);
		assert_int_equal(hub_view_read(v[i], 0, before[i], sizeof(now), why), 0);
	}
	for (k = 0; k < 6; k++) {
		uint64_t first = g->segment[0]->start;

		run(40);
		if (k == 2)
			a.level = 1;
		if (k == 3) {	/* the disk fails: what is not durable is cut off */
			sim_random(&a, 5);
			a.nr_ops -= 5;
			pthread_mutex_lock(&g->lock);
			g->broken = true;
			pthread_mutex_unlock(&g->lock);
			assert_int_equal(sim_connect(&a), 0);
			assert_int_equal(a.block.seq, a.acked);
			a.next = a.acked + 1;
			while (a.nr_ops && a.op[a.nr_ops - 1].seq > a.acked)
				a.nr_ops--;
		}
		hub_tend(hub);
		if (!k)
			assert_true(g->segment[0]->start > first);
		for (i = 0; i < VIEWS; i++) {
			assert_int_equal(hub_view_read(v[i], 0, now, sizeof(now), why), 0);
			assert_memory_equal(now, before[i], sizeof(now));
		}
	}
	for (i = 0; i < VIEWS; i++)
		hub_view_close(v[i]);
	hub_tend(hub);
	assert_true(group_bytes(g) <= 2 * SEGMENT);
	sim_compare(&a, a.acked);
}

/*
 * The journal cannot be written any more, then it can: what was acknowledged is there, and the
 * agent goes on from it.
 */
static void test_write_errors(void **state)
{
	struct rlimit old, less;
	struct stat st;
	char path[256];
	unsigned int i, failed = 0;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	sim_start(&a);
	for (i = 0; i < 20; i++) {
		run(5);
		path_of_last(path, sizeof(path));
		assert_int_equal(stat(path, &st), 0);
		less = old;
		less.rlim_cur = (rlim_t)st.st_size + (rlim_t)random() % 40000;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
		sim_begin(&a, false);
		while (a.b.len < 60000)
			assert_true(sim_add(&a, REPAGENT_REC_WRITE, 0, (uint64_t)random() % 2000, 8));
		if (sim_send(&a)) {
			failed++;
			assert_non_null(strstr(a.reason, "cannot be"));
			assert_int_not_equal(sim_flush(&a), 0);
		}
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
		assert_int_equal(sim_connect(&a), 0);
		assert_int_equal(a.block.state, SESSION_ACCEPTING);
		assert_true(a.block.seq >= a.acked);
		a.next = a.block.seq + 1;
		while (a.op[a.nr_ops - 1].seq > a.block.seq)
			a.nr_ops--;
		run(1);
		sim_compare(&a, a.acked);
	}
	assert_true(failed > 10);
	reopen(0);
	assert_string_equal(hub_find(hub, "vm0")->trouble, "");
	sim_compare(&a, a.acked);
}

static size_t no_memory;	/* realloc() of so many bytes fails; 0: none does */

void *realloc(void *p, size_t size)
{
	static void *(*real)(void *, size_t);

	if (no_memory && size == no_memory) {
		errno = ENOMEM;
		return NULL;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "realloc");
	return real(p, size);
}

/* There is no memory for one more segment: nothing is left of it that would be in the way once there is. */
static void test_no_memory_for_segment(void **state)
{
	struct group *g;
	int err = 0;

	(void)state;
	sim_start(&a);
	g = hub_find(hub, "vm0");
	no_memory = 2 * 16 * sizeof(struct segment *);
	while (!err && g->nr_segments <= 16) {
		sim_random(&a, 1);
		pthread_mutex_lock(&g->lock);
		err = hubgroup_roll(g, why);
		pthread_mutex_unlock(&g->lock);
	}
	no_memory = 0;
	assert_int_equal(err, EIO);
	assert_int_equal(g->nr_segments, 16);
	pthread_mutex_lock(&g->lock);
	err = hubgroup_roll(g, why);
	pthread_mutex_unlock(&g->lock);
	if (err)
		fail_msg("%s", why);
	run(5);
	sim_compare(&a, a.acked);
}

/* Is there no later segment? */
static bool is_last(const char *name)
{
	char command[512];

	snprintf(command, sizeof(command), "test \"$(ls %s/groups/vm0/journal/*.log | tail -n 1)\" = %s/groups/vm0/journal/%s",
		 dir, dir, name);
	return !system(command);
}

static int no_write(struct simagent *x, uint64_t offset, const void *buf, size_t len)
{
	(void)x;
	(void)offset;
	(void)buf;
	(void)len;
	return 0;
}

/*
 * The hub is killed, 40 times, and each second time the power goes with it: of what was not synced
 * the disk has any sectors. Nothing that was acknowledged is lost, and nothing is taken for damage.
 */
static void model_random(unsigned int records)
{
	int (*write)(struct simagent *, uint64_t, const void *, size_t) = a.write;
	uint64_t offset = a.offset;

	a.write = no_write;
	sim_random(&a, records);
	a.write = write;
	a.offset = offset;
	/* As in the other process, where a flush may follow. */
	(void)random();
}

static void test_killed(void **state)
{
	struct { uint64_t acked, durable; char name[SEGMENT_NAME_MAX]; } told, last;
	unsigned int i, frames, went_on = 0, torn = 0;
	uint8_t mark[512];
	char path[256];
	struct stat st;
	uint64_t at;
	int fds[2], fd;
	pid_t pid;

	(void)state;
	sim_start(&a);
	for (i = 0; i < 40; i++) {
		uint64_t before = a.acked, first = a.next;

		sim_disconnect(&a);
		hub_close(hub);
		hub = NULL;
		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (!pid) {	/* writes the same records as the parent will know of, until it is killed */
			srandom(i);
			reopen(0);
			if (sim_connect(&a))
				_exit(1);
			for (;;) {
				sim_random(&a, 1 + (unsigned int)random() % 40);
				if (random() % 8)
					continue;
				if (sim_flush(&a))
					_exit(1);
				const struct group *g = hub_find(hub, "vm0");

				memset(&told, 0, sizeof(told));
				told.acked = a.acked;
				told.durable = segment_size(hubgroup_last(g));
				memcpy(told.name, hubgroup_last(g)->name, sizeof(told.name));
				if (write(fds[1], &told, sizeof(told)) < 0)
					_exit(1);
			}
		}
		close(fds[1]);
		memset(&last, 0, sizeof(last));
		last.acked = before;
		for (frames = 1 + (unsigned int)random() % 20; frames; frames--)
			if (read(fds[0], &told, sizeof(told)) == sizeof(told))
				last = told;
		kill(pid, SIGKILL);
		while (read(fds[0], &told, sizeof(told)) == sizeof(told))
			last = told;
		waitpid(pid, NULL, 0);
		close(fds[0]);
		assert_true(last.acked > before);
		/* The mark is about what was synced, and so is a segment behind which there is another. */
		snprintf(path, sizeof(path), "%s/groups/vm0/mark", dir);
		get_file(path, mark, sizeof(mark));
		memcpy(&at, mark + 8, sizeof(at));
		at -= strtoull(last.name, NULL, 16) - SEGMENT_HEADER;
		if (at > last.durable && at < 2 * SEGMENT)
			last.durable = at;
		if (i % 2 && is_last(last.name)) {
			torn++;
			snprintf(path, sizeof(path), "%s/groups/vm0/journal/%s", dir, last.name);
			fd = open(path, O_RDWR);
			assert_int_equal(fstat(fd, &st), 0);
			for (at = last.durable; at < (uint64_t)st.st_size; at += 512)
				if (random() % 4 == 0)
					assert_int_equal(pwrite(fd, "gone", 4, (off_t)at + random() % 500), 4);
			if (random() % 2)
				assert_int_equal(ftruncate(fd, (off_t)last.durable +
							   random() % (st.st_size - (off_t)last.durable + 1)), 0);
			close(fd);
		}
		srandom(i);
		reopen(0);
		if (*hub_find(hub, "vm0")->trouble)
			fail_msg("round %u: %s", i, hub_find(hub, "vm0")->trouble);
		assert_int_equal(sim_connect(&a), 0);
		assert_true(a.block.seq >= last.acked);
		went_on += a.block.seq > last.acked;
		/* The parent makes the same records, for its model. */
		a.next = first;
		while (a.next <= a.block.seq)
			model_random(1 + (unsigned int)random() % 40);
		while (a.op[a.nr_ops - 1].seq > a.block.seq)
			a.nr_ops--;
		a.next = a.block.seq + 1;
		a.sent = a.acked = a.block.seq;
		if (i % 8 == 7)
			sim_compare(&a, a.acked);
	}
	sim_compare(&a, a.acked);
	assert_true(torn > 5);
	print_message("# of 40 rounds %u were power cuts; after %u there was more than was acknowledged\n", torn,
		      went_on);
}

/*
 * All at once: one writes, one flushes, one folds, three look.  What they see is no later than the
 * point that they asked for, and the same when they look again.
 */
static atomic_bool together_end;
static atomic_uint together_views;

static void *flush_together(void *arg)
{
	char why[HUB_REASON_MAX];

	(void)arg;
	while (!together_end)
		if (hub_session_flush(a.session, why))
			abort();
	return NULL;
}

static void *fold_together(void *arg)
{
	(void)arg;
	while (!together_end)
		hub_tend(hub);
	return NULL;
}

static void check_sectors(const uint8_t *bytes, uint64_t seq)
{
	uint64_t i, word, of;

	for (i = 0; i < SIM_SECTORS; i++) {
		memcpy(&word, bytes + i * 512, 8);
		of = (word ^ a.incarnation << 48 ^ i) >> 16;
		if (word && (!of || of > seq))
			abort();
	}
}

static void *look_together(void *arg)
{
	uint8_t *first = calloc(SIM_SECTORS, 512), *again = calloc(SIM_SECTORS, 512);
	uint64_t incarnation, seq, time;
	char why[HUB_REASON_MAX];
	struct hub_view *v;

	while (!together_end) {
		v = hub_view_open(hub, "vm0", arg, "latest", why);
		if (!v)
			abort();
		hub_view_position(v, &incarnation, &seq, &time);
		for (int i = 0; i < 3; i++) {
			if (hub_view_read(v, 0, i ? again : first, SIM_SECTORS * 512, why))
				abort();
			if (i && memcmp(first, again, SIM_SECTORS * 512))
				abort();
		}
		check_sectors(first, seq);
		hub_view_close(v);
		together_views++;
	}
	free(first);
	free(again);
	return NULL;
}

static void test_together(void **state)
{
	pthread_t thread[5];
	uint64_t first;
	unsigned int i;

	(void)state;
	reopen(3 * SEGMENT);
	sim_start(&a);
	together_end = false;
	together_views = 0;
	assert_int_equal(pthread_create(&thread[0], NULL, flush_together, NULL), 0);
	assert_int_equal(pthread_create(&thread[1], NULL, fold_together, NULL), 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[2 + i], NULL, look_together,
						(void *)(uintptr_t)(i == 0 ? "disk0" : i == 1 ? "disk1" : "disk2")), 0);
	for (i = 0; i < 1500 || (together_views < 100 && i < 100000); i++)
		sim_random(&a, 1 + (unsigned int)random() % 40);
	together_end = true;
	for (i = 0; i < 5; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(sim_flush(&a), 0);
	first = hub_find(hub, "vm0")->segment[0]->begin.seq;
	assert_true(first > 100);
	sim_compare(&a, a.acked);
}

/* A view of 1,000,000 records opens within 2 s. */
static void test_million_records(void **state)
{
	struct frame_record r = { .type = REPAGENT_REC_ZEROES, .volume = 1, .nr_sectors = 8 };
	struct timespec t[2];
	struct hub_view *v;
	unsigned int i;

	(void)state;
	sim_start(&a);
	sim_begin(&a, false);
	r.seq = a.next;
	for (i = 0; i < 1000000; i++, r.seq++) {
		r.sector = (uint64_t)random() % (1u << 28) * 8;
		r.nr_sectors = 1 + i % 8;
		if (!frame_add_record(&a.b, &r, NULL)) {
			assert_int_equal(sim_send(&a), 0);
			a.next = r.seq;
			sim_begin(&a, false);
			assert_true(frame_add_record(&a.b, &r, NULL));
		}
	}
	assert_int_equal(sim_send(&a), 0);
	a.next = r.seq;
	sim_begin(&a, false);
	r.type = REPAGENT_REC_VOLUME_RESIZE;
	r.nr_sectors = UINT64_C(1) << 31;
	r.sector = 0;
	assert_true(frame_add_record(&a.b, &r, NULL));
	assert_int_equal(sim_send(&a), 0);
	assert_int_equal(sim_flush(&a), 0);
	clock_gettime(CLOCK_MONOTONIC, &t[0]);
	v = hub_view_open(hub, "vm0", "disk0", "latest", a.reason);
	clock_gettime(CLOCK_MONOTONIC, &t[1]);
	assert_non_null(v);
	hub_view_close(v);
	print_message("# a view of 1000000 records opened in %.3f s\n",
		      (double)(t[1].tv_sec - t[0].tv_sec) + (double)(t[1].tv_nsec - t[0].tv_nsec) / 1e9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_oracle, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_dependent_writes, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_torn_tail, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_torn_middle, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_flipped_byte_in_old_segment, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_flipped_byte_in_compressed_segment, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_cache, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_flipped_anywhere, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_flipped_byte_in_last_segment, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_lost_segment, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_out_of_files, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_lost_first_segment, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_folding, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_view_never_changes, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_write_errors, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_no_memory_for_segment, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_killed, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_together, setup, fixture_end),
		cmocka_unit_test_setup_teardown(test_million_records, setup, fixture_end),
	};

	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
