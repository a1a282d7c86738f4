#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A fail-over VM's load, and all that it hangs on is killed time and again: the daemon, and a hub that loses with each kill
# what it was not told to flush. No request fails, nothing that was answered is lost, nothing old comes back.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

daemons=10 hubs=6
[ -z "${TEST_LONG:-}" ] || daemons=100 hubs=30
plan 4
export TMPDIR=$TMP
NAME=$PREFIX-r0
hub_image v0 64
start_hub nbdkit --filter=cache -- "file=$HUB/v0" cache=writeback
create_recover "$NAME" v0 64 ring 16
DEV=$(dev "$NAME")
start_recover
start_writer load remember --threads 16 --no-discard --seed "$SEED" --progress "$TMP/progress" "$DEV"

progress() {
	stat -c %s "$TMP/progress" 2> /dev/null || echo 0
}
gone_on() { # FROM
	[ "$(progress)" -gt $(($1 + 1)) ]
}
kept=0
note_kept() {
	read_status "$NAME"
	# More than what waits for its answer was answered and may be lost at the hub.
	[ $((ST[last] - ST[acked])) -le "${ST[waiting]}" ] || ((kept++))
}
for ((i = 0; i < daemons + hubs; i++)); do
	must_wait_for 60 gone_on "$(progress)"
	nap 0.$((RANDOM % 3))$((RANDOM % 10))
	note_kept
	if [ $((i * hubs / (daemons + hubs))) != $(((i + 1) * hubs / (daemons + hubs))) ]; then
		kill_hub
		restart_hub
	else
		kill_daemon
		start_recover
	fi
done
must_wait_for 60 gone_on "$(progress)"
end_writer load TERM
check "no request failed, and every read was right" test $? -eq 0
note "$daemons kills of the daemon, $hubs of the hub; at $kept of them there was something that could be lost"
check "kills came where something could be lost" test $kept -ge $((hubs / 2))
is_durable() {
	read_status "$NAME" && [ "${ST[last]}" = "${ST[acked]}" ]
}
check "all becomes durable" wait_for 20 is_durable
dd if="$DEV" of="$TMP/then" bs=1M iflag=direct status=none || die "the disk cannot be read"
kill_hub
check "... so that another kill takes nothing" cmp "$TMP/then" "$HUB/v0"
ktap_finished
