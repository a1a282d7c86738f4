# shellcheck shell=bash disable=SC2034 # the tests use what is set here
# SPDX-License-Identifier: GPL-2.0-or-later
#
# lib.sh: what the tests share; each sources it first. It gives the test a folder in memory ($TMP), names
# of its own ($GROUP, volume names from volume_name), KTAP output, and a trap that takes away all that was made.
#
# Functions that set something up end the test when they fail. Nothing sleeps for luck: wait_for polls for a
# condition, with a bound.
#
# Knobs: TEST_LONG=1 for longer runs, SEED=n to repeat one, KEEP=1 to keep $TMP, TEST_SLOW=n to wait n times as
# long for what a slow kernel is to do.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

TEST=${0##*/}
TEST=${TEST%.sh}

# The tools: beside us (an installed kselftest), or where the project's Makefile puts them.
TOOLS=${REPAGENT_TOOLS:-}
for dir in . ../../build/bin/tests; do
	[ -n "$TOOLS" ] || [ ! -x "$dir/ringcheck" ] || TOOLS=$(cd "$dir" && pwd)
done
for dir in . ../../build/bin; do
	[ ! -d "$dir" ] || PATH=$(cd "$dir" && pwd):$PATH
done
PATH=$TOOLS:$PATH:/usr/sbin:/sbin
export PATH DM_DISABLE_UDEV=1 LC_ALL=C

GROUP=g$$
: "${SEED:=$((RANDOM * 32768 + RANDOM))}" "${TEST_SLOW:=1}"

# --- KTAP -------------------------------------------------------------------------------------------------

KSFT_PASS=0 KSFT_FAIL=1 KSFT_SKIP=4
ktap_number=0 ktap_failed=0 ktap_planned=0 ktap_done=

ktap_print_header() {
	echo "TAP version 13"
}

ktap_set_plan() { # N
	ktap_planned=$1
	echo "1..$1"
}

ktap_test_pass() { # WHAT
	echo "ok $((++ktap_number)) $1"
}

ktap_test_fail() { # WHAT
	((++ktap_failed))
	echo "not ok $((++ktap_number)) $1"
}

ktap_test_skip() { # WHAT WHY
	echo "ok $((++ktap_number)) $1 # SKIP $2"
}

ktap_skip_all() { # WHY
	echo "1..0 # SKIP $*"
	ktap_done=1
	exit $KSFT_SKIP
}

note() {
	echo "# $*"
}

# Ends the test: what it wanted to see cannot be seen.
die() {
	note "$*"
	if [ $ktap_number -lt "$ktap_planned" ]; then
		ktap_test_fail "${*//#/}"
	fi
	ktap_done=1
	exit $KSFT_FAIL
}

plan() { # N: the usual beginning of a test
	ktap_print_header
	ktap_set_plan "$1"
	note "seed $SEED"
}

check() { # WHAT COMMAND...: one test
	local what=$1
	shift
	if "$@"; then
		ktap_test_pass "$what"
	else
		ktap_test_fail "$what"
		note "failed: $*"
		return 1
	fi
}

check_not() { # WHAT COMMAND...
	local what=$1
	shift
	if "$@"; then
		ktap_test_fail "$what"
		note "succeeded: $*"
		return 1
	fi
	ktap_test_pass "$what"
}

run_ktap() { # PROGRAM [ARGUMENT...]: that prints KTAP itself; the end of such a test
	"$@"
	local status=$?
	ktap_done=1
	if kernel_log | grep -E "$SPLAT"; then
		status=$KSFT_FAIL
	fi
	exit $status
}

ktap_finished() { # the end of every other test
	local splat
	ktap_done=1
	splat=$(kernel_log | grep -E "$SPLAT" | head -n 5)
	if [ -n "$splat" ]; then
		((++ktap_failed))
		note "the kernel reported a bug:"
		while IFS= read -r line; do
			note "$line"
		done <<< "$splat"
	fi
	if [ $ktap_number != "$ktap_planned" ]; then
		((++ktap_failed))
		note "$ktap_planned tests were planned, $ktap_number were run"
	fi
	note "$((ktap_number - ktap_failed)) passed, $ktap_failed failed"
	[ $ktap_failed = 0 ] || exit $KSFT_FAIL
	exit $KSFT_PASS
}

# --- The kernel's log -------------------------------------------------------------------------------------

SPLAT='\bBUG: |\bWARNING: |\bOops\b|general protection fault|blocked for more than|soft lockup|detected stall|refcount_t: |list_(add|del) corruption|KASAN:|UBSAN:|possible recursive locking|circular locking|inconsistent lock state|suspicious RCU usage|Invalid wait context|bad unlock balance|non-static key|ODEBUG: |Objects remaining in'

kernel_log() { # since the test began
	dmesg | sed "1,/ $MARK\$/d"
}

log_mark() { # later calls of kernel_log begin here
	MARK="repagent test $TEST $$.$((++marks))"
	echo "$MARK" > /dev/kmsg
}
marks=0

# --- Wrong input: it is refused, the word at fault is named, and so is what was expected ------------------

made_before=''
declare -a case_what=() case_word=() case_expected=() case_trouble=()

# All cases are tried first, with a mark in the kernel's log before each; then the log is read once.
begin_cases() {
	local limit=/proc/sys/kernel/printk_devkmsg
	# Else most of the marks would be dropped.
	if [ "$(< $limit)" != on ]; then
		defer eval "echo $(< $limit) > $limit"
		echo on > $limit || die "the marks of the cases would be dropped from the kernel's log"
	fi
	all_made made_before
}

all_made() { # VARIABLE: every group, every device-mapper device
	local IFS=' '
	local -a _all=(/sys/class/repagent/* /sys/block/dm-*)
	printf -v "$1" %s "${_all[*]}"
}

# Patterns are those of [[ =~ ]]; a WORD is a plain text.
refuse() { # WHAT WORD EXPECTED COMMAND...: the command must fail, and make nothing
	local trouble='' made_after
	echo "$PREFIX case ${#case_what[@]}." > /dev/kmsg
	case_what+=("$1")
	case_word+=("$2")
	case_expected+=("$3")
	if "${@:4}" 2> /dev/null; then
		trouble="it was accepted"
	fi
	all_made made_after
	[ "$made_before" = "$made_after" ] ||
		trouble+="${trouble:+; }before there was '$made_before', afterwards '$made_after'"
	case_trouble+=("$trouble")
}

is_explained() { # TEXT WORD EXPECTED
	local line
	[[ $1 != *"$2"* ]] || [[ ! $1 =~ $3 ]] || return 0
	note "nothing names '$2' and says '$3', but:"
	while IFS= read -r line; do
		note "$line"
	done <<< "$1"
	return 1
}

case_is_refused() { # NUMBER
	[ -z "${case_trouble[$1]}" ] || { note "${case_trouble[$1]}"; return 1; }
	[ -n "${case_log[$1]+there}" ] || { note "its mark is not in the kernel's log"; return 1; }
	is_explained "${case_log[$1]}" "${case_word[$1]}" "${case_expected[$1]}"
}

declare -a case_log=()
check_cases() { # one test for each
	local line number=''
	# Line by line: to cut a long text with patterns takes the shell ages.
	while IFS= read -r line; do
		if [[ $line == *" $PREFIX case "*. ]]; then
			number=${line##* case }
			number=${number%.}
			case_log[number]=''
		elif [ -n "$number" ]; then
			case_log[number]+=$line$'\n'
		fi
	done < <(kernel_log)
	for number in "${!case_what[@]}"; do
		check "refused: ${case_what[number]}" case_is_refused "$number"
	done
}

# --- Taking away what was made ----------------------------------------------------------------------------

declare -a deferred=()

defer() { # COMMAND...: run at the end, the last one first
	deferred+=("$(printf '%q ' "$@")")
}

cleanup() {
	local status=$? i
	trap '' EXIT TERM INT
	for ((i = ${#deferred[@]} - 1; i >= 0; i--)); do
		eval "${deferred[i]}" > /dev/null 2>&1
	done
	if [ -z "$ktap_done" ]; then
		note "the test ended early with status $status"
		[ $status != 0 ] || status=1
	fi
	exit $status
}

# A process that is stopped dies of KILL too; wait takes its corpse away.
end_process() { # PID
	kill -KILL "$1" 2> /dev/null
	wait "$1" 2> /dev/null
}

is_alive() { # PID: and no corpse
	local state
	{ read -r _ _ state _ < "/proc/$1/stat"; } 2> /dev/null || return 1
	[ "$state" != Z ]
}

# --- Waiting ----------------------------------------------------------------------------------------------

nap() { # SECONDS, without a process
	read -rt "$1" <> "$TMP/never"
}

wait_for() { # SECONDS COMMAND...: until it succeeds; TEST_SLOW times as long
	local end=$((${EPOCHREALTIME/./} + $1 * TEST_SLOW * 1000000))
	shift
	until "$@"; do
		if ((${EPOCHREALTIME/./} >= end)); then
			note "waited in vain for: $*"
			show_state
			return 1
		fi
		nap 0.05
	done
	return 0
}

must_wait_for() { # SECONDS COMMAND...
	wait_for "$@" || die "timeout: ${*:2}"
}

show_state() {
	local line
	while IFS= read -r line; do
		note "$line"
	done < <(dmsetup status --target repagent 2>&1; dmsetup status --target rep-recover 2>&1)
	[ -z "$DAEMON" ] || is_alive "$DAEMON" || note "the daemon is dead"
	for line in "${daemon_log[@]}"; do
		while IFS= read -r line; do
			note "daemon: $line"
		done < <(tail -n 15 "$line")
	done
}

# --- Origins ----------------------------------------------------------------------------------------------

detach_loop() { # DEVICE FILE
	losetup -d "$1"
	rm -f "$2"
}

# loop: a file in memory; has discards, but no write-zeroes that keep the space.
# brd:  no discards, no write-zeroes, no queue.
# null: null_blk with memory behind it; has discards, not write-zeroes.
# busy: the same with room for one or two requests, of 2 ms each: a NOWAIT write is likely to get EAGAIN.
# scsi: a disk of scsi_debug; has discards, write-zeroes, FUA, flushes. One at a time.
make_origin() { # VARIABLE KIND MIB
	local _device _dir _n
	case $2 in
	loop)
		_n=$TMP/origin.$1.$((++origins))
		truncate -s "$3M" "$_n" || die "cannot make $_n"
		_device=$(losetup --show -f "$_n") || die "no loop device"
		defer detach_loop "$_device" "$_n" ;;
	brd)
		[ ! -d /sys/module/brd ] || rmmod brd
		modprobe brd rd_nr=1 rd_size=$(($3 * 1024)) || die "no brd"
		defer rmmod brd
		_device=/dev/ram0 ;;
	null|busy)
		if [ ! -d /sys/module/null_blk ]; then
			modprobe null_blk nr_devices=0 || die "no null_blk"
			defer rmmod null_blk
		fi
		_dir=/sys/kernel/config/nullb/rt$$-$((++origins))
		mkdir "$_dir" || die "no null_blk device"
		defer rmdir "$_dir"
		echo 1 > "$_dir/memory_backed"
		echo 512 > "$_dir/blocksize"
		echo "$3" > "$_dir/size"
		echo 1 > "$_dir/discard"
		if [ "$2" = busy ]; then
			echo 1 > "$_dir/hw_queue_depth"
			echo 2 > "$_dir/irqmode"
			echo 2000000 > "$_dir/completion_nsec"
		fi
		echo 1 > "$_dir/power" || die "no null_blk device"
		# Named by its folder, or in older kernels by its number.
		_device=/dev/${_dir##*/}
		[ -b "$_device" ] || _device=/dev/nullb$(< "$_dir/index")
		must_wait_for 5 test -b "$_device" ;;
	scsi)
		[ ! -d /sys/module/scsi_debug ] || rmmod scsi_debug
		modprobe sd_mod
		modprobe scsi_debug dev_size_mb="$3" delay=0 lbpu=1 lbpws=1 lbprz=1 || die "no scsi_debug"
		defer remove_scsi
		must_wait_for 20 scsi_disk _device ;;
	*)
		die "unknown kind of origin $2" ;;
	esac
	printf -v "$1" %s "$_device"
}
origins=0

