/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one epoll loop: who is called for which file descriptor. */
#ifndef REPAGENT_LOOP_H
#define REPAGENT_LOOP_H

#include <stdint.h>

/* struct watch - stands in epoll_event.data.ptr. */
struct watch {
	void (*ready)(struct watch *watch, uint32_t events);
};

/*
 * struct loop - what the parts share.
 * @epfd:	epoll
 * @now:	CLOCK_MONOTONIC in ns, taken once per turn
 */
struct loop {
	int epfd;
	uint64_t now;
};

#endif /* REPAGENT_LOOP_H */
