// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The handshake, fixed newstyle.
 *
 * Every length from outside is compared with what is there before it is used,
 * and an option whose parts do not add up to its length is refused as a whole.
 * An answer that needs memory and gets none closes the connection.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "negotiate.h"

#define TEXT_MAX	256u	/* of an error's text */

static __attribute__((format(printf, 3, 4)))
void say(struct nego *n, int priority, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!n->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	n->log(n->log_data, priority, line);
}

static void closed(struct nego *n, const char *why)
{
	if (n->state != NEGO_CLOSED)
		say(n, LOG_NOTICE, "connection ended: %s", why);
	n->state = NEGO_CLOSED;
}

/* A client's name for the log: without what would move the cursor. */
static const char *printable(char *buf, size_t size, const char *name)
{
	size_t i;

	for (i = 0; i + 1 < size && name[i]; i++)
		buf[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
	buf[i] = '\0';
	return buf;
}

/* ---- what is sent -------------------------------------------------------- */

static uint8_t *out_room(struct nego *n, size_t len)
{
	size_t size = n->out_size ? n->out_size : 512;
	uint8_t *p;

	if (len > NEGO_OUT_MAX || n->out_len + len > NEGO_OUT_MAX) {
		closed(n, "the answer to an option would be too long");
		return NULL;
	}
	while (size < n->out_len + len)
		size *= 2;
	if (size != n->out_size) {
		p = realloc(n->out, size);
		if (!p) {
			closed(n, "out of memory");
			return NULL;
		}
		n->out = p;
		n->out_size = size;
	}
	p = n->out + n->out_len;
	n->out_len += len;
	return p;
}

static void out_bytes(struct nego *n, const void *data, size_t len)
{
	uint8_t *p = out_room(n, len);

	if (p && len)
		memcpy(p, data, len);
}

/* The head of an option's reply; the caller appends its payload. */
static uint8_t *reply(struct nego *n, uint32_t type, uint32_t len)
{
	uint8_t *p = out_room(n, 20 + (size_t)len);

	if (!p)
		return NULL;
	p = put_be64(p, NBD_OPTION_REPLY_MAGIC);
	p = put_be32(p, n->option);
	p = put_be32(p, type);
	return put_be32(p, len);
}

static void ack(struct nego *n)
{
	reply(n, NBD_REP_ACK, 0);
}

/* Refuse an option, and tell both sides why. */
static __attribute__((format(printf, 3, 4)))
void refuse(struct nego *n, uint32_t type, const char *fmt, ...)
{
	char text[TEXT_MAX], clean[TEXT_MAX];
	va_list ap;
	uint8_t *p;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printable(clean, sizeof(clean), text);
	p = reply(n, type, (uint32_t)strlen(clean));
	if (p)
		memcpy(p, clean, strlen(clean));
	say(n, LOG_NOTICE, "refused: %s", clean);
}

/* ---- what is read -------------------------------------------------------- */

/* The payload of an option, as far as it is not yet used. */
struct cursor {
	const uint8_t *p;
	size_t left;
};

static bool take16(struct cursor *c, uint16_t *v)
{
	if (c->left < 2)
		return false;
	*v = get_be16(c->p);
	c->p += 2;
	c->left -= 2;
	return true;
}

static bool take32(struct cursor *c, uint32_t *v)
{
	if (c->left < 4)
		return false;
	*v = get_be32(c->p);
	c->p += 4;
	c->left -= 4;
	return true;
}

/* A text of @len bytes, without a zero among them. */
static bool take_text(struct cursor *c, uint32_t len, char *text)
{
	if (len > NBD_NAME_MAX || len > c->left || memchr(c->p, '\0', len))
		return false;
	memcpy(text, c->p, len);
	text[len] = '\0';
	c->p += len;
	c->left -= len;
	return true;
}

static bool take_name(struct cursor *c, char *name)
{
	uint32_t len;

	return take32(c, &len) && take_text(c, len, name);
}

/* ---- exports ------------------------------------------------------------- */

static bool allowed(struct nego *n, const char *name, char *reason)
{
	return !n->ops->allowed ||
	       n->ops->allowed(n->data, n->peer, name, reason, NBDS_REASON_MAX);
}

static void close_export(struct nego *n)
{
	if (n->export && n->ops->close)
		n->ops->close(n->export);
	n->export = NULL;
}

/* Open an export into @n. Return 0, or the reply that says why not. */
static uint32_t open_export(struct nego *n, const char *name, char *reason)
{
	snprintf(reason, NBDS_REASON_MAX, "not allowed");
	if (!allowed(n, name, reason))
		return NBD_REP_ERR_POLICY;
	snprintf(reason, NBDS_REASON_MAX, "no such export");
	memset(&n->info, 0, sizeof(n->info));
	n->export = n->ops->open(n->data, name, &n->info, reason, NBDS_REASON_MAX);
	if (!n->export)
		return NBD_REP_ERR_UNKNOWN;
	if (!n->info.min_block)
		n->info.min_block = 1;
	if (n->info.preferred_block < n->info.min_block)
		n->info.preferred_block = n->info.min_block < 4096 ? 4096 : n->info.min_block;
	if (n->info.nr_contexts > NBDS_CONTEXTS_MAX)
		n->info.nr_contexts = NBDS_CONTEXTS_MAX;
	return 0;
}

static uint16_t transmission_flags(const struct nego *n)
{
	const struct nbds_info *i = &n->info;
	uint32_t flags = NBD_FLAG_HAS_FLAGS;

	if (i->can_flush)
		flags |= NBD_FLAG_SEND_FLUSH;
	if (i->can_fua)
		flags |= NBD_FLAG_SEND_FUA;
	if (i->rotational)
		flags |= NBD_FLAG_ROTATIONAL;
	if (i->multi_conn)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	if (n->structured)
		flags |= NBD_FLAG_SEND_DF;
	if (i->read_only)
		return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
	if (i->can_trim)
		flags |= NBD_FLAG_SEND_TRIM;
	if (i->can_zero)
		flags |= NBD_FLAG_SEND_WRITE_ZEROES;
	if (i->can_zero && i->can_fast_zero)
		flags |= NBD_FLAG_SEND_FAST_ZERO;
	return (uint16_t)flags;
}

/* ---- options ------------------------------------------------------------- */

static void ready(struct nego *n, const char *name)
{
	if (n->meta_name && strcmp(n->meta_name, name))
		n->nr_meta = 0;
	n->state = NEGO_READY;
}

/* The old way to choose: there is no way to say no but to hang up. */
static void opt_export_name(struct nego *n, struct cursor *c)
{
	char name[NBD_NAME_MAX + 1], quoted[96], reason[NBDS_REASON_MAX];
	static const uint8_t zeroes[124];
	uint8_t *p;

	if (!take_text(c, (uint32_t)c->left, name)) {
		closed(n, "the name of an export has no sense");
		return;
	}
	if (n->tls_required && !n->tls) {
		closed(n, "refused: TLS is required, and the client asked for an export without");
		return;
	}
	if (open_export(n, name, reason)) {
		say(n, LOG_NOTICE, "refused: export '%s': %s",
		    printable(quoted, sizeof(quoted), name), reason);
		n->state = NEGO_CLOSED;
		return;
	}
	p = out_room(n, 10);
	if (!p)
		return;
	p = put_be64(p, n->info.size);
	put_be16(p, transmission_flags(n));
	if (!n->no_zeroes)
		out_bytes(n, zeroes, sizeof(zeroes));
	if (n->state != NEGO_CLOSED)
		ready(n, name);
}

static void opt_abort(struct nego *n, struct cursor *c)
{
	(void)c;
	ack(n);
	n->state = NEGO_CLOSED;
}

static void opt_list(struct nego *n, struct cursor *c)
{
	char name[NBD_NAME_MAX + 1], reason[NBDS_REASON_MAX];
	unsigned int i;
	uint32_t len;
	uint8_t *p;

	if (c->left) {
		refuse(n, NBD_REP_ERR_INVALID, "LIST with a payload of %zu bytes: expected none", c->left);
		return;
	}
	for (i = 0; n->ops->list && n->ops->list(n->data, i, name, sizeof(name)); i++) {
		if (!allowed(n, name, reason))
			continue;
		len = (uint32_t)strlen(name);
		p = reply(n, NBD_REP_SERVER, 4 + len);
		if (!p)
			return;
		p = put_be32(p, len);
		memcpy(p, name, len);
	}
	ack(n);
}

static void opt_starttls(struct nego *n, struct cursor *c)
{
	if (c->left) {
		refuse(n, NBD_REP_ERR_INVALID, "STARTTLS with a payload of %zu bytes: expected none", c->left);
	} else if (n->tls) {
		refuse(n, NBD_REP_ERR_INVALID, "STARTTLS: TLS is in use already");
	} else if (!n->tls_required) {
		refuse(n, NBD_REP_ERR_POLICY, "STARTTLS: this server has no certificate");
	} else {
		ack(n);
		if (n->state != NEGO_CLOSED)
			n->state = NEGO_TLS;
	}
}

static void opt_structured(struct nego *n, struct cursor *c)
{
	if (c->left) {
		refuse(n, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY with a payload of %zu bytes: expected none",
		       c->left);
		return;
	}
	n->structured = true;
	ack(n);
}

static void info_export(struct nego *n)
{
	uint8_t *p = reply(n, NBD_REP_INFO, 12);

	if (!p)
		return;
	p = put_be16(p, NBD_INFO_EXPORT);
	p = put_be64(p, n->info.size);
	put_be16(p, transmission_flags(n));
}

static void info_block_size(struct nego *n)
{
	uint8_t *p = reply(n, NBD_REP_INFO, 14);

	if (!p)
		return;
	p = put_be16(p, NBD_INFO_BLOCK_SIZE);
	p = put_be32(p, n->info.min_block);
	p = put_be32(p, n->info.preferred_block);
	put_be32(p, NBDS_REQUEST_MAX);
}

static void info_text(struct nego *n, uint16_t type, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);
	uint8_t *p = reply(n, NBD_REP_INFO, 2 + len);

	if (!p)
		return;
	p = put_be16(p, type);
	memcpy(p, text, len);
}

