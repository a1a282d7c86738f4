/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of the control socket (Documentation/control.md). */
#ifndef REPAGENT_CLIENT_H
#define REPAGENT_CLIENT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#define CONTROL_LINE_MAX	65536	/* bytes of a line, with its newline */
#define CONTROL_API		1
#define CONTROL_PATH_MAX	108	/* bytes of a Unix socket's path */
#define CLIENT_ERROR_MAX	1024	/* bytes of a sentence */
#define CLIENT_CLASS_MAX	32	/* bytes of an error's class */

/*
 * struct client - a connection.
 * @fd:		its socket, readable when there may be something for client_event()
 * @greeting:	what stands in "repagent" of the greeting
 * @buf, @len:	bytes that were read and not yet used
 * @events:	an array of those that came while an answer was awaited
 */
struct client {
	int fd;
	struct json_object *greeting;
	char *buf;
	size_t len;
	struct json_object *events;
	unsigned int last_id;
};

void control_path(char *path, const char *group);
bool client_connect(struct client *c, const char *path, int timeout_ms, char *error);
bool client_call(struct client *c, const char *command, struct json_object *arguments,
		 int timeout_ms, struct json_object **result, char *class, char *error);
int client_event(struct client *c, int timeout_ms, struct json_object **event, char *error);
void client_close(struct client *c);

#endif /* REPAGENT_CLIENT_H */
