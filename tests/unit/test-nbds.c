// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The NBD server's parts that need no socket: the handshake, the check of
 * requests, the buffers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "nbdserver/server.h"

/* ---- a backend of two exports ------------------------------------------- */

static int opened, closed_again;
static bool deny_b;
static char last_log[600];

static const char *const contexts[] = { "base:allocation", "qemu:dirty-bitmap:repagent" };

static bool ops_list(void *data, unsigned int i, char *name, size_t size)
{
	(void)data;
	if (i > 1)
		return false;
	snprintf(name, size, i ? "g/b" : "g/a");
	return true;
}

static bool ops_allowed(void *data, const struct nbds_peer *peer, const char *name, char *reason,
			size_t size)
{
	(void)data;
	(void)peer;
	if (!deny_b || strcmp(name, "g/b"))
		return true;
	snprintf(reason, size, "not for you");
	return false;
}

static void *ops_open(void *data, const char *name, struct nbds_info *info, char *reason,
		      size_t size)
{
	(void)data;
	(void)reason;
	(void)size;
	if (strcmp(name, "g/a") && strcmp(name, "g/b"))
		return NULL;
	opened++;
	info->size = 1 << 20;
	info->min_block = 512;
	info->read_only = true;
	info->nr_contexts = 2;
	info->contexts = contexts;
	snprintf(info->description, sizeof(info->description), "a disk");
	return &opened;
}

static void ops_close(void *export)
{
	assert_ptr_equal(export, &opened);
	closed_again++;
}

static const struct nbds_ops ops = {
	.list = ops_list, .allowed = ops_allowed, .open = ops_open, .close = ops_close,
};

static void log_line(void *data, int priority, const char *line)
{
	(void)data;
	(void)priority;
	snprintf(last_log, sizeof(last_log), "%s", line);
}

/* ---- a client ------------------------------------------------------------ */

static const struct nbds_peer peer = { .address = "test" };
static struct nego n;
static uint8_t in[200000];
static size_t in_len, seen;

