// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the commands of the control socket do (Documentation/control.md).
 * Values are checked as those of the configuration file are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/log.h"
#include "../common/parse.h"
#include "back.h"
#include "core.h"

#define PROTECT_RETRY	(5 * NSEC_PER_SEC)
#define RANGES_MAX	1000
#define DIRTY_CALLS	64	/* of one query-dirty */
#define TEXT_MAX	4096

/* dmdev_result as a class. */
static const char *const classes[] = {
	[DMDEV_OK]	    = "",
	[DMDEV_FAILED]	    = "Failed",
	[DMDEV_NOT_FOUND]   = "NoSuchVolume",
	[DMDEV_DIFFERS]	    = "AlreadyProtected",
	[DMDEV_NAME_IN_USE] = "NameInUse",
	[DMDEV_REFUSED]	    = "DeviceError",
	[DMDEV_BUSY]	    = "DeviceBusy",
};

/*
 * struct protect - a start-protect under way.
 * @call:	NULL: the configuration asks for it
 * @reader:	arguments of the start-reader that this is part of, or NULL
 * @old_tap:	which the volume had before, to be given back if it fails
 * @set_tap:	it was given another one
 */
struct protect {
	struct call *call;
	struct json_object *reader;
	char *old_tap;
	bool set_tap;
};

/* struct stop - a stop-protect under way. */
struct stop {
	struct call *call;
	bool last;
};

static const char *text_of(struct json_object *arguments, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(arguments, name, &value) ? json_object_get_string(value) : NULL;
}

static struct json_object *text(const char *s)
{
	return json_object_new_string(s);
}

/* A failure of the kernel's, or of the system's. */
static void fail_errno(struct call *call, const char *what, int err)
{
	call_fail(call, "Failed", "%s: %s", what, strerror(-err));
}

static bool stopping(struct daemon *d, struct call *call)
{
	if (d->stop_by)
		call_fail(call, "ShuttingDown", "the daemon is about to end");
	return d->stop_by;
}

static bool no_group(struct daemon *d, struct call *call)
{
	if (!d->ring)
		call_fail(call, "NoGroup", "group %s does not exist: start-protect makes it", d->cfg->group);
	return !d->ring;
}

/* An active or lingering volume of the group, or NULL. */
static const struct repagent_volume_info *find_volume(struct daemon *d, const char *name)
{
	unsigned int i;

	daemon_refresh(d);
	for (i = 0; d->ring && i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &d->stream.volume[i].info;

		if (v->id && !strcmp(v->name, name))
			return v;
	}
	return NULL;
}

static bool no_volume(struct daemon *d, struct call *call, const char *name)
{
	const struct repagent_volume_info *v = find_volume(d, name);

	if (!v)
		call_fail(call, "NoSuchVolume", "group %s has no volume %s", d->cfg->group, name);
	return !v;
}

static bool is_busy(struct daemon *d, struct call *call, const char *volume)
{
	const struct job *job = jobs_busy(&d->jobs, volume);

	if (job)
		call_fail(call, "InProgress", "%s of %s%s is under way", job->command,
			  job->volume[0] ? "volume " : "all volumes", job->volume);
	return job;
}

/* A place for a job, which call_fail() was told of if there is none. */
static struct job *new_job(struct daemon *d, struct call *call, const char *command,
			   const char *volume)
{
	struct job *job = jobs_new(&d->jobs);

	if (!job) {
		call_fail(call, "InProgress", "%d commands are under way: try again when one is done", JOBS_MAX);
		return NULL;
	}
	job->command = command;
	snprintf(job->volume, sizeof(job->volume), "%s", volume);
	return job;
}

/* --- start-protect ------------------------------------------------------ */

/*
 * What the configuration asks for, the volume has had: the device is there, or was taken away by command since. It is
 * not tried again.
 */
static void had_its_way(struct daemon *d, const char *volume)
{
	const struct conf *conf = &d->cfg->conf;
	unsigned int i;

	for (i = 0; i < conf->nr_volumes; i++)
		if (!strcmp(conf->volume[i].name, volume))
			d->protect_left &= ~(UINT64_C(1) << i);
}

static void do_protect(const struct job *job, struct job_result *r)
{
	r->result = dmdev_protect(job->name[0] ? job->name : NULL, &job->table, &r->dev, &r->done,
				  r->error);
}

static void begin_reader(struct daemon *d, struct call *call, struct json_object *arguments);

static void free_protect(struct protect *p)
{
	json_object_put(p->reader);
	free(p->old_tap);
	free(p);
}

/* It is done: say so, or take back what was prepared. */
static void protect_done(void *owner, struct job *job)
{
	const struct job_result *r = &job->result;
	struct protect *p = job->arg;
	struct json_object *value;
	struct daemon *d = owner;
	char path[DMDEV_PATH_MAX], error[URI_ERROR_MAX];

	if (r->result == DMDEV_OK) {
		snprintf(path, sizeof(path), "/dev/mapper/%s", r->dev.name);
		if (r->done == DMDEV_ADOPTED)
			log_info("volume %s: %s is there", job->volume, path);
		else
			log_notice("volume %s: %s is protected as %s", job->volume, job->table.origin, path);
		had_its_way(d, job->volume);
		daemon_look(d);
		d->refresh = true;
		if (p->reader) {
			begin_reader(d, p->call, p->reader);
			goto out;
		}
		value = json_object_new_object();
		json_object_object_add(value, "volume", text(job->volume));
		json_object_object_add(value, "device", text(path));
		json_object_object_add(value, "created", json_object_new_boolean(r->done == DMDEV_CREATED));
		call_return(p->call, value);
	} else {
		if (p->set_tap)
			uri_set_tap(&d->cfg->taps, job->volume, p->old_tap, error);
		if (!p->call)
			log_err("volume %s: %s", job->volume, r->error);
		/* A device can come later; nothing else mends itself. */
		if (!p->call && r->result != DMDEV_REFUSED && r->result != DMDEV_FAILED)
			had_its_way(d, job->volume);
		call_fail(p->call, classes[r->result], "%s", r->error);
	}
out:
	free_protect(p);
}

