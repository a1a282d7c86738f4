#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I5 with a hub that is there and refuses: it fails every write for a while, or offers its exports read-only. No
# write of the VM fails or waits; the status says that the hub is at fault; it all comes back by itself.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 9
setup_volume 32 ring 4
start_hub nbdkit --filter=error -- error-pwrite=EIO error-zero=EIO error-pwrite-rate=100% \
	error-zero-rate=100% error-pwrite-file="$TMP/fail" error-zero-file="$TMP/fail"
start_daemon
must_wait_for 60 is_synced "$NAME"
start_writer oracle oracle --threads 3 --seed "$SEED" --rate 400 --max 16k --seconds 100 "$DEV"
must_wait_for 20 status_past "$NAME" acked $((ST[last] + 200))

: > "$TMP/fail"
check "the hub fails every write: the group tracks in the end" wait_for 40 status_is "$NAME" capture=track
note "reason: ${ST[reason]}"
check "the daemon lives, and tells of it" daemon_says '[Ee]rror|fail|refuse'
check "... and is alive" is_alive "$DAEMON"
rm "$TMP/fail"
check "the hub recovers: capture goes on by itself" wait_for 60 status_is "$NAME" capture=stream

kill_hub
start_hub nbdkit -r
must_wait_for 20 status_past "$NAME" last $((ST[last] + 100))
check "a read-only hub: the daemon says so" wait_for 20 daemon_says 'read-only'
kill_hub
start_hub nbdkit
end_writer oracle TERM
check "no write failed" test $? -eq 0 -a "$(value "$TMP/oracle.out" ops)" -gt 1000
check "no write took longer than a second" within_a_second "$(value "$TMP/oracle.out" max_latency_ms)"
check "all is resynced" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