/* INFO and GO: name, number of wishes, wishes. */
static void opt_info(struct nego *n, struct cursor *c)
{
	char name[NBD_NAME_MAX + 1], quoted[96], reason[NBDS_REASON_MAX];
	bool with_name = false, with_description = false;
	const char *option = n->option == NBD_OPT_GO ? "GO" : "INFO";
	uint16_t nr, wish;
	uint32_t error;

	if (!take_name(c, name) || !take16(c, &nr) || c->left != 2 * (size_t)nr) {
		refuse(n, NBD_REP_ERR_INVALID, "%s: its parts do not add up to its length", option);
		return;
	}
	while (take16(c, &wish)) {
		with_name |= wish == NBD_INFO_NAME;
		with_description |= wish == NBD_INFO_DESCRIPTION;
	}
	error = open_export(n, name, reason);
	if (error) {
		refuse(n, error, "export '%s': %s", printable(quoted, sizeof(quoted), name), reason);
		return;
	}
	info_export(n);
	info_block_size(n);
	if (with_name)
		info_text(n, NBD_INFO_NAME, name);
	if (with_description && n->info.description[0])
		info_text(n, NBD_INFO_DESCRIPTION, n->info.description);
	ack(n);
	if (n->option == NBD_OPT_GO && n->state != NEGO_CLOSED)
		ready(n, name);
	else
		close_export(n);
}

