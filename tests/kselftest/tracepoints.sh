#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The tracepoints below events/repagent tell of states, reservations, acknowledgements and failures.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

tracing=/sys/kernel/tracing
[ -d $tracing/events ] || mount -t tracefs none $tracing 2> /dev/null || ktap_skip_all "no tracefs"
modprobe dm-repagent
plan 8
check "the kernel has the events" test -d $tracing/events/repagent
mkdir $tracing/instances/rt$$ || die "no trace instance"
defer rmdir $tracing/instances/rt$$
instance=$tracing/instances/rt$$
echo 1 > "$instance/events/repagent/enable"
disable() {
	echo 0 > "$instance/events/repagent/enable"
}
defer disable

setup_volume 16 ring 1
run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 100
run_writer oracle oracle --threads 1 --ops 300 --mix write=1 --min 8k --max 64k "$DEV"
echo 0 > "$instance/events/repagent/enable"
cat "$instance/trace" > "$TMP/trace"

traced() { # PATTERN
	grep -qE "$1" "$TMP/trace"
}
check "a capture's beginning" traced "repagent_capture: $GROUP: init -> stream, none"
check "a capture's end" traced "repagent_capture: $GROUP: stream -> track, ring-full"
check "an image's resync" traced "repagent_image: $GROUP/v0: dirty -> resync, first-sync"
check "an image's end of resync" traced "repagent_image: $GROUP/v0: resync -> clean, none"
check "reservations" traced "repagent_reserve: $GROUP/v0: seq [0-9]+ "
check "resync reads" traced "repagent_resync_read: $GROUP/v0: sector 0 .* error 0"
check "acknowledgements" traced "repagent_ack: $GROUP: seq [0-9]+"
ktap_finished
