#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fio writes blocks with checksums to the device and reads them back; then it verifies the same blocks on the
# replica, through the hub.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

jobs=(../fio/*.fio)
[ -e "${jobs[0]}" ] || jobs=(fio/*.fio)
[ -n "$(command -v fio)" ] || ktap_skip_all "no fio"
plan $((2 * ${#jobs[@]} + 2))
setup_volume 48
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"
export FIO_SIZE=6m FIO_SEED=$SEED FIO_FILE=$DEV
[ -z "${TEST_LONG:-}" ] || FIO_SIZE=40m

run_fio() { # FILE [OPTION...]
	fio --output="$TMP/fio.out" "$@" > "$TMP/fio.err" 2>&1 && ! grep -q 'verify:.*bad\|err= *[1-9]' "$TMP/fio.out" &&
		return
	while IFS= read -r line; do
		note "$line"
	done < <(cat "$TMP/fio.err" "$TMP/fio.out" | head -n 20)
	return 1
}
# The job as it is, and again, reading only, from the hub.
for job in "${jobs[@]}"; do
	name=${job##*/}
	check "${name%.fio}: written and verified on the device" run_fio "$job"
	wait_synced 60 "$NAME"
	if fio --enghelp 2> /dev/null | grep -qw nbd; then
		sed -E "s|^ioengine=.*|ioengine=nbd\nuri=${HUB_URI//%v/v0}|; /^(filename|direct|end_fsync)=/d" \
			"$job" > "$TMP/replica.fio"
		check "${name%.fio}: verified on the replica" run_fio "$TMP/replica.fio" --verify_only=1
	else
		ktap_test_skip "${name%.fio}: verified on the replica" "fio has no engine nbd"
	fi
done
check "the replica is the disk" same "$DEV" "$HUB/v0"
# One flipped byte: what says "verified" has to say "bad" then.
printf '\xff' | dd of="$HUB/v0" bs=1 seek=$((1 << 20 | 2000)) conv=notrunc status=none
check_not "a flipped byte on the replica is found" fio --output="$TMP/fio.out" --verify_only=1 "$TMP/replica.fio"
ktap_finished
