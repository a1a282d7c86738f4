#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The hub's word is not enough to clear a region of the write-intent map: where the origin cannot be flushed, its disk may
# have lost what the hub has. Nothing is cleared until the host was booted again, and all of it read again.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 11
modprobe dm-repagent || die "no module"
modprobe -q dm-flakey || ktap_skip_all "no dm-flakey"
clear_ms() { # MS: from the next look on, which a resume plans
	echo "$1" > /sys/module/dm_repagent_mod/parameters/map_clear_ms
	dm suspend "$NAME"
	dm resume "$NAME"
}
make_origin BACKING loop 16
make_origin META loop 1
healthy="0 32768 linear $BACKING 0"
create_dm "$PREFIX-origin" "$healthy"
ORIGIN=$(dev "$PREFIX-origin")
replace() { # TABLE: of the origin; without a flush
	dm load "$PREFIX-origin" --table "$1" || die "cannot change the origin"
	dm suspend --noflush --nolockfs "$PREFIX-origin"
	dm resume "$PREFIX-origin"
}
NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region 64
# A second volume, whose disk is well: what its flushes say is no business of the first one's.
make_origin ORIGIN1 loop 16
make_origin META1 loop 1
create_volume "$PREFIX-v1" "$ORIGIN1" "$GROUP" v1 meta "$META1" region 64
hub_image v0 16
hub_image v1 16
start_ringcheck --replica "v0=$HUB/v0" --replica "v1=$HUB/v1"
wait_synced 60 "$NAME" "$PREFIX-v1"
set_now() { # [META DEVICE]: sectors that are set
	dd if="${1:-$META}" of="$TMP/map" bs=64k iflag=direct status=none
	repctl map dump --set "$TMP/map" | awk '{ sum += $2 } END { print sum + 0 }'
}
set_is() { # SECTORS
	[ "$(set_now)" = "$1" ]
}
clear_ms 300
check "after the first sync all is cleared" wait_for 30 set_is 0

# Written, and at the hub, before the cleaner looks.
clear_ms 5000
dd if=/dev/urandom of="$(dev "$NAME")" bs=4k seek=64 count=1 oflag=direct conv=notrunc status=none
wait_synced 20 "$NAME"
check "a region that was written is set" set_is 128
replace "0 32768 flakey $BACKING 0 0 3600 1 error_writes"
dd if=/dev/urandom of="$(dev "$PREFIX-v1")" bs=4k seek=64 count=1 oflag=direct conv=notrunc status=none
told() {
	[[ $(kernel_log) == *"a flush of the origin failed"* ]]
}
check "a flush that failed is told" wait_for 30 told
other_is_clear() {
	[ "$(set_now "$META1")" = 0 ]
}
check "the other volume is cleared, by a flush of its own" wait_for 60 other_is_clear
nap 6 # longer than it takes the cleaner to look again
check "what the hub has is not cleared for it" set_is 128
replace "$healthy"
nap 1
check "... and not when the origin is well again" set_is 128
clear_ms 300
nap 1
check "... nor when it was resumed" set_is 128
again() { # COMMAND...: between the volume's lives
	stop_ringcheck
	dm remove "$NAME"
	"$@" > /dev/null
	create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region 64
	start_ringcheck --replica "v0=$HUB/v0" --replica "v1=$HUB/v1"
	wait_synced 60 "$NAME"
}
again true
nap 1 # three looks of the cleaner's
check_not "... nor when the volume was made again" set_is 0
# A host that was booted an hour later is one whose clock says so.
defer date -s '-1 hour'
again date -s '+1 hour'
check "after another boot it is cleared again" wait_for 30 set_is 0
finish_ringcheck "$NAME"
check "... when all of it was read" test "$(found resync_bytes)" -ge $((16 << 20))
check "the stream is good, the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
