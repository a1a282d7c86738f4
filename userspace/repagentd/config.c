// SPDX-License-Identifier: GPL-2.0-or-later
#include "../common/parse.h"
#include "config.h"

/**
 * config_init - set the defaults
 * @cfg: the configuration
 */
void config_init(struct config *cfg)
{
	*cfg = (struct config) {
		.epoch = {
			.records = 4096,
			.bytes = 32 * MIB,
			.ns = 50 * NSEC_PER_MSEC,
		},
		.timeout = 30 * NSEC_PER_SEC,
		.heartbeat = 10 * NSEC_PER_SEC,
		.retry_min = 200 * NSEC_PER_MSEC,
		.retry_max = 5 * NSEC_PER_SEC,
		.retry_full = 10 * NSEC_PER_SEC,
		.drain = 10 * NSEC_PER_SEC,
	};
}
