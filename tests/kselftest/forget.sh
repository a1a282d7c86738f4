#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A group that lingers is listed in /sys/class/repagent, and goes with its records when its name or its incarnation is
# written to its attribute `forget`: not while a device is one of its volumes, nor while a process has it open, nor for
# another word. The log says why. Then the name is free.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

rounds=5
[ -z "${TEST_LONG:-}" ] || rounds=200
plan 29
sys=/sys/class/repagent/$GROUP
attribute() { # NAME VALUE
	[ "$(< "$sys/$1")" = "$2" ] && return
	note "$1: $(< "$sys/$1")"
	return 1
}
forget() { # WORD
	log_mark
	{ printf %s "$1" > "$sys/forget"; } 2> "$TMP/forget.err"
}
refused() { # ERROR WORD
	! forget "$2" && grep -q "$1" "$TMP/forget.err"
}
log_says() { # TEXT
	kernel_log | grep -qF "$1" && return
	note "$(kernel_log)"
	return 1
}
is_gone() {
	[ ! -e "$sys" ] && [ ! -e "/dev/repagent/$GROUP" ]
}
create() {
	dm create "$NAME" --table "$(repagent_table "$ORIGIN" "$GROUP" v0 ring 2)" || die "cannot create it again"
	dm mknodes "$NAME"
}
sync_and_write() {
	run_ringcheck --replica "v0=$HUB/v0" --stop-after-idle 100 || die "the first sync is no good stream"
	wait_synced 10 "$NAME"
	run_writer oracle oracle --threads 1 --ops 20 --seed "$SEED" --max 16k "$DEV" || die "a write failed"
}

setup_volume 8 ring 2
sync_and_write
read_status "$NAME"
check "the group is listed: its volumes" attribute volumes "v0 active"
check "... its state" attribute state "stream none"
check "... its ring" attribute ring "${ST[used]}/${ST[size]} ${ST[last]} ${ST[acked]}"
check "... its incarnation, as a checkpoint tells it" attribute incarnation \
	"$(dm message "$NAME" 0 checkpoint here | cut -d' ' -f1)"
check "forget can only be written, and only by root" test "$(stat -c %a "$sys/forget")" = 200
check "forget is refused while there is a device" refused 'Device or resource busy' "$GROUP"
check "... and the log names it" log_says "forget: group $GROUP is in use: $(dmsetup info -c --noheadings \
	-o major,minor "$NAME" | tr -d ' ') is its volume v0; remove that device first"
check "... which still works" attribute state "stream none"

dm remove "$NAME"
ring=$(< "$sys/ring")
check "without its device the group lingers" attribute volumes "v0 lingering"
check "forget takes the group's name and no other" refused 'Invalid argument' other
check "... and the log says so" log_says "forget \"other\": expected the group's name, $GROUP, or its incarnation"
check "... nor a part of it" refused 'Invalid argument' "${GROUP%?}"
check "... nor more" refused 'Invalid argument' "$GROUP $GROUP"
check "... nor nothing" refused 'Invalid argument' $'\n'
start_ringcheck --no-connect --ack never
check "forget is refused while a process has the group open" refused 'Device or resource busy' "$GROUP"
check "... and the log names it" log_says "process $RINGCHECK (ringcheck) has it open; stop that first"
stop_ringcheck
check "all that did nothing: the records are still there" attribute ring "$ring"
read -r _ last acked <<< "$ring"
check "... $((last - acked)) of them" test "$last" -gt $((acked + 20))

# A table that was loaded and never resumed is a target as well.
dm create "$PREFIX-loaded" --notable
defer dm remove "$PREFIX-loaded"
dm load "$PREFIX-loaded" --table "$(repagent_table "$ORIGIN" "$GROUP" v0)" || die "cannot load a table"
check "a loaded table is told from an active one" attribute volumes "v0 loaded"
check "forget is refused while there is one" refused 'Device or resource busy' "$GROUP"
dm clear "$PREFIX-loaded"

check "the group's name makes it go" forget "$GROUP"
check "... and the log says what is lost" log_says "group $GROUP goes, with $((last - acked)) records that were not acknowledged"
check "nothing is left of it" is_gone
create
check "a new group of the name begins anew" status_is "$NAME" capture=init last=0 dirty=$((8 * 2048))
sync_and_write
dm remove "$NAME"
check "the incarnation, with its newline, makes it go too" forget "$(< "$sys/incarnation")"$'\n'
check "nothing is left of it" is_gone

# Everything at once: two who forget, one who reads all attributes, one who acknowledges all, one who comes back.
forgetter() {
	while [ -e "$sys" ]; do
		{ echo "$GROUP" > "$sys/forget"; } 2> /dev/null && echo "$GROUP" >> "$TMP/forgotten"
	done
}
reader() {
	while [ -e "$sys" ]; do
		for file in state incarnation ring volumes consumer; do
			{ read -r < "$sys/$file"; } 2> /dev/null
		done
	done
}
: > "$TMP/forgotten"
for ((round = 0; round < rounds; round++)); do
	create
	sync_and_write
	dm remove "$NAME"
	forgetter & one=$!
	forgetter & two=$!
	reader & three=$!
	ringcheck --no-connect --drain "$GROUP" > "$TMP/drain.out" 2>&1 & four=$!
	for pid in $one $two $three $four; do
		defer end_process "$pid"
	done
	must_wait_for 20 is_gone
	wait $one $two $three $four
done
note "$(wc -l < "$TMP/forgotten") of $rounds were forgotten, the others acknowledged"
check "in $rounds rounds with all at once each group goes" is_gone
check "... and is forgotten once at most" test "$(wc -l < "$TMP/forgotten")" -le "$rounds" -a "$(wc -l < "$TMP/forgotten")" -gt 0
check "the module can be unloaded at once" rmmod dm_repagent_mod
ktap_finished