static void fill_table(struct dmdev_table *t, const struct daemon *d,
		       const struct conf_volume *v, const char *ring)
{
	uint64_t n = 0;

	memset(t, 0, sizeof(*t));
	snprintf(t->origin, sizeof(t->origin), "%s", v->value[CONF_V_DEVICE]);
	snprintf(t->group, sizeof(t->group), "%s", d->cfg->group);
	snprintf(t->volume, sizeof(t->volume), "%s", v->name);
	if (ring && parse_count(ring, &n))
		t->ring_mib = (unsigned int)n;
	n = 0;
	if (v->value[CONF_V_REGION] && parse_count(v->value[CONF_V_REGION], &n))
		t->region_kib = (unsigned int)n;
	if (v->value[CONF_V_DISCARD])
		snprintf(t->discard, sizeof(t->discard), "%s", v->value[CONF_V_DISCARD]);
	if (v->value[CONF_V_BOUNCE])
		snprintf(t->bounce, sizeof(t->bounce), "%s", v->value[CONF_V_BOUNCE]);
	if (v->value[CONF_V_META])
		snprintf(t->meta, sizeof(t->meta), "%s", v->value[CONF_V_META]);
}

/* A rephub takes the whole group: it is the tap of all volumes, or none. */
static bool settle_rephub(struct daemon *d, struct protect *p, const char *tap)
{
	struct uri_map *taps = &d->cfg->taps;
	char error[URI_ERROR_MAX];
	bool ok = true;

	if (taps->all && !strcmp(taps->all, tap))
		return true;
	if (taps->all || taps->nr) {
		call_fail(p->call, "AlreadyProtected", "the group goes to '%s' already, and not to '%s', which takes the whole "
			  "group: end the protection of its volumes, and the daemon, first",
			  taps->all ? taps->all : taps->own[0].uri, tap);
		return false;
	}
	if (!uri_set_tap(taps, NULL, tap, error)) {
		call_fail(p->call, "Failed", "tap %s", error);
		return false;
	}
	ok = daemon_choose_tap(d) >= 0;
	if (!ok)
		call_fail(p->call, "Failed", "out of memory");
	return ok;
}

/* Where the volume will go.  Return whether it is settled; else the call was answered. */
static bool settle_tap(struct daemon *d, struct protect *p, const struct conf_volume *v)
{
	const char *old = uri_tap_of(&d->cfg->taps, v->name), *tap = v->value[CONF_V_TAP];
	const struct repagent_volume_info *there = find_volume(d, v->name);
	char error[URI_ERROR_MAX];

	if (p->reader)
		return true;	/* it can do without */
	if (uri_is_rephub(tap))
		return settle_rephub(d, p, tap);
	if (!old && !tap && !d->cfg->taps.all) {
		call_fail(p->call, "InvalidArgument", "tap is missing: there is none for all volumes; "
			  "expected nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, nbds:// or nbds+unix://, "
			  "or rephub://HOST[:PORT]");
		if (!p->call)
			log_err("volume %s has no tap: expected one in [volume %s], or in [group]", v->name, v->name);
		return false;
	}
	if (!tap || (old && !strcmp(old, tap)))
		return true;
	if (there && there->active && (old || d->cfg->taps.all)) {
		call_fail(p->call, "AlreadyProtected", "volume %s goes to '%s' already, and not to '%s': stop-protect first",
			  v->name, old ? old : d->cfg->taps.all, tap);
		return false;
	}
	if (uri_is_rephub(d->cfg->taps.all)) {
		call_fail(p->call, "InvalidArgument", "tap '%s': the whole group goes to the rephub '%s'; expected no tap",
			  tap, d->cfg->taps.all);
		return false;
	}
	p->old_tap = old ? strdup(old) : NULL;
	p->set_tap = uri_set_tap(&d->cfg->taps, v->name, tap, error);
	if (!p->set_tap)
		call_fail(p->call, "Failed", "tap %s", error);
	return p->set_tap;
}

/* Begin.  Return whether the call, if there is one, will be answered by protect_done(). */
static bool protect(struct daemon *d, struct call *call, const struct conf_volume *v, const char *ring,
		    struct json_object *reader)
{
	struct protect *p;
	struct job *job;
	char error[URI_ERROR_MAX];

	if (is_busy(d, call, v->name))
		return false;
	job = new_job(d, call, "start-protect", v->name);
	if (!job)
		return false;
	p = calloc(1, sizeof(*p));
	if (!p) {
		call_fail(call, "Failed", "out of memory");
		return false;
	}
	p->call = call;
	p->reader = json_object_get(reader);
	if (!settle_tap(d, p, v)) {
		free_protect(p);
		return false;
	}
	fill_table(&job->table, d, v, ring);
	if (v->value[CONF_V_NAME])
		snprintf(job->name, sizeof(job->name), "%s", v->value[CONF_V_NAME]);
	job->work = do_protect;
	job->done = protect_done;
	job->arg = p;
	if (job_start(job))
		return true;
	call_fail(call, "Failed", "fork: %s", strerror(errno));
	if (p->set_tap)
		uri_set_tap(&d->cfg->taps, v->name, p->old_tap, error);
	free_protect(p);
	return false;
}

/* A value as the text that the configuration would have. */
static const char *conf_text(struct json_object *value, char *buf, size_t size)
{
	switch (json_object_get_type(value)) {
	case json_type_boolean:
		return json_object_get_boolean(value) ? "on" : "off";
	case json_type_int:
		snprintf(buf, size, "%" PRId64, json_object_get_int64(value));
		return buf;
	case json_type_double:
		snprintf(buf, size, "%.4f", json_object_get_double(value));
		return buf;
	default:
		return json_object_get_string(value);
	}
}

