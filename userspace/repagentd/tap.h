/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tap takes the records of a stream to a hub and acknowledges what is
 * durable there.
 */
#ifndef REPAGENT_TAP_H
#define REPAGENT_TAP_H

#include "config.h"
#include "loop.h"
#include "stream.h"
#include "verify.h"

struct json_object;
struct tap;

/* What a tap waits for. */
enum tap_want {
	TAP_NOTHING,		/* for the hub: no record could be taken */
	TAP_RECORD,		/* for the next record */
	TAP_RECORDS,		/* for records, but replies come as well: no hurry */
};

/*
 * struct tap_ops
 * @run:	do all that can be done now; 0 or a negative errno that is the
 *		daemon's end
 * @volumes:	the stream's table of volumes was refreshed; returns as @run
 * @want:	see above
 * @deadline:	when to call @run if nothing else happens, ns
 * @pause:	close the connections and tell the kernel, or go on; 0 or a negative errno
 * @marked:	what tap.mark_dirty began is done; or has failed, for a reason.  NULL:
 *		it is never begun
 * @accept:	the operator has all read again: a hub that is refused because it is
 *		another one may be taken for it; may be NULL
 * @rejoin:	the operator says that this generation of the hub is ours: false, and why
 *		not, if that cannot be taken, or our disks are old and it is not forced; NULL: there are no generations
 * @describe:	add what is to be known of the hub to the status; may be NULL
 * @free:	disconnect
 */
struct tap_ops {
	int (*run)(struct tap *tap);
	int (*volumes)(struct tap *tap);
	enum tap_want (*want)(const struct tap *tap);
	uint64_t (*deadline)(const struct tap *tap);
	int (*pause)(struct tap *tap, bool on);
	void (*marked)(struct tap *tap, const char *error);
	void (*accept)(struct tap *tap);
	bool (*rejoin)(struct tap *tap, uint64_t generation, bool force, const char **why);
	void (*describe)(const struct tap *tap, struct json_object *o);
	void (*free)(struct tap *tap);
};

/*
 * struct tap - what all taps have, for those who report.
 * @kind:	a word
 * @uri:	of the hub; empty where each volume has its own
 * @connected:	the hub takes the stream
 * @fenced:	when it was asked last it said that it takes that of another host
 * @why:	why it does not
 * @verify:	knows which VERIFY records to compare
 * @mark_dirty:	of whoever made the tap: have a volume, or with NULL all, read
 *		again as a whole.  Return whether it began: ops.marked tells the end
 * @owner:	for mark_dirty
 */
struct tap {
	const struct tap_ops *ops;
	const char *kind;
	char uri[URI_MAX];
	bool connected, fenced;
	char why[600];
	struct verify *verify;
	bool (*mark_dirty)(void *owner, const char *volume);
	void *owner;
};

struct tap *mirror_new(const struct config *cfg, struct loop *loop, struct stream *stream,
		       struct verify *verify);
struct tap *logtap_new(const struct config *cfg, struct loop *loop, struct stream *stream,
		       struct verify *verify);

#endif /* REPAGENT_TAP_H */
