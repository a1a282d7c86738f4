#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The whole life of a protected disk by the control socket alone: start-protect on a plain device, first sync, writes, reader,
# read back, checkpoint, pause, linear and back, stop-reader, shutdown; then the same by a configuration file. On the way each
# wrong order and each wrong argument is answered by its class and a sentence that names what is wrong.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh
# shellcheck source=tests/kselftest/control.sh
. ./control.sh

plan 104
for program in repagentd repagent-reader nbdcopy nbdinfo socat; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
MIB=24
make_origin ORIGIN loop $MIB
make_origin OTHER loop 8
dd if=/dev/urandom of="$ORIGIN" bs=1M count=$MIB oflag=direct status=none
hub_image v0 $MIB
hub_image v1 8
start_hub nbdkit
create_volume "$PREFIX-x" "$OTHER" "x$GROUP" x
NAME=$GROUP-v0 DEV=/dev/mapper/$GROUP-v0
run_repagentd
mode_is() {
	[ "$(stat -c %a "$SOCKET")" = "$1" ]
}
check "the socket is its owners' alone" wait_for 5 mode_is 660 # it is made with less
connect
check "it greets" test "${ANSWER:0:13}" = '{"repagent":{'
check "it tells that it waits" status_has '"state":"waiting"'

# Before there is a group.
wrong NoGroup "group $GROUP does not exist" checkpoint '"label":"a"'
wrong NoGroup start-protect pause
wrong NoGroup start-protect resume
wrong NoGroup start-protect resync
wrong NoGroup start-protect query-volumes
wrong NoGroup start-protect query-dirty '"volume":"v0"'
wrong NoGroup start-protect stop-protect '"volume":"v0","device":"remove"'
wrong ReaderNotRunning start-reader stop-reader

# What is no request.
check "no JSON" says InvalidJSON 'at byte 1' 'start'
check "no object" says InvalidJSON 'no other value' '[]'
check "half an object" says InvalidJSON 'not complete' '{"execute":"pause"'
check "two objects" says InvalidJSON 'there is more' '{"execute":"pause"} {"execute":"pause"}'
check "too deep" says InvalidJSON 'byte' '{"execute":"pause","id":[[[[[[[[[[]]]]]]]]]]}'
check "a misspelt member" says InvalidRequest "'exec' is unknown" '{"exec":"pause"}'
check "no command" says InvalidRequest 'execute is missing' '{"id":1}'
check "arguments that are none" says InvalidRequest 'expected an object' '{"execute":"pause","arguments":[]}'
check "no such command" says CommandNotFound "'start'" '{"execute":"start"}'

# Wrong arguments.
tap="\"tap\":\"$HUB_URI\"" device="\"device\":\"$ORIGIN\"" v0='"volume":"v0"'
wrong InvalidArgument 'volume is missing' start-protect "$device,$tap"
wrong InvalidArgument 'expected a name' start-protect "\"volume\":\"-v\",$device,$tap"
wrong InvalidArgument "'disc' is unknown" start-protect "$v0,$device,$tap,\"disc\":\"pass\""
wrong InvalidArgument 'tap is missing' start-protect "$v0,$device"
wrong InvalidArgument 'expected nbd://HOST' start-protect "$v0,$device,\"tap\":\"http://hub\""
wrong InvalidArgument 'absolute path' start-protect "$v0,$tap,\"device\":\"sda\""
wrong InvalidArgument 'from 1 to 16384' start-protect "$v0,$device,$tap,\"ring\":0"
wrong InvalidArgument 'a power of two' start-protect "$v0,$device,$tap,\"region\":100"
wrong InvalidArgument 'zero, pass or ignore' start-protect "$v0,$device,$tap,\"discard\":\"never\""
wrong InvalidArgument 'true or false' start-protect "$v0,$device,$tap,\"bounce\":1"
wrong DeviceError 'No such file' start-protect "$v0,$tap,\"device\":\"/dev/nonesuch\""
wrong DeviceError 'expected a block device' start-protect "$v0,$tap,\"device\":\"/dev/null\""
wrong NameInUse "$PREFIX-x" start-protect "$v0,$device,$tap,\"name\":\"$PREFIX-x\""
wrong AlreadyProtected 'is volume x of group' start-protect "$v0,\"device\":\"$OTHER\",$tap"
check "nothing was made" test ! -e "$DEV"

