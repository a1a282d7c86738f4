#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dmsetup create loads the module by itself, and modprobe knows it by the name "dm-repagent".

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 5
if [ -d /sys/module/dm_repagent_mod ]; then
	rmmod dm_repagent_mod || ktap_skip_all "the module is in use"
fi
make_origin ORIGIN loop 16
check_not "the module is not loaded" test -d /sys/module/dm_repagent_mod
create_volume "$PREFIX-v0" "$ORIGIN" "$GROUP" v0 ring 1
check "dmsetup create loads it" test -d /sys/module/dm_repagent_mod
check_not "it cannot be unloaded while in use" rmmod dm_repagent_mod
dm remove "$PREFIX-v0"
check "it can be unloaded afterwards" rmmod dm_repagent_mod
check "modprobe dm-repagent loads it" modprobe dm-repagent
ktap_finished
