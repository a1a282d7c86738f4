/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be asked at the hub's control socket. */
#ifndef REPHUB_COMMANDS_H
#define REPHUB_COMMANDS_H

#include "../repagentd/control.h"

#define POINTS_MOST	200u	/* in one answer */

#define EVENTS_MOST	100u

extern const struct command hub_commands[];	/* their owner is the struct hub */

bool most_of(struct call *call, struct json_object *arguments, unsigned int limit, unsigned int *most);

/* administer.c */
void query_views(void *owner, struct call *call, struct json_object *arguments);
void query_space(void *owner, struct call *call, struct json_object *arguments);
void query_events(void *owner, struct call *call, struct json_object *arguments);
void query_retention(void *owner, struct call *call, struct json_object *arguments);
void set_retention(void *owner, struct call *call, struct json_object *arguments);
void forget(void *owner, struct call *call, struct json_object *arguments);
void verify(void *owner, struct call *call, struct json_object *arguments);
void stop_verify(void *owner, struct call *call, struct json_object *arguments);

/* recovery.c */
void query_tests(void *owner, struct call *call, struct json_object *arguments);
void test_start(void *owner, struct call *call, struct json_object *arguments);
void test_stop(void *owner, struct call *call, struct json_object *arguments);
void failover(void *owner, struct call *call, struct json_object *arguments);
void commit(void *owner, struct call *call, struct json_object *arguments);
void rollback(void *owner, struct call *call, struct json_object *arguments);
void query_changed(void *owner, struct call *call, struct json_object *arguments);

#endif /* REPHUB_COMMANDS_H */
