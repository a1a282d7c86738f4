#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tests/vm/test-vehicle.sh: does tests/vm/run keep its promises? Prints KTAP.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit
mkdir -p build/vm
tmp=$(mktemp -d "$PWD/build/vm/test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# shellcheck source=tests/vm/test-lib.sh
. tests/vm/test-lib.sh

run() { # ARGUMENT...: output in $tmp/out, messages in $tmp/log, exit status in $status
	tests/vm/run --console "$tmp/console" "$@" > "$tmp/out" 2> "$tmp/log" &
	pid=$!
	wait $pid
	status=$?
}
qemu_of() { # PID
	pgrep -f "qemu-system-x86_64.*$PWD/build/vm/tmp/$1" > /dev/null
}

echo 'KTAP version 1'

# One boot for all that a script sees when nothing goes wrong.
head -c 5000000 /dev/urandom > "$tmp/random"
truncate -s 1M "$tmp/image"
mkdir "$tmp/share"
cat > "$tmp/script" <<'TXT'
set -e
{ uname -r; pwd; echo "$1"; echo "$VARIABLE"; date +%s; } > /results/seen
head -c 100 "$2" > /results/sum
echo written | dd of="$VM_DISK_some_disk" conv=notrunc status=none
dd if=/dev/vm/some-disk bs=8 count=1 status=none > /results/disk
echo gone > "$3/mark"
echo gone > /etc/repagent-vm-mark
echo >&2 to stderr
sleep 1000 &
cat "$2"
exit 42
TXT
# shellcheck disable=SC2016 # the dollar is meant
run -k 6.1 -d "$tmp/image:some-disk" -e 'VARIABLE=a "b"  $c' --share "$tmp/share" -- \
	bash "$tmp/script" "d 'e'  *" "$tmp/random" "$tmp"
{ read -r release; read -r directory; read -r argument; read -r variable; read -r seconds; } < "$tmp/share/seen"
check 'exit status is passed on' is $status 42
check 'the kernel is the one asked for' is "${release%.*}" 6.1
check 'works in the project directory' is "$directory" "$PWD"
check 'arguments arrive as they are' is "$argument" "d 'e'  *"
# shellcheck disable=SC2016 # the dollar is meant
check 'variables arrive as they are' is "$variable" 'a "b"  $c'
check 'the clock is right' [ $((EPOCHSECONDS - seconds)) -lt 60 ]
check 'output is complete and unchanged, stderr too' cmp "$tmp/out" <(echo to stderr; cat "$tmp/random")
check 'a disk is found by its serial, and keeps what is written' \
	is "$(head -c 7 "$tmp/image") $(cat "$tmp/share/disk")" 'written written'
check 'the host is not written to' gone "$tmp/mark" /etc/repagent-vm-mark
check 'nothing is left on the host' gone build/vm/tmp/$pid

run -k 6.12 -- bash -c 'uname -r; echo "WARNING: this is a test" > /dev/kmsg'
check 'the other kernel boots' grep -q '^6\.12\.' "$tmp/out"
check 'a warning of the kernel fails the run' is $status 99
check 'and is shown' grep -q 'WARNING: this is a test' "$tmp/log"

run --icount -- bash -c 'nproc; tests/vm/power-cut 7'
check 'icount: one processor' is "$(cat "$tmp/out")" 1
check 'a power cut ends the VM with its status' is $status 7

run -k 6.12 -- bash -c 'echo before; echo c > /proc/sysrq-trigger; sleep 1000'
check 'a panic ends the VM' is $status 99
check 'output from before a panic is there' is "$(cat "$tmp/out")" before

oops='Oops: int3: 0000 [#1] PREEMPT SMP NOPTI' code='Code: 55 53'
{ echo "$oops"; echo "$code 66 <90> e8"; } > "$tmp/stale"
{ echo "$oops"; echo "$code cc <90> e8"; } > "$tmp/breakpoint"
{ echo 'WARNING: at a.c:1'; cat "$tmp/stale"; } > "$tmp/warning"
check 'a breakpoint that is not there is the emulator'\''s fault' tests/vm/stale-breakpoint "$tmp/stale"
check 'one that is there is not' not tests/vm/stale-breakpoint "$tmp/breakpoint"
check 'what came before counts' not tests/vm/stale-breakpoint "$tmp/warning"
# shellcheck disable=SC2016 # the dollar is meant
run -k 6.12 -- bash -c 'cat "$1" > /dev/kmsg' - "$tmp/stale"
check 'it has its own exit status' is $status "$([ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo && echo 99 || echo 95)"
# words on the command line appear on the console, and the panic comes before COMMAND
run --append 'rdinit=/none "x=Oops: int3" "y=Code: 66 <90>"' -- true
check 'a boot that the emulator broke is tried again' is "$(grep -c 'tried again' "$tmp/log")" \
	"$([ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo && echo 0 || echo 2)"

run --timeout 2 -- sleep 1000
check 'the timeout ends the VM' is $status 124

run -k 1.2 -- true
check 'a kernel that is not there is an error' is $status 98
check 'which names the remedy' grep -q tests/packages "$tmp/log"

killed=()
for signal in KILL TERM INT; do
	# a shell's background jobs ignore SIGINT, hence env
	env --default-signal=INT tests/vm/run --console "$tmp/console" -- sleep 1000 2> "$tmp/log" &
	pid=$!
	killed+=("build/vm/tmp/$pid")
	check "SIG$signal: the VM is there" wait_until qemu_of $pid
	kill -$signal $pid
	wait $pid 2> /dev/null
	check "SIG$signal: the VM goes with it" wait_until not qemu_of $pid
done
run --timeout 1 -- true
check 'what a killed run left is removed by the next' gone "${killed[@]}"

finished
