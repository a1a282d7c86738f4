#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tests/uml/test-vehicle.sh: does tests/uml/run keep its promises? Prints KTAP.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit
tmp=$(mktemp -d "$PWD/build/uml/test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# shellcheck source=tests/vm/test-lib.sh
. tests/vm/test-lib.sh

run() { # ARGUMENT...: output in $tmp/out, messages in $tmp/log, exit status in $status
	tests/uml/run --console "$tmp/console" "$@" > "$tmp/out" 2> "$tmp/log" &
	pid=$!
	wait $pid
	status=$?
}
processes_of() { # PID: that run on the kernel of that run
	pgrep -f "$PWD/build/uml/linux .*$PWD/build/uml/tmp/$1 " > /dev/null
}
kernels_own() { # all processes of the kernel's, those of what runs on it too, whoever their parent is
	find /proc -maxdepth 2 -name exe -lname "$PWD/build/uml/linux*" 2> /dev/null
	pgrep -f uml-userspace
}
no_process() {
	[ -z "$(kernels_own)" ] || { kernels_own >> "$tmp/log"; return 1; }
}

echo 'KTAP version 1'
head -c 5000000 /dev/urandom > "$tmp/random"
cat > "$tmp/script" <<'TXT'
set -e
{ uname -r; pwd; echo "$1"; echo "$VARIABLE"; date +%s; nproc; } > /run/seen
echo gone > "$3/mark"
echo gone > /etc/repagent-vm-mark
echo >&2 to stderr
sleep 1000 &
cat /run/seen "$2"
exit 42
TXT
# shellcheck disable=SC2016 # the dollar is meant
run -e 'VARIABLE=a "b"  $c' -- bash "$tmp/script" "d 'e'  *" "$tmp/random" "$tmp"
{ read -r first; read -r release; read -r directory; read -r argument; read -r variable; read -r seconds; read -r cpus; } < "$tmp/out"
check 'exit status is passed on' is $status 42
check 'the kernel is the one that was built' is "$release" "$(< build/uml/release)"
check 'works in the project directory' is "$directory" "$PWD"
check 'arguments arrive as they are' is "$argument" "d 'e'  *"
# shellcheck disable=SC2016 # the dollar is meant
check 'variables arrive as they are' is "$variable" 'a "b"  $c'
check 'the clock is right' [ $((EPOCHSECONDS - seconds)) -lt 60 ]
check 'there is one processor' is "$cpus" 1
check 'output is complete and unchanged, stderr too' cmp <(tail -c 5000000 "$tmp/out") "$tmp/random"
check 'stderr comes first' is "$first" 'to stderr'
check 'the host is not written to' gone "$tmp/mark" /etc/repagent-vm-mark
check 'nothing is left on the host' gone build/uml/tmp/$pid
check 'no process is left' wait_until no_process

run --virtual-time -- bash -c 'date +%s; sleep 3600; date +%s'
{ read -r begin; read -r end; } < "$tmp/out"
check 'virtual time: an hour of waiting' [ $((end - begin)) -ge 3600 ]
check '... costs none' [ $status = 0 ]
run --virtual-time -- date +%s
check '... and each run begins at the same date' is "$(cat "$tmp/out")" "$begin"

# shellcheck disable=SC2016 # the dollar is meant
run -- bash -c 'modprobe dm-repagent && cat /proc/modules'
check 'modprobe finds the module' grep -q '^dm_repagent_mod ' "$tmp/out"

run -- bash -c 'echo "WARNING: this is a test" > /dev/kmsg'
check 'a warning of the kernel fails the run' is $status 99
check 'and is shown' grep -q 'WARNING: this is a test' "$tmp/log"
# Bugs that are none of ours, and what the kernel is to say of them. A lock's order is wrong before anything hangs.
mkdir "$tmp/planted"
cp tests/uml/planted/* "$tmp/planted/"
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C build/uml/tree ARCH=um M="$tmp/planted" modules > "$tmp/log" 2>&1
check 'a module with bugs is built' [ $? = 0 ]
run -- insmod "$tmp/planted/planted.ko"
check '... does nothing if not told to' is $status 0
while IFS=: read -r bug says; do
	run -- insmod "$tmp/planted/planted.ko" bug="$bug"
	check "... bug=$bug fails the run" is $status 99
	check "... and is shown: $says" grep -q "$says" "$tmp/log"
done <<'TXT'
sleep:BUG: sleeping function called from invalid context
order:possible circular locking dependency detected
list:list_del corruption
TXT
# what is printed goes to the host by another process, which has to have had its turn
run -- bash -c 'echo before; until grep -q before /run/vm/output; do :; done; echo c > /proc/sysrq-trigger; sleep 1000'
check 'a panic ends it' is $status 99
check 'output from before a panic is there' is "$(cat "$tmp/out")" before
run --timeout 2 -- sleep 1000
check 'the timeout ends it' is $status 124

killed=()
for signal in KILL TERM INT; do
	# a shell's background jobs ignore SIGINT, hence env
	env --default-signal=INT tests/uml/run --console "$tmp/console" -- sleep 1000 2> "$tmp/log" &
	pid=$!
	killed+=("build/uml/tmp/$pid")
	check "SIG$signal: it is there" wait_until processes_of $pid
	kill -$signal $pid
	wait $pid 2> /dev/null
	check "SIG$signal: all of it goes" wait_until no_process
done
run --timeout 20 -- true
check 'what a killed run left is removed by the next' gone "${killed[@]}"
finished
