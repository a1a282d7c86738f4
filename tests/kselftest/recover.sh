#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The target rep-recover: a disk that is answered from a hub. What it is asked waits for a daemon and for the hub; what
# was answered and is not durable yet outlives the device; a suspend does not wait for a hub that is gone.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=3000
[ -z "${TEST_LONG:-}" ] || ops=30000
plan 42
export TMPDIR=$TMP
HUB=$TMP/hub
NAME=$PREFIX-r0
hub_image v0 64
start_hub nbdkit

waits() { # NUMBER
	read_status "$NAME" && [ "${ST[waiting]}" -ge "$1" ]
}
is_durable() {
	read_status "$NAME" && [ "${ST[last]}" = "${ST[acked]}" ] && [ "${ST[waiting]}" = 0 ]
}
node() {
	[ -c "/dev/rep-recover/$GROUP/v0" ]
}
no_node() {
	! node
}

# --- Table lines.
wrong() { # WHAT TABLE EXPECTED
	log_mark
	check_not "refused: $1" dm create "$PREFIX-wrong" --table "0 8192 rep-recover $2" 2> /dev/null
	check "... and says why" grep -qE "$3" <(kernel_log)
}
wrong "no volume" "$GROUP" 'expected: <group> <volume>'
wrong "a group that is no name" "a/b v0" 'group "a/b"'
wrong "too few words" "$GROUP v0 2 ring" '2 feature words: 1 follow'
wrong "an unknown feature" "$GROUP v0 2 rong 8" 'unknown feature|feature "rong"'
wrong "a ring that is too small" "$GROUP v0 2 ring 3" 'ring: "3"'
wrong "a time that is none" "$GROUP v0 2 timeout never" 'timeout: "never"'

# --- What is asked waits.
create_recover "$NAME" v0 64 ring 8
DEV=$(dev "$NAME")
check "the volume has its device" wait_for 10 node
head -c 1M /dev/urandom > "$TMP/data"
start_writer early dd if="$TMP/data" of="$DEV" bs=64k oflag=direct conv=fsync,notrunc status=none
check "a write waits for a daemon" wait_for 10 waits 1
start_recover
end_writer early
check "... and is answered when there is one" test $? -eq 0
check "it is at the hub" cmp -n $((1 << 20)) "$TMP/data" "$HUB/v0"
repagentd "$GROUP" --recover --tap "$HUB_URI" > "$TMP/second" 2>&1 &
SECOND=$!
check "a second daemon is told that there is one" wait_for 10 grep -q 'another daemon answers for it already' "$TMP/second"
end_process $SECOND

# --- Everything that can be asked, and a ring that is much smaller than what is written.
start_writer mix oracle --threads 6 --seed "$SEED" --ops "$ops" \
	--mix write=50,fua=5,nowait=10,zero=5,discard=5,fsync=3,read=20 "$DEV"
end_writer mix
check "no request fails" test $? -eq 0
sync "$DEV"
check "the hub has what the disk shows" same "$DEV" "$HUB/v0"
check "nothing is kept that is durable" wait_for 10 is_durable

# --- The hub is away.
kill_hub
start_writer away remember --threads 4 --seconds 3 --seed "$SEED" "$DEV"
must_wait_for 10 waits 1
check "a suspend that need not write does not wait for the hub" timeout 20 dmsetup suspend --noflush --nolockfs "$NAME"
check "... and nothing waits in the target" status_is "$NAME" waiting=0
dm resume "$NAME"
restart_hub
end_writer away
check "all is carried out when the hub is back" test $? -eq 0

