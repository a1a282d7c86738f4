#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I4 for a writer that changes its buffers while their writes are in flight: disk, stream and replica are still
# equal, for the disk is given what the stream has. The same load with "bounce off" on the same machine has to
# show the difference, else this proves nothing.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=2500
[ -z "${TEST_LONG:-}" ] || ops=100000
plan 5

scribble() { # BOUNCE
	GROUP=g$$-$1
	NAME=$PREFIX-$1
	make_origin ORIGIN loop 32
	# A slow disk: there is time for the scribbler while a write is on its way.
	create_dm "$NAME-slow" "0 65536 delay $ORIGIN 0 0 $ORIGIN 0 4"
	create_volume "$NAME" "$(dev "$NAME-slow")" "$GROUP" "$1" bounce "$1" ring 16
	hub_image "$1" 32
	start_ringcheck --replica "$1=$HUB/$1" --ack every:256
	run_writer scribbler oracle --scribble --threads 6 --ops $ops --seed "$SEED" --max 64k \
		--mix write=8,fua=1 "$(dev "$NAME")" || die "a write failed"
	finish_ringcheck "$NAME"
}

scribble on
check "the stream is good, also when read twice" test $? -eq 0 -a "$(found rechecked)" -gt 100
check "buffers were changed in flight" test "$(value "$TMP/scribbler.out" scribbles)" -gt $ops
check "the replica is the disk" same "$ORIGIN" "$HUB/on"

scribble off
check "bounce off: the stream is good" test $? -eq 0
check_not "bounce off: the replica is not the disk" same "$ORIGIN" "$HUB/off"
ktap_finished
