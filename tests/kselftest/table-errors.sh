#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bad table lines: each is refused, the kernel's log names the word that is wrong and what was expected, and no
# device and no group is left over.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 67
make_origin ORIGIN loop 16
size=$(sectors_of "$ORIGIN")
modprobe dm-repagent || die "no module"

create_bad() { # TABLE
	dm create "$PREFIX-bad" --table "$1" || return 1
	dm remove "$PREFIX-bad"
	return 0
}
bad() { # WORD EXPECTED WORDS...: after "repagent"
	refuse "'${*:3}'" "$1" "$2" create_bad "0 $size repagent ${*:3}"
}
bad_feature() { # WORD EXPECTED WORDS...: after the volume
	bad "$1" "$2" "$ORIGIN" g v "${@:3}"
}
long=12345678901234567890123456789012
touch "$TMP/file"

begin_cases
# too few words
bad 'no origin device' 'expected: <origin device> <group> <volume>'
bad "no group after \"$ORIGIN\"" 'expected: <origin device> <group> <volume>' "$ORIGIN"
bad 'no volume after "g"' 'expected: <origin device> <group> <volume>' "$ORIGIN" g

# the origin
origin='origin device: expected a block device'
bad '"/dev/nonesuch"' "$origin" /dev/nonesuch g v
bad "\"$TMP/file\"" "$origin" "$TMP/file" g v
bad '"/dev/null"' "$origin" /dev/null g v
bad '"/dev"' "$origin" /dev g v
bad '"999:999"' "$origin" 999:999 g v
bad '"g"' "$origin" g v 2

# names
name='expected 1 to 31 letters, digits'
bad 'group ".g"' "group: $name" "$ORIGIN" .g v
bad 'group "-g"' "group: $name" "$ORIGIN" -g v
bad 'group "g/h"' "group: $name" "$ORIGIN" g/h v
bad 'group ".."' "group: $name" "$ORIGIN" .. v
bad "group \"$long\"" "group: $name" "$ORIGIN" $long v
bad 'volume ".v"' "volume: $name" "$ORIGIN" g .v
bad 'volume "-v"' "volume: $name" "$ORIGIN" g -v
bad 'volume "v*"' "volume: $name" "$ORIGIN" g 'v*'
bad 'volume "v:0"' "volume: $name" "$ORIGIN" g v:0
bad "volume \"$long\"" "volume: $name" "$ORIGIN" g $long

# the number of feature words
number='expected the number of feature words after <volume>: 0 to 10'
bad_feature '"two"' "$number" two
bad_feature '"-2"' "$number" -2 ring 4
bad_feature '"2.0"' "$number" 2.0 ring 4
bad_feature '"12"' "$number" 12 ring 4
bad_feature '"4294967298"' "$number" 4294967298 ring 4
bad_feature '"ring"' "$number" ring 4
bad_feature '2 feature words: only 1' 'fewer feature words than their number' 2 ring
bad_feature '"ring" is one too many' 'more feature words than their number' 0 ring 4
bad_feature '"bounce" is one too many' 'more feature words than their number' 2 ring 4 bounce on

# features
bad_feature 'feature "ring"' 'has no value: features are pairs' 1 ring
bad_feature 'feature "bounce"' 'has no value: features are pairs' 3 ring 4 bounce
bad_feature 'feature "color"' 'expected meta, ring, region, discard or bounce' 2 color blue
bad_feature 'feature "rin"' 'expected meta, ring, region, discard or bounce' 2 rin 4
bad_feature 'feature "4"' 'expected meta, ring, region, discard or bounce' 2 4 ring
bad_feature 'feature ring: "8"' 'expected each once' 4 ring 4 ring 8
bad_feature 'feature bounce: "on"' 'expected each once' 4 bounce on bounce on

# their values
ring='ring: expected MiB, a number from 1 to 16384'
bad_feature '"0"' "$ring" 2 ring 0
bad_feature '"-1"' "$ring" 2 ring -1
bad_feature '"4M"' "$ring" 2 ring 4M
bad_feature '"16385"' "$ring" 2 ring 16385
bad_feature '"99999999999999999999"' "$ring" 2 ring 99999999999999999999
region='region: expected KiB, a power of two from 64 to 65536'
bad_feature '"0"' "$region" 2 region 0
bad_feature '"32"' "$region" 2 region 32
bad_feature '"1000"' "$region" 2 region 1000
bad_feature '"131072"' "$region" 2 region 131072
bad_feature '"1m"' "$region" 2 region 1m
bad_feature '"maybe"' 'discard: expected zero, pass or ignore' 2 discard maybe
bad_feature '"zer"' 'discard: expected zero, pass or ignore' 2 discard zer
bad_feature '"1"' 'bounce: expected on or off' 2 bounce 1
bad_feature '"yes"' 'bounce: expected on or off' 2 bounce yes
bad_feature "\"$ORIGIN\"" 'expected another device' 2 meta "$ORIGIN"
bad_feature '"/dev/nonesuch"' 'expected a block device' 2 meta /dev/nonesuch

