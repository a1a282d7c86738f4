#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A first sync during which the daemon is killed, and the hub is killed, goes on where it was: it does not begin
# anew.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

mib=64
[ -z "${TEST_LONG:-}" ] || mib=512
plan 6
trace_start repagent_resync_read repagent_capture
setup_volume $mib ring 4
dd if=/dev/urandom of="$ORIGIN" bs=1M count=8 oflag=direct status=none
start_hub nbdkit --filter=delay -- wdelay=8ms
start_daemon

resynced() { # sectors read from the origin
	local sum=0 line
	while read -r line; do
		((sum += line))
	done < <(sed -nE 's/.*repagent_resync_read: .* sector [0-9]+ \+ ([0-9]+) error 0.*/\1/p' "$TRACE/trace")
	echo $sum
}
left_below() { # SECTORS
	read_status "$NAME" && [ "${ST[dirty]}" -lt "$1" ]
}
size=$((mib * 2048))
interrupted=0
for ((i = 1; i <= 6; i++)); do
	must_wait_for 60 left_below $((size - i * size / 8))
	[ "${ST[dirty]}" -eq 0 ] || ((++interrupted))
	if ((i % 2)); then
		kill_daemon
		restart_daemon
	else
		kill_hub
		restart_hub
	fi
done
check "it was interrupted six times before its end" test $interrupted -eq 6
check "the first sync ends" wait_for 120 is_synced "$NAME"
total=$(resynced)
note "$total sectors were read for a volume of $size"
check "all was read" test "$total" -ge $size
check "... and hardly anything twice" test "$total" -le $((size + size / 50))
check "capture was never left" test "$(trace_count '-> track')" -eq 0
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
