#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I7: the daemon is killed with -9 fifty times under load, at least 1,000 records apart. No record is lost, and
# nothing is resynced, for the ring has room. Every other time it is stopped first and looked at: there have to be
# kills inside an epoch, with records unacknowledged and replies of the hub that it has not read.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

kills=50
[ -z "${TEST_LONG:-}" ] || kills=500
plan 8
trace_start repagent_capture repagent_image
setup_volume 48
start_hub nbdkit --filter=delay -- wdelay=4ms
start_daemon
must_wait_for 60 is_synced "$NAME"
RANDOM=$((SEED % 32768))

waiting_replies() { # of the stopped daemon: bytes in its sockets that it has not read
	ss -xnpH | grep -F "pid=$DAEMON," | {
		local bytes=0 queue
		while read -r _ _ queue _; do
			((bytes += queue))
		done
		[ $bytes -gt 0 ]
	}
}
too_full() {
	[ "${ST[used]}" -ge $((ST[size] / 2)) ] || [ $((ST[last] - ST[acked])) -ge 16000 ]
}
has_room() {
	read_status "$NAME" && ! too_full
}

start_writer oracle oracle --threads 4 --seed "$SEED" --rate 600 --max 4k --seconds $((600 * TEST_SLOW)) \
	--mix write=60,fua=10,nowait=10,fsync=2 "$DEV"
read_status "$NAME"
first=${ST[last]} unacked=0 inside=0 least=1000000
for ((i = 0; i < kills; i++)); do
	from=${ST[last]}
	# This daemon has done some work before it is killed.
	must_wait_for 60 status_past "$NAME" acked $((ST[acked] + 1))
	nap 0.0$((RANDOM % 10))
	must_wait_for 60 status_past "$NAME" last $((from + 1000))
	# Emulated machines may be too slow for this writer: then it waits.
	if too_full; then
		kill -STOP "${WRITERS[oracle]}"
		must_wait_for 60 has_room
		kill -CONT "${WRITERS[oracle]}"
	fi
	if ((i % 2)); then
		kill -STOP "$DAEMON"
		read_status "$NAME"
		nap 0.02
		if [ "${ST[last]}" -gt "${ST[acked]}" ] && waiting_replies; then
			((inside++))
		fi
	fi
	kill_daemon
	read_status "$NAME"
	[ "${ST[last]}" -le "${ST[acked]}" ] || ((unacked++))
	[ $((ST[last] - from)) -ge $least ] || least=$((ST[last] - from))
	restart_daemon
done
end_writer oracle TERM
check "no write failed" test $? -eq 0
note "$kills kills, at least $least records apart; $unacked with records unacknowledged, $inside of $((kills / 2)) with replies unread"
check "the kills were at least 1000 records apart" test $least -ge 1000 -a "${ST[last]}" -gt $((first + kills * 1000))
check "at least half were with unacknowledged records" test $unacked -ge $((kills / 2))
check "at least 10 were inside an epoch" test $inside -ge 10
check "the replica catches up" wait_for 90 is_synced "$NAME"
check "capture was never left" test "$(trace_count '-> track')" -eq 0
check "nothing was resynced" test "$(trace_count 'clean -> dirty')" -eq 0
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
