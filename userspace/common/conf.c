// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration file, by inih.  One table says what can stand in it; what
 * an option of repagentd has in common with it is checked by the same table.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "dmdev.h"

#define LINE_BYTES	2048	/* of a line in the file, with its newline */
#define VALUE_MAX	4096	/* of a list that several lines make */

enum kind {
	KIND_TAP,
	KIND_VOLUME_TAP,	/* no rephub's */
	KIND_COUNT,		/* from min to max */
	KIND_POWER,		/* the same, and a power of two */
	KIND_SIZE,
	KIND_TIME,		/* ns, from min */
	KIND_RATE,		/* MiB a second */
	KIND_FOLDER,		/* hint: with what in it */
	KIND_PATH,		/* of a device */
	KIND_DEVICE_NAME,
	KIND_CHOICE,		/* hint: the words */
	KIND_WORDS,		/* may be given again */
	KIND_RULES,		/* the same, NAME=GROUP[/VOLUME] */
};

struct key {
	const char *name;
	enum kind kind;
	uint64_t min, max;
	const char *hint;
};

static const struct key group_keys[CONF_NR_GROUP_KEYS] = {
	[CONF_G_TAP]		  = { "tap", KIND_TAP, 0, 0, NULL },
	[CONF_G_RING]		  = { "ring", KIND_COUNT, 1, 16384, " of MiB" },
	[CONF_G_TLS_CERTIFICATES] = { "tls-certificates", KIND_FOLDER, 0, 0, "ca-cert.pem" },
	[CONF_G_ALLOW_NO_FLUSH]	  = { "allow-no-flush", KIND_CHOICE, 0, 0, "yes no" },
	[CONF_G_EPOCH_RECORDS]	  = { "epoch-records", KIND_COUNT, 1, UINT64_MAX, "" },
	[CONF_G_EPOCH_SIZE]	  = { "epoch-size", KIND_SIZE, 1, 0, NULL },
	[CONF_G_EPOCH_TIME]	  = { "epoch-time", KIND_TIME, NSEC_PER_MSEC, 0, NULL },
	[CONF_G_TIMEOUT]	  = { "timeout", KIND_TIME, 100 * NSEC_PER_MSEC, 0, NULL },
	[CONF_G_HEARTBEAT]	  = { "heartbeat", KIND_TIME, 100 * NSEC_PER_MSEC, 0, NULL },
	[CONF_G_DRAIN_TIMEOUT]	  = { "drain-timeout", KIND_TIME, 0, 0, NULL },
	[CONF_G_CHECKPOINT_INTERVAL] = { "checkpoint-interval", KIND_TIME, 0, 0, NULL },
	[CONF_G_COMPRESS]	  = { "compress", KIND_CHOICE, 0, 0, "no zstd" },
	[CONF_G_CONGESTION]	  = { "congestion", KIND_CHOICE, 0, 0, "system bbr" },
	[CONF_G_REQUIRE]	  = { "require-protection", KIND_CHOICE, 0, 0, "yes no" },
};

static const struct key volume_keys[CONF_NR_VOLUME_KEYS] = {
	[CONF_V_DEVICE]	 = { "device", KIND_PATH, 0, 0, NULL },
	[CONF_V_NAME]	 = { "name", KIND_DEVICE_NAME, 0, 0, NULL },
	[CONF_V_TAP]	 = { "tap", KIND_VOLUME_TAP, 0, 0, NULL },
	[CONF_V_REGION]	 = { "region", KIND_POWER, 64, 65536, " of KiB that is a power of two" },
	[CONF_V_DISCARD] = { "discard", KIND_CHOICE, 0, 0, "zero pass ignore" },
	[CONF_V_BOUNCE]	 = { "bounce", KIND_CHOICE, 0, 0, "on off" },
	[CONF_V_META]	 = { "meta", KIND_PATH, 0, 0, NULL },
};