static void start_protect(void *owner, struct call *call, struct json_object *arguments)
{
	struct daemon *d = owner;
	const char *volume = text_of(arguments, "volume");
	char error[CONF_ERROR_MAX], buf[64];
	struct conf conf;
	bool ok = true;

	if (stopping(d, call))
		return;
	conf_init(&conf);
	json_object_object_foreach(arguments, key, value) {
		if (!strcmp(key, "volume"))
			continue;
		const char *word = conf_text(value, buf, sizeof(buf));
		bool whole = !strcmp(key, "ring") || (!strcmp(key, "tap") && uri_is_rephub(word));

		ok = conf_set(&conf, whole ? CONF_GROUP : CONF_VOLUME, volume, key, word, error);
		if (!ok)
			break;
	}
	if (!ok)
		call_fail(call, "InvalidArgument", "%s", error);
	else
		protect(d, call, conf_volume(&conf, volume), conf.group[CONF_G_RING] ?
			conf.group[CONF_G_RING] : d->cfg->conf.group[CONF_G_RING], NULL);
	conf_free(&conf);
}

/* --- stop-protect ------------------------------------------------------- */

static void do_stop(const struct job *job, struct job_result *r)
{
	bool linear = !strcmp(job->name, "linear");
	size_t n;

	r->result = dmdev_find(job->table.group, job->volume, &r->dev, r->error);
	if (r->result != DMDEV_OK)
		return;
	r->result = linear ? dmdev_linear(r->dev.name, r->error) : dmdev_remove(r->dev.name, r->error);
	n = strlen(r->error);
	if (r->result == DMDEV_BUSY)
		snprintf(r->error + n, sizeof(r->error) - n,
			 ": end what uses it first, or say \"device\":\"linear\" to let it go on unprotected");
}

/* Take records again that came after the hold. */
static void let_go(struct daemon *d)
{
	if (d->holding && d->ring && !d->stop_by)
		d->stream.end = UINT64_MAX;
	d->holding = false;
}

static struct json_object *emit_shutdown(struct daemon *d)
{
	uint64_t seq;

	if (!d->ring || stream_emit(&d->stream, REPAGENT_REC_SHUTDOWN, NULL, &seq) < 0)
		return NULL;
	return json_object_new_uint64(seq);
}

static void stop_done(void *owner, struct job *job)
{
	const struct job_result *r = &job->result;
	struct json_object *value;
	struct stop *stop = job->arg;
	struct daemon *d = owner;
	char path[DMDEV_PATH_MAX];

	if (r->result == DMDEV_OK) {
		snprintf(path, sizeof(path), "/dev/mapper/%s", r->dev.name);
		log_notice("volume %s: %s is protected no longer%s", job->volume, path,
			   strcmp(job->name, "linear") ? "" : ", and goes on without");
		had_its_way(d, job->volume);
		value = json_object_new_object();
		json_object_object_add(value, "volume", text(job->volume));
		json_object_object_add(value, "device", text(path));
		json_object_object_add(value, "last", json_object_new_boolean(stop->last));
		json_object_object_add(value, "shutdown", stop->last ? emit_shutdown(d) : NULL);
		call_return(stop->call, value);
	} else {
		call_fail(stop->call, classes[r->result], "%s", r->error);
	}
	let_go(d);
	d->refresh = true;
	free(stop);
}

/* Whether no other volume is active; also the group's end comes with it then. */
static bool is_last(const struct daemon *d, const char *volume)
{
	unsigned int i;

	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &d->stream.volume[i].info;

		if (v->id && v->active && strcmp(v->name, volume))
			return false;
	}
	return true;
}

static void stop_protect(void *owner, struct call *call, struct json_object *arguments)
{
	struct daemon *d = owner;
	const char *volume = text_of(arguments, "volume"), *device = text_of(arguments, "device");
	struct stop *stop;
	struct job *job;

	if (strcmp(device, "remove") && strcmp(device, "linear")) {
		call_fail(call, "InvalidArgument", "device '%.80s': expected \"remove\" or \"linear\"", device);
		return;
	}
	if (stopping(d, call) || no_group(d, call) || is_busy(d, call, volume) ||
	    no_volume(d, call, volume))
		return;
	job = new_job(d, call, "stop-protect", volume);
	if (!job)
		return;
	stop = calloc(1, sizeof(*stop));
	if (!stop) {
		call_fail(call, "Failed", "out of memory");
		return;
	}
	stop->call = call;
	stop->last = is_last(d, volume);
	snprintf(job->table.group, sizeof(job->table.group), "%s", d->cfg->group);
	snprintf(job->name, sizeof(job->name), "%s", device);
	job->work = do_stop;
	job->done = stop_done;
	job->arg = stop;
	if (!job_start(job)) {
		call_fail(call, "Failed", "fork: %s", strerror(errno));
		free(stop);
		return;
	}
	if (stop->last) {
		d->holding = true;
		d->stream.end = d->stream.info.head - 1;
	}
}

/* --- resync ------------------------------------------------------------- */

static void do_resync(const struct job *job, struct job_result *r)
{
	struct daemon *d = job->jobs->owner;

	r->result = d->ring->ops->mark_dirty(d->ring, job->table.group, job->volume[0] ? job->volume : NULL,
					     r->error);
}

static void resync_done(void *owner, struct job *job)
{
	struct json_object *value, *list;
	struct daemon *d = owner;
	unsigned int i;

	d->refresh = true;
	if (job->result.result != DMDEV_OK) {
		call_fail(job->arg, classes[job->result.result], "%s", job->result.error);
		return;
	}
	list = json_object_new_array();
	for (i = 0; d->ring && i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &d->stream.volume[i].info;

		if (v->id && v->active && (!job->volume[0] || !strcmp(job->volume, v->name)))
			json_object_array_add(list, text(v->name));
	}
	value = json_object_new_object();
	json_object_object_add(value, "volumes", list);
	call_return(job->arg, value);
}

/* The tap asked for it. */
static void marked(void *owner, struct job *job)
{
	struct daemon *d = owner;

	d->refresh = true;
	if (d->tap && d->tap->ops->marked)
		d->tap->ops->marked(d->tap, job->result.result == DMDEV_OK ? NULL : job->result.error);
}

