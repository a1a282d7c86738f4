#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# rephub as the hub: two volumes under load, hub and daemon killed with -9 time and again, each alone and both at once. No
# record is lost, nothing is resynced, for the ring has room; and what view/GROUP/VOLUME@latest shows is the disk. Then the
# hub is set back to an older copy of its directory, and replaced by another.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 21
for program in rephub nbdcopy nbdinfo repctl; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
NAMES=("$PREFIX-v0" "$PREFIX-v1")
trace_start repagent_capture repagent_image
for volume in v0 v1; do
	make_origin ORIGIN loop 32
	dd if=/dev/urandom of="$ORIGIN" bs=1M count=4 oflag=direct status=none
	create_volume "$PREFIX-$volume" "$ORIGIN" "$GROUP" $volume ring 32
done

view_is_disk() { # VOLUME
	rm -f "$TMP/view"
	hub_view "$1" latest "$TMP/view" && same "$(dev "$PREFIX-$1")" "$TMP/view"
	local status=$?
	rm -f "$TMP/view"
	return "$status"
}
marked_is_then() {
	hub_view v0 marked "$TMP/marked" && cmp -s "$TMP/then" "$TMP/marked"
}
start_load() { # SECONDS
	local volume
	for volume in v0 v1; do
		start_writer $volume oracle --threads 2 --seed "$SEED" --rate 150 --max 4k --seconds "$1" \
			--mix write=60,fua=10,nowait=10,fsync=2 "$(dev "$PREFIX-$volume")"
	done
}
end_load() { # [SIGNAL]
	local volume status=0
	for volume in v0 v1; do
		end_writer $volume "$@" || status=1
	done
	return "$status"
}
agent() { # repagentd as all of this test has it
	start_daemon --state-dir "$TMP/state" --checkpoint-interval 200ms
}

start_hub rephub
agent
check "the first sync ends" wait_for 60 is_synced "${NAMES[@]}"
for volume in v0 v1; do
	check "$volume: the view is the disk" view_is_disk $volume
done
read_status "${NAMES[0]}"
tracked=$(trace_count '-> track') dirty=$(trace_count 'clean -> dirty')

start_load $((120 * TEST_SLOW))
on_their_way=0
for ((i = 0; i < 6; i++)); do
	must_wait_for 60 status_past "${NAMES[0]}" acked $((ST[acked] + 100))
	must_wait_for 60 status_past "${NAMES[0]}" last $((ST[last] + 50))
	case $((i % 3)) in
	0) kill_hub ;;
	1) kill_daemon ;;
	2) kill_daemon; kill_hub ;;
	esac
	read_status "${NAMES[0]}"
	[ "${ST[last]}" -le "${ST[acked]}" ] || ((on_their_way++))
	must_wait_for 60 status_past "${NAMES[0]}" last $((ST[last] + 50))
	[ $((i % 3)) = 1 ] || restart_hub
	[ $((i % 3)) = 0 ] || agent
done
end_load TERM
check "no write failed" test $? -eq 0
note "$on_their_way of 6 kills with records on their way"
check "there were kills with records on their way" test $on_their_way -ge 2
check "the hub catches up" wait_for 60 is_synced "${NAMES[@]}"
check "capture was never left" test "$(trace_count '-> track')" -eq "$tracked"
check "nothing was resynced" test "$(trace_count 'clean -> dirty')" -eq "$dirty"
for volume in v0 v1; do
	check "$volume: the view is the disk" view_is_disk $volume
done

repctl checkpoint "$GROUP" marked > /dev/null || die "no checkpoint"
must_wait_for 20 is_synced "${NAMES[@]}"
hub_view v0 latest "$TMP/then" || die "no view"
start_load 3
end_load
must_wait_for 60 is_synced "${NAMES[@]}"
check "the checkpoint's view is the disk of then" marked_is_then
rm -f "$TMP/then" "$TMP/marked"

# An older copy of its directory is put back. It had acknowledged more than it has now.
kill_hub
cp -a "$HUB" "$TMP/older"
restart_hub
start_load 3
end_load
must_wait_for 60 is_synced "${NAMES[@]}"
kill_hub
rm -rf "$HUB"
mv "$TMP/older" "$HUB"
restart_hub
check "a hub that was set back is noticed" wait_for 60 daemon_says 'it was set back, and everything is read again'
check "... and has all again" wait_for 60 is_synced "${NAMES[@]}"
for volume in v0 v1; do
	check "$volume: the view is the disk" view_is_disk $volume
done

# Another hub at the same address is not taken until a person says so.
kill_hub
mv "$HUB" "$TMP/first"
restart_hub
check "another hub is refused" wait_for 60 daemon_says "repctl resync $GROUP"
check "... and nothing is sent to it" test ! -e "$HUB/groups/$GROUP"
repctl resync "$GROUP" > /dev/null || die "no resync"
check "until a person has all read again" wait_for 60 is_synced "${NAMES[@]}"
for volume in v0 v1; do
	check "$volume: the view is the disk" view_is_disk $volume
done
kill -TERM "$DAEMON"
wait "$DAEMON"
check "the daemon stops when asked" test $? -eq 0
ktap_finished
