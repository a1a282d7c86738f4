/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A group's state in words. */
#ifndef REPAGENT_SHOW_H
#define REPAGENT_SHOW_H

#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

void show_group(FILE *f, struct json_object *state, time_t now);
void show_groups(FILE *f, struct json_object *states, time_t now);
void show_volumes(FILE *f, struct json_object *state, unsigned int indent);
const char *show_since(char *buf, size_t size, double since, time_t now);

#endif /* REPAGENT_SHOW_H */
