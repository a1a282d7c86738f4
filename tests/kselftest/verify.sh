#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A volume is compared with its replica while it is written, and while the hub dies, the ring runs over and tables change:
# nothing is said to differ that does not. What was changed at the hub is found to the sector, and mended.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh
# shellcheck source=tests/kselftest/control.sh
. ./control.sh

plan 28
for program in repagentd repctl nbdkit; do
	[ -n "$(command -v $program)" ] || ktap_skip_all "no $program"
done
MIB=48
make_origin ORIGIN loop $MIB
dd if=/dev/urandom of="$ORIGIN" bs=1M count=$MIB oflag=direct status=none
make_origin OTHER loop 8
create_volume "$PREFIX-v0" "$ORIGIN" "$GROUP" v0 ring 4
create_volume "$PREFIX-v1" "$OTHER" "$GROUP" v1
NAME=$PREFIX-v0
hub_image v0 $MIB
hub_image v1 8
start_hub nbdkit
start_daemon
wait_synced 60 "$NAME" "$PREFIX-v1"

compare() { # [ARGUMENT...]: of repctl verify; leaves what it says in $TMP/said
	repctl verify "$GROUP" "$@" > "$TMP/said" 2>&1
}
said() { # TEXT
	grep -qF -- "$1" "$TMP/said" && return
	note "it said: $(< "$TMP/said")"
	return 1
}
differs() { # STATUS ARGUMENT...: exit status of repctl verify
	local status
	compare "${@:2}"
	status=$?
	[ $status = "$1" ] && return
	note "status $status: $(< "$TMP/said")"
	return 1
}
scribble() { # VOLUME SECTOR: of the replica
	dd if=/dev/urandom of="$HUB/$1" bs=512 seek="$2" count=1 conv=notrunc status=none
}

# At rest.
check "all is the same" differs 0
check "... which is said of each volume" said "v0: 48 MiB compared, and the same at the hub"
check "... both of them" said "v1: 8 MiB compared, and the same at the hub"
scribble v0 0
scribble v0 40000
scribble v0 40001
scribble v0 $((MIB * 2048 - 1))
check "four sectors that changed at the hub" differs 1 v0
check "... are counted" said "v0: 2 KiB differed and was written anew, 0 B could not be read"
check "... and told in the log" daemon_says "v0: the replica is not what was written at byte 20480000: 1 KiB written anew"
check "... and mended" same "$ORIGIN" "$HUB/v0"
check "so that all is the same" differs 0 v0

# Words.
check "an unknown volume is named" differs 1 v7
check "... with what there is" said "no volume v7"
check "a wrong rate is named" differs 2 --rate fast
check "... with what is expected" said "bytes a second"
check "an unknown option" differs 2 --fast
check "in the background" differs 0 --rate 1M --background v0
check "one at a time" differs 1
check "... is said" said "a comparison is under way"
connect
check "it can be stopped" returns '{}' stop-verify
check "... as the log says" daemon_says "v0: the comparison with its replica was stopped"

# Under load: overlaps, zeroes, and a hub whose writes take their time, while reads do not.
kill_hub
start_hub nbdkit --filter=delay -- wdelay=10ms
start_writer load oracle --threads 4 --seed "$SEED" --rate 150 --max 24k --mix write=70,fua=5,nowait=5,zero=8,fsync=2 --seconds 1000 \
	"$(dev "$NAME")"
check "under load all is the same" differs 0 v0
scribble v1 100
check "a change elsewhere is found meanwhile" differs 1
check "... and is all that is" said "v1: 512 B differed"

# With faults. The comparison waits, and goes on.
(while differs 0 v0; do :; done) > "$TMP/loop" 2>&1 &
LOOP=$!
defer end_process $LOOP
for _ in 1 2 3; do
	nap 1
	kill_hub
	nap 0.5
	restart_hub
	must_wait_for 60 status_is "$NAME" capture=stream image=clean
	dm load "$NAME" --table "$(dm table "$NAME")"
	dm suspend "$NAME"
	dm resume "$NAME"
done
kill -STOP "$DAEMON"
must_wait_for 60 status_is "$NAME" capture=track reason=ring-full
kill -CONT "$DAEMON"
must_wait_for 100 status_is "$NAME" capture=stream image=clean
nap 2
check "while the hub dies and the ring runs over nothing is said to differ" is_alive $LOOP
end_process $LOOP
call stop-verify
check "... nor in the log" test "$(grep -c "v0: the replica is not what was written" "$TMP/daemon.log")" = 3
end_writer load TERM
check "no write failed" test $? -eq 0
wait_synced 60 "$NAME"
check "the replica is the disk" same "$ORIGIN" "$HUB/v0"

check "all is the same again" differs 0
kill_daemon
check "without a daemon that is said" differs 1
check "... and what to type" said "repctl status $GROUP"
ktap_finished
