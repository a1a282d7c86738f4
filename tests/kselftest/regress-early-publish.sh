#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A record that can be read is whole. The consumer waits for each, and reads its payload twice, the first time at
# once and from its end: if it was published before it was filled, it changes.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

writes=60
[ -z "${TEST_LONG:-}" ] || writes=5000
plan 4
setup_volume 16
start_ringcheck --replica "v0=$HUB/v0" --sample 1 --ack every:1 --spin
must_wait_for 30 status_is "$NAME" image=clean
# One at a time and slowly: the consumer is to be there first.
run_writer oracle oracle --threads 1 --ops $writes --rate 20 --seed "$SEED" --mix write=1 --min 1M --max 1M "$DEV"
check "no write fails" test $? -eq 0
finish_ringcheck "$NAME"
check "no record changed after it could be read" test $? -eq 0
check "each was read twice" test "$(found rechecked)" -ge $writes
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
