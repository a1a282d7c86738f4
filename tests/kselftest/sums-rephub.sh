#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a rephub has is not sent again: by command, after an older copy of its directory was put back, and while writes go on
# that bring blocks to and fro. A hub that moved to another address is the same hub. What is not what it was at the hub, in a
# place that no sum of its own covers, is found beside the writes and mended, and nothing else is said to differ.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 22
for program in rephub rephubctl nbdcopy repctl; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
MIB=32
NAME=$PREFIX-v0
make_origin ORIGIN loop $MIB
dd if=/dev/urandom of="$ORIGIN" bs=1M count=$MIB oflag=direct status=none
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 16
trace_start repagent_image

agent() {
	start_daemon --state-dir "$TMP/state" --checkpoint-interval 0 --heartbeat 1
}
ctl() {
	rephubctl --dir "$HUB" "$@"
}
view_is_disk() {
	rm -f "$TMP/view"
	hub_view v0 latest "$TMP/view" && same "$(dev "$NAME")" "$TMP/view"
	local status=$?
	rm -f "$TMP/view"
	return "$status"
}
log_end() { # how many bytes the log ever had
	local last
	last=$(find "$HUB/groups/$GROUP/journal" -name '*.log' | sort | tail -n 1)
	echo $((0x$(basename "$last" .log) + $(stat -c %s "$last") - 4096))
}
grew_less() { # KIB FROM
	local now
	now=$(log_end)
	note "$((now - $2)) bytes of log"
	[ $((now - $2)) -lt $(($1 * 1024)) ]
}
resynced() { # COUNT: of its resyncs
	[ "$(trace_count 'resync -> clean')" -gt "$1" ] && is_synced "$NAME"
}
verify() { # ARGUMENT...: of rephubctl; leaves what it says in $TMP/said
	ctl verify "$@" > "$TMP/said" 2>&1
	local status=$?
	note "$(tr '\n' ' ' < "$TMP/said")"
	return "$status"
}
base_has() { # MIB
	[ "$(du -m "$HUB/groups/$GROUP/base/v0" 2> /dev/null | cut -f 1)" -ge "$1" ]
}

start_hub rephub --segment 4M --keep 4M
agent
check "the first sync ends" wait_for 60 is_synced "$NAME"
check "the view is the disk" view_is_disk

# By command. In this ring a frame of what is left out is for 1 MiB.
end=$(log_end) n=$(trace_count 'resync -> clean')
repctl resync "$GROUP" > /dev/null || die "no resync"
check "a resync of what the hub has ends" wait_for 60 resynced "$n"
check "... and costs less than 0.1 %" grew_less 32 "$end"
check "the view is the disk" view_is_disk

# Beside writes, which take blocks to and fro.
n=$(trace_count 'resync -> clean')
start_writer load oracle --threads 2 --seed "$SEED" --rate 150 --max 16k --mix write=60,fua=10,zero=10,fsync=2 --seconds 1000 \
	"$(dev "$NAME")"
repctl resync "$GROUP" > /dev/null || die "no resync"
check "one beside writes ends" wait_for 60 resynced "$n"
check "nothing is said to differ beside writes" verify "$GROUP" --wait 2min
check "... nothing at all" grep -q 'v0: done, nothing differed' "$TMP/said"
end_writer load TERM
check "no write failed" test $? -eq 0
must_wait_for 60 is_synced "$NAME"
check "the view is the disk" view_is_disk

# In the base there is no sum of its own. The first MiBs are written no more, and folded.
dd if=/dev/urandom of="$(dev "$NAME")" bs=1M seek=16 count=16 oflag=direct status=none
must_wait_for 60 base_has 14
# The ring may have been too small for that.
must_wait_for 60 is_synced "$NAME"
kill_hub
dd if=/dev/urandom of="$HUB/groups/$GROUP/base/v0" bs=512 seek=$((10 * 2048 + 3)) count=2 conv=notrunc status=none
restart_hub
check "what changed at the hub is found and mended" verify "$GROUP/v0" --wait 2min
check "... the block that it is in" grep -q 'v0: done, 64 KiB differed and were sent again' "$TMP/said"
check "... which the volumes show" grep -q '64 KiB differed' <(ctl volumes "$GROUP")
check "... and the events" grep -q ' differs .*v0: 64 KiB' <(ctl events "$GROUP")
check "the view is the disk" view_is_disk

# An older copy of its directory is put back.
kill_hub
cp -a "$HUB" "$TMP/older"
restart_hub
must_wait_for 60 is_synced "$NAME"
dd if=/dev/urandom of="$(dev "$NAME")" bs=64k seek=100 count=4 oflag=direct status=none
must_wait_for 60 is_synced "$NAME"
kill_hub
rm -rf "$HUB"
mv "$TMP/older" "$HUB"
n=$(trace_count 'resync -> clean')
restart_hub
check "that the hub was set back is noticed" wait_for 60 daemon_says 'it was set back, and everything is read again'
check "... and mended" wait_for 60 resynced "$n"
end=$(log_end)
check "the view is the disk" view_is_disk
check "... with what it lacked, and little more" daemon_says '3[01](\.[0-9])? MiB that the hub had were not sent again'

# It moves: the directory goes with it, and so its identity.
kill_hub
kill_daemon
n=$(trace_count 'clean -> dirty')
mv "$HUB" "$TMP/moved"
HUB=$TMP/moved
restart_hub
mv "$HUB_SOCKET" "$TMP/elsewhere"
HUB_SOCKET=$TMP/elsewhere HUB_URI="rephub+unix:///?socket=$TMP/elsewhere"
agent
dd if=/dev/urandom of="$(dev "$NAME")" bs=64k seek=200 count=4 oflag=direct status=none
check "a hub that moved is gone on with" wait_for 60 is_synced "$NAME"
check "... and nothing is read again" test "$(trace_count 'clean -> dirty')" -eq "$n"
check "the view is the disk" view_is_disk
ktap_finished
