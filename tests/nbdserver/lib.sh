# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of the NBD server share: a folder ($TMP), a server in front of a file, TAP output.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
export PATH=$PWD/build/bin/tests:$PWD/build/bin:$PATH:/usr/sbin LC_ALL=C

# Not in memory: O_DIRECT shall be what it is on disks.
mkdir -p build/tmp
TMP=$(mktemp -d "$PWD/build/tmp/nbd.XXXXXX")
SOCKET=$TMP/s
FILE=$TMP/disk
LOG=$TMP/log
number=0 failed=0 server=

cleanup() {
	[ -z "$server" ] || kill -KILL "$server" 2> /dev/null
	[ -n "${KEEP:-}" ] || rm -rf "$TMP"
}
trap cleanup EXIT

check() { # WHAT COMMAND...
	local what=$1
	shift
	if "$@" > "$TMP/out" 2>&1; then
		echo "ok $((++number)) - $what"
	else
		((++failed))
		echo "not ok $((++number)) - $what"
		sed 's/^/# /' "$TMP/out"
	fi
}

not() { # COMMAND...
	! "$@"
}

die() {
	echo "Bail out! $*"
	exit 1
}

finish() {
	echo "1..$number"
	[ $failed = 0 ]
	exit
}

wait_for() { # SECONDS COMMAND...
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	until "$@"; do
		[ ${EPOCHREALTIME/./} -lt $end ] || return 1
		read -rt 0.05 <> <(:) || :
	done
}

make_file() { # MIB RANDOM_MIB
	rm -f "$FILE"
	truncate -s "$1M" "$FILE"
	dd if=/dev/urandom of="$FILE" bs=1M count="$2" conv=notrunc status=none
}

start_server() { # ARGUMENT...: export "d" is $FILE
	: > "$LOG"
	: > "$TMP/server.out"
	nbdtestserver --listen "$SOCKET" "$@" "d=$FILE" >> "$TMP/server.out" 2>> "$LOG" &
	server=$!
	wait_for 10 grep -q ready "$TMP/server.out" || die "the server does not start: $(cat "$LOG")"
}

stop_server() { # returns its exit status
	local pid=$server
	server=
	kill "$pid"
	wait "$pid"
}

is_logged() { # PATTERN
	grep -qE "$1" "$LOG"
}

uri() { # EXPORT
	echo "nbd+unix:///$1?socket=$SOCKET"
}

# A rephub in $HUB, and what is asked of it.
HUB=$TMP/hub

start_hub() { # OPTION...
	rephub --dir "$HUB" --listen "$SOCKET" "$@" 2>> "$LOG" &
	server=$!
	wait_for 20 nbdinfo --list "nbd+unix:///?socket=$SOCKET" > /dev/null 2>&1 || die "rephub does not start: $(tail -n 3 "$LOG")"
}

stop_hub() { # SIGNAL: its exit status is in $stopped
	kill "-$1" "$server"
	wait "$server" 2> /dev/null
	# shellcheck disable=SC2034 # for those who look
	stopped=$?
	server=
}

sum_of() { # EXPORT
	nbdcopy "$(uri "$1")" - | sha256sum
}

ctl() {
	rephubctl --dir "$HUB" "$@"
}
