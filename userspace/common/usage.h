/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a program says to a command line that is wrong, or asks for help. */
#ifndef REPAGENT_USAGE_H
#define REPAGENT_USAGE_H

#define EXIT_USAGE	2

void usage_error(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void usage_other(int c, char **argv, const char *text) __attribute__((noreturn));

#endif /* REPAGENT_USAGE_H */
