/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a group is doing, in words: a line in the log for every change. */
#ifndef REPAGENT_REPORT_H
#define REPAGENT_REPORT_H

#include "stream.h"

/*
 * struct report - what was last said.
 * @capture_since:	when that state was noticed, ns of CLOCK_MONOTONIC
 * @id, @image, @failed: of each volume
 * @image_since:	as @capture_since
 * @total:		bytes that the resync under way began with
 */
struct report {
	bool started;
	unsigned int capture, reason;
	uint64_t capture_since;
	struct {
		uint16_t id;
		unsigned int image;
		uint64_t failed;
		uint64_t image_since;
		uint64_t total;
	} volume[REPAGENT_MAX_VOLUMES];
};

const char *capture_word(unsigned int capture);
const char *reason_words(unsigned int reason);
void report_changes(struct report *rep, const struct stream *s, uint64_t now,
		    uint64_t hub_silent);

#endif /* REPAGENT_REPORT_H */
