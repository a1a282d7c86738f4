#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each allocation that the module makes for a table, a resume, and a consumer that opens and maps the ring fails once. Each
# time the step is refused for want of memory, or succeeds without; nothing of it stays, and the next one succeeds. So it is
# with a write-intent map, and with a fail-over VM's disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 16
prepare_faults failslab fail_page_alloc
inject_into_module failslab fail_page_alloc
inject fail_page_alloc min-order=0 ignore-gfp-highmem=N
make_origin ORIGIN loop 16
make_origin META loop 4
free_mib() { # what nobody has, caches aside
	local name value _
	while read -r name value _; do
		[ "$name" != MemAvailable: ] || echo $((value / 1024))
	done < /proc/meminfo
}

each() { # NAME NODE TARGET PARAMETERS
	local out=$TMP/$1.out
	run_writer "$1" allocfail "$PREFIX-v0" "$2" "$(sectors_of "$ORIGIN")" "$3" "$4"
	check "$1: nothing is refused but for want of memory, and nothing for good" test $? -eq 0
	check "$1: allocations failed while the table was loaded" test "$(value "$out" load_failures)" -gt 30
	check "$1: ... and the load was refused" test "$(value "$out" load_refused)" -gt 15
	check "$1: allocations failed while the ring was mapped" test "$(value "$out" open_failures)" -gt 0
	check_not "$1: nothing is left of it" test -e "$2"
}

before=$(free_mib)
each volume "/dev/repagent/$GROUP" repagent "$ORIGIN $GROUP v0 2 ring 8"
each map "/dev/repagent/$GROUP" repagent "$ORIGIN $GROUP v0 6 ring 8 meta $META region 64"
each recover "/dev/rep-recover/$GROUP/v0" rep-recover "$GROUP v0 2 ring 8"
# A ring that is not given back is 8 MiB.
after=$(free_mib)
check "memory is given back: $before MiB were free, $after MiB are" test "$after" -gt $((before - 64))
ktap_finished
