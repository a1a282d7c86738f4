#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I5 with the hub killed: no write fails or waits. While the ring has room nothing is resynced; when it is full the
# group tracks, and comes back by itself once the hub is there again.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 9
trace_start repagent_capture repagent_image
setup_volume 48 ring 16
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"
start_writer oracle oracle --threads 3 --seed "$SEED" --rate 200 --max 16k --seconds 120 \
	--mix write=60,fua=10,nowait=10,fsync=2 "$DEV"
must_wait_for 20 status_past "$NAME" acked $((ST[last] + 200))

kill_hub
nap 0.2
acked=$(status_field "$NAME" acked)
must_wait_for 20 status_past "$NAME" last $((acked + 200))
check "a dead hub: capture goes on while the ring has room" status_is "$NAME" capture=stream
check "... and nothing is acknowledged" test "${ST[acked]}" -eq "$acked"
restart_hub
must_wait_for 30 status_past "$NAME" acked $((ST[last]))
check "the hub is back: no gap, no resync" test "$(trace_count '-> track|-> resync, [^f]')" -eq 0

kill_hub
check "a hub that stays dead: the ring fills, the group tracks" wait_for 60 \
	status_is "$NAME" capture=track reason=ring-full
nap 1
restart_hub
check "the hub is back: capture goes on by itself" wait_for 40 status_is "$NAME" capture=stream
end_writer oracle TERM
check "no write failed" test $? -eq 0 -a "$(value "$TMP/oracle.out" ops)" -gt 1000
check "no write took longer than a second" within_a_second "$(value "$TMP/oracle.out" max_latency_ms)"
check "all is resynced" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