static void context_reply(struct nego *n, unsigned int i)
{
	uint32_t len = (uint32_t)strlen(n->info.contexts[i]);
	uint8_t *p = reply(n, NBD_REP_META_CONTEXT, 4 + len);

	if (!p)
		return;
	p = put_be32(p, n->option == NBD_OPT_SET_META_CONTEXT ? i + 1 : 0);
	memcpy(p, n->info.contexts[i], len);
}

/* LIST takes "namespace:" for all that begins so; SET takes names alone. */
static uint32_t matches(struct nego *n, const char *query)
{
	size_t len = strlen(query);
	uint32_t found = 0;
	unsigned int i;

	for (i = 0; i < n->info.nr_contexts; i++) {
		if (!strcmp(query, n->info.contexts[i]) ||
		    (n->option == NBD_OPT_LIST_META_CONTEXT && len && query[len - 1] == ':' &&
		     !strncmp(query, n->info.contexts[i], len)))
			found |= 1u << i;
	}
	return found;
}

/* LIST_META_CONTEXT and SET_META_CONTEXT: name, number of queries, queries. */
static void opt_meta(struct nego *n, struct cursor *c)
{
	char name[NBD_NAME_MAX + 1], query[NBD_NAME_MAX + 1], quoted[96], reason[NBDS_REASON_MAX];
	bool set = n->option == NBD_OPT_SET_META_CONTEXT;
	const char *option = set ? "SET_META_CONTEXT" : "LIST_META_CONTEXT";
	uint32_t nr, i, error, found = 0;
	struct cursor queries;

	if (set) {	/* whatever becomes of this one, the last one's are gone */
		free(n->meta_name);
		n->meta_name = NULL;
		n->nr_meta = 0;
	}
	if (set && !n->structured) {
		refuse(n, NBD_REP_ERR_INVALID, "%s: expected STRUCTURED_REPLY before", option);
		return;
	}
	if (!take_name(c, name) || !take32(c, &nr)) {
		refuse(n, NBD_REP_ERR_INVALID, "%s: its parts do not add up to its length", option);
		return;
	}
	queries = *c;
	for (i = 0; i < nr && take_name(c, query); i++)
		;
	if (i < nr || c->left) {
		refuse(n, NBD_REP_ERR_INVALID, "%s: its queries do not add up to its length", option);
		return;
	}
	error = open_export(n, name, reason);
	if (error) {
		refuse(n, error, "export '%s': %s", printable(quoted, sizeof(quoted), name), reason);
		return;
	}
	for (i = 0; i < nr && take_name(&queries, query); i++)
		found |= matches(n, query);
	if (!set && !nr)
		found = ~0u;
	if (set) {
		n->meta_name = strdup(name);
		if (!n->meta_name)
			closed(n, "out of memory");
	}
	for (i = 0; i < n->info.nr_contexts; i++) {
		if (!(found & 1u << i))
			continue;
		if (set)
			n->meta[n->nr_meta++] = (uint8_t)i;
		context_reply(n, i);
	}
	close_export(n);
	ack(n);
}

