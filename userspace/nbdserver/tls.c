// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TLS by GnuTLS.
 *
 * Files as QEMU, nbdkit and libnbd have them: ca-cert.pem, server-cert.pem,
 * server-key.pem, and ca-crl.pem if there is one.  A client must have a
 * certificate of that CA, good for a client.
 *
 * AES-GCM alone: next to it ChaCha20 is five times as slow where the processor
 * has AES instructions.
 */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tls.h"

#define PRIORITY	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-CHACHA20-POLY1305"
#define NAMES_MAX	32u

struct tls_credentials {
	atomic_uint refs;
	gnutls_certificate_credentials_t cred;
	gnutls_priority_t priority;
};

/*
 * struct tls_session - of one connection.
 * @unsent: bytes that GnuTLS has taken and the socket has not
 */
struct tls_session {
	gnutls_session_t session;
	struct tls_credentials *cred;
	size_t unsent;
	char *names[NAMES_MAX];
	char *dn;
};

/* What a client's certificate must be good for. */
static gnutls_typed_vdata_st purpose = {
	.type = GNUTLS_DT_KEY_PURPOSE_OID,
	.data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT,
};

static struct tls_credentials *load_failed(struct tls_credentials *cred, char *error,
					   size_t size, const char *file, int err)
{
	snprintf(error, size, "%s: %s", file, gnutls_strerror(err));
	if (cred)
		tls_put(cred);
	return NULL;
}

/**
 * tls_load - read the certificates
 * @dir: where they are
 * @error: a sentence if that fails
 * @size: of @error
 *
 * Return: the credentials, for tls_put(), or NULL.
 */
struct tls_credentials *tls_load(const char *dir, char *error, size_t size)
{
	char ca[4096], crl[4096], cert[4096], key[4096];
	struct tls_credentials *cred;
	int err;

	snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir);
	snprintf(crl, sizeof(crl), "%s/ca-crl.pem", dir);
	snprintf(cert, sizeof(cert), "%s/server-cert.pem", dir);
	snprintf(key, sizeof(key), "%s/server-key.pem", dir);
	cred = calloc(1, sizeof(*cred));
	if (!cred)
		return load_failed(NULL, error, size, dir, GNUTLS_E_MEMORY_ERROR);
	atomic_init(&cred->refs, 1);
	err = gnutls_certificate_allocate_credentials(&cred->cred);
	if (err < 0)
		return load_failed(cred, error, size, dir, err);
	err = gnutls_certificate_set_x509_trust_file(cred->cred, ca, GNUTLS_X509_FMT_PEM);
	if (err <= 0)
		return load_failed(cred, error, size, ca,
				   err ? err : GNUTLS_E_NO_CERTIFICATE_FOUND);
	if (!access(crl, F_OK)) {
		err = gnutls_certificate_set_x509_crl_file(cred->cred, crl, GNUTLS_X509_FMT_PEM);
		if (err < 0)
			return load_failed(cred, error, size, crl, err);
	}
	err = gnutls_certificate_set_x509_key_file(cred->cred, cert, key, GNUTLS_X509_FMT_PEM);
	if (err < 0)
		return load_failed(cred, error, size, access(key, R_OK) ? key : cert, err);
	gnutls_certificate_set_known_dh_params(cred->cred, GNUTLS_SEC_PARAM_MEDIUM);
	err = gnutls_priority_init(&cred->priority, PRIORITY, NULL);
	if (err < 0)
		return load_failed(cred, error, size, "priority " PRIORITY, err);
	return cred;
}

/**
 * tls_get - one more holder of credentials
 * @cred: they
 *
 * Return: @cred.
 */
struct tls_credentials *tls_get(struct tls_credentials *cred)
{
	atomic_fetch_add(&cred->refs, 1);
	return cred;
}

/**
 * tls_put - one less
 * @cred: they; gone with the last one
 */
void tls_put(struct tls_credentials *cred)
{
	if (atomic_fetch_sub(&cred->refs, 1) != 1)
		return;
	if (cred->priority)
		gnutls_priority_deinit(cred->priority);
	if (cred->cred)
		gnutls_certificate_free_credentials(cred->cred);
	free(cred);
}

