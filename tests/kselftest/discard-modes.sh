#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# discard zero: discards become write-zeroes, in the stream ZEROES, and read as zeroes at once.
# discard pass: the origin is given them, in the stream DISCARD. discard ignore: the device offers none.
# Without the word: zero where the origin has write-zeroes, else pass.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 20
number=0
volume() { # KIND [FEATURE...]
	local kind=$1
	shift
	((++number))
	GROUP=g$$-$number
	NAME=$PREFIX-$number
	VOLUME=v$number
	DEV=$(dev "$NAME")
	# Two at a time would not do: there is one disk of scsi_debug.
	[ $number = 1 ] || dm remove "$PREFIX-$((number - 1))"
	make_origin ORIGIN "$kind" 8
	dd if=/dev/urandom of="$ORIGIN" bs=1M count=8 oflag=direct status=none
	create_volume "$NAME" "$ORIGIN" "$GROUP" "$VOLUME" ring 4 "$@"
	hub_image "$VOLUME" 8
	start_ringcheck --replica "$VOLUME=$HUB/$VOLUME"
	must_wait_for 30 status_is "$NAME" image=clean
}
discard_max() { # DEVICE
	cat "/sys/dev/block/$(stat -Lc %Hr:%Lr "$1")/queue/discard_max_bytes"
}

volume scsi discard zero
check "zero: the device offers discards" test "$(discard_max "$DEV")" -gt 0
check "zero: a discard succeeds" blkdiscard -o 1M -l 4M "$DEV"
dd if="$DEV" of="$TMP/read" bs=1M skip=1 count=4 iflag=direct status=none
check "zero: it reads as zeroes" cmp -n $((4 << 20)) "$TMP/read" /dev/zero
check "zero: blkdiscard -z succeeds" blkdiscard -z -o 6M -l 1M "$DEV"
check "zero: a discard of one sector succeeds" blkdiscard -o 512 -l 512 "$DEV"
finish_ringcheck "$NAME"
check "zero: the stream is good, with ZEROES and no DISCARD" test $? -eq 0 \
	-a "$(found zero_bytes)" -eq $(((5 << 20) + 512)) -a "$(found discard)" -eq 0
check "zero: the replica is the disk" same "$ORIGIN" "$HUB/$VOLUME"

volume null
check "pass, by default without write-zeroes: discards are offered" test "$(discard_max "$DEV")" -gt 0
check "pass: a discard succeeds" blkdiscard -o 1M -l 4M "$DEV"
check "pass: zeroing succeeds" blkdiscard -z -o 6M -l 1M "$DEV"
finish_ringcheck "$NAME"
check "pass: the stream is good, with DISCARD and no ZEROES" test $? -eq 0 -a "$(found discard)" -gt 0 \
	-a "$(found zeroes)" -eq 0
check "pass: the replica is the disk" same "$ORIGIN" "$HUB/$VOLUME"

volume scsi discard ignore
check "ignore: no discards are offered" test "$(discard_max "$DEV")" -eq 0
check_not "ignore: a discard is refused" blkdiscard -o 1M -l 4M "$DEV" 2> /dev/null
check "ignore: zeroing succeeds" blkdiscard -z -o 6M -l 1M "$DEV"
finish_ringcheck "$NAME"
check "ignore: the stream is good, without DISCARD" test $? -eq 0 -a "$(found discard)" -eq 0
check "ignore: the replica is the disk" same "$ORIGIN" "$HUB/$VOLUME"

volume scsi
check "by default with write-zeroes: a discard succeeds" blkdiscard -o 1M -l 4M "$DEV"
finish_ringcheck "$NAME"
check "... and is ZEROES in the stream" test "$(found zero_bytes)" -eq $((4 << 20))
check "... and the replica is the disk" same "$ORIGIN" "$HUB/$VOLUME"
ktap_finished
