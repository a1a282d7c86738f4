#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hub whose export is smaller than the volume is refused, with both sizes in the log; a larger one will do.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 6
setup_volume 16 ring 4
truncate -s 8M "$HUB/v0"
start_hub nbdkit
start_daemon
check "the daemon says that the export is too small" wait_for 20 daemon_says 'small|size'
check "... and lives" is_alive "$DAEMON"
run_writer oracle oracle --threads 2 --seed "$SEED" --ops 200 --max 64k "$DEV"
check "writes succeed" test $? -eq 0
check_not "the volume is not replicated" is_synced "$NAME"
kill_hub
truncate -s 20M "$HUB/v0"
restart_hub
check "with a larger export the first sync begins by itself" wait_for 60 is_synced "$NAME"
check "the replica is the disk, as far as it goes" devcmp --longer-ok "$DEV" "$HUB/v0"
ktap_finished
