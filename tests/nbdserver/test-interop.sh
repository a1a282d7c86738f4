#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The NBD server with libnbd, nbdinfo, nbdcopy, qemu-img, qemu-io and a client of our own: what they say, and what they copy.

# shellcheck source=tests/nbdserver/lib.sh
. "$(dirname "$0")/lib.sh"

QEMU="driver=nbd,server.type=unix,server.path=$SOCKET,export=d"
same() {
	cmp "$TMP/copy" "$FILE"
}
run_check() { # one check for all of nbdcheck's
	timeout 60 nbdcheck "$(uri d)" "$FILE"
}
map_adds_up() { # the extents cover the disk, and there are both kinds
	qemu-img map --output=json --image-opts "$QEMU" > "$TMP/map" &&
		grep -q '"data": true' "$TMP/map" && grep -q '"data": false' "$TMP/map" &&
		[ "$(sed -n 's/.*"length": \([0-9]*\).*/\1/p' "$TMP/map" | paste -sd+ | bc)" = $((64 << 20)) ]
}
lists() { # OPTION...
	nbdinfo "$@" > "$TMP/info"
}

for mode in --direct --buffered; do
	make_file 64 44
	start_server $mode
	check "$mode: a client in C finds what it should" run_check
	check "$mode: nbdinfo shows the export" lists "$(uri d)"
	check "... and its size" grep -q "export-size: $((64 << 20))" "$TMP/info"
	check "... and base:allocation" grep -q base:allocation "$TMP/info"
	check "... and the description" grep -q 'description: the file' "$TMP/info"
	check "nbdinfo --list finds it" lists --list "$(uri '')"
	check "... by its name" grep -q 'export="d"' "$TMP/info"
	check "nbdinfo --map tells data and holes" lists --map "$(uri d)"
	check "... both of them" grep -Pzq '(?s)data.*hole,zero' "$TMP/info"
	check "$mode: nbdcopy reads it" timeout 60 nbdcopy "$(uri d)" "$TMP/copy"
	check "... as it is" same
	rm -f "$TMP/copy"
	check "with 4 connections and blocks of 1 MiB too" \
		timeout 60 nbdcopy -C 4 --request-size=1048576 "$(uri d)" "$TMP/copy"
	check "... as it is" same
	dd if=/dev/urandom of="$TMP/copy" bs=1M count=30 conv=notrunc status=none
	check "$mode: nbdcopy writes it" timeout 60 nbdcopy --flush "$TMP/copy" "$(uri d)"
	check "... as it was" same
	check "qemu-img converts from it" timeout 60 qemu-img convert --image-opts "$QEMU" -O raw "$TMP/copy"
	check "... as it is" same
	dd if=/dev/urandom of="$TMP/copy" bs=1M count=20 seek=3 conv=notrunc status=none
	check "qemu-img converts to it" timeout 60 qemu-img convert -n --target-image-opts "$TMP/copy" "$QEMU"
	check "... as it was" same
	check "qemu-img map adds up" map_adds_up
	check "qemu-io writes, zeroes, discards, flushes and reads" timeout 60 qemu-io --image-opts "$QEMU" -t none \
		-c 'write -P 0x5a 1M 3M' -c 'write -z 2M 64k' -c 'write -f -P 1 0 4k' -c 'discard 3M 1M' -c flush \
		-c 'read -P 0x5a 1M 1M' -c 'read -P 0 2M 64k' -c 'read -P 0x5a 2112k 960k' -c 'read -P 0 3M 1M' \
		-c 'aio_read -P 0x5a 1M 1M' -c 'aio_read -P 1 0 4k' -c aio_flush
	check "... without an error in its words" not grep -qiE 'fail|error' "$TMP/out"
	check "$mode: the server ends with status 0" stop_server
	grep -q '<[0-4]>.*failed' "$LOG" && { sed 's/^/# /' "$LOG"; check "nothing failed in the server" false; }
done

# What is read-only stays as it is, whatever its length.
head -c 1000001 /dev/urandom > "$FILE"
start_server --readonly --direct
check "a file of odd length is read" timeout 20 nbdcopy "$(uri d)" "$TMP/odd"
check "... to its last byte" cmp "$TMP/odd" "$FILE"
check_write() {
	timeout 20 nbdcopy "$TMP/copy" "$(uri d)"
}
check "... and cannot be written" not check_write
stop_server

# Less than was promised is an error that says so, and the connection goes on.
make_file 64 10
start_server --readonly
mkfifo "$TMP/commands"
qemu-io -r --image-opts "$QEMU" < "$TMP/commands" > "$TMP/said" 2>&1 &
exec 8> "$TMP/commands"
says() { # PATTERN
	wait_for 10 grep -q "$1" "$TMP/said"
}
check_shrunk() {
	echo 'read 0 1M' >&8
	says 'read 1048576/1048576' || return
	truncate -s 1M "$FILE"
	echo 'read 8M 64k' >&8
	says 'read failed: Input/output error' || return
	echo 'read 0 4k' >&8
	says 'read 4096/4096' && is_logged 'has shrunk'
}
check "a file that shrinks: an error, a reason in the log, and it goes on" check_shrunk
exec 8>&-
wait "$!"
stop_server
finish
