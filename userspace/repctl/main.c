// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * repctl: the commands, and what to say to who has mistyped one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/uri.h"
#include "commands.h"
#include "groups.h"
#include "repctl.h"
#include "suggest.h"

const struct command *const commands[] = {
	&cmd_status, &cmd_protect, &cmd_unprotect, &cmd_volumes, &cmd_dirty, &cmd_checkpoint,
	&cmd_resync, &cmd_verify, &cmd_pause, &cmd_resume, &cmd_rejoin, &cmd_events, &cmd_list, &cmd_activate, &cmd_deactivate, &cmd_shutdown,
	&cmd_recover, &cmd_unrecover, &cmd_take_home, &cmd_fail_back, &cmd_map,
	NULL
};

/* The command that is run, for its usage. */
static const struct command *current;

/**
 * fail - say what went wrong
 * @fmt: a sentence, without the newline
 *
 * Return: EXIT_FAILED.
 */
int fail(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("repctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

/**
 * remark - say what is worth knowing, but no failure
 * @fmt: a sentence, without the newline
 */
void remark(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/**
 * usage_error - say what was wrong with the command line, and what to type
 * @fmt: a sentence, without the newline
 *
 * Return: EXIT_WRONG_USAGE.
 */
int usage_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("repctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (current)
		fprintf(stderr, "Type: repctl %s %s\nMore: repctl %s --help\n", current->name,
			current->synopsis, current->name);
	else
		fputs("More: repctl --help\n", stderr);
	return EXIT_WRONG_USAGE;
}

static void print_help(const struct command *c)
{
	printf("Usage: repctl %s %s\n%s\n", c->name, c->synopsis, c->summary);
	if (*c->help)
		printf("\n%s", c->help);
	printf("\n  -h, --help  show this\n\nMore in repctl(8).\n");
}

/**
 * next_option - getopt_long() with the words of usage_error(), and --help
 * @argc: of the command
 * @argv: of the command
 * @letters: short options, without 'h'; begins with ':'
 * @options: long ones, with { "help", no_argument, NULL, 'h' }
 * @status: out: with OPTION_ERROR, the exit status
 *
 * Return: the option, -1 at the end, OPTION_ERROR to exit.
 */
int next_option(int argc, char **argv, const char *letters, const struct option *options, int *status)
{
	char with_help[32];
	int c;

	opterr = 0;
	snprintf(with_help, sizeof(with_help), "%sh", letters);
	c = getopt_long(argc, argv, with_help, options, NULL);
	switch (c) {
	case 'h':
		print_help(current);
		*status = EXIT_FINE;
		return OPTION_ERROR;
	case ':':
		*status = usage_error("'%s' lacks its value: expected one behind it", argv[optind - 1]);
		return OPTION_ERROR;
	case '?':
		if (optopt && strncmp(argv[optind - 1], "--", 2))
			*status = usage_error("'-%c' is unknown", optopt);
		else if (optopt)
			*status = usage_error("'%s' takes no value", argv[optind - 1]);
		else
			*status = usage_error("'%s' is unknown, or stands for several options",
					      argv[optind - 1]);
		return OPTION_ERROR;
	}
	return c;
}

/**
 * take_group - the next word is a group's name
 * @argc: of the command
 * @argv: of the command
 * @group: out: the name, which is well-formed; optind stands behind it
 *
 * Return: whether it is; else a sentence was said.
 */
bool take_group(int argc, char **argv, const char **group)
{
	char list[1024];

	if (optind == argc) {
		list_groups(list, sizeof(list));
		usage_error("expected a group: %s", list);
		return false;
	}
	*group = argv[optind++];
	if (!uri_name_ok(*group)) {
		usage_error("'%s' is no name of a group: expected 1 to %d letters, digits, '_', '.' or '-', "
			    "not beginning with '.' or '-'", *group, REPAGENT_NAME_MAX);
		return false;
	}
	return true;
}

static void print_commands(void)
{
	unsigned int i;

	puts("Usage: repctl COMMAND [ARGUMENT...]\n"
	     "Protect the disks of this host's VMs, and see how they are protected.\n");
	for (i = 0; commands[i]; i++)
		printf("  %-11s %s\n", commands[i]->name, commands[i]->summary);
	puts("\n  -h, --help     show this; 'repctl COMMAND --help' shows more\n"
	     "  -V, --version  show the version\n\n"
	     "First of all: repctl protect vm0 /dev/vg/vm0 --tap nbd://hub/%v\n"
	     "Exit status: 0 done, and for status: all is protected; 1 failure; 2 wrong\n"
	     "usage; 3 something is not protected.  More in repctl(8).");
}

static const struct command *find_command(const char *name)
{
	unsigned int i;

	for (i = 0; commands[i]; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static const struct command *nearest_command(const char *name)
{
	const char *names[64];
	unsigned int i;
	int best;

	for (i = 0; commands[i]; i++)
		names[i] = commands[i]->name;
	best = suggest(name, names, i);
	return best < 0 ? NULL : commands[best];
}

int main(int argc, char **argv)
{
	const struct command *near;

	if (argc < 2) {
		print_commands();
		return EXIT_WRONG_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		current = argc > 2 ? find_command(argv[2]) : NULL;
		if (current)
			print_help(current);
		else
			print_commands();
		return EXIT_FINE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("repctl " REPAGENT_VERSION);
		return EXIT_FINE;
	}
	current = find_command(argv[1]);
	if (!current) {
		near = nearest_command(argv[1]);
		if (near)
			return usage_error("'%s' is no command. Did you mean: repctl %s %s", argv[1],
					   near->name, near->synopsis);
		return usage_error("'%s' is no command", argv[1]);
	}
	setlinebuf(stdout);
	dmdev_init();
	return current->run(argc - 1, argv + 1);
}
