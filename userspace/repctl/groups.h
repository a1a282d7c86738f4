/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which groups this host has, configured or at work. */
#ifndef REPAGENT_GROUPS_H
#define REPAGENT_GROUPS_H

#include <linux/dm-repagent.h>
#include <stddef.h>

/* struct groups - their names, sorted. */
struct groups {
	unsigned int nr;
	char (*name)[REPAGENT_NAME_MAX + 1];
};

void groups_find(struct groups *groups);
void groups_free(struct groups *groups);
void list_groups(char *list, size_t size);

#endif /* REPAGENT_GROUPS_H */
