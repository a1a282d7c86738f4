#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The messages "checkpoint <label>" and "resync": what they put into the stream, and what is refused.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 13
message() {
	dm message "$NAME" 0 "$@" 2> "$TMP/message.err"
}

setup_volume 16 ring 4
check_not "a checkpoint before the group streams is refused" message checkpoint early
run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 100
wait_synced 10 "$NAME"

check "checkpoint is accepted" message checkpoint before-lunch
run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 100
check "... and is in the stream" test "$(found checkpoint)" -eq 1
check "... with its label" test "$(found label)" = before-lunch
label=$(printf 'x%.0s' {1..63})
check "a label of 63 bytes is accepted" message checkpoint "$label"
check_not "a label of 64 bytes is refused" message checkpoint "${label}x"
check_not "a checkpoint without a label is refused" message checkpoint
check_not "an unknown message is refused" message frobnicate
check_not "resync with a word too many is refused" message resync now please
check_not "no message at all is refused" message ""

check "resync is accepted" message resync
run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 100
check "... and reads the whole volume again" test "$(found resync_bytes)" -eq $((16 << 20)) \
	-a "$(found resync_begin)" -eq 1 -a "$(found resync_end)" -eq 1 -a "$(found errors)" -eq 0
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