static void begin(bool tls)
{
	memset(&n, 0, sizeof(n));
	n.ops = &ops;
	n.peer = &peer;
	n.tls_required = tls;
	n.log = log_line;
	deny_b = false;
	last_log[0] = '\0';
	opened = closed_again = 0;
	nego_init(&n);
	assert_int_equal(n.out_len, 18);
	assert_int_equal(get_be64(n.out), NBD_INIT_MAGIC);
	assert_int_equal(get_be64(n.out + 8), NBD_OPTION_MAGIC);
	assert_int_equal(get_be16(n.out + 16), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	seen = 18;
	in_len = 0;
}

static void put(const void *data, size_t len)
{
	assert_true(in_len + len <= sizeof(in));
	memcpy(in + in_len, data, len);
	in_len += len;
}

static void put32(uint32_t v)
{
	uint8_t b[4];

	put_be32(b, v);
	put(b, 4);
}

static void put16(uint16_t v)
{
	uint8_t b[2];

	put_be16(b, v);
	put(b, 2);
}

static void put_option(uint32_t option, uint32_t len)
{
	uint8_t b[8];

	put_be64(b, NBD_OPTION_MAGIC);
	put(b, 8);
	put32(option);
	put32(len);
}

static void put_string(const char *s)
{
	put32((uint32_t)strlen(s));
	put(s, strlen(s));
}

/* Byte by byte or all at once must be the same. */
static bool bytewise;

static void feed(void)
{
	size_t used = 0, have = 0;

	while (used < in_len && n.state != NEGO_CLOSED && n.state != NEGO_READY &&
	       n.state != NEGO_TLS) {
		have = bytewise ? have + 1 : in_len;
		if (have > in_len)
			break;
		used += nego_feed(&n, in + used, have - used);
		assert_true(used <= have);
		if (have == in_len)
			break;
	}
	memmove(in, in + used, in_len - used);
	in_len -= used;
}

static const uint8_t *next_reply(uint32_t option, uint32_t type, uint32_t *len)
{
	const uint8_t *r = n.out + seen;

	assert_true(n.out_len >= seen + 20);
	assert_int_equal(get_be64(r), NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(get_be32(r + 8), option);
	if (get_be32(r + 12) != type)
		fail_msg("option %u: reply 0x%x, expected 0x%x", option, get_be32(r + 12), type);
	*len = get_be32(r + 16);
	assert_true(n.out_len >= seen + 20 + *len);
	seen += 20 + *len;
	return r + 20;
}

static void reply_says(uint32_t option, uint32_t type, const char *text)
{
	uint32_t len;
	const uint8_t *r = next_reply(option, type, &len);

	if (text && !memmem(r, len, text, strlen(text)))
		fail_msg("option %u: \"%.*s\" lacks \"%s\"", option, (int)len, r, text);
}

static void end(void)
{
	assert_int_equal(seen, n.out_len);
	nego_exit(&n);
	assert_int_equal(opened, closed_again);
}

static void flags(void)
{
	put32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

static void go(uint32_t option, const char *name)
{
	put_option(option, 4 + (uint32_t)strlen(name) + 2 + 2 * 3);
	put_string(name);
	put16(3);
	put16(NBD_INFO_NAME);
	put16(NBD_INFO_DESCRIPTION);
	put16(99);
}

static void went(uint32_t option)
{
	const uint8_t *r;
	uint32_t len;

	r = next_reply(option, NBD_REP_INFO, &len);
	assert_int_equal(len, 12);
	assert_int_equal(get_be16(r), NBD_INFO_EXPORT);
	assert_int_equal(get_be64(r + 2), 1 << 20);
	assert_true(get_be16(r + 10) & NBD_FLAG_READ_ONLY);
	assert_false(get_be16(r + 10) & NBD_FLAG_SEND_WRITE_ZEROES);
	r = next_reply(option, NBD_REP_INFO, &len);
	assert_int_equal(get_be16(r), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(get_be32(r + 2), 512);
	assert_int_equal(get_be32(r + 6), 4096);
	assert_int_equal(get_be32(r + 10), NBDS_REQUEST_MAX);
	reply_says(option, NBD_REP_INFO, "g/a");
	reply_says(option, NBD_REP_INFO, "a disk");
	reply_says(option, NBD_REP_ACK, NULL);
}

/* ---- the handshake ------------------------------------------------------- */

static void test_whole(void **state)
{
	uint32_t len;
	const uint8_t *r;
	int way;

	(void)state;
	for (way = 0; way < 2; way++) {
		bytewise = way;
		begin(false);
		flags();
		put_option(77, 3);
		put("abc", 3);
		put_option(NBD_OPT_LIST, 0);
		put_option(NBD_OPT_STRUCTURED_REPLY, 0);
		put_option(NBD_OPT_LIST_META_CONTEXT, 4 + 3 + 4);
		put_string("g/a");
		put32(0);
		put_option(NBD_OPT_LIST_META_CONTEXT, 4 + 3 + 4 + 4 + 5);
		put_string("g/a");
		put32(1);
		put_string("qemu:");
		put_option(NBD_OPT_SET_META_CONTEXT, 4 + 3 + 4 + 4 + 5 + 4 + 26);
		put_string("g/a");
		put32(2);
		put_string("base:");	/* names nothing: SET takes no namespace */
		put_string("qemu:dirty-bitmap:repagent");
		go(NBD_OPT_INFO, "g/a");
		go(NBD_OPT_GO, "g/a");
		feed();
		assert_int_equal(n.state, NEGO_READY);
		assert_int_equal(in_len, 0);
		reply_says(77, NBD_REP_ERR_UNSUP, NULL);
		reply_says(NBD_OPT_LIST, NBD_REP_SERVER, "g/a");
		reply_says(NBD_OPT_LIST, NBD_REP_SERVER, "g/b");
		reply_says(NBD_OPT_LIST, NBD_REP_ACK, NULL);
		reply_says(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL);
		reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, "base:allocation");
		reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, "qemu:dirty");
		reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL);
		reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, "qemu:dirty");
		reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL);
		r = next_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, &len);
		assert_int_equal(get_be32(r), 2);
		reply_says(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL);
		went(NBD_OPT_INFO);
		went(NBD_OPT_GO);
		assert_true(n.structured);
		assert_int_equal(n.nr_meta, 1);
		assert_int_equal(n.meta[0], 1);
		end();
	}
	bytewise = false;
}

