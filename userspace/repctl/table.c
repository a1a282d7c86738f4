// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

/**
 * table_init - begin a table
 * @t: the table
 * @align: a letter for each column, at most TABLE_COLUMNS: 'l' left, 'r' right
 */
void table_init(struct table *t, const char *align)
{
	memset(t, 0, sizeof(*t));
	t->align = align;
	t->columns = (unsigned int)strlen(align);
}

/**
 * table_row - add a row
 * @t: the table; behind it a text for each column, which is copied; NULL is "-"
 *
 * Without memory the row is left out.
 */
void table_row(struct table *t, ...)
{
	char **bigger = realloc(t->cells, (t->nr + 1) * t->columns * sizeof(*bigger));
	const char *text;
	unsigned int i;
	va_list ap;

	if (!bigger)
		return;
	t->cells = bigger;
	va_start(ap, t);
	for (i = 0; i < t->columns; i++) {
		text = va_arg(ap, const char *);
		bigger[t->nr * t->columns + i] = strdup(text ? text : "-");
	}
	va_end(ap);
	t->nr++;
}

static const char *cell(const struct table *t, unsigned int row, unsigned int column)
{
	const char *text = t->cells[row * t->columns + column];

	return text ? text : "";
}

/**
 * table_print - print a table, and let it go
 * @t: the table
 * @f: where to
 * @indent: blanks before each row
 */
void table_print(struct table *t, FILE *f, unsigned int indent)
{
	int width[TABLE_COLUMNS] = { 0 }, len;
	unsigned int row, i;

	for (row = 0; row < t->nr; row++) {
		for (i = 0; i < t->columns; i++) {
			len = (int)strlen(cell(t, row, i));
			if (len > width[i])
				width[i] = len;
		}
	}
	for (row = 0; row < t->nr; row++) {
		fprintf(f, "%*s", (int)indent, "");
		for (i = 0; i < t->columns; i++) {
			if (t->align[i] == 'r')
				fprintf(f, "%*s", width[i], cell(t, row, i));
			else if (i + 1 < t->columns)
				fprintf(f, "%-*s", width[i], cell(t, row, i));
			else
				fputs(cell(t, row, i), f);
			fputs(i + 1 < t->columns ? "  " : "\n", f);
			free(t->cells[row * t->columns + i]);
		}
	}
	free(t->cells);
	t->cells = NULL;
	t->nr = 0;
}
