/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each command's line is beside what it does. */
#ifndef REPAGENT_COMMANDS_H
#define REPAGENT_COMMANDS_H

#include "repctl.h"

extern const struct command cmd_activate;
extern const struct command cmd_checkpoint;
extern const struct command cmd_deactivate;
extern const struct command cmd_shutdown;
extern const struct command cmd_dirty;
extern const struct command cmd_events;
extern const struct command cmd_fail_back;
extern const struct command cmd_list;
extern const struct command cmd_map;
extern const struct command cmd_pause;
extern const struct command cmd_protect;
extern const struct command cmd_recover;
extern const struct command cmd_rejoin;
extern const struct command cmd_resume;
extern const struct command cmd_resync;
extern const struct command cmd_status;
extern const struct command cmd_take_home;
extern const struct command cmd_unprotect;
extern const struct command cmd_unrecover;
extern const struct command cmd_verify;
extern const struct command cmd_volumes;

bool take_volume(int argc, char **argv, const char **volume);	/* recover.c */

#endif /* REPAGENT_COMMANDS_H */
