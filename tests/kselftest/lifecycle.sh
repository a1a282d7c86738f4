#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The device's life under load, with the daemon and without: suspend and resume (flushing and not), a reload to
# linear and back, growth, a killed daemon, in random order. Nothing hangs, no write fails, and in the end the
# replica is the disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

rounds=${LIFECYCLE_ROUNDS:-40}
[ "$(uname -r | cut -d. -f1,2)" != 6.1 ] || rounds=${LIFECYCLE_ROUNDS:-10}
[ -z "${TEST_LONG:-}" ] || rounds=$((rounds * 25))
plan 6
RANDOM=$((SEED % 32768))

make_origin ORIGIN loop 48
NAME=$PREFIX-v0
sectors=$((12 * 2048))
max=$((48 * 2048))
create_dm "$NAME" "0 $sectors repagent $ORIGIN $GROUP v0 2 ring 16"
DEV=$(dev "$NAME")
hub_image v0 48
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"
start_writer oracle oracle --threads 3 --seed "$SEED" --rate 300 --max 64k --seconds 1000 "$DEV"

declare -A count=()
step() { # COMMAND...: of dmsetup, which must not hang
	timeout -k 1 $((30 * TEST_SLOW)) dmsetup --noudevsync "$@" && return
	show_state
	die "round $round, $what: dmsetup $* failed with status $?"
}
load() { # TABLE
	step load "$NAME" --table "$1"
}
for ((round = 1; round <= rounds; round++)); do
	actions=(suspend noflush reload resize daemon relinear)
	what=${actions[RANDOM % ${#actions[@]}]}
	((++count[$what]))
	case $what in
	suspend)
		step suspend "$NAME"
		nap 0.0$((RANDOM % 10))
		step resume "$NAME" ;;
	noflush)
		step suspend --noflush "$NAME"
		nap 0.0$((RANDOM % 10))
		step resume "$NAME" ;;
	reload)
		load "0 $sectors repagent $ORIGIN $GROUP v0"
		step resume "$NAME" ;;
	resize)
		[ $((sectors + 256)) -gt $max ] || ((sectors += 256))
		load "0 $sectors repagent $ORIGIN $GROUP v0"
		step resume "$NAME" ;;
	relinear)
		load "0 $sectors linear $ORIGIN 0"
		step resume "$NAME"
		nap 0.0$((RANDOM % 10))
		load "0 $sectors repagent $ORIGIN $GROUP v0"
		step resume "$NAME" ;;
	daemon)
		if [ -n "$DAEMON" ]; then
			kill_daemon
		else
			restart_daemon
		fi ;;
	esac
	((round % 10)) || note "$round rounds, $SECONDS s"
done
note "$(for what in "${!count[@]}"; do echo -n "$what ${count[$what]}, "; done)$((sectors - 12 * 2048)) sectors more"
ktap_test_pass "$rounds changes, none hung"
[ -n "$DAEMON" ] || restart_daemon
check "the writer lives" is_alive "${WRITERS[oracle]}"
end_writer oracle TERM
check "no write failed" test $? -eq 0 -a "$(value "$TMP/oracle.out" ops)" -gt $((rounds * 2))
check "the device has its last size" test "$(sectors_of "$DEV")" -eq "$sectors"
check "all is resynced" wait_for 90 is_synced "$NAME"
check "the replica is the disk" devcmp --longer-ok "$DEV" "$HUB/v0"
ktap_finished
