// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl fail-back: the disks of a host that was failed over from become what the hub has, and only what differs moves.
 *
 * A disk here differs from the volume at the hub in two things alone: in what never came to the hub, as this host knows (what is
 * dirty, and what the ring still holds), and in what has changed there since the fail-over's point, as the hub knows
 * (Documentation/segments.md, Back).  Of that
 *
 *	what is dirty here is compared first, by sums, and copied where it differs;
 *	what has changed there, and is not dirty here, is copied.
 *
 * All is written through the protected device, so that it is dirty from then on: whoever is killed or loses power is followed by the
 * same command, which finds what was copied already dirty, and the same.  Nothing else has to be remembered.  Then, again and
 * again, what has changed there since the position that was just copied, until that is little; with --finish, until it is
 * nothing, and nobody can go on there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "../common/parse.h"
#include "../reader/volumes.h"
#include "commands.h"
#include "devices.h"
#include "json.h"
#include "pull.h"
#include "state.h"

#define SECTOR		512u
#define LITTLE		(UINT64_C(16) << 20)	/* bytes that are not worth another pass while the VM runs over there */
#define PASSES_MOST	8u			/* ... and so many are enough */

enum { OPT_VOLUME = 256, OPT_FINISH, OPT_COMPARE };

static const struct option options[] = {
	{ "volume",	required_argument, NULL, OPT_VOLUME },
	{ "finish",	no_argument, NULL, OPT_FINISH },
	{ "compare",	no_argument, NULL, OPT_COMPARE },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

/*
 * struct volume - one that is brought up to date
 * @basis:	position at the hub that it was at, with all that is dirty here; "": that is not known
 * @at:		position that it is at; "": none yet
 * @disk:	its fd is -1 before it is opened
 * @begun:	when the pass was, ns; @told: when something was said of it
 */
struct volume {
	char name[REPAGENT_NAME_MAX + 1];
	struct dmdev dev;
	char basis[PULL_AT_MAX], at[PULL_AT_MAX];
	struct pull_disk disk;
	uint64_t begun, told;
};

/*
 * struct work - the command line, and what it is about
 * @wanted:	volumes that were named; none: all
 * @daemon:	this host's, of the group
 */
struct work {
	const char *group;
	bool finish, compare;
	unsigned int nr_wanted, nr;
	const char *wanted[REPAGENT_MAX_VOLUMES];
	struct volume volume[REPAGENT_MAX_VOLUMES];
	struct pull_hub hub;
	struct conf conf;
	struct client daemon;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* --- What there is ------------------------------------------------------------- */

static bool is_wanted(const struct work *w, const char *name)
{
	unsigned int i;

	for (i = 0; i < w->nr_wanted && strcmp(w->wanted[i], name); i++)
		;
	return !w->nr_wanted || i < w->nr_wanted;
}

/* The daemon knows where the hub is. A percent sign in a template is written twice. */
static int take_hub(struct work *w, struct json_object *state)
{
	const char *uri = get_text(get(state, "hub"), "uri");
	char error[CONF_ERROR_MAX], path[CONF_PATH_MAX], *p;

	if (!get_bool(state, "daemon") || !get_bool(state, "present"))
		return fail("the daemon of group %s does not run, or the group is not active\nType: repctl activate %s; systemctl start repagentd@%s",
			    w->group, w->group, w->group);
	if (strcmp(get_text(get(state, "hub"), "tap"), "log"))
		return fail("group %s goes to no rephub: expected a tap such as rephub://hub", w->group);
	if (get_bool(get(state, "hub"), "connected"))
		return fail("the hub takes what group %s sends, so that this host's disks are those that count: there is nothing to bring back", w->group);
	p = w->hub.taps.all = malloc(2 * strlen(uri) + 1);
	if (!p)
		return fail("out of memory");
	for (; *uri; uri++) {
		if (*uri == '%')
			*p++ = '%';
		*p++ = *uri;
	}
	*p = '\0';
	conf_path(path, w->group);
	if (!conf_load(&w->conf, path, error))
		w->hub.tls = w->conf.group[CONF_G_TLS_CERTIFICATES];
	w->hub.group = w->group;
	return EXIT_FINE;
}

static int take_volumes(struct work *w, struct json_object *state)
{
	struct json_object *list = get(state, "volumes"), *o;
	char error[DMDEV_ERROR_MAX], text[DEVICES_ERROR_MAX];
	struct volume *v;
	unsigned int k;
	size_t i;

	for (i = 0; i < length_of(list) && w->nr < REPAGENT_MAX_VOLUMES; i++) {
		o = json_object_array_get_idx(list, i);
		if (!is_wanted(w, get_text(o, "volume")))
			continue;
		v = &w->volume[w->nr++];
		snprintf(v->name, sizeof(v->name), "%s", get_text(o, "volume"));
		if (dmdev_find(w->group, v->name, &v->dev, error) != DMDEV_OK)
			return fail("%s\nType: repctl activate %s", error, w->group);
		if (is_busy(&v->dev)) {
			explain_busy(&v->dev, text, sizeof(text));
			return fail("%s", text);
		}
		v->disk.size = v->dev.sectors * SECTOR;
	}
	for (k = 0; k < w->nr_wanted; k++) {
		for (i = 0; i < w->nr && strcmp(w->volume[i].name, w->wanted[k]); i++)
			;
		if (i == w->nr)
			return fail("group %s has no volume %s\nType: repctl volumes %s", w->group, w->wanted[k], w->group);
	}
	return w->nr ? EXIT_FINE : fail("group %s has no volume that is active\nType: repctl activate %s", w->group, w->group);
}

static int connect_daemon(struct work *w)
{
	char path[CONTROL_PATH_MAX], error[CLIENT_ERROR_MAX];

	control_path(path, w->group);
	if (client_connect(&w->daemon, path, CALL_TIMEOUT_MS, error))
		return EXIT_FINE;
	w->daemon.fd = -1;
	return fail("the daemon of group %s does not answer (%s)\nType: systemctl start repagentd@%s", w->group, error, w->group);
}

static int call(struct work *w, const struct volume *v, const char *command, const char *key, const char *text, uint64_t from,
		struct json_object **result)
{
	char class[CLIENT_CLASS_MAX], error[CLIENT_ERROR_MAX];
	struct json_object *arguments = json_object_new_object();

	put_text(arguments, "volume", v->name);
	if (key)
		put_text(arguments, key, text);
	if (from)
		put_number(arguments, "from", from);
	*result = NULL;
	if (client_call(&w->daemon, command, arguments, WORK_TIMEOUT_MS, result, class, error))
		return EXIT_FINE;
	return fail("volume %s: %s", v->name, error);
}

/* What the ring still holds, and what the rest of the disk is. */
static int add_unsent(struct work *w, struct volume *v, struct spans *dirty)
{
	struct json_object *o, *list, *pair;
	uint64_t from = 0, at;
	bool ok = true;
	int status;
	size_t i;

	do {
		status = call(w, v, "query-unsent", NULL, NULL, from, &o);
		if (status)
			return status;
		list = get(o, "ranges");
		for (i = 0; i < length_of(list) && ok; i++) {
			pair = json_object_array_get_idx(list, i);
			at = json_object_get_uint64(json_object_array_get_idx(pair, 0));
			ok = spans_add(dirty, at, at + json_object_get_uint64(json_object_array_get_idx(pair, 1)));
		}
		snprintf(v->basis, sizeof(v->basis), "%s", get_text(o, "basis"));
		from = get_number(o, "next");
		json_object_put(o);
	} while (from && ok);
	return ok ? EXIT_FINE : fail("out of memory");
}

static int add_dirty(const struct volume *v, struct spans *dirty)
{
	struct repagent_dirty d = { 0 };
	unsigned int i;
	uint64_t before;
	bool ok = true;
	int fd, err;

	fd = dirty_open(&v->dev, &d.volume);
	if (fd < 0)
		return fail("volume %s: what is dirty cannot be told: %s", v->name, strerror(-fd));
	do {
		before = d.sector;
		err = dirty_next(fd, &d);
		for (i = 0; !err && ok && i < d.nr; i++)
			ok = spans_add(dirty, d.range[i].sector * SECTOR, (d.range[i].sector + d.range[i].nr_sectors) * SECTOR);
	} while (!err && ok && d.sector > before && d.sector < v->dev.sectors);
	close(fd);
	if (err)
		return fail("volume %s: what is dirty cannot be told: %s", v->name, strerror(-err));
	return ok ? EXIT_FINE : fail("out of memory");
}

/* --- One volume ------------------------------------------------------------------ */

static void show(struct pull_disk *d)
{
	struct volume *v = (struct volume *)((char *)d - offsetof(struct volume, disk));
	char done[HUMAN_MAX], all[HUMAN_MAX], left[HUMAN_MAX] = "?";
	bool screen = isatty(STDOUT_FILENO);
	uint64_t t = now();

	if (t - v->told < (screen ? NSEC_PER_SEC / 5 : 30 * NSEC_PER_SEC) && (!screen || d->done < d->all))
		return;
	v->told = t;
	if (d->done)
		human_duration(left, (uint64_t)((double)(t - v->begun) / (double)d->done * (double)(d->all - (d->done < d->all ? d->done : d->all))));
	printf("%s%s: %s of %s, %s to go%s", screen ? "\r\033[K" : "", v->name, human_size(done, d->done), human_size(all, d->all), left,
	       screen ? "" : "\n");
	fflush(stdout);
}

/* The VM must not have it; and whoever else would like to cannot while we do. */
static int open_disk(struct volume *v)
{
	char path[DMDEV_PATH_MAX], error[DMDEV_ERROR_MAX];
	struct dmdev dev;

	if (v->disk.fd < 0) {
		if (!dmdev_path(&v->dev, path, sizeof(path)))
			return fail("volume %s: /dev/mapper/%s is not there", v->name, v->dev.name);
		v->disk.fd = open(path, O_RDWR | O_EXCL | O_DIRECT | O_CLOEXEC);
		if (v->disk.fd < 0)
			return fail("%s: %s%s", path, strerror(errno), errno == EBUSY ? ": it is in use. Shut the VM down first" : "");
	}
	if (dmdev_get(v->dev.name, &dev, error) != DMDEV_OK)
		return fail("%s", error);
	if (dev.open_count > 1)
		return fail("/dev/mapper/%s was opened by somebody else. Shut the VM down here, then type this again", v->dev.name);
	return EXIT_FINE;
}

static int sync_disk(const struct volume *v)
{
	if (fsync(v->disk.fd))
		return fail("/dev/mapper/%s: %s\nWhat was copied can be read, and is not durable. Mend the disk, and boot this host; then type this "
			    "again", v->dev.name, strerror(errno));
	return EXIT_FINE;
}

/* Is what is there the stream of this host itself? */
static bool is_ours(const struct volume *v, const struct pull *p)
{
	return *v->basis && !strncmp(v->basis, p->at, strcspn(v->basis, ":") + 1);
}

static int check(const struct work *w, const struct volume *v, const struct pull *p)
{
	if (p->size != v->disk.size)
		return fail("volume %s has %" PRIu64 " bytes at the hub, and %" PRIu64 " here: expected the same", v->name, p->size, v->disk.size);
	if (is_ours(v, p))
		return fail("volume %s at the hub is what this host has sent (%s): there is nothing to bring back", v->name, p->at);
	if (w->finish && !p->rest)
		return fail("volume %s is %s. End the VM there first, and then its protection or its recovery device; all that was copied stays copied\n"
			    "Then type: repctl fail-back %s --finish", v->name, p->why, w->group);
	return EXIT_FINE;
}

/* Written, and durable. */
static int copy(struct volume *v, struct pull *p, struct spans *what)
{
	char error[PULL_ERROR_MAX];

	spans_tidy(what, PULL_ALIGN, v->disk.size);
	v->disk.all += spans_bytes(what);
	if (!pull_copy(p, &v->disk, what, error))
		return fail("volume %s: %s\nType this again: it goes on", v->name, error);
	return sync_disk(v);
}

static void begin_pass(struct volume *v)
{
	v->disk.done = v->disk.all = v->disk.moved = 0;
	v->disk.progress = show;
	v->begun = v->told = now();
}

/* See the volume there. If it is not known what differs, all of it is to be compared. */
static int open_there(struct work *w, struct volume *v, struct pull *p, bool *all)
{
	char error[PULL_ERROR_MAX];
	const char *why = "that was asked for";
	char since[PULL_AT_MAX + 1];

	snprintf(since, sizeof(since), "%s+", v->basis);
	if (!pull_open(p, &w->hub, v->name, *v->basis ? since : NULL, error))
		return fail("volume %s: %s", v->name, error);
	*all = w->compare || *p->unknown;
	if (!w->compare)
		why = *v->basis ? p->unknown : "this host went down without a map, and does not know what the hub has";
	if (*all)
		remark("%s: all of it is read and compared, and what differs is copied, for %s.", v->name, why);
	return EXIT_FINE;
}

/*
 * struct pass - the first one
 * @dirty:	is compared
 * @what:	is copied: what has changed and is not dirty; and, once that was compared, what differs
 */
struct pass {
	struct pull p;
	struct spans dirty, changed, what;
};

/* What may differ. */
static int gather(struct work *w, struct volume *v, struct pass *x)
{
	char error[PULL_ERROR_MAX];
	bool all = false;
	int status;

	status = add_unsent(w, v, &x->dirty);
	if (!status)
		status = add_dirty(v, &x->dirty);
	if (!status)
		status = open_there(w, v, &x->p, &all);
	if (!status)
		status = check(w, v, &x->p);
	if (status)
		return status;
	if (all)
		x->dirty.nr = 0;
	if (all && !spans_add(&x->dirty, 0, v->disk.size))
		return fail("out of memory");
	if (!all && !pull_changed(&x->p, &x->changed, error))
		return fail("volume %s: %s", v->name, error);
	spans_tidy(&x->dirty, PULL_ALIGN, v->disk.size);
	spans_tidy(&x->changed, PULL_ALIGN, v->disk.size);
	return spans_without(&x->changed, &x->dirty, &x->what) ? EXIT_FINE : fail("out of memory");
}

static int compare(struct work *w, struct volume *v, struct pass *x)
{
	char error[PULL_ERROR_MAX], a[HUMAN_MAX], b[HUMAN_MAX];

	v->disk.all = spans_bytes(&x->dirty);
	remark("%s: %s may differ as this host knows, and %s have changed at the hub, up to %s.", v->name, human_size(a, v->disk.all),
	       human_size(b, spans_bytes(&x->changed)), x->p.at);
	if (pull_differing(&x->p, &w->hub, v->name, &v->disk, &x->dirty, &x->what, error))
		return EXIT_FINE;
	return fail("volume %s: %s\nType this again: it goes on", v->name, error);
}

static int first_pass(struct work *w, struct volume *v)
{
	struct json_object *ignored = NULL;
	struct pass x = { 0 };
	char a[HUMAN_MAX];
	int status;

	begin_pass(v);
	status = open_disk(v);
	if (!status)
		status = gather(w, v, &x);
	if (!status)
		status = call(w, v, "begin-back", NULL, NULL, 0, &ignored);
	if (!status)
		status = compare(w, v, &x);
	if (!status)
		status = copy(v, &x.p, &x.what);
	if (!status) {
		snprintf(v->at, sizeof(v->at), "%s", x.p.at);
		remark("%s%s: %s copied (%" PRIu64 " bytes).", isatty(STDOUT_FILENO) ? "\r\033[K" : "", v->name, human_size(a, v->disk.moved),
		       v->disk.moved);
	}
	json_object_put(ignored);
	pull_close(&x.p);
	spans_free(&x.dirty);
	spans_free(&x.changed);
	spans_free(&x.what);
	return status;
}

/* What has changed since the last one. *left: so many bytes. */
static int next_pass(struct work *w, struct volume *v, uint64_t *left)
{
	struct spans changed = { 0 };
	char error[PULL_ERROR_MAX], a[HUMAN_MAX];
	struct pull p = { 0 };
	int status;

	begin_pass(v);
	if (!pull_open(&p, &w->hub, v->name, v->at, error))
		return fail("volume %s: %s\nType this again: it goes on", v->name, error);
	status = check(w, v, &p);
	if (!status && *p.unknown)
		status = fail("volume %s: the hub does not know any more what has changed since %s: %s\nType this again: it goes on", v->name,
			      v->at, p.unknown);
	if (!status)
		status = open_disk(v);
	if (!status && !pull_changed(&p, &changed, error))
		status = fail("volume %s: %s", v->name, error);
	spans_tidy(&changed, PULL_ALIGN, v->disk.size);
	*left = spans_bytes(&changed);
	if (!status)
		status = copy(v, &p, &changed);
	if (!status) {
		snprintf(v->at, sizeof(v->at), "%s", p.at);
		if (*left)
			remark("%s%s: %s that had changed meanwhile, to %s.", isatty(STDOUT_FILENO) ? "\r\033[K" : "", v->name,
			       human_size(a, *left), v->at);
	}
	pull_close(&p);
	spans_free(&changed);
	return status;
}

/* --- The command ------------------------------------------------------------------ */

/* The disk is, and stays, what the hub has: the daemon may rest on that when it is this host's turn again. */
static int note_end(struct work *w, struct volume *v)
{
	struct json_object *ignored;
	int status = call(w, v, "end-back", "at", v->at, 0, &ignored);

	json_object_put(ignored);
	return status;
}

static int bring_back(struct work *w)
{
	uint64_t left = UINT64_MAX, before, sum;
	unsigned int i, pass;
	char a[HUMAN_MAX];
	int status = EXIT_FINE;

	for (i = 0; i < w->nr && !status; i++)
		status = first_pass(w, &w->volume[i]);
	for (pass = 0; pass < PASSES_MOST && left && !status; pass++) {
		before = left;
		for (sum = 0, i = 0; i < w->nr && !status; i++) {
			status = next_pass(w, &w->volume[i], &left);
			sum += left;
		}
		left = sum;
		if (!w->finish && (left < LITTLE || left > before / 2))
			break;
	}
	if (status)
		return status;
	if (!w->finish) {
		remark("The disks here are what the hub had a moment ago; in the last pass %s had changed. Next: end the VM over there, and its\n"
		       "protection or its recovery device. Then type: repctl fail-back %s --finish", human_size(a, left), w->group);
		return EXIT_FINE;
	}
	if (left)
		return fail("more is written at the hub, though nobody should: expected the VM to be shut down there");
	for (i = 0; i < w->nr && !status; i++)
		status = note_end(w, &w->volume[i]);
	for (i = 0; i < w->nr && !status; i++)
		remark("/dev/mapper/%s is byte for byte what the hub has at %s.", w->volume[i].dev.name, w->volume[i].at);
	if (!status)
		remark("Once this is so of all volumes of the group, it begins a new life here; GENERATION is what rephubctl groups shows at the hub:\n"
		       "  repctl deactivate %s --force; repctl activate %s; systemctl start repagentd@%s; repctl rejoin %s GENERATION\n"
		       "Then start the VM here.", w->group, w->group, w->group, w->group);
	return status;
}

static int parse(struct work *w, int argc, char **argv)
{
	int c, status;

	while ((c = next_option(argc, argv, ":", options, &status)) != -1) {
		switch (c) {
		case OPT_VOLUME:
			if (!uri_name_ok(optarg))
				return usage_error("--volume '%s': expected the name of a volume", optarg);
			if (w->nr_wanted == REPAGENT_MAX_VOLUMES)
				return usage_error("--volume '%s': expected at most %d volumes", optarg, REPAGENT_MAX_VOLUMES);
			w->wanted[w->nr_wanted++] = optarg;
			break;
		case OPT_FINISH:
			w->finish = true;
			break;
		case OPT_COMPARE:
			w->compare = true;
			break;
		default:
			return status ? status : -1;
		}
	}
	if (!take_group(argc, argv, &w->group))
		return EXIT_WRONG_USAGE;
	if (optind < argc)
		return usage_error("'%s' is too much: expected one group", argv[optind]);
	return EXIT_FINE;
}

static int run_fail_back(int argc, char **argv)
{
	static struct work w = { .daemon = { .fd = -1 } };
	struct json_object *state;
	unsigned int i;
	int status = parse(&w, argc, argv);

	if (status)
		return status < 0 ? EXIT_FINE : status;
	for (i = 0; i < REPAGENT_MAX_VOLUMES; i++)
		w.volume[i].disk.fd = -1;
	conf_init(&w.conf);
	state = state_get(w.group);
	status = take_hub(&w, state);
	if (!status)
		status = take_volumes(&w, state);
	json_object_put(state);
	if (!status)
		status = connect_daemon(&w);
	if (!status)
		status = bring_back(&w);
	for (i = 0; i < w.nr; i++)
		if (w.volume[i].disk.fd >= 0)
			close(w.volume[i].disk.fd);
	if (w.daemon.fd >= 0)
		client_close(&w.daemon);
	free(w.hub.taps.all);
	conf_free(&w.conf);
	return status;
}

const struct command cmd_fail_back = {
	"fail-back", "GROUP [--volume VOLUME]... [--finish] [--compare]",
	"After a fail-over: bring this host's old disks up to date, moving only what differs",
	"The disks of the group, whose VM is shut down here, become what the rephub has, while\n"
	"the VM goes on over there. THEY ARE OVERWRITTEN where they differ. The fail-over has to\n"
	"be committed. If it is interrupted or killed, type it again: it goes on.\n\n"
	"      --volume VOLUME  only this one; may be given several times\n"
	"      --finish         the last pass: refused while anybody can write over there\n"
	"      --compare        read and compare all, whatever is known of what differs\n\n"
	"  repctl fail-back vm0              # the VM runs over there\n"
	"  repctl fail-back vm0 --finish     # it was shut down\n"
	"\nThen: repctl deactivate --force, activate, and rejoin. Undo: none.\n",
	run_fail_back
};
