#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hostile daemon (see abihostile) has the group while the volume is written to. No write fails; afterwards a good
# daemon takes over and the replica is the disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 7
setup_volume 16 ring 4
start_hub nbdkit
start_daemon
wait_synced 30 "$NAME"
kill_daemon
start_writer oracle oracle --threads 2 --rate 300 --seed "$SEED" --max 64k --seconds 200 "$DEV"
must_wait_for 20 status_past "$NAME" last $((ST[last] + 20))
timeout 100 abihostile "$SEED" "$GROUP" > "$TMP/hostile.out" 2>&1
status=$?
while IFS= read -r line; do
	note "${line/#ok/good}"
done < "$TMP/hostile.out"
check "the device put up with nothing" test $status -eq 0
check "... in $(grep -c '^ok' "$TMP/hostile.out") tests" test "$(grep -c '^ok' "$TMP/hostile.out")" -ge 30
check "the writer lives" is_alive "${WRITERS[oracle]}"
end_writer oracle TERM
check "no write failed" test $? -eq 0
check "$(value "$TMP/oracle.out" ops) operations went on meanwhile" test "$(value "$TMP/oracle.out" ops)" -ge 100
start_daemon
check "a good daemon takes over" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
