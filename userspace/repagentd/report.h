/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a group is doing, in words: a line in the log for every change. */
#ifndef REPAGENT_REPORT_H
#define REPAGENT_REPORT_H

#include "../common/reason.h"
#include "stream.h"

/*
 * struct volume_report - what was last said of a volume; times are ns of
 * CLOCK_MONOTONIC.
 * @id, @active, @image, @map_error, @failed: as the kernel told them
 * @busy_seq:	the busy record that holds back the stream, since @busy_since
 * @busy_told:	that was complained about
 * @image_since: when @image was noticed
 * @total:	bytes that the resync under way began with
 */
struct volume_report {
	uint16_t id;
	bool active;
	bool busy_told;
	unsigned int image;
	uint32_t map_error;
	uint64_t failed;
	uint64_t busy_seq;
	uint64_t busy_since;
	uint64_t image_since;
	uint64_t total;
};

/* What report_changes() found, for who wants to know more than the log. */
enum report_change {
	REPORT_CAPTURE,
	REPORT_VOLUME,		/* it came, or its device went */
	REPORT_IMAGE,
	REPORT_FAILED,		/* local writes failed */
};

/*
 * struct report - what was last said.
 * @tell, @owner: called for every change; NULL: nobody is; the volume is NULL
 *		where it is the group's
 * @capture_since: when that state was noticed
 */
struct report {
	bool started;
	unsigned int capture, reason;
	uint64_t capture_since;
	void (*tell)(void *owner, enum report_change change, const struct repagent_volume_info *v);
	void *owner;
	struct volume_report volume[REPAGENT_MAX_VOLUMES];
};

const char *capture_word(unsigned int capture);
const char *capture_name(unsigned int capture);
const char *image_name(unsigned int image);
void report_changes(struct report *rep, const struct stream *s, uint64_t now,
		    uint64_t hub_silent);

#endif /* REPAGENT_REPORT_H */
