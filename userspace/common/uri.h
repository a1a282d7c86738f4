/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which NBD URI a volume, or the stream of a group, is sent to. */
#ifndef REPAGENT_URI_H
#define REPAGENT_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/dm-repagent.h>

#define URI_MAX		1024	/* bytes of an expanded URI, with its NUL */
#define VOLUME_NAME_MAX	80	/* bytes of what uri_for_hub() takes for a volume */
#define URI_ERROR_MAX	1400	/* bytes of a sentence about one */

/*
 * struct uri_map - the taps; they belong to it.
 * @all:	template for every volume without its own, or NULL
 * @nr, @own:	templates of single volumes
 */
struct uri_map {
	char *all;
	unsigned int nr;
	struct {
		char volume[REPAGENT_NAME_MAX + 1];
		char *uri;
	} own[REPAGENT_MAX_VOLUMES];
};

bool uri_check(const char *template, char *error);
bool uri_is_rephub(const char *template);
bool uri_map_check(const struct uri_map *map, char *error);
const char *uri_tap_of(const struct uri_map *map, const char *volume);
bool uri_set_tap(struct uri_map *map, const char *volume, const char *template,
		 char *error);
bool uri_add_tap(struct uri_map *map, const char *arg, char *error);
bool uri_for_volume(const struct uri_map *map, const char *group,
		    const char *volume, char *uri, char *error);
bool uri_for_hub(const struct uri_map *map, const char *group, const char *kind, const char *volume,
		 char *uri, char *nbd, char *error);
bool uri_same(const char *a, const char *b);
bool uri_exposes_data(const char *uri);
bool uri_name_ok(const char *name);

#endif /* REPAGENT_URI_H */
