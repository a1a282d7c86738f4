#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The kernel has no memory, or not always, for what the module asks for (failslab, fail_page_alloc; nobody else's
# allocations fail): no write fails, and the replica is the disk. So it is when the group does not stream and ranges
# turn dirty without a page for their bits.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=2000
[ -z "${TEST_LONG:-}" ] || ops=50000
plan 15
prepare_faults failslab fail_page_alloc
make_origin ORIGIN scsi 48
inject_into_module failslab fail_page_alloc
inject fail_page_alloc ignore-gfp-highmem=N min-order=2

# A ring of pairs of pages that do not lie in a row: a longer write needs a bio that is not embedded. (What checks itself has
# objects of two pages, too.)
dd if=/dev/zero bs=4k count=8192 status=none | tee "$TMP/kept" > "$TMP/given-back" || die "cannot fill memory"
rm "$TMP/given-back"
inject fail_page_alloc probability=100
NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 8 discard zero
inject fail_page_alloc probability=0 min-order=0
rm "$TMP/kept"
check "the ring was made of pairs of pages" test "$(injected fail_page_alloc)" -ge 8

DEV=$(dev "$NAME")
hub_image v0 48
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"

load() { # PERCENT: of the allocations fail
	local slab pages
	slab=$(injected failslab) pages=$(injected fail_page_alloc)
	inject failslab probability="$1"
	inject fail_page_alloc probability="$1"
	dm message "$NAME" 0 resync || die "no resync"
	run_writer "at$1" oracle --threads 4 --seed $((SEED + $1)) --ops $ops --max 256k \
		--mix write=60,fua=10,nowait=10,zero=5,discard=5,fsync=2 "$DEV"
	check "with $1 % of the allocations failing, no operation does" test $? -eq 0
	slab=$(($(injected failslab) - slab)) pages=$(($(injected fail_page_alloc) - pages))
	check "... of which there were $slab, and $pages pages" test $slab -ge 5 -a $pages -ge 5
}

load 10
check "the volume becomes clean with allocations failing" wait_for 100 is_synced "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

load 100
inject failslab probability=0
inject fail_page_alloc probability=0
check "it becomes clean once there is memory" wait_for 100 is_synced "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

# The ring fills up, and what finds no room turns dirty, 4 KiB here and there: that needs a page for 128 MiB.
kill -STOP "$DAEMON"
pages=$(injected fail_page_alloc)
inject failslab probability=100
inject fail_page_alloc probability=100
run_writer stopped oracle --threads 4 --seed $((SEED + 1)) --ops $ops --max 64k --mix write=60,fua=10,zero=1 "$DEV"
check "with a full ring and no memory, no write fails" test $? -eq 0
check "... and the group tracks" status_is "$NAME" capture=track reason=ring-full
check "without a page for its bits, all of the volume is dirty" status_is "$NAME" dirty="$(sectors_of "$ORIGIN")"
check "... $(($(injected fail_page_alloc) - pages)) pages were not to be had" \
	test "$(injected fail_page_alloc)" -gt "$pages"
inject failslab probability=0
inject fail_page_alloc probability=0
kill -CONT "$DAEMON"
check "it becomes clean once there is memory" wait_for 100 is_synced "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
