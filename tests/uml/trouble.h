/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can fail in a life of a fault run, but for the power. */
#ifndef UML_TROUBLE_H
#define UML_TROUBLE_H

#include <stdbool.h>
#include <stdint.h>

/* The module's code, of which allocations may fail, and code in which they do not; NULL: none is said. */
void trouble_prepare(uint64_t text_size, const char *not_in);

void trouble_begin(void);	/* of a run: what may happen in it */
void trouble_step(void);	/* something begins, or ends, or not */
void trouble_end(void);		/* nothing fails any more */

#endif /* UML_TROUBLE_H */
