/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that write to the volumes of a fault run, each by a seed of its own. */
#ifndef UML_WRITERS_H
#define UML_WRITERS_H

void start_writers(void);

/* wrong() if one of them got an error that the origin did not give. */
void end_writers(void);

#endif /* UML_WRITERS_H */
