/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the library's parts share, and its tests use. */
#ifndef NBDS_SERVER_H
#define NBDS_SERVER_H

#include "aio.h"
#include "nbdserver.h"
#include "negotiate.h"
#include "pool.h"
#include "request.h"
#include "tls.h"

struct worker;

struct aio *server_aio(void);
void file_aio_done(struct iocb *iocb, long res);

struct nbds_server *server_new(const struct nbds_config *cfg, char *error, size_t size);
struct worker *server_worker(struct nbds_server *s, unsigned int i);
void worker_turn(struct worker *w, int timeout_ms);
void server_free(struct nbds_server *s);

#endif /* NBDS_SERVER_H */
