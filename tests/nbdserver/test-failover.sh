#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fail-over as its users meet it: rephubctl, NBD clients on test/ and live/, the hub killed under their load, and the source that
# comes back.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"
HUB=$TMP/hub

start_hub() { # OPTION...
	rephub --dir "$HUB" --listen "$SOCKET" "$@" 2>> "$LOG" &
	server=$!
	wait_for 20 nbdinfo --list "nbd+unix:///?socket=$SOCKET" > /dev/null 2>&1 || die "rephub does not start: $(tail -n 3 "$LOG")"
}
stop_hub() { # SIGNAL
	kill "-$1" "$server"
	wait "$server" 2> /dev/null
	server=
}
sum_of() { # EXPORT
	nbdcopy "$(uri "$1")" - | sha256sum
}
ctl() {
	rephubctl --dir "$HUB" "$@"
}
member() { # NAME: of each object of a list, or of an object
	python3 -c 'import json, sys
o = json.load(sys.stdin)
for x in o if isinstance(o, list) else [o]: print(x[sys.argv[1]])' "$1"
}
says() { # WORD COMMAND...: it fails, and says this
	local word=$1
	shift
	! "$@" > "$TMP/said" 2>&1 || return 1
	cat "$TMP/said"
	grep -qF -- "$word" "$TMP/said"
}
io() { # EXPORT COMMAND...
	local export=$1 command args=()
	shift
	for command; do args+=(-c "$command"); done
	qemu-io -f raw "${args[@]}" "$(uri "$export")"
}

start_hub --segment 8M
hubfeed "$SOCKET" vm0 24 > /dev/null || die "hubfeed"
point=$(ctl --json groups | member newest)
before=$(sum_of "view/vm0/disk0@$point")

check "test start wants a point" says 'expected --at POINT' ctl test start vm0
check "... one that is there" says 'no checkpoint with this label' ctl test start vm0 --at never
check "'test begin' is no command" says 'expected groups' ctl test begin vm0
id=$(ctl test start vm0 --at "$point" --max-bytes 4M | head -n 1)
check "a test has an id" [ ${#id} = 8 ]
check "... is listed" grep -q "^$id  vm0" <(ctl test list)
check "... has what was at its point" [ "$(sum_of "test/$id/disk0")" = "$before" ]
check "... can be written" io "test/$id/disk0" 'write -P 7 4096 64k' flush 'read -P 7 4096 64k' 'write -z 8192 4k' 'read -P 0 8k 4k' 'discard 64k 4k'
check "... and the replica has nothing of that" [ "$(sum_of "view/vm0/disk0@$point")" = "$before" ]
check "... but no more than was said" grep -q 'No space left' <(io "test/$id/disk0" 'write -P 1 0 8M' 2>&1)
check "replication goes on meanwhile" hubfeed "$SOCKET" vm0 8
written=$(sum_of "test/$id/disk0")
stop_hub KILL
start_hub --segment 8M
check "it is there when the hub was killed" [ "$(sum_of "test/$id/disk0")" = "$written" ]
check "it ends with a result" ctl test stop "$id" --passed --note 'boots in 20 s'
check "... which its point shows" grep -q "$point *tested *passed: test $id, boots in 20 s" <(ctl points vm0)
check "... and is no more" not nbdinfo "$(uri "test/$id/disk0")"
check "... nor is there a test of that name" says "there is no test '$id'" ctl test stop "$id"

latest=$(ctl --json groups | member newest)
after=$(sum_of "view/vm0/disk0@$latest")
check "a planned move waits for its source, for so long" says 'has not said that it ended' ctl failover vm0 --at latest --planned --wait 0
check "without a fail-over there is no way back" says 'not failed over' ctl rollback vm0
check "failover" grep -qx 'live/vm0/disk0' <(ctl failover vm0 --at "$point")
check "... is shown" grep -q '^vm0  *2  *failed over' <(ctl groups)
check "live is what was at the point" [ "$(sum_of live/vm0/disk0)" = "$before" ]
check "its source is refused, and told why" says 'fenced by generation 2 since 20' hubfeed "$SOCKET" vm0 1
check "a second fail-over is refused" says 'failed over already' ctl failover vm0 --at latest

nbdguest "$SOCKET" live/vm0/disk0 5 > "$TMP/guest" 2>&1 &
guest=$!
for _ in 1 2 3 4 5; do
	read -rt 0.5 <> <(:)	# a load
	stop_hub KILL
	start_hub --segment 8M
done
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
check "it says when it commits by itself" grep -q 'commits by itself at 20' "$TMP/state"
check "live is the latest point" [ "$(sum_of live/vm0/disk0)" = "$after" ]
nbdguest "$SOCKET" live/vm0/disk0 1 > /dev/null || die "nbdguest"
live=$(sum_of live/vm0/disk0)
check "commit" ctl commit vm0
check "... keeps what was written" [ "$(sum_of view/vm0/disk0@latest)" = "$live" ]
check "... for good" says 'committed already' ctl rollback vm0
stop_hub TERM
start_hub --segment 8M
check "... also when the hub was started anew" [ "$(sum_of live/vm0/disk0)" = "$live" ]
check "its old source is refused for good" says 'fenced by generation 4' hubfeed "$SOCKET" vm0 1
check "each of it is an event" [ "$(ctl --json events vm0 | member what | grep -cE '^(failed-over|rolled-back|committed|test-started|test-stopped)$')" = 6 ]
stop_hub TERM
finish