# Protection: first sync, writes.
mkfifo "$TMP/subscribe"
exec 7<> "$TMP/subscribe"
socat - "UNIX-CONNECT:$SOCKET" <&7 > "$TMP/events" 2> "$TMP/socat2.err" &
defer end_process $!
echo '{"execute":"subscribe"}' >&7
must_wait_for 20 grep -q '"return"' "$TMP/events"
check "start-protect" returns "\"device\":\"$DEV\",\"created\":true" start-protect "$v0,$device,$tap,\"ring\":4"
defer remove_dm "$NAME"
start_dmstatus
check "the device is there" test -b "$DEV"
check "the group is there at once" returns '"volume":"v0","active":true' query-volumes
check "the first sync ends" wait_for 60 protected
run_writer oracle oracle --threads 2 --seed "$SEED" --ops 400 --max 64k "$DEV"
check "writes follow" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
check "the status knows it is behind by nothing" status_has '"lag":{"bytes":0,"records":0,'
check "the same again is adopted" returns '"created":false' start-protect "$v0,$device,$tap,\"ring\":4"
wrong AlreadyProtected 'another ring' start-protect "$v0,$device,\"ring\":8"
wrong AlreadyProtected 'stop-protect first' start-protect "$v0,$device,\"tap\":\"nbd://elsewhere/%v\""
wrong AlreadyProtected "and not on $OTHER" start-protect "$v0,\"device\":\"$OTHER\""
wrong NoSuchVolume 'no volume v7' query-dirty '"volume":"v7"'
wrong InvalidArgument 'multiple of 512' query-dirty "$v0,\"from\":100"
wrong InvalidArgument 'from 1 to 1000' query-dirty "$v0,\"max\":1001"
check "nothing is dirty" returns '"ranges":[],"next":null' query-dirty "$v0"

# The reader, of this group alone.
wrong ReaderFailed 'expected ADDRESS:PORT' start-reader '"listen":"nowhere"'
wrong InvalidArgument 'listen is missing' start-reader
wrong ReaderFailed 'from 1 to 65535' start-reader '"listen":":70000"'
wrong InvalidArgument 'device is missing' start-reader "$v0,\"listen\":\"$TMP/reader.sock\""
wrong InvalidArgument 'volume is missing' start-reader "$device,\"listen\":\"$TMP/reader.sock\""
check "start-reader" returns '"pid"' start-reader "\"listen\":\"$TMP/reader.sock\""
wrong ReaderRunning stop-reader start-reader "\"listen\":\"$TMP/reader2.sock\""
uri="nbd+unix:///$GROUP/v0?socket=$TMP/reader.sock"
check "it is read back" nbdcopy "$uri" "$TMP/copy"
check "... as it is" cmp "$TMP/copy" "$DEV"
nbdinfo --list "nbd+unix:///?socket=$TMP/reader.sock" > "$TMP/list"
check "no other group is served" test "$(grep -c '^export=' "$TMP/list")" = 1
call query-reader
kill -KILL "$(number pid)"
restarted() {
	call query-reader && [[ $ANSWER == *'"state":"running"'*'"restarts":1'* ]]
}
check "a reader that was killed is started again" wait_for 20 restarted

# The stream.
wrong InvalidArgument 'without blanks' checkpoint '"label":"a b"'
check "checkpoint" returns '"record"' checkpoint '"label":"here"'
record=$(number record)
check "... is a record of the stream" wait_for 20 status_past "$NAME" acked "$record"
check "... and an event" wait_for 5 grep -q "\"CHECKPOINT\",\"data\":{\"label\":\"here\",\"incarnation\":\"[0-9a-f]*\",\"record\":$record}" "$TMP/events"
check "pause" returns '{}' pause
check "... stops capture, and says why" wait_for 10 status_is "$NAME" capture=track reason=paused
wrong NotStreaming 'paused' checkpoint '"label":"never"'
dd if=/dev/urandom of="$DEV" bs=1M count=2 seek=3 oflag=direct status=none
check "what is written meanwhile is dirty" returns '[3145728,2097152]' query-dirty "$v0"
check "resume" returns '{}' resume
check "... and it is sent" wait_for 30 is_synced "$NAME"
check "resync" returns '{"volumes":["v0"]}' resync "$v0"
check "... reads all again" wait_for 30 protected
check "... as events tell" grep -q '"IMAGE","data":{"volume":"v0","image":"resync","reason":"requested"}' "$TMP/events"

