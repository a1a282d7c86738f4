#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# rephub as its users meet it: its command line, stock clients on its views, rephubctl; killed while it takes a stream; another
# one in the same directory; the end of old history.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"
HUB=$TMP/hub

ends_with() { # STATUS WORD EXPECTED ARGUMENT...
	local status
	timeout 20 rephub "${@:4}" > "$TMP/stdout" 2> "$TMP/stderr"
	status=$?
	cat "$TMP/stdout" "$TMP/stderr"
	echo "status $status, expected $1"
	[ "$status" = "$1" ] && [ ! -s "$TMP/stdout" ] && grep -qF -- "$2" "$TMP/stderr" && grep -qF -- "$3" "$TMP/stderr"
}
bad() { # WORD EXPECTED ARGUMENT...
	check "refused: '${*:3}'" ends_with 2 "$@"
}
start_hub() { # OPTION...
	rephub --dir "$HUB" --listen "$SOCKET" "$@" 2>> "$LOG" &
	server=$!
	wait_for 20 nbdinfo --list "nbd+unix:///?socket=$SOCKET" > /dev/null 2>&1 || die "rephub does not start: $(tail -n 3 "$LOG")"
}
stop_hub() { # SIGNAL
	kill "-$1" "$server"
	wait "$server" 2> /dev/null
	stopped=$?
	server=
}
uri() { # EXPORT
	echo "nbd+unix:///$1?socket=$SOCKET"
}
sum_of() { # EXPORT
	nbdcopy "$(uri "$1")" - | sha256sum
}
ctl() {
	rephubctl --dir "$HUB" "$@"
}
larger_than() { # MIB: is the journal?
	[ "$(du -cm "$HUB"/groups/vm0/journal/*.log | sed -n 's/\ttotal//p')" -gt "$1" ]
}
newest() { # the group's newest position
	ctl --json groups | sed -n 's/.*"newest": *"\([^"]*\)".*/\1/p'
}

bad --dir 'where is everything to be kept'
bad "'--bogus'" 'expected an option that --help names' --dir "$HUB" --bogus
bad "--keep 'much'" 'expected a size such as' --dir "$HUB" --keep much
bad "--keep-time 'long'" 'expected a duration' --dir "$HUB" --keep-time long
bad "--segment '1M'" 'from 4 MiB to 4 GiB' --dir "$HUB" --segment 1M
bad "--allow 'a=g'" 'without --tls-cert-dir no client has a name' --dir "$HUB" --allow a=g
bad "'more'" 'expected options alone' --dir "$HUB" more
check "a directory that cannot be made is named" ends_with 1 '/nonesuch/x' 'cannot be created' --dir /nonesuch/x

start_hub --segment 8M
check "a second rephub in the same directory is refused" ends_with 1 'another rephub has it' "$HUB" --dir "$HUB" --listen "$SOCKET.2"
check "a stream is taken" hubfeed "$SOCKET" vm0 32
check "rephubctl shows the group" grep -q '^vm0 ' <(ctl groups)
check "... its volume" grep -q '^disk0 *128 MiB  can be viewed' <(ctl volumes vm0)
check "... its checkpoint" grep -q 'checkpoint *hubfeed' <(ctl points vm0)
check "... as JSON" python3 -c 'import json, sys; assert json.load(sys.stdin)[0]["what"] == "checkpoint"' < <(ctl --json points vm0)
check "... and that there is no other group" not ctl volumes vm1
check "nbdinfo shows what there is" grep -q 'view/vm0/disk0@latest' <(nbdinfo --list "$(uri '')")
check "a view is read-only" grep -q 'is_read_only: true' <(nbdinfo "$(uri view/vm0/disk0@latest)")
check "qemu-img reads a view" qemu-img convert -n -f raw -O raw "$(uri view/vm0/disk0@latest)" "$(truncate -s 128M "$TMP/copy"; echo "$TMP/copy")"
check "... and so does nbdcopy, the same" [ "$(sum_of view/vm0/disk0@latest)" = "$(sha256sum < "$TMP/copy" | sed 's/  -$/  -/')" ]
check "what was never written is a hole" grep -q ' hole,zero' <(nbdinfo --map "$(uri view/vm0/disk0@latest)")

point=$(newest)
before=$(sum_of "view/vm0/disk0@$point")
hubfeed "$SOCKET" vm0 16 > /dev/null || die "hubfeed"
check "a point stays what it was" [ "$(sum_of "view/vm0/disk0@$point")" = "$before" ]
check "... and the latest one is another" [ "$(sum_of view/vm0/disk0@latest)" != "$before" ]
check "a point that is none is refused" not nbdinfo "$(uri view/vm0/disk0@nonesuch)"

hubfeed "$SOCKET" vm0 2000 4 4 > /dev/null 2>&1 &
feed=$!
wait_for 60 larger_than 80 || die "the stream does not come"
stop_hub KILL
wait $feed
start_hub --segment 8M
check "killed, it has what it had" [ "$(sum_of "view/vm0/disk0@$point")" = "$before" ]
check "... and takes the stream on" hubfeed "$SOCKET" vm0 4
latest=$(newest)
after=$(sum_of "view/vm0/disk0@$latest")
stop_hub TERM
start_hub --segment 8M --keep 24M
wait_for 60 not nbdinfo "$(uri "view/vm0/disk0@$point")" > /dev/null 2>&1 || :
check "old history goes" not nbdinfo "$(uri "view/vm0/disk0@$point")"
check "... and its space is given back" wait_for 60 not larger_than 33
check "... and what is kept stays as it was" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
check "nothing was taken for damage" not grep -q damaged "$LOG"
stop_hub TERM
check "SIGTERM ends it, with status 0" [ "$stopped" = 0 ]
start_hub --segment 8M
check "all is there again" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
stop_hub TERM
rm "$HUB/hub"
check "without its identity the directory is refused" ends_with 1 'no identity' "$HUB" --dir "$HUB" --listen "$SOCKET"
finish
