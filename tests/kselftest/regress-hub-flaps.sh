#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hub that takes the stream and refuses it in turn, a hundred times under load: the group does not follow each time
# but dwells, longer and longer; writes go on without waiting for any of it; and when the hub has made up its mind the
# group comes back by itself.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

flaps=100
[ -z "${TEST_LONG:-}" ] || flaps=1000
plan 11
trace_start repagent_capture repagent_image
setup_volume 16 ring 8
start_ringcheck --replica "v0=$HUB/v0" --flap 40:$flaps --timeout 300
must_wait_for 30 status_is "$NAME" capture=stream
SECONDS=0
start_writer oracle oracle --threads 2 --seed "$SEED" --rate 300 --max 32k --mix write=80,fua=10,fsync=2 \
	--seconds $((flaps * 40 / 1000 + 1)) "$DEV"
end_writer oracle
check "no write failed" test $? -eq 0
check "$(value "$TMP/oracle.out" ops) writes were made" test "$(value "$TMP/oracle.out" ops)" -ge $((flaps / 2))
latency=$(value "$TMP/oracle.out" max_latency_ms)
check "none took longer than a second: $latency ms" within_a_second "$latency"
span=$SECONDS
tracks=$(trace_count 'stream -> track|-> track') streams=$(trace_count '-> stream') images=$(trace_count 'repagent_image:')
note "in $span s capture was left $tracks times, and entered $streams times; $images changes of the image"
check "capture was left" test "$tracks" -ge 2
# 1, 2, 4, 8, 16, 16, ... s in TRACK
check "... no more often than the dwell time allows" test "$tracks" -le $((5 + span / 16))
check "... and entered as often" test "$streams" -ge "$tracks" -a "$streams" -le $((tracks + 1))
check "the image changed as seldom" test "$images" -le $((4 * (tracks + 1)))
check "capture comes back by itself" wait_for 40 status_is "$NAME" capture=stream
finish_ringcheck "$NAME"
check "the stream is good" test $? -eq 0
check "the hub flapped $(found flaps) times" test "$(found flaps)" -eq $flaps
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
