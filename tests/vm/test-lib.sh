# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# To be sourced by the vehicles' own tests, which have a folder $tmp for it; $tmp/log is shown when a test fails.

: "${tmp:?}"
number=0 failed=0 skipped=0
check() { # NAME COMMAND...: one test
	local name=$1
	shift
	((number++))
	if "$@"; then
		echo "ok $number $name"
	else
		((failed++))
		echo "not ok $number $name"
		sed 's/^/    /' "$tmp/log"
	fi
}
is() { # VALUE EXPECTED
	[ "$1" = "$2" ] || { echo "got '$1', not '$2'" >> "$tmp/log"; return 1; }
}
wait_until() { # COMMAND...: at most 20 s
	local i
	for ((i = 0; i < 200; i++)); do
		! "$@" || return 0
		sleep 0.1
	done
	echo "waited in vain: $*" >> "$tmp/log"
	return 1
}
not() {
	! "$@"
}
gone() { # FILE...
	not ls -d "$@" 2> /dev/null >> "$tmp/log"
}
finished() { # the end
	echo "1..$number"
	echo "$((number - failed)) passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
}
