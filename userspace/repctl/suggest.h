/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The word that was meant. */
#ifndef REPAGENT_SUGGEST_H
#define REPAGENT_SUGGEST_H

int suggest(const char *word, const char *const *known, unsigned int nr);

#endif /* REPAGENT_SUGGEST_H */
