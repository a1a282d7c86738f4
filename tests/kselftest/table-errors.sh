#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bad table lines: each is refused, and the kernel's log says in words which word is wrong.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 30
make_origin ORIGIN loop 16
size=$(sectors_of "$ORIGIN")
modprobe dm-repagent || die "no module"

# The tables are tried first, with a mark in the log before each; then the log is read once.
declare -a whats=() patterns=() accepted=()
refuse() { # WHAT PATTERN TABLE
	echo "$PREFIX mark ${#whats[@]}" > /dev/kmsg
	accepted+=('')
	if dm create "$PREFIX-bad" --table "$3" 2> /dev/null; then
		accepted[-1]=yes
		dm remove "$PREFIX-bad"
	fi
	whats+=("$1")
	patterns+=("$2")
}
bad() { # PATTERN WORDS...: after "repagent"
	local pattern=$1
	shift
	refuse "refused: '$*'" "$pattern" "0 $size repagent $*"
}
is_refused() { # NUMBER: and why is in the log
	local log=${LOG#*"$PREFIX mark $1"$'\n'}
	log=${log%%"$PREFIX mark $(($1 + 1))"$'\n'*}
	[ -z "${accepted[$1]}" ] || { note "it was accepted"; return 1; }
	grep -qE "${patterns[$1]}" <<< "$log" && return
	note "the log has nothing like '${patterns[$1]}' but:"
	while IFS= read -r log; do
		note "$log"
	done <<< "$log"
	return 1
}

bad 'origin device.*group.*volume'
bad 'origin device.*group.*volume' "$ORIGIN"
bad 'origin device.*group.*volume' "$ORIGIN" g
bad 'origin' /dev/nonesuch g v
bad ': group: expected' "$ORIGIN" .g v
bad ': group: expected' "$ORIGIN" g/h v
bad ': group: expected' "$ORIGIN" 12345678901234567890123456789012 v
bad ': volume: expected' "$ORIGIN" g -v
bad ': volume: expected' "$ORIGIN" g 'v*'
bad 'number' "$ORIGIN" g v two
bad 'number|feature' "$ORIGIN" g v 2 ring
bad 'feature' "$ORIGIN" g v 1 ring
bad 'number|feature' "$ORIGIN" g v 2 ring 4 bounce on
bad 'number|feature' "$ORIGIN" g v 1000 ring 4
bad 'feature.*color|color' "$ORIGIN" g v 2 color blue
bad ': ring: expected' "$ORIGIN" g v 2 ring 0
bad ': ring: expected' "$ORIGIN" g v 2 ring -1
bad ': ring: expected' "$ORIGIN" g v 2 ring x
bad ': ring: expected' "$ORIGIN" g v 2 ring 99999999999999999999
bad 'ring_total_mib' "$ORIGIN" g v 2 ring 16384
bad ': region: expected' "$ORIGIN" g v 2 region 1000
bad ': region: expected' "$ORIGIN" g v 2 region 0
bad ': discard: expected' "$ORIGIN" g v 2 discard maybe
bad ': bounce: expected' "$ORIGIN" g v 2 bounce 1
bad 'meta.*not supported yet' "$ORIGIN" g v 2 meta "$ORIGIN"
refuse "refused: a table that does not begin at 0" 'must appear alone' \
	"0 8 zero
8 $((size - 8)) repagent $ORIGIN g v"
refuse "refused: a table longer than the origin" 'origin|length' \
	"0 $((size + 8)) repagent $ORIGIN g v"

create_volume "$PREFIX-v0" "$ORIGIN" "$GROUP" v0 ring 4
make_origin ORIGIN2 loop 16
refuse "refused: a second device for a volume" 'volume' "0 $size repagent $ORIGIN2 $GROUP v0"
refuse "refused: another ring size in the same group" 'ring' \
	"0 $size repagent $ORIGIN2 $GROUP v1 2 ring 8"
echo 8 > /sys/module/dm_repagent_mod/parameters/ring_total_mib
refuse "refused: more rings than ring_total_mib" 'ring_total_mib' \
	"0 $size repagent $ORIGIN2 other v1 2 ring 5"
echo 0 > /sys/module/dm_repagent_mod/parameters/ring_total_mib
LOG=$(kernel_log)
for number in "${!whats[@]}"; do
	check "${whats[number]}" is_refused "$number"
done
ktap_finished
