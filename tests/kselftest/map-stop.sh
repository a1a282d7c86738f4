#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The write-intent map over stops: a clean one costs nothing, or just what the hub lacked; after one that was not clean
# the regions that are set are dirty, and no others; what cannot be trusted makes all dirty; what is not this volume's is
# refused. A crash is made of what the meta device held while the volume was in use.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 43
modprobe dm-repagent || die "no module"
echo 300 > /sys/module/dm_repagent_mod/parameters/map_clear_ms
make_origin BACKING loop 64
make_origin META loop 1
# Made anew for each boot, as logical volumes are: with it begins the count of what is written to it.
ORIGIN=$(dev "$PREFIX-disk")
boot() {
	create_dm "$PREFIX-disk" "0 131072 linear $BACKING 0"
}
boot
NAME=$PREFIX-v0
hub_image v0 64

create() {
	create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region 64 ring 8
}
remove() {
	dm remove "$NAME"
	[ ! -e "/sys/class/repagent/$GROUP" ] || echo "$GROUP" > "/sys/class/repagent/$GROUP/forget"
}
dirty_is() { # SECTORS
	status_is "$NAME" dirty="$1"
}
put() { # OFFSET COUNT, in KiB
	dd if=/dev/urandom of="$DEV" bs=1k seek="$1" count="$2" oflag=direct conv=notrunc status=none
}
get_meta() { # FILE
	dd if="$META" of="$1" bs=64k iflag=direct status=none
}
put_meta() { # FILE
	dd if="$1" of="$META" bs=64k oflag=direct conv=fsync status=none
}
DEV=$(dev "$NAME")

create
check "a blank device is a map for a first sync" status_is "$NAME" map=ok image=dirty reason=first-sync dirty=131072
check "the table tells the device" grep -q " meta " <<< "$(dm table "$NAME")"
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
put 1000 64
wait_synced 20 "$NAME"
check "after a while the map is at rest" wait_for 20 at_rest "$META"
stop_ringcheck
remove
create
check "a clean stop costs nothing" status_is "$NAME" map=ok dirty=0
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
finish_ringcheck "$NAME"
check "... nothing is read" test "$(found resync_bytes)" -eq 0

# Nobody acknowledges what is written now: in the ring, and without it.
put 4096 8
put 8192 16
remove
create
check "a clean stop keeps what the hub had not" dirty_is 48
remove
create
check "... over one more" dirty_is 48
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
finish_ringcheck "$NAME"
check "just that is read" test "$(found resync_bytes)" -eq $((24 * 1024))
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

# Two regions are set, one of them in part; a third is written while no daemon is there.
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
must_wait_for 20 at_rest "$META"
get_meta "$TMP/rest"
stop_ringcheck
put 16384 128
put 32 4
get_meta "$TMP/crash"
dumped() { # FILE OPTION: sectors
	repctl map dump "$2" "$1" | awk '{ sum += $2 } END { print sum + 0 }'
}
check "repctl reads no dirty sectors in the one" test "$(dumped "$TMP/rest" --ranges)" = 0
check "... and those of the three regions in the other" test "$(dumped "$TMP/crash" --ranges)" = $((3 * 128))
check "... which it finds sound" repctl map check "$TMP/crash"
check_not "... and not to be formatted" repctl map format "$TMP/crash"
put_crash() { # FILE: as if the host had crashed when the meta device held this
	remove
	dm remove "$PREFIX-disk"
	put_meta "$1"
	boot
	create
}
put_crash "$TMP/rest"
check "a crash at rest: nothing is dirty" status_is "$NAME" map=ok dirty=0 reason=unclean
put_crash "$TMP/crash"
check "a crash after writes to three regions: they are dirty" status_is "$NAME" dirty=$((3 * 128)) reason=unclean
remove
create
check "... after a clean stop as well, and no more" dirty_is $((3 * 128))
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
finish_ringcheck "$NAME"
check "they are read" test "$(found resync_bytes)" -eq $((3 * 65536))
check "... and the replica is the disk" same "$ORIGIN" "$HUB/v0"

