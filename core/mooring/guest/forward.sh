# The session's side of `mooring port-forward`, in POSIX sh.
#
#   guard              reads "add PID", "drop PID" and "kill PID"; at the end of its input it
#                      kills what was added and not dropped: so nothing outlives a client
#   relay PYTHON PERL  says its PID on standard error, waits for a line "PORT HEX", and becomes
#                      that port's connection, by what the image has; PYTHON and PERL are the
#                      programs relay.py and relay.pl. Says "refused" where nothing listens, and
#                      "none" where nothing can connect.
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

# The addresses at which something listens on a port, the best first, into HOSTS: proc_net(5).
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
    if [ -n "$own" ]; then # the container's own address: bytes in the machine's order
        rest=${own#??} four=$((0x${own%"$rest"})) own=$rest
        rest=${own#??} three=$((0x${own%"$rest"})) own=$rest
        rest=${own#??} two=$((0x${own%"$rest"}))
        HOSTS="$HOSTS $((0x$rest)).$two.$three.$four"
    fi
}

relay() {
    printf '%s\n' "$$" >&2
    read -r port hex || exit 0
    find_hosts "$hex"
    # shellcheck disable=SC2086 # addresses, to be split
    set -- "$1" "$2" $HOSTS
    if [ $# -lt 3 ]; then echo refused >&2; exit 1; fi
    python=$1 perl=$2
    shift 2
    for program in /usr/bin/python3 python3; do
        if command -v "$program" >/dev/null 2>&1; then
            exec "$program" -ISc "$python" "$port" "$@"
        fi
    done
    if command -v perl >/dev/null 2>&1 && perl -MSocket -e 1 2>/dev/null; then
        exec perl -e "$perl" "$port" "$@"
    fi
    if command -v socat >/dev/null 2>&1; then
        case $1 in *:*) set -- "[$1]" ;; esac
        exec socat -t 2147483 - "TCP:$1:$port"
    fi
    if command -v nc >/dev/null 2>&1; then
        # OpenBSD's passes the end of input on only when it is told to
        case $(nc -h 2>&1) in *-N*hutdown*) exec nc -N "$1" "$port" ;; esac
        exec nc "$1" "$port"
    fi
    if command -v busybox >/dev/null 2>&1; then exec busybox nc "$1" "$port"; fi
    if command -v bash >/dev/null 2>&1; then
        # shellcheck disable=SC2016 # bash expands it
        exec bash -c 'exec 3<>"/dev/tcp/$1/$2" || exit 1
            cat <&0 >&3 &
            cat <&3
            kill "$!"' relay "$1" "$port"
    fi
    echo none >&2
    exit 1
}

mode=$1
shift
case $mode in
guard) guard ;;
relay) relay "$@" ;;
esac
