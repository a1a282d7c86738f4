#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A part of the origin fails reads and writes (dm-error). The writer gets, operation by operation, what it gets from
# dm-linear over the same origin; the stream says FAILED; the status counts; dm raises an event. The first sync
# cannot end before the part can be read again, and then it does by itself.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=400
[ -z "${TEST_LONG:-}" ] || ops=10000
plan 12
make_origin BACKING loop 16
healthy="0 32768 linear $BACKING 0"
broken="0 16384 linear $BACKING 0
16384 2048 error
18432 14336 linear $BACKING 18432"
create_dm "$PREFIX-origin" "$healthy"
ORIGIN=$(dev "$PREFIX-origin")
replace() { # TABLE: of the origin
	dm load "$PREFIX-origin" --table "$1" || die "cannot change the origin"
	dm resume "$PREFIX-origin"
}
oplist() { # NAME DEVICE
	run_writer "$1" oracle --threads 1 --seed "$SEED" --ops $ops --range 2M --offset 7M --max 64k \
		--mix write=60,fua=10,fsync=5,read=10 --allow-errors --log "$TMP/$1.log" "$2"
}

replace "$broken"
create_dm "$PREFIX-linear" "0 32768 linear $ORIGIN 0"
oplist linear "$(dev "$PREFIX-linear")"
dm remove "$PREFIX-linear"

NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 32
hub_image v0 16
start_ringcheck --replica "v0=$HUB/v0"
check "what can be read is synced, the rest is known" wait_for 60 status_is "$NAME" capture=stream image=resync dirty=2048
events=$(dm info -c --noheadings -o events "$NAME")
oplist target "$(dev "$NAME")"
errors=$(value "$TMP/target.out" errors)
check "operations failed: $errors" test "$errors" -gt 20
check "operation by operation as with dm-linear" cmp "$TMP/linear.log" "$TMP/target.log"
failed=$(status_field "$NAME" failed)
check "the status counts failed writes: $failed" test "$failed" -gt 10
check "dm raised events" test "$(dm info -c --noheadings -o events "$NAME")" -gt "$events"
check_not "the volume does not become clean" status_is "$NAME" image=clean
check "the failure is in the kernel's log once or so" test "$(kernel_log | grep -c 'resync read')" -gt 0 \
	-a "$(kernel_log | grep -c 'resync read')" -lt 100

replace "$healthy"
check "when it can be read again, the first sync ends by itself" wait_for 100 status_is "$NAME" image=clean
finish_ringcheck "$NAME"
check "the stream is good" test $? -eq 0
check "... and a read that failed is void in it, as it has no data" test "$(found void)" -ge \
	"$(kernel_log | grep -c 'resync read')"
check "... and has a FAILED for each" test "$(found failed)" -eq "$failed"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
