// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * txload - transactions of SQLite, with the database in one folder and its log in another.
 *
 * The folders are meant to be on different volumes of one group: then a copy of both
 * opens only if it has the order of the writes across them, and what it holds tells
 * at which transaction it was taken.
 *
 * SQLite puts the write-ahead log beside the database.  A VFS in front of its own
 * gives the log another path, and leaves all else alone.
 *
 * Transaction N adds row N, moves the head there, and takes away row N - KEEP.  The
 * row's payload follows from seed and N, its sum from the payload and the sum of row
 * N - 1, so of each row there is one right content.
 *
 * The record, FILE of --record, has lines of 16 bytes, which are never seen in part:
 * "b N" before transaction N begins, "c N" once its COMMIT has returned, "p N" when after
 * SIGUSR1 nothing is done, until SIGUSR2.
 *
 * Exit status 1: the database is not as it should be.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libtest.h"

#define KEEP		200u	/* rows */
#define PAYLOAD_LEAST	100u	/* bytes */
#define PAYLOAD_MOST	4000u
#define WAL_PAGES	"32"	/* after so many the log goes to the database, and begins anew */
#define RECORD_LINE	16

static const char usage[] =
"usage: txload [OPTION]... DATABASE LOG\n"
"\n"
"Transactions in DATABASE/db, with its write-ahead log in the folder LOG. A database that is there is gone on with.\n"
"\n"
"  --seed N       of the payloads; default: 1\n"
"  --count N      transactions; default: until SIGTERM\n"
"  --rate N       a second, at most\n"
"  --record FILE  what is begun and what is committed, see the source\n"
"  --verify       check all that is there, before and after the log goes to the database\n"
"\n"
"Prints \"name value\" lines.\n";

static struct {
	uint64_t seed, count, rate;
	const char *record;
	bool verify;
} opt = { .seed = 1 };

static char database[PATH_MAX], wal[PATH_MAX], beside[PATH_MAX];
static volatile sig_atomic_t paused;
static int record = -1;

/* ---- the VFS ------------------------------------------------------------- */

static sqlite3_vfs *stock;

static const char *path_of(const char *name)
{
	return name && !strcmp(name, beside) ? wal : name;
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
	(void)vfs;
	return stock->xOpen(stock, path_of(name), file, flags, out);
}

static int delete_file(sqlite3_vfs *vfs, const char *name, int sync)
{
	(void)vfs;
	return stock->xDelete(stock, path_of(name), sync);
}

static int access_file(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	(void)vfs;
	return stock->xAccess(stock, path_of(name), flags, out);
}

static void register_vfs(void)
{
	static sqlite3_vfs vfs;

	stock = sqlite3_vfs_find(NULL);
	if (!stock)
		die("SQLite has no VFS");
	vfs = *stock;
	vfs.pNext = NULL;
	vfs.zName = "two-folders";
	vfs.xOpen = open_file;
	vfs.xDelete = delete_file;
	vfs.xAccess = access_file;
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		die("SQLite does not take the VFS");
}

/* Of the log's name SQLite wants no dash: it takes what is before for the database, whose mode it looks up. */
static void set_paths(char **operand)
{
	char dir[PATH_MAX];

	if (!realpath(operand[0], dir))
		die("%s: %s", operand[0], strerror(errno));
	if (snprintf(database, sizeof(database), "%s/db", dir) >= (int)sizeof(database) ||
	    snprintf(beside, sizeof(beside), "%s/db-wal", dir) >= (int)sizeof(beside))
		die("%s: the path is too long", dir);
	if (!realpath(operand[1], dir))
		die("%s: %s", operand[1], strerror(errno));
	if (snprintf(wal, sizeof(wal), "%s/db.wal", dir) >= (int)sizeof(wal))
		die("%s: the path is too long", dir);
}

/* ---- SQLite -------------------------------------------------------------- */

static sqlite3 *db;

static void bad(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
	exit(EXIT_BAD);
}

static void execute(const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		bad(sql);
}

static sqlite3_stmt *prepare(const char *sql)
{
	sqlite3_stmt *s;

	if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
		bad(sql);
	return s;
}

