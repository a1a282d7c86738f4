/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /etc/repagent/<group>.conf: what a group's daemon does, in the words of the
 * file.  repagentd(8) describes it.
 */
#ifndef REPAGENT_CONF_H
#define REPAGENT_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/dm-repagent.h>

#include "parse.h"
#include "uri.h"

#define CONF_ERROR_MAX	(URI_ERROR_MAX + 512)	/* bytes of a sentence */
#define CONF_PATH_MAX	64			/* bytes of conf_path() */

/* The sections, and what stands in them; conf.c has the names. */
enum conf_section {
	CONF_GROUP,			/* [group] */
	CONF_VOLUME,			/* [volume NAME] */
	CONF_READER,			/* [reader] */
};

enum conf_group_key {
	CONF_G_TAP,
	CONF_G_RING,			/* MiB */
	CONF_G_TLS_CERTIFICATES,
	CONF_G_ALLOW_NO_FLUSH,		/* yes or no */
	CONF_G_EPOCH_RECORDS,
	CONF_G_EPOCH_SIZE,
	CONF_G_EPOCH_TIME,
	CONF_G_TIMEOUT,
	CONF_G_HEARTBEAT,
	CONF_G_DRAIN_TIMEOUT,
	CONF_G_CHECKPOINT_INTERVAL,
	CONF_G_COMPRESS,		/* no or zstd */
	CONF_G_CONGESTION,		/* system or bbr */
	CONF_G_REQUIRE,			/* yes or no: whether repctl activate may do without */
	CONF_NR_GROUP_KEYS
};

enum conf_volume_key {
	CONF_V_DEVICE,			/* the origin */
	CONF_V_NAME,			/* of the mapped device */
	CONF_V_TAP,
	CONF_V_REGION,			/* KiB */
	CONF_V_DISCARD,			/* zero, pass, ignore */
	CONF_V_BOUNCE,			/* on, off */
	CONF_V_META,
	CONF_NR_VOLUME_KEYS
};

enum conf_reader_key {
	CONF_R_LISTEN,			/* words, separated by a blank */
	CONF_R_TLS_CERT_DIR,
	CONF_R_ALLOW,			/* words, separated by a blank */
	CONF_R_RATE,			/* MiB a second */
	CONF_NR_READER_KEYS
};

/* struct conf_volume - one section [volume NAME]; a value is NULL where none is given. */
struct conf_volume {
	char name[REPAGENT_NAME_MAX + 1];
	char *value[CONF_NR_VOLUME_KEYS];
};

/*
 * struct conf - a file, or what is to become one.  Values are texts that were
 * checked, and belong to it.
 * @has_reader: there is a section [reader]
 */
struct conf {
	char *group[CONF_NR_GROUP_KEYS];
	char *reader[CONF_NR_READER_KEYS];
	bool has_reader;
	unsigned int nr_volumes;
	struct conf_volume volume[REPAGENT_MAX_VOLUMES];
};

void conf_init(struct conf *conf);
void conf_free(struct conf *conf);
void conf_path(char *path, const char *group);
int conf_load(struct conf *conf, const char *path, char *error);
bool conf_save(const struct conf *conf, const char *path, char *error);

bool conf_set(struct conf *conf, enum conf_section section, const char *volume,
	      const char *key, const char *value, char *error);
const char *conf_key_name(enum conf_section section, unsigned int key);
struct conf_volume *conf_volume(struct conf *conf, const char *name);
struct conf_volume *conf_add_volume(struct conf *conf, const char *name, char *error);
void conf_del_volume(struct conf *conf, const char *name);
void conf_del_reader(struct conf *conf);

#endif /* REPAGENT_CONF_H */