scsi_disk() { # VARIABLE
	local name
	for name in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*:*/block/*; do
		[ -b "/dev/${name##*/}" ] || return 1
		printf -v "$1" %s "/dev/${name##*/}"
		return 0
	done
	return 1
}

remove_scsi() { # the disk may be in use for a moment by who looks at new disks
	[ ! -d /sys/module/scsi_debug ] || wait_for 10 rmmod scsi_debug
}

# --- Device-mapper devices --------------------------------------------------------------------------------

dm() { # dmsetup without udev
	dmsetup --noudevsync "$@"
}

remove_dm() { # NAME
	dm resume "$1"
	dm remove --retry "$1" || dm remove --force "$1"
}

create_dm() { # NAME TABLE
	dm create "$1" --table "$2" || die "cannot create $1: $2"
	dm mknodes "$1"
	defer remove_dm "$1"
	[ -n "$STATUS_PID" ] || start_dmstatus
}

writes_to() { # DEVICE: how many there were
	local -a stat
	read -ra stat < "/sys/block/${1#/dev/}/stat"
	echo "${stat[4]}"
}

at_rest() { # META DEVICE: with map_clear_ms=300 the cleaner has nothing left to do: three looks without a write
	local before
	before=$(writes_to "$1")
	nap 1.2
	[ "$before" = "$(writes_to "$1")" ]
}