/* Return whether there is a row. */
static bool step(sqlite3_stmt *s)
{
	int r = sqlite3_step(s);

	if (r != SQLITE_ROW && r != SQLITE_DONE)
		bad(sqlite3_sql(s));
	return r == SQLITE_ROW;
}

static void expect(const char *sql, const char *value)
{
	sqlite3_stmt *s = prepare(sql);
	const char *is = step(s) ? (const char *)sqlite3_column_text(s, 0) : "nothing";

	if (strcmp(is ? is : "null", value)) {
		fprintf(stderr, "%s: expected %s, it is %s\n", sql, value, is ? is : "null");
		exit(EXIT_BAD);
	}
	sqlite3_finalize(s);
}

static void open_database(void)
{
	if (sqlite3_open(database, &db) != SQLITE_OK)
		bad(database);
	expect("PRAGMA journal_mode=WAL", "wal");
	execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=" WAL_PAGES);
}

/* ---- rows ---------------------------------------------------------------- */

static size_t payload(uint64_t id, uint8_t *to)
{
	struct rng r;
	size_t len;

	rng_seed(&r, opt.seed * UINT64_C(0x100000001b3) + id);
	len = PAYLOAD_LEAST + rng_below(&r, PAYLOAD_MOST - PAYLOAD_LEAST);
	rng_fill(&r, to, len);
	return len;
}

/* What the head says. */
static void get_head(uint64_t *id, uint32_t *sum)
{
	sqlite3_stmt *s = prepare("SELECT id, sum FROM head WHERE one = 1");

	if (!step(s)) {
		fprintf(stderr, "there is no head\n");
		exit(EXIT_BAD);
	}
	*id = (uint64_t)sqlite3_column_int64(s, 0);
	*sum = (uint32_t)sqlite3_column_int64(s, 1);
	sqlite3_finalize(s);
}

/* ---- the load ------------------------------------------------------------ */

static void tell(char what, uint64_t id)
{
	char line[RECORD_LINE + 1];

	snprintf(line, sizeof(line), "%c %13" PRIu64 "\n", what, id);
	if (record >= 0 && write(record, line, RECORD_LINE) != RECORD_LINE)
		die("%s: %s", opt.record, strerror(errno));
}

static void run(sqlite3_stmt *s)
{
	step(s);
	sqlite3_reset(s);
}

static uint32_t transaction(uint64_t id, uint32_t sum)
{
	static sqlite3_stmt *add, *move, *take;
	static uint8_t data[PAYLOAD_MOST];
	size_t len = payload(id, data);

	if (!add) {
		add = prepare("INSERT INTO tx VALUES (?1, ?2, ?3)");
		move = prepare("UPDATE head SET id = ?1, sum = ?2 WHERE one = 1");
		take = prepare("DELETE FROM tx WHERE id <= ?1");
	}
	sum = crc32c(sum, data, len);
	tell('b', id);
	execute("BEGIN IMMEDIATE");
	sqlite3_bind_int64(add, 1, (sqlite3_int64)id);
	sqlite3_bind_blob(add, 2, data, (int)len, SQLITE_STATIC);
	sqlite3_bind_int64(add, 3, sum);
	run(add);
	sqlite3_bind_int64(move, 1, (sqlite3_int64)id);
	sqlite3_bind_int64(move, 2, sum);
	run(move);
	sqlite3_bind_int64(take, 1, (sqlite3_int64)id - KEEP);
	run(take);
	execute("COMMIT");
	tell('c', id);
	return sum;
}

