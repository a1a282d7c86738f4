/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers of the NBD protocol, as its specification (doc/proto.md of the
 * NBD project) names them, and big-endian words of any alignment.
 */
#ifndef NBDS_PROTO_H
#define NBDS_PROTO_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define NBD_INIT_MAGIC			UINT64_C(0x4e42444d41474943)	/* NBDMAGIC */
#define NBD_OPTION_MAGIC		UINT64_C(0x49484156454f5054)	/* IHAVEOPT */
#define NBD_OPTION_REPLY_MAGIC		UINT64_C(0x3e889045565a9)
#define NBD_REQUEST_MAGIC		UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC		UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC	UINT32_C(0x668e33ef)

/* handshake flags, and the client's */
#define NBD_FLAG_FIXED_NEWSTYLE		(1u << 0)
#define NBD_FLAG_NO_ZEROES		(1u << 1)

/* options */
#define NBD_OPT_EXPORT_NAME		1u
#define NBD_OPT_ABORT			2u
#define NBD_OPT_LIST			3u
#define NBD_OPT_STARTTLS		5u
#define NBD_OPT_INFO			6u
#define NBD_OPT_GO			7u
#define NBD_OPT_STRUCTURED_REPLY	8u
#define NBD_OPT_LIST_META_CONTEXT	9u
#define NBD_OPT_SET_META_CONTEXT	10u

/* their replies */
#define NBD_REP_ACK			1u
#define NBD_REP_SERVER			2u
#define NBD_REP_INFO			3u
#define NBD_REP_META_CONTEXT		4u
#define NBD_REP_ERR(n)			((1u << 31) | (n))
#define NBD_REP_ERR_UNSUP		NBD_REP_ERR(1u)
#define NBD_REP_ERR_POLICY		NBD_REP_ERR(2u)
#define NBD_REP_ERR_INVALID		NBD_REP_ERR(3u)
#define NBD_REP_ERR_TLS_REQD		NBD_REP_ERR(5u)
#define NBD_REP_ERR_UNKNOWN		NBD_REP_ERR(6u)
#define NBD_REP_ERR_SHUTDOWN		NBD_REP_ERR(7u)
#define NBD_REP_ERR_TOO_BIG		NBD_REP_ERR(9u)

#define NBD_INFO_EXPORT			0u
#define NBD_INFO_NAME			1u
#define NBD_INFO_DESCRIPTION		2u
#define NBD_INFO_BLOCK_SIZE		3u

/* transmission flags */
#define NBD_FLAG_HAS_FLAGS		(1u << 0)
#define NBD_FLAG_READ_ONLY		(1u << 1)
#define NBD_FLAG_SEND_FLUSH		(1u << 2)
#define NBD_FLAG_SEND_FUA		(1u << 3)
#define NBD_FLAG_ROTATIONAL		(1u << 4)
#define NBD_FLAG_SEND_TRIM		(1u << 5)
#define NBD_FLAG_SEND_WRITE_ZEROES	(1u << 6)
#define NBD_FLAG_SEND_DF		(1u << 7)
#define NBD_FLAG_CAN_MULTI_CONN		(1u << 8)
#define NBD_FLAG_SEND_FAST_ZERO		(1u << 11)

/* requests */
#define NBD_CMD_READ			0u
#define NBD_CMD_WRITE			1u
#define NBD_CMD_DISC			2u
#define NBD_CMD_FLUSH			3u
#define NBD_CMD_TRIM			4u
#define NBD_CMD_CACHE			5u
#define NBD_CMD_WRITE_ZEROES		6u
#define NBD_CMD_BLOCK_STATUS		7u

#define NBD_CMD_FLAG_FUA		(1u << 0)
#define NBD_CMD_FLAG_NO_HOLE		(1u << 1)
#define NBD_CMD_FLAG_DF			(1u << 2)
#define NBD_CMD_FLAG_REQ_ONE		(1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO		(1u << 4)

/* structured replies */
#define NBD_REPLY_FLAG_DONE		(1u << 0)
#define NBD_REPLY_TYPE_NONE		0u
#define NBD_REPLY_TYPE_OFFSET_DATA	1u
#define NBD_REPLY_TYPE_OFFSET_HOLE	2u
#define NBD_REPLY_TYPE_BLOCK_STATUS	5u
#define NBD_REPLY_TYPE_ERROR		((1u << 15) | 1u)

/* errors on the wire */
#define NBD_EPERM			1u
#define NBD_EIO				5u
#define NBD_ENOMEM			12u
#define NBD_EINVAL			22u
#define NBD_ENOSPC			28u
#define NBD_EOVERFLOW			75u
#define NBD_ENOTSUP			95u
#define NBD_ESHUTDOWN			108u

/* the contexts' states */
#define NBD_STATE_HOLE			(1u << 0)
#define NBD_STATE_ZERO			(1u << 1)
#define NBD_STATE_DIRTY			(1u << 0)	/* qemu:dirty-bitmap:* */

/* sizes on the wire, in bytes */
#define NBD_NAME_MAX			4096u	/* of an export's name, by the specification */
#define NBD_OPTION_SIZE			16u
#define NBD_REQUEST_SIZE		28u
#define NBD_SIMPLE_REPLY_SIZE		16u
#define NBD_CHUNK_SIZE			20u

static inline uint16_t get_be16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline uint32_t get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

/* Each returns what is behind the word it has put. */
static inline uint8_t *put_be16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static inline uint8_t *put_be32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static inline uint8_t *put_be64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

#endif /* NBDS_PROTO_H */
