/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads that fail: a test that uses this has a pread() of its own. */
#ifndef BADREAD_H
#define BADREAD_H

/*
 * struct bad_read - of all threads
 * @err:	with which pread() fails; 0: it does not
 * @times:	so often, then it works again
 * @failed:	so often it did
 */
struct bad_read {
	int err;
	unsigned int times, failed;
};

extern struct bad_read bad_read;

#endif /* BADREAD_H */
