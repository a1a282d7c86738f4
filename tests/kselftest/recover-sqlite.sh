#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fail-over tests at points of a database's history. SQLite's database and its write-ahead log are on two volumes of one
# group, each with a file system of its own; transactions go on all the time. At each point the copy opens and holds
# exactly the transactions that were committed by then; what a test writes is seen by nobody else; and the hub is never
# more than LAG_MOST behind.
#
# Points are named in four ways, and each is between what was committed before it was taken and what had begun after:
# a label while the transactions pause (so the two are the same), a label while they go on, a record's number, a time.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

rounds=1 # of four points
[ -z "${TEST_LONG:-}" ] || rounds=5
LAG_MOST=5000 # ms from the capture of a record until the hub has it durably
plan $((4 * rounds + 9))
for program in rephub rephubctl repctl nbdcopy nbd-client mkfs.ext4 txload; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
modprobe nbd max_part=0 || ktap_skip_all "no nbd"

NAMES=("$PREFIX-data" "$PREFIX-log") COPIES=("$PREFIX-copy-data" "$PREFIX-copy-log")
SOURCE=$TMP/source COPY=$TMP/copy MIB=48
mkdir -p "$SOURCE/data" "$SOURCE/log" "$COPY/data" "$COPY/log"

ctl() {
	rephubctl --dir "$HUB" "$@"
}
quietly() { # COMMAND...: what it says is told if it fails
	"$@" > "$TMP/quietly" 2>&1 && return
	note "$*: $(< "$TMP/quietly")"
	return 1
}

# --- The source ---------------------------------------------------------------------------------------------

# What txload's record says last: sets $STEP, $COMMITTED and $BEGUN, the numbers of transactions. No process is started,
# so that there is little time between a point and what is known of it.
read_record() {
	local -a lines=()
	mapfile -t -u 7 lines
	[ ${#lines[@]} = 0 ] || read -r STEP BEGUN <<< "${lines[-1]}"
	COMMITTED=$BEGUN
	[ "$STEP" != b ] || ((COMMITTED--))
}
STEP='' BEGUN=0 COMMITTED=0
committed_past() { # NUMBER
	read_record
	[ "$COMMITTED" -gt "$1" ]
}
is_paused() {
	read_record
	[ "$STEP" = p ]
}

# As a writer: samples how long the hub takes to have what is the group's last record; in the end prints the worst.
watch_lag() {
	local want=0 since=0 now worst=0 samples=0 records=0 unprotected=0
	local STATUS_PID='' STATUS
	trap 'printf "samples %d\nworst_ms %d\nmost_records %d\nunprotected %d\n" \
		$samples $worst $records $unprotected; kill $STATUS_PID; exit 0' TERM
	coproc STATUS { exec dmstatus; } 2> /dev/null
	while read_status "${NAMES[0]}"; do
		now=${EPOCHREALTIME/./}
		[ "${ST[capture]}" = stream ] || ((unprotected++))
		((ST[last] - ST[acked] <= records)) || records=$((ST[last] - ST[acked]))
		((since == 0 || now - since <= worst * 1000)) || worst=$(((now - since) / 1000))
		if ((since && ST[acked] >= want)); then
			since=0
			((samples++))
		fi
		if ((since == 0 && ST[last] > ST[acked])); then
			want=${ST[last]} since=$now
		fi
		nap 0.05
	done
	echo "there is no status of ${NAMES[0]}" >&2
}

# --- Points --------------------------------------------------------------------------------------------------

declare -a POINT=() KIND=() LOW=() HIGH=()
checkpoint() { # LABEL
	quietly repctl checkpoint "$GROUP" "$1" || die "no checkpoint"
}
take_point() { # KIND
	local nr=${#POINT[@]} point
	read_record
	must_wait_for 60 committed_past $((COMMITTED + 8))
	if [ "$1" = paused ]; then
		kill -USR1 "${WRITERS[load]}"
		must_wait_for 20 is_paused
	fi
	read_record
	LOW[nr]=$COMMITTED
	case $1 in
	paused|running)
		point=label:p$nr
		checkpoint "p$nr" ;;
	number)
		read_status "${NAMES[0]}"
		point=${ST[last]} ;;
	time)
		point=time:$EPOCHREALTIME ;;
	esac
	read_record
	HIGH[nr]=$BEGUN KIND[nr]=$1 POINT[nr]=$point
	[ "$1" != paused ] || kill -USR2 "${WRITERS[load]}"
	# A time is a point once the log has come behind it.
	must_wait_for 60 committed_past "$BEGUN"
	read_status "${NAMES[0]}"
	must_wait_for 60 status_past "${NAMES[0]}" acked "${ST[last]}"
}

# --- Tests ----------------------------------------------------------------------------------------------------

attach_recover() { # ID: sets $DAEMON, and $DISKS
	local i volumes=(data log)
	HUB_URI="nbd+unix:///test/$1/%v?socket=$HUB_SOCKET"
	for i in 0 1; do
		dm create "${COPIES[i]}" --table "0 $((MIB * 2048)) rep-recover $GROUP ${volumes[i]}" || return
		DISKS[i]=$(dev "${COPIES[i]}")
	done
	dm mknodes
	# shellcheck disable=SC2119 # with no argument of its own
	start_recover
}
detach_recover() {
	local status=0
	[ -z "$DAEMON" ] || kill -TERM "$DAEMON"
	[ -z "$DAEMON" ] || wait "$DAEMON" || status=1
	quietly dm remove --retry "${COPIES[@]}" || status=1
	return "$status"
}
attach_nbd() { # ID: sets $DISKS
	local i volumes=(data log)
	for i in 0 1; do
		quietly nbd-client -unix "$HUB_SOCKET" "/dev/nbd$i" -N "test/$1/${volumes[i]}" || return
		DISKS[i]=/dev/nbd$i
	done
}
detach_nbd() {
	local i status=0
	for i in 0 1; do
		quietly nbd-client -d "/dev/nbd$i" || status=1
	done
	return "$status"
}