sectors_of() { # DEVICE
	blockdev --getsz "$1"
}

repagent_table() { # ORIGIN GROUP VOLUME [FEATURE...]
	local origin=$1 group=$2 volume=$3
	shift 3
	echo "0 $(sectors_of "$origin") repagent $origin $group $volume${*:+ $# $*}"
}

create_volume() { # NAME ORIGIN GROUP VOLUME [FEATURE...]
	local name=$1
	shift
	create_dm "$name" "$(repagent_table "$@")"
}

dev() { # NAME
	echo "/dev/mapper/$1"
}

start_dmstatus() { # once there is a device
	coproc STATUS { exec dmstatus; }
	defer end_process "$STATUS_PID"
}
STATUS_PID=''

# Reads the status of a volume's device into ST.
declare -A ST=()
read_status() { # NAME
	local -a w
	echo "$1" >&"${STATUS[1]}"
	read -ra w <&"${STATUS[0]}"
	if [ "${w[2]:-}" = rep-recover ]; then
		ST=([group]=${w[3]} [volume]=${w[4]} [daemon]=${w[5]} [waiting]=${w[6]} [used]=${w[7]%/*} [size]=${w[7]#*/}
		    [last]=${w[8]} [acked]=${w[9]} [failed]=${w[10]})
		return
	fi
	[ "${w[2]:-}" = repagent ] || return 1
	ST=([group]=${w[3]} [volume]=${w[4]} [capture]=${w[5]} [image]=${w[6]} [reason]=${w[7]}
	    [used]=${w[8]%/*} [size]=${w[8]#*/} [last]=${w[9]} [acked]=${w[10]} [dirty]=${w[11]}
	    [left]=${w[12]} [failed]=${w[13]} [map]=${w[14]})
}