/**
 * commands_mark_dirty - have a volume, or all, read again; tap.mark_dirty
 * @owner: the daemon
 * @volume: its name, or NULL
 *
 * Return: whether it has begun; it has not while other commands are under way.
 */
bool commands_mark_dirty(void *owner, const char *volume)
{
	struct daemon *d = owner;
	struct job *job = jobs_busy(&d->jobs, volume ? volume : "") ? NULL : jobs_new(&d->jobs);

	if (!job)
		return false;
	job->command = "resync";
	snprintf(job->volume, sizeof(job->volume), "%s", volume ? volume : "");
	snprintf(job->table.group, sizeof(job->table.group), "%s", d->cfg->group);
	job->work = do_resync;
	job->done = marked;
	return job_start(job);
}

static void resync(void *owner, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume");
	struct daemon *d = owner;
	struct job *job;

	if (stopping(d, call) || no_group(d, call) || is_busy(d, call, volume ? volume : "") ||
	    (volume && no_volume(d, call, volume)))
		return;
	job = new_job(d, call, "resync", volume ? volume : "");
	if (!job)
		return;
	if (!volume && d->tap->ops->accept)
		d->tap->ops->accept(d->tap);
	snprintf(job->table.group, sizeof(job->table.group), "%s", d->cfg->group);
	job->work = do_resync;
	job->done = resync_done;
	job->arg = call;
	if (!job_start(job))
		call_fail(call, "Failed", "fork: %s", strerror(errno));
}

/* --- verify --------------------------------------------------------------- */

/**
 * commands_verified - a volume's comparison with its replica is over
 * @owner: the daemon
 * @volume: its index
 */
void commands_verified(void *owner, unsigned int volume)
{
	struct daemon *d = owner;
	const struct verify_volume *v = &d->verify.volume[volume];
	const char *name = d->stream.volume[volume].info.name;
	struct json_object *data;
	char size[HUMAN_MAX];

	if (v->state == VERIFY_STOPPED)
		log_notice("volume %s: the comparison with its replica was stopped", name);
	else if (v->differed || v->skipped)
		log_warn("volume %s: compared with its replica: %s differed and was written anew (%" PRIu64
			 " bytes of it in vain), %" PRIu64 " bytes could not be read", name,
			 human_size(size, v->differed), v->unrepaired, v->skipped);
	else
		log_notice("volume %s: its replica is what was written", name);
	data = status_verify(d, volume);
	json_object_object_add(data, "volume", text(name));
	control_event(d->control, "VERIFY", data);
}

static void verify(void *owner, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume");
	struct json_object *rate, *list, *value;
	struct daemon *d = owner;
	uint64_t volumes = 0;
	unsigned int i;

	if (stopping(d, call) || no_group(d, call) || (volume && no_volume(d, call, volume)))
		return;
	if (verify_busy(&d->verify)) {
		call_fail(call, "InProgress", "a comparison is under way: stop-verify ends it");
		return;
	}
	daemon_refresh(d);
	list = json_object_new_array();
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++) {
		const struct repagent_volume_info *v = &d->stream.volume[i].info;

		if (!v->id || !v->active || (volume && strcmp(volume, v->name)))
			continue;
		volumes |= UINT64_C(1) << i;
		json_object_array_add(list, text(v->name));
	}
	verify_start(&d->verify, &d->stream, volumes,
		     json_object_object_get_ex(arguments, "rate", &rate) ? json_object_get_uint64(rate) : 0, 0);
	value = json_object_new_object();
	json_object_object_add(value, "volumes", list);
	call_return(call, value);
}

static void stop_verify(void *owner, struct call *call, struct json_object *arguments)
{
	struct daemon *d = owner;

	(void)arguments;
	if (no_group(d, call))
		return;
	verify_stop(&d->verify, d->loop.now);
	call_return(call, NULL);
}

/* --- The reader --------------------------------------------------------- */

/**
 * commands_reader_changed - the reader is in another state
 * @owner: the daemon
 * @before: the state it was in
 */
void commands_reader_changed(void *owner, enum reader_state before)
{
	struct json_object *data = json_object_new_object();
	struct daemon *d = owner;
	struct reader *r = &d->reader;
	struct json_object *value;
	struct call *call = d->reader_call;

	json_object_object_add(data, "state", text(reader_state_name(r->state)));
	json_object_object_add(data, "why", text(r->why));
	control_event(d->control, "READER", data);
	if (r->state == READER_RUNNING) {
		log_notice("reader: it listens (process %d)", (int)r->pid);
		d->reader_call = NULL;
		value = json_object_new_object();
		json_object_object_add(value, "pid", json_object_new_int((int)r->pid));
		call_return(call, value);
	} else if (r->state == READER_STOPPED) {
		d->reader_call = NULL;
		if (before == READER_STARTING)
			call_fail(call, "ReaderFailed", "the reader is not up: %s", r->why);
		else
			call_return(call, NULL);
	}
}

/* A text, or each of a list. */
static bool set_texts(struct conf *conf, const char *key, struct json_object *value, char *error)
{
	size_t i, n = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 1;
	char buf[64];

	for (i = 0; i < n; i++) {
		struct json_object *one = json_object_is_type(value, json_type_array) ?
					  json_object_array_get_idx(value, i) : value;
		const char *word = conf_text(one, buf, sizeof(buf));

		if (strpbrk(word, " \t")) {
			snprintf(error, CONF_ERROR_MAX, "%s '%.200s': expected no blanks in it", key, word);
			return false;
		}
		if (!conf_set(conf, CONF_READER, NULL, key, word, error))
			return false;
	}
	return true;
}

/* Keys that say which device is to be a volume first. */
static bool is_of_volume(const char *key)
{
	return !strcmp(key, "volume") || !strcmp(key, "device") || !strcmp(key, "name");
}