# Without protection and back, while somebody writes.
exec 8<> "$DEV"
wrong DeviceBusy 'or say \"device\":\"linear\"' stop-protect "$v0,\"device\":\"remove\""
wrong InvalidArgument 'or \"linear\"' stop-protect "$v0,\"device\":\"leave\""
start_writer oracle oracle --threads 2 --seed "$SEED" --rate 200 --max 32k --seconds 600 "$DEV"
check "stop-protect, the last volume" returns '"last":true,"shutdown":' stop-protect "$v0,\"device\":\"linear\""
check "... with the record SHUTDOWN" test "$(number shutdown)" -gt "$record"
check "... the device is linear" grep -q linear <(dm table "$NAME")
check "... the group goes" wait_for 20 status_has '"state":"waiting"'
check "start-protect again, live" returns '"created":false' start-protect "$v0,$device,$tap"
check "... it is synced beside the writes" wait_for 60 protected
end_writer oracle TERM
check "no write failed" test $? -eq 0
wait_synced 60 "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
exec 8>&-

check "stop-reader" returns '{}' stop-reader
check "shutdown" returns '"shutdown":' shutdown
record=$(number shutdown)
wait "$DAEMON"
check "... ends with its own status" test $? -eq 3
check "... with all at the hub, SHUTDOWN behind it" status_is "$NAME" last="$record" acked="$record"
exec 5>&- 6<&-
dm remove "$NAME" || die "cannot remove $NAME"

# The same by a configuration.
cat > "$TMP/group.conf" <<TXT
[group]
tap = $HUB_URI
ring = 4
[volume v0]
device = $ORIGIN
[reader]
listen = $TMP/reader.sock
TXT
run_repagentd --config "$TMP/group.conf"
connect
check "a configuration protects at the start" wait_for 60 protected
serves() {
	nbdinfo --size "$uri" > "$TMP/size"
}
check "... and starts the reader" wait_for 20 serves
check "the daemon ends" returns '"shutdown":' shutdown
wait "$DAEMON"
exec 5>&- 6<&-
dm remove "$NAME" || die "cannot remove $NAME"

# A disk that comes later: what was said of the volume by command meanwhile counts.
sed -i "s|^device = .*|device = $TMP/later|; /reader/,\$d" "$TMP/group.conf"
run_repagentd --config "$TMP/group.conf"
connect
check "a configured disk is not there" wait_for 20 daemon_says "$TMP/later: No such file"
check "it is protected by another name" returns '"created":true' start-protect "$v0,$device,$tap"
check "stop-protect" returns '"last":true' stop-protect "$v0,\"device\":\"linear\""
check "... the device is linear" grep -q linear <(dm table "$NAME")
ln -s "$ORIGIN" "$TMP/later"
nap 6 # the daemon tries every 5 s
check "... and stays so" grep -q linear <(dm table "$NAME")
check "the daemon ends" returns '"shutdown":null' shutdown
wait "$DAEMON"
exec 5>&- 6<&-

# A hub that only reads: without a tap, from a device that is no volume yet.
dm remove "$NAME" || die "cannot remove $NAME"
run_repagentd
connect
wrong AlreadyProtected 'is volume x of group' start-reader "\"volume\":\"v0\",\"device\":\"$OTHER\",\"listen\":\"$TMP/reader.sock\""
check "... which starts no reader" returns '"state":"stopped"' query-reader
check "start-reader makes a volume" returns '"pid"' start-reader "$v0,$device,\"listen\":\"$TMP/reader.sock\""
check "... a protected device" grep -q repagent <(dm table "$NAME")
dd if=/dev/urandom of="$DEV" bs=1M count=1 seek=3 oflag=direct status=none
check "... that is read" nbdcopy "$uri" "$TMP/copy"
check "... as it is" cmp "$TMP/copy" "$DEV"
check "what was written is remembered" returns '"ranges":[[0,' query-dirty "$v0"
ktap_finished
