#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A record is seen before it is filled: a consumer that takes each record in the moment it is published, and four
# writers with large payloads whose writes the origin delays, so that each record is busy for long. What it took is
# the disk, and what it read a second time had not changed; nothing is ready whose write is still on its way.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 6
make_origin BACKING loop 16
create_dm "$PREFIX-origin" "0 32768 delay $BACKING 0 0 $BACKING 0 3"
ORIGIN=$(dev "$PREFIX-origin")
NAME=$PREFIX-v0 DEV=$(dev "$PREFIX-v0")
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 8
hub_image v0 16
start_ringcheck --replica "v0=$HUB/v0" --sample 1 --ack every:1
must_wait_for 30 status_is "$NAME" capture=stream image=clean
start_writer oracle oracle --threads 4 --seed "$SEED" --ops 600 --min 64k --max 256k --mix write=80,fua=20 "$DEV"
# Records that are reserved and not yet committed: the consumer has to stop before them.
busy=0
while is_alive "${WRITERS[oracle]}"; do
	read_status "$NAME" || die "the device is gone"
	[ "${ST[last]}" -le "${ST[acked]}" ] || ((++busy))
	nap 0.02
done
end_writer oracle
check "no write failed" test $? -eq 0
check "records were seen busy, $busy times" test $busy -ge 5
finish_ringcheck "$NAME"
check "no record was seen too early, or changed" test $? -eq 0 -a "$(found errors)" -eq 0
check "... of $(found write) writes" test "$(found write)" -ge 600
check "... each read twice" test "$(found rechecked)" -ge 600
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
ktap_finished
