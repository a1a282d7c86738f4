// SPDX-License-Identifier: GPL-2.0-or-later
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/uri.h"
#include "groups.h"

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void add(struct groups *groups, const char *name, size_t len)
{
	char word[REPAGENT_NAME_MAX + 1];
	void *bigger;
	unsigned int i;

	if (len > REPAGENT_NAME_MAX)
		return;
	memcpy(word, name, len);
	word[len] = '\0';
	if (!uri_name_ok(word))
		return;
	for (i = 0; i < groups->nr; i++)
		if (!strcmp(groups->name[i], word))
			return;
	bigger = realloc(groups->name, (groups->nr + 1) * sizeof(*groups->name));
	if (!bigger)
		return;
	groups->name = bigger;
	memcpy(groups->name[groups->nr++], word, sizeof(word));
}

static void scan(struct groups *groups, const char *folder, const char *suffix)
{
	DIR *dir = opendir(folder);
	size_t len, tail = strlen(suffix);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		len = strlen(entry->d_name);
		if (len > tail && !strcmp(entry->d_name + len - tail, suffix))
			add(groups, entry->d_name, len - tail);
	}
	if (dir)
		closedir(dir);
}

/**
 * groups_find - all groups that have a configuration, or that the kernel has
 * @groups: out; give it to groups_free()
 */
void groups_find(struct groups *groups)
{
	groups->nr = 0;
	groups->name = NULL;
	scan(groups, "/etc/repagent", ".conf");
	scan(groups, "/sys/class/repagent", "");
	if (groups->nr)
		qsort(groups->name, groups->nr, sizeof(*groups->name), compare);
}

/**
 * groups_free - let go what groups_find() has found
 * @groups: the names
 */
void groups_free(struct groups *groups)
{
	free(groups->name);
}

/**
 * list_groups - the groups of this host, for a sentence
 * @list: out: "known are: vm0, vm1", or that there are none
 * @size: of @list
 */
void list_groups(char *list, size_t size)
{
	struct groups groups;
	size_t used = 0;
	unsigned int i;

	groups_find(&groups);
	for (i = 0; i < groups.nr && used < size; i++)
		used += (size_t)snprintf(list + used, size - used, "%s%s", i ? ", " : "known are: ",
					 groups.name[i]);
	if (!groups.nr)
		snprintf(list, size, "this host has none; repctl protect makes one");
	groups_free(&groups);
}
