#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The hub that pulls, through the reader: its copy of an idle volume is the volume; that of a volume under load too, once the load
# has ended, although the reader was killed in the middle; and what is dirty is listed as the kernel has it.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 17
[ -n "$(command -v pullhub)" ] || ktap_skip_all "pullhub is not built"
MIB=16
setup_volume $MIB ring 16
dd if=/dev/urandom of="$DEV" bs=1M count=$((MIB / 2)) seek=4 oflag=direct status=none
start_reader
COPY=$TMP/copy
start_pull() { # [OPTION]...
	start_writer pull pullhub --interval 100 "$@" "$(reader_uri "$GROUP/v0")" "$COPY"
}
end_pull() {
	local status line
	wait "${WRITERS[pull]}"
	status=$?
	while IFS= read -r line; do
		note "pullhub: $line"
	done < <(cat "$TMP/pull.err"; grep -v '^changed\|^dirty' "$TMP/pull.out" | tail -n 12)
	return "$status"
}
pull() { # [OPTION]...
	start_pull "$@"
	end_pull
}
told() { # NUMBER FIELD: of a pass
	sed -n "s/^pass $1: .*\<$2 \([0-9]*\).*/\1/p" "$TMP/pull.out"
}
passes_are() { # N: that many are over
	[ "$(grep -c '^pass ' "$TMP/pull.out")" -ge "$1" ]
}
listed() { # "<first sector> <sectors>" of what pass 1 found dirty
	sed -n 's/^dirty 1 //p' "$TMP/pull.out" | while read -r at bytes; do
		echo "$((at / 512)) $((bytes / 512))"
	done
}
lists_what_is_dirty() {
	listed > "$TMP/listed"
	dirtyranges "$GROUP" v0 > "$TMP/dirty"
	note "$(wc -l < "$TMP/dirty") ranges, $(status_field "$NAME" dirty) sectors are dirty"
	diff "$TMP/dirty" "$TMP/listed"
}

check "an idle volume is copied" pull --list
check "... as it is" same "$DEV" "$COPY"
check "... in two passes" test "$(value "$TMP/pull.out" passes)" = 2
check "... and all of it is dirty, for it was never replicated" lists_what_is_dirty

# It streams, to a consumer that keeps up: what is written is never dirty, so that only its content tells that it changed.
ringcheck --stop-after-idle 200 "$GROUP" > /dev/null 2>&1
status_is "$NAME" capture=stream image=clean || die "it does not stream: $(dm status "$NAME")"
start_ringcheck
start_writer load oracle --threads 2 --seed "$SEED" --rate 150 --max 64k --mix write=65,fua=10,fsync=2 "$DEV"
start_pull --passes 1000
must_wait_for 30 passes_are 3
kill -KILL "$READER"
wait "$READER" 2> /dev/null
lost() {
	grep -q 'the connection is lost' "$TMP/pull.err"
}
check "a reader that is killed is missed" wait_for 20 lost
restart_reader
seen=$(grep -c '^pass ' "$TMP/pull.out")
check "... and when it is back the passes go on" wait_for 30 passes_are $((seen + 2))
last=$(grep -c '^pass ' "$TMP/pull.out")
end_writer load TERM
check "the load had no error" test $? -eq 0
check "when the load has ended the copy is known to be equal" end_pull
check "... and is the volume" same "$DEV" "$COPY"
check "... with what changed in each pass meanwhile counted" test "$(told "$last" changed)" -gt 0
check "... though nothing of it was dirty" test "$(told "$last" dirty)" = 0 -a "$(told "$last" unmarked)" = "$(told "$last" changed)"
check "... and one reconnect at least" test "$(value "$TMP/pull.out" reconnects)" -ge 1
check "the stream was right all the time" finish_ringcheck "$NAME"

# It tracks: what is written is dirty, and listed so. That it was copied since changes nothing of that.
ringcheck --hub paused --drain "$GROUP" > /dev/null 2>&1
wait_for 10 status_is "$NAME" capture=track || die "it does not track"
run_writer more oracle --threads 1 --seed "$SEED" --ops 80 --max 16k "$DEV" || die "the writes failed"
check "what is written while the group tracks is copied" pull --list
check "... as it is" same "$DEV" "$COPY"
check "... and listed as dirty, as the kernel has it" lists_what_is_dirty
check "... which is more than one answer of the kernel holds" test "$(wc -l < "$TMP/dirty")" -gt 30
ktap_finished
