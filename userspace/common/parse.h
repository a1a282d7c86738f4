/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, sizes and times: from a person's words and into them. */
#ifndef REPAGENT_PARSE_H
#define REPAGENT_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSEC_PER_MSEC	UINT64_C(1000000)
#define NSEC_PER_SEC	UINT64_C(1000000000)
#define KIB		UINT64_C(1024)
#define MIB		(UINT64_C(1024) * 1024)

#define HUMAN_MAX	24	/* bytes that suffice for any of the texts */

bool parse_count(const char *s, uint64_t *count);
bool parse_size(const char *s, uint64_t *bytes);
bool parse_duration(const char *s, uint64_t *ns);

const char *human_size(char *buf, uint64_t bytes);
const char *human_duration(char *buf, uint64_t ns);

#endif /* REPAGENT_PARSE_H */
