#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The line to a rephub is cut for so long that the ring is too small, and its disk becomes full: what it has can be used all
# the time, the hole and its reason are among its points, and new points come by themselves.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 18
for program in rephub rephubctl nbdcopy nbdinfo repctl socat; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
setup_volume 32 ring 4
HUB=$TMP/hub
mkdir -p "$HUB"
mount -t tmpfs -o size=400m none "$HUB" || die "cannot mount a tmpfs"
defer umount -l "$HUB"
line=$TMP/line relay=

view_sum() { # POINT
	nbdcopy "nbd+unix:///view/$GROUP/v0@$1?socket=$HUB_SOCKET" - | sha256sum
}
connect_line() {
	rm -f "$line"
	socat UNIX-LISTEN:"$line",fork UNIX-CONNECT:"$HUB_SOCKET" &
	relay=$!
	must_wait_for 10 test -S "$line"
}
cut_line() {
	signal_tree KILL "$relay"
	end_process "$relay"
	rm -f "$line"
}
has_point() { # PATTERN
	rephubctl --dir "$HUB" points "$GROUP" --most 100 | grep -qE "$1"
}
newest() {
	rephubctl --dir "$HUB" --json groups | sed -n 's/.*"newest": *"\([^"]*\)".*/\1/p'
}
newer_than() { # POINT: and it can be viewed
	[ "$(newest)" != "$1" ] && nbdinfo "nbd+unix:///view/$GROUP/v0@latest?socket=$HUB_SOCKET" > /dev/null 2>&1
}
start_load() {
	start_writer oracle oracle --threads 2 --seed "$SEED" --rate 150 --max 16k --mix write=1 --seconds 300 "$DEV"
}
end_load() {
	end_writer oracle TERM
	check "$1: no write failed" test $? -eq 0
	check "$1: no write took longer than a second" within_a_second "$(value "$TMP/oracle.out" max_latency_ms)"
	check "$1: all is resynced" wait_for 60 is_synced "$NAME"
	rm -f "$TMP/view"
	hub_view v0 latest "$TMP/view"
	check "$1: the view is the disk" same "$DEV" "$TMP/view"
}

start_hub rephub --segment 4M --reserve 32M --keep 0
defer cut_line
connect_line
HUB_URI="rephub+unix:///?socket=$line"
start_daemon --state-dir "$TMP/state" --checkpoint-interval 200ms
must_wait_for 60 is_synced "$NAME"

# --- The line is cut.
dd if=/dev/urandom of="$DEV" bs=64k count=16 oflag=direct conv=notrunc status=none
must_wait_for 20 is_synced "$NAME"
repctl checkpoint "$GROUP" before > /dev/null || die "no checkpoint"
must_wait_for 20 has_point 'checkpoint +before'
sum=$(view_sum before)
start_load
must_wait_for 20 status_past "$NAME" acked $((ST[last] + 100))
cut_line
check "the line is cut: the ring is too small" wait_for 60 status_is "$NAME" capture=track reason=ring-full
stands=$(newest)
end=$((SECONDS + ${TEST_LONG:+5}5))
until [ $SECONDS -ge $end ]; do
	[ "$(view_sum before)" = "$sum" ] || die "a point has changed"
	nap 0.5
done
check "... points of before can be used all the time" test "$(view_sum latest | wc -c)" -gt 64
check "... and there are no others" test "$(newest)" = "$stands"
connect_line
check "the line is there: capture goes on by itself" wait_for 40 status_is "$NAME" capture=stream
check "... the hole is told, with its reason" wait_for 40 has_point ' gap .*ring full'
check "... and new points come" wait_for 60 newer_than "$stands"
end_load "a cut"
check "points of before are what they were" test "$(view_sum before)" = "$sum"

# --- The hub is full.
start_load
mount -o remount,size=$(($(df --output=used -B1 "$HUB" | tail -n 1) + (40 << 20))) "$HUB" || die "cannot remount"
check "the hub is full: the group tracks because of it" wait_for 60 status_is "$NAME" capture=track reason=hub-full
check "... which is among what happened" grep -q ' full ' <(rephubctl --dir "$HUB" events "$GROUP")
mount -o remount,size=500m "$HUB"
check "it has room: capture goes on by itself" wait_for 40 status_is "$NAME" capture=stream
end_load "a full hub"
ktap_finished
