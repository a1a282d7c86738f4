#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A volume that grows to 3 TiB, on a file with holes, with the daemon. All that is new is dirty: its resync would take
# hours, and is not awaited. Writes across the border of 2 TiB and at the end reach the disk and the replica meanwhile,
# in their place, and nothing where the lower 32 bits of their sectors would be.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

border=$((2 << 20)) end=$((3 << 20)) # MiB
plan 10
make_origin ORIGIN loop $end
NAME=$PREFIX-v0
create_dm "$NAME" "0 16384 repagent $ORIGIN $GROUP v0 2 ring 8"
DEV=$(dev "$NAME")
hub_image v0 $end
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"
kill -STOP "$DAEMON"
new=$((end * 2048 - 16384))
dm load "$NAME" --table "0 $((end * 2048)) repagent $ORIGIN $GROUP v0" || die "it cannot grow"
dm resume "$NAME" || die "it cannot grow"
read_status "$NAME"
# What the resync has read meanwhile: a quarter of the ring at most.
check "it grows to 3 TiB: all that is new is dirty" test "${ST[dirty]}" -le $new -a "${ST[dirty]}" -ge $((new - 4096))
kill -CONT "$DAEMON"

for at in $((border - 2)) $((end - 4)); do
	run_writer "at-$at" oracle --threads 2 --ops 150 --seed $((SEED + at)) --offset "${at}M" --range 4M --max 64k "$DEV"
	check "no write at $at MiB fails" test $? -eq 0
done
read_status "$NAME"
last=${ST[last]}
check "capture was not left" test "${ST[capture]} ${ST[image]}" = "stream resync"
check "the hub has it all" wait_for 60 status_past "$NAME" acked "$last"

part() { # FILE MIB: 4 MiB of it, from there
	local direct=''
	[ ! -b "$1" ] || direct=iflag=direct
	dd if="$1" bs=1M skip="$2" count=4 $direct status=none
}
is_zero() { # FILE MIB
	part "$1" "$2" | cmp -sn $((4 << 20)) - /dev/zero
}
for at in $((border - 2)) $((end - 4)); do
	check_not "at $at MiB there is something on the disk" is_zero "$DEV" $at
	check "... and the same at the replica" cmp <(part "$DEV" $at) <(part "$HUB/v0" $at)
done
lower=0
for file in "$ORIGIN" "$HUB/v0"; do
	for at in 0 $((end - 4 - border)); do
		is_zero "$file" $at || { note "$file has something at $at MiB"; ((++lower)); }
	done
done
check "2 TiB below there is nothing" test $lower -eq 0
ktap_finished
