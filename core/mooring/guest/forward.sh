# The session's side of `mooring port-forward` and of ssh's forwards, in POSIX sh.
#
#   serve PYTHON PATH   is replaced by python3 with PYTHON (the text of relay.py), which prints "relay"
#                  on standard error and makes connections for who asks at the socket PATH. If the
#                  image has no python3, it prints "guard", and is one
#   guard          reads lines "add PID", "drop PID" and "kill PID"; when its input ends, it kills
#                  every PID that was added and not dropped, so that no process outlives its client
#   relay          prints its PID on standard error, waits for a line "PORT HEX" or "unix PATH",
#                  prints "found" if something listens there, and is replaced by a program that
#                  relays a connection to it: socat or, for a port, busybox. Prints "refused" if
#                  nothing listens, and "none" if the image has no such program.
#
# shellcheck shell=sh
set -u

guard() {
    live=' '
    while read -r what pid; do
        case $what in
        add) live="$live$pid " ;;
        kill) kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null ;;
        esac
        case $what:$live in
        drop:*" $pid "* | kill:*" $pid "*) live="${live%%" $pid "*} ${live#*" $pid "}" ;;
        esac
    done
    for pid in $live; do
        kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null
    done
}

serve() {
    for program in /usr/bin/python3 python3; do
        if command -v "$program" >/dev/null 2>&1; then exec "$program" -ISc "$1" "$2"; fi
    done
    echo guard >&2
    guard
}

# Sets HOSTS to the addresses on which a process listens on port $1 (four hexadecimal digits), the
# best one first: proc_net(5).
find_hosts() {
    HOSTS=''
    if ! [ -r /proc/net/tcp ]; then HOSTS=127.0.0.1; return; fi
    own=''
    for table in /proc/net/tcp /proc/net/tcp6; do
        [ -r "$table" ] || continue
        while read -r _ here _ state _; do
            case $state:$here in 0A:*":$1") ;; *) continue ;; esac
            case ${here%:*} in
            00000000 | 0100007F | 0000000000000000FFFF00000100007F) HOSTS="127.0.0.1 $HOSTS" ;;
            00000000000000000000000000000000) HOSTS="$HOSTS 127.0.0.1 ::1" ;;
            00000000000000000000000001000000) HOSTS="$HOSTS ::1" ;;
            ????????) own=${here%:*} ;;
            esac
        done <"$table"
    done
    if [ -n "$own" ]; then # the container's own address, in the machine's byte order
        rest=${own#??} four=$((0x${own%"$rest"})) own=$rest
        rest=${own#??} three=$((0x${own%"$rest"})) own=$rest
        rest=${own#??} two=$((0x${own%"$rest"}))
        HOSTS="$HOSTS $((0x$rest)).$two.$three.$four"
    fi
}

relay() {
    printf '%s\n' "$$" >&2
    read -r port hex || exit 0
    if [ "$port" = unix ]; then
        cd -- "${HOME:-/}" 2>/dev/null || cd /
        set -- "$hex"
        [ -S "$hex" ] || set --
    else
        find_hosts "$hex"
        # shellcheck disable=SC2086 # a list of addresses
        set -- $HOSTS
    fi
    if [ $# -eq 0 ]; then echo refused >&2; exit 1; fi
    echo found >&2
    if [ "$port" = unix ]; then
        # in an address of socat's, other characters have a meaning
        case $1 in *[!A-Za-z0-9/._@%+=~-]*) ;; *)
            if command -v socat >/dev/null 2>&1; then exec socat -t 2147483 - "UNIX:$1"; fi ;;
        esac
        echo none >&2
        exit 1
    fi
    if command -v socat >/dev/null 2>&1; then
        case $1 in *:*) set -- "[$1]" ;; esac
        exec socat -t 2147483 - "TCP:$1:$port"
    fi
    if command -v busybox >/dev/null 2>&1; then exec busybox nc "$1" "$port"; fi
    echo none >&2
    exit 1
}

mode=$1
shift
case $mode in
serve) serve "$@" ;;
guard) guard ;;
relay) relay ;;
esac