/* The reader's configuration, and that of the volume. Return whether it makes sense; else the call was answered. */
static bool reader_conf(struct conf *conf, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume");
	char error[CONF_ERROR_MAX];
	bool ok = true;

	if (!volume != !text_of(arguments, "device") || (!volume && text_of(arguments, "name"))) {
		call_fail(call, "InvalidArgument", "%s is missing: expected volume and device, or neither of them",
			  volume ? "device" : "volume");
		return false;
	}
	conf_init(conf);
	json_object_object_foreach(arguments, key, value) {
		if (!strcmp(key, "volume"))
			continue;
		ok = is_of_volume(key) ?
		     conf_set(conf, CONF_VOLUME, volume, key, json_object_get_string(value), error) :
		     set_texts(conf, key, value, error);
		if (!ok)
			break;
	}
	if (ok)
		return true;
	call_fail(call, "InvalidArgument", "%s", error);
	conf_free(conf);
	return false;
}

/* Whether there is none. Else the call was answered. */
static bool no_reader(struct daemon *d, struct call *call)
{
	if (d->reader_call || d->reader.state == READER_STOPPING)
		call_fail(call, "InProgress", "the reader is %s", reader_state_name(d->reader.state));
	else if (d->reader.state != READER_STOPPED)
		call_fail(call, "ReaderRunning", "the reader runs already (process %d): stop-reader ends it",
			  (int)d->reader.pid);
	else
		return true;
	return false;
}

static void begin_reader(struct daemon *d, struct call *call, struct json_object *arguments)
{
	struct conf conf;

	if (!no_reader(d, call) || !reader_conf(&conf, call, arguments))
		return;
	conf_free(&d->reader.conf);
	d->reader.conf = conf;
	d->reader_call = call;
	if (!reader_start(&d->reader, false)) {
		d->reader_call = NULL;
		call_fail(call, "ReaderFailed", "the reader is not up: %s", d->reader.why);
	}
}

static void start_reader(void *owner, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume");
	struct daemon *d = owner;
	struct conf conf;

	if (stopping(d, call) || !no_reader(d, call))
		return;
	if (!volume && !text_of(arguments, "device")) {
		begin_reader(d, call, arguments);
	} else if (reader_conf(&conf, call, arguments)) {
		protect(d, call, conf_volume(&conf, volume), d->cfg->conf.group[CONF_G_RING], arguments);
		conf_free(&conf);
	}
}

static void stop_reader(void *owner, struct call *call, struct json_object *arguments)
{
	struct daemon *d = owner;

	(void)arguments;
	if (d->reader.state == READER_STOPPED) {
		call_fail(call, "ReaderNotRunning", "there is no reader: start-reader starts it");
	} else if (d->reader_call || d->reader.state == READER_STOPPING) {
		call_fail(call, "InProgress", "the reader is %s", reader_state_name(d->reader.state));
	} else {
		d->reader_call = call;
		reader_stop(&d->reader);
	}
}

/* --- Queries ------------------------------------------------------------ */

static void query_status(void *owner, struct call *call, struct json_object *arguments)
{
	(void)arguments;
	call_return(call, status_all(owner));
}

static void query_volumes(void *owner, struct call *call, struct json_object *arguments)
{
	struct daemon *d = owner;

	(void)arguments;
	if (!no_group(d, call))
		call_return(call, status_volumes(d));
}

static void query_reader(void *owner, struct call *call, struct json_object *arguments)
{
	(void)arguments;
	call_return(call, status_reader(owner));
}

static struct json_object *pair(uint64_t a, uint64_t b)
{
	struct json_object *array = json_object_new_array();

	json_object_array_add(array, json_object_new_uint64(a));
	json_object_array_add(array, json_object_new_uint64(b));
	return array;
}

/*
 * Ranges from a sector on, at most max of them.  *next is where to go on, or
 * the size when all is told.
 */
static int collect_dirty(struct daemon *d, uint16_t id, uint64_t size, uint64_t max,
			 struct json_object *ranges, uint64_t *next)
{
	struct repagent_dirty dirty = { .volume = id, .sector = *next };
	unsigned int calls, i;
	uint64_t from;
	int r;

	for (calls = 0; calls < DIRTY_CALLS && *next < size; calls++) {
		from = dirty.sector;
		r = stream_dirty(&d->stream, &dirty);
		if (r < 0)
			return r;
		*next = dirty.sector > from ? dirty.sector : size;	/* it has shrunk */
		for (i = 0; i < dirty.nr; i++) {
			const struct repagent_range *range = &dirty.range[i];

			if (json_object_array_length(ranges) == max) {
				*next = range->sector;
				return 0;
			}
			json_object_array_add(ranges, pair(range->sector << 9, range->nr_sectors << 9));
		}
	}
	return 0;
}

static void query_dirty(void *owner, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume");
	const struct repagent_volume_info *v;
	uint64_t from = 0, max = RANGES_MAX;
	struct json_object *n, *ranges, *o;
	struct daemon *d = owner;
	int r;

	if (json_object_object_get_ex(arguments, "from", &n))
		from = (uint64_t)json_object_get_int64(n);
	if (json_object_object_get_ex(arguments, "max", &n))
		max = (uint64_t)json_object_get_int64(n);
	if (from % 512) {
		call_fail(call, "InvalidArgument", "from %" PRIu64 ": expected a multiple of 512", from);
		return;
	}
	if (!max || max > RANGES_MAX) {
		call_fail(call, "InvalidArgument", "max %" PRIu64 ": expected a number from 1 to %d", max,
			  RANGES_MAX);
		return;
	}
	if (no_group(d, call) || no_volume(d, call, volume))
		return;
	v = find_volume(d, volume);
	from /= 512;
	ranges = json_object_new_array();
	r = collect_dirty(d, v->id, v->sectors, max, ranges, &from);
	if (r < 0) {
		json_object_put(ranges);
		fail_errno(call, "what is dirty cannot be told", r);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "volume", text(v->name));
	json_object_object_add(o, "size", json_object_new_uint64(v->sectors << 9));
	json_object_object_add(o, "ranges", ranges);
	json_object_object_add(o, "next", from < v->sectors ? json_object_new_uint64(from << 9) : NULL);
	call_return(call, o);
}

