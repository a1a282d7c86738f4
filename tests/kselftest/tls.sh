# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tls.sh: certificates for tests of a server with TLS, in $TMP, in files as libnbd has them. The test has a function die.
#
#   server            of the authority "good", for localhost and 127.0.0.1
#   a, b              clients host-a and host-b, of the same authority
#   stranger          a client host-a of another authority of the same name
#   none              no certificate
#   wrong-kind        a certificate that is good for servers alone

run_certtool() { # ARGUMENT...
	certtool "$@" 2> "$TMP/certtool.err" || die "certtool: $(tail -n 1 "$TMP/certtool.err")"
}

certificate() { # DIR KIND NAME AUTHORITY
	mkdir -p "$TMP/$1"
	cat > "$TMP/template" <<-TXT
		cn = "$3"
		dns_name = "$3"
		tls_www_$2
		signing_key
		encryption_key
		expiration_days = 2
	TXT
	[ "$2" != server ] || echo "ip_address = 127.0.0.1" >> "$TMP/template"
	run_certtool --generate-privkey --key-type ecdsa --outfile "$TMP/$1/$2-key.pem"
	run_certtool --generate-certificate --template "$TMP/template" --load-privkey "$TMP/$1/$2-key.pem" \
		--load-ca-certificate "$TMP/$4/ca-cert.pem" --load-ca-privkey "$TMP/$4/ca-key.pem" \
		--outfile "$TMP/$1/$2-cert.pem"
	cp "$TMP/$4/ca-cert.pem" "$TMP/$1/"
}

authority() { # DIR: all of one name, so that a client with a certificate of the wrong one shows it
	mkdir -p "$TMP/$1"
	printf 'cn = "authority"\nca\ncert_signing_key\nexpiration_days = 2\n' > "$TMP/template"
	run_certtool --generate-privkey --key-type ecdsa --outfile "$TMP/$1/ca-key.pem"
	run_certtool --generate-self-signed --template "$TMP/template" --load-privkey "$TMP/$1/ca-key.pem" \
		--outfile "$TMP/$1/ca-cert.pem"
}

certificates() { # all of them
	authority good
	authority other
	certificate server server localhost good
	certificate a client host-a good
	certificate b client host-b good
	certificate stranger client host-a other
	cp "$TMP/good/ca-cert.pem" "$TMP/stranger/"
	mkdir "$TMP/none" "$TMP/wrong-kind"
	cp "$TMP/good/ca-cert.pem" "$TMP/none/"
	cp "$TMP/good/ca-cert.pem" "$TMP/wrong-kind/"
	cp "$TMP/server/server-cert.pem" "$TMP/wrong-kind/client-cert.pem"
	cp "$TMP/server/server-key.pem" "$TMP/wrong-kind/client-key.pem"
}

# The command fails, and its words, with those that libnbd and GnuTLS have for who asks them, say why.
client_says() { # PATTERN COMMAND...
	local pattern=$1
	shift
	if LIBNBD_DEBUG=1 GNUTLS_DEBUG_LEVEL=5 timeout 60 "$@" > "$TMP/said" 2>&1; then
		echo "this succeeded: $*"
		return 1
	fi
	grep -aqE "$pattern" "$TMP/said" || { tail -n 20 "$TMP/said" | sed 's/^/# /'; return 1; }
}

# What a client is told that TLS refuses: the alerts of RFC 8446 for an unknown authority, for no certificate, for a
# certificate that will not do. libnbd's own words are only that there was one.
ALERT_UNKNOWN_CA='Alert\[2\|48\].*received'
ALERT_NO_CERTIFICATE='Alert\[2\|116\].*received'
ALERT_BAD_CERTIFICATE='Alert\[2\|42\].*received'
export ALERT_UNKNOWN_CA ALERT_NO_CERTIFICATE ALERT_BAD_CERTIFICATE
