/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux AIO, one context for each worker.  Requests are gathered and given to
 * the kernel together, once a turn of the loop; that they are done is told
 * through an eventfd in the worker's epoll.
 */
#ifndef NBDS_AIO_H
#define NBDS_AIO_H

#include <libaio.h>
#include <stdbool.h>

#define AIO_DEPTH	1024	/* requests that the kernel has at a time */

struct aio {
	io_context_t ctx;
	int event_fd;
	unsigned int in_kernel;
	struct iocb **queue;
	unsigned int queued, queue_size;
	/* res is what the kernel returned; negative: an errno */
	void (*done)(struct iocb *iocb, long res);
};

int aio_init(struct aio *a, void (*done)(struct iocb *iocb, long res));
void aio_exit(struct aio *a);
int aio_queue(struct aio *a, struct iocb *iocb);
void aio_flush(struct aio *a);
unsigned int aio_reap(struct aio *a);

#endif /* NBDS_AIO_H */
