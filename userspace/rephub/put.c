// SPDX-License-Identifier: GPL-2.0-or-later
#include <inttypes.h>
#include <stdio.h>

#include "put.h"

/** put_time - set a member to seconds since the epoch; null where that is not known */
void put_time(struct json_object *o, const char *name, uint64_t ns)
{
	char text[40];

	snprintf(text, sizeof(text), "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
	json_object_object_add(o, name, ns ? json_object_new_double_s((double)ns / 1e9, text) : NULL);
}

/** put_uuid - set a member to a uuid as it is written */
void put_uuid(struct json_object *o, const char *name, const uint8_t *u)
{
	char text[40];

	snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	put_text(o, name, text);
}

/** put_position - set a member to a position, as a view's name has it; null where there is none */
void put_position(struct json_object *o, const char *name, uint64_t incarnation, uint64_t seq)
{
	char text[48];

	snprintf(text, sizeof(text), "%016" PRIx64 ":%" PRIu64, incarnation, seq);
	put_text(o, name, incarnation ? text : NULL);
}
