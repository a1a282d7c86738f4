// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "request.h"

/* What each command may be and have. FUA may stand on all of them. */
static const struct command {
	const char *name;	/* NULL: there is none of this number */
	uint16_t flags;
	bool range;		/* has an offset and a length */
	bool writes;
} commands[] = {
	[NBD_CMD_READ]		= { "READ", NBD_CMD_FLAG_DF, true, false },
	[NBD_CMD_WRITE]		= { "WRITE", 0, true, true },
	[NBD_CMD_DISC]		= { "DISC", 0, false, false },
	[NBD_CMD_FLUSH]		= { "FLUSH", 0, false, false },
	[NBD_CMD_TRIM]		= { "TRIM", 0, true, true },
	[NBD_CMD_CACHE]		= { NULL, 0, true, false },
	[NBD_CMD_WRITE_ZEROES]	= { "WRITE_ZEROES", NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
				    true, true },
	[NBD_CMD_BLOCK_STATUS]	= { "BLOCK_STATUS", NBD_CMD_FLAG_REQ_ONE, true, false },
};

#define NR_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

/**
 * request_parse - take a request's header apart
 * @h: out
 * @data: NBD_REQUEST_SIZE bytes
 *
 * Return: whether it is one. If not, nobody knows where the next one begins.
 */
bool request_parse(struct request_header *h, const uint8_t *data)
{
	h->flags = get_be16(data + 4);
	h->type = get_be16(data + 6);
	h->cookie = get_be64(data + 8);
	h->offset = get_be64(data + 16);
	h->length = get_be32(data + 24);
	return get_be32(data) == NBD_REQUEST_MAGIC;
}

/* Beyond the end: no space to write to, and no sense in reading there. */
static uint32_t check_range(const struct request_header *h, const struct nbds_info *info,
			    const char *name, char *reason)
{
	bool space = h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES;

	if (h->offset > info->size || h->length > info->size - h->offset) {
		snprintf(reason, NBDS_REASON_MAX, "%s of %" PRIu32 " bytes at %" PRIu64
			 ": beyond the end, the export has %" PRIu64 " bytes",
			 name, h->length, h->offset, info->size);
		return space ? NBD_ENOSPC : NBD_EINVAL;
	}
	if ((h->offset | h->length) & (info->min_block - 1)) {
		snprintf(reason, NBDS_REASON_MAX, "%s of %" PRIu32 " bytes at %" PRIu64
			 ": expected multiples of %" PRIu32, name, h->length, h->offset,
			 info->min_block);
		return NBD_EINVAL;
	}
	return 0;
}

/**
 * request_check - may this request be?
 * @h: its header
 * @info: the export
 * @structured: structured replies were agreed on
 * @nr_contexts: so many contexts were chosen
 * @reason: NBDS_REASON_MAX bytes for why not
 *
 * Return: 0, or the error for the reply. DISC needs no check.
 */
uint32_t request_check(const struct request_header *h, const struct nbds_info *info,
		       bool structured, unsigned int nr_contexts, char *reason)
{
	const struct command *c = h->type < NR_COMMANDS ? &commands[h->type] : NULL;
	uint16_t flags;

	if (!c || !c->name) {
		snprintf(reason, NBDS_REASON_MAX, "command %u is not supported", h->type);
		return NBD_EINVAL;
	}
	if (c->writes && info->read_only) {
		snprintf(reason, NBDS_REASON_MAX, "%s: the export is read-only", c->name);
		return NBD_EPERM;
	}
	flags = c->flags;
	if (info->can_fua)
		flags |= NBD_CMD_FLAG_FUA;
	if (!structured)
		flags &= (uint16_t)~NBD_CMD_FLAG_DF;
	if (!info->can_fast_zero)
		flags &= (uint16_t)~NBD_CMD_FLAG_FAST_ZERO;
	if (h->flags & ~flags) {
		snprintf(reason, NBDS_REASON_MAX, "%s with flags 0x%x: expected none but 0x%x",
			 c->name, h->flags, flags);
		return NBD_EINVAL;
	}
	if ((h->type == NBD_CMD_FLUSH && !info->can_flush) ||
	    (h->type == NBD_CMD_TRIM && !info->can_trim) ||
	    (h->type == NBD_CMD_WRITE_ZEROES && !info->can_zero)) {
		snprintf(reason, NBDS_REASON_MAX, "%s: the export does not offer it", c->name);
		return NBD_EINVAL;
	}
	if (c->range) {
		uint32_t error = check_range(h, info, c->name, reason);

		if (error)
			return error;
	}
	if ((h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE) && h->length > NBDS_REQUEST_MAX) {
		snprintf(reason, NBDS_REASON_MAX, "%s of %" PRIu32 " bytes: expected at most %u",
			 c->name, h->length, NBDS_REQUEST_MAX);
		return NBD_EINVAL;
	}
	/* One chunk has to be read into memory before any of it is sent. */
	if ((h->flags & NBD_CMD_FLAG_DF) &&
	    h->length > NBDS_PIECE_MAX - (h->offset & (NBDS_ALIGN - 1))) {
		snprintf(reason, NBDS_REASON_MAX,
			 "READ of %" PRIu32 " bytes with DF: too many for one chunk", h->length);
		return NBD_EOVERFLOW;
	}
	if (h->type == NBD_CMD_BLOCK_STATUS && (!nr_contexts || !h->length)) {
		snprintf(reason, NBDS_REASON_MAX, "BLOCK_STATUS: %s",
			 h->length ? "no context was chosen" : "expected a length");
		return NBD_EINVAL;
	}
	return 0;
}

/**
 * request_error - an errno as it goes over the wire
 * @error: positive
 */
uint32_t request_error(int error)
{
	switch (error) {
	case 0:
		return 0;
	case EPERM:
	case EROFS:
	case EACCES:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:
		return NBD_ENOTSUP;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}
