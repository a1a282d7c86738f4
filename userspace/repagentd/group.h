/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The character device of a group. */
#ifndef REPAGENT_GROUP_H
#define REPAGENT_GROUP_H

#include "ring.h"

#define GROUP_PATH_MAX		64
#define GROUP_PROGRAM_LEN	63
#define GROUP_PROGRAM_MAX	(GROUP_PROGRAM_LEN + 1)

void group_path(char *path, const char *group);
int group_open(struct ring *ring, const char *group);
void group_close(struct ring *ring);
void process_name(int pid, char *program);
int group_holder(const char *group, char *program);

#endif /* REPAGENT_GROUP_H */
