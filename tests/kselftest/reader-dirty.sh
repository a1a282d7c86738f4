#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The reader's contexts through other people's programs: nbdinfo and QEMU list as dirty exactly what the kernel has; qemu-img
# and qemu-io read the volume as it is; a volume that shrinks while its status is asked for does not hold the reader up.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 15
for program in nbdinfo qemu-img qemu-io nbdvolume; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
MIB=24 CONTEXT=qemu:dirty-bitmap:repagent
setup_volume $MIB ring 2
dd if=/dev/urandom of="$DEV" bs=1M count=$MIB oflag=direct status=none
start_reader
QEMU="driver=nbd,server.type=unix,server.path=$READER_SOCKET,export=$GROUP/v0"

# All as lines "<first sector> <sectors>", neighbours joined.
join() {
	awk 'n && $1 == at + n { n += $2; next } n { print at, n } { at = $1; n = $2 } END { if (n) print at, n }'
}
by_nbdinfo() {
	nbdinfo --map="$CONTEXT" "$(reader_uri "$GROUP/v0")" | awk '$3 % 2 { print $1 / 512, $2 / 512 }' | join
}
by_qemu() { # to which what is dirty looks like holes
	qemu-img map --output=json --image-opts "$QEMU,x-dirty-bitmap=$CONTEXT" |
		sed -n 's/.*"start": \([0-9]*\), "length": \([0-9]*\),.*"data": false.*/\1 \2/p' |
		awk '{ print $1 / 512, $2 / 512 }' | join
}
by_kernel() {
	dirtyranges "$GROUP" v0 | join
}
agree() { # FUNCTION
	by_kernel > "$TMP/kernel"
	"$1" > "$TMP/other"
	note "$(wc -l < "$TMP/kernel") ranges"
	diff "$TMP/kernel" "$TMP/other"
}
both_agree() { # WHAT
	check "$1: nbdinfo lists what the kernel has" agree by_nbdinfo
	check "$1: QEMU lists what the kernel has" agree by_qemu
}

both_agree "a new volume"
run_ringcheck --stop-after-idle 200 > "$TMP/out" || die "no sync: $(tail -n 3 "$TMP/out")"
both_agree "a clean one"
check "... which is nothing" test ! -s "$TMP/kernel"
ringcheck --hub paused --drain "$GROUP" > /dev/null 2>&1
must_wait_for 10 status_is "$NAME" capture=track
run_writer writes oracle --threads 1 --seed "$SEED" --ops 150 --max 16k "$DEV" || die "the writes failed"
both_agree "one that was written to"
check "... in more ranges than one answer of the kernel holds" test "$(wc -l < "$TMP/kernel")" -gt 60

check "qemu-img converts it" qemu-img convert --image-opts "$QEMU" -O raw "$TMP/copy"
check "... as it is" same "$DEV" "$TMP/copy"
printf '\x5a%.0s' {1..65536} > "$TMP/pattern"
dd if="$TMP/pattern" of="$DEV" bs=64k seek=80 oflag=direct status=none
qemu_reads() {
	qemu-io -r --image-opts "$QEMU" -c 'read -P 0x5a 5M 64k' -c 'aio_read -P 0x5a 5152k 4k' -c aio_flush > "$TMP/out" 2>&1
	! grep -i 'fail\|error' "$TMP/out"
}
check "qemu-io reads what was written" qemu_reads

# Its status is asked for all the time while it shrinks: beyond the new end the kernel has nothing to tell, and no end of
# telling either.
nbdvolume --context "$CONTEXT" "$(reader_uri "$GROUP/v0")" > "$TMP/asked" 2>&1 &
asker=$!
defer end_process $asker
must_wait_for 20 grep -q ready "$TMP/asked"
dm reload "$NAME" --table "0 16384 repagent $ORIGIN $GROUP v0 2 ring 2" || die "reload"
dm suspend "$NAME" || die "suspend"
dm resume "$NAME" || die "resume"
wait $asker
check "a client that asks what is dirty while the volume shrinks gets answers to the end" test $? -eq 0
note "$(tr '\n' ' ' < "$TMP/asked")"
check "... errors, where there is nothing any more" test "$(value "$TMP/asked" refusals)" -gt 0
serves() {
	timeout 10 nbdinfo --size "$(reader_uri "$GROUP/v0")" 2> /dev/null | grep -qx 8388608
}
check "... and others are served" wait_for 10 serves
check "the reader stops when asked" stop_reader
ktap_finished
