/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: lines of JSON, clients, commands by name
 * (Documentation/control.md).  What the commands do is not known here.
 */
#ifndef REPAGENT_CONTROL_H
#define REPAGENT_CONTROL_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

#define CONTROL_CLIENTS	32

struct control;
struct call;

/* What an argument may be. */
enum argument_type {
	ARG_END,
	ARG_NAME,		/* of a volume */
	ARG_TEXT,
	ARG_TEXTS,		/* a text, or a list of texts */
	ARG_BOOL,
	ARG_COUNT,		/* a number without a fraction, from 0 */
	ARG_NUMBER,
};

struct argument {
	const char *name;
	enum argument_type type;
	bool required;
};

/*
 * struct command
 * @arguments:	ends with ARG_END; what is given is checked against it
 * @run:	must lead to one call_return() or call_fail(), now or later
 */
struct command {
	const char *name;
	const struct argument *arguments;
	void (*run)(void *owner, struct call *call, struct json_object *arguments);
};

struct control *control_new(struct loop *loop, const char *path, const char *group,
			    const struct command *commands, void *owner, int *holder);
struct control *control_new_bare(struct loop *loop, const char *group,
				 const struct command *commands, void *owner);
void control_add(struct control *c, int fd);
uint64_t control_run(struct control *c);
bool control_heard(const struct control *c);
void control_event(struct control *c, const char *event, struct json_object *data);
void control_free(struct control *c);

void call_return(struct call *call, struct json_object *value);
void call_fail(struct call *call, const char *class, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void call_subscribe(struct call *call);

#endif /* REPAGENT_CONTROL_H */
