#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# rephub as its users meet it: its command line, stock clients on its views, rephubctl; killed while it takes a stream; another
# one in the same directory; the end of old history.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

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
exits() { # STATUS COMMAND...
	local status
	"${@:2}" > "$TMP/stdout" 2> "$TMP/stderr" < /dev/null
	status=$?
	cat "$TMP/stdout" "$TMP/stderr"
	[ "$status" = "$1" ]
}
ctl_fails() { # STATUS WORDS ARGUMENT...
	exits "$1" rephubctl --dir "$HUB" "${@:3}" && [ ! -s "$TMP/stdout" ] && grep -qF -- "$2" "$TMP/stderr"
}
one_looks() {
	ctl views | grep -qE '^vm0 +disk0 .* Unix socket, uid '
}
complete_to() { # WORD...: what is offered for the last one
	bash -c '. completion/rephubctl
		COMP_WORDS=("$@")
		COMP_CWORD=$(($# - 1))
		_rephubctl
		printf "%s\n" "${COMPREPLY[@]}"' - "$@"
}
no_groups() {
	[ -z "$(ls -A "$HUB/groups")" ]
}
on_terminal() { # LINE COMMAND...: that is typed
	printf '%s\n' "$1" | script -qec "$(printf '%q ' "${@:2}")" /dev/null
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
bad "--verify-every 'often'" 'expected a duration' --dir "$HUB" --verify-every often
bad "--verify-rate 'fast'" 'expected a size such as' --dir "$HUB" --verify-rate fast
bad "--when-full 'cry'" 'expected stop-ingest or drop-history' --dir "$HUB" --when-full cry
bad "--reserve '1K'" 'from 1 MiB' --dir "$HUB" --reserve 1K
bad "--cache 'much'" 'expected a size such as' --dir "$HUB" --cache much
bad "--warn-full 'soon'" 'expected a duration' --dir "$HUB" --warn-full soon
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
check "a slip in a command is named" ctl_fails 2 "'statsu': expected groups, volumes, points" statsu
check "an option of another command is refused" ctl_fails 2 'groups does not know --age, --bytes, --when-full or --default' groups --age 3d
check "a group that is missing is asked for" ctl_fails 2 'points: expected a group' points
check "--age is checked" ctl_fails 2 "--age 'soon': expected a duration" retention vm0 --age soon
check "--bytes is checked" ctl_fails 2 "--bytes 'much': expected a size" retention vm0 --bytes much
check "--when-full is checked" ctl_fails 2 "--when-full 'panic': expected drop-history or stop-ingest" retention vm0 --when-full panic
check "--default stands alone" ctl_fails 2 'without --age' retention vm0 --default --age 1h
check "a group that is not there is named" ctl_fails 1 "no group 'vm1'" retention vm1
check "no hub" exits 1 rephubctl --dir "$TMP/none" groups
check "rephubctl events tells what happened" grep -qE '^.* vm0 +session-opened +- +Unix socket' <(ctl events)
check "... of one group" not grep -q started <(ctl events vm0)
check "... so many" [ "$(ctl events --most 2 | wc -l)" = 3 ]
check "... as JSON" python3 -c 'import json, sys; assert json.load(sys.stdin)[-1]["what"] == "session-closed"' < <(ctl --json events vm0)
check "nobody looks" grep -q 'No view is open' <(ctl views)
nbdload "$(uri view/vm0/disk0@latest)" 4096 1 2 > /dev/null &
looker=$!
check "rephubctl views tells who looks" wait_for 10 one_looks
wait $looker
check "rephubctl space tells what is taken" grep -qE '^vm0 +32\.[0-9] MiB +0 B ' <(ctl space)
check "... what is free" grep -qE 'iB of .*iB are free, .*iB of it in reserve; if it goes on like this' <(ctl space)
check "completion: commands" grep -qx retention <(complete_to rephubctl ret)
check "completion: groups" grep -qx vm0 <(complete_to rephubctl --dir "$HUB" points v)
check "completion: options" grep -qx -- --follow <(complete_to rephubctl events --fo)
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
start_hub --segment 8M
check "retention is shown" grep -q 'fits into 64 GiB and came within any time, as for all groups' <(ctl retention vm0)
check "... and set" ctl retention vm0 --bytes 24M --age 30d
stop_hub TERM
start_hub --segment 8M
check "... and kept" grep -q 'fits into 24 MiB and came within 30 days$' <(ctl retention vm0)
wait_for 60 not nbdinfo "$(uri "view/vm0/disk0@$point")" > /dev/null 2>&1 || :
check "old history goes" not nbdinfo "$(uri "view/vm0/disk0@$point")"
check "... and its space is given back" wait_for 60 not larger_than 33
check "... and what is kept stays as it was" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
check "... which is told" grep -q 'folded .*older points are gone' <(ctl events vm0)
check "... to who follows, too" [ "$(timeout 3 rephubctl --dir "$HUB" events --follow --most 1 --json | wc -l)" -ge 1 ]
check "--default takes it back" ctl retention vm0 --default
check "nothing was taken for damage" not grep -q damaged "$LOG"
stop_hub TERM
check "SIGTERM ends it, with status 0" [ "$stopped" = 0 ]
start_hub --segment 8M
check "all is there again" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
nbdcopy "$(uri sums/vm0/disk0)" "$TMP/sums"
nbdcopy "$(uri view/vm0/disk0@latest)" "$TMP/copy"
check "the sums are those of the volume" tests/nbdserver/sums.py "$TMP/sums" "$TMP/copy" "$(newest)"
check "... and of no other" not nbdinfo "$(uri sums/vm0/disk9)"
check "they cannot be written" not nbdcopy "$TMP/sums" "$(uri sums/vm0/disk0)"
check "a comparison is wanted" ctl verify vm0 --rate 10M
check "... which the volumes show" grep -qE 'can be viewed +wanted, 0 %' <(ctl volumes vm0)
stop_hub TERM
start_hub --segment 8M
check "... over a restart" [ "$(ctl --json volumes vm0 | grep -c '"rate": *10485760')" = 1 ]
check "... and that is waited for no longer than is said" exits 1 ctl verify vm0/disk0 --wait 300ms
check "... and told how far it is" grep -q 'disk0: wanted, nothing differed' "$TMP/stdout"
check "it is taken back" ctl verify vm0 --stop
check "... which is told" grep -qE 'verify-stopped .*disk0, at 0 B' <(ctl events vm0)
check "a volume that is not there is named" ctl_fails 1 'it has no volume disk9' verify vm0/disk9
check "a group that is not there is named" ctl_fails 1 "no group 'vm9'" verify vm9
check "--rate is checked" ctl_fails 2 "--rate 'fast': expected a size" verify vm0 --rate fast
check "forget asks" ctl_fails 2 'expected --yes, or a terminal' forget vm0
check "... for the name" not on_terminal yes rephubctl --dir "$HUB" forget vm0
check "... without which all stays" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
check "with the name it goes" on_terminal vm0 rephubctl --dir "$HUB" forget vm0
check "... with its files" wait_for 20 no_groups
check "... and can come anew" hubfeed "$SOCKET" vm0 4
check "--yes does not ask" ctl forget vm0 --yes
check "... and it is told" grep -q 'vm0 .*forgotten' <(ctl events)
started() { # the id of the test
	ctl --json test list | sed -n 's/.*"test": *"\([^"]*\)".*/\1/p'
}
first_mib() { # EXPORT
	nbdcopy "$(uri "$1")" "$TMP/copy" && cmp -s -n 1048576 "$TMP/copy" "$TMP/mib"
}
put_mib() { # EXPORT
	nbdcopy "$TMP/mib" "$(uri "$1")"
}
dd if=/dev/urandom of="$TMP/mib" bs=1M count=1 status=none
check "another group" hubfeed "$SOCKET" vm0 16
latest=$(newest)
after=$(sum_of "view/vm0/disk0@$latest")
check "test: its words are asked for" ctl_fails 2 'test start, test stop, test list' test
check "... and its point" ctl_fails 2 'expected --at POINT' test start vm0
check "... a group that is there" ctl_fails 1 'no group vm1' test start vm1 --at latest
check "... a point that is there" ctl_fails 1 'nonesuch' test start vm0 --at nonesuch
check "a test is started" ctl test start vm0 --at "$latest" --max-bytes 4M
test=$(started)
check "... it is the disk of then" [ "$(sum_of "test/$test/disk0")" = "$after" ]
check "... and can be written" put_mib "test/$test/disk0"
check "... so it reads" first_mib "test/$test/disk0"
check "... not without end" not nbdcopy "$TMP/copy" "$(uri "test/$test/disk0")"
check "nothing else was touched" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
check "replication goes on" hubfeed "$SOCKET" vm0 1
stop_hub KILL
start_hub --segment 8M
check "the test is there again" first_mib "test/$test/disk0"
check "a note is one line" ctl_fails 1 'expected one line' test stop "$test" --passed --note "$(printf 'a\nb')"
check "the test is stopped" ctl test stop "$test" --passed --note 'it boots'
check "... and is gone" not nbdinfo "$(uri "test/$test/disk0")"
check "... its point is marked" grep -q 'tested  *passed: .*it boots' <(ctl points vm0)
latest=$(newest)
after=$(sum_of "view/vm0/disk0@$latest")
check "live is not there" not nbdinfo "$(uri live/vm0/disk0)"
check "no commit without a fail-over" ctl_fails 1 'not failed over' commit vm0
check "planned: the source has to have ended" ctl_fails 1 'has not said that it ended' failover vm0 --at latest --planned
check "failover" ctl failover vm0 --at latest
check "... live is the disk" [ "$(sum_of live/vm0/disk0)" = "$after" ]
check "... and can be written" put_mib live/vm0/disk0
check "the old source is fenced" not hubfeed "$SOCKET" vm0 1
check "no second fail-over" ctl_fails 1 'failed over already' failover vm0 --at latest
check "a group that is failed over is not forgotten" ctl_fails 1 'roll it back' forget vm0 --yes
stop_hub KILL
start_hub --segment 8M
check "after the hub's end live is there" first_mib live/vm0/disk0
check "rollback" ctl rollback vm0
check "... nothing is left" [ "$(sum_of view/vm0/disk0@latest)" = "$after" ]
check "failover again" ctl failover vm0 --at "$latest"
put_mib live/vm0/disk0 || die "live cannot be written"
check "commit" ctl commit vm0
check "... all is kept" first_mib view/vm0/disk0@latest
check "... and no way back" ctl_fails 1 'committed' rollback vm0
check "all that is told" [ "$(ctl events vm0 --most 40 | grep -cE 'test-started|test-stopped|failed-over|rolled-back|committed')" = 6 ]
check "what was before is there" [ "$(sum_of "view/vm0/disk0@$latest")" = "$after" ]
stop_hub TERM
rm "$HUB/hub"
check "without its identity the directory is refused" ends_with 1 'no identity' "$HUB" --dir "$HUB" --listen "$SOCKET"
finish
