/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may wait, such as an ioctl that waits for a disk, is done in a process
 * of its own, which tells its result through a pipe.
 */
#ifndef REPAGENT_JOBS_H
#define REPAGENT_JOBS_H

#include <stdbool.h>
#include <sys/types.h>

#include "../common/dmdev.h"
#include "loop.h"

#define JOBS_MAX	8	/* at a time */

/* struct job_result - what comes back through the pipe. */
struct job_result {
	enum dmdev_result result;
	enum dmdev_done done;
	struct dmdev dev;
	char error[DMDEV_ERROR_MAX];
};

/*
 * struct job - one of them, in a table; the caller sets what has no other owner.
 * @fd:		the pipe; -1: the place is free
 * @work:	runs in the process
 * @done:	runs in the daemon, with @owner; the place is free afterwards
 * @command, @volume: what it does, and to which volume; "" for all
 * @table, @name: of start-protect; the latter may be empty
 * @arg:	the owner's
 */
struct job {
	struct watch watch;
	struct jobs *jobs;
	int fd;
	size_t got;
	struct job_result result;
	void (*work)(const struct job *job, struct job_result *result);
	void (*done)(void *owner, struct job *job);
	const char *command;
	char volume[REPAGENT_NAME_MAX + 1];
	struct dmdev_table table;
	char name[DMDEV_NAME_MAX];
	void *arg;
};

struct jobs {
	struct loop *loop;
	void *owner;
	struct job job[JOBS_MAX];
};

void jobs_init(struct jobs *jobs, struct loop *loop, void *owner);
const struct job *jobs_busy(const struct jobs *jobs, const char *volume);
struct job *jobs_new(struct jobs *jobs);
bool job_start(struct job *job);

#endif /* REPAGENT_JOBS_H */
