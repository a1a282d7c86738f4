#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I5 with the daemon stopped (SIGSTOP) for a minute and the ring full: writes neither fail nor wait for it.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

seconds=60
[ -z "${TEST_LONG:-}" ] || seconds=600
plan 8
setup_volume 32 ring 2
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"
kill -STOP "$DAEMON"
start_writer oracle oracle --threads 3 --seed "$SEED" --rate 300 --max 64k --seconds $((seconds + 20)) "$DEV"
check "the ring fills and the group tracks" wait_for 30 status_is "$NAME" capture=track reason=ring-full
begin=$SECONDS acked=${ST[acked]}
while [ $((SECONDS - begin)) -lt $seconds ] && status_is "$NAME" capture=track acked="$acked"; do
	nap 2
done
check "it stays so for $seconds s" test $((SECONDS - begin)) -ge $seconds
check "the writer lives" is_alive "${WRITERS[oracle]}"
kill -CONT "$DAEMON"
check "the daemon goes on: capture comes back by itself" wait_for 30 status_is "$NAME" capture=stream
end_writer oracle TERM
check "no write failed" test $? -eq 0 -a "$(value "$TMP/oracle.out" ops)" -gt $((seconds * 50))
check "no write took longer than a second" within_a_second "$(value "$TMP/oracle.out" max_latency_ms)"
check "all is resynced" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
