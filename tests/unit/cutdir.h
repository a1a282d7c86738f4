/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a power cut leaves of a directory. A program under tests/shim/cutshim.c notes all that it does to the files of
 * one file system, and when it syncs what; from that, and what was there before, a directory is made as the power's end
 * may have left it: what was synced, and of the rest any sectors, in any order, and of each directory's changes the
 * first few. The program may have ended by SIGUSR2, and been started again, time and again before.
 */
#ifndef CUTDIR_H
#define CUTDIR_H

#include <stdbool.h>
#include <stdint.h>

#define CUT_DIR_ENV	"CUT_DIR"	/* a directory: its file system is watched */
#define CUT_LOG_ENV	"CUT_LOG"	/* a file, on another file system */
/*
 * A file that holds a uint64_t; may be left out. Each write, sync, and change of a directory takes one away from it, and the one
 * that makes it 0 is not done: the program ends there. 0: nothing happens.
 */
#define CUT_FUSE_ENV	"CUT_FUSE"

enum cut_what { CUT_CREATE, CUT_MKDIR, CUT_RENAME, CUT_UNLINK, CUT_WRITE, CUT_TRUNCATE, CUT_PUNCH, CUT_SYNC };

/*
 * struct cut_entry - of the log; behind it are the names, each with its NUL, then the data
 * @inode:	whose; of CREATE and MKDIR the new one's
 * @dir:	directory, of what has a name; of RENAME the names are the old and the new one
 * @offset:	of SYNC: where the log ended when it was asked for: what comes behind may not be synced
 * @length:	of WRITE: that of the data. TRUNCATE: the size is in @offset
 */
struct cut_entry {
	uint32_t what;
	uint32_t names;
	uint64_t inode, dir;
	uint64_t offset, length;
};

struct cutdir;

struct cutdir *cutdir_begin(const char *dir);
void cutdir_end(struct cutdir *c, const char *log, unsigned int seed);

#endif /* CUTDIR_H */
