/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Volumes as exports of the NBD server. */
#ifndef REPAGENT_EXPORT_H
#define REPAGENT_EXPORT_H

#include "access.h"

extern const struct nbds_ops reader_ops;	/* its data is a struct access_list */

#endif /* REPAGENT_EXPORT_H */
