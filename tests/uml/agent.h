/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands where the daemon stands, as a thread: takes the records of the group, holds each
 * against the ABI (libcheck), applies it at the hub, has the hub make it durable, and
 * acknowledges. When it comes to a hub it asks for what the hub lacks.
 */
#ifndef UML_AGENT_H
#define UML_AGENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../tools/libcheck.h"
#include "../tools/libring.h"
#include "hub.h"

/* What an agent leaves for the next of the same incarnation: as of the last acknowledgement. */
struct agent_state {
	uint64_t incarnation;
	struct checker checker;
	uint64_t acked_end;
};

struct agent {
	struct hub *hub;
	const char *group;
	const char *device[VOLUMES];	/* mapped devices, for the message resync */
	struct rng rng;
	unsigned int flush_every;	/* about so many records between two flushes of the hub */

	atomic_bool stalls;		/* takes nothing */
	_Atomic uint64_t resync_bytes;	/* read again, since somebody set it to 0 */
	_Atomic uint64_t errors;	/* of the stream, told on stderr */
	_Atomic uint64_t epoch;		/* of the hub that it has last come to, and asked for what that lacks */
	uint64_t resyncs_asked;
	bool asked[VOLUMES];		/* since the volumes were activated */

	/* Its own. */
	struct agent_state kept;
	pthread_t thread;
	atomic_bool dies;
	bool lives;
};

void agent_start(struct agent *a);

/* It is killed wherever it is; returns when it is gone. */
void agent_kill(struct agent *a);

#endif /* UML_AGENT_H */
