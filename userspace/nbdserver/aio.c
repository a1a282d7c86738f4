// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aio.h"

/**
 * aio_init - make a context
 * @a: it
 * @done: called by aio_reap() and aio_flush() for each request that is done
 *
 * Return: 0 or a negative errno; -EAGAIN means that fs.aio-max-nr is reached.
 */
int aio_init(struct aio *a, void (*done)(struct iocb *iocb, long res))
{
	int err;

	memset(a, 0, sizeof(*a));
	a->done = done;
	a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->event_fd < 0)
		return -errno;
	err = io_setup(AIO_DEPTH, &a->ctx);
	if (err < 0) {
		close(a->event_fd);
		a->event_fd = -1;
	}
	return err;
}

/**
 * aio_exit - end a context that has no requests
 * @a: it
 */
void aio_exit(struct aio *a)
{
	if (a->event_fd < 0)
		return;
	io_destroy(a->ctx);
	close(a->event_fd);
	free(a->queue);
}

/**
 * aio_queue - take a request along at the next aio_flush()
 * @a: the context
 * @iocb: prepared; it stays where it is until it is done
 *
 * Return: 0 or -ENOMEM.
 */
int aio_queue(struct aio *a, struct iocb *iocb)
{
	if (a->queued == a->queue_size) {
		unsigned int size = a->queue_size ? 2 * a->queue_size : 128;
		struct iocb **queue = realloc(a->queue, size * sizeof(*queue));

		if (!queue)
			return -ENOMEM;
		a->queue = queue;
		a->queue_size = size;
	}
	io_set_eventfd(iocb, a->event_fd);
	a->queue[a->queued++] = iocb;
	return 0;
}

/**
 * aio_flush - give the kernel what is queued, as much as it takes
 * @a: the context
 */
void aio_flush(struct aio *a)
{
	unsigned int done = 0, n;
	int r;

	if (!a->queued)
		return;
	while (done < a->queued && a->in_kernel < AIO_DEPTH) {
		n = a->queued - done;
		if (n > AIO_DEPTH - a->in_kernel)
			n = AIO_DEPTH - a->in_kernel;
		r = io_submit(a->ctx, (long)n, a->queue + done);
		if (r == -EAGAIN && a->in_kernel)
			break;		/* what is under way makes room */
		if (r <= 0) {		/* that was about the first one */
			a->done(a->queue[done], r ? r : -EIO);
			done++;
			continue;
		}
		done += (unsigned int)r;
		a->in_kernel += (unsigned int)r;
	}
	a->queued -= done;
	memmove(a->queue, a->queue + done, a->queued * sizeof(*a->queue));
}

/**
 * aio_reap - take what is done, without waiting
 * @a: the context
 *
 * Return: how many.
 */
unsigned int aio_reap(struct aio *a)
{
	struct timespec zero = { 0, 0 };
	struct io_event events[128];
	unsigned int total = 0;
	int i, n;

	if (!a->in_kernel)
		return 0;
	do {
		n = io_getevents(a->ctx, 0, 128, events, &zero);
		for (i = 0; i < n; i++)
			a->done(events[i].obj, (long)events[i].res);
		if (n > 0) {
			a->in_kernel -= (unsigned int)n;
			total += (unsigned int)n;
		}
	} while (n == 128);
	return total;
}