/**
 * tls_begin - a session for a connection
 * @cred: the server's; a reference is taken over
 * @fd: the socket, non-blocking
 *
 * Return: it, or NULL without memory (the reference is dropped then).
 */
struct tls_session *tls_begin(struct tls_credentials *cred, int fd)
{
	struct tls_session *t = calloc(1, sizeof(*t));

	if (!t) {
		tls_put(cred);
		return NULL;
	}
	t->cred = cred;
	if (gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
			GNUTLS_NO_TICKETS) < 0 ||
	    gnutls_priority_set(t->session, cred->priority) < 0 ||
	    gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, cred->cred) < 0) {
		tls_end(t);
		return NULL;
	}
	gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
	/* While the handshake lasts, so that the client is sent an alert. */
	gnutls_session_set_verify_cert2(t->session, &purpose, 1, 0);
	gnutls_transport_set_int(t->session, fd);
	gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT);
	return t;
}

/* GnuTLS by itself calls every certificate bad, whatever it has found. */
static void tell_why(struct tls_session *t, int err, unsigned int status)
{
	static const struct {
		unsigned int status;
		gnutls_alert_description_t alert;
	} alerts[] = {
		{ GNUTLS_CERT_SIGNER_NOT_FOUND,	GNUTLS_A_UNKNOWN_CA },
		{ GNUTLS_CERT_REVOKED,		GNUTLS_A_CERTIFICATE_REVOKED },
		{ GNUTLS_CERT_EXPIRED,		GNUTLS_A_CERTIFICATE_EXPIRED },
	};
	unsigned int i;

	for (i = 0; err == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
		    i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		if (status & alerts[i].status) {
			gnutls_alert_send(t->session, GNUTLS_AL_FATAL, alerts[i].alert);
			return;
		}
	}
	gnutls_alert_send_appropriate(t->session, err);
}

/**
 * tls_handshake - go on with the handshake
 * @t: the session
 * @reason: why it failed
 * @size: of @reason
 *
 * Return: 1 done, 0 the socket is to be waited for (see tls_wants_write()),
 * -1 failed.
 */
int tls_handshake(struct tls_session *t, char *reason, size_t size)
{
	gnutls_datum_t text;
	unsigned int status;
	int err;

	do {
		err = gnutls_handshake(t->session);
	} while (err < 0 && err != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(err));
	if (err == GNUTLS_E_AGAIN)
		return 0;
	if (err == GNUTLS_E_SUCCESS)
		return 1;
	status = gnutls_session_get_verify_cert_status(t->session);
	tell_why(t, err, status);
	if (err == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
	    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) >= 0) {
		snprintf(reason, size, "the client's certificate: %s", text.data);
		gnutls_free(text.data);
	} else if (err == GNUTLS_E_NO_CERTIFICATE_FOUND ||
		   err == GNUTLS_E_CERTIFICATE_REQUIRED) {
		snprintf(reason, size, "the client has no certificate");
	} else if (err == GNUTLS_E_FATAL_ALERT_RECEIVED) {
		snprintf(reason, size, "the client ended the TLS handshake: %s",
			 gnutls_alert_get_name(gnutls_alert_get(t->session)));
	} else {
		snprintf(reason, size, "TLS handshake: %s", gnutls_strerror(err));
	}
	return -1;
}

/**
 * tls_wants_write - what a session waits for
 * @t: the session, whose last call said that the socket is to be waited for
 *
 * Return: true: until it can be written to; false: read from.
 */
bool tls_wants_write(const struct tls_session *t)
{
	return gnutls_record_get_direction(t->session) == 1;
}

static bool take_names(struct tls_session *t, gnutls_x509_crt_t crt, struct nbds_peer *peer)
{
	unsigned int i, critical;
	char name[256];
	size_t len;
	int type;

	for (i = 0; peer->nr_names < NAMES_MAX; i++) {
		len = sizeof(name) - 1;
		type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &len, &critical);
		if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (type != GNUTLS_SAN_DNSNAME)
			continue;	/* and what is too long to be one */
		name[len] = '\0';
		if (strlen(name) != len)
			return false;	/* a zero inside: meant to be taken for another */
		t->names[peer->nr_names] = strdup(name);
		if (!t->names[peer->nr_names])
			return false;
		peer->nr_names++;
	}
	len = sizeof(name);
	if (!peer->nr_names &&
	    gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &len) >= 0) {
		if (strnlen(name, sizeof(name)) != len)
			return false;
		t->names[0] = strdup(name);
		if (!t->names[0])
			return false;
		peer->nr_names = 1;
	}
	peer->names = (const char *const *)t->names;
	return true;
}