/* --- A disk that was failed over from ------------------------------------- */

/* What the hub had of the volume when all that is dirty, and nothing else, was lacking there; seq 0: not known. */
static void basis_of(const struct daemon *d, const struct repagent_volume_info *v, uint64_t *incarnation, uint64_t *seq)
{
	*incarnation = d->stream.acked ? d->stream.incarnation : v->map_incarnation;
	*seq = d->stream.acked ? d->stream.acked : v->map_seq;
}

static struct json_object *position(uint64_t incarnation, uint64_t seq)
{
	char point[48];

	snprintf(point, sizeof(point), "%016" PRIx64 ":%" PRIu64, incarnation, seq);
	return seq ? text(point) : NULL;
}

/*
 * Records from one on that are of the volume, at most max of them. *from is where to go on, or 0 when all is told.
 * Return 0, -EAGAIN if a write is under way, or another negative errno.
 */
static int collect_unsent(struct daemon *d, const char *volume, uint64_t max, struct json_object *ranges, uint64_t *from)
{
	struct stream *s = malloc(sizeof(*s));
	struct record rec;
	int r = 1;

	if (!s)
		return -ENOMEM;
	*s = d->stream;		/* another reader of the same ring */
	s->end = s->info.head - 1;
	s->next = *from > s->acked ? *from : s->acked + 1;
	for (; r > 0 && s->next <= s->end && json_object_array_length(ranges) < max; stream_advance(s)) {
		r = stream_peek(s, &rec);
		if (r > 0 && rec.volume >= 0 && !strcmp(s->volume[rec.volume].info.name, volume) &&
		    (rec.type == REPAGENT_REC_WRITE || rec.type == REPAGENT_REC_ZEROES || rec.type == REPAGENT_REC_DISCARD ||
		     rec.type == REPAGENT_REC_RESYNC))
			json_object_array_add(ranges, pair(rec.offset, rec.length));
	}
	*from = s->next <= s->end ? s->next : 0;
	free(s);
	return r > 0 ? 0 : r ? r : -EAGAIN;
}

static void query_unsent(void *owner, struct call *call, struct json_object *arguments)
{
	uint64_t from = json_object_get_uint64(json_object_object_get(arguments, "from")), max = RANGES_MAX, incarnation, seq;
	const char *volume = text_of(arguments, "volume");
	struct json_object *n, *ranges, *o;
	struct daemon *d = owner;
	int r;

	if (json_object_object_get_ex(arguments, "max", &n))
		max = json_object_get_uint64(n);
	if (!max || max > RANGES_MAX) {
		call_fail(call, "InvalidArgument", "max %" PRIu64 ": expected a number from 1 to %d", max, RANGES_MAX);
		return;
	}
	if (no_group(d, call) || no_volume(d, call, volume))
		return;
	daemon_refresh(d);
	ranges = json_object_new_array();
	r = collect_unsent(d, volume, max, ranges, &from);
	if (r == -EAGAIN)
		call_fail(call, "DeviceBusy", "a write to a volume of the group is under way: end the VM first");
	else if (r < 0)
		fail_errno(call, "what the ring holds cannot be told", r);
	if (r < 0) {
		json_object_put(ranges);
		return;
	}
	basis_of(d, find_volume(d, volume), &incarnation, &seq);
	o = json_object_new_object();
	json_object_object_add(o, "volume", text(volume));
	json_object_object_add(o, "basis", position(incarnation, seq));
	json_object_object_add(o, "ranges", ranges);
	json_object_object_add(o, "next", from ? json_object_new_uint64(from) : NULL);
	call_return(call, o);
}

/* A volume that the hub has fenced off may be written over; noted durably. */
static void note_back(struct daemon *d, struct call *call, const char *volume, struct back_volume *v)
{
	if (!d->tap->fenced) {
		call_fail(call, "WrongState", "the hub has not fenced group %s off (%s), so that this disk is the one that counts", d->cfg->group,
			  d->tap->connected ? "it takes its stream" : d->tap->why);
		return;
	}
	snprintf(v->name, sizeof(v->name), "%s", volume);
	if (back_note(v, d->cfg->state_dir, d->cfg->group))
		call_return(call, NULL);
	else
		call_fail(call, "Failed", "that volume %s is written over cannot be noted in %s: %s", volume,
			  d->cfg->state_dir ? d->cfg->state_dir : "no directory", strerror(errno));
}

static void begin_back(void *owner, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume");
	struct back_volume v = { .ended = false };
	struct daemon *d = owner;

	if (stopping(d, call) || no_group(d, call) || no_volume(d, call, volume))
		return;
	log_notice("volume %s: what the hub has is written over it, by command", volume);
	note_back(d, call, volume, &v);
}

static void end_back(void *owner, struct call *call, struct json_object *arguments)
{
	const char *volume = text_of(arguments, "volume"), *at = text_of(arguments, "at");
	struct back_volume v = { .ended = true };
	struct daemon *d = owner;
	int used = 0;

	if (stopping(d, call) || no_group(d, call) || no_volume(d, call, volume))
		return;
	if (sscanf(at, "%16" SCNx64 ":%" SCNu64 "%n", &v.has_incarnation, &v.has_seq, &used) != 2 || at[used] || !v.has_seq) {
		call_fail(call, "InvalidArgument", "at '%.60s': expected a position of the hub, INCARNATION:NUMBER", at);
		return;
	}
	daemon_refresh(d);
	basis_of(d, find_volume(d, volume), &v.had_incarnation, &v.had_seq);
	log_notice("volume %s: it is what the hub has at %s", volume, at);
	note_back(d, call, volume, &v);
}

/* --- The stream --------------------------------------------------------- */

