/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake: bytes in, bytes out, no socket.  It calls the backend's
 * list(), allowed(), open() and close(), and nothing else of the server.
 */
#ifndef NBDS_NEGOTIATE_H
#define NBDS_NEGOTIATE_H

#include "nbdserver.h"
#include "proto.h"

#define NEGO_OPTION_MAX		8192u		/* bytes of an option's payload */
#define NEGO_SKIP_MAX		(64u << 10)	/* of one that is too long and passed over */
#define NEGO_OPTIONS_MAX	128u		/* options of one handshake */
#define NEGO_OUT_FULL		(16u << 10)	/* no further option while so much is unsent */
#define NEGO_OUT_MAX		(1u << 20)	/* an answer is no longer */

/*
 *	state		means					next
 *	FLAGS		the client's flags are awaited		OPTION, CLOSED
 *	OPTION		the header of an option is awaited	PAYLOAD, SKIP, CLOSED
 *	PAYLOAD		its payload is awaited; then the	OPTION, TLS, READY,
 *			option is carried out			CLOSED
 *	SKIP		a payload that is too long passes by	OPTION
 *	TLS		the answer to STARTTLS is to be sent,	OPTION, by nego_tls_done()
 *			then TLS is to be set up
 *	READY		an export is open; requests follow
 *	CLOSED		to be closed when what is in out is sent
 */
enum nego_state {
	NEGO_FLAGS, NEGO_OPTION, NEGO_PAYLOAD, NEGO_SKIP, NEGO_TLS, NEGO_READY, NEGO_CLOSED,
};

struct nego {
	/* given to nego_init() */
	const struct nbds_ops *ops;
	void *data;
	const struct nbds_peer *peer;	/* changes with TLS */
	bool tls_required;
	void (*log)(void *log_data, int priority, const char *line);
	void *log_data;

	enum nego_state state;
	bool tls;			/* is in use */
	bool no_zeroes;
	bool structured;
	unsigned int nr_options;
	uint32_t option, length;	/* the one at hand */
	uint32_t skip;			/* bytes still to be passed over */

	/* of SET_META_CONTEXT; they hold for the export of that name alone */
	char *meta_name;
	unsigned int nr_meta;
	uint8_t meta[NBDS_CONTEXTS_MAX];

	/* READY: the export; the caller takes it and clears the pointer */
	void *export;
	struct nbds_info info;

	/* to be sent */
	uint8_t *out;
	size_t out_len, out_size;
};

void nego_init(struct nego *n);
size_t nego_feed(struct nego *n, const uint8_t *data, size_t len);
void nego_tls_done(struct nego *n, const struct nbds_peer *peer);
void nego_exit(struct nego *n);

#endif /* NBDS_NEGOTIATE_H */
