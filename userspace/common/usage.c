// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usage.h"

/**
 * usage_error - end the program, for its command line is wrong
 * @fmt: of printf(): the word at fault, and what was expected
 */
void usage_error(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry '%s --help'.\n", program_invocation_short_name);
	exit(EXIT_USAGE);
}

/**
 * usage_other - answer --help and --version, or say what is wrong with an option
 * @c: what getopt_long() returned. opterr is 0, its string of options begins with
 *     a colon, and its long options have values from 256, but for 'h' and 'V'
 * @argv: its words
 * @text: what --help prints
 *
 * The program ends.
 */
void usage_other(int c, char **argv, const char *text)
{
	const char *word = argv[optind - 1];

	switch (c) {
	case 'h':
		fputs(text, stdout);
		exit(EXIT_SUCCESS);
	case 'V':
		printf("%s " REPAGENT_VERSION "\n", program_invocation_short_name);
		exit(EXIT_SUCCESS);
	case ':':
		usage_error("'%s' lacks its value: expected one behind it", word);
	default:
		if (optopt && strncmp(word, "--", 2))
			usage_error("'-%c' is unknown: expected an option that --help names", optopt);
		if (optopt)
			usage_error("'%s' takes no value: expected it without '='", word);
		usage_error("'%s' is unknown, or stands for several: expected an option that --help names", word);
	}
}
