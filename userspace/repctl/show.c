// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an operator wants to know, in this order: am I protected, since when,
 * how far behind, why not and what to type.
 */
#include <stdlib.h>
#include <string.h>

#include <linux/dm-repagent.h>

#include "../common/parse.h"
#include "../common/reason.h"
#include "json.h"
#include "show.h"
#include "state.h"
#include "table.h"

#define DAY	86400
#define LAST_MOMENT	1e12	/* what comes later is no moment */
#define SPAN	64	/* bytes of a size and a time */

/**
 * show_since - a moment as a person says it
 * @buf: the text
 * @size: of @buf
 * @since: seconds since 1970; negative: nobody knows
 * @now: seconds since 1970
 *
 * Return: @buf.
 */
const char *show_since(char *buf, size_t size, double since, time_t now)
{
	time_t then = since > 0 && since < LAST_MOMENT ? (time_t)since : 0;
	struct tm tm;

	if (since < 0)
		snprintf(buf, size, "-");
	else if (since >= LAST_MOMENT || !localtime_r(&then, &tm))
		snprintf(buf, size, "?");
	else
		strftime(buf, size, now - then < DAY / 2 && now >= then ? "%T" : "%F %T", &tm);
	return buf;
}

static uint64_t nanoseconds(double seconds)
{
	return seconds < 0 || seconds > 1e9 ? 0 : (uint64_t)(seconds * 1e9);
}

/* "1.2 MiB, 60 ms" */
static const char *behind(char *buf, struct json_object *s)
{
	struct json_object *lag = get(s, "lag");
	char bytes[HUMAN_MAX], time[HUMAN_MAX];
	double seconds = get_seconds(lag, "seconds");

	if (!lag)
		snprintf(buf, SPAN, "-");
	else if (seconds > 0 && get_number(lag, "bytes"))
		snprintf(buf, SPAN, "%s, %s", human_size(bytes, get_number(lag, "bytes")),
			 human_duration(time, nanoseconds(seconds)));
	else
		snprintf(buf, SPAN, "%s", human_size(bytes, get_number(lag, "bytes")));
	return buf;
}

static unsigned int percent(uint64_t left, uint64_t total)
{
	return total && left < total ? (unsigned int)((double)(total - left) * 100 / (double)total) : 0;
}

/* "37 %, 12 GiB to go, 3 min" */
static const char *progress(char *buf, struct json_object *resync)
{
	uint64_t left = get_number(resync, "left"), total = get_number(resync, "total");
	char bytes[HUMAN_MAX], time[HUMAN_MAX];
	double seconds = get_seconds(resync, "seconds");

	if (seconds >= 0)
		snprintf(buf, SPAN, "%u %%, %s to go, %s", percent(left, total), human_size(bytes, left),
			 human_duration(time, nanoseconds(seconds < 1 ? 1 : seconds)));
	else
		snprintf(buf, SPAN, "%u %%, %s to go", percent(left, total), human_size(bytes, left));
	return buf;
}

/* One word or two for all of it. */
static const char *summary(struct json_object *s)
{
	if (get_bool(s, "protected"))
		return "protected";
	if (!state_exists(s))
		return "unknown";
	if (get_bool(s, "daemon") && get_bool(get(s, "hub"), "connected") && get(s, "resync"))
		return "syncing";
	return "NOT PROTECTED";
}

/* Texts of the daemon and the kernel do not get control of the terminal. */
static void put_plain(FILE *f, const char *text)
{
	for (; *text; text++)
		fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, f);
}

static void put_line(FILE *f, const char *head, const char *text)
{
	if (!*text)
		return;
	fprintf(f, "  %-8s ", head);
	put_plain(f, text);
	fputc('\n', f);
}

/**
 * show_volumes - a line for each volume
 * @f: where to
 * @s: from state_get()
 * @indent: blanks before each line
 */
void show_volumes(FILE *f, struct json_object *s, unsigned int indent)
{
	struct json_object *volumes = get(s, "volumes"), *v;
	char size[HUMAN_MAX], dirty[HUMAN_MAX], image[3 * SPAN], span[SPAN];
	const char *target, *text;
	struct table t;
	size_t i;

	table_init(&t, "lrlrlll");
	table_row(&t, "VOLUME", "SIZE", "IMAGE", "DIRTY", "DEVICE", "ORIGIN", "GOES TO");
	for (i = 0; i < length_of(volumes); i++) {
		v = json_object_array_get_idx(volumes, i);
		target = get_text(v, "target");
		text = get_text(v, "image");
		if (get(v, "resync"))
			snprintf(image, sizeof(image), "%s, %s", get_text(v, "reason"),
				 progress(span, get(v, "resync")));
		else if (*target && strcmp(target, "repagent"))
			snprintf(image, sizeof(image), "unprotected (%s)", target);
		else if (!*target && get_bool(v, "active"))
			snprintf(image, sizeof(image), "%s", text);
		else if (!*target)
			snprintf(image, sizeof(image), *text ? "device gone" : "no device");
		else if (*text && strcmp(text, "clean"))
			snprintf(image, sizeof(image), "%s, %s", text, get_text(v, "reason"));
		else
			snprintf(image, sizeof(image), "%s", *text ? text : "-");
		table_row(&t, get_text(v, "volume"),
			  get(v, "size") ? human_size(size, get_number(v, "size")) : NULL, image,
			  get(v, "dirty") ? human_size(dirty, get_number(v, "dirty")) : NULL,
			  get(v, "device") ? get_text(v, "device") : NULL,
			  get(v, "origin") ? get_text(v, "origin") : NULL,
			  get(v, "tap") ? get_text(v, "tap") : NULL);
	}
	table_print(&t, f, indent);
}