static void test_export_name(void **state)
{
	(void)state;
	begin(false);
	put32(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_EXPORT_NAME, 3);
	put("g/a", 3);
	feed();
	assert_int_equal(n.state, NEGO_READY);
	assert_int_equal(n.out_len - seen, 8 + 2 + 124);
	assert_int_equal(get_be64(n.out + seen), 1 << 20);
	seen = n.out_len;
	end();

	begin(false);
	flags();
	put_option(NBD_OPT_EXPORT_NAME, 3);
	put("g/x", 3);
	feed();
	assert_int_equal(n.state, NEGO_CLOSED);
	assert_non_null(strstr(last_log, "g/x"));
	end();
}

/* Contexts hold for the export that they were asked of. */
static void test_contexts_of_another(void **state)
{
	(void)state;
	begin(false);
	flags();
	put_option(NBD_OPT_STRUCTURED_REPLY, 0);
	put_option(NBD_OPT_SET_META_CONTEXT, 4 + 3 + 4 + 4 + 15);
	put_string("g/b");
	put32(1);
	put_string("base:allocation");
	go(NBD_OPT_GO, "g/a");
	feed();
	assert_int_equal(n.state, NEGO_READY);
	assert_int_equal(n.nr_meta, 0);
	seen = n.out_len;
	end();
}

static void test_denied(void **state)
{
	(void)state;
	begin(false);
	deny_b = true;
	flags();
	put_option(NBD_OPT_LIST, 0);
	go(NBD_OPT_GO, "g/b");
	go(NBD_OPT_GO, "g/\nc");
	go(NBD_OPT_GO, "g/a");
	feed();
	reply_says(NBD_OPT_LIST, NBD_REP_SERVER, "g/a");
	reply_says(NBD_OPT_LIST, NBD_REP_ACK, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_POLICY, "not for you");
	reply_says(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, "g/?c");
	assert_non_null(strstr(last_log, "g/?c"));
	assert_int_equal(n.state, NEGO_READY);
	went(NBD_OPT_GO);
	end();
}

static void test_tls_required(void **state)
{
	struct nbds_peer known = { .address = "test", .tls = true };

	(void)state;
	begin(true);
	flags();
	put_option(NBD_OPT_LIST, 0);
	put_option(NBD_OPT_STRUCTURED_REPLY, 0);
	go(NBD_OPT_GO, "g/a");
	put_option(NBD_OPT_STARTTLS, 0);
	put_option(NBD_OPT_LIST, 0);	/* slipped in: must not be taken */
	feed();
	reply_says(NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD, "TLS is required");
	reply_says(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_TLS_REQD, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_TLS_REQD, NULL);
	reply_says(NBD_OPT_STARTTLS, NBD_REP_ACK, NULL);
	assert_int_equal(n.state, NEGO_TLS);
	assert_int_equal(in_len, NBD_OPTION_SIZE);
	in_len = 0;
	nego_tls_done(&n, &known);
	put_option(NBD_OPT_STARTTLS, 0);
	go(NBD_OPT_GO, "g/a");
	feed();
	reply_says(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, NULL);
	went(NBD_OPT_GO);
	assert_int_equal(n.state, NEGO_READY);
	end();

	begin(true);
	flags();
	put_option(NBD_OPT_EXPORT_NAME, 3);
	put("g/a", 3);
	feed();
	assert_int_equal(n.state, NEGO_CLOSED);
	assert_int_equal(opened, 0);
	end();

	begin(false);
	flags();
	put_option(NBD_OPT_STARTTLS, 0);
	feed();
	reply_says(NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, NULL);
	end();
}