static const struct key reader_keys[CONF_NR_READER_KEYS] = {
	[CONF_R_LISTEN]	      = { "listen", KIND_WORDS, 0, 0, NULL },
	[CONF_R_TLS_CERT_DIR] = { "tls-cert-dir", KIND_FOLDER, 0, 0,
				  "ca-cert.pem, server-cert.pem and server-key.pem" },
	[CONF_R_ALLOW]	      = { "allow", KIND_RULES, 0, 0, NULL },
	[CONF_R_RATE]	      = { "rate", KIND_RATE, 64 * KIB, 0, NULL },
};

static const struct section {
	const char *name;
	const struct key *keys;
	unsigned int nr;
} sections[] = {
	[CONF_GROUP]  = { "group", group_keys, CONF_NR_GROUP_KEYS },
	[CONF_VOLUME] = { "volume", volume_keys, CONF_NR_VOLUME_KEYS },
	[CONF_READER] = { "reader", reader_keys, CONF_NR_READER_KEYS },
};

static __attribute__((format(printf, 2, 3)))
bool fail(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, CONF_ERROR_MAX, fmt, ap);
	va_end(ap);
	return false;
}

/* "a, b or c" from "a b c". */
static const char *choices(char *buf, size_t size, const char *words)
{
	size_t len, used = 0;

	for (*buf = '\0'; *words; words += len + (words[len] == ' ')) {
		len = strcspn(words, " ");
		used += (size_t)snprintf(buf + used, size - used, "%s%.*s",
					 !used ? "" : words[len] ? ", " : " or ", (int)len, words);
	}
	return buf;
}

static bool is_choice(const char *words, const char *value)
{
	size_t len;

	for (; *words; words += len + (words[len] == ' ')) {
		len = strcspn(words, " ");
		if (strlen(value) == len && !strncmp(words, value, len))
			return true;
	}
	return false;
}

static bool check_rule(const struct key *key, const char *value, char *error)
{
	const char *eq = strrchr(value, '=');
	char group[REPAGENT_NAME_MAX + 1];
	size_t len;

	if (eq && eq != value) {
		len = strcspn(++eq, "/");
		if (len < sizeof(group)) {
			memcpy(group, eq, len);
			group[len] = '\0';
			if (uri_name_ok(group) && (!eq[len] || uri_name_ok(eq + len + 1)))
				return true;
		}
	}
	return fail(error, "%s '%s': expected NAME=GROUP or NAME=GROUP/VOLUME", key->name, value);
}

static bool check_number(const struct key *key, const char *value, char *error)
{
	uint64_t n;

	if (parse_count(value, &n) && n >= key->min && n <= key->max &&
	    (key->kind != KIND_POWER || !(n & (n - 1))))
		return true;
	if (key->max == UINT64_MAX)
		return fail(error, "%s '%s': expected a number from %ju", key->name, value,
			    (uintmax_t)key->min);
	return fail(error, "%s '%s': expected a number%s, from %ju to %ju", key->name, value,
		    key->hint, (uintmax_t)key->min, (uintmax_t)key->max);
}

