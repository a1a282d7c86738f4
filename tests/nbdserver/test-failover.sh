#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fail-over to an earlier point, a guest on live/ under whose load the hub is killed, and the source that comes back. The rest of it
# is in test-hub.sh.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

member() { # NAME: of each object of a list, or of an object
	python3 -c 'import json, sys
o = json.load(sys.stdin)
for x in o if isinstance(o, list) else [o]: print(x[sys.argv[1]])' "$1"
}
newest() { # position
	ctl --json groups | member newest
}
says() { # WORD COMMAND...: it fails, and says this
	local word=$1
	shift
	! "$@" > "$TMP/said" 2>&1 || return 1
	cat "$TMP/said"
	grep -qF -- "$word" "$TMP/said"
}

start_hub --segment 8M
hubfeed "$SOCKET" vm0 24 > /dev/null || die "hubfeed"
point=$(newest)
before=$(sum_of "view/vm0/disk0@$point")
hubfeed "$SOCKET" vm0 8 > /dev/null || die "hubfeed"
latest=$(newest)
after=$(sum_of "view/vm0/disk0@$latest")
check "a planned move waits for its source, for so long" says 'has not said that it ended' ctl failover vm0 --at latest --planned --wait 500ms
check "... and says so" grep -q 'waiting: ' "$TMP/said"
check "failover to an earlier point" ctl failover vm0 --at "$point"
check "... is shown" grep -q '^vm0  *failed over' <(ctl groups)
check "... with its generation" grep -qx 'vm0: generation 2' <(ctl groups)
check "live is what was at the point" [ "$(sum_of live/vm0/disk0)" = "$before" ]
check "its source is refused, and told why" says 'fenced by generation 2 since 20' hubfeed "$SOCKET" vm0 1

nbdguest "$SOCKET" live/vm0/disk0 > "$TMP/guest" 2>&1 &
guest=$!
goes_on() { [ "$(newest)" != "$was" ]; }
for _ in 1 2 3 4 5; do
	was=$(newest)
	wait_for 30 goes_on || die "the guest does not write"
	stop_hub KILL
	start_hub --segment 8M
done
kill -TERM $guest
wait $guest
status=$?
check "a guest's writes survive five kills of the hub" [ $status = 0 ]
sed 's/^/# /' "$TMP/guest"
check "... which it noticed" grep -qE ' [1-9][0-9]* reconnections' "$TMP/guest"
check "what changed is told" grep -qE '^[0-9]+ [0-9]+$' <(ctl changed vm0 --since "$point" --volume disk0)
check "rollback" ctl rollback vm0
check "... leaves no trace" [ "$(sum_of view/vm0/disk0@latest)" = "$after" ]
check "... and no way to write" not nbdinfo "$(uri live/vm0/disk0)"

ctl failover vm0 --at latest --commit-after 24h > "$TMP/state" || die "failover"
check "live is the latest point" [ "$(sum_of live/vm0/disk0)" = "$after" ]
check "when it commits by itself is known" [ "$(ctl --json groups | member commit-at)" != None ]
check "commit" ctl commit vm0
check "its old source is refused for good" says 'fenced by generation 4' hubfeed "$SOCKET" vm0 1
stop_hub TERM
finish
