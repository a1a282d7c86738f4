#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hub whose disk is full: the disk is undisturbed, status and log say that the hub has no space, and all goes on
# by itself when it has.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 8
make_origin ORIGIN loop 32
NAME=$PREFIX-v0
create_volume "$NAME" "$ORIGIN" "$GROUP" v0 ring 8
DEV=$(dev "$NAME")
HUB=$TMP/hub
mkdir "$HUB"
mount -t tmpfs -o size=8m none "$HUB" || die "cannot mount a tmpfs"
defer umount -l "$HUB"
hub_image v0 32
start_hub nbdkit
start_daemon
must_wait_for 60 is_synced "$NAME"

start_writer oracle oracle --threads 2 --seed "$SEED" --rate 300 --max 64k --mix write=1 --seconds 100 "$DEV"
check "the hub fills: the group tracks because of it" wait_for 40 status_is "$NAME" capture=track reason=hub-full
check "the daemon's log says so" daemon_says '[Nn]o space|full'
check "... and it lives" is_alive "$DAEMON"
mount -o remount,size=100m "$HUB"
check "the hub has space again: capture goes on by itself" wait_for 40 status_is "$NAME" capture=stream
end_writer oracle TERM
check "no write failed" test $? -eq 0 -a "$(value "$TMP/oracle.out" ops)" -gt 500
check "no write took longer than a second" within_a_second "$(value "$TMP/oracle.out" max_latency_ms)"
check "all is resynced" wait_for 60 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
