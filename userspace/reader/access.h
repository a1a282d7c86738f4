/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may read what: --allow NAME=GROUP[/VOLUME], --only GROUP[/VOLUME]. */
#ifndef REPAGENT_ACCESS_H
#define REPAGENT_ACCESS_H

#include <stdbool.h>

#include "../nbdserver/nbdserver.h"

#define ACCESS_ERROR_MAX	256

struct access_rule {
	const char *name;	/* not terminated: name_len bytes */
	int name_len;
	const char *what;	/* GROUP or GROUP/VOLUME */
};

/*
 * struct access_list
 * @only: nothing else is served; NULL: everything is
 */
struct access_list {
	struct access_rule *rule;
	unsigned int nr;
	const char *only;
};

bool access_add(struct access_list *list, const char *arg, char *error);
bool access_only(struct access_list *list, const char *arg, char *error);
bool access_allows(const struct access_list *list, const struct nbds_peer *peer,
		   const char *export, char *reason, size_t size);
bool export_split(const char *export, char *group, char *volume);

#endif /* REPAGENT_ACCESS_H */
