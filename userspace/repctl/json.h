/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Members of JSON objects; what is not there is "", 0, false or NULL. */
#ifndef REPAGENT_JSON_H
#define REPAGENT_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

struct json_object *get(struct json_object *o, const char *name);
const char *get_text(struct json_object *o, const char *name);
uint64_t get_number(struct json_object *o, const char *name);
double get_seconds(struct json_object *o, const char *name);
bool get_bool(struct json_object *o, const char *name);
size_t length_of(struct json_object *array);

void put_text(struct json_object *o, const char *name, const char *text);
void put_number(struct json_object *o, const char *name, uint64_t number);
void put_bool(struct json_object *o, const char *name, bool yes);
void put_null(struct json_object *o, const char *name);

#endif /* REPAGENT_JSON_H */