/* Each makes no sense, is refused, and the next option is understood. */
static void test_senseless(void **state)
{
	(void)state;
	begin(false);
	flags();
	put_option(NBD_OPT_LIST, 1);
	put("x", 1);
	put_option(NBD_OPT_GO, 0);
	put_option(NBD_OPT_GO, 6);		/* the name is longer than the option */
	put32(1000);
	put16(0);
	put_option(NBD_OPT_GO, 6);		/* wishes are missing */
	put32(0);
	put16(1);
	put_option(NBD_OPT_GO, 8);		/* and too many */
	put32(0);
	put16(0);
	put16(0);
	put_option(NBD_OPT_GO, 4 + 3 + 2);	/* a zero in the name */
	put32(3);
	put("g\0a", 3);
	put16(0);
	put_option(NBD_OPT_SET_META_CONTEXT, 4 + 3 + 4);	/* no structured replies */
	put_string("g/a");
	put32(0);
	put_option(NBD_OPT_LIST_META_CONTEXT, 4 + 3 + 4);	/* a query is missing */
	put_string("g/a");
	put32(1);
	put_option(NBD_OPT_LIST_META_CONTEXT, 4 + 3 + 4);
	put_string("g/a");
	put32(0xffffffff);
	put_option(NBD_OPT_LIST, 0);
	feed();
	reply_says(NBD_OPT_LIST, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY");
	reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID, NULL);
	reply_says(NBD_OPT_LIST, NBD_REP_SERVER, NULL);
	reply_says(NBD_OPT_LIST, NBD_REP_SERVER, NULL);
	reply_says(NBD_OPT_LIST, NBD_REP_ACK, NULL);
	assert_int_equal(n.state, NEGO_OPTION);
	end();
}

static void test_too_long(void **state)
{
	static uint8_t junk[NEGO_SKIP_MAX];

	(void)state;
	begin(false);
	flags();
	put_option(NBD_OPT_GO, NEGO_OPTION_MAX + 1);
	put(junk, NEGO_OPTION_MAX + 1);
	put_option(NBD_OPT_GO, NEGO_SKIP_MAX);
	put(junk, NEGO_SKIP_MAX);
	put_option(NBD_OPT_ABORT, 0);
	feed();
	reply_says(NBD_OPT_GO, NBD_REP_ERR_TOO_BIG, NULL);
	reply_says(NBD_OPT_GO, NBD_REP_ERR_TOO_BIG, NULL);
	reply_says(NBD_OPT_ABORT, NBD_REP_ACK, NULL);
	assert_int_equal(n.state, NEGO_CLOSED);
	end();

	begin(false);
	flags();
	put_option(NBD_OPT_GO, NEGO_SKIP_MAX + 1);
	feed();
	assert_int_equal(n.state, NEGO_CLOSED);
	end();
}

static void test_endless(void **state)
{
	unsigned int i;

	(void)state;
	/* A client that reads nothing is not answered without end. */
	begin(false);
	flags();
	for (i = 0; i < 5000; i++)
		put_option(99, 0);
	feed();
	assert_true(n.out_len >= 20 * 100 && n.out_len < NEGO_OUT_FULL + 1000);
	/* nor is one that never chooses */
	while (n.state != NEGO_CLOSED && in_len) {
		n.out_len = 0;
		feed();
	}
	assert_int_equal(n.state, NEGO_CLOSED);
	assert_int_equal(n.nr_options, NEGO_OPTIONS_MAX + 1);
	seen = n.out_len;
	end();
}

