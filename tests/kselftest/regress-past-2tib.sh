#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sector numbers past 2 TiB, that is past 32 bits: writes and zeroes at, across and far beyond that line have their true
# place in the stream, two that differ in the upper bits alone are two, and what is read there for the stream is what
# is there.
#
# A consumer that acknowledges nothing keeps the first sync of the 3 TiB at a quarter of the ring, so that only what
# the test writes is to be looked at.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 14
tib=$((1 << 40))
truncate -s $((3 * tib)) "$TMP/origin" || die "no file of 3 TiB"
ORIGIN=$(losetup --show -f "$TMP/origin") || die "no loop device"
defer losetup -d "$ORIGIN"
NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 16
DEV=$(dev "$NAME")
check "the status has the size, in sectors" status_is "$NAME" dirty=$((3 * tib / 512))
hub_image v0 1
start_ringcheck --replica "v0=$HUB/v0" --ack never --dump
must_wait_for 20 status_is "$NAME" capture=stream

# In bytes; each has 64 KiB of its own, and its like 2 TiB below.
places=($((2 * tib)) $((2 * tib - 32768)) $((2 * tib + 4096 * 4096)) $((2 * tib + tib / 2 + 512)) $((3 * tib - 65536)))
number=0
for at in "${places[@]}"; do
	((++number))
	head -c 65536 /dev/urandom > "$TMP/data.$number"
	dd if="$TMP/data.$number" of="$DEV" bs=64k oflag=direct,seek_bytes seek="$at" conv=notrunc status=none ||
		die "a write at $at failed"
done
# The same place below 2 TiB gets something else.
head -c 65536 /dev/urandom > "$TMP/low"
dd if="$TMP/low" of="$DEV" bs=64k oflag=direct,seek_bytes seek=$((4096 * 4096)) conv=notrunc status=none
# Zeroes before the line, in a part of the second place. A write across it is cut into two.
blkdiscard -o $((2 * tib - 8192)) -l 4096 "$DEV" || die "no discard"
consumed() {
	[ "$(grep -c ' write ' "$TMP/ringcheck.out")" -ge 7 ] && grep -q ' zeroes ' "$TMP/ringcheck.out"
}
must_wait_for 20 consumed
kill -TERM "$RINGCHECK"
wait "$RINGCHECK"
check "the stream is good" test $? -eq 0
note "$(grep -E ' (write|zeroes) ' "$TMP/ringcheck.out" | head -n 8 | tr '\n' ';')"
piece() { # FILE OFFSET
	dd if="$1" bs=64k count=1 iflag=skip_bytes skip="$2" status=none
}
check "all of it was captured" test "$(found write)" -eq 7 -a "$(found zeroes)" -ge 1
number=0
for at in "${places[@]}"; do
	((++number))
	check "what was written at $at is there in the replica" cmp <(piece "$TMP/origin" "$at") <(piece "$HUB/v0" "$at")
	[ $number = 2 ] || [ $number = 1 ] || cmp -s <(piece "$HUB/v0" "$at") "$TMP/data.$number" ||
		die "at $at there is something else than was written"
done
check "what was written 2 TiB below one of them is there too" cmp <(piece "$HUB/v0" $((4096 * 4096))) "$TMP/low"
check "nothing else is there: at 0" cmp <(piece "$HUB/v0" 0) <(head -c 65536 /dev/zero)
check "... at 1 TiB" cmp <(piece "$HUB/v0" $((tib + 4096 * 4096))) <(head -c 65536 /dev/zero)
check "the replica reaches to the end" test "$(stat -c %s "$HUB/v0")" -eq $((3 * tib))

# Now with acknowledgements: the sync goes on for a moment, and the place beyond the line is read for the stream.
run_ringcheck --replica "v0=$HUB/v0" --verify $((places[3] / 512)):128 --timeout 30
check "a read for the stream has what is there" test $? -eq 0 -a "$(found verified)" -eq 1
check "no write failed" status_is "$NAME" failed=0
ktap_finished
