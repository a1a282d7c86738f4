#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Maps of large volumes on files with holes: the memory that one of 1 TiB takes, what cold writes all over it cost; a target of
# 16 TiB is there at once, and its last regions are its own, not those where the lower 32 bits of their sectors would be.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 15
modprobe dm-repagent || die "no module"
echo 60000 > /sys/module/dm_repagent_mod/parameters/map_clear_ms
tib=$((1 << 31)) # sectors
NAME=$PREFIX-v0
DEV=$(dev "$NAME")
make_origin META null 4

memory() { # bytes of the module's own areas, but for rings
	awk '/dm_repagent_mod/ && !/rep_ring/ { sum += $2 } END { print sum + 0 }' /proc/vmallocinfo
}
create() { # TIB
	local sectors=$(($1 * tib)) begin
	make_origin FILE loop $(($1 << 20))
	# made anew, as after a boot: nothing was written to it
	create_dm "$PREFIX-disk" "0 $sectors linear $FILE 0"
	mapmake --sectors $sectors "$GROUP" v0 "$META" > "$TMP/mapmake" || die "no map"
	begin=${EPOCHREALTIME/./}
	create_volume "$NAME" "$(dev "$PREFIX-disk")" "$GROUP" v0 meta "$META" ring 8
	took=$(((${EPOCHREALTIME/./} - begin) / 1000))
}
set_ranges() { # first region and number of each range that is set on the meta device
	dd if="$META" of="$TMP/map" bs=64k iflag=direct status=none
	repctl map dump --set "$TMP/map" | awk '{ print $1 / 2048, $2 / 2048 }'
}

regions() { # SIZE: of a region, in the units of stdin, which has ranges
	awk -v size="$1" '{ for (r = int($1 / size); r <= int(($1 + $2 - 1) / size); r++) print r }' | uniq
}

before=$(memory)
create 1
check "1 TiB: nothing is dirty" status_is "$NAME" map=ok dirty=0
used=$((($(memory) - before) >> 10))
check "... its map takes $used KiB" test $used -gt 1024 -a $used -le $((16 << 10))
dm remove "$NAME"
# A device that takes its time, as all do: meanwhile others come to wait.
create_dm "$PREFIX-meta" "0 8192 delay $META 0 0 $META 0 2"
create_volume "$NAME" "$(dev "$PREFIX-disk")" "$GROUP" v0 meta "$(dev "$PREFIX-meta")" ring 8
check "... nothing is dirty after a clean stop" status_is "$NAME" map=ok dirty=0
before=$(writes_to "$META")
run_writer cold oracle --seed "$SEED" --mix write=1 --threads 32 --ops 1024 --min 4k --max 4k --align 4k "$DEV"
check "cold writes all over it are written" test $? -eq 0
cold=$(($(writes_to "$META") - before))
check "... 1024 of them with $cold writes to the map" test $cold -gt 0 -a $cold -le $((128 * TEST_SLOW))
read_status "$NAME"
check "... and are what is dirty" test "${ST[dirty]}" -le $((1024 * 8)) -a "${ST[dirty]}" -gt $((1000 * 8))
dirtyranges "$GROUP" v0 | regions 2048 > "$TMP/dirty"
dm remove "$NAME"
# One write took many sectors of bits, those too that had not changed.
set_ranges | regions 1 > "$TMP/set"
check "... their regions, and no others, are set after a clean stop" cmp "$TMP/dirty" "$TMP/set"
dm remove "$PREFIX-meta"
dm remove "$PREFIX-disk"
[ ! -e "/sys/class/repagent/$GROUP" ] || echo "$GROUP" > "/sys/class/repagent/$GROUP/forget"

create 16
check "16 TiB: created in $took ms" test $took -le $((5000 * TEST_SLOW)) # a second, where nobody else has the processor
check "... nothing is dirty" status_is "$NAME" map=ok dirty=0
last=$((16 * tib - 8)) # sector
for sector in 0 $((4 * tib / 2 + 16)) $last; do
	dd if=/dev/urandom of="$DEV" bs=4k count=1 seek=$((sector / 8)) oflag=direct conv=notrunc status=none
done
set_ranges > "$TMP/set"
note "set: $(tr '\n' ';' < "$TMP/set")"
check "the first region is set" grep -qx "0 1" "$TMP/set"
check "... one at 2 TiB" grep -qx "$((2 << 20)) 1" "$TMP/set"
check "... and the last" grep -qx "$(((16 << 20) - 1)) 1" "$TMP/set"
check "... and no other" test "$(wc -l < "$TMP/set")" = 3
dirtyranges "$GROUP" v0 > "$TMP/dirty"
check "the sectors are dirty" grep -q "$last 8" "$TMP/dirty"
dm remove "$NAME"
create_volume "$NAME" "$(dev "$PREFIX-disk")" "$GROUP" v0 meta "$META" ring 8
check "... and so they are after a clean stop" status_is "$NAME" map=ok dirty=24
ktap_finished