/* Those that begin with '@' are the daemon's own. */
static bool label_ok(const char *label)
{
	const char *p;

	for (p = label; *p; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	return p > label && *label != '@' && p - label <= REPAGENT_LABEL_MAX;
}

static void checkpoint(void *owner, struct call *call, struct json_object *arguments)
{
	const char *label = text_of(arguments, "label");
	struct json_object *o, *data;
	struct daemon *d = owner;
	char incarnation[20];
	uint64_t seq;
	int r;

	if (!label_ok(label)) {
		call_fail(call, "InvalidArgument", "label '%.80s': expected 1 to %d printable ASCII characters without blanks, not beginning with '@'",
			  label, REPAGENT_LABEL_MAX);
		return;
	}
	if (stopping(d, call) || no_group(d, call))
		return;
	r = stream_emit(&d->stream, REPAGENT_REC_CHECKPOINT, label, &seq);
	if (r == -EAGAIN) {
		daemon_refresh(d);
		call_fail(call, "NotStreaming", "the group does not stream (%s: %s), so that a checkpoint has no place",
			  capture_word(d->stream.info.capture), reason_words(d->stream.info.reason));
		return;
	}
	if (r == -ENOSPC) {
		call_fail(call, "RingFull", "the ring has no room for the record: try again when the hub has caught up");
		return;
	}
	if (r < 0) {
		fail_errno(call, "the kernel takes no checkpoint", r);
		return;
	}
	snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, d->stream.incarnation);
	o = json_object_new_object();
	json_object_object_add(o, "incarnation", text(incarnation));
	json_object_object_add(o, "record", json_object_new_uint64(seq));
	data = json_object_new_object();
	json_object_object_add(data, "label", text(label));
	json_object_object_add(data, "incarnation", text(incarnation));
	json_object_object_add(data, "record", json_object_new_uint64(seq));
	call_return(call, o);
	control_event(d->control, "CHECKPOINT", data);
}

static void pause_or_resume(struct daemon *d, struct call *call, bool on)
{
	int r;

	if (stopping(d, call) || no_group(d, call))
		return;
	if (d->paused != on)
		log_notice("%s by command", on ? "paused: writes are remembered" : "resumed");
	r = daemon_pause(d, on);
	d->refresh = true;
	if (r < 0)
		fail_errno(call, "the kernel does not pause", r);
	else
		call_return(call, NULL);
}

static void pause_command(void *owner, struct call *call, struct json_object *arguments)
{
	(void)arguments;
	pause_or_resume(owner, call, true);
}

static void rejoin(void *owner, struct call *call, struct json_object *arguments)
{
	uint64_t generation = json_object_get_uint64(json_object_object_get(arguments, "generation"));
	bool force = json_object_get_boolean(json_object_object_get(arguments, "force"));
	struct daemon *d = owner;
	const char *why;

	if (stopping(d, call) || no_group(d, call))
		return;
	if (!generation) {
		call_fail(call, "InvalidArgument", "generation 0: expected that of the hub, from 1 on, which rephubctl shows there");
		return;
	}
	if (!d->tap->ops->rejoin)
		call_fail(call, "Failed", "the group goes to no rephub: there are no generations");
	else if (!d->tap->ops->rejoin(d->tap, generation, force, &why))
		call_fail(call, "Failed", "%s", why);
	else
		call_return(call, NULL);
}

static void resume_command(void *owner, struct call *call, struct json_object *arguments)
{
	(void)arguments;
	pause_or_resume(owner, call, false);
}

static void shutdown_command(void *owner, struct call *call, struct json_object *arguments)
{
	struct daemon *d = owner;
	struct json_object *o;

	(void)arguments;
	if (stopping(d, call))
		return;
	o = json_object_new_object();
	json_object_object_add(o, "shutdown", emit_shutdown(d));
	call_return(call, o);
	d->by_command = true;
	daemon_stop(d, "shutdown", "command");
}

static void subscribe(void *owner, struct call *call, struct json_object *arguments)
{
	(void)owner;
	(void)arguments;
	call_subscribe(call);
	call_return(call, NULL);
}

/* --- All of them -------------------------------------------------------- */

static const struct argument no_arguments[] = { { NULL, ARG_END, false } };

static const struct argument protect_arguments[] = {
	{ "volume", ARG_NAME, true },
	{ "device", ARG_TEXT, true },
	{ "tap", ARG_TEXT, false },
	{ "name", ARG_TEXT, false },
	{ "ring", ARG_COUNT, false },
	{ "region", ARG_COUNT, false },
	{ "discard", ARG_TEXT, false },
	{ "bounce", ARG_BOOL, false },
	{ "meta", ARG_TEXT, false },
	{ NULL, ARG_END, false },
};

static const struct argument stop_arguments[] = {
	{ "volume", ARG_NAME, true },
	{ "device", ARG_TEXT, true },
	{ NULL, ARG_END, false },
};

static const struct argument reader_arguments[] = {
	{ "listen", ARG_TEXTS, true },
	{ "tls-cert-dir", ARG_TEXT, false },
	{ "allow", ARG_TEXTS, false },
	{ "rate", ARG_NUMBER, false },
	{ "volume", ARG_NAME, false },
	{ "device", ARG_TEXT, false },
	{ "name", ARG_TEXT, false },
	{ NULL, ARG_END, false },
};

static const struct argument dirty_arguments[] = {
	{ "volume", ARG_NAME, true },
	{ "from", ARG_COUNT, false },
	{ "max", ARG_COUNT, false },
	{ NULL, ARG_END, false },
};

static const struct argument end_back_arguments[] = {
	{ "volume", ARG_NAME, true },
	{ "at", ARG_TEXT, true },
	{ NULL, ARG_END, false },
};

static const struct argument begin_back_arguments[] = {
	{ "volume", ARG_NAME, true },
	{ NULL, ARG_END, false },
};

static const struct argument label_arguments[] = {
	{ "label", ARG_TEXT, true },
	{ NULL, ARG_END, false },
};

static const struct argument volume_arguments[] = {
	{ "volume", ARG_NAME, false },
	{ NULL, ARG_END, false },
};

