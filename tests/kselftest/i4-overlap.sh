#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I4 where it hangs on the order of what overlaps: long writes to the same place at the same time; and resync reads
# of ranges that writes are on their way to, with a disk that takes its time for these, also when they are given up.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

rounds=2
[ -z "${TEST_LONG:-}" ] || rounds=30
plan $((6 + rounds))

make_origin ORIGIN loop 24
NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0
hub_image v0 24
start_ringcheck --replica "v0=$HUB/v0"
must_wait_for 30 status_is "$NAME" image=clean
# Each place is written by four threads at a time, in pieces of different lengths, and then no more.
for offset in 0 8 16; do
	run_writer "together-$offset" oracle --sequential --threads 4 --ops 128 --seed $((SEED + offset)) --mix write=1 \
		--min 200k --max 256k --align 4k --offset ${offset}M --range 8M "$(dev "$NAME")" || die "a write failed"
	# The ring has room for this much.
	read_status "$NAME"
	must_wait_for 30 status_past "$NAME" acked "${ST[last]}"
done
finish_ringcheck "$NAME"
check "writes to the same place: the stream is good" test $? -eq 0 -a "$(found gap)" -eq 0
check "... and the replica is the disk" same "$ORIGIN" "$HUB/v0"

GROUP=$GROUP-slow
NAME=$PREFIX-v1
make_origin BACKING loop 4
create_dm "$PREFIX-slow" "0 8192 delay $BACKING 0 0 $BACKING 0 100"
ORIGIN=$(dev "$PREFIX-slow")
create_volume "$NAME" "$ORIGIN" "$GROUP" v1 ring 1
hub_image v1 4
start_ringcheck --replica "v1=$HUB/v1" --ack every:4
must_wait_for 30 status_is "$NAME" image=clean
write_along() { # SEED
	start_writer along oracle --threads 12 --seed $((SEED + $1)) --mix write=1 --max 64k --seconds 60 "$(dev "$NAME")"
	read_status "$NAME"
	must_wait_for 20 status_past "$NAME" last $((ST[last] + 24))
}
for ((round = 0; round < rounds; round++)); do
	write_along $round
	dm message "$NAME" 0 resync
	must_wait_for 30 status_is "$NAME" capture=stream image=clean
	end_writer along TERM || die "a write failed"
	wait_synced 30 "$NAME"
	check "resync $round beside writes: the replica is the disk" same "$ORIGIN" "$HUB/v1"
done

# Now with something missing: the ring overflows, and the resync of that is interrupted while it waits for the writes
# that were on their way when it began. What was given up must come later, and not because it is written again.
inside=0 equal=0
for turn in 1 2 3; do
	write_along $((100 * turn))
	kill -STOP "$RINGCHECK"
	must_wait_for 30 status_is "$NAME" capture=track reason=ring-full
	nap 0.5
	kill -CONT "$RINGCHECK"
	must_wait_for 30 status_is "$NAME" capture=stream
	dm suspend "$NAME"
	! status_is "$NAME" image=resync || ((++inside))
	kill -TERM "${WRITERS[along]}"
	dm resume "$NAME"
	end_writer along || die "a write failed"
	wait_synced 30 "$NAME"
	! same "$ORIGIN" "$HUB/v1" || ((++equal))
done
check "resyncs interrupted, $inside of 3 times: the replica is the disk" test $inside -ge 1 -a $equal = 3
finish_ringcheck "$NAME"
check "... the stream is good" test $? -eq 0
check "... all was read each time" test "$(found resync_bytes)" -ge $(((1 + rounds) * (4 << 20)))
check "... and the replica is the disk" same "$ORIGIN" "$HUB/v1"
ktap_finished
