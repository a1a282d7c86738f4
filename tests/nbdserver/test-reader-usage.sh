#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bad command lines of repagent-reader: each ends it at once with status 2 and a line that names the word that is wrong and what
# was expected; and what it cannot know before it tries ends it with status 1 and a reason.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

ends_with() { # STATUS WORD EXPECTED ARGUMENT...
	local status
	timeout 20 repagent-reader "${@:4}" > "$TMP/stdout" 2> "$TMP/stderr"
	status=$?
	cat "$TMP/stdout" "$TMP/stderr"
	echo "status $status, expected $1"
	[ "$status" = "$1" ] && [ ! -s "$TMP/stdout" ] && grep -qF -- "$2" "$TMP/stderr" && grep -qF -- "$3" "$TMP/stderr"
}
bad() { # WORD EXPECTED ARGUMENT...
	check "refused: '${*:3}'" ends_with 2 "$@"
}
at="--listen=$SOCKET"
option='expected an option that --help names'

bad --listen 'where should clients connect to'
bad "'--bogus'" "$option" "$at" --bogus
bad "'-x'" "$option" "$at" -x
bad "'--rate'" 'expected one behind it' "$at" --rate
bad "'--help=1'" "expected it without '='" --help=1
bad "'more'" 'expected options alone' "$at" more
bad "--rate 'fast'" 'expected MiB a second' "$at" --rate fast
bad "--rate '0'" '0.0625 at least' "$at" --rate 0
bad "--connections '0'" 'expected a number from 1 to 100000' "$at" --connections 0
bad "--workers '65'" 'expected a number from 1 to 64' "$at" --workers 65
bad "--tls-cert-dir '/nonesuch'" 'expected a directory with ca-cert.pem' "$at" --tls-cert-dir /nonesuch
bad "--allow 'a=g'" 'without --tls-cert-dir no client has a name' "$at" --allow a=g
bad "'a'" 'expected NAME=GROUP or NAME=GROUP/VOLUME' "$at" --allow a
bad "'a=g/v/w'" 'expected GROUP or GROUP/VOLUME' "$at" --allow a=g/v/w
many=()
for ((i = 0; i < 9; i++)); do
	many+=(--listen "$SOCKET.$i")
done
bad "--listen '$SOCKET.8'" 'expected at most 8' "${many[@]}"

check "a folder without certificates" ends_with 1 "$TMP" pem "$at" --tls-cert-dir "$TMP"
check "an address that is none" ends_with 1 'nowhere.invalid' 'listen' --listen nowhere.invalid:10809
check "a socket's path that cannot be made" ends_with 1 "$TMP/no/where" 'No such file' --listen "$TMP/no/where"
passed_none() { # LISTEN_PID has to be that of the process itself
	timeout 20 bash -c 'export LISTEN_FDS=1 LISTEN_PID=$$; exec repagent-reader 3< /dev/null' > "$TMP/said" 2>&1
	local status=$?
	cat "$TMP/said"
	[ "$status" = 1 ] && grep -q 'descriptor 3 that systemd passes is no stream socket that listens' "$TMP/said"
}
check "a descriptor that is passed and no socket" passed_none
finish