static const struct argument verify_arguments[] = {
	{ "volume", ARG_NAME, false },
	{ "rate", ARG_COUNT, false },
	{ NULL, ARG_END, false },
};

static const struct argument rejoin_arguments[] = {
	{ "generation", ARG_COUNT, true },
	{ "force", ARG_BOOL, false },
	{ NULL, ARG_END, false },
};

static void query_commands(void *owner, struct call *call, struct json_object *arguments);

const struct command daemon_commands[] = {
	{ "start-protect", protect_arguments, start_protect },
	{ "stop-protect", stop_arguments, stop_protect },
	{ "start-reader", reader_arguments, start_reader },
	{ "stop-reader", no_arguments, stop_reader },
	{ "query-status", no_arguments, query_status },
	{ "query-volumes", no_arguments, query_volumes },
	{ "query-dirty", dirty_arguments, query_dirty },
	{ "query-unsent", dirty_arguments, query_unsent },
	{ "query-reader", no_arguments, query_reader },
	{ "checkpoint", label_arguments, checkpoint },
	{ "resync", volume_arguments, resync },
	{ "verify", verify_arguments, verify },
	{ "stop-verify", no_arguments, stop_verify },
	{ "pause", no_arguments, pause_command },
	{ "resume", no_arguments, resume_command },
	{ "begin-back", begin_back_arguments, begin_back },
	{ "end-back", end_back_arguments, end_back },
	{ "rejoin", rejoin_arguments, rejoin },
	{ "shutdown", no_arguments, shutdown_command },
	{ "subscribe", no_arguments, subscribe },
	{ "query-commands", no_arguments, query_commands },
	{ NULL, NULL, NULL },
};

static const char *const type_names[] = {
	[ARG_NAME] = "name", [ARG_TEXT] = "text", [ARG_TEXTS] = "texts", [ARG_BOOL] = "bool",
	[ARG_COUNT] = "count", [ARG_NUMBER] = "number",
};

static void query_commands(void *owner, struct call *call, struct json_object *arguments)
{
	struct json_object *list = json_object_new_array(), *o, *args, *arg;
	const struct command *c;
	const struct argument *a;

	(void)owner;
	(void)arguments;
	for (c = daemon_commands; c->name; c++) {
		args = json_object_new_array();
		for (a = c->arguments; a->type != ARG_END; a++) {
			arg = json_object_new_object();
			json_object_object_add(arg, "name", text(a->name));
			json_object_object_add(arg, "type", text(type_names[a->type]));
			json_object_object_add(arg, "required", json_object_new_boolean(a->required));
			json_object_array_add(args, arg);
		}
		o = json_object_new_object();
		json_object_object_add(o, "name", text(c->name));
		json_object_object_add(o, "arguments", args);
		json_object_array_add(list, o);
	}
	call_return(call, list);
}

/* --- What happens by itself --------------------------------------------- */

/**
 * commands_tell - an event for a change that report_changes() found
 * @owner: the daemon
 * @change: what
 * @v: of which volume, or NULL
 */
void commands_tell(void *owner, enum report_change change, const struct repagent_volume_info *v)
{
	static const char *const names[] = {
		[REPORT_CAPTURE] = "CAPTURE", [REPORT_VOLUME] = "VOLUME",
		[REPORT_IMAGE] = "IMAGE", [REPORT_FAILED] = "WRITE_FAILED",
	};
	struct daemon *d = owner;
	const struct repagent_info *i = &d->stream.info;
	struct json_object *data;

	if (!control_heard(d->control))
		return;
	data = json_object_new_object();
	if (v)
		json_object_object_add(data, "volume", text(v->name));
	switch (change) {
	case REPORT_CAPTURE:
		json_object_object_add(data, "capture", text(capture_name(i->capture)));
		json_object_object_add(data, "reason", text(reason_name(i->reason)));
		json_object_object_add(data, "remedy", text(reason_remedy(i->reason)));
		break;
	case REPORT_VOLUME:
		json_object_object_add(data, "active", json_object_new_boolean(v->active));
		break;
	case REPORT_IMAGE:
		json_object_object_add(data, "image", text(image_name(v->image)));
		json_object_object_add(data, "reason", text(reason_name(v->reason)));
		break;
	case REPORT_FAILED:
		json_object_object_add(data, "failed", json_object_new_uint64(v->failed));
		break;
	}
	control_event(d->control, names[change], data);
}

/**
 * commands_begin - carry out what the configuration asks for
 * @d: the daemon
 */
void commands_begin(struct daemon *d)
{
	const struct conf *conf = &d->cfg->conf;
	char error[CONF_ERROR_MAX];
	unsigned int i;

	for (i = 0; i < conf->nr_volumes; i++)
		if (conf->volume[i].value[CONF_V_DEVICE])
			d->protect_left |= UINT64_C(1) << i;
	if (d->protect_left)
		d->next_protect = d->loop.now;
	if (!conf->has_reader)
		return;
	for (i = 0; i < CONF_NR_READER_KEYS; i++)
		if (conf->reader[i] && !conf_set(&d->reader.conf, CONF_READER, NULL,
						 conf_key_name(CONF_READER, i), conf->reader[i], error))
			log_err("[reader] %s", error);
	reader_start(&d->reader, true);
}

/**
 * commands_run - go on with what the configuration asks for; once a turn
 * @d: the daemon
 */
void commands_run(struct daemon *d)
{
	const struct conf *conf = &d->cfg->conf;
	unsigned int i;

	if (d->loop.now < d->next_protect)
		return;
	d->next_protect = UINT64_MAX;
	if (d->stop_by)
		return;
	for (i = 0; i < conf->nr_volumes; i++)
		if (d->protect_left & (UINT64_C(1) << i))
			protect(d, NULL, &conf->volume[i], conf->group[CONF_G_RING], NULL);
	if (d->protect_left)
		d->next_protect = d->loop.now + PROTECT_RETRY;
}
