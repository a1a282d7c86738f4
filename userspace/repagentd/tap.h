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
 * @free:	disconnect
 */
struct tap_ops {
	int (*run)(struct tap *tap);
	int (*volumes)(struct tap *tap);
	enum tap_want (*want)(const struct tap *tap);
	uint64_t (*deadline)(const struct tap *tap);
	int (*pause)(struct tap *tap, bool on);
	void (*free)(struct tap *tap);
};

/*
 * struct tap - what all taps have, for those who report.
 * @connected:	the hub takes the stream
 * @why:	why it does not
 * @verify:	knows which VERIFY records to compare
 */
struct tap {
	const struct tap_ops *ops;
	bool connected;
	char why[600];
	struct verify *verify;
};

struct tap *mirror_new(const struct config *cfg, struct loop *loop, struct stream *stream,
		       struct verify *verify);

#endif /* REPAGENT_TAP_H */
