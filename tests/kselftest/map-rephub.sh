#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A write-intent map, and a rephub that has or has not what it rests on. After a clean stop, and after one more without
# the hub, just what the hub lacks is read; after a hub was set back behind what the map takes for granted all is read again,
# and the map is not believed. Of a map that cannot be written both sides tell, until it can again.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 21
for program in rephub rephubctl repctl nbdcopy; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
modprobe dm-repagent || die "no module"
make_origin BACKING loop 32
make_origin STORE loop 1
create_dm "$PREFIX-meta" "0 2048 linear $STORE 0"
META=$(dev "$PREFIX-meta")
# Made anew for each boot, as logical volumes are: with it begins the count of what is written to it.
ORIGIN=$(dev "$PREFIX-disk")
create_dm "$PREFIX-disk" "0 65536 linear $BACKING 0"
NAME=$PREFIX-v0
DEV=$(dev "$NAME")

create() {
	create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region 64 ring 8
}
remove() {
	dm remove "$NAME"
	[ ! -e "/sys/class/repagent/$GROUP" ] || echo "$GROUP" > "/sys/class/repagent/$GROUP/forget"
}
put() { # OFFSET COUNT, in KiB
	dd if=/dev/urandom of="$DEV" bs=1k seek="$1" count="$2" oflag=direct conv=notrunc status=none
}
agent() {
	start_daemon --state-dir "$TMP/state" --checkpoint-interval 0
}
stop_all() { # cleanly
	kill -TERM "$DAEMON"
	wait "$DAEMON"
	remove
}
view_is_disk() {
	rm -f "$TMP/view"
	hub_view v0 latest "$TMP/view" && same "$DEV" "$TMP/view"
}
few_records() { # MOST: since the volume was created
	read_status "$NAME" && note "${ST[last]} records" && [ "${ST[last]}" -le "$1" ]
}

create
start_hub rephub
agent
wait_synced 60 "$NAME"
put 1000 64
wait_synced 20 "$NAME"
check "the view is the disk" view_is_disk
stop_all

create
check "a clean stop costs nothing" status_is "$NAME" map=ok dirty=0
agent
wait_synced 60 "$NAME"
check "... and nothing is read" few_records 8
check_not "... nor was the map doubted" daemon_says 'read again'
put 2000 64
wait_synced 20 "$NAME"
check "the view is the disk" view_is_disk

# The hub is away while the host goes down and comes up, twice.
kill_hub
put 3000 64
kill_daemon
remove
create
put 4000 64
remove
create
restart_hub
agent
wait_synced 60 "$NAME"
check "two stops without the hub: just what it lacks is read" few_records 24
check_not "... the map was not doubted" daemon_says 'read again'
check "the view is the disk" view_is_disk

# It is set back behind what the map rests on.
kill_hub
cp -a "$HUB" "$TMP/older"
restart_hub
wait_synced 60 "$NAME"
put 5000 64
wait_synced 20 "$NAME"
stop_all
kill_hub
rm -rf "$HUB"
mv "$TMP/older" "$HUB"
create
check "the map has nothing that is dirty" status_is "$NAME" map=ok dirty=0
restart_hub
agent
check "that the hub was set back is noticed" wait_for 20 daemon_says 'read again'
check "all is read" wait_for 60 status_past "$NAME" last 32
wait_synced 60 "$NAME"
check "the view is the disk" view_is_disk

# The map's device fails, and heals.
change_meta() { # TABLE
	echo "$1" | dm load "$PREFIX-meta" || die "cannot change the meta device"
	dm suspend --noflush --nolockfs "$PREFIX-meta"
	dm resume "$PREFIX-meta"
	# the map is written
	dm suspend "$NAME"
	dm resume "$NAME"
}
hub_says() { # PATTERN COMMAND
	rephubctl --dir "$HUB" "$2" "$GROUP" | grep -q -- "$1"
}
status_says() { # PATTERN
	repctl status "$GROUP" | grep -q -- "$1"
}
change_meta "0 2048 error"
put 8000 64
check "a map that cannot be written is told" status_is "$NAME" map=error
check "... to the hub, among what happens, and why" wait_for 20 hub_says 'map-error .*v0: Input/output error' events
check "... and of its volumes" hub_says '^v0: .*write-intent map' volumes
check "... on the host" status_says 'v0: write-intent map cannot be written (Input/output error)'
check "... and in the daemon's log" daemon_says 'write-intent map cannot be written'
wait_synced 20 "$NAME"
change_meta "0 2048 linear $STORE 0"
check "that it can be again as well" wait_for 20 hub_says 'map-ok .*v0' events
check_not "... of the hub's volumes" hub_says 'write-intent map' volumes
check_not "... on the host" status_says 'write-intent map'
kill -TERM "$DAEMON"
wait "$DAEMON"
check "the daemon stops when asked" test $? -eq 0
ktap_finished
