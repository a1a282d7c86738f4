#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bad messages: each is refused, the kernel's log names the word that is wrong and what was expected, and nothing
# comes of it.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 30
setup_volume 8 ring 2
begin_cases
bad() { # WORD EXPECTED WORDS...: of the message
	refuse "'${*:3}'" "$1" "$2" dm message "$NAME" 0 "${@:3}"
}

bad '"early"' 'expected one that streams' checkpoint early
run_ringcheck --replica "v0=$HUB/v0" --state "$TMP/state" --stop-after-idle 100 || die "the first sync is no good stream"
wait_synced 10 "$NAME"
before=${ST[*]}

label=$(printf 'x%.0s' {1..64})
bad 'Empty message' 'Empty message' ''
unknown='expected checkpoint <label>, or resync'
bad '"frobnicate"' "$unknown" frobnicate
bad '"help"' "$unknown" help
bad '"?"' "$unknown" '?'
bad '"pause"' "$unknown" pause
bad '"resync-now"' "$unknown" resync-now
bad '"checkpoint=a"' "$unknown" checkpoint=a
bad '"checkpoints"' "$unknown" checkpoints a
bad '"check"' "$unknown" check a
bad '"verify"' "$unknown" verify 0 8
bad '"0"' "$unknown" 0
bad "\"$label$label\"" "$unknown" "$label$label"
bad '"now"' 'expected none after resync' resync now
bad '"now"' 'expected none after resync' resync now please
bad '"v0"' 'expected none after resync' RESYNC v0
bad 'message checkpoint' 'expected a word more, the label' checkpoint
bad 'message checkpoint' 'expected a word more, the label' checkpoint ''
bad '"b"' 'expected a label without blanks' checkpoint a b
bad '"b"' 'expected a label without blanks' checkpoint a b c
ascii='expected a label of 1 to 63 printable ASCII characters'
bad "\"$label\"" "$ascii" checkpoint "$label"
bad "\"$label$label$label\"" "$ascii" checkpoint "$label$label$label"
bad 'message checkpoint: "caf' "$ascii" checkpoint $'caf\xe9'
bad 'message checkpoint: "caf' "$ascii" checkpoint $'caf\xc3\xa9'
bad 'message checkpoint: "bell' "$ascii" checkpoint $'bell\a'
bad 'message checkpoint: "del' "$ascii" checkpoint $'del\x7f'
bad '@resync' 'Unsupported message sent to DM core' @resync
# words of dmsetup's own: the target
refuse "a message for a sector beyond the end" 'outside device' 'sector outside device' \
	dm message "$NAME" 16384 resync

check_cases
wait_synced 10 "$NAME"
check "nothing came of them: no record, no resync" test "$before" = "${ST[*]}"
rm "$TMP/state"
check "a good one is still accepted" dm message "$NAME" 0 checkpoint good
ktap_finished
