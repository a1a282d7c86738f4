// SPDX-License-Identifier: GPL-2.0-or-later
/* What the query commands answer (Documentation/control.md). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "core.h"

#define SENTENCE_MAX	1024

static void add(struct json_object *o, const char *key, struct json_object *value)
{
	json_object_object_add(o, key, value);
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	add(o, key, json_object_new_string(text));
}

static void add_number(struct json_object *o, const char *key, uint64_t n)
{
	add(o, key, json_object_new_uint64(n));
}

/* With a few digits behind the point: more would be noise. */
static struct json_object *number(double value, int digits)
{
	char text[64];

	snprintf(text, sizeof(text), "%.*f", digits, value);
	return json_object_new_double_s(value, text);
}

static struct json_object *bytes_of(uint64_t total, uint64_t left)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "total", total);
	add_number(o, "left", left);
	return o;
}

/**
 * status_time - a time of the loop as one of the calendar
 * @d: the daemon
 * @monotonic: ns of CLOCK_MONOTONIC
 *
 * Return: seconds since 1970.
 */
double status_time(const struct daemon *d, uint64_t monotonic)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9 - ((double)d->loop.now - (double)monotonic) / 1e9;
}

/**
 * status_verify - what query-volumes says of a volume's comparison with its replica
 * @d: the daemon
 * @i: index of the volume
 *
 * Return: an object, or NULL if there was none.
 */
struct json_object *status_verify(const struct daemon *d, unsigned int i)
{
	const struct verify_volume *v = &d->verify.volume[i];
	uint64_t size = d->stream.volume[i].info.sectors << 9;
	bool is_over = v->state == VERIFY_DONE || v->state == VERIFY_STOPPED;
	struct json_object *o;

	if (v->state == VERIFY_NEVER)
		return NULL;
	o = json_object_new_object();
	add_text(o, "state", verify_state_name(v->state));
	add_number(o, "total", size);
	add_number(o, "left", v->state == VERIFY_DONE || v->reached > size ? 0 : size - v->reached);
	add_number(o, "differed", v->differed);
	add_number(o, "unrepaired", v->unrepaired);
	add_number(o, "skipped", v->skipped);
	add(o, "ended", is_over ? number(status_time(d, v->ended), 3) : NULL);
	return o;
}

static struct json_object *volume_object(struct daemon *d, unsigned int i)
{
	const struct repagent_volume_info *v = &d->stream.volume[i].info;
	const struct volume_report *r = &d->report.volume[i];
	struct json_object *o = json_object_new_object();
	char uri[URI_MAX], error[URI_ERROR_MAX];

	add_text(o, "volume", v->name);
	add(o, "active", json_object_new_boolean(v->active));
	add_number(o, "size", v->sectors << 9);
	add_text(o, "image", image_name(v->image));
	add_text(o, "reason", reason_name(v->reason));
	add(o, "since", number(status_time(d, r->image_since), 3));
	add_number(o, "dirty", v->dirty << 9);
	add_number(o, "failed", v->failed);
	add_number(o, "resyncs", v->resyncs);
	add(o, "resync", v->image == REPAGENT_IMAGE_RESYNC ?
	    bytes_of(r->total, v->resync_left << 9) : NULL);
	add(o, "verify", status_verify(d, i));
	add(o, "map-error", v->map_error ? json_object_new_string(strerror((int)v->map_error)) : NULL);
	add(o, "busy", r->busy_told ? json_object_new_uint64(r->busy_seq) : NULL);
	add(o, "tap", uri_for_volume(&d->cfg->taps, d->cfg->group, v->name, uri, error) ?
	    json_object_new_string(uri) : NULL);
	return o;
}

/**
 * status_volumes - what query-volumes returns
 * @d: the daemon
 */
struct json_object *status_volumes(struct daemon *d)
{
	struct json_object *list = json_object_new_array();
	unsigned int i;

