#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# I1: a write that completed is in the ring, or its range is dirty. The ring overflows, or the hub refuses, while
# several threads write. Then all that the ring holds is applied to the replica and nothing more: what still
# differs must be dirty. At last the resync of those ranges alone has to make the replica equal.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

rounds=3
[ -z "${TEST_LONG:-}" ] || rounds=40
plan $((1 + 5 * rounds + rounds / 3))

ORIGIN_KIND=scsi
setup_volume 48 ring 4
run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 100
check "the first sync makes an equal replica" same "$ORIGIN" "$HUB/v0"

consume() { # OPTION...
	run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" "$@"
}

is_track() {
	status_is "$NAME" capture=track
}

for ((round = 1; round <= rounds; round++)); do
	must_wait_for 10 status_is "$NAME" capture=stream image=clean
	max=256k
	((round % 3)) || max=512
	start_writer oracle oracle --threads 4 --seed $((SEED + round)) --max $max --rate 1500 \
		--seconds 60 "$DEV"
	why=ring-full gaps=0
	if ((round % 3 != 2)); then
		# Nobody consumes: the ring fills by itself, in every third round with its places and not its payload.
		must_wait_for 30 is_track
		[ $max != 512 ] || check "round $round: the ring had no place left, but room for payload" \
			test "${ST[used]}" -lt $((ST[size] * 3 / 4))
	else
		why=paused
		consume --hub paused --drain
		gaps=$(found gap)
		must_wait_for 10 is_track
	fi
	check "round $round: capture stops: $why" status_is "$NAME" reason=$why
	nap 0.3
	end_writer oracle TERM || die "a write failed"

	consume --no-connect --drain
	check "round $round: what the ring had is a good stream with a GAP" \
		test $? -eq 0 -a $((gaps + $(found gap))) -eq 1
	devcmp "$ORIGIN" "$HUB/v0" > "$TMP/cmp" 2> /dev/null
	different=$(value "$TMP/cmp" different_sectors) dirty=$(status_field "$NAME" dirty)
	note "$different sectors differ, $dirty are dirty"
	check "round $round: what differs, $different sectors, may all be dirty" \
		test "$different" -gt 0 -a "$different" -le "$dirty"

	consume --stop-after-idle 100
	status=$?
	check "round $round: the resync reads what is dirty and no more" \
		test $status -eq 0 -a "$(found resync_bytes)" -eq $((dirty * 512))
	check "round $round: then the replica is equal" same "$ORIGIN" "$HUB/v0"
done
ktap_finished
