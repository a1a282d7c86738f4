#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hub whose disk becomes full, as its users meet it: what each group does then, what rephubctl says, before and after; and
# that it goes on when there is room. The disk is a file system in memory that only this test sees.

[ -n "${OWN_MOUNTS:-}" ] || OWN_MOUNTS=1 exec unshare --mount "$0" "$@"

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

mkdir "$HUB"
mount -t tmpfs -o size=96m none "$HUB" || die "a tmpfs cannot be mounted: expected root"
trap 'umount -l "$HUB"; cleanup' EXIT

feed() { # GROUP MIB: whose volume is small beside the disk
	hubfeed "$SOCKET" "$1" "$2" 4 16 8
}
warned() {
	ctl space | grep -qE '^Warning: .* are free, the reserve is 24 MiB'
}
newest() { # GROUP
	ctl --json groups | python3 -c 'import json, sys; print(*[g["newest"] for g in json.load(sys.stdin) if g["group"] == sys.argv[1]])' "$1"
}
oldest() { # GROUP
	ctl --json groups | python3 -c 'import json, sys; print(*[g["oldest"] for g in json.load(sys.stdin) if g["group"] == sys.argv[1]])' "$1"
}
is_state() { # GROUP STATE
	ctl space | grep -qE "^$1 .* $2\$"
}
is_told() { # WORDS EVENTS-OF
	ctl events "${@:2}" --most 100 | grep -qE "$1"
}

start_hub --segment 4M --reserve 24M --warn-full 1s --keep 0
check "two groups" feed vm0 8
feed vm1 8 > /dev/null || die hubfeed
first=$(oldest vm0)
check "nobody is warned" not warned
check "what holds for all" grep -q 'when the disk is full: stop-ingest, as for all groups' <(ctl retention vm1)
check "--when-full is set" ctl retention vm1 --when-full drop-history
check "... and is not all that is set" grep -q 'fits into any size and came within any time, as for all groups' <(ctl retention vm1)
check "... and shown" grep -qE '^vm1 .* drop-history +room$' <(ctl space)
check "completion" grep -qx drop-history <(bash -c '. completion/rephubctl
	COMP_WORDS=(rephubctl retention vm1 --when-full d) COMP_CWORD=4; _rephubctl; printf "%s\n" "${COMPREPLY[@]}"')
comes() { # a rate is known: it is looked at once a second
	feed vm0 1 > /dev/null || die hubfeed
	wait_for 3 rate_is_known
}
rate_is_known() {
	ctl space | grep -qE '^vm0 .* [1-9][0-9.]* .?i?B/s '
}
wait_for 20 comes || die "nothing comes"
feed vm0 33 > /dev/null || die hubfeed
check "the warning comes before" wait_for 20 warned
check "... with the time that is left" is_told 'space-low +- +.*reached in [0-9]'
check "... and in the log" is_logged 'reached in [0-9]'
check "... while all is taken" feed vm0 1
latest=$(newest vm0)
check "stop-ingest: it ends for the reserve" not feed vm0 80
check "... which is told" is_told '^.* vm0 +full .*nothing is taken until there is room' vm0
check "... and shown" is_state vm0 full
check "... and why, to who asks again" not feed vm0 1
check "... no history went" [ "$(oldest vm0)" = "$first" ]
sum=$(sum_of "view/vm0/disk0@$latest")
check "drop-history: the other group goes on, not faster than history can go" feed vm1 100
check "... with less history" not nbdinfo "$(uri view/vm1/disk0@1000)"
check "... which is told" is_logged 'group vm1: .*its oldest history goes from now on'
check "... while nothing more is taken of the first" not feed vm0 1
stop_hub KILL
start_hub --segment 4M --reserve 24M --warn-full 1s --keep 0
check "after a restart it is so still" not feed vm0 40
check "... all is there" [ "$(sum_of "view/vm0/disk0@$latest")" = "$sum" ]
mount -o remount,size=400m "$HUB"
check "there is room: it goes on" wait_for 20 feed vm0 1
check "... which is told" is_told 'has-room' vm0
check "... and the warning ends" wait_for 20 not warned
check "what was there is there" [ "$(sum_of "view/vm0/disk0@$latest")" = "$sum" ]
check "nothing was taken for damage" not grep -q damaged "$LOG"
stop_hub TERM
check "for all groups: --when-full" start_hub --segment 4M --when-full drop-history
check "... holds" grep -q 'when the disk is full: drop-history, as for all groups' <(ctl retention vm0)
finish
