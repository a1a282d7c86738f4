#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I2: a write that completed before another was submitted comes before it in the stream, across the volumes of a
# group. Dependent writes, side A on one volume and side B on the other, whose origins are of different kinds;
# the checker looks at every single record.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

seconds=6
[ -z "${TEST_LONG:-}" ] || seconds=300
plan 6

make_origin ORIGIN0 loop 16
make_origin ORIGIN1 null 16
create_volume "$PREFIX-v0" "$ORIGIN0" "$GROUP" v0 ring 16
create_volume "$PREFIX-v1" "$ORIGIN1" "$GROUP" v1
hub_image v0 16
hub_image v1 16
replicas=(--replica "v0=$HUB/v0" --replica "v1=$HUB/v1")

run_ringcheck "${replicas[@]}" --state "$TMP/state" --stop-after-idle 100
check "the first sync of both volumes is a good stream" test $? -eq 0 -a "$(found resync_end)" -eq 2

start_ringcheck "${replicas[@]}" --state "$TMP/state" --dependent --ack random
run_writer depwriter depwriter --a "$(dev "$PREFIX-v0")" --b "$(dev "$PREFIX-v1")" --threads 6 \
	--seconds $seconds
check "no write fails" test $? -eq 0
finish_ringcheck "$PREFIX-v0" "$PREFIX-v1"
check "no record is out of order" test $? -eq 0
check "more than 1000 steps were checked" test "$(found dep_steps)" -gt 1000
check "volume v0 is equal to its replica" same "$ORIGIN0" "$HUB/v0"
check "volume v1 is equal to its replica" same "$ORIGIN1" "$HUB/v1"
ktap_finished
