#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The way back: a fail-over to a point before the latest, with more that never came to the hub; the VM writes over there, and the
# old disk is brought up to date beside that, by a repctl that is killed again and again. No more moves than has to. Then the VM
# comes home, and the hub reads nothing again but what was copied. All of it by TLS: the hosts are told apart by their certificates.
# With --long: 20 GiB, of which 1 GiB changes.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh
# shellcheck source=tests/kselftest/tls.sh
. ./tls.sh

plan 34
for program in rephub rephubctl repctl nbdcopy certtool; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
PORT=10812
MIB=88 CHANGES=12 REGION=64 KILLS=3 PIECE=3
if [ -n "${TEST_LONG:-}" ]; then
	MIB=20480 CHANGES=1024 REGION=1024 KILLS=20 PIECE=16
	mount -o remount,size=3800m "$TMP" || die "no room"
fi
ctl() {
	rephubctl --dir "$HUB" "$@"
}
quietly() {
	"$@" > "$TMP/ctl.out"
}
put() { # DEVICE MIB COUNT: random bytes
	dd if=/dev/urandom of="$1" bs=1M seek="$2" count="$3" oflag=direct conv=notrunc status=none || die "$1 cannot be written"
}
copied() { # bytes, by the last fail-back
	sed -nE 's/.* copied \(([0-9]+) bytes\)\.$/\1/p' "$TMP/out"
}
sectors_written() { # DEVICE
	local -a stat
	read -ra stat < "/sys/block/${1#/dev/}/stat"
	echo "${stat[6]}"
}
written_past() { # SECTORS, to the origin; or there will be no more
	[ "$(sectors_written "$ORIGIN")" -ge "$1" ] || ! is_alive "${WRITERS[back]}"
}
same_as_hub() {
	local status=0
	nbdcopy "nbds://localhost:$PORT/view/$GROUP/v0@latest?tls-certificates=$TMP/a" "$TMP/view" && same "$DEV" "$TMP/view" || status=1
	rm -f "$TMP/view"
	return "$status"
}
is_home() {
	is_synced "$NAME"
}
create() {
	create_volume "$NAME" "$ORIGIN" "$GROUP" v0 meta "$META" region $REGION ring 8
}
agent() {
	start_daemon --state-dir "$TMP/state" --tls-certificates "$TMP/a"
}

modprobe dm-repagent || die "no module"
made=''
[ -d /run/repagent ] || made=1
mkdir -p /run/repagent
[ -z "$made" ] || defer rmdir /run/repagent
CONF=/etc/repagent/$GROUP.conf
made_conf=''
[ -d /etc/repagent ] || made_conf=1
take_conf_away() {
	rm -f "$CONF"
	[ -z "$made_conf" ] || rmdir /etc/repagent
}
defer take_conf_away
mkdir -p /etc/repagent
printf '[group]\ntap = rephubs://localhost:%s\ntls-certificates = %s\n' "$PORT" "$TMP/a" > "$CONF"
make_origin ORIGIN loop $MIB
make_origin META loop 1
NAME=$PREFIX-v0 DEV=$(dev "$NAME") LIVE=$PREFIX-live
create
certificates
start_hub rephub --listen 127.0.0.1:$PORT --tls-cert-dir "$TMP/server" --allow "host-a=$GROUP" --allow "host-b=$GROUP"
HUB_URI=rephubs://localhost:$PORT
agent
must_wait_for 600 is_synced "$NAME"
check "of a source there is nothing to bring back" exits 1 repctl fail-back "$GROUP"
check "... and it says so" says 'those that count'

# --- The disaster: 4 MiB came behind the point, 3 MiB are still in the ring, 9 MiB found no room there.
put "$DEV" 1 8
must_wait_for 60 is_synced "$NAME"
repctl checkpoint "$GROUP" before > "$TMP/out" || die "no checkpoint"
put "$DEV" 20 4
must_wait_for 60 is_synced "$NAME"
kill -STOP "$DAEMON"
put "$DEV" 30 3
put "$DEV" 40 9
check "some of it never came to the hub" status_is "$NAME" capture=track
check "a fail-over to a point before the latest" quietly ctl failover "$GROUP" --at before
kill -CONT "$DAEMON"
check "the old side is fenced" wait_for 30 daemon_says 'fenced by generation 2'
check "what may be rolled back is not taken" exits 1 repctl fail-back "$GROUP"
check "... and it says what to type" says 'rephubctl commit'
check "it is committed" quietly ctl commit "$GROUP"