static bool check_value(const struct key *key, const char *value, char *error)
{
	char text[URI_ERROR_MAX], mib[64];
	uint64_t n;

	switch (key->kind) {
	case KIND_VOLUME_TAP:
		if (uri_is_rephub(value))
			return fail(error, "%s '%s': a rephub takes the stream of the whole group; expected it in [group]",
				    key->name, value);
		/* fall through */
	case KIND_TAP:
		return uri_check(value, text) || fail(error, "%s %s", key->name, text);
	case KIND_COUNT:
	case KIND_POWER:
		return check_number(key, value, error);
	case KIND_SIZE:
		return (parse_size(value, &n) && n >= key->min) ||
		       fail(error, "%s '%s': expected a size such as 64K or 16M", key->name, value);
	case KIND_TIME:
		return (parse_duration(value, &n) && n >= key->min && n <= 86400 * NSEC_PER_SEC) ||
		       fail(error, "%s '%s': expected a time from %s to 24 h, such as 30, 200ms or 2min",
			    key->name, value, human_duration(text, key->min));
	case KIND_RATE:
		return (snprintf(mib, sizeof(mib), "%sMiB", value) < (int)sizeof(mib) &&
			!value[strspn(value, "0123456789.")] && parse_size(mib, &n) && n >= key->min) ||
		       fail(error, "%s '%s': expected MiB a second, such as 50 or 0.5, and 0.0625 at least",
			    key->name, value);
	case KIND_FOLDER:
		return !access(value, R_OK | X_OK) ||
		       fail(error, "%s '%s': %s; expected a directory with %s", key->name, value,
			    strerror(errno), key->hint);
	case KIND_PATH:
		return (*value == '/' && strlen(value) < DMDEV_PATH_MAX && !strpbrk(value, " \t")) ||
		       fail(error, "%s '%s': expected the absolute path of a block device, without blanks",
			    key->name, value);
	case KIND_DEVICE_NAME:
		return dmdev_name_ok(value) ||
		       fail(error, "%s '%s': expected 1 to %d letters, digits and any of #+-.:=@_, and not . or ..",
			    key->name, value, DMDEV_NAME_MAX - 1);
	case KIND_CHOICE:
		return is_choice(key->hint, value) ||
		       fail(error, "%s '%s': expected %s", key->name, value,
			    choices(text, sizeof(text), key->hint));
	case KIND_RULES:
		return check_rule(key, value, error);
	case KIND_WORDS:
		break;
	}
	return true;
}

/* What would not come back as it is when the file is read. */
static bool check_text(const struct key *key, const char *value, char *error)
{
	const char *p;

	if (!*value)
		return fail(error, "%s has no value", key->name);
	if (strlen(value) > LINE_BYTES - 64)
		return fail(error, "%s has %zu bytes: expected at most %d", key->name, strlen(value),
			    LINE_BYTES - 64);
	for (p = value; *p; p++)
		if (iscntrl((unsigned char)*p))
			return fail(error, "%s '%s': expected no control characters", key->name, value);
	if (isspace((unsigned char)*value) || isspace((unsigned char)p[-1]) ||
	    strstr(value, " ;") || *value == ';')
		return fail(error, "%s '%s': expected no blanks around it, and no ';' behind one", key->name,
			    value);
	return true;
}

static bool is_list(const struct key *key)
{
	return key->kind == KIND_WORDS || key->kind == KIND_RULES;
}

/* Each word of a list is checked, and all are put behind what is there. */
static bool add_words(const struct key *key, char **slot, const char *value, char *error)
{
	char *copy = strdup(value), *word, *rest = NULL, *joined;
	bool ok = copy;

	for (word = copy; ok && (word = strtok_r(word, " \t", &rest)); word = NULL) {
		ok = check_value(key, word, error);
		if (!ok)
			break;
		if ((*slot ? strlen(*slot) : 0) + strlen(word) > VALUE_MAX) {
			ok = fail(error, "%s: expected at most %d bytes of them", key->name, VALUE_MAX);
			break;
		}
		if (asprintf(&joined, "%s%s%s", *slot ? *slot : "", *slot ? " " : "", word) < 0) {
			ok = fail(error, "%s: out of memory", key->name);
			break;
		}
		free(*slot);
		*slot = joined;
	}
	free(copy);
	return ok;
}

static const struct key *find_key(enum conf_section section, const char *name, unsigned int *i)
{
	const struct section *s = &sections[section];

	for (*i = 0; *i < s->nr; (*i)++)
		if (!strcmp(s->keys[*i].name, name))
			return &s->keys[*i];
	return NULL;
}

static bool unknown_key(enum conf_section section, const char *name, char *error)
{
	const struct section *s = &sections[section];
	char list[256] = "";
	size_t used = 0;
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 s->keys[i].name);
	return fail(error, "'%s' is unknown in [%s]: expected one of %s", name, s->name, list);
}

/**
 * conf_key_name - the name of a key
 * @section: where it stands
 * @key: its number there, of an enum conf_..._key
 */
const char *conf_key_name(enum conf_section section, unsigned int key)
{
	return sections[section].keys[key].name;
}

/**
 * conf_init - begin with an empty configuration
 * @conf: the configuration
 */