# A resync that was asked for is owed over a crash.
dm message "$NAME" 0 resync
get_meta "$TMP/asked"
put_crash "$TMP/asked"
check "a resync that was asked for is not forgotten in a crash" dirty_is 131072

damage() { # FILE OFFSET: one bit
	cp "$TMP/crash" "$TMP/damaged"
	printf '%b' "$(printf '\\x%02x' $(($(od -An -tu1 -j "$1" -N 1 "$TMP/crash") ^ 1)))" |
		dd of="$TMP/damaged" bs=1 seek="$1" conv=notrunc status=none
	put_crash "$TMP/damaged"
}
for offset in 40 4136 $((16 * 512 + 40)) $((208 * 512 + 100)); do
	damage $offset
	check_not "a bit that changed at byte $offset is found" repctl map check "$TMP/damaged"
	check "... and makes all dirty" status_is "$NAME" map=ok dirty=131072
done
# A clean stop's extents.
put_crash "$TMP/rest"
put 64 4
remove
get_meta "$TMP/crash"
damage $((144 * 512 + 40))
check "... in the fine area too, after a clean stop" dirty_is 131072
put_crash "$TMP/crash"
check "... and without it all is as it was" dirty_is 8
check "... as repctl has it" test "$(dumped "$TMP/crash" --ranges)" = 8
remove
dd if=/dev/urandom of="$ORIGIN" bs=4k seek=100 count=1 oflag=direct conv=notrunc,fsync status=none
create
check "what was written past the target is noticed" status_is "$NAME" dirty=131072
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
finish_ringcheck "$NAME"
remove
blkdiscard -o 65536 -l 65536 "$ORIGIN" || die "the origin takes no discard"
create
check "... and so is what was discarded there" status_is "$NAME" dirty=131072
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 60 "$NAME"
finish_ringcheck "$NAME"

# The map goes to another device: what the old one has is no longer so.
make_origin META2 loop 1
remap() { # FEATURE...
	dm load "$NAME" --table "$(repagent_table "$ORIGIN" "$GROUP" v0 "$@" region 64 ring 8)" &&
		dm suspend --noflush "$NAME" && dm resume "$NAME"
}
check "a map can be moved" remap meta "$META2"
check_not "... and the old device owes a resync" repctl map check "$META"
check "... and the new one does not" repctl map check "$META2"
check "a map can be given up" remap
check_not "... and its device owes a resync, too" repctl map check "$META2"
remove

refused() { # VOLUME FEATURE...
	dm create "$PREFIX-no" --table "$(repagent_table "$ORIGIN" "$GROUP" "$@")" 2> /dev/null
}
make_origin SMALL loop 1
blockdev --setro "$SMALL"
make_origin OTHER loop 1
dd if=/dev/urandom of="$OTHER" bs=4k count=16 oflag=direct status=none
truncate -s 64K "$TMP/tiny"
TINY=$(losetup --show -f "$TMP/tiny")
defer losetup -d "$TINY"
begin_cases
refuse "another volume's map" "map of $GROUP/v0" "expected that of $GROUP/v1" refused v1 meta "$META" region 64
refuse "a map with other regions" "regions of 64 KiB" "expected 1024" refused v0 meta "$META"
refuse "a device that holds something else" "${OTHER#/dev/}" "no write-intent map" refused v0 meta "$OTHER" region 64
refuse "a device that is too small" "${TINY#/dev/}" "too few" refused v0 meta "$TINY" region 64
refuse "the origin itself" "$ORIGIN" "the origin itself" refused v0 meta "$ORIGIN"
refuse "no device" "/dev/nothing" "cannot be opened" refused v0 meta /dev/nothing
check_cases
ktap_finished
