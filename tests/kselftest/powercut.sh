#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I8 and I9: the power is cut, and disks lose what was not flushed. Origins, meta devices and the hub's disks of two volumes
# stand on dm-log-writes. While they are written, and the hub and the daemon are killed, all is stopped now and then for a moment
# and a mark put into all the logs. Afterwards each disk is made again as a cut at a mark may leave it: what was flushed or
# written with FUA, and a random choice of the other sectors. From there the volumes are activated: just what the map has is
# read, and the replicas are the disks then.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

points=6
[ -z "${TEST_LONG:-}" ] || points=200
mib=16 size=$((16 * 2048))
volumes='v0 v1'
plan 7
modprobe dm-repagent || die "no module"
modprobe -q dm-log-writes || ktap_skip_all "no dm-log-writes"
echo 300 > /sys/module/dm_repagent_mod/parameters/map_clear_ms

# Disks that keep a log: NAME is one of origin, meta, hub with the volume's.
declare -A log_of=()
logged_disks=()
disk() { # NAME MIB
	make_origin DISK loop "$2"
	make_origin LOG loop 2048
	log_of[$1]=$TMP/origin.LOG.$origins
	logged_disks+=("$1:${DISK#/dev/}")
	create_dm "$PREFIX-$1" "0 $(($2 * 2048)) log-writes $DISK $LOG"
}
hub() { # VOLUME
	nbdkit_service "$TMP/hub.$1" file "file=$(dev "$PREFIX-hub.$1")" &
	hubs[$1]=$!
	defer end_hub $!
	must_wait_for 20 test -S "$TMP/hub.$1"
}
end_hub() { # PID
	signal_tree KILL "$1"
	end_process "$1"
}
declare -A hubs=()
for v in $volumes; do
	disk "origin.$v" $mib
	disk "meta.$v" 1
	disk "hub.$v" $mib
	create_volume "$PREFIX-$v" "$(dev "$PREFIX-origin.$v")" "$GROUP" "$v" \
		meta "$(dev "$PREFIX-meta.$v")" region 64 ring 16
	hub "$v"
done
HUB_URI="nbd+unix:///?socket=$TMP/hub.%v"
start_daemon
wait_synced 100 "$PREFIX-v0" "$PREFIX-v1"