static void test_no_nbd(void **state)
{
	(void)state;
	begin(false);
	put("GET / HTTP/1.1\r\n\r\n", 18);
	feed();
	assert_int_equal(n.state, NEGO_CLOSED);
	end();
	begin(false);
	flags();
	put("GET / HTTP/1.1\r\n\r\n", 18);
	feed();
	assert_int_equal(n.state, NEGO_CLOSED);
	assert_non_null(strstr(last_log, "no NBD option"));
	end();
}

/* ---- requests ------------------------------------------------------------ */

static void test_requests(void **state)
{
	static const struct nbds_info rw = {
		.size = 1 << 20, .min_block = 512, .can_flush = true, .can_fua = true,
		.can_trim = true, .can_zero = true, .can_fast_zero = true,
	}, ro = {
		.size = UINT64_MAX, .min_block = 1, .read_only = true,
	};
	static const struct {
		const struct nbds_info *info;
		bool structured;
		unsigned int contexts;
		uint16_t type, flags;
		uint64_t offset;
		uint32_t length, error;
		const char *word;
	} t[] = {
		{ &rw, 1, 0, NBD_CMD_READ, 0, 0, 4096, 0, NULL },
		{ &rw, 1, 0, NBD_CMD_READ, 0, 1 << 20, 0, 0, NULL },
		{ &rw, 1, 0, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 1 << 18, 0, NULL },
		{ &rw, 1, 0, NBD_CMD_READ, NBD_CMD_FLAG_DF, 512, 1 << 18, NBD_EOVERFLOW, "DF" },
		{ &rw, 0, 0, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 4096, NBD_EINVAL, "flags" },
		{ &rw, 1, 0, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 4096, 0, NULL },
		{ &ro, 1, 0, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 4096, NBD_EINVAL, "flags" },
		{ &rw, 1, 0, NBD_CMD_READ, 0x8000, 0, 4096, NBD_EINVAL, "flags" },
		{ &rw, 1, 0, NBD_CMD_READ, 0, (1 << 20) - 512, 1024, NBD_EINVAL, "beyond" },
		{ &rw, 1, 0, NBD_CMD_READ, 0, UINT64_MAX - 511, 512, NBD_EINVAL, "beyond" },
		{ &rw, 1, 0, NBD_CMD_WRITE, 0, (1 << 20) - 512, 1024, NBD_ENOSPC, "beyond" },
		{ &rw, 1, 0, NBD_CMD_WRITE_ZEROES, 0, 1 << 20, 512, NBD_ENOSPC, "beyond" },
		{ &rw, 1, 0, NBD_CMD_TRIM, 0, 1 << 20, 512, NBD_EINVAL, "beyond" },
		{ &rw, 1, 0, NBD_CMD_READ, 0, 1, 512, NBD_EINVAL, "multiples of 512" },
		{ &rw, 1, 0, NBD_CMD_WRITE, 0, 0, 511, NBD_EINVAL, "multiples of 512" },
		{ &ro, 1, 0, NBD_CMD_READ, 0, 0, NBDS_REQUEST_MAX, 0, NULL },
		{ &ro, 1, 0, NBD_CMD_READ, 0, 0, NBDS_REQUEST_MAX + 1, NBD_EINVAL, "at most" },
		{ &ro, 1, 0, NBD_CMD_WRITE, 0, 0, 512, NBD_EPERM, "read-only" },
		{ &ro, 1, 0, NBD_CMD_TRIM, 0, 0, 512, NBD_EPERM, "read-only" },
		{ &ro, 1, 0, NBD_CMD_FLUSH, 0, 0, 0, NBD_EINVAL, "not offer" },
		{ &rw, 1, 0, NBD_CMD_FLUSH, 0, 0, 0, 0, NULL },
		{ &rw, 1, 0, NBD_CMD_CACHE, 0, 0, 512, NBD_EINVAL, "command 5" },
		{ &rw, 1, 0, 1000, 0, 0, 512, NBD_EINVAL, "command 1000" },
		{ &rw, 1, 0, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO |
		  NBD_CMD_FLAG_FUA, 0, 512, 0, NULL },
		{ &rw, 1, 0, NBD_CMD_WRITE, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL, "flags" },
		{ &rw, 1, 0, NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL, "no context" },
		{ &rw, 1, 1, NBD_CMD_BLOCK_STATUS, 0, 0, 0, NBD_EINVAL, "length" },
		{ &rw, 1, 1, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, 512, 0, NULL },
	};
	struct request_header h, back;
	char reason[NBDS_REASON_MAX];
	uint8_t raw[NBD_REQUEST_SIZE];
	unsigned int i;
	uint32_t error;

	(void)state;
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		h = (struct request_header){ t[i].flags, t[i].type, 0x1122334455667788, t[i].offset,
					     t[i].length };
		put_be32(put_be64(put_be64(put_be16(put_be16(put_be32(raw, NBD_REQUEST_MAGIC),
			 h.flags), h.type), h.cookie), h.offset), h.length);
		assert_true(request_parse(&back, raw));
		assert_int_equal(back.cookie, h.cookie);
		reason[0] = '\0';
		error = request_check(&back, t[i].info, t[i].structured, t[i].contexts, reason);
		if (error != t[i].error)
			fail_msg("row %u: error %u, expected %u (%s)", i, error, t[i].error, reason);
		if (t[i].word && !strstr(reason, t[i].word))
			fail_msg("row %u: \"%s\" lacks \"%s\"", i, reason, t[i].word);
	}
	raw[0] ^= 1;
	assert_false(request_parse(&back, raw));
	assert_int_equal(request_error(EROFS), NBD_EPERM);
	assert_int_equal(request_error(EDQUOT), NBD_ENOSPC);
	assert_int_equal(request_error(ENXIO), NBD_EIO);
}

