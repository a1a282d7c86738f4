/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a group, from whoever knows it. */
#ifndef REPAGENT_STATE_H
#define REPAGENT_STATE_H

#include <json-c/json.h>
#include <stdbool.h>

#include "../common/conf.h"
#include "../common/dmdev.h"

struct json_object *state_get(const char *group);
bool state_exists(struct json_object *state);
bool state_protected(struct json_object *state);
void volume_device_name(const struct conf_volume *v, const char *group, char *name);

#endif /* REPAGENT_STATE_H */
