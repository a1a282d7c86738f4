/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why a group or a volume is in its state (enum repagent_reason), in words. */
#ifndef REPAGENT_REASON_H
#define REPAGENT_REASON_H

const char *reason_name(unsigned int reason);
const char *reason_words(unsigned int reason);
const char *reason_remedy(unsigned int reason);

#endif /* REPAGENT_REASON_H */
