/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hub's exports for the NBD server: log/GROUP, view/GROUP/VOLUME@POINT, live/GROUP/VOLUME, test/ID/VOLUME,
 * sums/GROUP/VOLUME. */
#ifndef REPHUB_EXPORT_H
#define REPHUB_EXPORT_H

#include "../reader/access.h"
#include "hub.h"

/* struct exports - the data of @exports_ops */
struct exports {
	struct hub *hub;
	struct access_list access;
};

extern const struct nbds_ops exports_ops;

bool exports_start(unsigned int threads);
void exports_release(void);
void exports_stop(void);

#endif /* REPHUB_EXPORT_H */
