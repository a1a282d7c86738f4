#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest's flushes and FUA writes reach the origin's disk, in each state of the group: counted where the driver gets
# them, as many as with dm-linear over the same disk, and in the stream as well.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

ops=60
plan 13
make_origin ORIGIN scsi 16
trace=/sys/kernel/tracing/instances/rt$$-block
[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing || die "no tracefs"
mkdir $trace || die "no trace instance"
defer rmdir $trace
defer eval "echo 0 > $trace/events/enable"
number=$(stat -Lc '%Hr %Lr' "$ORIGIN")
echo "dev == $(((${number% *} << 20) | ${number#* }))" > $trace/events/block/block_rq_issue/filter || die "no filter"
echo 1 > $trace/events/block/block_rq_issue/enable
grep -q 'write back' "/sys/block/${ORIGIN#/dev/}/queue/write_cache" || die "the disk has no cache to flush"

# A flush of its own is "F" or "FF"; a FUA write "WF.", or "FWF." with a flush before it. Prints both counts.
issued() {
	awk '/block_rq_issue:/ { rwbs = $0; sub(/.*block_rq_issue: [0-9]+,[0-9]+ /, "", rwbs); sub(/ .*/, "", rwbs)
		if (rwbs ~ /^F/) flushes++
		if (rwbs ~ /WF/) fua++ }
	     END { print flushes + 0, fua + 0 }' $trace/trace
	: > $trace/trace
}
load() { # NAME DEVICE: the same for each
	: > $trace/trace
	run_writer "$1" oracle --threads 1 --seed "$SEED" --ops $ops --max 16k --mix write=40,fua=30,fsync=30 "$2" ||
		die "a write failed"
	flushes=$(value "$TMP/$1.out" fsync) fua=$(value "$TMP/$1.out" fua)
	[ "$flushes" -ge 8 ] || die "only $flushes flushes were made"
	[ "$fua" -ge 8 ] || die "only $fua FUA writes were made"
	read -r got_flushes got_fua < <(issued)
	note "$1: of $flushes flushes $got_flushes, of $fua FUA writes $got_fua reached the disk"
}

create_dm "$PREFIX-linear" "0 $(sectors_of "$ORIGIN") linear $ORIGIN 0"
load linear "$(dev "$PREFIX-linear")"
dm remove "$PREFIX-linear"
want_flushes=$got_flushes want_fua=$got_fua
check "with dm-linear they reach the disk" test "$want_flushes" -ge "$flushes" -a "$want_fua" -ge "$fua"

NAME=$PREFIX-v0 DEV=$(dev "$PREFIX-v0")
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 4
hub_image v0 16
load init "$DEV"
status_is "$NAME" capture=init || die "the group is not in init"
check "init: all flushes reach the disk" test "$got_flushes" -ge "$want_flushes"
check "init: all FUA writes do" test "$got_fua" -ge "$want_fua"

start_ringcheck --replica "v0=$HUB/v0"
must_wait_for 30 status_is "$NAME" capture=stream image=clean
load stream "$DEV"
status_is "$NAME" capture=stream || die "the group does not stream"
check "stream: all flushes reach the disk" test "$got_flushes" -ge "$want_flushes"
check "stream: all FUA writes do" test "$got_fua" -ge "$want_fua"
finish_ringcheck "$NAME"
check "stream: they are in the stream too" test "$(found flush)" -ge "$flushes" -a "$(found fua)" -ge "$fua"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

run_ringcheck --hub paused --drain
must_wait_for 10 status_is "$NAME" capture=track
load track "$DEV"
status_is "$NAME" capture=track || die "the group does not track"
check "track: all flushes reach the disk" test "$got_flushes" -ge "$want_flushes"
check "track: all FUA writes do" test "$got_fua" -ge "$want_fua"
dm remove "$NAME"

# A bounce that is switched off is another way to the disk.
GROUP=g$$-2
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 4 bounce off
start_ringcheck --replica "v0=$HUB/v0"
must_wait_for 30 status_is "$NAME" capture=stream image=clean
load nobounce "$DEV"
check "bounce off: all flushes reach the disk" test "$got_flushes" -ge "$want_flushes"
check "bounce off: all FUA writes do" test "$got_fua" -ge "$want_fua"
finish_ringcheck "$NAME"
check "bounce off: they are in the stream too" test "$(found flush)" -ge "$flushes" -a "$(found fua)" -ge "$fua"
check "bounce off: the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
