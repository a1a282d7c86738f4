/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands of repctl share. */
#ifndef REPAGENT_REPCTL_H
#define REPAGENT_REPCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <getopt.h>

#include "../common/client.h"
#include "../common/conf.h"
#include "../common/dmdev.h"

/* Exit statuses; repctl(8) says what they mean. */
enum {
	EXIT_FINE	 = 0,
	EXIT_FAILED	 = 1,
	EXIT_WRONG_USAGE = 2,
	EXIT_UNPROTECTED = 3,
};

#define CALL_TIMEOUT_MS	 30000	/* for an answer of the daemon that needs no work */
#define WORK_TIMEOUT_MS	 180000	/* for one that does */

/*
 * struct command - one line of `repctl --help`.
 * @synopsis:	what stands behind the name
 * @summary:	in a few words
 * @help:	more lines, the options; ends with a newline
 * @run:	argv[0] is the command's name; returns an exit status
 */
struct command {
	const char *name;
	const char *synopsis;
	const char *summary;
	const char *help;
	int (*run)(int argc, char **argv);
};

extern const struct command *const commands[];

/* main.c */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void remark(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int next_option(int argc, char **argv, const char *letters, const struct option *options, int *status);
bool take_group(int argc, char **argv, const char **group);

#define OPTION_ERROR	(-2)	/* of next_option() */

#endif /* REPAGENT_REPCTL_H */
