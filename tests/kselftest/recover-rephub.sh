#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A fail-over with all its parts: a protected disk, a rephub, the source killed, the VM's load on rep-recover while the daemon is
# killed, and the hub, whose power goes at times with all that was not flushed; the commit in the middle of it; and the old side,
# which is refused.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 14
for program in rephub rephubctl nbdcopy; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
kills=5
[ -z "${TEST_LONG:-}" ] || kills=100 # of them 40 of the hub, 30 with the power
ctl() {
	rephubctl --dir "$HUB" "$@"
}
quietly() {
	"$@" > "$TMP/ctl.out"
}
progress() {
	stat -c %s "$TMP/progress" 2> /dev/null || echo 0
}
gone_on() { # FROM
	[ "$(progress)" -gt $(($1 + 1)) ]
}
is_durable() {
	read_status "$LIVE" && [ "${ST[last]}" = "${ST[acked]}" ]
}

setup_volume 64
LIVE=$PREFIX-live TESTED=$PREFIX-tested
rm -rf "$HUB"
prepare_hub_cuts
start_hub rephub --segment 8M # what is sealed is not read at each start
start_daemon --state-dir "$TMP/state"
must_wait_for 60 is_synced "$NAME"
run_writer source remember --threads 4 --seconds 2 --seed "$SEED" "$DEV" || die "the source failed"
must_wait_for 60 is_synced "$NAME"
kill_daemon

# --- A test: what is written there stays there.
id=$(ctl test start "$GROUP" --at latest) || die "no test: $id"
id=$(grep -oE '[0-9a-f]{8}' <<< "$id" | head -n 1)
HUB_URI="nbd+unix:///test/$id/%v?socket=$HUB_SOCKET"
create_recover "$TESTED" v0 64
start_recover
check "a test shows the source's disk" same "$DEV" "$(dev "$TESTED")"
run_writer tested remember --threads 4 --seconds 2 --seed $((SEED + 1)) "$(dev "$TESTED")"
check "it can be written" test $? -eq 0
kill -TERM "$DAEMON"
wait "$DAEMON"
dm remove --retry "$TESTED" || die "the device of the test cannot be removed"
check "the test is ended" quietly ctl test stop "$id" --passed

# --- The fail-over.
HUB_URI="rephub+unix:///?socket=$HUB_SOCKET"
create_recover "$LIVE" v0 64 ring 16
start_writer early dd if="$(dev "$LIVE")" of="$TMP/early" bs=1M iflag=direct status=none
start_recover
check "before it the daemon says what it waits for" wait_for 20 daemon_says 'is not failed over|export'
check "a fail-over to the latest point" quietly ctl failover "$GROUP" --at latest
end_writer early
check "what was asked before is answered then" cmp "$TMP/early" "$DEV"
rm -f "$TMP/early"

start_writer load remember --threads 8 --seed "$SEED" --progress "$TMP/progress" "$(dev "$LIVE")"
for ((i = 0; i < kills; i++)); do
	must_wait_for 60 gone_on "$(progress)"
	case $((i % 10)) in
	1|4|7) # an answer is lost, or all that was answered and not flushed
		cut_hub
		restart_hub ;;
	9)
		kill_hub
		restart_hub ;;
	*)
		kill_daemon
		start_recover ;;
	esac
	[ $i != $((kills / 2)) ] || check "it is committed under load" quietly ctl commit "$GROUP"
done
must_wait_for 60 gone_on "$(progress)"
end_writer load TERM
check "no request failed, and every read was right" test $? -eq 0
sync "$(dev "$LIVE")"
check "all is durable" wait_for 20 is_durable
hub_view v0 latest "$TMP/view" || die "no view"
check "the hub's latest point is the VM's disk" same "$(dev "$LIVE")" "$TMP/view"
rm -f "$TMP/view"
kill -TERM "$DAEMON"
wait "$DAEMON"
check "the daemon stops when asked" test $? -eq 0
dm remove --retry "$LIVE" || die "the device cannot be removed"
check "nothing of it stays" wait_for 10 test ! -e "/dev/rep-recover/$GROUP"

# --- The old side.
start_daemon --state-dir "$TMP/state"
check "the old side is refused" wait_for 30 daemon_says 'fenced by generation'
check "... and its disk works" run_writer old oracle --threads 1 --ops 50 --seed "$SEED" "$DEV"
ktap_finished