	daemon_refresh(d);
	for (i = 0; d->ring && i < REPAGENT_MAX_VOLUMES; i++)
		if (d->stream.volume[i].info.id)
			json_object_array_add(list, volume_object(d, i));
	return list;
}

static struct json_object *words(const char *list)
{
	struct json_object *array = json_object_new_array();
	size_t len;

	for (; list && *list; list += len + (list[len] == ' ')) {
		len = strcspn(list, " ");
		json_object_array_add(array, json_object_new_string_len(list, (int)len));
	}
	return array;
}

/**
 * status_reader - what query-reader returns
 * @d: the daemon
 */
struct json_object *status_reader(struct daemon *d)
{
	struct json_object *o = json_object_new_object();
	const struct reader *r = &d->reader;
	char *const *v = r->conf.reader;

	add_text(o, "state", reader_state_name(r->state));
	add(o, "pid", r->pid ? json_object_new_int((int)r->pid) : NULL);
	add(o, "listen", words(v[CONF_R_LISTEN]));
	add(o, "tls-cert-dir", v[CONF_R_TLS_CERT_DIR] ?
	    json_object_new_string(v[CONF_R_TLS_CERT_DIR]) : NULL);
	add(o, "allow", words(v[CONF_R_ALLOW]));
	add(o, "rate", v[CONF_R_RATE] ? json_object_new_double_s(0, v[CONF_R_RATE]) : NULL);
	add_number(o, "restarts", r->restarts);
	add(o, "since", r->since ? number(status_time(d, r->since), 3) : NULL);
	add_text(o, "status", r->status);
	add_text(o, "why", r->why);
	return o;
}

static const char *state_word(const struct daemon *d)
{
	if (d->stop_by)
		return "stopping";
	if (!d->ring)
		return "waiting";
	return d->paused ? "paused" : capture_word(d->stream.info.capture);
}

/*
 * The first volume that something is wrong with, or NULL: one that holds up the stream, which no write does by being under
 * way for a moment; else one that is not clean.
 */
static const struct repagent_volume_info *first_torn(const struct daemon *d, bool *stuck)
{
	const struct repagent_volume_info *torn = NULL;
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &d->stream.volume[i].info;

		*stuck = v->id && d->report.volume[i].busy_told;
		if (*stuck)
			return v;
		if (v->id && v->image != REPAGENT_IMAGE_CLEAN && !torn)
			torn = v;
	}
	return torn;
}

/* Why the replica does not follow every write, and what helps; both empty if it does. */
static void explain(const struct daemon *d, char *why, const char **remedy)
{
	const struct repagent_info *i = &d->stream.info;
	const struct repagent_volume_info *v;
	char left[HUMAN_MAX];
	bool stuck;

	*why = '\0';
	*remedy = "";
	if (!d->ring) {
		snprintf(why, SENTENCE_MAX, "group %s does not exist", d->cfg->group);
		*remedy = "repctl protect, or start-protect, makes it.";
	} else if (d->paused) {
		snprintf(why, SENTENCE_MAX, "paused by command");
		*remedy = "repctl resume, or resume, connects again.";
	} else if (!d->tap->connected) {
		snprintf(why, SENTENCE_MAX, "%s", d->tap->why);
		*remedy = i->reason == REPAGENT_REASON_HUB_FULL || i->reason == REPAGENT_REASON_FENCED ? reason_remedy(i->reason) :
			  "Look at the hub, and at the line to it.";
	} else if (i->capture != REPAGENT_CAPTURE_STREAM) {
		snprintf(why, SENTENCE_MAX, "%s: %s", capture_word(i->capture), reason_words(i->reason));
		*remedy = reason_remedy(i->reason);
	} else if ((v = first_torn(d, &stuck))) {
		if (stuck)
			snprintf(why, SENTENCE_MAX, "volume %s: a write to its origin device does not end and holds back the stream",
				 v->name);
		else
			snprintf(why, SENTENCE_MAX, "volume %s: %s to be resynced (%s)", v->name,
				 human_size(left, (v->image == REPAGENT_IMAGE_RESYNC ? v->resync_left :
						   v->dirty) << 9), reason_words(v->reason));
		*remedy = stuck ? "Look at the origin device." :
			  reason_remedy(v->reason);
	}
}

