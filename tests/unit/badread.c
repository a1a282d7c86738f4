// SPDX-License-Identifier: GPL-2.0-or-later
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "badread.h"

struct bad_read bad_read;

/* It goes before libc's. */
ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	if (bad_read.err && bad_read.failed < bad_read.times) {
		bad_read.failed++;
		errno = bad_read.err;
		return -1;
	}
	return syscall(SYS_pread64, fd, buf, len, offset);
}
