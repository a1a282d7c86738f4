// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "report.h"

#define BUSY_TELL	(10 * NSEC_PER_SEC)

static const char *const captures[] = {
	[REPAGENT_CAPTURE_INIT]		= "starting",
	[REPAGENT_CAPTURE_STREAM]	= "streaming",
	[REPAGENT_CAPTURE_TRACK]	= "tracking",
};

/**
 * capture_word - a word for a state of capture
 * @capture: enum repagent_capture, or anything
 */
const char *capture_word(unsigned int capture)
{
	return capture < sizeof(captures) / sizeof(captures[0]) ? captures[capture] : "unknown";
}

/**
 * capture_name - the word of the status line for a state of capture
 * @capture: enum repagent_capture, or anything
 */
const char *capture_name(unsigned int capture)
{
	static const char *const names[] = { "init", "stream", "track" };

	return capture < sizeof(names) / sizeof(names[0]) ? names[capture] : "unknown";
}

/**
 * image_name - the word of the status line for a state of an image
 * @image: enum repagent_image, or anything
 */
const char *image_name(unsigned int image)
{
	static const char *const names[] = { "clean", "dirty", "resync" };

	return image < sizeof(names) / sizeof(names[0]) ? names[image] : "unknown";
}

static void tell(const struct report *rep, enum report_change change,
		 const struct repagent_volume_info *v)
{
	if (rep->tell)
		rep->tell(rep->owner, change, v);
}

static void clock_text(char *buf, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(buf, size, "%T", &tm);
}

static void report_capture(struct report *rep, const struct stream *s, uint64_t now,
			   uint64_t hub_silent)
{
	char span[HUMAN_MAX], when[16], silent[64] = "";
	const struct repagent_info *i = &s->info;

	if (rep->started && rep->capture == i->capture && rep->reason == i->reason)
		return;
	clock_text(when, sizeof(when));
	human_duration(span, now - rep->capture_since);

	switch (i->capture) {
	case REPAGENT_CAPTURE_STREAM:
		if (rep->started && rep->capture == REPAGENT_CAPTURE_TRACK)
			log_notice("streaming since %s, after tracking for %s", when, span);
		else if (!rep->started || rep->capture != i->capture)
			log_notice("streaming since %s", when);
		break;
	case REPAGENT_CAPTURE_TRACK:
		if (i->reason == REPAGENT_REASON_RING_FULL && hub_silent > NSEC_PER_SEC)
			snprintf(silent, sizeof(silent), "; the hub has taken nothing for %s",
				 human_duration(span, hub_silent));
		log_warn("tracking since %s: %s%s. Writes go on; the ranges are remembered and resynced. %s",
			 when, reason_words(i->reason), silent, reason_remedy(i->reason));
		break;
	default:
		log_notice("%s: writes are remembered until the hub is connected",
			   capture_word(i->capture));
	}
	if (rep->capture != i->capture || !rep->started)
		rep->capture_since = now;
	rep->capture = i->capture;
	rep->reason = i->reason;
	tell(rep, REPORT_CAPTURE, NULL);
}

/* One write that hangs at its origin holds back all that came later. */
static void report_busy(struct volume_report *r, const struct repagent_volume_info *i,
			uint64_t now)
{
	if (r->busy_seq != i->busy_seq) {
		if (r->busy_told)
			log_notice("volume %s: that write is over; the stream goes on", i->name);
		r->busy_told = false;
		r->busy_since = now;
		r->busy_seq = i->busy_seq;
	}
	if (!r->busy_seq || r->busy_told || now - r->busy_since < BUSY_TELL)
		return;
	log_warn("volume %s: a write to its origin device does not end and holds back the stream of the group. "
		 "Look at the origin device.", i->name);
	r->busy_told = true;
}

static void report_image(const struct report *rep, struct volume_report *r, const struct repagent_volume_info *i,
			 bool known, uint64_t now)
{
	char size[HUMAN_MAX], span[HUMAN_MAX];

	if (i->image == REPAGENT_IMAGE_RESYNC && r->total < i->resync_left << 9)
		r->total = i->resync_left << 9;
	if (known && r->image == i->image)
		return;
	switch (i->image) {
	case REPAGENT_IMAGE_CLEAN:
		if (known && r->image == REPAGENT_IMAGE_RESYNC)
			log_notice("volume %s: in sync after %s", i->name,
				   human_duration(span, now - r->image_since));
		else
			log_info("volume %s (%s): in sync", i->name,
				 human_size(size, i->sectors << 9));
		break;
	case REPAGENT_IMAGE_RESYNC:
		r->total = i->resync_left << 9;
		log_notice("volume %s: resync of %s begins (%s); its replica is torn until it ends",
			   i->name, human_size(size, i->resync_left << 9), reason_words(i->reason));
		break;
	default:
		log_notice("volume %s: %s to be resynced (%s). %s", i->name,
			   human_size(size, i->dirty << 9), reason_words(i->reason),
			   reason_remedy(i->reason));
	}
	r->image = i->image;
	r->image_since = now;
	tell(rep, REPORT_IMAGE, i);
}

static void report_map(struct volume_report *r, const struct repagent_volume_info *i)
{
	if (i->map_error && !r->map_error)
		log_err("volume %s: %s (%s); after a crash all of it has to be read. %s", i->name,
			reason_words(REPAGENT_REASON_META_ERROR), strerror((int)i->map_error),
			reason_remedy(REPAGENT_REASON_META_ERROR));
	else if (!i->map_error && r->map_error)
		log_notice("volume %s: its write-intent map is kept again", i->name);
	r->map_error = i->map_error;
}

static void report_volume(const struct report *rep, struct volume_report *r,
			  const struct repagent_volume_info *i, uint64_t now)
{
	bool known = r->id == i->id, went;

	if (!known) {
		memset(r, 0, sizeof(*r));
		r->id = i->id;
		r->active = true;
	}
	if (!i->id)
		return;
	if (!known)
		tell(rep, REPORT_VOLUME, i);
	report_image(rep, r, i, known, now);
	report_busy(r, i, now);
	report_map(r, i);
	if (i->failed > r->failed)
		log_err("volume %s: %" PRIu64 " local writes failed at its origin device; the ranges will be resynced. "
			"Look at the origin device.", i->name, (uint64_t)i->failed - r->failed);
	went = r->active && !i->active;
	if (went)
		log_notice("volume %s: its device is gone; its last records are being sent", i->name);
	if (went)
		tell(rep, REPORT_VOLUME, i);
	if (i->failed > r->failed)
		tell(rep, REPORT_FAILED, i);
	r->failed = i->failed;
	r->active = i->active;
}

/**
 * report_changes - log what has changed since the last time
 * @rep: what was said; all zero at first
 * @s: a stream that was just refreshed
 * @now: the time, ns of CLOCK_MONOTONIC
 * @hub_silent: how long nothing has been acknowledged though there was
 *		something, ns
 */
void report_changes(struct report *rep, const struct stream *s, uint64_t now,
		    uint64_t hub_silent)
{
	unsigned int i;

	report_capture(rep, s, now, hub_silent);
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		report_volume(rep, &rep->volume[i], &s->volume[i].info, now);
	rep->started = true;
}
