// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <linux/dm-repagent.h>

#include "access.h"

static bool name_ok(const char *name, size_t len)
{
	return len && len <= REPAGENT_NAME_MAX && *name != '.' && *name != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") >= len;
}

/**
 * export_split - take an export's name apart
 * @export: GROUP/VOLUME
 * @group: REPAGENT_NAME_MAX + 1 bytes for the one
 * @volume: as many for the other
 *
 * Return: whether it is such a name.
 */
bool export_split(const char *export, char *group, char *volume)
{
	const char *slash = strchr(export, '/');

	if (!slash || !name_ok(export, (size_t)(slash - export)) ||
	    !name_ok(slash + 1, strlen(slash + 1)))
		return false;
	memcpy(group, export, (size_t)(slash - export));
	group[slash - export] = '\0';
	strcpy(volume, slash + 1);
	return true;
}

/* GROUP or GROUP/VOLUME, as it stands in an argument; else a sentence. */
static bool check_what(const char *arg, const char *what, char *error)
{
	char group[REPAGENT_NAME_MAX + 1], volume[REPAGENT_NAME_MAX + 1];

	if (name_ok(what, strlen(what)) || export_split(what, group, volume))
		return true;
	snprintf(error, ACCESS_ERROR_MAX,
		 "'%s': '%s' is neither a group nor a group and a volume; expected GROUP or GROUP/VOLUME",
		 arg, what);
	return false;
}

/**
 * access_add - add a rule
 * @list: to this
 * @arg: NAME=GROUP or NAME=GROUP/VOLUME; it is kept
 * @error: ACCESS_ERROR_MAX bytes for a sentence if it is none
 *
 * Return: whether it is one.
 */
bool access_add(struct access_list *list, const char *arg, char *error)
{
	const char *eq = strrchr(arg, '='), *what = eq ? eq + 1 : NULL;
	struct access_rule *rule;

	if (!eq || eq == arg) {
		snprintf(error, ACCESS_ERROR_MAX, "'%s': expected NAME=GROUP or NAME=GROUP/VOLUME", arg);
		return false;
	}
	if (!check_what(arg, what, error))
		return false;
	rule = realloc(list->rule, (list->nr + 1) * sizeof(*rule));
	if (!rule) {
		snprintf(error, ACCESS_ERROR_MAX, "out of memory");
		return false;
	}
	list->rule = rule;
	rule[list->nr++] = (struct access_rule){ arg, (int)(eq - arg), what };
	return true;
}

static bool covers(const char *what, const char *export)
{
	size_t len = strlen(what);

	if (strchr(what, '/'))
		return !strcmp(what, export);
	return !strncmp(what, export, len) && export[len] == '/';
}

/**
 * access_only - serve nothing else
 * @list: of this server
 * @arg: GROUP or GROUP/VOLUME; it is kept
 * @error: ACCESS_ERROR_MAX bytes for a sentence if it is none
 *
 * Return: whether it is one.
 */
bool access_only(struct access_list *list, const char *arg, char *error)
{
	list->only = arg;
	return check_what(arg, arg, error);
}

/**
 * access_allows - may a peer open an export?
 * @list: the rules; without any, everybody may
 * @peer: who
 * @export: what
 * @reason: why not
 * @size: of @reason
 *
 * Names are compared as DNS names are: upper and lower case are the same.
 */
bool access_allows(const struct access_list *list, const struct nbds_peer *peer,
		   const char *export, char *reason, size_t size)
{
	unsigned int i, j;

	if (list->only && !covers(list->only, export)) {
		snprintf(reason, size, "this server serves %s alone", list->only);
		return false;
	}
	if (!list->nr)
		return true;
	for (i = 0; i < list->nr; i++) {
		const struct access_rule *r = &list->rule[i];

		for (j = 0; j < peer->nr_names; j++)
			if (strlen(peer->names[j]) == (size_t)r->name_len &&
			    !strncasecmp(peer->names[j], r->name, (size_t)r->name_len) &&
			    covers(r->what, export))
				return true;
	}
	if (!peer->nr_names)
		snprintf(reason, size, "a client without a name may not open it");
	else
		snprintf(reason, size, "%.64s may not open it", peer->names[0]);
	return false;
}
