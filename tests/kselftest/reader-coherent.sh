#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A write that completed is in the next read through the reader, every time: while the group tracks, and while it streams.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 3
[ -n "$(command -v nbdvolume)" ] || ktap_skip_all "nbdvolume is not built"
setup_volume 24 ring 4
start_reader
coherent() { # ROUNDS
	nbdvolume --writes "$DEV" --rounds "$1" --seed "$SEED" "$(reader_uri "$GROUP/v0")" > "$TMP/out" || return
	show "$TMP/out"
	[ "$(value "$TMP/out" rounds)" = "$1" ]
}
check "5000 writes that go past the stream are each in the next read" coherent 5000
start_ringcheck
must_wait_for 30 status_is "$NAME" capture=stream image=clean
check "5000 writes in the stream are each in the next read" coherent 5000
check "the stream was right" finish_ringcheck "$NAME"
ktap_finished