static struct json_object *hub_object(const struct daemon *d)
{
	struct json_object *o = json_object_new_object();

	add(o, "connected", json_object_new_boolean(d->ring && d->tap->connected));
	add_text(o, "why", d->ring ? d->tap->why : "");
	add(o, "tap", d->ring ? json_object_new_string(d->tap->kind) : NULL);
	add(o, "uri", d->ring && d->tap->uri[0] ? json_object_new_string(d->tap->uri) : NULL);
	if (d->ring && d->tap->ops->describe)
		d->tap->ops->describe(d->tap, o);
	return o;
}

static struct json_object *resync_object(const struct figures *f)
{
	struct json_object *o;

	if (!f->resyncing)
		return NULL;
	o = bytes_of(f->total, f->left);
	add(o, "rate", number(f->resync_rate, 0));
	add(o, "seconds", f->resync_rate >= 1 ? number((double)f->left / f->resync_rate, 1) : NULL);
	return o;
}

static void add_figures(struct daemon *d, struct json_object *o)
{
	struct json_object *lag = json_object_new_object(), *rate = json_object_new_object();
	struct json_object *ring = json_object_new_object();
	const struct repagent_info *i = &d->stream.info;
	struct figures f = d->figures;

	stats_lag(&f, &d->stream, &d->report, d->loop.now);
	add_number(lag, "bytes", f.lag_bytes);
	add_number(lag, "records", f.lag_records);
	add(lag, "seconds", number((double)f.lag_ns / 1e9, 3));
	add(o, "lag", lag);
	add(rate, "in-bytes", number(f.in_bytes, 0));
	add(rate, "in-records", number(f.in_records, 0));
	add(rate, "out-bytes", number(f.out_bytes, 0));
	add(rate, "out-records", number(f.out_records, 0));
	add(o, "rate", rate);
	add_number(ring, "used", i->payload_used);
	add_number(ring, "size", i->payload_size);
	add_number(ring, "last", i->head - 1);
	add_number(ring, "acked", d->stream.acked);
	add(o, "ring", ring);
	add(o, "resync", resync_object(&f));
}

/**
 * status_all - what query-status returns
 * @d: the daemon
 */
struct json_object *status_all(struct daemon *d)
{
	struct json_object *o = json_object_new_object();
	const struct repagent_info *i = &d->stream.info;
	char incarnation[20], why[SENTENCE_MAX];
	const char *remedy;

	daemon_refresh(d);
	explain(d, why, &remedy);
	snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, d->stream.incarnation);
	add_text(o, "group", d->cfg->group);
	add_text(o, "version", REPAGENT_VERSION);
	add(o, "pid", json_object_new_int((int)getpid()));
	add_text(o, "state", state_word(d));
	add(o, "protected", json_object_new_boolean(!*why));
	add(o, "present", json_object_new_boolean(d->ring != NULL));
	add(o, "incarnation", d->ring ? json_object_new_string(incarnation) : NULL);
	add(o, "capture", d->ring ? json_object_new_string(capture_name(i->capture)) : NULL);
	add(o, "reason", d->ring ? json_object_new_string(reason_name(i->reason)) : NULL);
	add_text(o, "why", why);
	add_text(o, "remedy", remedy);
	add(o, "since", d->ring ? number(status_time(d, d->report.capture_since), 3) : NULL);
	add(o, "paused", json_object_new_boolean(d->paused));
	add(o, "stopping", json_object_new_boolean(d->stop_by != 0));
	add(o, "hub", hub_object(d));
	if (d->ring) {
		add_figures(d, o);
	} else {
		add(o, "lag", NULL);
		add(o, "rate", NULL);
		add(o, "ring", NULL);
		add(o, "resync", NULL);
	}
	add(o, "volumes", status_volumes(d));
	add(o, "reader", status_reader(d));
	return o;
}
