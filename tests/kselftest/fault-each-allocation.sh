#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each allocation that the module makes for a table, a resume, and a consumer that opens and maps the ring fails once. Each
# time the step is refused for want of memory, or succeeds without; nothing of it stays, and the next one succeeds.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 6
prepare_faults failslab fail_page_alloc
inject_into_module failslab fail_page_alloc
inject fail_page_alloc min-order=0 ignore-gfp-highmem=N
make_origin ORIGIN loop 16
free_mib() { # what nobody has, caches aside
	local name value _
	while read -r name value _; do
		[ "$name" != MemAvailable: ] || echo $((value / 1024))
	done < /proc/meminfo
}

before=$(free_mib)
run_writer allocfail allocfail "$PREFIX-v0" "$GROUP" "$(sectors_of "$ORIGIN")" repagent "$ORIGIN $GROUP v0 2 ring 8"
check "nothing is refused but for want of memory, and nothing for good" test $? -eq 0
check "allocations failed while the table was loaded" test "$(value "$TMP/allocfail.out" load_failures)" -gt 40
check "... and the load was refused" test "$(value "$TMP/allocfail.out" load_refused)" -gt 20
check "allocations failed while the ring was mapped" test "$(value "$TMP/allocfail.out" open_failures)" -gt 0
check_not "nothing is left of the group" test -e "/sys/class/repagent/$GROUP"
# A ring that is not given back is 8 MiB.
after=$(free_mib)
check "memory is given back: $before MiB were free, $after MiB are" test "$after" -gt $((before - 64))
ktap_finished
