// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file DIR/GROUP.hub:
 *
 *	hub 0f3b6c1e-...
 *	group 5a1d90c2-...
 *	generation 1
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/log.h"
#include "known.h"

#define PATH_BYTES	512

/**
 * known_any - whether anything is known
 * @k: what is
 */
bool known_any(const struct known *k)
{
	static const struct known none;

	return memcmp(k->hub, none.hub, sizeof(k->hub)) || memcmp(k->group, none.group, sizeof(k->group));
}

/**
 * uuid_text - a uuid as it is written
 * @text: UUID_TEXT bytes for the result
 * @u: the uuid
 *
 * Return: @text.
 */
const char *uuid_text(char *text, const uint8_t *u)
{
	snprintf(text, UUID_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
		 u[14], u[15]);
	return text;
}

static bool uuid_parse(uint8_t *u, const char *text)
{
	unsigned int i, n = 0, byte;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (text[n++] != '-')
				return false;
		if (strspn(text + n, "0123456789abcdef") < 2 || sscanf(text + n, "%2x", &byte) != 1)
			return false;
		u[i] = (uint8_t)byte;
		n += 2;
	}
	return !text[n];
}

static bool path_of(char *path, const char *dir, const char *group, const char *suffix)
{
	return snprintf(path, PATH_BYTES, "%s/%s.hub%s", dir, group, suffix) < PATH_BYTES;
}

/**
 * known_load - read what was remembered
 * @k: out; zeroes where nothing was, or it cannot be read
 * @dir: of the file; NULL: nothing is remembered
 * @group: its name
 */
void known_load(struct known *k, const char *dir, const char *group)
{
	char path[PATH_BYTES], hub[UUID_TEXT], uuid[UUID_TEXT];
	FILE *f;
	bool ok;

	memset(k, 0, sizeof(*k));
	if (!dir || !path_of(path, dir, group, ""))
		return;
	f = fopen(path, "re");
	if (!f) {
		if (errno != ENOENT)
			log_warn("%s: %s: it is not known which hub the group was at", path, strerror(errno));
		return;
	}
	ok = fscanf(f, "hub %36s\ngroup %36s\ngeneration %" SCNu64, hub, uuid, &k->generation) == 3 &&
	     uuid_parse(k->hub, hub) && uuid_parse(k->group, uuid);
	fclose(f);
	if (ok)
		return;
	log_warn("%s: expected lines with hub, group and generation: it is not known which hub the group was at", path);
	memset(k, 0, sizeof(*k));
}

static bool write_file(const struct known *k, const char *path)
{
	char hub[UUID_TEXT], group[UUID_TEXT];
	FILE *f = fopen(path, "we");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "hub %s\ngroup %s\ngeneration %" PRIu64 "\n", uuid_text(hub, k->hub),
		     uuid_text(group, k->group), k->generation) > 0 &&
	     !fflush(f) && !fsync(fileno(f));
	return !fclose(f) && ok;
}

/**
 * known_save - remember it
 * @k: what is known
 * @dir: of the file, made if it is not there; NULL: nothing is remembered
 * @group: its name
 */
void known_save(const struct known *k, const char *dir, const char *group)
{
	char path[PATH_BYTES], anew[PATH_BYTES];

	if (!dir || !path_of(path, dir, group, "") || !path_of(anew, dir, group, ".new"))
		return;
	mkdir(dir, 0755);
	if (!write_file(k, anew) || rename(anew, path) < 0) {
		log_warn("%s: %s: if another hub comes in this one's place, the next daemon will not know", path,
			 strerror(errno));
		unlink(anew);
	}
}
