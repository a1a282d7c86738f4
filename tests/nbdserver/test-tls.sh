#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# TLS: who has the right certificate gets the export that is meant for him; all else is refused, with a reason in both logs.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

PORT=$((20000 + $$ % 10000))
certificate() { # DIR KIND NAME CA: in files as libnbd has them
	mkdir -p "$1"
	cat > "$TMP/template" <<-TXT
		cn = "$3"
		dns_name = "$3"
		tls_www_$2
		signing_key
		encryption_key
		expiration_days = 2
	TXT
	[ "$2" != server ] || echo "ip_address = 127.0.0.1" >> "$TMP/template"
	certtool --generate-privkey --key-type ecdsa --outfile "$1/$2-key.pem" 2> /dev/null &&
		certtool --generate-certificate --template "$TMP/template" --load-privkey "$1/$2-key.pem" \
			--load-ca-certificate "$TMP/$4/ca-cert.pem" --load-ca-privkey "$TMP/$4/ca-key.pem" \
			--outfile "$1/$2-cert.pem" 2> /dev/null || die "certtool made no certificate"
	cp "$TMP/$4/ca-cert.pem" "$1/"
}
authority() { # DIR: all of one name, so that a client with a certificate of the wrong one shows it
	mkdir -p "$TMP/$1"
	printf 'cn = "authority"\nca\ncert_signing_key\nexpiration_days = 2\n' > "$TMP/template"
	certtool --generate-privkey --key-type ecdsa --outfile "$TMP/$1/ca-key.pem" 2> /dev/null &&
		certtool --generate-self-signed --template "$TMP/template" --load-privkey "$TMP/$1/ca-key.pem" \
			--outfile "$TMP/$1/ca-cert.pem" 2> /dev/null || die "certtool made no authority"
}
authority good
authority other
certificate "$TMP/server" server localhost good
certificate "$TMP/a" client host-a good
certificate "$TMP/b" client host-b good
certificate "$TMP/stranger" client host-a other
cp "$TMP/good/ca-cert.pem" "$TMP/stranger/"
mkdir "$TMP/none" && cp "$TMP/good/ca-cert.pem" "$TMP/none/"
mkdir "$TMP/wrong-kind" && cp "$TMP/good/ca-cert.pem" "$TMP/wrong-kind/"
cp "$TMP/server/server-cert.pem" "$TMP/wrong-kind/client-cert.pem"
cp "$TMP/server/server-key.pem" "$TMP/wrong-kind/client-key.pem"

make_file 64 44
cp "$FILE" "$TMP/e"
start_server --listen "127.0.0.1:$PORT" --tls "$TMP/server" --only host-a=d --only host-b=e "e=$TMP/e"
as() { # DIR EXPORT: its uri
	echo "nbds://localhost:$PORT/$2?tls-certificates=$TMP/$1"
}
client_says() { # PATTERN COMMAND...: it fails, and says why
	local pattern=$1
	shift
	! LIBNBD_DEBUG=1 timeout 20 "$@" > "$TMP/said" 2>&1 || { echo "this succeeded: $*"; return 1; }
	cat "$TMP/said"
	grep -qE "$pattern" "$TMP/said"
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
	client_says 'certificate|TLS|alert' nbdinfo "$(as stranger d)"
check "... the server's log says it" is_logged 'refused: .*certificate.*(not trusted|issuer is unknown)'
check "no certificate is refused" client_says 'certificate|TLS|alert' nbdinfo "$(as none d)"
check "... the server's log says it" is_logged 'refused: the client has no certificate'
check "a certificate that is good for servers alone is refused" \
	client_says 'certificate|TLS|alert' nbdinfo "$(as wrong-kind d)"
check "... the server's log says it" is_logged 'refused: .*purpose'
check "plain text is refused" client_says 'TLS is required, and the client did not begin it' nbdinfo "nbd://localhost:$PORT/d"
check "... the server's log says it" is_logged 'refused: TLS is required'

# Another certificate of the same server, for those who come from now on.
certificate "$TMP/server" server elsewhere good
kill -HUP "$server"
elsewhere() {
	! timeout 20 nbdinfo "$(as a d)" > "$TMP/said" 2>&1
}
check "after SIGHUP the new certificate is used" wait_for 10 elsewhere
check "... which is not for this name" grep -qiE 'certificate|hostname|verif' "$TMP/said"
check "the server ends with status 0" stop_server
finish