# --- The VM over there.
SOURCE=$DAEMON
create_recover "$LIVE" v0 "$MIB" ring 8
start_recover --tls-certificates "$TMP/b"
put "$(dev "$LIVE")" 4 $((CHANGES - 4))
put "$(dev "$LIVE")" 22 4
blkdiscard -z -o $((41 << 20)) -l $((1 << 20)) "$(dev "$LIVE")"
sync "$(dev "$LIVE")"

# --- The disk is brought up to date, and that is killed.
exec 9< "$DEV"
check "a disk that is in use is not overwritten" exits 1 repctl fail-back "$GROUP"
check "... and it says so" says 'in use'
exec 9<&-
check "another volume is not known" exits 1 repctl fail-back "$GROUP" --volume v1
check "not while the VM can write there" exits 1 repctl fail-back "$GROUP" --finish
check "... and it says who can" says 'live is open'
killed=0
before=$(sectors_written "$ORIGIN")
for ((i = 0; i < KILLS; i++)); do
	written=$(sectors_written "$ORIGIN")
	start_writer back repctl fail-back "$GROUP"
	must_wait_for 300 written_past $((written + (1 + RANDOM % PIECE) * 2048))
	! is_alive "${WRITERS[back]}" || ((++killed))
	end_process "${WRITERS[back]}"
	[ $i != 0 ] || check "half of a disk does not rejoin" exits 1 repctl rejoin "$GROUP" 2
	[ $i != 0 ] || check "... and it says so" says 'not yet what the hub has'
done
check "it was killed on the way" test $killed -ge 1
check "it goes on" exits 0 repctl fail-back "$GROUP"
check "... and has less to do" test "$(copied)" -lt $(((CHANGES + 4 + 12) << 20))
note "$(copied) bytes after $killed kills"
moved=$((($(sectors_written "$ORIGIN") - before) * 512))
check "in all no more than what changed, was abandoned, or was pending" \
	test $moved -le $(((CHANGES + 1 + 4 + 12) * 1024 * 1024 * 11 / 10))
note "$moved bytes in all"

# --- What changes while it goes on.
put "$(dev "$LIVE")" 60 2
sync "$(dev "$LIVE")"
check "once more" exits 0 repctl fail-back "$GROUP"
check "... and nothing moves but what has changed since" test "$(copied)" -le $(((2 << 20) * 11 / 10))
note "$(copied) bytes of $((2 << 20))"
put "$(dev "$LIVE")" 70 1
sync "$(dev "$LIVE")"
kill -TERM "$DAEMON"
wait "$DAEMON"
dm remove --retry "$LIVE" || die "the device of the VM cannot be removed"
DAEMON=$SOURCE
check "the last pass" exits 0 repctl fail-back "$GROUP" --finish
check "... says where the disk is" says 'byte for byte what the hub has at'
check "every byte is equal" same_as_hub
check "once more there is nothing to copy" exits 0 repctl fail-back "$GROUP" --finish --compare
check "... by sums of all of it" test "$(copied)" = 0

# --- Home.
kill -TERM "$SOURCE"
wait "$SOURCE"
check "the group's life here ends" exits 0 repctl deactivate "$GROUP" --force
check "... wholly" test ! -e "/sys/class/repagent/$GROUP"
create
: > "$TMP/daemon.log"
agent
must_wait_for 30 daemon_says 'fenced by generation 2'
check "this host is the source again" exits 0 repctl rejoin "$GROUP" 2
check "it is in step" wait_for 120 is_home
check_not "... and not all was read again" daemon_says 'read again'
check "every byte is equal" same_as_hub
put "$DEV" 80 2
must_wait_for 60 is_home
check "what is written from then on is there" same_as_hub
kill -TERM "$DAEMON"
wait "$DAEMON"
check "the daemon stops when asked" test $? -eq 0
ktap_finished
