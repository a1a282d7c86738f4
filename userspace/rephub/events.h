/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happened at the hub, for those who ask later. */
#ifndef REPHUB_EVENTS_H
#define REPHUB_EVENTS_H

#include "hub.h"

struct events;

struct events *events_open(int dir, char *error);
void events_close(struct events *e);
void events_tend(struct events *e);
void events_list(struct events *e, const struct hub_event_query *q,
		 void (*each)(void *data, const struct hub_event *ev), void *data);
void events_add(struct events *e, const char *group, const char *what, uint64_t incarnation, uint64_t seq,
		const char *fmt, ...) __attribute__((format(printf, 6, 7)));

#endif /* REPHUB_EVENTS_H */
