#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# qemu-nbd as the hub: two volumes, first sync, load, a crash of the hub in the middle, a clean stop of the daemon.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

hub_test qemu-nbd
