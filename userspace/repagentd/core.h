/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the loop (daemon.c) and the commands (commands.c, status.c) share. */
#ifndef REPAGENT_CORE_H
#define REPAGENT_CORE_H

#include "control.h"
#include "daemon.h"
#include "jobs.h"
#include "stats.h"
#include "supervise.h"
#include "tap.h"

/*
 * struct daemon
 * @signal_watch, @ring_watch: first, so that a watch leads back here
 * @ring:	the group's, or NULL while there is none
 * @own:	what @ring is, unless it was given
 * @next_look:	for the group, while there is none, ns
 * @refresh:	the state has changed: ask the kernel
 * @gone:	the group's device has ended
 * @paused:	by command
 * @stop_by:	when a clean stop ends in any case, ns; 0: not stopping
 * @by_command:	it was asked for by the command shutdown
 * @rested:	the last nap brought nothing: sleep deeply
 * @acked_at:	when something was acknowledged last, or nothing was waiting
 * @refreshed:	when the kernel was asked last, ns
 * @sampled, @figures: of the last second or so
 * @printed, @lines: between two status lines
 * @hub_told:	what the last event HUB said
 * @holding:	stop-protect of the last volume is under way: what comes now is
 *		not taken, lest the group goes before SHUTDOWN is in its stream
 * @reader_call: start-reader or stop-reader, to be answered
 * @next_protect: when to try the configuration's volumes that are not there, ns
 * @protect_left: bit i: conf.volume[i] is still to be protected
 * @watchdog:	between two signs of life, ns; 0: none are wanted
 */
struct daemon {
	struct watch signal_watch;
	struct watch ring_watch;
	struct config *cfg;
	struct loop loop;
	struct ring *ring;
	struct ring own;
	uint64_t next_look;
	bool look_told;

	struct stream stream;
	struct tap *tap;
	struct verify verify;
	struct report report;
	struct stats sampled, printed;
	struct figures figures, lines;
	int signal_fd;
	bool refresh;
	bool gone;
	bool paused;
	bool say_status;
	bool stop_now;
	bool rested;
	bool hub_told;
	bool holding;
	uint64_t stop_by;
	bool by_command;
	uint64_t refreshed;
	uint64_t next_refresh;
	uint64_t next_stats;
	uint64_t acked;
	uint64_t acked_at;

	struct control *control;
	struct jobs jobs;
	struct reader reader;
	struct call *reader_call;
	uint64_t next_protect;
	uint64_t protect_left;
	uint64_t watchdog;
	uint64_t next_sign;
};

/* daemon.c */
void daemon_refresh(struct daemon *d);
int daemon_pause(struct daemon *d, bool on);
void daemon_stop(struct daemon *d, const char *who, const char *reason);
void daemon_look(struct daemon *d);
int daemon_choose_tap(struct daemon *d);

/* commands.c */
extern const struct command daemon_commands[];
void commands_begin(struct daemon *d);
void commands_run(struct daemon *d);
bool commands_mark_dirty(void *owner, const char *volume);
void commands_tell(void *owner, enum report_change change, const struct repagent_volume_info *v);
void commands_verified(void *owner, unsigned int volume);
void commands_reader_changed(void *owner, enum reader_state before);

/* status.c */
struct json_object *status_all(struct daemon *d);
struct json_object *status_volumes(struct daemon *d);
struct json_object *status_verify(const struct daemon *d, unsigned int i);
struct json_object *status_reader(struct daemon *d);
double status_time(const struct daemon *d, uint64_t monotonic);

#endif /* REPAGENT_CORE_H */
