// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ringdrain - the cheapest consumer there can be: looks at each record, and
 * acknowledges. For figures of what capture alone costs the writer.
 *
 * Like any consumer that has work to do, it sleeps until a batch of records is
 * there, or for some milliseconds, and not for each record.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libring.h"
#include "libtest.h"

static const char usage[] =
"usage: ringdrain [OPTION]... GROUP\n"
"\n"
"  --batch N      wake up for N records; default: 512\n"
"  --interval MS  or after MS milliseconds; default: 10\n"
"  --ready FILE   create FILE once all volumes are CLEAN\n"
"\n"
"Ends at SIGTERM or SIGINT; prints records, bytes of payload, and wake-ups.\n";

static bool all_clean(const struct ring *r)
{
	struct repagent_volume_info v;
	struct repagent_info info;

	if (ring_info(r, &info) < 0 || info.capture != REPAGENT_CAPTURE_STREAM)
		return false;
	for (unsigned int i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		if (!ring_volume(r, i, &v) && v.active && v.image != REPAGENT_IMAGE_CLEAN)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	uint64_t batch = 512, interval = 10, next, records = 0, bytes = 0, wakeups = 0;
	const char *ready = NULL, *group;
	struct repagent_info info;
	struct ring ring;
	int ret;

	group = *parse_options(argc, argv, (const struct tool_option[]){
		{ "batch", OPT_NUMBER, { &batch } },
		{ "interval", OPT_NUMBER, { &interval } },
		{ "ready", OPT_TEXT, { &ready } },
		{ }
	}, usage, 1);
	if (!batch || interval > 60000)
		usage_exit(usage);
	catch_stop();

	ring_must_open(&ring, group);
	ret = ring_hub(&ring, true, REPAGENT_REASON_NONE);
	if (ret < 0)
		die("HUB: %s", strerror(-ret));
	if (ring_info(&ring, &info) < 0)
		die("INFO: %s", strerror(errno));

	for (next = ring.acked + 1; !stop; wakeups++) {
		uint64_t first = next;

		for (;; next++) {
			uint64_t commit = ring_commit(&ring, next);

			if (commit >> REPAGENT_SLOT_SHIFT != next ||
			    (commit & 0xff) == REPAGENT_SLOT_BUSY)
				break;
			bytes += ring_slot(&ring, next)->len;
		}
		records += next - first;
		ret = next == first ? 0 : ring_ack(&ring, next - 1);
		if (ret < 0)
			die("ACK(%" PRIu64 "): %s", next - 1, strerror(-ret));
		if (ready && all_clean(&ring)) {
			touch(ready);
			ready = NULL;
		}
		ret = ring_wait(&ring, next + batch - 1, info.events, (int)interval);
		if (ret < 0)
			die("WAIT: %s", strerror(-ret));
		/* poll() says POLLPRI for as long as the event count differs */
		if (ring_info(&ring, &info) < 0)
			die("INFO: %s", strerror(errno));
	}
	printf("records %" PRIu64 "\nbytes %" PRIu64 "\nwakeups %" PRIu64 "\n", records, bytes, wakeups);
	ring_close(&ring);
	return EXIT_GOOD;
}
