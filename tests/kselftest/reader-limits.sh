#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The reader under many clients, and with limits: 100 that are busy, 1000 that have connected and were left, some that read
# nothing of their replies (with TEST_LONG=1 for the minute after which they are dropped), --rate, --connections, and a socket
# that systemd would pass. tests/nbdserver/test-limits.sh has more of the server without a volume.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan $((13 + 2 * ${TEST_LONG:-0}))
[ -n "$(command -v nbdcrowd)" ] || ktap_skip_all "nbdcrowd is not built"
setup_volume 32 ring 2
dd if=/dev/urandom of="$DEV" bs=1M count=32 oflag=direct status=none
EXPORT=$GROUP/v0
start_reader --connections 1100

of_status() { # FIELD
	local name value
	while IFS=$':\t ' read -r name value _; do
		[ "$name" != "$1" ] || echo "$value"
	done < "/proc/$READER/status"
}
stays_small() {
	note "$(of_status VmHWM) KiB at most, $(of_status VmRSS) KiB now, $(of_status Threads) threads"
	[ "$(of_status VmHWM)" -le $((64 << 10)) ] && [ "$(of_status Threads)" -le 16 ]
}
is_served() {
	timeout $((60 * TEST_SLOW)) nbdcopy "$(reader_uri "$EXPORT")" "$TMP/copy"
}

busy() { # and none of them is starved
	nbdcrowd busy 100 "$READER_SOCKET" "$EXPORT" 2 > "$TMP/busy" && grep -q 'least=[1-9]' "$TMP/busy"
}
check "100 clients read at a time" busy
note "$(< "$TMP/busy")"
check "... in at most 16 threads and 64 MiB" stays_small
start_crowd idle 1000 "$EXPORT"
check "1000 that have opened the volume: at most 16 threads and 64 MiB" stays_small
check "... and another one is served" is_served
check "... with what the volume has" same "$DEV" "$TMP/copy"
drop_crowd
check "... and none of the 1000 was ended" test "$ENDED" = 0

start_crowd stall 30 "$EXPORT"
check "while 30 read nothing of their replies another one is served" is_served
if [ -n "${TEST_LONG:-}" ]; then
	dropped() {
		[ "$(grep -c 'took nothing of its replies for 60000 ms' "$TMP/reader.log")" -ge 1 ]
	}
	check "one that reads nothing for a minute is dropped" wait_for 90 dropped
	drop_crowd
	check "... each of the 30, and they notice" test "$ENDED" = 30
else
	drop_crowd
fi
check "... in at most 16 threads and 64 MiB" stays_small
stop_reader

# 32 MiB at 8 MiB a second.
start_reader --rate 8 --connections 2
begin=${EPOCHREALTIME/./}
is_served || die "it does not serve"
took=$(((${EPOCHREALTIME/./} - begin) / 1000))
note "32 MiB took $took ms"
check "--rate is kept" test $took -ge 3500
start_crowd idle 2 "$EXPORT"
check_not "--connections is kept" nbdinfo --size "$(reader_uri "$EXPORT")"
check "... and logged" reader_says 'refused: 2 connections are open'
drop_crowd
stop_reader

# systemd gives a socket that listens as descriptor 3, and says so in the environment.
cat > "$TMP/activate" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(16)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execvp('repagent-reader', ['repagent-reader'])
PY
rm -f "$READER_SOCKET"
python3 "$TMP/activate" "$READER_SOCKET" >> "$TMP/reader.log" 2>&1 &
READER=$!
defer end_process $READER
must_wait_for 30 reader_listens
check "at a socket that was passed it serves" is_served
check "... and stops when asked" stop_reader
ktap_finished