static void show_rate(FILE *f, struct json_object *s)
{
	char in[HUMAN_MAX], out[HUMAN_MAX], span[SPAN];
	struct json_object *rate = get(s, "rate");

	fprintf(f, "  %-8s %s", "behind", behind(span, s));
	if (rate)
		fprintf(f, "; %s/s written, %s/s sent", human_size(in, get_number(rate, "in-bytes")),
			human_size(out, get_number(rate, "out-bytes")));
	fputc('\n', f);
}

static void show_why(FILE *f, struct json_object *s)
{
	put_line(f, "why", get_text(s, "why"));
	put_line(f, "what now", get_text(s, "remedy"));
}

static void show_reader(FILE *f, struct json_object *reader)
{
	const char *state = get_text(reader, "state");

	if (!*state || !strcmp(state, "stopped"))
		return;
	fprintf(f, "  %-8s %s", "reader", state);
	if (*get_text(reader, "status"))
		fprintf(f, ", %s", get_text(reader, "status"));
	fputc('\n', f);
}

static void show_hub(FILE *f, struct json_object *hub)
{
	bool connected = get_bool(hub, "connected");
	char text[URI_MAX + 32];

	if (connected && get(hub, "uri"))
		snprintf(text, sizeof(text), "connected to %s", get_text(hub, "uri"));
	put_line(f, "hub", !connected && *get_text(hub, "why") ? get_text(hub, "why") :
		 !connected ? "not connected" : get(hub, "uri") ? text : "connected");
}

/* Those that fail: the VM and the stream go on, and still somebody has to do something. */
static void show_maps(FILE *f, struct json_object *volumes)
{
	char text[3 * SPAN];
	struct json_object *v;
	size_t i;

	for (i = 0; i < length_of(volumes); i++) {
		v = json_object_array_get_idx(volumes, i);
		if (!*get_text(v, "map-error"))
			continue;
		snprintf(text, sizeof(text), "%s: %s (%s): after a crash all of it has to be read. %s",
			 get_text(v, "volume"), reason_words(REPAGENT_REASON_META_ERROR), get_text(v, "map-error"),
			 reason_remedy(REPAGENT_REASON_META_ERROR));
		put_line(f, "map", text);
	}
}

/**
 * show_group - all of one group
 * @f: where to
 * @s: from state_get()
 * @now: seconds since 1970
 */
void show_group(FILE *f, struct json_object *s, time_t now)
{
	struct json_object *ring = get(s, "ring"), *resync = get(s, "resync"), *hub = get(s, "hub");
	char used[HUMAN_MAX], size[HUMAN_MAX], span[SPAN], when[32];
	double since = get_seconds(s, "since");

	fprintf(f, "%s: %s", get_text(s, "group"), summary(s));
	if (since >= 0 && get_bool(s, "protected"))
		fprintf(f, " since %s", show_since(when, sizeof(when), since, now));
	else if (since >= 0 && get_bool(s, "present"))
		fprintf(f, ", %s since %s", get_text(s, "state"),
			show_since(when, sizeof(when), since, now));
	fputc('\n', f);
	show_why(f, s);
	if (!state_exists(s))
		return;
	if (!get_bool(s, "daemon"))
		put_line(f, "daemon", "does not run: what stands here is from the kernel and the configuration");
	if (get(s, "lag"))
		show_rate(f, s);
	if (resync)
		put_line(f, "resync", progress(span, resync));
	if (get_bool(s, "daemon"))
		show_hub(f, hub);
	if (ring)
		fprintf(f, "  %-8s %s of %s, records up to %ju of %ju are at the hub\n", "ring",
			human_size(used, get_number(ring, "used")), human_size(size, get_number(ring, "size")),
			(uintmax_t)get_number(ring, "acked"), (uintmax_t)get_number(ring, "last"));
	show_reader(f, get(s, "reader"));
	show_maps(f, get(s, "volumes"));
	if (length_of(get(s, "volumes"))) {
		fputc('\n', f);
		show_volumes(f, s, 2);
	}
}

/**
 * show_groups - a line for each group, then why some are not protected
 * @f: where to
 * @states: an array of what state_get() returned
 * @now: seconds since 1970
 */
void show_groups(FILE *f, struct json_object *states, time_t now)
{
	size_t i, nr = length_of(states);
	char span[SPAN], when[32], sync[SPAN];
	struct json_object *s;
	struct table t;

	table_init(&t, "lllllr");
	table_row(&t, "GROUP", "PROTECTION", "STATE", "SINCE", "RESYNC", "BEHIND");
	for (i = 0; i < nr; i++) {
		s = json_object_array_get_idx(states, i);
		table_row(&t, get_text(s, "group"), summary(s),
			  get_bool(s, "daemon") ? get_text(s, "state") : "no daemon",
			  show_since(when, sizeof(when), get_seconds(s, "since"), now),
			  get(s, "resync") ? progress(sync, get(s, "resync")) : NULL, behind(span, s));
	}
	table_print(&t, f, 0);
	for (i = 0; i < nr; i++) {
		s = json_object_array_get_idx(states, i);
		if (get_bool(s, "protected") || !*get_text(s, "why"))
			continue;
		fprintf(f, "\n%s:\n", get_text(s, "group"));
		show_why(f, s);
	}
}