void conf_init(struct conf *conf)
{
	memset(conf, 0, sizeof(*conf));
}

static void free_values(char **value, unsigned int nr)
{
	while (nr--) {
		free(value[nr]);
		value[nr] = NULL;
	}
}

/**
 * conf_free - let all values go, which leaves an empty configuration
 * @conf: the configuration
 */
void conf_free(struct conf *conf)
{
	unsigned int i;

	free_values(conf->group, CONF_NR_GROUP_KEYS);
	free_values(conf->reader, CONF_NR_READER_KEYS);
	for (i = 0; i < conf->nr_volumes; i++)
		free_values(conf->volume[i].value, CONF_NR_VOLUME_KEYS);
	conf_init(conf);
}

/**
 * conf_path - where a group's configuration is
 * @path: CONF_PATH_MAX bytes for the result
 * @group: its name, which uri_name_ok() accepted
 */
void conf_path(char *path, const char *group)
{
	snprintf(path, CONF_PATH_MAX, "/etc/repagent/%s.conf", group);
}

/**
 * conf_volume - a volume's section
 * @conf: the configuration
 * @name: of the volume
 *
 * Return: the section, until one is added or taken away; NULL if there is none.
 */
struct conf_volume *conf_volume(struct conf *conf, const char *name)
{
	unsigned int i;

	for (i = 0; i < conf->nr_volumes; i++)
		if (!strcmp(conf->volume[i].name, name))
			return &conf->volume[i];
	return NULL;
}

/**
 * conf_add_volume - a volume's section, made if there is none
 * @conf: the configuration
 * @name: of the volume
 * @error: CONF_ERROR_MAX bytes for a sentence
 *
 * Return: as conf_volume(); NULL if it cannot be made.
 */
struct conf_volume *conf_add_volume(struct conf *conf, const char *name, char *error)
{
	struct conf_volume *v = conf_volume(conf, name);

	if (v)
		return v;
	if (!uri_name_ok(name)) {
		fail(error, "'%s' is no name of a volume: expected 1 to %d letters, digits, '_', '.' or '-', not beginning with '.' or '-'",
		     name, REPAGENT_NAME_MAX);
		return NULL;
	}
	if (conf->nr_volumes == REPAGENT_MAX_VOLUMES) {
		fail(error, "volume %s: expected at most %d volumes", name, REPAGENT_MAX_VOLUMES);
		return NULL;
	}
	v = &conf->volume[conf->nr_volumes++];
	memset(v, 0, sizeof(*v));
	snprintf(v->name, sizeof(v->name), "%s", name);
	return v;
}

/**
 * conf_del_volume - take a volume's section away
 * @conf: the configuration
 * @name: of the volume
 */
void conf_del_volume(struct conf *conf, const char *name)
{
	struct conf_volume *v = conf_volume(conf, name);
	struct conf_volume *end = conf->volume + conf->nr_volumes;

	if (!v)
		return;
	free_values(v->value, CONF_NR_VOLUME_KEYS);
	memmove(v, v + 1, (size_t)(end - v - 1) * sizeof(*v));
	conf->nr_volumes--;
}

/**
 * conf_del_reader - take the section [reader] away
 * @conf: the configuration
 */
void conf_del_reader(struct conf *conf)
{
	free_values(conf->reader, CONF_NR_READER_KEYS);
	conf->has_reader = false;
}

static char **find_slot(struct conf *conf, enum conf_section section, const char *volume,
			unsigned int i, char *error)
{
	struct conf_volume *v;

	switch (section) {
	case CONF_GROUP:
		return &conf->group[i];
	case CONF_READER:
		conf->has_reader = true;
		return &conf->reader[i];
	case CONF_VOLUME:
		v = conf_add_volume(conf, volume, error);
		return v ? &v->value[i] : NULL;
	}
	return NULL;
}

/**
 * conf_set - give a key a value
 * @conf: the configuration
 * @section: where the key stands
 * @volume: whose, in CONF_VOLUME; its section is made if there is none
 * @key: its name
 * @value: the text, which is checked and copied; to a list it is added.  NULL
 *	takes the key away
 * @error: CONF_ERROR_MAX bytes for a sentence
 *
 * Return: whether it is done; else @error begins with the key.
 */
