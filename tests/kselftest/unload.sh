#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The module is refused to be unloaded while it is in use: by a device, by a consumer of a group that lingers. When it
# is not, it can be, and it leaves nothing: loaded, used and unloaded again and again, it costs no memory. What is
# used: a ring, dirty bits, resync reads, writes in the ring, a group that lingers to the end.
#
# Pages of dirty bits are few, so they are followed one by one: each page that the module asks for in its own way
# (see rep_dirty_set()) is given back.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

rounds=8 mib=16
[ -z "${TEST_LONG:-}" ] || rounds=200
plan 11
[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing || die "no tracefs"
rmmod dm_repagent_mod 2> /dev/null
check "before all, there is no class of devices" test ! -e /sys/class/repagent

setup_volume 8 ring 1
check_not "a device keeps the module" rmmod dm_repagent_mod 2> /dev/null
run_ringcheck --replica "v0=$HUB/v0" --stop-after-idle 50 || die "the first sync is no good stream"
run_writer oracle oracle --threads 1 --ops 10 --seed "$SEED" --max 4k "$DEV"
dm remove "$NAME"
start_ringcheck --no-connect --ack never
check_not "a consumer keeps the module, even without a device" rmmod dm_repagent_mod 2> /dev/null
stop_ringcheck
check "a group that lingers does not" rmmod dm_repagent_mod
check "after it, there is no class of devices" test ! -e /sys/class/repagent

# The leaves of the dirty bits: 4 KiB from get_zeroed_page(GFP_NOWAIT | __GFP_NOWARN), or __get_free_page(GFP_NOIO |
# __GFP_NOWARN) for a resync read.
pages=/sys/kernel/tracing/instances/rt$$
mkdir $pages || die "no trace instance"
defer rmdir $pages
defer eval "echo 0 > $pages/events/enable"
echo 32768 > $pages/buffer_size_kb
page_events() { # 0 or 1
	echo "$1" > $pages/events/kmem/mm_page_alloc/enable
	echo "$1" > $pages/events/kmem/mm_page_free/enable
}
leaves() { # prints how many pages were had for leaves, and how many of them were not given back
	awk '/mm_page_alloc:.* order=0 .*gfp_flags=(GFP_NOWAIT(\|__GFP_NOWARN)?\|__GFP_ZERO|GFP_NOIO\|__GFP_NOWARN)$/ {
		match($0, /pfn=[^ ]+/); pfn = substr($0, RSTART, RLENGTH); out[pfn] = 1; n++ }
	     /mm_page_free:.* order=0/ { match($0, /pfn=[^ ]+/); delete out[substr($0, RSTART, RLENGTH)] }
	     END { left = 0; for (pfn in out) left++; print n + 0, left }' $pages/trace
}

meminfo() { # NAME...: the sum, KiB
	awk -v names=" $* " 'index(names, " " substr($1, 1, length($1) - 1) " ") { sum += $2 } END { print sum }' /proc/meminfo
}
vmaps() { # rings are mapped twice
	grep -c ' vmap' /proc/vmallocinfo
}
use() { # one life of the module
	dm create "$NAME" --table "$table" || die "cannot create it"
	dm mknodes "$NAME"
	ringcheck --stop-after-idle 20 "$GROUP" > "$TMP/ringcheck.out" 2>&1 || die "no good stream"
	ringcheck --hub paused --drain "$GROUP" > "$TMP/ringcheck.out" 2>&1
	# In TRACK: dirty bits, a leaf of them.
	dd if=/dev/zero of="$DEV" bs=64k count=4 oflag=direct status=none || die "a write failed"
	dm remove "$NAME"
	[ -e "/sys/class/repagent/$GROUP" ] && ((++lingered))
	rmmod dm_repagent_mod || die "the module cannot be unloaded"
}
settle() {
	sync
	echo 3 > /proc/sys/vm/drop_caches
}
lingered=0
table=$(repagent_table "$ORIGIN" "$GROUP" v0 ring $mib)
for ((i = 0; i < 2; i++)); do
	use
done
settle
vmaps=$(vmaps) free=$(meminfo MemFree Buffers Cached) slab=$(meminfo SUnreclaim)
lingered=0
for ((i = 0; i < rounds; i++)); do
	if ((i == rounds - 3)); then
		page_events 1
	fi
	use
done
page_events 0
settle
read -r leaves kept < <(leaves)
now=$(meminfo MemFree Buffers Cached) now_slab=$(meminfo SUnreclaim)
note "$rounds rounds: memory fell by $((free - now)) KiB, unreclaimable slab rose by $((now_slab - slab)) KiB"
note "pages for dirty bits: $leaves, of which $kept were not given back"
check "in each of $rounds rounds the group lingered to the end" test $lingered -eq "$rounds"
check "no mapping of a ring is left" test "$(vmaps)" -le "$vmaps"
# Freed pages wait here and there for their next use: half of the rings is far more than those.
check "rings of $((rounds * mib)) MiB cost no memory" test $((free - now)) -lt $((rounds * mib * 1024 / 2))
check "nor do the objects of groups and volumes" test $((now_slab - slab)) -lt 2048
check "dirty bits were used" test "$leaves" -ge 3
check "their pages were given back" test "$kept" -lt 3
ktap_finished