# The file systems' journals are replayed, and SQLite's log is: all of it into the test's own space.
mount_copy() {
	quietly mount -t ext4 "${DISKS[0]}" "$COPY/data" && quietly mount -t ext4 "${DISKS[1]}" "$COPY/log"
}
umount_copy() {
	local dir mounted=()
	for dir in data log; do
		! grep -q " $COPY/$dir " /proc/self/mounts || mounted+=("$COPY/$dir")
	done
	[ ${#mounted[@]} = 0 ] || quietly umount "${mounted[@]}"
}
holds() { # NUMBER: the copy holds what was committed at that point, and can be gone on with
	local last
	run_writer verify txload --verify --seed "$SEED" "$COPY/data" "$COPY/log" || return
	last=$(value "$TMP/verify.out" last)
	((log_frames += $(value "$TMP/verify.out" log_frames)))
	note "${KIND[$1]} ${POINT[$1]}: transaction $last is the last; ${LOW[$1]} was committed before, ${HIGH[$1]} begun after"
	((LOW[$1] <= last && last <= HIGH[$1])) || return
	# Of another seed: whoever sees these instead of the source's is noticed.
	run_writer foreign txload --seed $((SEED + 1)) --count 10 "$COPY/data" "$COPY/log" || return
	[ "$(value "$TMP/foreign.out" last)" = $((last + 10)) ]
}
test_point() { # NUMBER WAY: recover or nbd
	local HUB_URI=$HUB_URI DAEMON='' id acked status=0
	local -a DISKS=()
	id=$(ctl test start "$GROUP" --at "${POINT[$1]}" 2>&1) || { note "$id"; return 1; }
	id=$(grep -oE '[0-9a-f]{8}' <<< "$id" | head -n 1)
	read_record
	local committed=$COMMITTED
	acked=$(status_field "${NAMES[0]}" acked)
	attach_"$2" "$id" && mount_copy && holds "$1" || status=1
	umount_copy || status=1
	detach_"$2" || status=1
	if status_past "${NAMES[0]}" acked $((acked + 1)) && committed_past "$committed"; then
		((went_on++))
	fi
	if [ "$status" = 0 ]; then
		quietly ctl test stop "$id" --passed || status=1
	else
		quietly ctl test stop "$id" --failed
	fi
	return "$status"
}

# --- All of it -------------------------------------------------------------------------------------------------

for volume in data log; do
	make_origin ORIGIN loop $MIB
	create_volume "$PREFIX-$volume" "$ORIGIN" "$GROUP" $volume ring 32
	# Blocks of two sizes, so that the two have little in common.
	[ $volume = data ] && block=4096 || block=1024
	quietly mkfs.ext4 -q -b "$block" "$(dev "$PREFIX-$volume")" || die "no file system"
done
start_hub rephub
start_daemon --state-dir "$TMP/state"
must_wait_for 60 is_synced "${NAMES[@]}"
for volume in data log; do
	defer remove_dm "$PREFIX-copy-$volume"
	defer umount -l "$COPY/$volume"
	quietly mount -t ext4 "$(dev "$PREFIX-$volume")" "$SOURCE/$volume" || die "it cannot be mounted"
	defer umount "$SOURCE/$volume"
done
defer detach_nbd

: > "$TMP/record"
exec 7< "$TMP/record"
start_writer load txload --seed "$SEED" --rate 15 --record "$TMP/record" "$SOURCE/data" "$SOURCE/log"
must_wait_for 60 committed_past 3
start_writer lag watch_lag
log_frames=0 went_on=0
ways=(recover nbd)
for ((round = 0; round < rounds; round++)); do
	for kind in paused running number time; do
		take_point $kind
	done
	for ((i = round * 4; i < round * 4 + 4; i++)); do
		way=${ways[(i + round) % 2]}
		check "a test at point $i (${KIND[i]}), with $way" test_point $i "$way"
	done
done
check "the log held something at the points" test "$log_frames" -gt 0
check "replication went on during each test" test $went_on = ${#POINT[@]}
end_writer load TERM
check "no transaction failed" test $? -eq 0
end_writer lag TERM
check "... and never left the stream" test "$(value "$TMP/lag.out" unprotected)" = 0
check "the lag was measured" test "$(value "$TMP/lag.out" samples)" -ge $((10 * rounds))
check "the hub was never more than $LAG_MOST ms behind" \
	test "$(value "$TMP/lag.out" worst_ms)" -le $((LAG_MOST * TEST_SLOW))
quietly umount "$SOURCE/data" "$SOURCE/log" || die "the source cannot be unmounted"
must_wait_for 60 is_synced "${NAMES[@]}"
for volume in data log; do
	hub_view $volume latest "$TMP/view" || die "no view"
	check "$volume: nothing of the tests got to the replica" same "$(dev "$PREFIX-$volume")" "$TMP/view"
	rm -f "$TMP/view"
done
kill -TERM "$DAEMON"
wait "$DAEMON"
check "the daemon stops when asked" test $? -eq 0
ktap_finished
