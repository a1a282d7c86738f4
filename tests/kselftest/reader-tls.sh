#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The reader with TLS: a client reads what its certificate's name is allowed; a wrong certificate, none, a wrong volume and plain
# text are refused, and both sides are told why: the reader's log, and the client's words.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh
# shellcheck source=tests/kselftest/tls.sh
. ./tls.sh

plan 19
[ -n "$(command -v certtool)" ] || ktap_skip_all "no certtool"
setup_volume 8 ring 2
dd if=/dev/urandom of="$DEV" bs=1M count=8 oflag=direct status=none
make_origin ORIGIN1 loop 8
create_volume "$PREFIX-v1" "$ORIGIN1" "$GROUP" v1
certificates
PORT=10811
start_reader --listen 127.0.0.1:$PORT --tls-cert-dir "$TMP/server" --allow "host-a=$GROUP/v0" --allow "host-b=$GROUP"
as() { # DIR EXPORT: its uri
	echo "nbds://localhost:$PORT/$2?tls-certificates=$TMP/$1"
}
refuses() { # WHAT CLIENT'S-WORDS READER'S-WORDS URI
	check "refused: $1; the client is told why" client_says "$2" nbdinfo "$4"
	check "... and so is the reader's log" reader_says "$3"
}

check "the right certificate reads its volume" nbdcopy "$(as a "$GROUP/v0")" "$TMP/copy"
check "... as it is" same "$DEV" "$TMP/copy"
check "one that is allowed the group reads the other volume too" nbdinfo --size "$(as b "$GROUP/v1")"
nbdinfo --list "$(as a '')" > "$TMP/list"
check "the list has what may be read" grep -q "export=\"$GROUP/v0\"" "$TMP/list"
check_not "... and nothing else" grep -q "export=\"$GROUP/v1\"" "$TMP/list"
refuses "another volume" "host-a may not open it" "host-a: refused: export '$GROUP/v1': host-a may not open it" \
	"$(as a "$GROUP/v1")"
refuses "a volume that is not there" "this host has no volume v2 of group $GROUP" \
	"refused: export '$GROUP/v2': this host has no volume v2 of group $GROUP" "$(as b "$GROUP/v2")"
refuses "a name that is none" "export '../etc/passwd': host-b may not open it" \
	"refused: export '../etc/passwd': host-b may not open it" "$(as b ../etc/passwd)"
refuses "a certificate of another authority" "$ALERT_UNKNOWN_CA" "certificate: .*issuer is unknown" "$(as stranger "$GROUP/v0")"
refuses "no certificate" "$ALERT_NO_CERTIFICATE" 'the client has no certificate' "$(as none "$GROUP/v0")"
refuses "a certificate for servers" "$ALERT_BAD_CERTIFICATE" 'refused: .*purpose' "$(as wrong-kind "$GROUP/v0")"
refuses "plain text" 'TLS is required, and the client did not begin it' 'refused: TLS is required' \
	"nbd://localhost:$PORT/$GROUP/v0"
ktap_finished
