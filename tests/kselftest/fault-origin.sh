#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The origin fails one request of a hundred, whichever it is (fail_make_request): the writer gets just the failures
# that happened, each is counted and is in the stream, what was failed is read again, also if reads fail meanwhile,
# and then the replica is the disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=6000
[ -z "${TEST_LONG:-}" ] || ops=100000
plan 11
prepare_faults fail_make_request
setup_volume 16 ring 32
make_it_fail=/sys/block/${ORIGIN#/dev/}/make-it-fail
[ -e "$make_it_fail" ] || die "no $make_it_fail"
start_ringcheck --replica "v0=$HUB/v0"
must_wait_for 60 status_is "$NAME" image=clean
trace_start repagent_write_failed repagent_resync_read

# A write that lies within 64 KiB is one request, so each failure is one of the writer's as well.
echo 1 > "$make_it_fail"
inject fail_make_request probability=1
run_writer single oracle --threads 4 --seed "$SEED" --ops $ops --align 512 --max 512 --mix write=1 --allow-errors "$DEV"
check "the origin failed writes, not all" test "$(value "$TMP/single.out" errors)" -gt $((ops / 250)) \
	-a "$(value "$TMP/single.out" errors)" -lt $((ops / 20))
inject fail_make_request probability=0
wait_synced 60 "$NAME"
failed=$(status_field "$NAME" failed)
reads=$(trace_count 'repagent_resync_read: .* error -5')
note "$(injected fail_make_request) requests failed: $failed writes, $reads reads"
check "the status counts them" test "$failed" -eq "$(value "$TMP/single.out" errors)"
check "no other request failed than these, and resync reads" \
	test $((failed + reads)) -eq "$(injected fail_make_request)"
check "each left a trace" test "$(trace_count repagent_write_failed:)" -eq "$failed"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

# Everything at once, cut and flushed: how many requests that makes is the kernel's affair.
inject fail_make_request probability=3
run_writer many oracle --threads 4 --seed $((SEED + 1)) --ops $ops --max 256k \
	--mix write=60,fua=10,fsync=5,read=10,nowait=10,zero=5 --allow-errors "$DEV"
check "of all kinds of operations some fail, not all" test "$(value "$TMP/many.out" errors)" -gt $((ops / 100)) \
	-a "$(value "$TMP/many.out" errors)" -lt $((ops / 5))
check "the volume becomes clean although reads fail" wait_for 100 is_synced "$NAME"
inject fail_make_request probability=0
failed=$(status_field "$NAME" failed)
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

run_writer healed oracle --threads 4 --seed $((SEED + 2)) --ops 500 --max 64k "$DEV"
check "when nothing fails any more, no write does" test $? -eq 0
finish_ringcheck "$NAME"
check "the stream is good, with a FAILED for each failed write" test $? -eq 0 -a "$(found failed)" -eq "$failed"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
