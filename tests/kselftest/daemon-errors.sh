#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bad command lines of repagentd: each ends it at once with status 2 and a line that names the word that is wrong and
# what was expected. Then what it cannot know before it looks: a device that is no group's ring.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 35
[ -n "$(command -v repagentd)" ] || ktap_skip_all "repagentd is not built"
ends_with() { # STATUS WORD EXPECTED ARGUMENT...
	local status text
	timeout 20 repagentd "${@:4}" > "$TMP/out" 2> "$TMP/err"
	status=$?
	[ "$status" = "$1" ] || { note "exit status $status, not $1"; return 1; }
	[ ! -s "$TMP/out" ] || { note "it printed: $(< "$TMP/out")"; return 1; }
	text=$(< "$TMP/err")
	is_explained "$text" "$2" "$3"
}
bad() { # WORD EXPECTED ARGUMENT...
	check "refused: '${*:3}'" ends_with 2 "$@"
}
hub=nbd://127.0.0.1/%v
letters="expected 1 to 31 letters, digits, '_', '.' or '-'"
time='such as 30, 200ms or 2min'

bad 'name of a group' 'expected the name of a group'
bad 'group g' 'expected --tap URI' g --no-control
bad "--control 'sock'" 'expected an absolute path' g --control sock
bad "--control '/run/s'" 'expected one of them' g --tap $hub --control /run/s --no-control
bad '/nonesuch/g.conf' 'No such file' g --config /nonesuch/g.conf
printf '[group]\ntap = %s\nring = many\n' $hub > "$TMP/g.conf"
bad "$TMP/g.conf:3: ring 'many'" 'expected a number of MiB, from 1 to 16384' g --config "$TMP/g.conf"
bad "'.g'" "$letters" .g --tap $hub
bad "'g/h'" "$letters" g/h --tap $hub
bad "'12345678901234567890123456789012'" "$letters" 12345678901234567890123456789012 --tap $hub
bad "'h'" 'expected one group' g h --tap $hub
bad "'--tap'" 'expected one behind it' g --tap
bad "'--bogus'" 'expected an option that --help names' g --tap $hub --bogus
bad "'-x'" 'expected an option that --help names' g --tap $hub -x
bad "'--e'" 'expected an option that --help names' g --tap $hub --e 3
bad "'--allow-no-flush=1'" "expected it without '='" g --tap $hub --allow-no-flush=1
bad "'http://hub/'" 'expected nbd://HOST' g --tap http://hub/
bad "'nbd:///x'" 'expected nbd://HOST' g --tap nbd:///x
bad "':0'" 'expected a number from 1 to 65535' g --tap nbd://hub:0/%v
bad "'%z'" 'expected %g .the group.' g --tap nbd://hub/%z
bad "'nbd+unix:///x'" 'expected nbd.unix:///EXPORT.socket=/ABSOLUTE/PATH' g --tap nbd+unix:///x
bad "'nbd://other'" 'expected VOLUME=URI' g --tap $hub --tap nbd://other
bad "'v*'" 'expected URI or VOLUME=URI' g --tap "v*=$hub"
bad 'volume v has a tap already' 'has a tap already' g --tap v=$hub --tap v=nbd://other
bad "--stats '0'" "expected a time from 100 ms to 24 h, $time" g --tap $hub --stats 0
bad "--stats 'often'" "$time" g --tap $hub -s often
bad "--timeout '10ms'" "expected a time from 100 ms" g --tap $hub --timeout 10ms
bad "--heartbeat '25h'" "to 24 h" g --tap $hub --heartbeat 25h
bad "--drain-timeout '-1'" "$time" g --tap $hub --drain-timeout -1
bad "--epoch-time '5 parsecs'" "$time" g --tap $hub --epoch-time '5 parsecs'
bad "--epoch-records '0'" 'expected a number from 1' g --tap $hub --epoch-records 0
bad "--epoch-records '1K'" 'expected a number from 1' g --tap $hub --epoch-records 1K
bad "--epoch-size '12Q'" 'expected a size such as 64K or 16M' g --tap $hub --epoch-size 12Q
bad "--epoch-size '99999999999999999999'" 'expected a size such as' g --tap $hub --epoch-size 99999999999999999999
bad "'/nonesuch'" 'expected a directory with ca-cert.pem' g --tap $hub --tls-certificates /nonesuch

# No ring of a group, and nothing that would become one: say so rather than wait for ever.
mkdir -p /dev/repagent
ln -s /dev/null "/dev/repagent/$GROUP"
check "no ring behind the group's name" ends_with 1 "/dev/repagent/$GROUP" 'ioctl|Inappropriate|no ring|expected' \
	"$GROUP" --tap $hub
rm "/dev/repagent/$GROUP"
ktap_finished
