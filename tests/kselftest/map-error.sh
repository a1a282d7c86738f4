#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A meta device that takes superblocks and fails the log: the map owes a resync, and goes on owing over a resume; a resync
# that was asked for meanwhile is owed as well. A flush of the VM's that its origin fails is the end of all clearing.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 17
modprobe dm-repagent || die "no module"
modprobe -q dm-flakey || ktap_skip_all "no dm-flakey"
CLEAR=/sys/module/dm_repagent_mod/parameters/map_clear_ms
echo 300 > $CLEAR
make_origin BACKING loop 16
make_origin STORE loop 1
healthy="0 2048 linear $STORE 0"
create_dm "$PREFIX-meta" "$healthy"
META=$(dev "$PREFIX-meta")
origin="0 32768 linear $BACKING 0"
create_dm "$PREFIX-origin" "$origin"
ORIGIN=$(dev "$PREFIX-origin")
NAME=$PREFIX-v0
DEV=$(dev "$NAME")
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region 64 ring 8
hub_image v0 16
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"

replace() { # NAME TABLE
	printf '%s\n' "$2" | dm load "$1" || die "cannot change $1"
	dm suspend --noflush --nolockfs "$1"
	dm resume "$1"
}
again() { # a resume; the next cycle of the cleaner's begins with it
	dm suspend "$NAME"
	dm resume "$NAME"
}
put() { # REGION
	dd if=/dev/urandom of="$DEV" bs=64k seek="$1" count=1 oflag=direct conv=notrunc status=none
}
set_now() { # sectors that are set on the meta device
	dd if="$STORE" of="$TMP/map" bs=64k iflag=direct status=none
	repctl map dump --set "$TMP/map" | awk '{ sum += $2 } END { print sum + 0 }'
}
set_is() { # SECTORS
	[ "$(set_now)" = "$1" ]
}
owes() {
	dd if="$STORE" of="$TMP/map" bs=64k iflag=direct status=none
	! repctl map check "$TMP/map" > "$TMP/check" 2>&1 && grep -q "it missed writes" "$TMP/check"
}
# The superblocks are before sector 16, the log behind it.
no_log="0 16 linear $STORE 0
16 128 error
144 1904 linear $STORE 144"

check "after the first sync all is cleared" wait_for 30 set_is 0
echo 60000 > $CLEAR
again
replace "$PREFIX-meta" "$no_log"
put 7
check "a log that cannot be written is told" status_is "$NAME" map=error
check "... and the superblocks owe a resync" owes
again
check "they do so after a resume" owes
check "... and the status says so" status_is "$NAME" map=error
replace "$PREFIX-meta" "$healthy"
again
check "a resume makes it anew when it can" status_is "$NAME" map=ok
check_not "... nothing is owed" owes

# A resync is asked for, and the map cannot be told. Nobody reads anything meanwhile.
wait_synced 30 "$NAME"
kill -STOP "$RINGCHECK"
echo 1000 > $CLEAR
again
put 8
check "what is written is set" set_is 128
replace "$PREFIX-meta" "$no_log"
dm message "$NAME" 0 resync
check "a request that cannot be written is told" status_is "$NAME" map=error
replace "$PREFIX-meta" "$healthy"
check "the cleaner makes it anew" wait_for 30 status_is "$NAME" map=ok
check "... with the request" set_is 32768
kill -CONT "$RINGCHECK"
wait_synced 30 "$NAME"
check "... until it is done" wait_for 30 set_is 0

# A flush of the VM's fails.
echo 2000 > $CLEAR
again
put 9
wait_synced 30 "$NAME"
replace "$PREFIX-origin" "0 32768 flakey $BACKING 0 0 3600 1 error_writes"
check_not "a flush fails" dd if=/dev/null of="$DEV" conv=notrunc,fsync status=none
replace "$PREFIX-origin" "$origin"
told() {
	[[ $(kernel_log) == *"a flush of the origin failed"* ]]
}
check "... which is told" told
nap 5
check "what the hub has is not cleared, though flushes succeed again" set_is 128
finish_ringcheck "$NAME"
check "the stream is good, the replica is the disk" same "$ORIGIN" "$HUB/v0"
check "... and has told each time that the map failed, and was made anew" test "$(found map_error) $(found map_ok)" = '2 2'
ktap_finished
