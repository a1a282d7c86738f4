#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Who waits for a change is told: `dmsetup wait` of the volume, a uevent of the group's device with the new state,
# and the events of `dmsetup info`.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 8
udevadm monitor --kernel --property > "$TMP/uevents" 2>&1 &
defer end_process $!
monitor_listens() {
	grep -q KERNEL "$TMP/uevents"
}
must_wait_for 20 monitor_listens

event_nr() {
	dm info -c --noheadings -o events "$NAME" | tr -d ' '
}
uevent_has() { # LINE: together with the device's name
	grep -A 12 "change.*/repagent/$GROUP" "$TMP/uevents" | grep -qx "$1"
}
uevent_named() { # ACTION
	grep -q "$1.*/repagent/$GROUP" "$TMP/uevents"
}

setup_volume 16 ring 1
check "a uevent tells of the new group" wait_for 10 uevent_named add
before=$(event_nr)
start_ringcheck --replica "v0=$HUB/v0"
must_wait_for 20 status_is "$NAME" image=clean
check "the first sync is told with uevents: stream" wait_for 10 uevent_has REPAGENT_CAPTURE=stream
check "dmsetup info counts the changes" test "$(event_nr)" -gt "$before"

# Settled: nothing changes any more.
settled() {
	local nr
	nr=$(event_nr)
	nap 0.3
	[ "$nr" = "$(event_nr)" ]
}
must_wait_for 10 settled
dm wait "$NAME" "$(event_nr)" > "$TMP/wait" 2>&1 &
waiter=$!
defer end_process $waiter
nap 0.5
check "dmsetup wait waits while nothing changes" is_alive $waiter
kill -STOP "$RINGCHECK"
run_writer oracle oracle --threads 1 --ops 300 --mix write=1 --min 8k --max 64k "$DEV"
gone() {
	! is_alive "$waiter"
}
check "it returns when the ring is full" wait_for 10 gone
check "the status says why" status_is "$NAME" capture=track reason=ring-full image=dirty
check "a uevent says so: track" wait_for 10 uevent_has REPAGENT_CAPTURE=track
check "... and why" wait_for 10 uevent_has REPAGENT_REASON=ring-full
kill -CONT "$RINGCHECK"
stop_ringcheck
ktap_finished
