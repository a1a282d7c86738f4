#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The daemon's memory: without the ring, which it maps, at most 16 MiB, also after much work.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 4
setup_volume 32
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"

resident() { # KiB, without the mapping of the ring
	awk '/^[0-9a-f]+-[0-9a-f]+ / { ring = index($0, "/dev/repagent/") }
	     /^Rss:/ && !ring { sum += $2 }
	     END { print sum + 0 }' "/proc/$DAEMON/smaps"
}
before=$(resident)
check "the mapping of the ring is known" grep -q "/dev/repagent/$GROUP" "/proc/$DAEMON/smaps"
check "after the first sync: $before KiB" test "$before" -gt 500 -a "$before" -le 16384
run_writer oracle oracle --threads 4 --seed "$SEED" --ops 4000 --max 64k "$DEV"
wait_synced 90 "$NAME"
after=$(resident)
check "after 4000 writes: $after KiB" test "$after" -gt 500 -a "$after" -le 16384
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
