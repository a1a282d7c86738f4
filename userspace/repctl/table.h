/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Columns that are as wide as they need to be. */
#ifndef REPAGENT_TABLE_H
#define REPAGENT_TABLE_H

#include <stdio.h>

#define TABLE_COLUMNS	10

/*
 * struct table - rows of texts.
 * @align:	a letter for each column: 'l' left, 'r' right
 * @cells:	nr rows of as many texts as columns, all copied
 */
struct table {
	const char *align;
	unsigned int columns;
	unsigned int nr;
	char **cells;
};

void table_init(struct table *t, const char *align);
void table_row(struct table *t, ...);
void table_print(struct table *t, FILE *f, unsigned int indent);

#endif /* REPAGENT_TABLE_H */
