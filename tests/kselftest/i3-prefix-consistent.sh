#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I3: every prefix of the stream that ends outside a resync is a crash-consistent image of the group. The ring is
# small and the consumer slow, so that capture stops and comes back several times while dependent writes go on; at
# the end of each resync the whole image is checked, and then every record again.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

gaps=2
[ -z "${TEST_LONG:-}" ] || gaps=8
plan 7

make_origin ORIGIN0 loop 8
make_origin ORIGIN1 loop 8
create_volume "$PREFIX-v0" "$ORIGIN0" "$GROUP" v0 ring 1
create_volume "$PREFIX-v1" "$ORIGIN1" "$GROUP" v1
hub_image v0 8
hub_image v1 8


start_ringcheck --replica "v0=$HUB/v0" --replica "v1=$HUB/v1" --dependent --ack every:16
must_wait_for 30 status_is "$PREFIX-v0" image=clean
must_wait_for 30 status_is "$PREFIX-v1" image=clean
start_writer depwriter depwriter --a "$(dev "$PREFIX-v0")" --b "$(dev "$PREFIX-v1")" --threads 4 \
	--seconds 120
for ((i = 0; i < gaps; i++)); do
	# The consumer stands still until the ring is full, then goes on.
	kill -STOP "$RINGCHECK"
	must_wait_for 30 status_is "$PREFIX-v0" capture=track reason=ring-full
	kill -CONT "$RINGCHECK"
	must_wait_for 60 status_is "$PREFIX-v0" capture=stream image=clean
	must_wait_for 30 status_is "$PREFIX-v1" image=clean
	# ... and some steps outside of any resync
	nap 0.5
done
end_writer depwriter TERM
check "no write fails" test $? -eq 0
finish_ringcheck "$PREFIX-v0" "$PREFIX-v1"
check "no prefix shows a write without those before it" test $? -eq 0
check "the ring overflowed $gaps times" test "$(found gap_ring-full)" -ge $gaps
check "the image at the end of each resync was checked" test "$(found dep_images)" -ge $gaps
check "more than 300 steps were checked" test "$(found dep_steps)" -gt 300
check "volume v0 is equal to its replica" same "$ORIGIN0" "$HUB/v0"
check "volume v1 is equal to its replica" same "$ORIGIN1" "$HUB/v1"
ktap_finished