static const struct option {
	uint32_t number;
	bool before_tls;	/* may be used although TLS is required and not there */
	void (*carry_out)(struct nego *n, struct cursor *c);
} options[] = {
	{ NBD_OPT_EXPORT_NAME,		true,	opt_export_name },	/* refuses by itself */
	{ NBD_OPT_ABORT,		true,	opt_abort },
	{ NBD_OPT_LIST,			false,	opt_list },
	{ NBD_OPT_STARTTLS,		true,	opt_starttls },
	{ NBD_OPT_INFO,			false,	opt_info },
	{ NBD_OPT_GO,			false,	opt_info },
	{ NBD_OPT_STRUCTURED_REPLY,	false,	opt_structured },
	{ NBD_OPT_LIST_META_CONTEXT,	false,	opt_meta },
	{ NBD_OPT_SET_META_CONTEXT,	false,	opt_meta },
};

static void carry_out(struct nego *n, const uint8_t *payload)
{
	struct cursor c = { payload, n->length };
	unsigned int i;

	n->state = NEGO_OPTION;
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (options[i].number != n->option)
			continue;
		if (n->tls_required && !n->tls && !options[i].before_tls)
			refuse(n, NBD_REP_ERR_TLS_REQD,
			       "TLS is required, and the client did not begin it");
		else
			options[i].carry_out(n, &c);
		return;
	}
	/* Clients try options to see what there is: nothing to be logged. */
	reply(n, NBD_REP_ERR_UNSUP, 0);
}

