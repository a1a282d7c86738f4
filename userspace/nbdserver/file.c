// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A file or block device as an export.
 *
 * Reads, writes and flushes go through the worker's AIO context, so that a slow
 * disk has as much to do at a time as the clients ask for.  The kernel has no
 * asynchronous fallocate(): TRIM and ZERO are done by a thread, one for all.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"

_Static_assert(sizeof(struct iocb) <= sizeof(((struct nbds_request *)0)->scratch),
	       "a request has room for its iocb");

static const char *const file_contexts[] = { "base:allocation" };

static struct iocb *iocb_of(struct nbds_request *rq)
{
	return (struct iocb *)(void *)rq->scratch;
}

/**
 * nbds_file_open - open a file or block device
 * @f: out
 * @path: its path
 * @writable: for writing too
 * @direct: whether to go past the page cache
 * @reason: a sentence if that fails
 * @size: of @reason
 *
 * Return: whether it is open.
 */
bool nbds_file_open(struct nbds_file *f, const char *path, bool writable,
		    enum nbds_direct direct, char *reason, size_t size)
{
	int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK, sector = 0;
	struct stat st;
	off_t end;

	memset(f, 0, sizeof(*f));
	f->fd = open(path, flags | (direct != NBDS_DIRECT_NEVER ? O_DIRECT : 0));
	f->align = direct != NBDS_DIRECT_NEVER ? NBDS_ALIGN : 1;
	if (f->fd < 0 && errno == EINVAL && direct == NBDS_DIRECT_IF_POSSIBLE) {
		f->fd = open(path, flags);
		f->align = 1;
	}
	if (f->fd < 0) {
		snprintf(reason, size, "%s cannot be opened: %s", path, strerror(errno));
		return false;
	}
	if (fstat(f->fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
		snprintf(reason, size, "%s is neither a file nor a block device", path);
		close(f->fd);
		return false;
	}
	f->block_device = S_ISBLK(st.st_mode);
	if (f->block_device && f->align > 1 && !ioctl(f->fd, BLKSSZGET, &sector) && sector > 0)
		f->align = (uint32_t)sector;
	end = lseek(f->fd, 0, SEEK_END);
	if (end < 0 || f->align > NBDS_ALIGN) {
		snprintf(reason, size, "%s: %s", path, end < 0 ? strerror(errno) :
			 "its sectors are larger than 4096 bytes");
		close(f->fd);
		return false;
	}
	f->size = (uint64_t)end;
	/* Direct writes cannot end within a sector. */
	if (writable)
		f->size -= f->size % f->align;
	return true;
}

/**
 * nbds_file_info - what a file is as an export
 * @f: it
 * @writable: as given to nbds_file_open()
 * @info: filled
 */
void nbds_file_info(const struct nbds_file *f, bool writable, struct nbds_info *info)
{
	info->size = f->size;
	/* A read may be of any size: the buffer has room for what is around. */
	info->min_block = writable ? f->align : 1;
	info->preferred_block = NBDS_ALIGN;
	info->read_only = !writable;
	info->can_flush = true;
	info->can_fua = writable;
	info->can_trim = writable;
	info->can_zero = writable;
	info->can_fast_zero = writable;
	info->multi_conn = true;
	info->nr_contexts = 1;
	info->contexts = file_contexts;
}

/**
 * nbds_file_close - close it
 * @f: without a request under way
 */
void nbds_file_close(struct nbds_file *f)
{
	close(f->fd);
}

/* ---- the thread for what would make a worker wait ------------------------ */

struct job {
	struct job *next;
	int fd;
};

_Static_assert(sizeof(struct job) <= sizeof(((struct nbds_request *)0)->scratch),
	       "a request has room for its job");

static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;	/* guards the list */
static pthread_cond_t jobs_more = PTHREAD_COND_INITIALIZER;
static struct job *jobs, **jobs_end = &jobs;
static pthread_once_t jobs_once = PTHREAD_ONCE_INIT;
static bool jobs_failed;

static struct nbds_request *request_of(struct job *j)
{
	return (struct nbds_request *)(void *)((uint8_t *)j - offsetof(struct nbds_request, scratch));
}

/* With zeroes, where the file system knows nothing faster. */
static int write_zeroes(int fd, uint64_t offset, uint64_t length)
{
	void *zeroes;
	ssize_t n;
	int err = 0;

	if (posix_memalign(&zeroes, NBDS_ALIGN, NBDS_PIECE_MAX))
		return ENOMEM;
	memset(zeroes, 0, NBDS_PIECE_MAX);
	while (length && !err) {
		n = pwrite(fd, zeroes, length < NBDS_PIECE_MAX ? length : NBDS_PIECE_MAX,
			   (off_t)offset);
		if (n < 0 && errno != EINTR)
			err = errno;
		if (n > 0) {
			offset += (uint64_t)n;
			length -= (uint64_t)n;
		}
	}
	free(zeroes);
	return err;
}

static int fallocate_it(int fd, const struct nbds_request *rq)
{
	int mode = FALLOC_FL_KEEP_SIZE, err = 0;

	mode |= rq->op == NBDS_ZERO && rq->no_hole ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
	if (rq->length && fallocate(fd, mode, (off_t)rq->offset, rq->length) < 0)
		err = errno;
	if (err == EOPNOTSUPP && rq->op == NBDS_TRIM)
		err = 0;	/* it is advice */
	if (err == EOPNOTSUPP && !rq->fast)
		err = write_zeroes(fd, rq->offset, rq->length);
	if (!err && rq->fua && fdatasync(fd) < 0)
		err = errno;
	return err;
}

static void *jobs_thread(void *arg)
{
	struct nbds_request *rq;
	struct job *j;
	int fd, err;

	(void)arg;
	for (;;) {
		pthread_mutex_lock(&jobs_lock);
		while (!jobs)
			pthread_cond_wait(&jobs_more, &jobs_lock);
		j = jobs;
		jobs = j->next;
		if (!jobs)
			jobs_end = &jobs;
		pthread_mutex_unlock(&jobs_lock);
		rq = request_of(j);
		fd = j->fd;
		if (rq->op == NBDS_FLUSH)
			err = fdatasync(fd) < 0 ? errno : 0;
		else
			err = fallocate_it(fd, rq);
		nbds_complete(rq, err);
	}
	return NULL;
}

static void jobs_start(void)
{
	pthread_t thread;

	jobs_failed = pthread_create(&thread, NULL, jobs_thread, NULL) != 0;
	if (!jobs_failed)
		pthread_detach(thread);
}

static void job_queue(int fd, struct nbds_request *rq)
{
	struct job *j = (struct job *)(void *)rq->scratch;

	pthread_once(&jobs_once, jobs_start);
	if (jobs_failed) {
		nbds_complete(rq, ENOMEM);
		return;
	}
	j->next = NULL;
	j->fd = fd;
	pthread_mutex_lock(&jobs_lock);
	*jobs_end = j;
	jobs_end = &j->next;
	pthread_cond_signal(&jobs_more);
	pthread_mutex_unlock(&jobs_lock);
}

/* ---- requests ------------------------------------------------------------ */

/**
 * file_aio_done - the kernel is done with a request
 * @iocb: its
 * @res: bytes, or a negative errno
 *
 * Context: the worker's thread, from aio_reap() or aio_flush().
 */
void file_aio_done(struct iocb *iocb, long res)
{
	struct nbds_request *rq = request_of((struct job *)(void *)iocb);
	uint64_t need = rq->length;

	if (rq->op == NBDS_FLUSH && res == -EINVAL) {	/* the file system cannot, so */
		job_queue((int)iocb->aio_fildes, rq);
		return;
	}
	if (rq->op == NBDS_READ)
		need += rq->offset - (uint64_t)iocb->u.c.offset;
	if (res >= 0 && rq->op != NBDS_FLUSH && (uint64_t)res < need) {
		snprintf(rq->reason, sizeof(rq->reason),
			 "only %ld of %llu bytes: the file or device has shrunk", res,
			 (unsigned long long)need);
		res = -EIO;
	}
	nbds_complete(rq, res < 0 ? (int)-res : 0);
}

/* Data and holes, as the file system tells them. */
static void file_status(const struct nbds_file *f, struct nbds_request *rq)
{
	uint64_t at = rq->offset, end = at + rq->length, next;
	bool more = true;
	off_t data, hole;

	if (f->block_device) {
		nbds_extent(rq, rq->length, 0);
		nbds_complete(rq, 0);
		return;
	}
	while (at < end && more) {
		data = lseek(f->fd, (off_t)at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			data = (off_t)at;	/* not known: data */
		next = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
		if (next > at) {
			more = nbds_extent(rq, next - at, NBD_STATE_HOLE | NBD_STATE_ZERO);
		} else {
			hole = lseek(f->fd, (off_t)at, SEEK_HOLE);
			next = hole <= (off_t)at || (uint64_t)hole > end ? end : (uint64_t)hole;
			more = nbds_extent(rq, next - at, 0);
		}
		at = next;
	}
	nbds_complete(rq, 0);
}

/**
 * nbds_file_submit - carry a request out; for use as, or in, nbds_ops.submit()
 * @f: the file
 * @rq: the request; its scratch is used, and context 0 is base:allocation
 */
void nbds_file_submit(struct nbds_file *f, struct nbds_request *rq)
{
	struct iocb *iocb = iocb_of(rq);
	uint64_t start, end;
	int err;

	switch (rq->op) {
	case NBDS_READ:
		start = rq->offset - rq->offset % f->align;
		end = rq->offset + rq->length + f->align - 1;
		end -= end % f->align;
		io_prep_pread(iocb, f->fd, (uint8_t *)rq->buf - (rq->offset - start),
			      end - start, (long long)start);
		break;
	case NBDS_WRITE:
		io_prep_pwrite(iocb, f->fd, rq->buf, rq->length, (long long)rq->offset);
		if (rq->fua)
			iocb->aio_rw_flags = RWF_DSYNC;
		break;
	case NBDS_FLUSH:
		io_prep_fdsync(iocb, f->fd);
		break;
	case NBDS_STATUS:
		file_status(f, rq);
		return;
	default:
		job_queue(f->fd, rq);
		return;
	}
	err = aio_queue(server_aio(), iocb);
	if (err)
		nbds_complete(rq, -err);
}