bool conf_set(struct conf *conf, enum conf_section section, const char *volume,
	      const char *key, const char *value, char *error)
{
	unsigned int i;
	const struct key *k = find_key(section, key, &i);
	char **slot, *copy;

	if (!k)
		return unknown_key(section, key, error);
	if (value && !check_text(k, value, error))
		return false;
	if (value && !is_list(k) && !check_value(k, value, error))
		return false;
	slot = find_slot(conf, section, volume, i, error);
	if (!slot)
		return false;
	if (value && is_list(k))
		return add_words(k, slot, value, error);
	copy = value ? strdup(value) : NULL;
	if (value && !copy)
		return fail(error, "%s: out of memory", key);
	free(*slot);
	*slot = copy;
	return true;
}

/* struct load - a file that is being read: what inih does not keep account of. */
struct load {
	FILE *file;
	const char *path;
	unsigned int line;
	bool failed;
	struct conf conf;
	char *error;
};

static __attribute__((format(printf, 2, 3)))
void load_failed(struct load *l, const char *fmt, ...)
{
	char text[CONF_ERROR_MAX];
	va_list ap;

	if (l->failed)
		return;
	l->failed = true;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* The sentence is bounded; the place may be cut only by a path that is out of all bounds. */
	if (snprintf(l->error, CONF_ERROR_MAX, "%.400s:%u: %s", l->path, l->line, text) >= CONF_ERROR_MAX)
		l->error[CONF_ERROR_MAX - 1] = '\0';
}

static char *read_line(char *buf, int size, void *arg)
{
	struct load *l = arg;
	size_t len = 0;
	int c = EOF;

	if (l->failed)
		return NULL;
	l->line++;
	while (len + 1 < (size_t)size && (c = getc(l->file)) != EOF) {
		buf[len++] = (char)c;
		if (!c) {
			load_failed(l, "a byte is 0: expected text");
			return NULL;
		}
		if (c == '\n')
			break;
	}
	if (!len)
		return NULL;
	if (c != '\n' && c != EOF) {
		load_failed(l, "the line is too long: expected at most %d bytes", size - 1);
		return NULL;
	}
	buf[len] = '\0';
	return buf;
}

static int take_value(void *arg, const char *section, const char *name, const char *value)
{
	char error[CONF_ERROR_MAX];
	struct load *l = arg;
	const char *volume = NULL;
	enum conf_section s;
	unsigned int i;
	char **slot;

	if (!strncmp(section, "volume ", 7)) {
		s = CONF_VOLUME;
		volume = section + 7 + strspn(section + 7, " \t");
		if (!conf_add_volume(&l->conf, volume, error)) {
			load_failed(l, "[%s]: %s", section, error);
			return 0;
		}
	} else if (!strcmp(section, "group")) {
		s = CONF_GROUP;
	} else if (!strcmp(section, "reader")) {
		s = CONF_READER;
	} else if (!*section) {
		load_failed(l, "'%s' stands in no section: expected [group], [volume NAME] or [reader] before it",
			    name);
		return 0;
	} else {
		load_failed(l, "[%s] is unknown: expected [group], [volume NAME] or [reader]", section);
		return 0;
	}
	if (find_key(s, name, &i) && !is_list(&sections[s].keys[i])) {
		slot = find_slot(&l->conf, s, volume, i, error);
		if (slot && *slot) {
			load_failed(l, "%s is there already ('%s'): expected it once", name, *slot);
			return 0;
		}
	}
	if (!conf_set(&l->conf, s, volume, name, value, error)) {
		load_failed(l, "%s", error);
		return 0;
	}
	return 1;
}

/**
 * conf_load - read a file
 * @conf: the result; as it was if the file cannot be read or has an error
 * @path: the file
 * @error: CONF_ERROR_MAX bytes for a sentence that begins with file and line
 *
 * Return: 0; -ENOENT if there is no such file, -EINVAL if something in it is
 * wrong, or another negative errno.
 */
