#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Writes that must not sleep (RWF_NOWAIT, io_uring) succeed where dm-linear's do: the target is no reason to hand
# them to a worker.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=2000
plan 13
make_origin ORIGIN null 64
create_dm "$PREFIX-linear" "0 $(sectors_of "$ORIGIN") linear $ORIGIN 0"
run_writer linear oracle --threads 1 --ops $ops --seed "$SEED" --mix nowait=1 --min 4k --max 4k --align 4k \
	"$(dev "$PREFIX-linear")"
linear=$(value "$TMP/linear.out" eagain)
dm remove "$PREFIX-linear"

NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 16
hub_image v0 64
start_ringcheck --replica "v0=$HUB/v0" --ack every:16
must_wait_for 30 status_is "$NAME" image=clean
run_writer target oracle --threads 1 --ops $ops --seed "$SEED" --mix nowait=1 --min 4k --max 4k --align 4k \
	"$(dev "$NAME")"
check "no write fails" test $? -eq 0
target=$(value "$TMP/target.out" eagain)
note "of $ops writes $linear got EAGAIN from dm-linear, $target from repagent"
check "dm-linear takes NOWAIT writes here" test "$linear" -lt $((ops / 10))
check "repagent refuses no more than dm-linear, and one in 100" test "$target" -le $((linear + ops / 100))

run_writer overlap oracle --threads 4 --ops $ops --seed "$SEED" --mix nowait=1 --range 1M --max 128k "$(dev "$NAME")"
check "overlapping and longer ones succeed too" test $? -eq 0

if command -v fio > /dev/null; then
	fio --name=uring --filename="$(dev "$NAME")" --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=16 --number_ios=$ops --randseed="$SEED" --output="$TMP/fio.out" > /dev/null 2>&1
	check "fio with io_uring succeeds" test $? -eq 0
	check "... and wrote" grep -q "WRITE: bw=" "$TMP/fio.out"
else
	ktap_test_skip "fio with io_uring succeeds" "no fio"
	ktap_test_skip "... and wrote" "no fio"
fi
wait_synced 30 "$NAME"
stop_ringcheck
check "the stream is good" test $? -eq 0
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

# An origin that has no room for the next request: a write that was captured waits for it, and does not fail.
make_origin ORIGIN busy 16
busy() { # NAME DEVICE
	run_writer "$1" oracle --threads 4 --ops 400 --seed "$SEED" --mix nowait=1 --max 16k "$2"
}
create_dm "$PREFIX-linear-busy" "0 $(sectors_of "$ORIGIN") linear $ORIGIN 0"
busy linear-busy "$(dev "$PREFIX-linear-busy")"
check "a busy origin: with dm-linear writes get EAGAIN" test "$(value "$TMP/linear-busy.out" eagain)" -gt 20
dm remove "$PREFIX-linear-busy"
GROUP=$GROUP-busy
NAME=$PREFIX-v1
create_volume "$NAME" "$ORIGIN" "$GROUP" v1 ring 16
hub_image v1 16
start_ringcheck --replica "v1=$HUB/v1"
must_wait_for 60 status_is "$NAME" image=clean
busy target-busy "$(dev "$NAME")"
check "... with repagent no write fails" test $? -eq 0
check "... nor is one counted as failed" status_is "$NAME" failed=0 image=clean
finish_ringcheck "$NAME"
check "... nor is there a FAILED in the stream" test $? -eq 0 -a "$(found failed)" -eq 0
check "... and the replica is the disk" same "$ORIGIN" "$HUB/v1"
ktap_finished
