/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NBD server as a library.  Documentation/nbdserver.md has the picture.
 *
 * The library does the protocol, TLS, the connections and their fairness; a
 * backend, struct nbds_ops, says what the exports are and carries requests out.
 */
#ifndef NBDSERVER_H
#define NBDSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBDS_PIECE_MAX		(256u << 10)	/* bytes of one struct nbds_request */
#define NBDS_ALIGN		4096u		/* of its buffer */
#define NBDS_REQUEST_MAX	(32u << 20)	/* bytes of a client's request */
#define NBDS_CONTEXTS_MAX	8u		/* of an export */
#define NBDS_REASON_MAX		160u		/* bytes that suffice for a reason */

struct nbds_server;

/*
 * struct nbds_peer - who is at the other end.
 * @address:	for the log, without the port
 * @tls:	the names below were proved by a certificate
 * @names:	the certificate's DNS names, or its common name if it has none
 * @dn:		the certificate's distinguished name, for the log
 */
struct nbds_peer {
	char address[64];
	bool tls;
	unsigned int nr_names;
	const char *const *names;
	const char *dn;
};

/*
 * struct nbds_info - what an export is; filled by nbds_ops.open().
 * @size:		bytes
 * @min_block:		offsets and lengths are multiples of it; power of two, at most 64 KiB
 * @preferred_block:	power of two, at least @min_block
 * @contexts:		of BLOCK_STATUS, @nr_contexts strings that live as long as the export
 */
struct nbds_info {
	uint64_t size;
	uint32_t min_block;
	uint32_t preferred_block;
	bool read_only;
	bool can_flush;
	bool can_fua;
	bool can_trim;
	bool can_zero;
	bool can_fast_zero;
	bool multi_conn;
	bool rotational;
	unsigned int nr_contexts;
	const char *const *contexts;
	char description[128];
};

enum nbds_op {
	NBDS_READ,
	NBDS_WRITE,
	NBDS_FLUSH,
	NBDS_TRIM,
	NBDS_ZERO,
	NBDS_STATUS,
};

/*
 * struct nbds_request - what the backend is to do: a client's request, or a
 * piece of one.
 * @op, @offset, @length: within the export, and aligned as it asked for
 * @buf:	of READ and WRITE. It lies at (@offset % NBDS_ALIGN) of memory
 *		that is aligned to NBDS_ALIGN at both ends: a READ may fill all
 *		of that, a WRITE must not look beyond its @length
 * @fua:	WRITE, TRIM, ZERO: durable before it is completed
 * @no_hole:	ZERO: allocate the range
 * @fast:	ZERO: fail with ENOTSUP if it is no faster than to write zeroes
 * @one:	STATUS: one extent is enough
 * @context:	STATUS: index of one of nbds_info.contexts
 * @hole:	READ, set by the backend: all zeroes, and @buf is not filled
 * @reason:	set by the backend with an error: a sentence for the client
 * @scratch:	the backend's own; nbds_file_submit() uses it
 */
struct nbds_request {
	enum nbds_op op;
	bool fua, no_hole, fast, one, hole;
	uint8_t context;
	uint64_t offset;
	uint32_t length;
	void *buf;
	char reason[NBDS_REASON_MAX];
	uint64_t scratch[8];
};

/*
 * struct nbds_ops - a backend. All but submit() are called in any of the
 * workers' threads, and must not wait for long.
 * @list:	the name of the export with this index; false: there are no more
 * @allowed:	may this peer open an export of this name, whether it exists or
 *		not? If not, @reason says why. NULL: every peer may
 * @open:	fill @info (zeroed before) and give a handle; NULL: it does not
 *		exist or cannot be opened, and @reason says why
 * @close:	the handle is used no more
 * @submit:	carry a request out and call nbds_complete(), now or later; in
 *		the thread of the connection's worker, in the order in which
 *		the connection's client sent its requests
 * @gone:	called every second for every handle: true ends its connection,
 *		and @reason says why. NULL: handles stay
 */
struct nbds_ops {
	bool (*list)(void *data, unsigned int index, char *name, size_t size);
	bool (*allowed)(void *data, const struct nbds_peer *peer, const char *name,
			char *reason, size_t size);
	void *(*open)(void *data, const char *name, struct nbds_info *info,
		      char *reason, size_t size);
	void (*close)(void *export);
	void (*submit)(void *export, struct nbds_request *rq);
	bool (*gone)(void *export, char *reason, size_t size);
};

/*
 * struct nbds_config - of a server; nbds_config_init() fills the defaults.
 * @workers:		threads (the processors, at most 4)
 * @connections:	at most so many at a time (1024)
 * @memory:		bytes of payload, for all connections together (32 MiB)
 * @handshake_ms:	a client has so long to choose an export (10 s)
 * @stall_ms:		a client that takes nothing of what is to be sent, or
 *			sends nothing of a payload it began, for so long is
 *			dropped (60 s)
 * @rate:		bytes that are read from all exports in a second (0: no limit)
 * @tls_dir:		directory of ca-cert.pem, server-cert.pem, server-key.pem
 *			and perhaps ca-crl.pem; NULL: no TLS. With TLS a client
 *			that does not use it, or has no certificate of this CA,
 *			is refused
 * @log:		takes a line, in any thread; NULL: nothing is logged
 */
struct nbds_config {
	unsigned int workers;
	unsigned int connections;
	size_t memory;
	unsigned int handshake_ms;
	unsigned int stall_ms;
	uint64_t rate;
	const char *tls_dir;
	void (*log)(void *data, int priority, const char *line);
	const struct nbds_ops *ops;
	void *data;
};

/* struct nbds_stats - what a server has and did. */
struct nbds_stats {
	unsigned int connections;
	uint64_t accepted, refused, requests, read_bytes, written_bytes;
};

void nbds_config_init(struct nbds_config *cfg);
struct nbds_server *nbds_start(const struct nbds_config *cfg, char *error, size_t size);
int nbds_listen_fd(struct nbds_server *s, int fd);
int nbds_add(struct nbds_server *s, int fd);
bool nbds_reload_tls(struct nbds_server *s, char *error, size_t size);
void nbds_get_stats(struct nbds_server *s, struct nbds_stats *stats);
void nbds_stop(struct nbds_server *s);

void nbds_release(struct nbds_request *rq);
void nbds_complete(struct nbds_request *rq, int error);
bool nbds_extent(struct nbds_request *rq, uint64_t length, uint32_t flags);

/* listen.c: sockets to give to nbds_listen_fd() */
int nbds_listen_on(const char *where, char *error, size_t size);

/* file.c: a file or block device as an export */

/*
 * struct nbds_file - one open file.
 * @fd:		its descriptor
 * @align:	what O_DIRECT asks of offsets and lengths; 1: it is not used
 */
struct nbds_file {
	int fd;
	bool block_device;
	bool can_punch;
	uint32_t align;
	uint64_t size;
};

enum nbds_direct { NBDS_DIRECT_NEVER, NBDS_DIRECT_IF_POSSIBLE, NBDS_DIRECT_ALWAYS };

bool nbds_file_open(struct nbds_file *f, const char *path, bool writable,
		    enum nbds_direct direct, char *reason, size_t size);
void nbds_file_info(const struct nbds_file *f, bool writable, struct nbds_info *info);
void nbds_file_submit(struct nbds_file *f, struct nbds_request *rq);
void nbds_file_close(struct nbds_file *f);

#endif /* NBDSERVER_H */
