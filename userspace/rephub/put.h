/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the hub says of itself, as members of JSON objects. */
#ifndef REPHUB_PUT_H
#define REPHUB_PUT_H

#include "../repctl/json.h"

void put_time(struct json_object *o, const char *name, uint64_t ns);
void put_uuid(struct json_object *o, const char *name, const uint8_t *uuid);
void put_position(struct json_object *o, const char *name, uint64_t incarnation, uint64_t seq);

#endif /* REPHUB_PUT_H */
