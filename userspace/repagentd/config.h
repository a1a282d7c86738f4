/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the command line and the configuration file say. */
#ifndef REPAGENT_CONFIG_H
#define REPAGENT_CONFIG_H

#include "../common/conf.h"
#include "../common/uri.h"
#include "epoch.h"

/*
 * struct config - times are in ns.
 * @epoch:		limits of an epoch, before the ring's size bounds them
 * @timeout:		for a reply, and for a connection to be made
 * @heartbeat:		an idle connection is tried this often
 * @retry_min, @retry_max: pauses between attempts to connect
 * @retry_full:		pause when the hub has no space
 * @drain:		how long a clean stop may take
 * @checkpoint:		between two timed checkpoints; 0: none; of the log tap
 * @stats:		between two status lines; 0: none
 * @tls_certificates:	a directory, or NULL
 * @allow_no_flush:	accept a server without FLUSH
 * @control:		path of the control socket, or NULL
 * @state_dir:		where it is remembered which rephub a group is at, or NULL
 * @compress:		zstd's level for frames to a rephub; 0: they are not compressed
 * @bbr:		connections by TCP ask for the congestion control bbr
 * @conf:		the file's volumes and reader, and the ring's size
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
	uint64_t checkpoint;
	uint64_t stats;
	const char *tls_certificates;
	bool allow_no_flush;
	const char *control;
	const char *state_dir;
	int compress;
	bool bbr;
	struct conf conf;
};

void config_init(struct config *cfg);
void config_apply(struct config *cfg, const struct conf *conf);

#endif /* REPAGENT_CONFIG_H */