int conf_load(struct conf *conf, const char *path, char *error)
{
	struct load l = { .path = path, .error = error };
	int bad;

	l.file = fopen(path, "re");
	if (!l.file) {
		bad = -errno;
		fail(error, "%s: %s", path, strerror(-bad));
		return bad;
	}
	ini_use_stack = false;
	ini_max_line = LINE_BYTES;
	ini_initial_alloc = LINE_BYTES;
	ini_allow_multiline = false;
	ini_stop_on_first_error = true;
	bad = ini_parse_stream(read_line, &l, take_value, &l);
	if (bad < 0)
		load_failed(&l, "out of memory");
	else if (bad > 0)
		load_failed(&l, "expected [section], 'key = value', or a comment that begins with # or ;");
	if (ferror(l.file))
		load_failed(&l, "cannot be read");
	fclose(l.file);
	if (l.failed) {
		conf_free(&l.conf);
		return -EINVAL;
	}
	conf_free(conf);
	*conf = l.conf;
	return 0;
}

static void write_section(FILE *f, enum conf_section section, const char *volume,
			  char *const *value)
{
	const struct section *s = &sections[section];
	char *list, *word, *rest;
	unsigned int i;

	fprintf(f, volume ? "\n[%s %s]\n" : "\n[%s]\n", s->name, volume);
	for (i = 0; i < s->nr; i++) {
		if (!value[i])
			continue;
		if (!is_list(&s->keys[i])) {
			fprintf(f, "%s = %s\n", s->keys[i].name, value[i]);
			continue;
		}
		list = strdup(value[i]);
		rest = NULL;
		for (word = list; list && (word = strtok_r(word, " ", &rest)); word = NULL)
			fprintf(f, "%s = %s\n", s->keys[i].name, word);
		free(list);
	}
}

/* What was renamed is durable once its folder is. */
static void sync_folder(const char *path)
{
	char folder[512];
	const char *slash = strrchr(path, '/');
	int fd;

	if (!slash || (size_t)(slash - path) >= sizeof(folder) - 1)
		return;
	snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path) + 1, path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

static bool write_file(const struct conf *conf, const char *path, char *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	unsigned int i;
	bool ok;

	if (!f) {
		fail(error, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	fputs("# Read by repagentd, written by repctl, which keeps no comments: repagentd(8).\n", f);
	write_section(f, CONF_GROUP, NULL, conf->group);
	for (i = 0; i < conf->nr_volumes; i++)
		write_section(f, CONF_VOLUME, conf->volume[i].name, conf->volume[i].value);
	if (conf->has_reader)
		write_section(f, CONF_READER, NULL, conf->reader);
	ok = !fflush(f) && !ferror(f) && !fsync(fd);
	if (!ok)
		fail(error, "%s: %s", path, strerror(errno));
	if (fclose(f) && ok)
		ok = fail(error, "%s: %s", path, strerror(errno));
	return ok;
}

/**
 * conf_save - write a file, which is the old one or the new one at any moment
 * @conf: what it shall say; comments of the old one are not kept
 * @path: the file; its folder is made if there is none
 * @error: CONF_ERROR_MAX bytes for a sentence
 *
 * Return: whether it is written, durably.
 */
bool conf_save(const struct conf *conf, const char *path, char *error)
{
	const char *slash = strrchr(path, '/');
	char new[512];

	if (snprintf(new, sizeof(new), "%.*s", slash ? (int)(slash - path) : 0, path) >=
	    (int)sizeof(new) - 8 || strlen(path) >= sizeof(new) - 8)
		return fail(error, "%.400s...: the path is too long", path);
	if (*new && mkdir(new, 0755) < 0 && errno != EEXIST)
		return fail(error, "%s: %s", new, strerror(errno));
	snprintf(new, sizeof(new), "%s.new", path);
	if (!write_file(conf, new, error)) {
		unlink(new);
		return false;
	}
	if (rename(new, path) < 0) {
		fail(error, "%s: %s", path, strerror(errno));
		unlink(new);
		return false;
	}
	sync_folder(path);
	return true;
}