status_field() { # NAME FIELD
	read_status "$1" && echo "${ST[$2]}"
}

status_is() { # NAME FIELD=VALUE...
	local word
	read_status "$1" || return 1
	shift
	for word; do
		[ "${ST[${word%%=*}]}" = "${word#*=}" ] || return 1
	done
}

status_past() { # NAME FIELD VALUE
	read_status "$1" && [ "${ST[$2]}" -ge "$3" ]
}

is_synced() { # NAME...
	local name
	for name; do
		status_is "$name" capture=stream image=clean || return 1
		[ "${ST[last]}" = "${ST[acked]}" ] || return 1
	done
}

# All writes have ended: the replica has, or will have at once, what the disk has.
wait_synced() { # SECONDS NAME...
	must_wait_for "$1" is_synced "${@:2}"
}

# --- Programs that print "name value" lines ----------------------------------------------------------------

value() { # FILE NAME
	local name value
	while read -r name value; do
		[ "$name" != "$2" ] || { echo "$value"; return; }
	done < "$1"
	note "$1 does not tell $2" >&2
	echo 0
}

show() { # FILE [NAME...]: on one line, only what is not 0
	local name value text='' file=$1
	shift
	while read -r name value; do
		[ "$value" != 0 ] || continue
		[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
		text+=" $name=$value"
	done < "$file"
	note "${file##*/}:$text"
}

# The consumer, in the background; $RINGCHECK is its process, $TMP/ringcheck.out its figures.
start_ringcheck() { # [OPTION...]: of ringcheck, on $GROUP
	rm -f "$TMP/ringcheck.ready"
	ringcheck --seed "$SEED" --ready "$TMP/ringcheck.ready" "$@" "$GROUP" \
		> "$TMP/ringcheck.out" 2> "$TMP/ringcheck.err" &
	RINGCHECK=$!
	defer end_process $RINGCHECK
	must_wait_for 20 ringcheck_ready
}

ringcheck_ready() {
	[ -e "$TMP/ringcheck.ready" ] || ! is_alive "$RINGCHECK"
}

finish_ringcheck() { # NAME...: of the volumes' devices: all that was written is consumed
	wait_synced 60 "$@"
	stop_ringcheck
}

stop_ringcheck() {
	kill -TERM "$RINGCHECK"
	end_ringcheck
}

end_ringcheck() { # waits for its end, tells what it found
	local status line
	wait "$RINGCHECK"
	status=$?
	while IFS= read -r line; do
		note "ringcheck: $line"
	done < "$TMP/ringcheck.err"
	show "$TMP/ringcheck.out"
	return $status
}

run_ringcheck() { # [OPTION...]: in the foreground
	start_ringcheck "$@"
	end_ringcheck
}

found() { # NAME: of the last ringcheck's figures
	value "$TMP/ringcheck.out" "$1"
}

# Writers in the background, by name; their figures are in $TMP/NAME.out.
declare -A WRITERS=()
start_writer() { # NAME PROGRAM [ARGUMENT...]
	local name=$1
	shift
	"$@" > "$TMP/$name.out" 2> "$TMP/$name.err" &
	WRITERS[$name]=$!
	defer end_process "${WRITERS[$name]}"
}

end_writer() { # NAME [SIGNAL]
	local status line
	[ -z "${2:-}" ] || kill "-$2" "${WRITERS[$1]}"
	wait "${WRITERS[$1]}"
	status=$?
	unset "WRITERS[$1]"
	while IFS= read -r line; do
		note "$1: $line"
	done < <(head -n 5 "$TMP/$1.err")
	show "$TMP/$1.out"
	return $status
}

run_writer() { # NAME PROGRAM [ARGUMENT...]
	start_writer "$@"
	end_writer "$1"
}

# A kernel that checks itself takes its time, and is given it here as elsewhere.
within_a_second() { # MS
	[ "$1" -le $((1000 * TEST_SLOW)) ]
}

same() { # DEVICE FILE
	devcmp "$1" "$2" > "$TMP/devcmp.out" 2> "$TMP/devcmp.err" && return
	note "$(tr '\n' ' ' < "$TMP/devcmp.err")$(tr '\n' ' ' < "$TMP/devcmp.out")"
	return 1
}

# --- Tracing: what the kernel did, counted -----------------------------------------------------------------

TRACE=''

trace_start() { # EVENT...: of the group "repagent", in an instance of our own
	local event
	TRACE=/sys/kernel/tracing
	[ -d $TRACE/events ] || mount -t tracefs none $TRACE || die "no tracefs"
	[ -d $TRACE/events/repagent ] || modprobe dm-repagent || die "no module"
	TRACE=$TRACE/instances/rt$$
	mkdir "$TRACE" || die "no trace instance"
	defer rmdir "$TRACE"
	defer trace_stop
	for event; do
		echo 1 > "$TRACE/events/repagent/$event/enable" || die "no event $event"
	done
}

trace_stop() {
	echo 0 > "$TRACE/events/repagent/enable"
}

trace_count() { # PATTERN
	grep -cE -e "$1" "$TRACE/trace"
}

# --- Faults injected into the kernel, by a kernel that can ------------------------------------------------

FAULTS=/sys/kernel/debug
FAULTS_MAX=1000000000 # what "times" counts down from

# NAME is failslab, fail_page_alloc or fail_make_request; what is not given is as it was, at first as below.
inject() { # NAME ATTRIBUTE=VALUE...: probability in percent, 0: not any more
	local word
	for word in "${@:2}"; do
		echo "${word#*=}" > "$FAULTS/$1/${word%%=*}" || die "$1 has no ${word%%=*}, or it cannot be ${word#*=}"
	done
}

prepare_faults() { # NAME...: none yet; the test is skipped where the kernel has not each of them
	local name
	[ -d $FAULTS/tracing ] || mount -t debugfs none $FAULTS || ktap_skip_all "no debugfs"
	for name; do
		[ -d "$FAULTS/$name" ] || ktap_skip_all "the kernel has no $name"
	done
	for name; do
		inject "$name" probability=0 interval=1 times=$FAULTS_MAX space=0 verbose=0 task-filter=N
		defer inject "$name" probability=0
	done
}

injected() { # NAME: how many there were
	echo $((FAULTS_MAX - $(< "$FAULTS/$1/times")))
}

# Only what the module's own code allocates, itself or in what it calls; with or without waiting. What kmemleak needs to
# remember such an allocation is not counted among them.
inject_into_module() { # NAME...
	local name start size end from to
	[ -e $FAULTS/failslab/require-start ] || ktap_skip_all "the kernel's faults have no stack filter"
	[ -d /sys/module/dm_repagent_mod ] || modprobe dm-repagent || die "no module"
	start=$(< /sys/module/dm_repagent_mod/sections/.text)
	size=$(objdump -h "$(modinfo -n dm-repagent-mod)" | awk '$2 == ".text" { print $3 }')
	[ -n "$size" ] || die "the size of the module's text is unknown"
	end=$(printf '%#x' $((start + 0x$size)))
	# kmemleak's own allocations. The kernel's symbols come in the order of their addresses.
	{ read -r from _; read -r to _; } < <(grep -m 1 -A 1 ' __alloc_object$' /proc/kallsyms; printf '0\n0\n')
	from=0x$from to=0x$to
	for name; do
		inject "$name" require-start="$start" require-end="$end" reject-start="$from" reject-end="$to" \
			stacktrace-depth=32 ignore-gfp-wait=N
	done
	note "faults in $start-$end, not in $from-$to"
}

# --- Hubs: stock NBD servers, and rephub ------------------------------------------------------------------------------

HUB=''     # folder of the images, one for each volume
HUB_URI='' # for the daemon
HUB_KIND='' HUB_SOCKET=''
declare -a HUB_PIDS=() HUB_ARGS=()
HUB_CUT='' # not empty: rephub's power can be cut

hub_image() { # VOLUME MIB
	HUB=$TMP/hub
	mkdir -p "$HUB"
	truncate -s "$2M" "$HUB/$1" || die "cannot make the replica of $1"
}

hub_listens() {
	local name
	for name in "$HUB_SOCKET"*; do
		[ -S "$name" ] || return 1
	done
}

# nbdkit 1.32 aborts at times when a client is killed. As a service would be, it is started again then; the connections
# are lost, and so is what a cache of its own had.
nbdkit_service() { # SOCKET ARGUMENT...
	while rm -f "$1"; do
		nbdkit -f -U "$@" 2>> "$TMP/hub.log"
		[ $? = 134 ] || return
	done
}

signal_tree() { # SIGNAL PID: it, and its children, none of which comes or goes meanwhile
	local -a children=()
	kill -STOP "$2"
	[ ! -e "/proc/$2/task/$2/children" ] || read -ra children < "/proc/$2/task/$2/children"
	kill "-$1" "${children[@]}" "$2"
}

# Starts it, or starts it again after it was stopped. The images have to be there.
start_hub() { # KIND [ARGUMENT...]: nbdkit (options, then filters' parameters behind --), nbd-server, qemu-nbd, rephub
	local volume
	HUB_KIND=$1
	shift
	HUB_ARGS=("$@")
	HUB_PIDS=()
	HUB_SOCKET=$TMP/hub.sock
	HUB_URI="nbd+unix:///%v?socket=$HUB_SOCKET"
	rm -f "$HUB_SOCKET"*
	case $HUB_KIND in
	nbdkit)
		local -a options=() parameters=()
		while [ $# != 0 ] && [ "$1" != -- ]; do
			options+=("$1")
			shift
		done
		[ $# = 0 ] || shift
		parameters=("$@")
		[ ${#parameters[@]} != 0 ] && [[ ${parameters[0]} == file=* ]] ||
			parameters=("dir=$HUB" "${parameters[@]}")
		nbdkit_service "$HUB_SOCKET" "${options[@]}" file "${parameters[@]}" &
		HUB_PIDS+=($!) ;;
	nbd-server)
		{
			printf '[generic]\n\tunixsock = %s\n\tallowlist = true\n' "$HUB_SOCKET"
			for volume in "$HUB"/*; do
				printf '[%s]\n\texportname = %s\n\tflush = true\n\tfua = true\n' \
					"${volume##*/}" "$volume"
				printf '\ttrim = true\n'
			done
		} > "$TMP/hub.conf"
		# It goes into the background by itself: with -d it would serve one connection only.
		rm -f "$TMP/hub.pid"
		nbd-server -C "$TMP/hub.conf" -p "$TMP/hub.pid" 2>> "$TMP/hub.log" || die "no nbd-server"
		must_wait_for 20 test -s "$TMP/hub.pid"
		HUB_PIDS+=("$(< "$TMP/hub.pid")") ;;
	qemu-nbd)
		HUB_URI="nbd+unix:///%v?socket=$HUB_SOCKET.%v"
		for volume in "$HUB"/*; do
			rm -f "$HUB_SOCKET.${volume##*/}"
			qemu-nbd -f raw -t -e 8 --cache=writeback --discard=unmap -x "${volume##*/}" \
				-k "$HUB_SOCKET.${volume##*/}" "$volume" 2>> "$TMP/hub.log" &
			HUB_PIDS+=($!)
		done ;;
	rephub)
		HUB=${HUB:-$TMP/hub}
		HUB_URI="rephub+unix:///?socket=$HUB_SOCKET"
		${HUB_CUT:+hubcut "$HUB" "$TMP/hub.cut" $RANDOM} rephub --dir "$HUB" --listen "$HUB_SOCKET" "$@" >> "$TMP/hub.log" 2>&1 &
		HUB_PIDS+=($!) ;;
	*)
		die "unknown kind of hub $HUB_KIND" ;;
	esac
	defer kill_hub
	must_wait_for 60 hub_listens
}

