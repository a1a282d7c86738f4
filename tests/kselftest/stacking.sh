#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A logical volume of lvm2 that is protected, with dm-crypt over the target and below it: a file system at the top is
# the same after umount and mount, and the replica is what the target has above it: the ciphertext with dm-crypt over
# it, which the same key opens at the hub, and the plaintext with dm-crypt below it.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 18
for program in lvm cryptsetup mkfs.ext4; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done

# lvm2 without its daemons, udev, and whatever the machine has else.
make_origin DISK loop 80
mkdir "$TMP/lvm" "$TMP/mnt"
cat > "$TMP/lvm/lvm.conf" <<CONF
devices {
	obtain_device_list_from_udev = 0
	external_device_info_source = "none"
	use_devicesfile = 0
	global_filter = [ "a|^$DISK\$|", "r|.*|" ]
}
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
global { use_lvmpolld = 0 event_activation = 0 locking_dir = "$TMP/lvm" }
CONF
export LVM_SYSTEM_DIR=$TMP/lvm LVM_SUPPRESS_FD_WARNINGS=1
quietly() { # COMMAND...: what it says is told if it fails
	"$@" > "$TMP/quietly" 2>&1 && return
	note "$*: $(< "$TMP/quietly")"
	return 1
}
quietly lvm vgcreate "$PREFIX" "$DISK" || die "no volume group"
defer lvm vgchange -an "$PREFIX"
head -c 64 /dev/urandom > "$TMP/key"

open_crypt() { # NAME DEVICE
	quietly cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file "$TMP/key" "$2" "$1" ||
		die "no dm-crypt over $2"
	defer dm remove "$1"
}
mounted() { # DEVICE [OPTION...]
	quietly mount "${@:2}" "$1" "$TMP/mnt"
}
sums() {
	(cd "$TMP/mnt" && find . -type f -exec sha256sum {} + | sort)
}
fill() { # NUMBER: of the first file
	local i
	for ((i = $1; i < $1 + 6; i++)); do
		head -c $((i * 30000 + 4321)) /dev/urandom > "$TMP/mnt/file$i" || return 1
	done
}

declare -A target=() top=()
stack() { # KIND
	local volume=$1 lv
	quietly lvm lvcreate -y -Wn -Zn -an -L 32M -n "$volume" "$PREFIX" || die "no logical volume"
	quietly lvm lvchange -ay "$PREFIX/$volume" || die "the logical volume cannot be activated"
	dm mknodes
	lv=$(dev "$PREFIX-$volume")
	target[$volume]=$PREFIX.$volume
	if [ "$volume" = below ]; then
		open_crypt "$PREFIX.crypt-below" "$lv"
		lv=$(dev "$PREFIX.crypt-below")
	fi
	create_volume "${target[$volume]}" "$lv" "$GROUP" "$volume" ring 16
	top[$volume]=$(dev "${target[$volume]}")
	if [ "$volume" = over ]; then
		open_crypt "$PREFIX.crypt-over" "${top[over]}"
		top[over]=$(dev "$PREFIX.crypt-over")
	fi
	hub_image "$volume" 32
}
stack over
stack below
start_hub nbdkit
start_daemon
wait_synced 60 "${target[over]}" "${target[below]}"

for volume in over below; do
	check "dm-crypt $volume the target: a file system can be made" quietly mkfs.ext4 -q "${top[$volume]}"
	check "... and mounted" mounted "${top[$volume]}"
	check "... and filled" fill 1
	umount "$TMP/mnt"
	mounted "${top[$volume]}" || die "it cannot be mounted again"
	fill 4
	sums > "$TMP/sums.$volume"
	umount "$TMP/mnt"
	check "... and is whole after it was mounted twice" quietly e2fsck -fn "${top[$volume]}"
done
check "all is forwarded" wait_for 60 is_synced "${target[over]}" "${target[below]}"
for volume in over below; do
	device=${top[$volume]}
	[ $volume = below ] || device=$(dev "${target[over]}")
	check "dm-crypt $volume the target: the replica is the disk" same "$device" "$HUB/$volume"
	loop=$(losetup --show -f "$HUB/$volume") || die "no loop device"
	defer losetup -d "$loop"
	if [ $volume = over ]; then
		check_not "... of ciphertext, which holds none that could be seen" mounted "$loop" -t ext4 -o ro 2> /dev/null
		open_crypt "$PREFIX.crypt-hub" "$loop"
		loop=$(dev "$PREFIX.crypt-hub")
	fi
	check "... which holds the file system" mounted "$loop" -t ext4 -o ro
	check "... with all its files" cmp "$TMP/sums.$volume" <(sums)
	umount "$TMP/mnt"
done
check "18 files were looked at" test "$(cat "$TMP/sums.over" "$TMP/sums.below" | wc -l)" -eq 18
check_not "the ciphertext is not the plaintext" cmp -s "$HUB/over" "$HUB/below"
ktap_finished
