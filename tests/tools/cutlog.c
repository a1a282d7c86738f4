// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cutlog - a power cut at a point of a log of writes (see libcutlog.h).
 *
 * Makes of images of the disk, as it was before the log, what the cut may leave.
 * All that is random comes from --seed. Prints "name value" lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libcutlog.h"
#include "libtest.h"

static const char usage[] =
"usage: cutlog [--cut N | --random] [--from MARK] [--seed S] [--percent P]\n"
"              [--part IMAGE[:START:SECTORS]]... LOG\n"
"\n"
"  --cut N      after the first N entries; default: all\n"
"  --random     after a random one, but not before the last mark MARK\n"
"  --seed S     of the random choices; default: the time\n"
"  --percent P  how many of the sectors that may be lost are kept; default: random\n"
"  --part IMAGE[:START:SECTORS]\n"
"               IMAGE becomes that part of the disk, which has a cache of its own;\n"
"               without numbers: all of it\n"
"  --list       print the entries\n";

#define MAX_PARTS	16

static struct { struct cut_part part; const char *name; } parts[MAX_PARTS];
static unsigned int nr_parts;

static void add_part(char *value)
{
	struct cut_part *part;
	char *sectors = strrchr(value, ':'), *start = NULL;

	if (nr_parts == MAX_PARTS)
		die("more than %u parts", MAX_PARTS);
	if (sectors) {
		*sectors++ = 0;
		start = strrchr(value, ':');
		if (!start)
			die("--part %s:%s: expected IMAGE:START:SECTORS", value, sectors);
		*start++ = 0;
	}
	part = &parts[nr_parts].part;
	*part = (struct cut_part){
		.start = start ? parse_number(start) : 0,
		.length = sectors ? parse_number(sectors) : UINT64_MAX / SECTOR,
		.only = !start,
		.fd = open(value, O_RDWR | O_CLOEXEC),
	};
	if (part->fd < 0)
		die("%s: %s", value, strerror(errno));
	if (!part->length || part->length > UINT64_MAX / SECTOR - part->start)
		die("%s: no such part of a disk", value);
	parts[nr_parts++].name = value;
}

static void list(const struct cutlog *log)
{
	for (uint64_t i = 0; i < log->nr; i++) {
		const struct cutlog_entry *e = &log->entries[i];

		printf("entry %" PRIu64 " sector %" PRIu64 " sectors %" PRIu64 "%s%s%s%s%s %s\n",
		       i, e->sector, e->sectors, e->flags & CUTLOG_FLUSH ? " flush" : "",
		       e->flags & CUTLOG_FUA ? " fua" : "", e->flags & CUTLOG_DISCARD ? " discard" : "",
		       e->flags & CUTLOG_METADATA ? " meta" : "", e->flags & CUTLOG_MARK ? " mark" : "",
		       e->mark);
	}
}

int main(int argc, char **argv)
{
	static const unsigned int percents[] = { 0, 5, 50, 95, 100 };
	uint64_t cut = UINT64_MAX, seed = realtime_ns(), percent = UINT64_MAX, first = 0;
	bool random = false, listed = false;
	const char *from = NULL;
	struct cutlog log;
	char error[200], **names;
	struct rng rng;

	names = parse_options(argc, argv, (const struct tool_option[]){
		{ "cut", OPT_NUMBER, { &cut } },
		{ "random", OPT_FLAG, { &random } },
		{ "from", OPT_TEXT, { &from } },
		{ "seed", OPT_NUMBER, { &seed } },
		{ "percent", OPT_NUMBER, { &percent } },
		{ "part", OPT_CALL, { .call = add_part } },
		{ "list", OPT_FLAG, { &listed } },
		{ }
	}, usage, 1);
	if (!cutlog_open(&log, names[0], error, sizeof(error)))
		die("%s", error);
	rng_seed(&rng, seed);
	if (listed)
		list(&log);
	if (from)
		first = cutlog_find_mark(&log, from);
	if (first == UINT64_MAX)
		die("%s has no mark %s", names[0], from);
	if (random)
		cut = first + rng_below(&rng, log.nr - first + 1);
	else if (cut == UINT64_MAX)
		cut = log.nr;
	if (cut > log.nr)
		die("--cut %" PRIu64 ": the log has %" PRIu64 " entries", cut, log.nr);
	if (percent == UINT64_MAX)
		percent = percents[rng_below(&rng, ARRAY_SIZE(percents))];
	if (percent > 100)
		die("--percent %" PRIu64 ": expected 0 to 100", percent);

	printf("entries %" PRIu64 "\nfirst %" PRIu64 "\ncut %" PRIu64 "\npercent %" PRIu64 "\n",
	       log.nr, first, cut, percent);
	for (unsigned int i = 0; i < nr_parts; i++) {
		struct cut_figures f;

		if (!cutlog_rebuild(&log, &parts[i].part, cut, &rng, (unsigned int)percent, &f))
			die("%s: %s", parts[i].name, strerror(errno));
		printf("durable %" PRIu64 "\npending %" PRIu64 "\nkept %" PRIu64 "\n", f.durable, f.pending, f.kept);
	}
	cutlog_close(&log);
	return EXIT_GOOD;
}
