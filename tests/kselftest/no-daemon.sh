#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A group without a daemon. If there never was one: no write fails, nothing is captured, and the group goes with its
# device. If it went: the ring fills, the group tracks, no write fails, and the device can be removed; the group
# lingers. Unloading the module frees all that.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 21
load() { # 300 writes, 8 KiB or more, that must not fail
	run_writer oracle oracle --threads 2 --ops 300 --seed "$SEED" --min 8k --max 64k "$DEV"
}
attribute() { # NAME VALUE
	[ "$(< "/sys/class/repagent/$GROUP/$1")" = "$2" ] && return
	note "$1: $(< "/sys/class/repagent/$GROUP/$1")"
	return 1
}
group_is_gone() {
	[ ! -e "/sys/class/repagent/$GROUP" ] && [ ! -e "/dev/repagent/$GROUP" ]
}

setup_volume 16 ring 2
check "no daemon ever: writes succeed" load
check "... the status says why they are not captured" status_is "$NAME" capture=init reason=first-sync image=dirty
check "... the ring is unused" status_is "$NAME" used=0 last=0
check "... all is dirty" status_is "$NAME" dirty=$((16 * 2048))
check "... the group's attributes say the same" attribute state "init first-sync"
check "... and nobody has it open" attribute consumer none
check "... the device can be removed" dm remove "$NAME"
check "... and the group goes with it" wait_for 5 group_is_gone

dm create "$NAME" --table "$(repagent_table "$ORIGIN" "$GROUP" v0 ring 2)" || die "cannot create it again"
dm mknodes "$NAME"
run_ringcheck --replica "v0=$HUB/v0" --stop-after-idle 100 || die "the first sync is no good stream"
wait_synced 10 "$NAME"
check "the daemon went: writes succeed, more than the ring holds" load
check "... more than it holds" test "$(value "$TMP/oracle.out" bytes)" -gt $((2 << 20))
check "... the status says why capture stopped" status_is "$NAME" capture=track reason=ring-full image=dirty
check "... the ring was used: ${ST[used]} of ${ST[size]} sectors" test "${ST[used]}" -gt 2000
check "... the group's attributes say the same" attribute state "track ring-full"
ring="${ST[used]}/${ST[size]} ${ST[last]} ${ST[acked]}"
check "... of the ring too" attribute ring "$ring"
check "... the volume is active" attribute volumes "v0 active"
check_not "the module is in use" rmmod dm_repagent_mod 2> /dev/null
check "the device can be removed" dm remove "$NAME"
check "the group lingers" attribute volumes "v0 lingering"
log_mark
check "the module can be unloaded" rmmod dm_repagent_mod
check "the log says what is lost" grep -qE "group $GROUP goes, with [0-9]{2,} records that were not acknowledged" \
	<(kernel_log)
check "the group is gone" group_is_gone
ktap_finished
