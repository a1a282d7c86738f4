#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# No scan after a restart of the daemon: killed under load and started again, or stopped and started again, it reads
# nothing from the origin. Counted are the kernel's resync reads and the sectors that the origin was read.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 9
trace_start repagent_resync_read repagent_capture
setup_volume 16 ring 16
start_hub qemu-nbd
start_daemon
wait_synced 60 "$NAME"
first=$(trace_count repagent_resync_read)
check "the first sync is counted: $first reads" test "$first" -ge 16
origin_reads() { # sectors
	local -a stat
	read -ra stat < "/sys/block/${ORIGIN#/dev/}/stat"
	echo "${stat[2]}"
}
reads=$(origin_reads)
check "... and seen at the origin: $reads sectors" test "$reads" -ge $((16 * 2048))

start_writer oracle oracle --threads 2 --seed "$SEED" --rate 200 --max 16k --mix write=60,fua=10,fsync=2 --seconds 100 "$DEV"
lag=0
for signal in KILL TERM KILL TERM; do
	must_wait_for 20 status_past "$NAME" last $((ST[last] + 100))
	kill -$signal "$DAEMON"
	wait "$DAEMON"
	# There is something to be taken up again.
	must_wait_for 20 status_past "$NAME" last $((ST[last] + 20))
	((lag += ST[last] - ST[acked]))
	restart_daemon
done
end_writer oracle TERM
check "no write failed" test $? -eq 0
check "there was something to be taken up: $lag records" test $lag -ge 80
check "it was taken up" wait_for 30 is_synced "$NAME"
check "capture was never left" test "$(trace_count '-> track')" -eq 0
check "no resync read was made" test "$(trace_count repagent_resync_read)" -eq "$first"
check "the origin was not read" test "$(origin_reads)" -eq "$reads"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