hub_view() { # VOLUME POINT FILE: of $GROUP, from a rephub
	nbdcopy "nbd+unix:///view/$GROUP/$1@$2?socket=$HUB_SOCKET" "$3"
}

restart_hub() {
	start_hub "$HUB_KIND" "${HUB_ARGS[@]}"
}

kill_hub() { # -9
	local pid
	for pid in "${HUB_PIDS[@]}"; do
		signal_tree KILL "$pid" # nbd-server forks for each connection
		end_process "$pid"
	done
	HUB_PIDS=()
	rm -f "$HUB_SOCKET"*
}

# From the next start on. $HUB becomes a file system of its own.
prepare_hub_cuts() {
	mkdir -p "$HUB"
	mount -t tmpfs -o size=512m none "$HUB" || die "cannot mount a tmpfs for the hub"
	defer umount "$HUB"
	HUB_CUT=1
}

# It ends, and of what it has not synced any part may be gone.
cut_hub() {
	kill -USR2 "${HUB_PIDS[0]}"
	wait "${HUB_PIDS[0]}" || die "the power of rephub cannot be cut: $(tail -n 1 "$TMP/hub.log")"
	HUB_PIDS=()
	rm -f "$HUB_SOCKET"*
}

# --- The daemon -------------------------------------------------------------------------------------------

