#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Commands that cannot be carried out, or take very long: a table that is refused beneath a running VM leaves its disk as it was;
# a device that hangs holds up the command on it, and nothing else. And a reader with TLS, by command.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh
# shellcheck source=tests/kselftest/control.sh
. ./control.sh
# shellcheck source=tests/kselftest/tls.sh
. ./tls.sh

plan 29
for program in repagentd repagent-reader nbdinfo socat certtool; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
make_origin BACKING null 16
make_origin OTHER loop 8
create_dm "$PREFIX-disk" "0 $((16 * 2048)) linear $BACKING 0"
ORIGIN=$(dev "$PREFIX-disk")
hub_image v0 16
hub_image v1 8
start_hub nbdkit
NAME=$GROUP-v0 DEV=/dev/mapper/$GROUP-v0
run_repagentd --tap "$HUB_URI"
connect

v0="\"volume\":\"v0\",\"device\":\"$ORIGIN\""
check "start-protect" returns '"created":true' start-protect "$v0"
defer remove_dm "$NAME"
start_dmstatus
check "start-protect of another" returns '"created":true' start-protect "\"volume\":\"v1\",\"device\":\"$OTHER\""
defer remove_dm "$GROUP-v1"
check "... and they are synced" wait_for 60 protected
start_writer along oracle --threads 2 --seed "$SEED" --rate 200 --max 16k --mix write=80,fua=5,zero=5,fsync=2 --seconds 1000 \
	"$DEV"

# A table that is refused, beneath a VM that runs.
truncate -s 4k "$TMP/tiny"
TINY=$(losetup --show -f "$TMP/tiny")
defer losetup -d "$TINY"
check "stop-protect leaves it linear" returns '"last":false' stop-protect '"volume":"v0","device":"linear"'
is_linear() {
	[[ $(dm table "$NAME") == *" linear "* ]]
}
is_idle() { # no table waits to be resumed, and the device is not suspended
	[ "$(dm info -c --noheadings -o suspended,tables_loaded "$NAME" | tr -d ' ')" = "Active:Live" ]
}
goes_on() {
	local before
	before=$(writes_to "/dev/$(dm info -c --noheadings -o blkdevname "$NAME")")
	nap 0.5
	[ "$(writes_to "/dev/$(dm info -c --noheadings -o blkdevname "$NAME")")" -gt "$before" ]
}
wrong DeviceError 'too small' start-protect "$v0,\"meta\":\"$TINY\""
check "... it is linear still" is_linear
check "... nothing is left half done" is_idle
check "... and is written" wait_for 10 goes_on
wrong DeviceError 'meta' start-protect "$v0,\"meta\":\"$ORIGIN\""
check "... it is linear still" is_linear
check "... nothing is left half done" is_idle
check "start-protect again" returns '"created":false' start-protect "$v0"
check "... and it is synced" wait_for 60 protected

# A device that is slow: there is always a write on its way, and that is no trouble.
dm load "$PREFIX-disk" --table "0 $((16 * 2048)) delay $BACKING 0 20"
dm suspend --noflush "$PREFIX-disk"
dm resume "$PREFIX-disk"
always_protected() {
	local i
	for i in 1 2 3 4 5 6 7 8 9 10; do
		protected || { note "call $i: $ANSWER"; return 1; }
	done
}
check "a write that is under way is told of nowhere" always_protected

# A device that hangs: its origin takes nothing. With a write on its way it cannot be suspended.
dm suspend --noflush "$PREFIX-disk" || die "the disk cannot be held"
defer dm resume "$PREFIX-disk"
stuck() {
	status_has 'does not end'
}
check "a write that does not end is told" wait_for 20 stuck
echo '{"execute":"stop-protect","arguments":{"volume":"v0","device":"linear"},"id":"slow"}' >&5
exec 7>&5 8<&6
connect
check "another client is answered meanwhile" returns '"present":true' query-status
wrong InProgress 'stop-protect of volume v0 is under way' stop-protect '"volume":"v0","device":"linear"'
wrong InProgress 'stop-protect of volume v0 is under way' start-protect "$v0"
check "... and what has nothing to do with it is done" returns '"last":false' stop-protect '"volume":"v1","device":"remove"'
check_not "the first is still at it" read -rt 1 -u 8 ANSWER
dm resume "$PREFIX-disk"
read -rt 60 -u 8 ANSWER
check "when the device goes on, so does the command" test "${ANSWER:0:10}" = '{"return":'
check "... the device is linear" is_linear
end_writer along TERM
check "no write failed" test $? -eq 0
exec 7>&- 8<&-

# The reader with TLS.
certificates
check "start-protect" returns '"created":false' start-protect "$v0"
PORT=10812
wrong ReaderFailed 'server-key.pem' start-reader "\"listen\":\"127.0.0.1:$PORT\",\"tls-cert-dir\":\"$TMP/none\""
check "start-reader with TLS" returns '"pid"' start-reader \
	"\"listen\":\"127.0.0.1:$PORT\",\"tls-cert-dir\":\"$TMP/server\",\"allow\":[\"host-a=$GROUP/v0\"]"
check "who is allowed reads" nbdinfo --size "nbds://localhost:$PORT/$GROUP/v0?tls-certificates=$TMP/a"
check "who is not does not" client_says "host-b may not open it" \
	nbdinfo --size "nbds://localhost:$PORT/$GROUP/v0?tls-certificates=$TMP/b"
check "nor does plain text" client_says 'TLS is required' nbdinfo --size "nbd://localhost:$PORT/$GROUP/v0"
ktap_finished
