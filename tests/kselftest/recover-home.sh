#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A fail-over VM's disk moves from the hub to a local device while its load, of which each read is checked, goes on: repctl
# killed on the way, a local device that fails, the way back, the end. Then the hub is no longer needed.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 52
export TMPDIR=$TMP
[ -n "$(command -v repctl)" ] || ktap_skip_all "repctl is not built"
modprobe -q dm-mirror || ktap_skip_all "no dm-mirror"
[ ! -d /run/systemd/system ] || ktap_skip_all "here systemd would have to know of it"
MIB=24
NAME=$GROUP-v0
DEV=$(dev "$NAME")
THROTTLE=/sys/module/dm_mirror/parameters/raid1_resync_throttle
made=''
[ -d /etc/repagent ] || made=1
take_away() {
	rm -f "/run/repagent/$GROUP.v0.home" "/etc/repagent/$GROUP.conf"
	[ -z "$made" ] || rmdir /etc/repagent
}
defer take_away
defer remove_dm "$NAME-hub"
defer remove_dm "$NAME"
defer eval "echo $(< $THROTTLE) > $THROTTLE"

table_is() { # PATTERN
	# shellcheck disable=SC2053 # a pattern is meant
	[[ $(dmsetup table "$NAME") == $1 ]]
}
lies_on() { # NAME: as /dev has it, or dm-N
	table_is "0 $((MIB * 2048)) linear $(< "/sys/class/block/${1#/dev/}/dev") 0"
}
copied() { # REGIONS at least
	local -a w
	read -ra w < <(dmsetup status --noflush "$NAME")
	[ "${w[2]}" = mirror ] && [ "${w[6]%/*}" -ge "$1" ]
}
came_to_an_end() { # a good one or not
	local -a w
	read -ra w < <(dmsetup status --noflush "$NAME")
	[ "${w[2]}" = mirror ] && { [ "${w[6]}" = "$MIB/$MIB" ] || [ "${w[8]}" != AA ]; }
}
is_free() { # DEVICE
	[ "$(echo "/sys/block/${1#/dev/}/holders"/*)" = "/sys/block/${1#/dev/}/holders/*" ]
}
progress() {
	stat -c %s "$TMP/progress" 2> /dev/null || echo 0
}
gone_on() { # FROM
	[ "$(progress)" -gt $(($1 + 1)) ]
}
load_goes_on() {
	is_alive "${WRITERS[load]}" && wait_for 30 gone_on "$(progress)"
}
no_node() {
	[ ! -e "/dev/rep-recover/$GROUP/v0" ]
}

# --- The device.
check "a size is needed" exits 2 repctl recover "$GROUP" v0
check "... and said to be" says 'expected the size'
check "a size that is none" exits 2 repctl recover "$GROUP" v0 20Q
check "a name that is none" exits 2 repctl recover "$GROUP" v0 20M --name a/b
check "a device is needed" exits 2 repctl take-home "$GROUP" v0
check "one thing at a time" exits 2 repctl take-home "$GROUP" v0 --finish --abort
check "nothing is there yet" exits 1 repctl take-home "$GROUP" v0 --abort
hub_image v0 $MIB
start_hub nbdkit
check "the hub's disk becomes a device" exits 0 repctl recover "$GROUP" v0 ${MIB}M --ring 8
check "... and the daemon is named" says "systemctl start repagent-recover@$GROUP"
check "once more changes nothing" exits 0 repctl recover "$GROUP" v0 ${MIB}M
check "another size is refused" exits 1 repctl recover "$GROUP" v0 ${MIB}G
check "status tells that nobody answers" exits 3 repctl status "$GROUP"
check "... by a word" says 'NONE .* at the hub'
check "it is removed" exits 0 repctl unrecover "$GROUP" v0
check "... without a rest" wait_for 10 no_node
repctl recover "$GROUP" v0 ${MIB}M --ring 8 > "$TMP/out" || die "no device"
make_origin SMALL loop $((MIB / 2))
make_origin LOCAL loop $MIB
check "without a daemon nothing begins" exits 1 repctl take-home "$GROUP" v0 "$LOCAL"
check "... and it is named" says "systemctl start repagent-recover@$GROUP"
start_recover
daemon_there() {
	exits 0 repctl status "$GROUP"
}
must_wait_for 10 daemon_there

# --- Devices that cannot be it.
check "a device that is too small" exits 1 repctl take-home "$GROUP" v0 "$SMALL"
check "... is told from how much it should have" says "$((MIB << 20)) .*or more"
create_dm "$PREFIX-user" "0 2048 linear $LOCAL 0"
check "a device that is in use" exits 1 repctl take-home "$GROUP" v0 "$LOCAL"
check "... and by what" says "/dev/mapper/$PREFIX-user lies on it"
remove_dm "$PREFIX-user"

# --- A local device that fails: the hub goes on.
start_writer load remember --threads 2 --no-discard --seed "$SEED" --progress "$TMP/progress" "$DEV"
create_dm "$PREFIX-bad" "0 $(((MIB - 1) * 2048)) linear $LOCAL 0
$(((MIB - 1) * 2048)) 2048 error" # what is copied last
check "a device that fails" exits 1 repctl take-home "$GROUP" v0 "$(dev "$PREFIX-bad")"
check "... is named" says "$PREFIX-bad failed"
HUB_DEV=$(readlink -f "$(dev "$NAME-hub")")
[ -L "$(dev "$NAME-hub")" ] || HUB_DEV=dm-$(($(stat -c 0x%T "$(dev "$NAME-hub")")))
check "the hub alone is the disk" lies_on "$HUB_DEV"
check "the load goes on" load_goes_on
check "it begins where nobody watches" exits 0 repctl take-home "$GROUP" v0 "$(dev "$PREFIX-bad")" --no-wait
must_wait_for 30 came_to_an_end
check "what waits there is carried out at the hub" exits 1 repctl take-home "$GROUP" v0 --finish
check "... and the load goes on" load_goes_on
remove_dm "$PREFIX-bad"

# --- There and back.
echo 5 > $THROTTLE
# As by a repctl that was killed between its two calls: the device is taken, and nothing goes on.
dm load "$NAME" --table "0 $((MIB * 2048)) linear $LOCAL 0"
check "it begins, and is not waited for" exits 0 repctl take-home "$GROUP" v0 "$LOCAL" --no-wait
check "status tells how far it is" exits 0 repctl status "$GROUP"
check "... in percent" says "% on $LOCAL"
check "it cannot be removed on its way" exits 1 repctl unrecover "$GROUP" v0
make_origin OTHER loop $MIB
check "another device is refused now" exits 1 repctl take-home "$GROUP" v0 "$OTHER"
must_wait_for 20 copied 3
check "it goes back" exits 0 repctl take-home "$GROUP" v0 --abort
check "the hub alone is the disk again" lies_on "$HUB_DEV"
check "the device is free" is_free "$LOCAL"

# --- Killed on the way, and gone on with.
start_writer home repctl take-home "$GROUP" v0 "$LOCAL"
must_wait_for 20 copied 3
end_process "${WRITERS[home]}"
check "repctl was killed on the way" table_is "*mirror*"
before=$(progress)
echo 100 > $THROTTLE
exec 9< "$(dev "$NAME-hub")"
check "the same command goes on" exits 1 repctl take-home "$GROUP" v0 "$LOCAL"
exec 9<&-
check "the load went on meanwhile" gone_on "$before"
check "the local device alone is the disk" lies_on "$LOCAL"
check "... but what lay on the hub is in use" says "$NAME-hub is open"
check "it told how long it would take" says '%, .* to go'
check "there is no way back" exits 1 repctl take-home "$GROUP" v0 --abort
check "... and it says so" says 'the hub lacks what was written since'
check "the rest is taken away" exits 0 repctl take-home "$GROUP" v0 --finish
check "nothing of the hub stays" wait_for 20 no_node

# --- The hub is not needed any more.
kill_daemon
kill_hub
check "without daemon and hub the load goes on" load_goes_on
check "it can be protected again under load" exits 0 repctl protect "$GROUP" v0="$LOCAL" --name "$NAME" --tap "$HUB_URI" --ring 8
check "... and is" table_is "*repagent*"
check "... and again not" exits 0 repctl unprotect "$GROUP" --live --force
end_writer load TERM
check "no request failed, and every read was right" test $? -eq 0
check "the device is the disk" same "$DEV" "$LOCAL"
ktap_finished
