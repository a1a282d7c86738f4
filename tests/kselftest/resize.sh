#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A volume that grows while it streams: VOLUME_RESIZE is in the stream, what is new is dirty and synced, what was
# there is not read again. Shrinking works too.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 7
make_origin ORIGIN loop 16
dd if=/dev/urandom of="$ORIGIN" bs=1M count=16 oflag=direct status=none
NAME=$PREFIX-v0
create_dm "$NAME" "0 16384 repagent $ORIGIN $GROUP v0 2 ring 4"
hub_image v0 8
consume() {
	run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 200
}
resize() { # SECTORS
	dm load "$NAME" --table "0 $1 repagent $ORIGIN $GROUP v0" && dm resume "$NAME"
}
consume
check "the first sync is good" test $? -eq 0
check "it grows" resize 24576
consume
check "the stream is good and says so" test $? -eq 0 -a "$(found volume_resize)" -eq 1
check "only what is new is read" test "$(found resync_bytes)" -eq $((4 << 20))
check "the replica has grown and is the disk" same "$(dev "$NAME")" "$HUB/v0"
resize 8192 || die "it cannot shrink"
consume
check "it shrinks: the stream is good and says so" test $? -eq 0 -a "$(found volume_resize)" -eq 1
check "the replica has shrunk and is the disk" same "$(dev "$NAME")" "$HUB/v0"
ktap_finished
