#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# repctl on a host without systemd: protect, what is said without a daemon and with one, a volume that cannot be had and so is
# linear, protection that comes and goes beneath who has the device open. tests/systemd has the units and the boot.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 52
[ -n "$(command -v repctl)" ] || ktap_skip_all "repctl is not built"
[ ! -d /run/systemd/system ] || ktap_skip_all "here systemd would have to know of it"
NAME=$GROUP-disk0
CONF=/etc/repagent/$GROUP.conf
made=''
[ -d /etc/repagent ] || made=1
take_away() {
	rm -f "$CONF" "$CONF.saved" "/run/repagent/$GROUP.unprotected"
	[ -z "$made" ] || rmdir /etc/repagent
}
defer take_away
make_origin ORIGIN loop 16
defer remove_dm "$NAME"
hub_image disk0 16
start_hub nbdkit
target() {
	dmsetup table "$NAME" | cut -d' ' -f3
}
is_target() {
	[ "$(target)" = "$1" ]
}
protected() {
	repctl status "$GROUP" > /dev/null
}

help_of_all() {
	local command
	while read -r command; do
		if ! repctl "$command" --help | grep -q "^Usage: repctl $command"; then
			note "$command"
			return 1
		fi
	done < <(repctl --help | awk '/^  [a-z]/ { print $1 }')
}
follow_events() {
	repctl events "$GROUP" --follow > "$TMP/events" 2>&1 &
	local follower=$!
	defer end_process "$follower"
	wait_for 10 told_of_checkpoint
	local status=$?
	end_process "$follower"
	return "$status"
}
told_of_checkpoint() { # it subscribes at some time: a point again, until it is told
	repctl checkpoint "$GROUP" "point" > /dev/null && grep -q 'CHECKPOINT .*label point' "$TMP/events"
}

# Mistakes change nothing.
check "no command: usage" exits 2 repctl
check "a slip: the right command is named" exits 2 repctl unprotct "$GROUP"
check "... that is" says 'repctl unprotect GROUP'
check "each command has help" help_of_all
check "no group: they are listed" exits 2 repctl resync
check "a group that is none" exits 1 repctl status "$GROUP"
check "... is said to be none" says "no group $GROUP"
check "a file is no device" exits 1 repctl protect "$GROUP" "$TMP/hub/disk0" --tap "$HUB_URI"
check "... what to type is said" says 'losetup'
check "a wrong value" exits 2 repctl protect "$GROUP" "$ORIGIN" --tap "$HUB_URI" --ring 0
check "... is named, with what was expected" says "--ring '0': expected a number"
exec 7<> "$ORIGIN"
check "a disk that somebody has open" exits 1 repctl protect "$GROUP" "$ORIGIN" --tap "$HUB_URI"
check "... who is said" says "process $$ \\(repctl.sh\\) has it open"
exec 7>&-
check_not "nothing was written" test -e "$CONF"

# The life of a group, without its daemon at first.
check "protect" exits 0 repctl protect "$GROUP" "$ORIGIN" --tap "$HUB_URI" --ring 4
check "... the device is named, and what to do" says "/dev/mapper/$NAME"
check "... it is there" is_target repagent
check "... with its UUID" test "$(dmsetup info -c --noheadings -o uuid "$NAME")" = "REPAGENT-$GROUP-disk0"
check "protect again changes nothing" exits 0 repctl protect "$GROUP" "$ORIGIN"
check "status without a daemon: not protected" exits 3 repctl status "$GROUP"
check "... for there is no daemon" says 'why +repagentd does not run'
check "... all of it is behind" says 'behind +16 MiB'
check "dirty" exits 0 repctl dirty "$GROUP"
check "... all of it" says '^16 MiB in 1 range, of 16 MiB'
check "a checkpoint has no place" exits 1 repctl checkpoint "$GROUP" here
repagentd "$GROUP" > "$TMP/daemon.log" 2>&1 &
DAEMON=$!
daemon_log=("$TMP/daemon.log")
defer end_process $DAEMON
check "the daemon takes it from the configuration: protected" wait_for 30 protected
check "... in words" exits 0 repctl status "$GROUP"
check "... that is" says "^$GROUP: protected since"
check "list" exits 0 repctl list
check "... names it" says "^$GROUP\$"
check "nothing is dirty" exits 0 repctl dirty "$GROUP" disk0 --json
check "... to a program" says '"dirty": 0, "ranges": \[ *\]'
check "events" follow_events

# Something is missing: the device comes all the same, by the same name.
exec 7<> "$(dev "$NAME")"
check "no deactivation beneath who has it open" exits 1 repctl deactivate "$GROUP"
check "... who is said" says "process $$ "
exec 7>&-
check "deactivate" exits 0 repctl deactivate "$GROUP" --direct
check_not "... the device is gone" test -e "$(dev "$NAME")"
cp "$CONF" "$CONF.saved"
sed -i 's/^ring = 4$/ring = 9999999/' "$CONF"
check "a configuration with an error" exits 1 repctl activate "$GROUP"
check "... is told with its line" says "$CONF:[0-9]+: ring '9999999'"
check "... the device is there, linear" is_target linear
cp "$CONF.saved" "$CONF"
check "... status says why, though the file is mended" exits 3 repctl status "$GROUP"
check "... that is" says "why +$CONF:[0-9]+: ring"
check "... and what to type" says "repctl activate $GROUP"
exec 7<> "$(dev "$NAME")"
check "activate, beneath who has it open" exits 0 repctl activate "$GROUP"
check "... it is protected" is_target repagent
check "... the replica follows" wait_for 30 protected
check "unprotect --live" exits 0 repctl unprotect "$GROUP" --live
check "... it is linear" is_target linear
exec 7>&-
check_not "... nothing is configured" test -e "$CONF"
remove_dm "$NAME"
sed 's/^ring = 4$/ring = 9999999/; s/^\[group\]/&\nrequire-protection = yes/' "$CONF.saved" > "$CONF"
check "with require-protection it fails as well" exits 1 repctl activate "$GROUP"
check_not "... and there is no device" test -e "$(dev "$NAME")"
rm "$CONF"
check "unprotect what is not there" exits 1 repctl unprotect "$GROUP"
ktap_finished
