#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The hub that pulls, at a file behind the NBD server: an idle one, holes, a server that goes and returns, one that does not, a
# file that is never quiet, and wrong usage. tests/kselftest/pullhub.sh has it at a volume under load.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

COPY=$TMP/copy
pull() { # [OPTION]...
	timeout 60 pullhub --interval 50 "$@" "$(uri d)" "$COPY" > "$TMP/pulled" 2> "$TMP/said"
	status=$?
	cat "$TMP/pulled" "$TMP/said"
	return $status
}
ends() { # STATUS WORDS COMMAND...: so, and says so
	"${@:3}" > "$TMP/said.all" 2>&1
	local status=$?
	cat "$TMP/said.all"
	echo "status $status, expected $1"
	[ "$status" = "$1" ] && grep -qF -- "$2" "$TMP/said.all"
}
same() {
	cmp "$COPY" "$FILE"
}
tells() { # LINE
	cat "$TMP/pulled"
	grep -qE -- "$1" "$TMP/pulled"
}

make_file 24 9
start_server --readonly
check "a file is copied" pull
check "... as it is" same
check "... in two passes" tells '^passes 2$'
check "... the second of which finds no change" tells '^pass 2: read [0-9]+ zero [0-9]+ changed 0 '
check "... and holes are not read" tells "^pass 1: read $((9 << 20)) zero $((15 << 20)) changed $((9 << 20)) "
check "... nor written" test "$(du -k "$COPY" | cut -f 1)" -lt $((10 << 10))

# What an earlier run left is mended, and no more is written than differs.
printf x | dd of="$COPY" bs=1 seek=5000000 conv=notrunc status=none
printf y | dd of="$COPY" bs=1 seek=$((20 << 20)) conv=notrunc status=none
check "a copy that is wrong in two places is mended" pull --list
check "... as it is" same
check "... in these alone" tells '^pass 1: .* changed 8192 '
check "... which are listed" tells "^changed 1 $((5000000 / 4096 * 4096)) 4096$"
check "... and so is the other, where zeroes are" tells "^changed 1 $((20 << 20)) 4096$"

# A file that changes all the time, faster than it is read, is never quiet, and said so.
stop_server
start_server --readonly --rate $((16 << 20))
oracle --seconds 60 --threads 1 --rate 100 --max 8k --mix write "$FILE" > "$TMP/oracle" 2>&1 &
scribbler=$!
check "a file that is never quiet: exit status 1, and why" \
	ends 1 'not known to be equal to the volume: something had changed in each pass' pull --passes 4
check "... after as many passes as it may have" tells '^passes 4$'
check "... with what changed counted" tells '^pass 4: .* changed [1-9]'
kill $scribbler
check "... (what changed it had no error)" wait $scribbler
check "when it is quiet it is copied" pull
check "... as it is" same
stop_server

# Killed in the middle, and back.
make_file 24 24
start_server --readonly --rate $((12 << 20))
rm -f "$COPY"
pull > /dev/null &
puller=$!
begun() {
	[ "$(du -k "$COPY" 2> /dev/null | cut -f 1)" -gt 1024 ] 2> /dev/null
}
wait_for 20 begun || die "pullhub does not begin"
kill -KILL "$server"
wait "$server" 2> /dev/null
lost() {
	grep -q 'the connection is lost' "$TMP/said"
}
check "a server that is killed is missed" wait_for 20 lost
start_server --readonly
check "... and the copy goes on when it is back" wait $puller
check "... after a reconnect" tells '^reconnects [1-9]'
check "... as it is" same
check "... and nothing was read twice in vain" tells "^pass 1: read $((24 << 20)) "
stop_server

# One that does not return; one that returns with another size.
start_server --readonly --rate $((12 << 20))
rm -f "$COPY"
pull --patience 1 > /dev/null &
puller=$!
wait_for 20 test -s "$COPY" || die "pullhub does not connect"
kill -KILL "$server"
wait "$server" 2> /dev/null
check "a server that stays away: exit status 3, and why" ends 3 'no server for 1 s' \
	eval "wait $puller; s=\$?; cat $TMP/said; (exit \$s)"
start_server --readonly --rate $((12 << 20))
rm -f "$COPY"
pull > /dev/null &
puller=$!
wait_for 20 test -s "$COPY" || die "pullhub does not connect"
kill -KILL "$server"
wait "$server" 2> /dev/null
truncate -s 30M "$FILE"
start_server --readonly
check "a volume that has another size now: exit status 2, and what to do" \
	ends 2 "the volume has $((30 << 20)) bytes now, not $((24 << 20)): run this again" \
	eval "wait $puller; s=\$?; cat $TMP/said; (exit \$s)"
stop_server

# What cannot be.
start_server --readonly
check "an export that is not there" ends 2 "no export named 'nonesuch'" pullhub "$(uri nonesuch)" "$COPY"
check "no server at all" ends 2 'connect' pullhub "nbd+unix:///d?socket=$TMP/nowhere" "$COPY"
check "a target that cannot be made" ends 2 "$TMP/no/where" pullhub "$(uri d)" "$TMP/no/where"
check "a target that is no file" ends 2 'expected a file or a block device' pullhub "$(uri d)" /dev/null
check "one pass" ends 2 'expected 2 at least' pullhub --passes 1 "$(uri d)" "$COPY"
check "an option that is none" ends 2 'usage: pullhub' pullhub --bogus "$(uri d)" "$COPY"
check "no target" ends 2 'usage: pullhub' pullhub "$(uri d)"
check "--help" ends 0 'Exit status: 0 the copy is equal' pullhub --help
stop_server
finish
