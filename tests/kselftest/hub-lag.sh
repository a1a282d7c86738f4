#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A line of 32 Mbit/s with 20 ms each way, half of it used, then with one packet in a hundred lost: the oldest write that the
# hub lacks is young.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 7
samples=100
[ -z "${TEST_LONG:-}" ] || samples=1000
for program in rephub repctl nbdinfo tc python3; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
modprobe sch_netem || ktap_skip_all "no netem"
ip link set lo up
# Packets as they are on a line, so that as many are lost.
ip link set lo mtu 1500 gso_max_size 1500 gso_max_segs 1 || die "lo"
setup_volume 32 ring 32
HUB=$TMP/rephub

impair() { # [LOSS]
	tc qdisc replace dev lo root netem delay 20ms rate 32mbit limit 2000 "$@"
}
hub_is_there() {
	nbdinfo --list nbd://127.0.0.1:10888/ > /dev/null 2>&1
}
look() { # what the daemon says of lag and rate: seconds, bytes a second
	repctl --json status "$GROUP" | python3 -c 'import json, sys
s = json.load(sys.stdin)
s = s[0] if isinstance(s, list) else s
print(s["lag"]["seconds"], s["rate"]["out-bytes"])'
}
sample() { # WHAT: p99 of the age and the mean rate are in $p99 (ms) and $rate (kB/s)
	local i
	: > "$TMP/samples"
	for ((i = 0; i < samples; i++)); do
		look >> "$TMP/samples" || die "no status"
		nap 0.1
	done
	read -r p99 rate < <(python3 -c 'import sys
s = [tuple(map(float, l.split())) for l in open(sys.argv[1])]
age = sorted(a for a, _ in s)
print(round(age[int(len(age) * 0.99)] * 1000), round(sum(r for _, r in s) / len(s) / 1000))' "$TMP/samples")
	note "$1: p99 of the age of the oldest write that the hub lacks: $p99 ms, at $rate kB/s, of $samples looks"
}

rephub --dir "$HUB" --listen 127.0.0.1:10888 >> "$TMP/hub.log" 2>&1 &
HUB_PIDS=($!)
defer kill_hub
must_wait_for 20 hub_is_there
HUB_URI=rephub://127.0.0.1:10888
start_daemon --state-dir "$TMP/state"
check "the first sync ends" wait_for 60 is_synced "$NAME"
impair || die "no netem"
defer tc qdisc del dev lo root
# Each of 1 to 32 sectors, at random: half of the line.
start_writer oracle oracle --threads 2 --seed "$SEED" --rate 230 --max 16k --mix write=1 --seconds 600 "$DEV"
nap 3
sample "20 ms"
check "half of the line is used" test "$rate" -gt 1500 -a "$rate" -lt 2500
check "20 ms: the oldest is at most 2 s old" test "$p99" -le 2000
impair loss 1% || die "no netem"
sample "20 ms, 1 % lost"
check "half of the line is used, 1 % lost" test "$rate" -gt 1500 -a "$rate" -lt 2500
check "20 ms, 1 % lost: the oldest is at most 2 s old" test "$p99" -le 2000
end_writer oracle TERM
check "no write failed" test $? -eq 0
check "nothing was ever dropped" status_is "$NAME" capture=stream
ktap_finished
