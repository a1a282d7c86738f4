#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# repagent-reader: volumes as exports, read as the VM has written them, with what is dirty as a context; and what becomes of a
# client whose volume is resized or removed.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 28
for program in nbdinfo nbdcopy nbd-client; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
MIB=24
setup_volume $MIB ring 2
dd if=/dev/urandom of="$DEV" bs=1M count=$MIB oflag=direct status=none
make_origin ORIGIN1 loop 16
create_volume "$PREFIX-v1" "$ORIGIN1" "$GROUP" v1

start_reader
dirty_map() { # into $TMP/map; prints the dirty sectors
	nbdinfo --map=qemu:dirty-bitmap:repagent "$(reader_uri "$GROUP/v0")" > "$TMP/map" || return
	awk '$3 == 1 { dirty += $2 } { all += $2 } END { print dirty / 512, all }' "$TMP/map"
}
map_agrees() { # the map and the status line, at rest
	local dirty all
	read -r dirty all < <(dirty_map)
	note "the map has $dirty dirty sectors of $all bytes, the status line $(status_field "$NAME" dirty)"
	[ "$dirty" = "$(status_field "$NAME" dirty)" ] && [ "$all" = $((MIB << 20)) ]
}

check "the volumes are listed" nbdinfo --list "$(reader_uri '')"
nbdinfo --list "$(reader_uri '')" > "$TMP/list"
check "... both of them" test "$(grep -c "^export=\"$GROUP/v[01]\"" "$TMP/list")" = 2
check "... read-only" test "$(grep -c 'is_read_only: true' "$TMP/list")" = 2
check "... with what is dirty as a context" grep -q qemu:dirty-bitmap:repagent "$TMP/list"
check "a volume is read" nbdcopy "$(reader_uri "$GROUP/v0")" "$TMP/copy"
check "... as it is" cmp "$TMP/copy" "$DEV"
modprobe nbd || die "no module nbd"
check "nbd-client attaches it" nbd-client -unix "$READER_SOCKET" /dev/nbd0 -N "$GROUP/v0" -readonly
check "... and the kernel reads it as it is" cmp "$TMP/copy" /dev/nbd0
nbd-client -d /dev/nbd0 > "$TMP/out" 2>&1
check_not "a volume that is not there is refused" nbdinfo "$(reader_uri "$GROUP/v2")"
check "... with the reason in the log" reader_says "no volume v2 of group $GROUP"
check_not "... and so is a name that is none" nbdinfo "$(reader_uri ../../etc)"

# What was never sent is dirty, all of it; after the sync nothing is, and a write in track is, alone.
check "a new volume is dirty, all of it" map_agrees
check "... as the status line says" test "$(status_field "$NAME" dirty)" = $((MIB * 2048))
hub_image v1 16
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME" "$PREFIX-v1"
check "the daemon has the group open: nothing is dirty after the sync" map_agrees
check "... nothing at all" test "$(status_field "$NAME" dirty)" = 0
kill_daemon
for ((i = 0; i < 12; i++)); do # more than the ring holds
	dd if=/dev/urandom of="$DEV" bs=1M count=1 seek=$((i * 7 % MIB)) oflag=direct status=none
	dd if=/dev/urandom of="$DEV" bs=4k count=1 seek=$((RANDOM % (MIB * 256))) oflag=direct status=none
done
check "the ring overflowed: what it lacks is dirty" test "$(status_field "$NAME" dirty)" -gt 2048
check "... and the map has just that" map_agrees
nbdcopy "$(reader_uri "$GROUP/v0")" "$TMP/copy"
check "what was written meanwhile is read" cmp "$TMP/copy" "$DEV"
start_daemon
check "it is sent later" wait_for 60 is_synced "$NAME" "$PREFIX-v1"
check "... and no longer dirty" map_agrees

# A client that stays, while its volume shrinks, and another one while it is removed.
start_crowd idle 1 "$GROUP/v1"
dm reload "$PREFIX-v1" --table "0 16384 repagent $ORIGIN1 $GROUP v1" || die "reload"
dm suspend "$PREFIX-v1" || die "suspend"
dm resume "$PREFIX-v1" || die "resume"
check "a client of a volume that shrinks is sent away" wait_for 20 reader_says "v1 has 8388608 bytes now, not 16777216: connect again"
let_go() { # of the only volume that was open
	! readlink "/proc/$READER/fd/"* 2> /dev/null | grep -v '/control$' | grep -q '^/dev/\(mapper/\|dm-\)'
}
must_wait_for 20 let_go
drop_crowd
check "... as it notices" test "$ENDED" = 1
nbdinfo --size "$(reader_uri "$GROUP/v1")" > "$TMP/size"
check "... and finds the new size when it connects again" grep -qx 8388608 "$TMP/size"
start_crowd idle 1 "$GROUP/v1"
check "a volume with a client is removed as soon as it can be" dm remove --deferred "$PREFIX-v1"
removed() {
	! dm info "$PREFIX-v1" 2> /dev/null | grep -q State
}
check "... which is soon, for the client is sent away" wait_for 20 removed
check "... with a reason in the log" reader_says "v1 is being removed"
drop_crowd

check "it stops when asked" stop_reader
check "the volume's device is free then" dm remove "$NAME"
ktap_finished
