#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A second daemon for a group is refused: it ends with status 1 and says which process has the group, and what to do.
# The first one is not disturbed. Once that is gone, the second gets the group, and nothing is resynced.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 12
trace_start repagent_image
setup_volume 16 ring 8
start_hub nbdkit
start_daemon
wait_synced 30 "$NAME"
consumer() {
	cat "/sys/class/repagent/$GROUP/consumer"
}
daemon_has() {
	[ "$(consumer)" = "$DAEMON repagentd" ]
}
second() {
	timeout 20 repagentd "$GROUP" --tap "$HUB_URI" > "$TMP/second.out" 2>&1
}
check "the group's attribute names the first" test "$(consumer)" = "$DAEMON repagentd"
second
check "the second ends with status 1" test $? -eq 1
note "$(< "$TMP/second.out")"
check "... and names the first" grep -qF "process $DAEMON (repagentd)" "$TMP/second.out"
check "... and says what to do" grep -qF "stop that one first: kill $DAEMON" "$TMP/second.out"
check "the first still has the group" test "$(consumer)" = "$DAEMON repagentd"
run_writer oracle oracle --threads 2 --ops 200 --seed "$SEED" --max 32k --mix write=60,fua=10,fsync=2 "$DEV"
check "... and forwards what is written" wait_for 20 is_synced "$NAME"

kill -STOP "$DAEMON"
second
check "a first one that is stopped keeps the second away too" test $? -eq 1
run_writer oracle oracle --threads 2 --ops 100 --seed "$SEED" --max 32k --mix write=60,fua=10,fsync=2 "$DEV"
kill_daemon
check "a first one that was killed leaves the group to nobody" test "$(consumer)" = none
restart_daemon
check "the second has it then" wait_for 20 daemon_has
check "what was written meanwhile is forwarded" wait_for 20 is_synced "$NAME"
check "nothing was resynced" test "$(trace_count 'clean -> dirty')" -eq 0
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
