/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host around us: programs, systemd, the module, who uses a device. */
#ifndef REPAGENT_SYSTEM_H
#define REPAGENT_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define OUTPUT_MAX	4096	/* bytes of a program's output that are kept */

/* Run it with some words, as run_program() does. */
#define systemctl(output, size, ...) \
	run_program((const char *const []){ "systemctl", __VA_ARGS__, NULL }, output, size)

int run_program(const char *const *argv, char *output, size_t size);
bool have_systemd(void);
bool unit_is(const char *verb, const char *name, const char *group);
bool allow_group(const char *path);
bool load_module(char *why, size_t size);
bool device_user(dev_t dev, char *user, size_t size);
bool wait_until(bool (*done)(void *arg), void *arg, unsigned int ms);

#endif /* REPAGENT_SYSTEM_H */