declare -a daemon_log=()
DAEMON='' DAEMON_ARGS=()

start_daemon() { # [ARGUMENT...]: $GROUP to $HUB_URI
	[ -n "$(command -v repagentd)" ] || ktap_skip_all "repagentd is not built"
	DAEMON_ARGS=("$@")
	daemon_log=("$TMP/daemon.log")
	repagentd "$GROUP" --tap "$HUB_URI" "$@" >> "$TMP/daemon.log" 2>&1 &
	DAEMON=$!
	defer end_process $DAEMON
}

exits() { # STATUS COMMAND...: what it prints is left for says
	local expected=$1 status
	shift
	"$@" > "$TMP/out" 2>&1
	status=$?
	[ "$status" != "$expected" ] || return 0
	note "status $status, not $expected"
	sed "s/^/# /" "$TMP/out"
	return 1
}
says() { # PATTERN: in what that command printed
	! grep -qE -- "$1" "$TMP/out" || return 0
	sed "s/^/# /" "$TMP/out"
	return 1
}

daemon_says() { # PATTERN: in its log
	grep -qE "$1" "$TMP/daemon.log"
}

# For hub-*.sh: two volumes under load, the hub killed and restarted in the middle.
hub_test() { # KIND
	local kind=$1 volume
	plan 9
	[ -n "$(command -v "$kind")" ] || ktap_skip_all "no $kind"
	for volume in v0 v1; do
		make_origin ORIGIN loop 32
		dd if=/dev/urandom of="$ORIGIN" bs=1M count=4 oflag=direct status=none
		create_volume "$PREFIX-$volume" "$ORIGIN" "$GROUP" $volume ring 32
		hub_image $volume 32
	done
	start_hub "$kind"
	start_daemon
	check "$kind: the first sync ends" wait_for 60 is_synced "$PREFIX-v0" "$PREFIX-v1"
	for volume in v0 v1; do
		start_writer $volume oracle --threads 2 --seed "$SEED" --rate 200 --max 32k --seconds 8 \
			"$(dev "$PREFIX-$volume")"
	done
	must_wait_for 20 status_past "$PREFIX-v0" acked $((ST[last] + 500))
	kill_hub
	check "$kind: it was killed with records on their way" \
		test "$(status_field "$PREFIX-v0" last)" -gt "$(status_field "$PREFIX-v0" acked)"
	must_wait_for 20 status_past "$PREFIX-v0" last $((ST[last] + 200))
	restart_hub
	for volume in v0 v1; do
		end_writer $volume
		check "$kind: $volume: no write fails" test $? -eq 0
	done
	check "$kind: the replica catches up" wait_for 60 is_synced "$PREFIX-v0" "$PREFIX-v1"
	for volume in v0 v1; do
		check "$kind: $volume: the replica is the disk" \
			same "$(dev "$PREFIX-$volume")" "$HUB/$volume"
	done
	kill -TERM "$DAEMON"
	wait "$DAEMON"
	check "$kind: the daemon stops when asked" test $? -eq 0
	check "$kind: ... with everything sent" is_synced "$PREFIX-v0" "$PREFIX-v1"
	ktap_finished
}

