#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the write-intent map costs and survives while a volume is in use: nothing is written to it for what is written
# often; many cold regions share a write; when its device fails, writes go on, and when that is mended, so is the map;
# tables with and without it follow one another.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 26
modprobe dm-repagent || die "no module"
echo 300 > /sys/module/dm_repagent_mod/parameters/map_clear_ms
make_origin ORIGIN null 256
make_origin BACKING null 16
# A device that takes its time, as all do: meanwhile others come to wait.
meta_table="0 32768 delay $BACKING 0 0 $BACKING 0 2"
create_dm "$PREFIX-meta" "$meta_table"
META=$(dev "$PREFIX-meta")
NAME=$PREFIX-v0
DEV=$(dev "$NAME")
hub_image v0 256
write_at() { # NAME ARGUMENT...
	run_writer "$1" oracle --seed "$SEED" --mix write=1 "${@:2}" "$DEV"
}

create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region 64
start_ringcheck --replica "v0=$HUB/v0"
wait_synced 100 "$NAME"
must_wait_for 60 at_rest "$BACKING"

# Cold regions: 4096 of them, in no order. The cleaner rests.
echo 60000 > /sys/module/dm_repagent_mod/parameters/map_clear_ms
dm suspend "$NAME"
dm resume "$NAME"
before=$(writes_to "$BACKING")
write_at cold --threads 32 --ops 1024 --min 4k --max 4k --align 4k
check "cold writes are written" test $? -eq 0
cold=$(($(writes_to "$BACKING") - before))
check "1024 writes to cold regions: $cold writes to the map" test $cold -le 128 -a $cold -gt 0
wait_synced 60 "$NAME"
echo 300 > /sys/module/dm_repagent_mod/parameters/map_clear_ms
dm suspend "$NAME"
dm resume "$NAME"
check "after a while the map is at rest" wait_for 60 at_rest "$BACKING"

# A hot set. The first of them set its bits, and from then on none of its regions is left alone for long.
start_writer hot oracle --threads 4 --seed "$SEED" --mix write=80,fua=10,fsync=2 --range 1M --max 16k --rate 2000 \
	--seconds $((60 * TEST_SLOW)) "$DEV"
read_status "$NAME"
must_wait_for 20 status_past "$NAME" last $((ST[last] + 800))
before=$(writes_to "$BACKING")
for _ in 1 2 3 4 5 6 7 8; do
	read_status "$NAME"
	must_wait_for 20 status_past "$NAME" last $((ST[last] + 200))
	nap 0.4
done
end_writer hot TERM
check "a hot set is written" test $? -eq 0
hot=$(($(writes_to "$BACKING") - before))
check "... without a write to the map: $hot" test $hot -eq 0
check "... which is cleared later" wait_for 30 at_rest "$BACKING"
check "... that is, written to" test "$(writes_to "$BACKING")" -gt "$before"

# The meta device fails.
start_writer along oracle --threads 4 --seed "$SEED" --mix write=80,fua=10,fsync=2 --max 16k --rate 500 --seconds 100 "$DEV"
dm load "$PREFIX-meta" --table "0 32768 error"
dm suspend --noflush "$PREFIX-meta"
dm resume "$PREFIX-meta"
check "a map that fails is told" wait_for 30 status_is "$NAME" map=error
check "... and capture goes on" status_is "$NAME" capture=stream
read_status "$NAME"
check "writes go on" wait_for 30 status_past "$NAME" last $((ST[last] + 500))
check "the kernel's log says so" grep -q "the write-intent map cannot be written" <<< "$(kernel_log)"
dm load "$PREFIX-meta" --table "$meta_table"
dm suspend --noflush "$PREFIX-meta"
dm resume "$PREFIX-meta"
check "a map that is to be had again is made anew" wait_for 30 status_is "$NAME" map=ok
end_writer along TERM
check "no write failed" test $? -eq 0
wait_synced 60 "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

# Tables follow one another under load.
start_writer tables oracle --threads 4 --seed "$SEED" --mix write=80,fua=10,fsync=2 --range 128M --max 16k --rate 500 \
	--seconds 100 "$DEV"
swap_table() { # FEATURE...
	dm load "$NAME" --table "$(repagent_table "$ORIGIN" "$GROUP" v0 "$@")" && dm suspend "$NAME" && dm resume "$NAME"
}
check "the same table again" swap_table meta "$META" region 64
check "... the map goes on" status_is "$NAME" map=ok capture=stream
check "without a map" swap_table
check "... there is none" status_is "$NAME" map=none capture=stream
check "with a map again" swap_table meta "$META" region 64
check "... all regions are set, none is dirty for it" status_is "$NAME" map=ok capture=stream image=clean
dm load "$NAME" --table "0 262144 repagent $ORIGIN $GROUP v0 4 meta $META region 64"
dm suspend "$NAME"
dm resume "$NAME"
check "a shorter one" status_is "$NAME" map=ok
end_writer tables TERM
check "no write failed" test $? -eq 0
wait_synced 60 "$NAME"
must_wait_for 60 at_rest "$BACKING"
stop_ringcheck
check "the stream is good" test $? -eq 0
dm remove "$NAME"
echo "$GROUP" > "/sys/class/repagent/$GROUP/forget" || die "the group does not wait for its last record to be taken"
dm create "$NAME" --table "0 262144 repagent $ORIGIN $GROUP v0 4 meta $META region 64"
check "after a clean stop nothing is dirty" status_is "$NAME" map=ok dirty=0
start_ringcheck --replica "v0=$HUB/v0"
finish_ringcheck "$NAME"
check "... and nothing is read" test "$(found resync_bytes)" -eq 0
check "the replica is the disk" cmp -n $((128 << 20)) "$ORIGIN" "$HUB/v0"
ktap_finished
