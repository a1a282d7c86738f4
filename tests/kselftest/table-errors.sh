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

refused() { # PATTERN TABLE
	log_mark
	if dm create "$PREFIX-bad" --table "$2" 2> /dev/null; then
		note "accepted: $2"
		dm remove "$PREFIX-bad"
		return 1
	fi
	kernel_log > "$TMP/log"
	grep -qE "$1" "$TMP/log" && return
	note "the log has nothing like '$1':"
	note "$(tail -n 2 "$TMP/log")"
	return 1
}
bad() { # PATTERN WORDS...: after "repagent"
	local pattern=$1
	shift
	check "refused: '$*'" refused "$pattern" "0 $size repagent $*"
}

bad 'origin device.*group.*volume'
bad 'origin device.*group.*volume' "$ORIGIN"
bad 'origin device.*group.*volume' "$ORIGIN" g
bad 'origin' /dev/nonesuch g v
bad 'group' "$ORIGIN" .g v
bad 'group' "$ORIGIN" g/h v
bad 'group' "$ORIGIN" 12345678901234567890123456789012 v
bad 'volume' "$ORIGIN" g -v
bad 'volume' "$ORIGIN" g 'v*'
bad 'number' "$ORIGIN" g v two
bad 'number|feature' "$ORIGIN" g v 2 ring
bad 'feature' "$ORIGIN" g v 1 ring
bad 'number|feature' "$ORIGIN" g v 2 ring 4 bounce on
bad 'number|feature' "$ORIGIN" g v 1000 ring 4
bad 'feature.*color|color' "$ORIGIN" g v 2 color blue
bad 'ring' "$ORIGIN" g v 2 ring 0
bad 'ring' "$ORIGIN" g v 2 ring -1
bad 'ring' "$ORIGIN" g v 2 ring x
bad 'ring' "$ORIGIN" g v 2 ring 99999999999999999999
bad 'ring' "$ORIGIN" g v 2 ring 16384
bad 'region' "$ORIGIN" g v 2 region 1000
bad 'region' "$ORIGIN" g v 2 region 0
bad 'discard' "$ORIGIN" g v 2 discard maybe
bad 'bounce' "$ORIGIN" g v 2 bounce 1
bad 'meta.*not supported yet' "$ORIGIN" g v 2 meta "$ORIGIN"
check "refused: a table that does not begin at 0" refused '0' \
	"0 8 zero
8 $((size - 8)) repagent $ORIGIN g v"
check "refused: a table longer than the origin" refused 'origin|length' \
	"0 $((size + 8)) repagent $ORIGIN g v"

create_volume "$PREFIX-v0" "$ORIGIN" "$GROUP" v0 ring 4
make_origin ORIGIN2 loop 16
check "refused: a second device for a volume" refused 'volume' "0 $size repagent $ORIGIN2 $GROUP v0"
check "refused: another ring size in the same group" refused 'ring' \
	"0 $size repagent $ORIGIN2 $GROUP v1 2 ring 8"
echo 8 > /sys/module/dm_repagent_mod/parameters/ring_total_mib
check "refused: more rings than ring_total_mib" refused 'ring_total_mib' \
	"0 $size repagent $ORIGIN2 other v1 2 ring 5"
echo 0 > /sys/module/dm_repagent_mod/parameters/ring_total_mib
ktap_finished
