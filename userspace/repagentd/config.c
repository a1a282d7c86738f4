// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

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
		.checkpoint = NSEC_PER_SEC,
	};
}

static void take_duration(const char *value, uint64_t *ns)
{
	if (value)
		parse_duration(value, ns);
}

/**
 * config_apply - take what a configuration gives, but for volumes and reader
 * @cfg: what was taken before stays where @conf gives nothing
 * @conf: its values were checked; must outlive @cfg
 */
void config_apply(struct config *cfg, const struct conf *conf)
{
	char *const *v = conf->group;

	if (v[CONF_G_TLS_CERTIFICATES])
		cfg->tls_certificates = v[CONF_G_TLS_CERTIFICATES];
	if (v[CONF_G_ALLOW_NO_FLUSH])
		cfg->allow_no_flush = !strcmp(v[CONF_G_ALLOW_NO_FLUSH], "yes");
	if (v[CONF_G_COMPRESS])
		cfg->compress = !strcmp(v[CONF_G_COMPRESS], "zstd");
	if (v[CONF_G_CONGESTION])
		cfg->bbr = !strcmp(v[CONF_G_CONGESTION], "bbr");
	if (v[CONF_G_EPOCH_RECORDS])
		parse_count(v[CONF_G_EPOCH_RECORDS], &cfg->epoch.records);
	if (v[CONF_G_EPOCH_SIZE])
		parse_size(v[CONF_G_EPOCH_SIZE], &cfg->epoch.bytes);
	take_duration(v[CONF_G_EPOCH_TIME], &cfg->epoch.ns);
	take_duration(v[CONF_G_TIMEOUT], &cfg->timeout);
	take_duration(v[CONF_G_HEARTBEAT], &cfg->heartbeat);
	take_duration(v[CONF_G_DRAIN_TIMEOUT], &cfg->drain);
	take_duration(v[CONF_G_CHECKPOINT_INTERVAL], &cfg->checkpoint);
}
