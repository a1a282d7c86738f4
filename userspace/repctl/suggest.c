// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "suggest.h"

#define WORD_MAX	24	/* longer words are nobody's slip */

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int m = a < b ? a : b;

	return m < c ? m : c;
}

/* Letters to be added, taken away or changed to make the one from the other. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[WORD_MAX + 1], i, j, corner, above;
	unsigned int la = (unsigned int)strlen(a), lb = (unsigned int)strlen(b);

	for (j = 0; j <= lb; j++)
		row[j] = j;
	for (i = 1; i <= la; i++) {
		corner = row[0];
		row[0] = i;
		for (j = 1; j <= lb; j++) {
			above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
			corner = above;
		}
	}
	return row[lb];
}

/**
 * suggest - which of some words was meant
 * @word: what was typed
 * @known: the words
 * @nr: of @known
 *
 * Return: the index of the only word that begins so, or else of the nearest
 * that differs in at most two letters and less than half of them; -1 if there is none.
 */
int suggest(const char *word, const char *const *known, unsigned int nr)
{
	unsigned int i, d, least = 3, begins = 0;
	size_t len = strlen(word);
	int best = -1;

	for (i = 0; len && i < nr; i++) {
		if (!strncmp(known[i], word, len)) {
			begins++;
			best = (int)i;
		}
	}
	if (begins == 1)
		return best;
	best = -1;
	if (len > WORD_MAX)
		return -1;
	for (i = 0; i < nr; i++) {
		if (strlen(known[i]) > WORD_MAX)
			continue;
		d = distance(word, known[i]);
		if (d < least && 2 * d < len) {
			least = d;
			best = (int)i;
		}
	}
	return best;
}