# --- What a flush has made durable is not sent again: it would take back for a while what came behind it.
must_wait_for 10 is_durable
put() { # DD-WORD...
	dd if="$TMP/data" of="$DEV" bs=64k oflag=direct status=none "$@"
}
die_behind() { # COMMAND...: what it writes is answered, and the daemon dies before it has acknowledged all of it
	local i
	for ((i = 0; i < 20; i++)); do
		"$@" || return 1
		kill_daemon
		read_status "$NAME"
		[ "${ST[last]}" = "${ST[acked]}" ] || return 0
		start_recover
	done
	return 1
}
check "a daemon dies before it has acknowledged what is durable" die_behind put count=4 conv=fsync,notrunc
kill_hub
dd if=/dev/zero of="$HUB/v0" bs=1M count=1 conv=notrunc status=none
restart_hub
start_recover
check "... the next one acknowledges it" wait_for 10 is_durable
check "... and does not send it again" cmp -n $((1 << 18)) /dev/zero "$HUB/v0"

# Nor is one of many that were durable when they were answered, several at a time.
many_durable() {
	local i writers=()
	for ((i = 0; i < 8; i++)); do
		dd if="$TMP/data" of="$DEV" bs=4k count=24 seek=$((i * 24)) oflag=direct,dsync conv=notrunc status=none &
		writers+=($!)
	done
	wait "${writers[@]}"
}
must_wait_for 10 is_durable
head -c 1M /dev/urandom > "$TMP/data"
check "a daemon dies before it has acknowledged many that are durable" die_behind many_durable
kill_hub
dd if=/dev/zero of="$HUB/v0" bs=1M count=1 conv=notrunc status=none
restart_hub
start_recover
must_wait_for 10 is_durable
check "... and the next one sends none of them again" cmp -n $((8 * 24 * 4096)) /dev/zero "$HUB/v0"

# --- What was answered and is not durable outlives the device, and a hub that has lost it.
must_wait_for 10 is_durable
cp "$HUB/v0" "$TMP/older"
head -c 1M /dev/urandom > "$TMP/data"
# A flush comes within a second.
check "a daemon dies with what was answered and is not durable" die_behind put conv=notrunc
hub_uri=$HUB_URI
hub_image elsewhere 64
HUB_URI="nbd+unix:///elsewhere?socket=$HUB_SOCKET"
start_recover
check "that does not get to another disk" wait_for 20 daemon_says 'is of another fail-over'
kill_daemon
HUB_URI=$hub_uri
kill_hub
cp "$TMP/older" "$HUB/v0"
remove_dm "$NAME"
check "it stays when the device is removed" node
check_not "... and so does the module" rmmod dm-repagent-mod 2> /dev/null
restart_hub
start_recover
check "it goes when it is durable" wait_for 20 no_node
check "the hub has it" cmp -n $((1 << 20)) "$TMP/data" "$HUB/v0"
kill -TERM "$DAEMON"
wait "$DAEMON"
check "the daemon stops when asked" test $? -eq 0

# --- It can be given up, but not while a daemon has it.
create_recover "$NAME" v0 64
start_recover
check "a daemon dies again with what is not durable" die_behind put conv=notrunc
remove_dm "$NAME"
must_wait_for 10 node
check "repctl gives it up" repctl unrecover "$GROUP" v0 --forget
check "... and it is gone" no_node

# --- A limit.
create_recover "$NAME" v0 64 timeout 2
check_not "with a limit a request fails in time" timeout 30 dd if="$DEV" of="$TMP/none" bs=4k count=1 iflag=direct status=none \
	2> /dev/null
check "... and is counted" status_is "$NAME" failed=1
check "... and nothing waits" status_is "$NAME" waiting=0
remove_dm "$NAME"

# --- Nothing is left of a volume that is gone: the rings would soon be too many.
total=/sys/module/dm_repagent_mod/parameters/ring_total_mib
before=$(< $total)
defer eval "echo $before > $total"
echo 40 > $total
again() {
	local i
	for ((i = 0; i < 3; i++)); do
		dm create "$NAME" --table "0 8192 rep-recover $GROUP v0 2 ring 32" && dm remove --retry "$NAME" || return
	done
}
check "a volume that was removed gives its memory back" again
ktap_finished
