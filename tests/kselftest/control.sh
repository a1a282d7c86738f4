# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# control.sh: a client of the daemon's control socket.

SOCKET=/run/repagent/$GROUP.sock

run_repagentd() { # ARGUMENT...
	daemon_log=("$TMP/daemon.log")
	repagentd "$GROUP" "$@" >> "$TMP/daemon.log" 2>&1 &
	DAEMON=$!
	defer end_process $DAEMON
	must_wait_for 20 test -S "$SOCKET"
}
connect() { # descriptors 5 and 6 are a client's; leaves the greeting in $ANSWER
	rm -f "$TMP/to" "$TMP/from"
	mkfifo "$TMP/to" "$TMP/from"
	socat - "UNIX-CONNECT:$SOCKET" < "$TMP/to" > "$TMP/from" 2> "$TMP/socat.err" &
	defer end_process $!
	exec 5> "$TMP/to" 6< "$TMP/from"
	read -rt 20 -u 6 ANSWER
}
ask() { # LINE: leaves the answer in $ANSWER
	echo "$1" >&5
	ANSWER=''
	read -rt 60 -u 6 ANSWER || { note "no answer to $1"; return 1; }
}
call() { # COMMAND [ARGUMENTS]
	ask "{\"execute\":\"$1\"${2:+,\"arguments\":{$2\}},\"id\":\"$1\"}"
}
returns() { # TEXT COMMAND [ARGUMENTS]: it returns something with this text in it
	call "${@:2}" && [[ $ANSWER == '{"return":'*"$1"*"\"id\":\"$2\"}" ]] && return
	note "answer: $ANSWER"
	return 1
}
fails() { # CLASS TEXT COMMAND [ARGUMENTS]
	call "${@:3}" && [[ $ANSWER == '{"error":{"class":"'"$1"'","desc":"'*"$2"* ]] && return
	note "answer: $ANSWER"
	return 1
}
says() { # CLASS TEXT LINE
	ask "$3" && [[ $ANSWER == '{"error":{"class":"'"$1"'","desc":"'*"$2"* ]] && return
	note "answer: $ANSWER"
	return 1
}
status_has() { # TEXT
	call query-status && [[ $ANSWER == *"$1"* ]]
}
wrong() { # CLASS TEXT COMMAND [ARGUMENTS]
	check "$1: $3 ${4:-}" fails "$@"
}
number() { # NAME: of $ANSWER
	[[ $ANSWER =~ \"$1\":([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}
protected() {
	status_has '"protected":true'
}