/**
 * tls_identify - who is at the other end
 * @t: the session, after its handshake
 * @peer: its tls, names and dn are filled; they live as long as the session
 * @reason: why that cannot be told
 * @size: of @reason
 *
 * Return: whether it could be told.
 */
bool tls_identify(struct tls_session *t, struct nbds_peer *peer, char *reason, size_t size)
{
	const gnutls_datum_t *chain;
	gnutls_x509_crt_t crt;
	gnutls_datum_t dn;
	unsigned int nr;
	bool ok = false;

	chain = gnutls_certificate_get_peers(t->session, &nr);
	if (!chain || !nr || gnutls_x509_crt_init(&crt) < 0) {
		snprintf(reason, size, "the client has no certificate");
		return false;
	}
	if (gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) < 0) {
		snprintf(reason, size, "the client's certificate cannot be read");
	} else if (!take_names(t, crt, peer)) {
		snprintf(reason, size, "the names in the client's certificate cannot be read");
	} else {
		if (gnutls_x509_crt_get_dn3(crt, &dn, 0) >= 0) {
			t->dn = strdup((const char *)dn.data);
			gnutls_free(dn.data);
		}
		peer->dn = t->dn ? t->dn : "";
		peer->tls = true;
		ok = true;
	}
	gnutls_x509_crt_deinit(crt);
	return ok;
}

static ssize_t result(ssize_t n)
{
	if (n >= 0)
		return n;
	switch (n) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED:
		return -EAGAIN;
	case GNUTLS_E_PREMATURE_TERMINATION:
		return 0;
	default:	/* renegotiation and its like are not for us */
		return n == GNUTLS_E_PUSH_ERROR || n == GNUTLS_E_PULL_ERROR ? -ECONNRESET : -EPROTO;
	}
}

/**
 * tls_recv - read
 * @t: the session
 * @buf: where to
 * @len: its size
 *
 * Return: bytes, 0 at the end, -EAGAIN or another error.
 */
ssize_t tls_recv(struct tls_session *t, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = gnutls_record_recv(t->session, buf, len);
	} while (n < 0 && n != GNUTLS_E_AGAIN && !gnutls_error_is_fatal((int)n) &&
		 n != GNUTLS_E_REHANDSHAKE);
	return result(n);
}

/**
 * tls_pending - are there bytes that no poll tells of?
 * @t: the session
 */
bool tls_pending(const struct tls_session *t)
{
	return gnutls_record_check_pending(t->session) > 0;
}

/**
 * tls_send - write at most a record
 * @t: the session
 * @buf: what
 * @len: its length. After -EAGAIN the same bytes have to be given again, or
 *	 others that begin with them
 *
 * Return: bytes that are sent, -EAGAIN or another error.
 */
ssize_t tls_send(struct tls_session *t, const void *buf, size_t len)
{
	ssize_t n;

	/* GnuTLS keeps a record that the socket did not take. */
	if (t->unsent)
		n = gnutls_record_send(t->session, NULL, 0);
	else
		n = gnutls_record_send(t->session, buf, len);
	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
		if (!t->unsent)
			t->unsent = len;
	} else {
		if (n >= 0 && t->unsent)
			n = (ssize_t)t->unsent;
		t->unsent = 0;
	}
	return result(n);
}

/**
 * tls_bye - tell the client that nothing follows, if that needs no waiting
 * @t: the session
 */
void tls_bye(struct tls_session *t)
{
	gnutls_bye(t->session, GNUTLS_SHUT_WR);
}

/**
 * tls_end - free a session
 * @t: it
 */
void tls_end(struct tls_session *t)
{
	unsigned int i;

	if (t->session)
		gnutls_deinit(t->session);
	tls_put(t->cred);
	for (i = 0; i < NAMES_MAX; i++)
		free(t->names[i]);
	free(t->dn);
	free(t);
}