static void nap_ms(long ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static void stay_paused(uint64_t id)
{
	tell('p', id);
	while (paused && !stop)
		nap_ms(10);
}

static void on_pause(int sig)
{
	paused = sig == SIGUSR1;
}

static void load(void)
{
	struct sigaction action = { .sa_handler = on_pause };
	uint64_t id, n, begin;
	uint32_t sum;

	catch_stop();
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	if (opt.record)
		record = open(opt.record, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (opt.record && record < 0)
		die("%s: %s", opt.record, strerror(errno));
	execute("BEGIN IMMEDIATE;"
		"CREATE TABLE IF NOT EXISTS tx(id INTEGER PRIMARY KEY, payload BLOB NOT NULL, sum INTEGER NOT NULL);"
		"CREATE INDEX IF NOT EXISTS by_sum ON tx(sum);"
		"CREATE TABLE IF NOT EXISTS head(one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER, sum INTEGER);"
		"INSERT OR IGNORE INTO head VALUES (1, 0, 0);"
		"COMMIT");
	get_head(&id, &sum);
	if (!access(beside, F_OK))
		die("%s is there: the log is not in the other folder", beside);
	for (n = 0; !stop && (!opt.count || n < opt.count); n++) {
		begin = now_ns();
		sum = transaction(++id, sum);
		if (paused)
			stay_paused(id);
		begin = (now_ns() - begin) / 1000000;
		if (opt.rate && begin < 1000 / opt.rate)
			nap_ms((long)(1000 / opt.rate - begin));
	}
	printf("transactions %" PRIu64 "\nlast %" PRIu64 "\n", n, id);
}

/* ---- what is there ------------------------------------------------------- */

/* What is wrong with a row; NULL: nothing. @before is the sum of the row before, if that is not gone. */
static const char *fault_of(sqlite3_stmt *s, uint64_t id, const uint32_t *before)
{
	static uint8_t data[PAYLOAD_MOST];
	size_t len = payload(id, data);

	if ((uint64_t)sqlite3_column_int64(s, 0) != id)
		return "is not there, but a later one";
	if ((size_t)sqlite3_column_bytes(s, 1) != len || memcmp(sqlite3_column_blob(s, 1), data, len))
		return "has not its payload";
	if (before && sqlite3_column_int64(s, 2) != crc32c(*before, data, len))
		return "has a sum that does not follow from the row before";
	return NULL;
}

static void verify(void)
{
	uint64_t last, first, id;
	uint32_t head_sum, sum = 0;
	const char *fault;
	sqlite3_stmt *s;
	int frames = 0;

	expect("PRAGMA integrity_check", "ok");
	get_head(&last, &head_sum);
	first = last > KEEP ? last - KEEP + 1 : 1;
	s = prepare("SELECT id, payload, sum FROM tx ORDER BY id");
	for (id = first; step(s); id++) {
		fault = fault_of(s, id, id > first || id == 1 ? &sum : NULL);
		if (fault) {
			fprintf(stderr, "row %" PRIu64 " %s\n", id, fault);
			exit(EXIT_BAD);
		}
		sum = (uint32_t)sqlite3_column_int64(s, 2);
	}
	sqlite3_finalize(s);
	if (id != last + 1 || sum != head_sum) {
		fprintf(stderr, "the head is at row %" PRIu64 " with sum %" PRIu32 ", the last row is %" PRIu64
			" with sum %" PRIu32 "\n", last, head_sum, id - 1, sum);
		exit(EXIT_BAD);
	}
	/* The log goes to the database as ever, which tells how much of it was good. */
	if (sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, NULL) != SQLITE_OK)
		bad("checkpoint");
	expect("PRAGMA integrity_check", "ok");
	printf("last %" PRIu64 "\nrows %" PRIu64 "\nlog_frames %d\n", last, last + 1 - first, frames);
}

int main(int argc, char **argv)
{
	static const struct tool_option options[] = {
		{ "seed", OPT_NUMBER, { &opt.seed } },
		{ "count", OPT_NUMBER, { &opt.count } },
		{ "rate", OPT_NUMBER, { &opt.rate } },
		{ "record", OPT_TEXT, { &opt.record } },
		{ "verify", OPT_FLAG, { &opt.verify } },
		{ }
	};

	set_paths(parse_options(argc, argv, options, usage, 2));
	register_vfs();
	if (opt.verify && access(database, F_OK)) {
		fprintf(stderr, "%s: %s\n", database, strerror(errno));
		return EXIT_BAD;
	}
	open_database();
	if (opt.verify)
		verify();
	else
		load();
	/* It is not closed, which would take the log away: a VM ends without that, too. */
	return EXIT_GOOD;
}
