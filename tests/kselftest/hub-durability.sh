#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hub with a volatile cache: nbdkit's cache filter in writeback mode, killed with -9 again and again under load,
# loses all that was not flushed. Nothing may be acknowledged that it can still lose: what it lost is sent again.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

kills=30
[ "$(uname -r | cut -d. -f1,2)" != 6.1 ] || kills=10
[ -z "${TEST_LONG:-}" ] || kills=300
plan 6
export TMPDIR=$TMP
setup_volume 32
start_hub nbdkit --filter=cache -- "file=$HUB/v0" cache=writeback
start_daemon
must_wait_for 60 is_synced "$NAME"
start_writer oracle oracle --threads 4 --seed "$SEED" --rate 60 --max 8k --seconds 600 "$DEV"
unacked=0
for ((i = 0; i < kills; i++)); do
	read_status "$NAME"
	must_wait_for 60 status_past "$NAME" acked $((ST[acked] + 1))
	nap 0.0$((RANDOM % 10))
	kill_hub
	read_status "$NAME"
	[ "${ST[last]}" -le "${ST[acked]}" ] || ((unacked++))
	restart_hub
done
end_writer oracle TERM
check "no write failed" test $? -eq 0
note "$unacked of $kills kills were with records unacknowledged"
check "the hub was killed with records unacknowledged" test $unacked -ge $((kills / 2))
check "the replica catches up" wait_for 90 is_synced "$NAME"
# What is acknowledged is in the file and not merely in the cache: this kill loses nothing.
kill_hub
check "the replica is the disk" same "$DEV" "$HUB/v0"

# What is written and not flushed has to be lost, else the cache proves nothing.
restart_hub
must_wait_for 60 is_synced "$NAME"
kill -STOP "$DAEMON"
head -c 1M /dev/urandom > "$TMP/unflushed"
nbdcopy "$TMP/unflushed" "nbd+unix:///?socket=$HUB_SOCKET" || die "nbdcopy failed"
nbdcopy "nbd+unix:///?socket=$HUB_SOCKET" "$TMP/seen" || die "nbdcopy failed"
check "the hub shows what was not flushed" cmp -n $((1 << 20)) "$TMP/unflushed" "$TMP/seen"
kill_hub
check "... and loses it when it is killed" same "$DEV" "$HUB/v0"
ktap_finished