restart_daemon() {
	start_daemon "${DAEMON_ARGS[@]}"
}

# For recover*.sh: the disk of a fail-over VM.
create_recover() { # NAME VOLUME MIB [FEATURE...]
	local words=''
	[ $# = 3 ] || words=" $(($# - 3)) ${*:4}"
	create_dm "$1" "0 $(($3 * 2048)) rep-recover $GROUP $2$words"
}

# shellcheck disable=SC2120 # it has no arguments, mostly
start_recover() { # [ARGUMENT...]: the daemon that answers for it from $HUB_URI
	daemon_log=("$TMP/daemon.log")
	repagentd "$GROUP" --recover --tap "$HUB_URI" "$@" >> "$TMP/daemon.log" 2>&1 &
	DAEMON=$!
	defer end_process $DAEMON
}

kill_daemon() { # -9
	end_process "$DAEMON"
	DAEMON=
}

# --- The reader -------------------------------------------------------------------------------------------

READER='' READER_SOCKET='' READER_ARGS=()

start_reader() { # [OPTION]...: at a Unix socket, too
	READER_ARGS=("$@")
	[ -n "$(command -v repagent-reader)" ] || ktap_skip_all "repagent-reader is not built"
	READER_SOCKET=$TMP/reader.sock
	rm -f "$READER_SOCKET"
	repagent-reader "$@" --listen "$READER_SOCKET" >> "$TMP/reader.log" 2>&1 &
	READER=$!
	defer end_process $READER
	must_wait_for 20 reader_listens
}

restart_reader() {
	start_reader "${READER_ARGS[@]}"
}

reader_listens() {
	is_alive "$READER" || die "the reader ended: $(tail -n 1 "$TMP/reader.log")"
	[ -S "$READER_SOCKET" ] # the last that it opens
}

reader_uri() { # EXPORT
	echo "nbd+unix:///$1?socket=$READER_SOCKET"
}

reader_says() { # PATTERN: in its log
	grep -qE "$1" "$TMP/reader.log"
}

reader_ended() {
	! is_alive "$READER"
}

stop_reader() { # returns its exit status
	kill -TERM "$READER"
	wait_for 30 reader_ended || return
	wait "$READER"
}

# Connections that were made and then left alone, in one of nbdcrowd's modes, until drop_crowd.
start_crowd() { # MODE N EXPORT
	rm -f "$TMP/crowd"
	mkfifo "$TMP/crowd"
	nbdcrowd "$1" "$2" "$READER_SOCKET" "$3" < "$TMP/crowd" > "$TMP/crowd.out" 2>&1 &
	CROWD=$!
	defer end_process $CROWD
	exec 8> "$TMP/crowd"
	must_wait_for 120 grep -q ready "$TMP/crowd.out"
}
CROWD='' ENDED=''

drop_crowd() { # sets $ENDED: how many of them the reader had ended
	exec 8>&-
	wait "$CROWD"
	ENDED=$(sed -n 's/ ended$//p' "$TMP/crowd.out")
}

# A volume of $MIB with an image at the hub; $ORIGIN, $NAME and $DEV tell of it. For tests with one volume.
setup_volume() { # MIB [FEATURE...]
	local mib=$1
	shift
	ORIGIN='' NAME=$PREFIX-v0
	make_origin ORIGIN "${ORIGIN_KIND:-loop}" "$mib"
	create_volume "$NAME" "$ORIGIN" "$GROUP" v0 "$@"
	DEV=$(dev "$NAME")
	hub_image v0 "$mib"
}

# --- The beginning ----------------------------------------------------------------------------------------

PREFIX=rt$$
: "$PREFIX"
[ "$(id -u)" = 0 ] || ktap_skip_all "must be root"
[ -n "$TOOLS" ] || ktap_skip_all "the test tools are not built"
[ -d /sys/module/loop ] || modprobe -q loop
[ -d /sys/module/dm_repagent_mod ] || modprobe -n -q dm-repagent ||
	ktap_skip_all "there is no module dm-repagent"

TMP=$(mktemp -d "/tmp/repagent-$TEST.XXXXXX") || exit 1
mount -t tmpfs -o size=1300m none "$TMP" || { rmdir "$TMP"; ktap_skip_all "cannot mount a tmpfs"; }
[ -n "${KEEP:-}" ] || defer rmdir "$TMP"
[ -n "${KEEP:-}" ] || defer umount -l "$TMP"
mkfifo "$TMP/never"
trap cleanup EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
log_mark
