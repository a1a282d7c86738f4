/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be asked at the hub's control socket. */
#ifndef REPHUB_COMMANDS_H
#define REPHUB_COMMANDS_H

#include "../repagentd/control.h"

#define POINTS_MOST	200u	/* in one answer */

extern const struct command hub_commands[];	/* their owner is the struct hub */

#endif /* REPHUB_COMMANDS_H */
