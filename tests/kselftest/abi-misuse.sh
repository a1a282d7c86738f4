#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the character device must refuse, and what it promises besides the stream: see abiprobe.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

note "seed $SEED"
setup_volume 16 ring 2
run_ringcheck --replica "v0=$HUB/v0" --stop-after-idle 100 || die "the first sync is no good stream"
must_wait_for 10 is_synced "$NAME"
run_ktap abiprobe "$GROUP" "$DEV"
