#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Clients that are many, slow, silent or greedy hurt only themselves: memory and threads of the server from /proc, and what
# others get meanwhile.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

make_file 64 64
crowds=()
crowd() { # MODE N: until drop_crowd
	coproc CROWD { exec nbdcrowd "$1" "$2" "$SOCKET" d; }
	# shellcheck disable=SC2034
	read -rt 30 word <&"${CROWD[0]}" || die "nbdcrowd $1 $2 did not get ready: $(tail -n 3 "$LOG")"
	crowds+=("$CROWD_PID")
}
drop_crowd() { # sets $ended
	local out=${CROWD[0]} in=${CROWD[1]}
	exec {in}>&-
	read -rt 30 ended _ <&"$out" || ended=none
}
status_of() { # FIELD
	sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$server/status"
}
at_most() { # WHAT VALUE LIMIT
	echo "$1 is $2, the limit $3"
	[ "$2" -le "$3" ]
}
reads_within() { # SECONDS
	timeout "$1" nbdcopy "$(uri d)" null:
}

start_server --connections 1100
reads_within 20 || die "the server does not serve"

# 100 that work.
nbdcrowd busy 100 "$SOCKET" d 2 > "$TMP/busy" 2>&1 || die "busy: $(cat "$TMP/busy")"
echo "# 100 busy connections: $(cat "$TMP/busy"); $(status_of VmHWM) KiB, $(status_of Threads) threads"
check "100 busy connections: at most 64 MiB resident" at_most VmHWM "$(status_of VmHWM)" $((64 << 10))
check "... in at most 16 threads" at_most threads "$(status_of Threads)" 16
fair() { # the least of them got a quarter of the share at least
	local sum least
	sum=$(sed -n 's/.*sum=\([0-9]*\).*/\1/p' "$TMP/busy")
	least=$(sed -n 's/.*least=\([0-9]*\).*/\1/p' "$TMP/busy")
	cat "$TMP/busy"
	[ "$sum" -gt $((50 << 20)) ] && [ $((least * 100 * 4)) -ge "$sum" ]
}
check "... and none is starved" fair

# 1000 that opened the export and were left.
crowd idle 1000
echo "# 1000 idle connections: $(status_of VmRSS) KiB, $(status_of Threads) threads"
check "1000 idle connections: at most 64 MiB resident" at_most VmRSS "$(status_of VmRSS)" $((64 << 10))
check "... in at most 16 threads" at_most threads "$(status_of Threads)" 16
check "... and another one is served" reads_within 20
mkfifo "$TMP/never"
exec 9<> "$TMP/never"
nbdcrowd silent 101 "$SOCKET" d <&9 > /dev/null 2>&1 &
silent_pid=$!
check "the limit of connections is kept" wait_for 10 is_logged 'refused: 1100 connections are open'
kill "$silent_pid"
wait "$silent_pid" 2> /dev/null
drop_crowd
check "none of the idle ones was ended" test "$ended" = 0
stop_server

# 50 that ask for 64 MiB each and read nothing of it.
start_server --stall-ms 3000
crowd stall 50
rss=$(status_of VmRSS)
echo "# 50 clients that read nothing: $rss KiB"
check "50 clients that read nothing: at most 64 MiB resident" at_most VmRSS "$rss" $((64 << 10))
check "... and another one is served meanwhile" reads_within 3
check "... they are still there then" not is_logged 'took nothing'
gone() {
	[ "$(grep -c 'took nothing of its replies' "$LOG")" = 50 ]
}
check "they are dropped when they have taken nothing for so long" wait_for 20 gone
drop_crowd
check "... as they notice" test "$ended" = 50
stop_server

# 700 of them, more than there is memory for.
start_server --stall-ms 60000
crowd stall 700
check "700 clients that read nothing: another one is served" reads_within 15
check "... for those who held the memory were dropped" is_logged 'others need the memory'
check "... and it is at most 64 MiB resident" at_most VmHWM "$(status_of VmHWM)" $((64 << 10))
drop_crowd
stop_server

# Those who never choose an export.
start_server --handshake-ms 1000
crowd silent 20
out_of_time() {
	[ "$(grep -c 'no export was chosen within 1000 ms' "$LOG")" = 20 ]
}
check "silent clients are dropped after the time for the handshake" wait_for 10 out_of_time
drop_crowd
check "... as they notice" test "$ended" = 20
stop_server

# A limit of the rate: 64 MiB at 32 MiB/s.
start_server --rate $((32 << 20))
begin=${EPOCHREALTIME/./}
reads_within 20 || die "the server does not serve"
took=$(((${EPOCHREALTIME/./} - begin) / 1000))
echo "# 64 MiB at 32 MiB/s took $took ms"
check "the limit of the rate is kept" test $took -ge 1800 -a $took -le 4000
check "the server ends with status 0" stop_server
finish
