#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the character device must refuse, and what it promises besides the stream: see abiprobe.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

note "seed $SEED"
# A disk that takes its time for writes: then there are busy records.
make_origin BACKING loop 16
create_dm "$PREFIX-slow" "0 32768 delay $BACKING 0 0 $BACKING 0 50"
NAME=$PREFIX-v0
create_volume "$NAME" "$(dev "$PREFIX-slow")" "$GROUP" v0 ring 2
DEV=$(dev "$NAME")
hub_image v0 16
run_ringcheck --replica "v0=$HUB/v0" --stop-after-idle 100 || die "the first sync is no good stream"
must_wait_for 10 is_synced "$NAME"
run_ktap abiprobe "$GROUP" "$DEV"
