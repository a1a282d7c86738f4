/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why a group was left unprotected, until it is activated again or the host restarts. */
#ifndef REPAGENT_NOTE_H
#define REPAGENT_NOTE_H

#include <stdbool.h>
#include <stddef.h>

#define NOTE_MAX	2048	/* bytes of each of its two lines */

bool note_write(const char *group, const char *why, const char *remedy);
bool note_read(const char *group, char *why, char *remedy);
void note_remove(const char *group);

#endif /* REPAGENT_NOTE_H */
