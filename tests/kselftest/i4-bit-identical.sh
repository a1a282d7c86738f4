#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I4: after the drain the replica is the disk, byte for byte: overlapping writes of 512 bytes to 1 MiB from several
# threads, not aligned to pages, plain, FUA, NOWAIT, zeroes and discards, on each kind of origin. The volume
# has data before, and the first sync runs while the writes go on.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=2500
[ -z "${TEST_LONG:-}" ] || ops=100000
plan 16

one() { # KIND MIB WRITES MIX FEATURE...: with at least so many records of writes
	local kind=$1 mib=$2 writes=$3 mix=$4 status
	shift 4
	make_origin ORIGIN "$kind" "$mib"
	NAME=$PREFIX-$kind$((++number))
	GROUP=g$$-$number
	dd if=/dev/urandom of="$ORIGIN" bs=1M count=8 oflag=direct status=none
	create_volume "$NAME" "$ORIGIN" "$GROUP" "$kind" "$@"
	hub_image "$kind" "$mib"
	start_ringcheck --replica "$kind=$HUB/$kind" --ack random
	# A hot range, so that writes overlap, and the whole device.
	start_writer hot oracle --threads 3 --ops $ops --seed "$SEED" --range 2M --max 64k --mix "$mix" \
		"$(dev "$NAME")"
	run_writer wide oracle --threads 2 --ops $((ops / 8)) --seed $((SEED + 1)) --mix "$mix" \
		"$(dev "$NAME")"
	status=$?
	end_writer hot
	check "$kind: no operation fails" test $? -eq 0 -a $status -eq 0
	finish_ringcheck "$NAME"
	check "$kind: the stream is good" test $? -eq 0
	check "$kind: it has every kind of record" test "$(found write)" -gt "$writes" -a "$(found resync)" -gt 0 \
		-a $(($(found fua) + cacheless)) -gt 0 -a $(($(found flush) + cacheless)) -gt 0 \
		-a $(($(found zeroes) + zeroless)) -gt 50
	check "$kind: the replica is the disk" same "$ORIGIN" "$HUB/$kind"
}

number=0
mix=write=60,fua=10,nowait=10,zero=5,fsync=2
zeroless=0 cacheless=0
one scsi 48 $((ops / 2)) $mix,discard=5 discard zero
# Without write-zeroes the kernel writes zeroes itself; a disk without a cache is given no flushes.
zeroless=100 cacheless=1
one brd 48 $((ops / 2)) $mix
one null 48 $((ops / 2)) $mix
cacheless=0
# A ring in which the longest writes have to be cut.
rm -f "$HUB"/*
one loop 48 0 $mix ring 2
ktap_finished
