#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The module as a DKMS package, for every kernel whose headers are installed: `make dkms` adds, builds and installs
# it, it can be loaded, and `make dkms-remove` takes it away. The host's folders are overlaid meanwhile, in a mount
# namespace of this test's own, so that nothing of it stays.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit
[ -n "${DKMS_TEST_OVERLAID:-}" ] || exec env DKMS_TEST_OVERLAID=1 unshare -m --propagation private "$0"

work=$(mktemp -d)
trap 'umount -l /usr/src /usr/lib/modules /var/lib/dkms "$work"; rmdir "$work"' EXIT
mount -t tmpfs tmpfs "$work" || exit
for dir in /usr/src /usr/lib/modules /var/lib/dkms; do
	mkdir -p "$work$dir/upper" "$work$dir/work"
	mount -t overlay overlay -o "lowerdir=$dir,upperdir=$work$dir/upper,workdir=$work$dir/work" "$dir" || exit
done
log=build/log/dkms.make.log
mkdir -p build/log

number=0 passed=0 failed=0
check() { # WHAT COMMAND...
	local what=$1
	shift
	((++number))
	if "$@" > "$log" 2>&1; then
		((++passed))
		echo "ok $number $what"
	else
		((++failed))
		sed 's/^/# /' "$log" | tail -n 30
		echo "not ok $number $what"
	fi
}
is_installed() { dkms status -m dm-repagent -k "$1" | grep -q installed; }
is_found() { modinfo -k "$1" -F alias /usr/lib/modules/"$1"/updates/dkms/dm-repagent-mod.ko* | grep -qx dm-repagent; }
is_gone() { ! ls /usr/lib/modules/"$1"/updates/dkms/dm-repagent-mod.ko*; }
# shellcheck disable=SC2016 # for the VM's shell
loads() {
	tests/vm/run -k "$1" --timeout 120 -- sh -c \
		'modprobe -a dm-mod libcrc32c && insmod /usr/lib/modules/$(uname -r)/updates/dkms/dm-repagent-mod.ko* && dmsetup targets | grep repagent'
}

kernels=()
for headers in /usr/lib/modules/*/build/Makefile; do
	kernel=${headers#/usr/lib/modules/}
	kernels+=("${kernel%%/*}")
done
echo 'TAP version 13'
echo "1..$((2 + 4 * ${#kernels[@]}))"
check "make dkms" make dkms
for kernel in "${kernels[@]}"; do
	check "$kernel: dkms says installed" is_installed "$kernel"
	check "$kernel: the module has its alias" is_found "$kernel"
	check "$kernel: it can be loaded" loads "$kernel"
done
check "make dkms-remove" make dkms-remove
for kernel in "${kernels[@]}"; do
	check "$kernel: it is gone" is_gone "$kernel"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
