#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Swap on a protected device, under memory pressure, with the daemon streaming to a hub: a process with four times the
# memory that it may have lives on its swap. It gets back what it wrote, nothing hangs, and in the end the replica is
# the disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

mib=144 allowed=32 turns=1
[ -z "${TEST_LONG:-}" ] || turns=4
plan 9
cgroup=/sys/fs/cgroup/$PREFIX
[ -e /sys/fs/cgroup/cgroup.controllers ] || ktap_skip_all "no second version of control groups"
echo +memory > /sys/fs/cgroup/cgroup.subtree_control || ktap_skip_all "no control group of memory"
mkdir "$cgroup" || die "no control group"
defer rmdir "$cgroup"
echo ${allowed}M > "$cgroup/memory.max"

trace_start repagent_capture
# No file system below the swap.
ORIGIN_KIND=null setup_volume $((mib + 16)) ring 32
start_hub nbdkit
start_daemon
wait_synced 60 "$NAME"
mkswap "$DEV" > "$TMP/mkswap" 2>&1 || die "mkswap: $(< "$TMP/mkswap")"
check "the protected device can be swapped to" swapon "$DEV"
defer swapoff "$DEV"
written_out() { # pages
	local key value
	while read -r key value; do
		[ "$key" != pswpout ] || echo "$value"
	done < /proc/vmstat
}
before=$(written_out) first=$(status_field "$NAME" last)

# Each page has its number and the turn in it, and is looked at in the next turn.
cat > "$TMP/swapper" <<'PYTHON'
import mmap, struct, sys
chunks, turns, run = int(sys.argv[1]) * 4, int(sys.argv[2]), 64
memory = mmap.mmap(-1, chunks * run * 4096)
def content(chunk, turn):
    return b"".join(struct.pack("QQ", page, turn) * 256 for page in range(chunk * run, (chunk + 1) * run))
for turn in range(turns + 1):
    for chunk in range(chunks):
        at, end = chunk * run * 4096, (chunk + 1) * run * 4096
        if turn and memory[at:end] != content(chunk, turn - 1):
            sys.exit("page %d, or a neighbour, is not what was written in turn %d" % (chunk * run, turn - 1))
        if turn < turns:
            memory[at:end] = content(chunk, turn)
PYTHON
swapper() {
	echo "$BASHPID" > "$cgroup/cgroup.procs" && exec timeout 2000 python3 "$TMP/swapper" $mib $turns
}
swapper > "$TMP/swapper.out" 2>&1 &
swapper=$!
defer end_process $swapper
wait $swapper
check "the process ends well, and finds in its memory what it wrote" test $? -eq 0 || note "$(< "$TMP/swapper.out")"
pages=$(($(written_out) - before))
check "$((pages / 256)) MiB were swapped out" test $pages -ge $((100 * 256))
last=$(status_field "$NAME" last)
check "they were captured, in $((last - first)) records" test "$last" -gt $((first + 100))
check "swap can be taken away again" timeout 60 swapoff "$DEV"
note "capture left $(trace_count '-> track') times"
check "the daemon lives" is_alive "$DAEMON"
check "no process was killed for lack of memory" grep -q '^oom_kill 0$' "$cgroup/memory.events"
check "all is forwarded" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
