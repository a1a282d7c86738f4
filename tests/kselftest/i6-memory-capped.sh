#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I6: memory is capped. A ring of 1 MiB and a hub that is slower than the writers: the group tracks, comes back by
# itself without flapping, never takes more than its ring, and in the end the replica is the disk.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

seconds=15
[ -z "${TEST_LONG:-}" ] || seconds=300
plan 10
trace_start repagent_capture
setup_volume 48 ring 1
# All pages of disk and replica are there before, so that what is used later is used by something else.
dd if=/dev/zero of="$ORIGIN" bs=1M count=48 oflag=direct status=none
dd if=/dev/zero of="$HUB/v0" bs=1M count=48 conv=notrunc status=none
start_hub nbdkit --filter=delay -- wdelay=5ms
start_daemon
must_wait_for 90 is_synced "$NAME"

available() { # KiB
	local key value
	while read -r key value _; do
		[ "$key" != MemAvailable: ] || echo "$value"
	done < /proc/meminfo
}
before=$(available) least=$before most=0
kill -STOP "$DAEMON"
start_writer oracle oracle --threads 4 --seed "$SEED" --max 256k --mix write=60,fua=10,fsync=2 \
	--seconds $seconds "$DEV"
must_wait_for 20 status_is "$NAME" capture=track reason=ring-full
full=${ST[used]}
kill -CONT "$DAEMON"
while is_alive "${WRITERS[oracle]}"; do
	now=$(available)
	[ "$now" -ge "$least" ] || least=$now
	read_status "$NAME" || die "the device is gone"
	[ "${ST[used]}" -le "$most" ] || most=${ST[used]}
	nap 0.3
done
end_writer oracle
check "no write failed" test $? -eq 0
tracks=$(trace_count '-> track, ring-full')
note "tracked $tracks times; at most $most of ${ST[size]} sectors; memory fell by $((before - least)) KiB"
check "the ring overflowed" test "$tracks" -gt 0
check "the ring has 1 MiB" test "${ST[size]}" -eq 2048
check "with the daemon stopped it was nearly full: $full sectors" test "$full" -gt 1000 -a "$full" -le 2048
check "it was never more than full" test "$most" -le 2048
check "it does not flap" test "$tracks" -le $((5 + seconds / 16))
check "memory did not fall by more than 40 MiB" test $((before - least)) -le 40960
check "capture comes back by itself" wait_for 60 status_is "$NAME" capture=stream
check "all is resynced" wait_for 90 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
