/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line per change of state, to stderr, never waiting for who reads it.
 */
#ifndef REPAGENT_LOG_H
#define REPAGENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>	/* LOG_ERR ... LOG_DEBUG */

void log_init(const char *subject);
void log_msg(int priority, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
bool log_write(int fd, const char *line, size_t len);
void log_expire(void);
void log_summary(void);

#define log_err(...)	log_msg(LOG_ERR, __VA_ARGS__)
#define log_warn(...)	log_msg(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)	log_msg(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)	log_msg(LOG_INFO, __VA_ARGS__)

#endif /* REPAGENT_LOG_H */