static void option_header(struct nego *n, const uint8_t *data)
{
	if (get_be64(data) != NBD_OPTION_MAGIC) {
		closed(n, "this is no NBD option");
		return;
	}
	if (++n->nr_options > NEGO_OPTIONS_MAX) {
		closed(n, "too many options, and no export chosen");
		return;
	}
	n->option = get_be32(data + 8);
	n->length = get_be32(data + 12);
	if (n->length <= NEGO_OPTION_MAX) {
		n->state = NEGO_PAYLOAD;
	} else if (n->length <= NEGO_SKIP_MAX && n->option != NBD_OPT_EXPORT_NAME) {
		n->skip = n->length;
		n->state = NEGO_SKIP;
		refuse(n, NBD_REP_ERR_TOO_BIG, "option %u with %u bytes: expected at most %u",
		       n->option, n->length, NEGO_OPTION_MAX);
	} else {
		closed(n, "an option is far too long");
	}
}

/**
 * nego_init - begin a handshake
 * @n: zeroed but for what the caller gives
 *
 * Puts the server's greeting into @n->out.
 */
void nego_init(struct nego *n)
{
	uint8_t *p = out_room(n, 18);

	n->state = p ? NEGO_FLAGS : NEGO_CLOSED;
	if (!p)
		return;
	p = put_be64(p, NBD_INIT_MAGIC);
	p = put_be64(p, NBD_OPTION_MAGIC);
	put_be16(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

/**
 * nego_feed - take bytes of the client
 * @n: the handshake
 * @data: they
 * @len: how many
 *
 * Stops where more are needed, when much is to be sent, and in the states TLS,
 * READY and CLOSED. What is not taken is to be given again, with what follows.
 *
 * Return: how many were taken.
 */
size_t nego_feed(struct nego *n, const uint8_t *data, size_t len)
{
	size_t used = 0, left;
	uint32_t flags;

	for (;;) {
		left = len - used;
		if (n->out_len >= NEGO_OUT_FULL)
			return used;
		switch (n->state) {
		case NEGO_FLAGS:
			if (left < 4)
				return used;
			flags = get_be32(data + used);
			used += 4;
			n->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
			n->state = NEGO_OPTION;
			if (!(flags & NBD_FLAG_FIXED_NEWSTYLE) ||
			    (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)))
				closed(n, "the client's flags are not those of fixed newstyle");
			break;
		case NEGO_OPTION:
			if (left < NBD_OPTION_SIZE)
				return used;
			option_header(n, data + used);
			used += NBD_OPTION_SIZE;
			break;
		case NEGO_PAYLOAD:
			if (left < n->length)
				return used;
			carry_out(n, data + used);
			used += n->length;
			break;
		case NEGO_SKIP:
			if (left > n->skip)
				left = n->skip;
			used += left;
			n->skip -= (uint32_t)left;
			if (n->skip)
				return used;
			n->state = NEGO_OPTION;
			break;
		case NEGO_TLS:
		case NEGO_READY:
		case NEGO_CLOSED:
			return used;
		}
	}
}

/**
 * nego_tls_done - go on, through TLS now
 * @n: the handshake
 * @peer: who the client has proved to be
 *
 * All that was said before could have been said by somebody else: it is
 * forgotten.
 */
void nego_tls_done(struct nego *n, const struct nbds_peer *peer)
{
	n->peer = peer;
	n->tls = true;
	n->structured = false;
	free(n->meta_name);
	n->meta_name = NULL;
	n->nr_meta = 0;
	n->state = NEGO_OPTION;
}

/**
 * nego_exit - free what a handshake holds
 * @n: the handshake
 */
void nego_exit(struct nego *n)
{
	close_export(n);
	free(n->meta_name);
	free(n->out);
	n->meta_name = NULL;
	n->out = NULL;
	n->out_len = n->out_size = 0;
}
