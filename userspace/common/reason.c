// SPDX-License-Identifier: GPL-2.0-or-later
#include <stddef.h>
#include <stdint.h>

#include <linux/dm-repagent.h>

#include "reason.h"

static const struct {
	const char *name;	/* of Documentation/target.md */
	const char *words;
	const char *remedy;	/* a sentence, or NULL where none is needed */
} reasons[REPAGENT_NR_REASONS] = {
	[REPAGENT_REASON_NONE]		= { "none", "no reason", NULL },
	[REPAGENT_REASON_FIRST_SYNC]	= { "first-sync", "first sync", NULL },
	[REPAGENT_REASON_UNCLEAN]	= { "unclean", "not stopped cleanly", NULL },
	[REPAGENT_REASON_NO_MAP]	= { "no-map", "no write-intent map",
		"Give the volume a metadata device (meta) to be spared full resyncs." },
	[REPAGENT_REASON_RING_FULL]	= { "ring-full", "ring full",
		"If this happens often: a faster hub or line, or a larger ring." },
	[REPAGENT_REASON_HUB_REFUSED]	= { "hub-refused", "hub refuses",
		"See the message about the hub." },
	[REPAGENT_REASON_HUB_FULL]	= { "hub-full", "hub full", "Make room at the hub." },
	[REPAGENT_REASON_FENCED]	= { "fenced", "fenced: the hub failed over",
		"Its VM is to run elsewhere. If it is to run here again: repctl fail-back, then repctl rejoin." },
	[REPAGENT_REASON_PAUSED]	= { "paused", "paused", "Resume when it suits." },
	[REPAGENT_REASON_META_ERROR]	= { "meta-error", "write-intent map cannot be written",
		"Look at the metadata device." },
	[REPAGENT_REASON_WRITE_FAILED]	= { "write-failed", "a local write failed",
		"Look at the origin device." },
	[REPAGENT_REASON_REQUESTED]	= { "requested", "resync asked for", NULL },
	[REPAGENT_REASON_RESIZED]	= { "resized", "resized", NULL },
};

/**
 * reason_name - the word of the status line for a reason
 * @reason: enum repagent_reason, or anything
 */
const char *reason_name(unsigned int reason)
{
	return reason < REPAGENT_NR_REASONS ? reasons[reason].name : "unknown";
}

/**
 * reason_words - a few words for a reason
 * @reason: enum repagent_reason, or anything
 */
const char *reason_words(unsigned int reason)
{
	return reason < REPAGENT_NR_REASONS ? reasons[reason].words : "unknown reason";
}

/**
 * reason_remedy - a sentence that says what helps
 * @reason: enum repagent_reason, or anything
 *
 * Return: the sentence; empty where nothing is to be done.
 */
const char *reason_remedy(unsigned int reason)
{
	return reason < REPAGENT_NR_REASONS && reasons[reason].remedy ?
	       reasons[reason].remedy : "";
}