writes_of_all() { # how many requests all disks have seen
	local name
	local -a stat
	all_writes=0
	for name in "${logged_disks[@]}"; do
		read -ra stat < "/sys/block/${name#*:}/stat"
		((all_writes += stat[4] + stat[15]))
	done
}
everybody() { # SIGNAL
	local pid
	for pid in "${WRITERS[@]}" $DAEMON; do
		kill "-$1" "$pid"
	done
	for pid in "${hubs[@]}"; do
		signal_tree "$1" "$pid"
	done
}
for v in $volumes; do
	# dm-log-writes logs a write with FUA when it completes, and another one no sooner than the next flush: where a sector
	# had both, the log has them in the wrong order. So each has a part of the disk.
	start_writer "$v" oracle --threads 3 --seed $((SEED + ${v#v})) --rate 110 --max 32k --mix write=70,fsync=4,zero=2 \
		--seconds 10000 --range 12M "$(dev "$PREFIX-$v")"
	start_writer "$v.fua" oracle --threads 1 --seed $((SEED + ${v#v} + 2)) --rate 10 --max 32k --mix fua=1 \
		--seconds 10000 --offset 12M "$(dev "$PREFIX-$v")"
done
# Puts a mark into all logs.  Succeeds if nothing happened between the first of them and the last.
mark_all() { # MARK
	local name before
	nap 0.2
	writes_of_all
	before=$all_writes
	for name in "${logged_disks[@]}"; do
		dm message "$PREFIX-${name%:*}" 0 mark "$1"
	done
	writes_of_all
	[ "$before" = "$all_writes" ]
}
good=()
for ((point = 1; point <= points; point++)); do
	read_status "$PREFIX-v0"
	must_wait_for 30 status_past "$PREFIX-v0" last $((ST[last] + 120))
	case $((point % 4)) in
	1)	end_hub "${hubs[v0]}"
		unset 'hubs[v0]'
		rm -f "$TMP/hub.v0" ;;
	3)	kill_daemon ;;
	esac
	everybody STOP
	# The kernel may still be clearing bits, or reading a region.
	for try in 1 2 3 4 5 6; do
		! mark_all "cut-$point.$try" || { good+=("$point.$try"); break; }
	done
	case $((point % 4)) in
	1)	hub v0 ;;
	esac
	everybody CONT
	[ $((point % 4)) != 3 ] || start_daemon
done
for v in $volumes; do
	end_writer "$v" TERM
	check "$v: no write failed" test $? -eq 0
	end_writer "$v.fua" TERM || die "a write with FUA failed"
done
check "of $points points ${#good[@]} are good" test ${#good[@]} -gt $((points * 9 / 10))
kill_daemon
for v in $volumes; do
	dm remove "$PREFIX-$v"
	end_hub "${hubs[$v]}"
done
[ ! -e "/sys/class/repagent/$GROUP" ] || echo "$GROUP" > "/sys/class/repagent/$GROUP/forget"
for name in "${logged_disks[@]}"; do
	dm remove "$PREFIX-${name%:*}" || die "a disk is still in use"
done
sync

cut_of() { # LOG MARK: the number of its entries up to there
	cutlog --list "$1" | awk -v mark="$2" '$NF == mark && / mark/ { print $2 + 1; exit }'
}
# A log with all that was written gives the disk: what it says of the moments before can be trusted.
complete=0
for name in "${logged_disks[@]}"; do
	disk=/dev/${name#*:} name=${name%:*}
	truncate -s "$(blockdev --getsize64 "$disk")" "$TMP/whole"
	cutlog --percent 100 --part "$TMP/whole" "${log_of[$name]}" > "$TMP/cutlog.out" || die "no log of $name"
	! same "$disk" "$TMP/whole" || ((++complete))
	rm "$TMP/whole"
done
check "of ${#logged_disks[@]} logs $complete give the disk" test $complete = ${#logged_disks[@]}

# Makes $TMP/cut.NAME of a disk.
rebuild() { # NAME MARK MIB
	rm -f "$TMP/cut.$1"
	truncate -s "$3M" "$TMP/cut.$1"
	cutlog --cut "$(cut_of "${log_of[$1]}" "$2")" --percent 0 --part "$TMP/cut.$1" "${log_of[$1]}" > "$TMP/cutlog.out" ||
		die "no cut at $2 of $1"
}
mkdir "$TMP/replica"
cuts=0 equal=0 bounded=0 differed=0 read=0
for point in "${good[@]}"; do
	((cuts++))
	set_bytes=0
	for v in $volumes; do
		rebuild "origin.$v" "cut-$point" $mib
		rebuild "meta.$v" "cut-$point" 1
		rebuild "hub.$v" "cut-$point" $mib
		cmp -s "$TMP/cut.origin.$v" "$TMP/cut.hub.$v" || ((++differed))
		mv "$TMP/cut.hub.$v" "$TMP/replica/$v"
		((set_bytes += 512 * $(repctl map dump --ranges "$TMP/cut.meta.$v" | awk '{ sum += $2 } END { print sum + 0 }')))
		backing=$(losetup --show -f "$TMP/cut.origin.$v")
		meta=$(losetup --show -f "$TMP/cut.meta.$v")
		cut_loops[${v#v}]="$backing $meta"
		dm create "$PREFIX-disk.$v" --table "0 $size linear $backing 0"
		dm mknodes
		dm create "$PREFIX-$v" --table "$(repagent_table "$(dev "$PREFIX-disk.$v")" "$GROUP" "$v" meta "$meta" region 64)" ||
			die "a map is refused after a cut"
	done
	start_ringcheck --replica "v0=$TMP/replica/v0" --replica "v1=$TMP/replica/v1"
	wait_synced 60 "$PREFIX-v0" "$PREFIX-v1"
	stop_ringcheck
	same_all=1
	for v in $volumes; do
		if ! same "$(dev "$PREFIX-$v")" "$TMP/replica/$v"; then
			note "cut at mark $point: $v differs"
			same_all=0
		fi
		dm remove "$PREFIX-$v"
	done
	((equal += same_all, read += $(found resync_bytes)))
	[ "$(found resync_bytes)" -gt "$set_bytes" ] || ((++bounded))
	[ ! -e "/sys/class/repagent/$GROUP" ] || echo "$GROUP" > "/sys/class/repagent/$GROUP/forget"
	for v in $volumes; do
		dm remove "$PREFIX-disk.$v"
		# shellcheck disable=SC2086 # two words
		losetup -d ${cut_loops[${v#v}]}
	done
done
note "$cuts cuts: $((read >> 10)) KiB were read again"
check "after $differed of $((2 * cuts)) cuts a replica was not the disk" test $differed -ge $cuts
check "$cuts cuts: each replica is the disk" test $equal = $cuts -a $cuts -gt 0
check "... and no more was read than the map had" test $bounded = $cuts
ktap_finished
