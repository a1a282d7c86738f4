// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file DIR/GROUP.back, a line for each volume that `repctl fail-back` writes to, or has written to:
 *
 *	disk0 begun
 *	disk1 had 5b0f6a3c11d2e4f7:1841 has 9c3d51aa00e1b2c4:77
 *
 * A volume of the second kind was, byte for byte, what the hub had at the position behind `has`, and all that was written to it since
 * is in its write-intent map, if that still rests on what is behind `had`: bits are cleared on the strength of a later
 * acknowledgement alone, and then the map says so (Documentation/map.md, D). The file goes when the hub has acknowledged something
 * of the group's next life.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/log.h"
#include "../common/uri.h"
#include "back.h"

#define PATH_BYTES	512

static bool path_of(char *path, const char *dir, const char *group, const char *suffix)
{
	return snprintf(path, PATH_BYTES, "%s/%s.back%s", dir, group, suffix) < PATH_BYTES;
}

static bool parse(struct back_volume *v, const char *line)
{
	int used = 0;

	memset(v, 0, sizeof(*v));
	if (sscanf(line, "%31s begun%n", v->name, &used) == 1 && used && !strcmp(line + used, "\n"))
		return uri_name_ok(v->name);
	v->ended = sscanf(line, "%31s had %16" SCNx64 ":%" SCNu64 " has %16" SCNx64 ":%" SCNu64 "%n", v->name, &v->had_incarnation,
			  &v->had_seq, &v->has_incarnation, &v->has_seq, &used) == 5 && used && !strcmp(line + used, "\n");
	return v->ended && uri_name_ok(v->name);
}

/**
 * back_load - read what was noted
 * @b: out; what of it could be read
 * @dir: of the file; NULL: nothing is remembered
 * @group: its name
 *
 * Return: whether that is all; else errno says why not, and the log what.
 */
bool back_load(struct back *b, const char *dir, const char *group)
{
	char path[PATH_BYTES], line[160];
	FILE *f;
	int err;

	b->nr = 0;
	if (!dir || !path_of(path, dir, group, ""))
		return true;
	f = fopen(path, "re");
	if (!f && errno == ENOENT)
		return true;
	while (f && b->nr < REPAGENT_MAX_VOLUMES && fgets(line, sizeof(line), f)) {
		if (!parse(&b->volume[b->nr], line)) {
			log_warn("%s: expected lines such as 'disk0 begun', and found '%.*s'", path, (int)strcspn(line, "\n"), line);
			fclose(f);
			errno = EBADMSG;
			return false;
		}
		b->nr++;
	}
	if (f && !ferror(f)) {
		fclose(f);
		return true;
	}
	err = errno;
	log_warn("%s: %s", path, strerror(err));
	if (f)
		fclose(f);
	errno = err;
	return false;
}

static bool write_file(const struct back *b, const char *path)
{
	const struct back_volume *v;
	FILE *f = fopen(path, "we");
	bool ok = f;

	if (!f)
		return false;
	for (v = b->volume; v < b->volume + b->nr && ok; v++)
		ok = (v->ended ? fprintf(f, "%s had %016" PRIx64 ":%" PRIu64 " has %016" PRIx64 ":%" PRIu64 "\n", v->name,
					 v->had_incarnation, v->had_seq, v->has_incarnation, v->has_seq) :
				 fprintf(f, "%s begun\n", v->name)) > 0;
	ok = ok && !fflush(f) && !fsync(fileno(f));
	return !fclose(f) && ok;
}

/* What a directory has is durable. */
static bool sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && !fsync(fd);

	if (fd >= 0)
		close(fd);
	return ok;
}

/**
 * back_note - say something of a volume
 * @v: what is so from now on
 * @dir: of the file, made if it is not there; NULL: nothing is remembered
 * @group: its name
 *
 * Return: whether it is durable; else errno says why not.
 */
bool back_note(const struct back_volume *v, const char *dir, const char *group)
{
	char path[PATH_BYTES], anew[PATH_BYTES];
	struct back b;
	unsigned int i;

	errno = ENOENT;
	if (!dir || !path_of(path, dir, group, "") || !path_of(anew, dir, group, ".new"))
		return false;
	mkdir(dir, 0755);
	if (!back_load(&b, dir, group))
		return false;
	for (i = 0; i < b.nr && strcmp(b.volume[i].name, v->name); i++)
		;
	errno = ENOSPC;
	if (i == REPAGENT_MAX_VOLUMES)
		return false;
	b.volume[i] = *v;
	b.nr += i == b.nr;
	return write_file(&b, anew) && !rename(anew, path) && sync_dir(dir);
}

static const struct back_volume *find(const struct back *b, const char *volume)
{
	const struct back_volume *v;

	for (v = b->volume; v < b->volume + b->nr; v++)
		if (!strcmp(v->name, volume))
			return v;
	return NULL;
}

/**
 * back_ended - is a volume what the hub had, and not what it was, or half of each?
 * @b: what is noted
 * @volume: its name
 *
 * Return: also true if nothing is noted at all.
 */
bool back_ended(const struct back *b, const char *volume)
{
	const struct back_volume *v = find(b, volume);

	return !b->nr || (v && v->ended);
}

/**
 * back_unfinished - is there a volume that is half of what it was, and half of what the hub had?
 * @b: what is noted
 *
 * Return: its name, whether it has a device now or not; NULL: there is none.
 */
const char *back_unfinished(const struct back *b)
{
	const struct back_volume *v;

	for (v = b->volume; v < b->volume + b->nr; v++)
		if (!v->ended)
			return v->name;
	return NULL;
}

/**
 * back_forget - the hub takes what this host sends, and what was noted is over
 * @b: what is noted
 * @dir: of the file
 * @group: its name
 */
void back_forget(struct back *b, const char *dir, const char *group)
{
	char path[PATH_BYTES];

	if (b->nr && dir && path_of(path, dir, group, "") && unlink(path) && errno != ENOENT)
		log_warn("%s: %s", path, strerror(errno));
	b->nr = 0;
}

/**
 * back_rests - does the hub have what the write-intent map of a volume does not list, since it was brought up to date?
 * @b: what is noted
 * @v: the volume, and what its map says
 * @incarnation: the hub's position: has it just what the volume had then,
 * @seq: ... and nothing behind that?
 */
bool back_rests(const struct back *b, const struct repagent_volume_info *v, uint64_t incarnation, uint64_t seq)
{
	const struct back_volume *n = find(b, v->name);

	return n && n->ended && v->map_incarnation == n->had_incarnation && v->map_seq <= n->had_seq &&
	       n->has_incarnation == incarnation && n->has_seq == seq;
}
