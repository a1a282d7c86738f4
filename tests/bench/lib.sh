# shellcheck shell=bash disable=SC2034 # the parts use what is set here
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the benchmarks' parts in the VM share.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PWD/build/bin:$PWD/build/bin/tests:/lib/drbd:$PATH
tmp=$(mktemp -d)

die() {
	echo "$0: $*" >&2
	exit 1
}

# A disk that keeps nothing, so that only the path to it is measured.
null() { # NAME MIB [ATTRIBUTE=VALUE]...: /dev/NAME
	local dir=/sys/kernel/config/nullb/$1 pair mib=$2
	mkdir "$dir"
	shift 2
	for pair in size="$mib" queue_mode=2 submit_queues=1 hw_queue_depth=128 memory_backed=0 irqmode=0 "$@"; do
		echo "${pair#*=}" > "$dir/${pair%%=*}"
	done
	echo 1 > "$dir/power"
}

# Starts the process that `status` asks.
start_dmstatus() {
	modprobe dm-mod
	coproc STATUS { exec dmstatus; }
}
status() { # NAME: reads the status line of a device into the array ST
	echo "$1" >&"${STATUS[1]}"
	read -ra ST <&"${STATUS[0]}"
}

pause() { # SECONDS, without a process
	read -rt "$1" <> "$tmp/never" || :
}
mkfifo "$tmp/never"

wait_until() { # COMMAND...: at most 60 s
	local end=$((${EPOCHREALTIME/./} + 60000000))
	until "$@"; do
		[ ${EPOCHREALTIME/./} -lt $end ] || die "waited in vain: $*"
		pause 0.01
	done
}