/* ---- buffers ------------------------------------------------------------- */

static void test_pool(void **state)
{
	static const size_t total = 4 * NBDS_PIECE_MAX;
	struct { uint8_t *mem; size_t size; uint8_t mark; } have[300];
	unsigned int nr = 0, i, round, full = 0;
	struct pool p;
	size_t used = 0, j;

	(void)state;
	assert_int_equal(pool_init(&p, total + 1000), 0);
	assert_int_equal(p.size, total);
	srandom(1);
	for (round = 0; round < 20000; round++) {
		if (nr < 300 && random() % 5 < 3) {
			size_t size = pool_size_for((size_t)random() % NBDS_PIECE_MAX >> random() % 7);
			uint8_t *mem = pool_alloc(&p, size);

			if (!mem) {
				full++;
				i = 0;
				if (!nr)
					continue;
				goto release;
			}
			assert_int_equal((uintptr_t)mem % NBDS_ALIGN, 0);
			assert_true(mem >= p.base && mem + size <= p.base + p.size);
			have[nr].mem = mem;
			have[nr].size = size;
			have[nr].mark = (uint8_t)random();
			memset(mem, have[nr].mark, size);
			nr++;
			used += size;
		} else if (nr) {
			i = (unsigned int)random() % nr;
release:
			/* what overlapped with another would show here */
			for (j = 0; j < have[i].size; j += 512)
				assert_int_equal(have[i].mem[j], have[i].mark);
			pool_free(&p, have[i].mem, have[i].size);
			used -= have[i].size;
			have[i] = have[--nr];
		}
		assert_int_equal(p.free, total - used);
	}
	assert_true(full > 10);
	while (nr--)
		pool_free(&p, have[nr].mem, have[nr].size);
	/* all of it has grown together again */
	for (i = 0; i < 4; i++)
		assert_non_null(pool_alloc(&p, NBDS_PIECE_MAX));
	assert_null(pool_alloc(&p, NBDS_ALIGN));
	pool_exit(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_export_name),
		cmocka_unit_test(test_contexts_of_another),
		cmocka_unit_test(test_denied),
		cmocka_unit_test(test_tls_required),
		cmocka_unit_test(test_senseless),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_no_nbd),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
