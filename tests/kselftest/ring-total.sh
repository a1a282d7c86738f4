#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ring_total_mib, the cap of all rings of the host: a group whose ring would exceed it is refused, with a sentence that
# names the limit and the parameter; a group that is there is not disturbed. With a higher limit, or when another
# group goes, there is room.

# shellcheck source=tests/kselftest/lib.sh
. ./lib.sh

plan 12
parameter=/sys/module/dm_repagent_mod/parameters/ring_total_mib
setup_volume 8 ring 6
# Rings of an earlier life do not count.
before=$(< $parameter)
defer eval "echo $before > $parameter"
echo 8 > $parameter
start_hub nbdkit
start_daemon
wait_synced 30 "$NAME"
make_origin OTHER loop 8
start_writer oracle oracle --threads 2 --rate 200 --seed "$SEED" --max 32k --mix write=60,fua=10,fsync=2 --seconds 100 "$DEV"
must_wait_for 20 status_past "$NAME" acked $((ST[acked] + 20))

other() { # MIB
	dm create "$PREFIX-other" --table "$(repagent_table "$OTHER" "$GROUP-other" v0 ring "$1")" 2> /dev/null
}
begin_cases
refuse "a ring that exceeds what is left" 'a ring of 3 MiB' 'have 6 MiB already, and ring_total_mib allows 8' other 3
refuse "a ring that exceeds the whole" 'a ring of 9 MiB' 'ring_total_mib allows 8' other 9
refuse "a ring of the largest size" 'a ring of 16384 MiB' 'ring_total_mib allows 8' other 16384
# The limit falls below what is in use.
echo 4 > $parameter
refuse "any ring while more is in use than allowed" 'a ring of 1 MiB' 'have 6 MiB already, and ring_total_mib allows 4' \
	other 1
check_cases
acked=$(status_field "$NAME" acked)
check "the other group goes on streaming" wait_for 20 status_past "$NAME" acked $((acked + 50))
check "... and never stopped" test "${ST[capture]}/${ST[image]}" = stream/clean

echo 8 > $parameter
check "what fits is accepted" other 2
defer dm remove "$PREFIX-other"
check_not "then nothing more fits" dm create "$PREFIX-more" --table "$(repagent_table "$OTHER" "$GROUP-more" v0 ring 1)" \
	2> /dev/null
dm remove "$PREFIX-other"
check "what was given back can be had again" other 2
end_writer oracle TERM
check "no write failed" test $? -eq 0
check "all is forwarded" wait_for 20 is_synced "$NAME"
check "the replica is the disk" same "$DEV" "$HUB/v0"
ktap_finished
