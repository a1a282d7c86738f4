/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One NBD connection: libnbd on the epoll loop. */
#ifndef REPAGENT_CONN_H
#define REPAGENT_CONN_H

#include <libnbd.h>

#include "config.h"
#include "loop.h"

/*
 *	CLOSED ──open──► CONNECTING ──handshake──► SETTLING ──flushed──► READY
 *
 * Whatever goes wrong sets conn.fault and leaves the state as it is; the owner
 * closes the connection when it sees fit.
 */
enum conn_state {
	CONN_CLOSED,
	CONN_CONNECTING,
	CONN_SETTLING,		/* a first FLUSH is under way, but for a rephub's log */
	CONN_READY,
};

enum conn_fault {
	FAULT_NONE,
	FAULT_LOST,		/* no connection, or a request failed */
	FAULT_REFUSED,		/* the server will not have the stream */
	FAULT_FULL,		/* it has no space */
	FAULT_FENCED,		/* it takes the stream of another host, or of nobody */
};

enum conn_op {
	OP_WRITE,
	OP_ZERO,
	OP_TRIM,
	OP_READ,
	OP_FLUSH,
	OP_PROBE,		/* a flush of our own: settling, heartbeat */
};

struct conn;

struct conn_request {
	struct conn *conn;
	uint64_t since;
	enum conn_op op;
	unsigned int tag;
};

/*
 * struct conn
 * @uri:	where it leads
 * @described:	the server's description of the export is wanted
 * @description: ... which is this
 * @dead:	nothing will come from it any more
 * @corked:	what is sent waits for conn_update()
 * @uncorkable:	it is no TCP
 * @encrypted:	TLS is spoken
 * @slow:	conn_look() found nothing: no reply came within a millisecond
 * @lowat:	bytes of replies that make the socket readable
 * @why:	the fault in words, with a remedy where there is one
 * @size:	of the export, bytes
 * @max_request: bytes
 * @frame_max:	of a rephub's log: bytes of its largest request; else 0
 * @zeroes:	the server has WRITE_ZEROES
 * @no_zeroes:	it said so, but failed it; outlives the connection
 * @bytes:	payload in flight
 * @used:	when something was sent last, ns
 * @replied:	called for each answered request but probes; @error is the errno of a
 *		read or trim, whose failure is no fault
 */
struct conn {
	struct watch watch;
	struct loop *loop;
	const struct config *cfg;
	struct nbd_handle *nbd;
	enum conn_state state;
	enum conn_fault fault;
	bool described;
	bool dead;
	bool corked;
	bool uncorkable;
	bool encrypted;
	bool slow;
	int lowat;
	char why[512];
	char uri[URI_MAX];
	char description[128];

	uint64_t size;
	uint64_t max_request;
	uint64_t frame_max;
	bool zeroes, no_zeroes, trims, flushes;

	struct inflight inflight;
	struct conn_request request[INFLIGHT_MAX];
	uint64_t bytes;
	uint64_t used;
	uint32_t interest;

	void (*replied)(struct conn *conn, enum conn_op op, unsigned int tag, int error);
	void *owner;
};

void conn_open(struct conn *c);
void conn_close(struct conn *c);
void conn_check_size(struct conn *c, uint64_t bytes);
bool conn_takes(const struct conn *c, uint64_t start, uint64_t end, uint64_t bytes);
void conn_write(struct conn *c, const void *data, uint64_t start, uint64_t len,
		unsigned int tag);
void conn_zero(struct conn *c, uint64_t start, uint64_t len, unsigned int tag);
void conn_trim(struct conn *c, uint64_t start, uint64_t len, unsigned int tag);
void conn_read(struct conn *c, void *data, uint64_t start, uint64_t len, unsigned int tag);
void conn_flush(struct conn *c, unsigned int tag);
void conn_tick(struct conn *c);
void conn_update(struct conn *c);
bool conn_late(const struct conn *c);
void conn_look(struct conn *c);
bool conn_quiet(const struct conn *c);

#endif /* REPAGENT_CONN_H */
