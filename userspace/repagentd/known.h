/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which rephub a group goes to, and what it is there: remembered over a daemon's end. */
#ifndef REPAGENT_KNOWN_H
#define REPAGENT_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT	37	/* bytes of a uuid's text, with its NUL */

/*
 * struct known - zeroes: nothing is known
 * @hub, @group: uuids
 * @generation:	that it last worked in
 */
struct known {
	uint8_t hub[16], group[16];
	uint64_t generation;
};

bool known_any(const struct known *k);
void known_load(struct known *k, const char *dir, const char *group);
void known_save(const struct known *k, const char *dir, const char *group);
const char *uuid_text(char *text, const uint8_t *uuid);

#endif /* REPAGENT_KNOWN_H */
