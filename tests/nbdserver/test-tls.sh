#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# TLS: who has the right certificate gets the export that is meant for him; all else is refused, with a reason in both logs.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

# shellcheck source=tests/kselftest/tls.sh
. tests/kselftest/tls.sh

PORT=$((20000 + $$ % 10000))
certificates

make_file 64 44
cp "$FILE" "$TMP/e"
start_server --listen "127.0.0.1:$PORT" --tls "$TMP/server" --only host-a=d --only host-b=e "e=$TMP/e"
as() { # DIR EXPORT: its uri
	echo "nbds://localhost:$PORT/$2?tls-certificates=$TMP/$1"
}
check "the right certificate reads its export" timeout 60 nbdcopy "$(as a d)" "$TMP/copy"
check "... as it is" cmp "$TMP/copy" "$FILE"
check "all that a client in C checks holds with TLS too" timeout 60 nbdcheck "$(as a d)" "$FILE"
check "nbdinfo lists what host-a may open" timeout 20 nbdinfo --list "$(as a '')"
grep -v '^uri' "$TMP/out" > "$TMP/list"
check "... its own export" grep -q 'export="d"' "$TMP/list"
check "... and no other" not grep -q 'export="e"' "$TMP/list"
check "host-a cannot open host-b's export, and is told why" \
	client_says 'host-a may not open it' nbdinfo "$(as a e)"
check "... the server's log says it" is_logged "host-a: refused: export 'e': host-a may not open it"
check "host-b can" timeout 20 nbdinfo "$(as b e)"
check "a certificate of another authority is refused" \
	client_says "$ALERT_UNKNOWN_CA" nbdinfo "$(as stranger d)"
check "... the server's log says it" is_logged 'refused: .*certificate.*(not trusted|issuer is unknown)'
check "no certificate is refused" client_says "$ALERT_NO_CERTIFICATE" nbdinfo "$(as none d)"
check "... the server's log says it" is_logged 'refused: the client has no certificate'
check "a certificate that is good for servers alone is refused" \
	client_says "$ALERT_BAD_CERTIFICATE" nbdinfo "$(as wrong-kind d)"
check "... the server's log says it" is_logged 'refused: .*purpose'
check "plain text is refused" client_says 'TLS is required, and the client did not begin it' nbdinfo "nbd://localhost:$PORT/d"
check "... the server's log says it" is_logged 'refused: TLS is required'

# Another certificate of the same server, for those who come from now on.
certificate server server elsewhere good
kill -HUP "$server"
elsewhere() {
	! timeout 20 nbdinfo "$(as a d)" > "$TMP/said" 2>&1
}
check "after SIGHUP the new certificate is used" wait_for 10 elsewhere
check "... which is not for this name" grep -qiE 'certificate|hostname|verif' "$TMP/said"
check "the server ends with status 0" stop_server
finish
