#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A volume whose device is removed lingers until its records are acknowledged: none is lost, and a new device of
# the name takes it up again. With all acknowledged, the group goes.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 12
setup_volume 16 ring 8
consume() { # OPTION...
	run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" "$@"
}
consume --stop-after-idle 100
check "the first sync is a good stream" test $? -eq 0

write_some() {
	SEED=$((SEED + 1))
	run_writer oracle oracle --threads 2 --ops 200 --seed $SEED --max 64k "$DEV" || die "a write failed"
}
write_some
last=$(status_field "$NAME" last)
check "there are unacknowledged records" test "$last" -gt "$(status_field "$NAME" acked)"
dm remove "$NAME"
check "the group stays when its only device is removed" test -c "/dev/repagent/$GROUP"
consume --no-connect --drain --ack never
check "its records are all there" test "$(found last)" -gt "$last" -a "$(found errors)" -eq 0
check "... and the removal" test "$(found volume_remove)" -eq 1
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"
rm "$TMP/state"

# A volume of that name attaches to the lingering group.
dm create "$NAME" --table "$(repagent_table "$ORIGIN" "$GROUP" v0)" || die "cannot create it again"
dm mknodes "$NAME"
check "a new device continues the numbers" test "$(status_field "$NAME" last)" -gt "$last"
write_some
consume --stop-after-idle 100
check "old and new records are one good stream" test $? -eq 0
check "the replica is the disk again" same "$ORIGIN" "$HUB/v0"

write_some
dm remove "$NAME"
consume --no-connect --drain
check "the last records are consumed" test "$(found write)" -gt 0 -a "$(found errors)" -eq 0
check "the replica is the disk at the end" same "$ORIGIN" "$HUB/v0"
gone() {
	[ ! -e "/dev/repagent/$GROUP" ]
}
check "with all acknowledged the group is gone" wait_for 10 gone
ktap_finished
