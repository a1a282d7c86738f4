/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client's request: its header, and whether it may be. */
#ifndef NBDS_REQUEST_H
#define NBDS_REQUEST_H

#include "nbdserver.h"
#include "proto.h"

struct request_header {
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
};

bool request_parse(struct request_header *h, const uint8_t *data);
uint32_t request_check(const struct request_header *h, const struct nbds_info *info,
		       bool structured, unsigned int nr_contexts, char *reason);
uint32_t request_error(int error);

#endif /* NBDS_REQUEST_H */