# the host's limit
echo 8 > /sys/module/dm_repagent_mod/parameters/ring_total_mib
bad_feature 'a ring of 9 MiB' 'ring_total_mib allows 8' 2 ring 9
echo 0 > /sys/module/dm_repagent_mod/parameters/ring_total_mib

# what does not fit the origin
refuse "a table longer than the origin" "length $((size + 8))" "expected at most the $size sectors of the origin" \
	create_bad "0 $((size + 8)) repagent $ORIGIN g v"
refuse "a table that begins with another target" "repagent" 'must appear alone' \
	create_bad "0 8 zero
8 $((size - 8)) repagent $ORIGIN g v"
refuse "a table that ends with another target" "repagent" 'must appear alone' \
	create_bad "0 8 repagent $ORIGIN g v
8 $((size - 8)) zero"
refuse "a table with the target twice" "repagent" 'must appear alone' \
	create_bad "0 8 repagent $ORIGIN g v
8 8 repagent $ORIGIN g w"
make_origin NOZEROES null 16
refuse "zeroes of an origin that cannot write them" '"zero"' 'expected pass or ignore' \
	create_bad "0 $size repagent $NOZEROES g v 2 discard zero"

make_origin BLOCKS loop 16
losetup --sector-size 4096 "$BLOCKS" || die "no loop device with blocks of 4096 bytes"
refuse "a length that is no multiple of the origin's blocks" "${BLOCKS#/dev/}" "block size 4096" \
	create_bad "0 $((size - 1)) repagent $BLOCKS g v"

make_origin BUSY loop 16
mkswap "$BUSY" > /dev/null 2>&1
swapon "$BUSY" || die "no swap"
defer swapoff "$BUSY"
refuse "an origin that somebody else has" "\"$BUSY\"" "$origin that nobody else has open" \
	create_bad "0 $size repagent $BUSY g v"

create_dm "$PREFIX-huge" "0 17592186044424 zero"
all_made made_before
refuse "a volume of more than 8 PiB" 'length 17592186044424' 'expected at most 8 PiB' \
	create_bad "0 17592186044424 repagent $(dev "$PREFIX-huge") g v 2 discard pass"

# what does not fit a group that is there
create_volume "$PREFIX-v0" "$ORIGIN" "$GROUP" v0 ring 4
make_origin ORIGIN2 loop 16
all_made made_before
refuse "a second device for a volume" "$GROUP/v0" 'another device is this volume' \
	create_bad "0 $size repagent $ORIGIN2 $GROUP v0"
refuse "an origin that another device has" "${ORIGIN#/dev/} is the origin of" 'expected an origin of its own' \
	create_bad "0 $size repagent $ORIGIN $GROUP-x v0"
refuse "an origin as a map" "${ORIGIN#/dev/} is a device of" 'expected a device of its own' \
	create_bad "0 $size repagent $ORIGIN2 $GROUP-x v0 2 meta $ORIGIN"
refuse "a larger ring in the same group" 'ring 8' "the group's ring has 4 MiB" \
	create_bad "0 $size repagent $ORIGIN2 $GROUP v1 2 ring 8"
refuse "a smaller ring in the same group" 'ring 3' "the group's ring has 4 MiB" \
	create_bad "0 $size repagent $ORIGIN2 $GROUP v1 2 ring 3"
refuse "another ring for the same volume" 'ring 8' "the group's ring has 4 MiB" \
	dm load "$PREFIX-v0" --table "0 $size repagent $ORIGIN $GROUP v0 2 ring 8"

# a full group; all 63 devices in one go
many() { # FORMAT: with the number of the volume, each time it is there
	local i
	for ((i = 1; i < 64; i++)); do printf '%s' "${1//%d/$i}"; done
}
# shellcheck disable=SC2046 # a list of words
defer dm remove $(many " $PREFIX-o%d")
table=$(many ";$PREFIX-o%d,,,,0 8 linear $ORIGIN2 0")
dm create --concise "${table#;}" || die "63 origins are not to be had"
# shellcheck disable=SC2046 # a list of words
defer dm remove $(many " $PREFIX-v%d")
dm mknodes
table=$(many ";$PREFIX-v%d,,,,0 8 repagent /dev/mapper/$PREFIX-o%d $GROUP v%d")
dm create --concise "${table#;}" || die "64 volumes are not to be had"
all_made made_before
refuse "a volume too many" 'volume "v64"' 'expected at most 64' \
	create_bad "0 8 repagent $ORIGIN2 $GROUP v64"
check_cases
ktap_finished
