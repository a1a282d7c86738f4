/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The group's own repagent-reader: started, watched, started again. */
#ifndef REPAGENT_SUPERVISE_H
#define REPAGENT_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../common/conf.h"
#include "loop.h"

/*
 *	state	  means				leaves it by	      to
 *	STOPPED	  there is none			reader_start()	      STARTING
 *	STARTING  it does not listen yet	READY=1		      RUNNING
 *						its end, if it stays  WAITING, else STOPPED
 *						reader_stop()	      STOPPING
 *	RUNNING	  it listens			its end		      WAITING
 *						reader_stop()	      STOPPING
 *	WAITING	  for the next start		timer		      STARTING
 *						reader_stop()	      STOPPED
 *	STOPPING  it was told to end		its end		      STOPPED
 *
 * Who does not leave STARTING or STOPPING in time is killed.
 */
enum reader_state {
	READER_STOPPED,
	READER_STARTING,
	READER_RUNNING,
	READER_WAITING,
	READER_STOPPING,
	READER_NR_STATES
};

/*
 * struct reader
 * @notify_watch, @stderr_watch: where it tells of its state, and what it writes
 * @conf:	its options: [reader] alone counts
 * @stay:	it was ready once, or the configuration asks for it: start it again
 * @deadline:	of the state, ns; UINT64_MAX: none
 * @since:	of the state, ns
 * @pause:	before the next start, ns
 * @line, @len:	a line that is not complete
 * @why:	the last line that it wrote
 * @status:	what it said to be doing
 * @changed:	called with @owner when the state is another one
 */
struct reader {
	struct watch notify_watch;
	struct watch stderr_watch;
	struct loop *loop;
	const char *group;
	struct conf conf;
	enum reader_state state;
	bool stay;
	bool killed;
	pid_t pid;
	int notify_fd;
	int stderr_fd;
	unsigned int restarts;
	uint64_t deadline;
	uint64_t since;
	uint64_t pause;
	size_t len;
	char line[512];
	char why[512];
	char status[128];
	void (*changed)(void *owner, enum reader_state before);
	void *owner;
};

void reader_init(struct reader *r, struct loop *loop, const char *group,
		 void (*changed)(void *owner, enum reader_state before), void *owner);
bool reader_start(struct reader *r, bool stay);
void reader_stop(struct reader *r);
void reader_run(struct reader *r);
void reader_reaped(struct reader *r, pid_t pid, int status);
void reader_free(struct reader *r);
const char *reader_state_name(enum reader_state state);

#endif /* REPAGENT_SUPERVISE_H */
