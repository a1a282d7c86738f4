#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The kernel has no memory, or not always, for what the module asks for (failslab, fail_page_alloc; nobody else's
# allocations fail): no write fails, and the replica is the disk. So it is when the group does not stream and ranges
# turn dirty without a page for their bits; with a write-intent map; and with a fail-over VM's disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=2000
[ -z "${TEST_LONG:-}" ] || ops=50000
plan 23
prepare_faults failslab fail_page_alloc
# No SCSI disk: lockdep does not like how the kernel removes one after nbd was used.
make_origin ORIGIN loop 48
make_origin META loop 4
make_origin OTHER loop 1
inject_into_module failslab fail_page_alloc
inject fail_page_alloc ignore-gfp-highmem=N min-order=2

# A ring of pairs of pages that do not lie in a row: a longer write needs a bio that is not embedded. (What checks itself has
# objects of two pages, too.) A map has a buffer of 16 pages in a row, so it is another volume that the ring is made with.
dd if=/dev/zero bs=4k count=8192 status=none | tee "$TMP/kept" > "$TMP/given-back" || die "cannot fill memory"
rm "$TMP/given-back"
inject fail_page_alloc probability=100
NAME=$PREFIX-v0
create_volume "$PREFIX-v1" "$OTHER" "$GROUP" v1 ring 8 discard zero
inject fail_page_alloc probability=0 min-order=0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 8 discard zero meta "$META" region 64
rm "$TMP/kept"
check "the ring was made of pairs of pages" test "$(injected fail_page_alloc)" -ge 8

DEV=$(dev "$NAME")
hub_image v0 48
hub_image v1 1
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"

load() { # PERCENT OPERATIONS: of the allocations so many fail
	local slab pages
	slab=$(injected failslab) pages=$(injected fail_page_alloc)
	inject failslab probability="$1"
	inject fail_page_alloc probability="$1"
	dm message "$NAME" 0 resync || die "no resync"
	run_writer "at$1" oracle --threads 4 --seed $((SEED + $1)) --ops "$2" --max 256k \
		--mix write=60,fua=10,nowait=10,zero=5,discard=5,fsync=2 "$DEV"
	check "with $1 % of the allocations failing, no operation does" test $? -eq 0
	slab=$(($(injected failslab) - slab)) pages=$(($(injected fail_page_alloc) - pages))
	check "... of which there were $slab, and $pages pages" test $((slab + pages)) -ge 1
}

load 1 $((2 * ops))
check "the volume becomes clean with allocations failing" wait_for 100 is_synced "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

load 10 $ops
check "the volume becomes clean with allocations failing" wait_for 100 is_synced "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

load 100 $ops
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
check "its map can be written" status_is "$NAME" map=ok
end_process "$DAEMON"

# A fail-over VM's disk: on the way of a request nothing is asked for.
LIVE=$PREFIX-r0
hub_image r0 16
create_recover "$LIVE" r0 16 ring 8
start_recover
inject failslab probability=100
inject fail_page_alloc probability=100
run_writer recovered oracle --threads 4 --seed $((SEED + 2)) --ops $ops --max 256k \
	--mix write=50,fua=5,nowait=10,zero=5,discard=5,fsync=3,read=20 "$(dev "$LIVE")"
check "with no memory, no request of a fail-over VM fails" test $? -eq 0
inject failslab probability=0
inject fail_page_alloc probability=0
sync "$(dev "$LIVE")"
check "the hub has what its disk shows" same "$(dev "$LIVE")" "$HUB/r0"
ktap_finished
