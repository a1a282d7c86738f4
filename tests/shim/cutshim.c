// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cutshim.so, for LD_PRELOAD: notes what a program does to the files of one file system, for tests/unit/cutdir.h.
 *
 * What is done and what is noted must be the same, also when the program ends by force and another one finds what it
 * did: so nobody kills it from outside, but it is asked by SIGUSR2 to kill itself, and does when nothing is between the two;
 * or by a fuse, before it does so many things more.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../unit/cutdir.h"

/* From before something is done until it is noted. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static uint64_t log_end;
static dev_t device;
static uint64_t *fuse;

#define NEXT(type, name, arguments) \
	static type (*real) arguments; \
	if (!real) \
		real = (type (*) arguments)dlsym(RTLD_NEXT, name)

static void *await_end(void *arg)
{
	sigset_t set;
	int signo;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigwait(&set, &signo);
	pthread_mutex_lock(&lock);
	kill(getpid(), SIGKILL);
	return NULL;
}

/* Something is about to be done; the lock is held. */
static void burn(void)
{
	uint64_t left = fuse ? __atomic_load_n(fuse, __ATOMIC_SEQ_CST) : 0;

	/* Who set it meanwhile meant what comes next. */
	if (left && __atomic_compare_exchange_n(fuse, &left, left - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) && left == 1)
		kill(getpid(), SIGKILL);
}

static bool light(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *mem = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*fuse), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd >= 0)
		close(fd);
	fuse = mem;
	return mem != MAP_FAILED;
}

static __attribute__((constructor)) void begin(void)
{
	pthread_t thread;
	sigset_t set;
	const char *dir = getenv(CUT_DIR_ENV), *path = getenv(CUT_LOG_ENV), *fuse_path = getenv(CUT_FUSE_ENV);
	struct stat st;

	unsetenv("LD_PRELOAD");
	if (!dir || !path)
		return;
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	if (log_fd < 0 || (fuse_path && !light(fuse_path)) || stat(dir, &st) || pthread_sigmask(SIG_BLOCK, &set, NULL) ||
	    pthread_create(&thread, NULL, await_end, NULL)) {
		perror("cutshim");
		_exit(127);
	}
	device = st.st_dev;
	log_end = (uint64_t)lseek(log_fd, 0, SEEK_END);
}

static bool watched(int fd, struct stat *st)
{
	return log_fd >= 0 && fd != log_fd && !fstat(fd, st) && st->st_dev == device &&
	       (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode));
}

/* The lock is held. */
static void note(const struct cut_entry *e, const char *name, const char *other, const void *data)
{
	struct cut_entry entry = *e;
	struct iovec v[4] = {
		{ &entry, sizeof(entry) },
		{ (void *)(uintptr_t)name, name ? strlen(name) + 1 : 0 },
		{ (void *)(uintptr_t)other, other ? strlen(other) + 1 : 0 },
		{ (void *)(uintptr_t)data, data ? e->length : 0 },
	};
	size_t size = sizeof(entry) + v[1].iov_len + v[2].iov_len + v[3].iov_len;
	int err = errno;

	entry.names = (uint32_t)(v[1].iov_len + v[2].iov_len);
	if (writev(log_fd, v, 4) != (ssize_t)size) {
		perror("cutshim: the log cannot be written");
		_exit(127);
	}
	log_end += size;
	errno = err;
}

/* ---- names ---------------------------------------------------------------- */

/* The directory that a name is in: its inode, if it is watched; else 0. @last: the name's last part. */
static uint64_t dir_of(int at, const char *path, char *last)
{
	char above[PATH_MAX], copy[PATH_MAX];
	struct stat st;

	if (log_fd < 0)
		return 0;
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(last, NAME_MAX + 1, "%s", basename(copy));
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(above, sizeof(above), "%s", dirname(copy));
	return fstatat(at, above, &st, 0) || st.st_dev != device ? 0 : st.st_ino;
}

