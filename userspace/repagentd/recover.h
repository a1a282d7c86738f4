/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repagentd --recover: the disks of a VM that runs on the recovery side, from the hub. */
#ifndef REPAGENT_RECOVER_H
#define REPAGENT_RECOVER_H

#include <stdbool.h>

#include "config.h"

bool recover_run(const struct config *cfg, int signal_fd);

#endif /* REPAGENT_RECOVER_H */
