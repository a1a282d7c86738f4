/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that the module got and lost, as kmemleak tells it. */
#ifndef UML_LEAKS_H
#define UML_LEAKS_H

#include <stdint.h>

/* The module is loaded. */
void leaks_prepare(uint64_t text_size);

/* Takes the module away and tells what is left of it. Return how many objects. */
unsigned int leaks_find(void);

#endif /* UML_LEAKS_H */
