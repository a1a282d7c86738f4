#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The module as a DKMS package: `make dkms` in a copy of the tree adds, builds and installs it, modprobe then finds
# that one, and `make dkms-remove` takes it away. For the running kernel; TEST_LONG=1: for all that have headers.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

[ -n "$(command -v dkms)" ] || ktap_skip_all "no dkms"
[ -f ../../dkms.conf ] || ktap_skip_all "not in the project's tree"
release=$(uname -r)
[ -d "/lib/modules/$release/build" ] || ktap_skip_all "no headers of the running kernel"
plan 5
mkdir "$TMP/tree"
cp -r ../../Makefile ../../COPYING ../../dkms.conf ../../kernel ../../include "$TMP/tree/"
kernels=(KERNELS="$release")
[ -z "${TEST_LONG:-}" ] || kernels=()

run() {
	make -C "$TMP/tree" "$@" > "$TMP/make.log" 2>&1 && return
	while IFS= read -r line; do
		note "$line"
	done < <(tail -n 30 "$TMP/make.log")
	return 1
}
check "make dkms succeeds" run dkms "${kernels[@]}"
check "dkms says installed" grep -q installed <(dkms status -m dm-repagent)
check "modprobe finds that module" grep -q /updates/dkms/ <(modinfo -n dm-repagent)
[ ! -d /sys/module/dm_repagent_mod ] || rmmod dm_repagent_mod
check "it can be loaded" modprobe dm-repagent
check "make dkms-remove takes it away" run dkms-remove
ktap_finished
