#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A part of the origin fails writes and can be read (dm-flakey). The writer gets, operation by operation, what it
# gets from dm-linear over the same origin; the range turns dirty and is read again, so that the replica has what
# the disk really has, with the fault and after it.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=600
[ -z "${TEST_LONG:-}" ] || ops=10000
plan 10
make_origin BACKING loop 16
modprobe -q dm-flakey || ktap_skip_all "no dm-flakey"
healthy="0 32768 linear $BACKING 0"
# The part's ends are where the target does not cut writes: one that fails may have been done by half.
broken="0 16400 linear $BACKING 0
16400 2048 flakey $BACKING 16400 0 3600 1 error_writes
18448 14320 linear $BACKING 18448"
create_dm "$PREFIX-origin" "$healthy"
ORIGIN=$(dev "$PREFIX-origin")
replace() { # TABLE: of the origin
	dm load "$PREFIX-origin" --table "$1" || die "cannot change the origin"
	dm resume "$PREFIX-origin"
}
oplist() { # NAME DEVICE
	run_writer "$1" oracle --threads 1 --seed "$SEED" --ops $ops --range 2M --offset 7M --max 64k \
		--mix write=60,fua=10,fsync=5,read=10,nowait=5 --allow-errors --log "$TMP/$1.log" "$2"
}

replace "$broken"
create_dm "$PREFIX-linear" "0 32768 linear $ORIGIN 0"
oplist linear "$(dev "$PREFIX-linear")"
dm remove "$PREFIX-linear"

NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 32
hub_image v0 16
start_ringcheck --replica "v0=$HUB/v0"
must_wait_for 60 status_is "$NAME" image=clean
oplist target "$(dev "$NAME")"
errors=$(value "$TMP/target.out" errors)
check "operations failed: $errors" test "$errors" -gt 20
check "operation by operation as with dm-linear" cmp "$TMP/linear.log" "$TMP/target.log"
failed=$(status_field "$NAME" failed)
check "the status counts failed writes: $failed" test "$failed" -gt 10
wait_synced 60 "$NAME"
check "with the fault still there, the replica is the disk" same "$ORIGIN" "$HUB/v0"

# Many at a time, overlapping, failing and not.
run_writer many oracle --threads 4 --seed "$SEED" --ops $ops --range 2M --offset 7M --max 128k --allow-errors \
	--mix write=60,fua=10,fsync=5 "$(dev "$NAME")"
check "of many at a time some failed, not all" test "$(value "$TMP/many.out" errors)" -gt 20 \
	-a "$(value "$TMP/many.out" errors)" -lt $((ops * 9 / 10))
wait_synced 60 "$NAME"
failed=$(status_field "$NAME" failed)
check "again the replica is the disk" same "$ORIGIN" "$HUB/v0"

replace "$healthy"
run_writer healed oracle --threads 2 --seed "$SEED" --ops 200 --range 2M --offset 7M --max 64k \
	--mix write=60,fua=10,fsync=5 "$(dev "$NAME")"
check "after the fault no write fails" test $? -eq 0
wait_synced 60 "$NAME"
check "... and the replica is the disk" same "$ORIGIN" "$HUB/v0"
stop_ringcheck
check "the stream is good" test $? -eq 0
check "... and has a FAILED for each failed write" test "$(found failed)" -eq "$failed" \
	-a "$(found resync_end)" -gt 1
ktap_finished
