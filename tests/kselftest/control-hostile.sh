#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Clients of the control socket that say nonsense, too much, too little, too often, or read nothing, and a thousand that only
# connect: the replication does not wait for them, the daemon's memory stays small, and who means well is served.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 9
setup_volume 16 ring 8
start_hub nbdkit
start_daemon
wait_synced 30 "$NAME"
SOCKET=/run/repagent/$GROUP.sock
resident() { # KiB, without the mapping of the ring
	awk '/^[0-9a-f]+-[0-9a-f]+ / { ring = index($0, "/dev/repagent/") }
	     /^Rss:/ && !ring { sum += $2 }
	     END { print sum + 0 }' "/proc/$DAEMON/smaps"
}

start_writer oracle oracle --threads 2 --seed "$SEED" --rate 200 --max 16k --seconds 600 "$DEV"
must_wait_for 20 status_past "$NAME" acked $((ST[last] + 20))
start_writer hostile controlhostile "$SOCKET" 8
acked=$(status_field "$NAME" acked)
check "records go on reaching the hub meanwhile" wait_for 20 status_past "$NAME" acked $((acked + 200))
end_writer hostile
check "who means well is served in the end" test $? -eq 0
check "nonsense was said, and answered" test "$(value "$TMP/hostile.out" errors)" -gt 10
check "who did not read was dropped, with a line in the log" daemon_says 'a client is dropped: it (does|has) not read'
check "who found no place was turned away, with a line" daemon_says 'a client is turned away'
end_writer oracle TERM
check "no write failed" test $? -eq 0
check "nothing was lost or resynced" wait_for 30 status_is "$NAME" capture=stream image=clean reason=none
wait_synced 30 "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
memory=$(resident)
check "memory afterwards: $memory KiB" test "$memory" -gt 500 -a "$memory" -le 16384
ktap_finished
