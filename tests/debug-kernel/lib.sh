# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# To be sourced: how a kernel is made of a source package of Debian's. The caller has set $dir, the folder that all of it
# goes to, and $tree, where in it the source lies.

: "${dir:?}" "${tree:?}"

die() {
	echo "tests/${0##*tests/}: $*" >&2
	exit 1
}

need() { # TOOL...: KIND of tests/packages has them
	local kind=$1 tool
	shift
	for tool; do
		command -v "$tool" > /dev/null || die "$tool is missing: run tests/packages $kind"
	done
}

up_to_date() { # INPUT...: is $dir/built newer than all of these?
	local input
	for input; do
		[ "$dir/built" -nt "$input" ] || return 1
	done
}

# tar gives the files the times of the archive, so it is the folder's own mark that tells.
unpack() { # ARCHIVE
	[ ! "$dir/unpacked" -nt "$1" ] || return 0
	echo "tests/${0##*tests/}: unpacking ${1##*/}"
	rm -rf "$tree" "$dir/unpacked"
	tar -C "$dir" -xf "$1" || die "$1 cannot be unpacked"
	[ -f "$tree/Makefile" ] || die "$1 has no ${tree##*/}/Makefile"
	touch "$dir/unpacked"
}

clean_make() { # what the make around us has told its children is not for this one
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$tree" --no-print-directory "$@"
}

run() { # TARGET...: make, told in short
	clean_make "$@" > "$dir/make.log" 2>&1 || {
		grep -nE 'error|Error|\*\*\*' "$dir/make.log" | head -n 20 >&2
		tail -n 20 "$dir/make.log" >&2
		die "make $* failed; all it said is in $dir/make.log"
	}
}

# A word that another one forbids, or that the kernel does not know, would silently be left out.
configure() { # CONFIG [ARGUMENT...]: of make
	local config=$1 line
	shift
	run KCONFIG_ALLCONFIG="$config" "$@" allnoconfig
	while IFS= read -r line; do
		case $line in
		CONFIG_*)
			grep -qxF "$line" "$tree/.config" ||
				die "$config says $line, but the kernel makes of it: $(grep -w "${line%%=*}" "$tree/.config" ||
					echo nothing)" ;;
		'# CONFIG_'*' is not set')
			line=${line#\# }
			! grep -q "^${line%% *}=" "$tree/.config" ||
				die "$config says that ${line%% *} is not set, but the kernel sets it" ;;
		esac
	done < "$config"
}
