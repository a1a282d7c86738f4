/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS by GnuTLS: X.509 on both sides. */
#ifndef NBDS_TLS_H
#define NBDS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "nbdserver.h"

struct tls_credentials;
struct tls_session;

struct tls_credentials *tls_load(const char *dir, char *error, size_t size);
struct tls_credentials *tls_get(struct tls_credentials *cred);
void tls_put(struct tls_credentials *cred);

struct tls_session *tls_begin(struct tls_credentials *cred, int fd);
int tls_handshake(struct tls_session *t, char *reason, size_t size);
bool tls_wants_write(const struct tls_session *t);
bool tls_identify(struct tls_session *t, struct nbds_peer *peer, char *reason, size_t size);
bool tls_pending(const struct tls_session *t);
ssize_t tls_recv(struct tls_session *t, void *buf, size_t len);
ssize_t tls_send(struct tls_session *t, const void *buf, size_t len);
void tls_bye(struct tls_session *t);
void tls_end(struct tls_session *t);

#endif /* NBDS_TLS_H */