static int do_open(const char *which, int at, const char *path, int flags, mode_t mode)
{
	int (*real)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, which);
	char name[NAME_MAX + 1];
	uint64_t dir = flags & (O_CREAT | O_TRUNC) ? dir_of(at, path, name) : 0;
	bool there;
	struct stat st;
	int fd;

	if (!dir)
		return real(at, path, flags, mode);
	pthread_mutex_lock(&lock);
	there = !faccessat(at, path, F_OK, 0);
	if (!there || flags & O_TRUNC)
		burn();
	fd = real(at, path, flags, mode);
	if (fd >= 0 && watched(fd, &st)) {
		if (!there)
			note(&(struct cut_entry){ .what = CUT_CREATE, .inode = st.st_ino, .dir = dir }, name, NULL, NULL);
		else if (flags & O_TRUNC)
			note(&(struct cut_entry){ .what = CUT_TRUNCATE, .inode = st.st_ino }, NULL, NULL, NULL);
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

#define OPEN(name, which, parameters, at) \
	int name parameters; \
	int name parameters \
	{ \
		mode_t mode = 0; \
		va_list ap; \
		va_start(ap, flags); \
		if (flags & (O_CREAT | O_TMPFILE)) \
			mode = va_arg(ap, mode_t); \
		va_end(ap); \
		return do_open(which, at, path, flags, mode); \
	}

OPEN(open, "openat", (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, "openat64", (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, "openat", (int dir, const char *path, int flags, ...), dir)
OPEN(openat64, "openat64", (int dir, const char *path, int flags, ...), dir)

int mkdirat(int at, const char *path, mode_t mode)
{
	NEXT(int, "mkdirat", (int, const char *, mode_t));
	char name[NAME_MAX + 1];
	struct stat st;
	uint64_t dir = dir_of(at, path, name);
	int r;

	pthread_mutex_lock(&lock);
	if (dir)
		burn();
	r = real(at, path, mode);
	if (!r && dir && !fstatat(at, path, &st, 0))
		note(&(struct cut_entry){ .what = CUT_MKDIR, .inode = st.st_ino, .dir = dir }, name, NULL, NULL);
	pthread_mutex_unlock(&lock);
	return r;
}

int renameat(int from, const char *old, int to, const char *new)
{
	NEXT(int, "renameat", (int, const char *, int, const char *));
	char name[NAME_MAX + 1], other[NAME_MAX + 1];
	uint64_t dir = dir_of(from, old, name);
	int r;

	if (dir && dir != dir_of(to, new, other)) {
		fprintf(stderr, "cutshim: '%s' goes to another directory: that is not known here\n", old);
		_exit(127);
	}
	pthread_mutex_lock(&lock);
	if (dir)
		burn();
	r = real(from, old, to, new);
	if (!r && dir)
		note(&(struct cut_entry){ .what = CUT_RENAME, .dir = dir }, name, other, NULL);
	pthread_mutex_unlock(&lock);
	return r;
}

int unlinkat(int at, const char *path, int flags)
{
	NEXT(int, "unlinkat", (int, const char *, int));
	char name[NAME_MAX + 1];
	uint64_t dir = dir_of(at, path, name);
	int r;

	pthread_mutex_lock(&lock);
	if (dir)
		burn();
	r = real(at, path, flags);
	if (!r && dir)
		note(&(struct cut_entry){ .what = CUT_UNLINK, .dir = dir }, name, NULL, NULL);
	pthread_mutex_unlock(&lock);
	return r;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

/* ---- contents -------------------------------------------------------------- */

/* Begin something to a file: return whether it is watched; then the lock is held until end_range(). */
static bool begin_range(int fd, struct stat *st)
{
	if (!watched(fd, st))
		return false;
	pthread_mutex_lock(&lock);
	burn();
	return true;
}

static void end_range(const struct stat *st, bool done, enum cut_what what, uint64_t offset, uint64_t length,
		      const void *data)
{
	if (done)
		note(&(struct cut_entry){ .what = what, .inode = st->st_ino, .offset = offset, .length = length }, NULL, NULL,
		     data);
	pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
	NEXT(ssize_t, "pwrite64", (int, const void *, size_t, off64_t));
	struct stat st;
	bool is = begin_range(fd, &st);
	ssize_t n = real(fd, buf, len, offset);

	if (is)
		end_range(&st, n > 0, CUT_WRITE, (uint64_t)offset, (uint64_t)n, buf);
	return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return pwrite64(fd, buf, len, offset);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	NEXT(ssize_t, "write", (int, const void *, size_t));
	struct stat st;
	bool is = begin_range(fd, &st);
	ssize_t n = real(fd, buf, len);

	if (is)
		end_range(&st, n > 0, CUT_WRITE, (uint64_t)(lseek(fd, 0, SEEK_CUR) - n), (uint64_t)n, buf);
	return n;
}

int ftruncate64(int fd, off64_t size)
{
	NEXT(int, "ftruncate64", (int, off64_t));
	struct stat st;
	bool is = begin_range(fd, &st);
	int r = real(fd, size);

	if (is)
		end_range(&st, !r, CUT_TRUNCATE, (uint64_t)size, 0, NULL);
	return r;
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
	NEXT(int, "fallocate64", (int, int, off64_t, off64_t));
	struct stat st;
	bool is = begin_range(fd, &st);
	int r = real(fd, mode, offset, len);

	if (is)
		end_range(&st, !r && mode & FALLOC_FL_PUNCH_HOLE, CUT_PUNCH, (uint64_t)offset, (uint64_t)len, NULL);
	return r;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	return fallocate64(fd, mode, offset, len);
}

/* What comes while it works may not be synced. */
static int synced(int fd, int (*real)(int))
{
	struct stat st;
	uint64_t end;
	int r;

	if (!begin_range(fd, &st))
		return real(fd);
	end = log_end;
	pthread_mutex_unlock(&lock);
	r = real(fd);
	pthread_mutex_lock(&lock);
	end_range(&st, !r, CUT_SYNC, end, 0, NULL);
	return r;
}

int fdatasync(int fd)
{
	NEXT(int, "fdatasync", (int));

	return synced(fd, real);
}

int fsync(int fd)
{
	NEXT(int, "fsync", (int));

	return synced(fd, real);
}
