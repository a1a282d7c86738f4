// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /run/repagent/<group>.unprotected: two lines, the cause and what to type.
 * What failed when the host booted cannot be seen later.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "note.h"

#define RUN_FOLDER	"/run/repagent"
#define PATH_BYTES	96

static void note_path(char *path, const char *group)
{
	snprintf(path, PATH_BYTES, RUN_FOLDER "/%s.unprotected", group);
}

static void put_line(FILE *f, const char *text)
{
	for (; *text; text++)
		fputc(*text == '\n' ? ' ' : *text, f);
	fputc('\n', f);
}

/**
 * note_write - keep it
 * @group: the group
 * @why: a sentence
 * @remedy: what to type
 *
 * Return: whether it is kept.
 */
bool note_write(const char *group, const char *why, const char *remedy)
{
	char path[PATH_BYTES];
	bool ok;
	FILE *f;

	if (mkdir(RUN_FOLDER, 0755) && errno != EEXIST)
		return false;
	note_path(path, group);
	f = fopen(path, "we");
	if (!f)
		return false;
	put_line(f, why);
	put_line(f, remedy);
	ok = !ferror(f);
	return !fclose(f) && ok;
}

static void get_line(FILE *f, char *line)
{
	if (!fgets(line, NOTE_MAX, f))
		*line = '\0';
	line[strcspn(line, "\n")] = '\0';
}

/**
 * note_read - the cause, and what to type
 * @group: the group
 * @why: NOTE_MAX bytes
 * @remedy: NOTE_MAX bytes
 *
 * Return: whether there is a note.
 */
bool note_read(const char *group, char *why, char *remedy)
{
	char path[PATH_BYTES];
	FILE *f;

	note_path(path, group);
	f = fopen(path, "re");
	if (!f)
		return false;
	get_line(f, why);
	get_line(f, remedy);
	fclose(f);
	return true;
}

/**
 * note_remove - it is no longer so
 * @group: the group
 */
void note_remove(const char *group)
{
	char path[PATH_BYTES];

	note_path(path, group);
	unlink(path);
}
