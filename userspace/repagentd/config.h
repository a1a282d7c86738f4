/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the command line says. */
#ifndef REPAGENT_CONFIG_H
#define REPAGENT_CONFIG_H

#include "epoch.h"
#include "../common/uri.h"

/*
 * struct config - times are in ns.
 * @epoch:		limits of an epoch, before the ring's size bounds them
 * @timeout:		for a reply, and for a connection to be made
 * @heartbeat:		an idle connection is tried this often
 * @retry_min, @retry_max: pauses between attempts to connect
 * @retry_full:		pause when the hub has no space
 * @drain:		how long a clean stop may take
 * @stats:		between two status lines; 0: none
 * @tls_certificates:	a directory, or NULL
 * @allow_no_flush:	accept a server without FLUSH
 */
struct config {
	const char *group;
	struct uri_map taps;
	struct epoch_limits epoch;
	uint64_t timeout;
	uint64_t heartbeat;
	uint64_t retry_min;
	uint64_t retry_max;
	uint64_t retry_full;
	uint64_t drain;
	uint64_t stats;
	const char *tls_certificates;
	bool allow_no_flush;
};

void config_init(struct config *cfg);

#endif /* REPAGENT_CONFIG_H */
