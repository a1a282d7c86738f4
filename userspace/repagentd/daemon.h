/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's core: one ring, one tap, one loop. */
#ifndef REPAGENT_DAEMON_H
#define REPAGENT_DAEMON_H

#include "config.h"
#include "ring.h"

/* What became of a run. */
enum daemon_end {
	DAEMON_STOPPED,		/* as a signal asked */
	DAEMON_SHUT_DOWN,	/* as a command asked: it is not to be started again */
	DAEMON_GONE,		/* the group is gone */
	DAEMON_FAILED,		/* a line was logged */
};

enum daemon_end daemon_run(struct config *cfg, struct ring *ring, int signal_fd);

#endif /* REPAGENT_DAEMON_H */
