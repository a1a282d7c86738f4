// SPDX-License-Identifier: GPL-2.0-or-later
#include "json.h"

/**
 * get - a member
 * @o: an object, or anything
 * @name: of the member
 *
 * Return: the member, which stays the object's; NULL if there is none.
 */
struct json_object *get(struct json_object *o, const char *name)
{
	struct json_object *member = NULL;

	return json_object_is_type(o, json_type_object) &&
	       json_object_object_get_ex(o, name, &member) ? member : NULL;
}

/** get_text - a member that is a text; "" if it is none */
const char *get_text(struct json_object *o, const char *name)
{
	struct json_object *member = get(o, name);

	return json_object_is_type(member, json_type_string) ? json_object_get_string(member) : "";
}

/** get_number - a member that is a number, not below 0 */
uint64_t get_number(struct json_object *o, const char *name)
{
	int64_t n = json_object_get_int64(get(o, name));

	return n < 0 ? 0 : (uint64_t)n;
}

/** get_seconds - a member that is a number of seconds; negative if it is none */
double get_seconds(struct json_object *o, const char *name)
{
	struct json_object *member = get(o, name);

	return json_object_is_type(member, json_type_double) ||
	       json_object_is_type(member, json_type_int) ? json_object_get_double(member) : -1;
}

/** get_bool - a member that is true */
bool get_bool(struct json_object *o, const char *name)
{
	return json_object_get_boolean(get(o, name));
}

/** length_of - how many elements an array has; 0 if it is none */
size_t length_of(struct json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

/** put_text - set a member to a text, or to null */
void put_text(struct json_object *o, const char *name, const char *text)
{
	json_object_object_add(o, name, text ? json_object_new_string(text) : NULL);
}

/** put_number - set a member to a number */
void put_number(struct json_object *o, const char *name, uint64_t number)
{
	json_object_object_add(o, name, json_object_new_int64((int64_t)number));
}

/** put_bool - set a member to true or false */
void put_bool(struct json_object *o, const char *name, bool yes)
{
	json_object_object_add(o, name, json_object_new_boolean(yes));
}

/** put_null - set a member to null */
void put_null(struct json_object *o, const char *name)
{
	json_object_object_add(o, name, NULL);
}
