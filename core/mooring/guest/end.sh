# Sourced by clock.sh: how a session ends.
# shellcheck shell=sh
# shellcheck disable=SC2015 # "A && B || continue" is meant as (A && B) || continue
# shellcheck disable=SC2016 # single quotes: expanded by eval
# shellcheck disable=SC2153,SC2154 # clock.sh assigns settings and times, proc.sh its results

# write_end REASON DETAIL. The first call wins: with -C the write fails if the file exists.
write_end() {
    signals='' detail=$2 epoch=''
    for signal in $SIGNALS; do
        eval "ago=\$${signal}_at"
        if [ -n "$ago" ]; then ago=$(((now - ago) / 100)); else ago=never; fi
        [ "$signal:$gpu_state" != gpu:absent ] || ago=absent
        signals="$signals $signal=$ago"
    done
    while case $detail in *"$NL"*) true ;; *) false ;; esac do
        detail="${detail%%"$NL"*} ${detail#*"$NL"}"
    done
    command eval 'epoch=$(date +%s)' 2>/dev/null
    format_seconds "$now"
    set -C
    {
        printf '%s\n' "reason $1" "time ${epoch:-0}" "uptime $TEXT" "detail $detail" \
            "signals$signals cpu=${cpu_window:-?}%" >"$folder/end"
    } 2>/dev/null
    set +C
}

# end_session REASON DETAIL: send TERM to all processes; HUP to those that ignore TERM (interactive
# shells) once the others have exited, because shells pass HUP on; KILL after the grace period.
# Linux spares PID 1 and the caller; when the session's command has exited, so does the init.
end_session() {
    trap '' HUP INT QUIT TERM USR1
    write_end "$1" "$2"
    deadline=$((now + grace)) hung_up=''
    # CONT, because a stopped job receives its TERM only when it continues.
    for signal in TERM CONT; do { kill -$signal -1; } 2>/dev/null; done
    while others_live && [ "$now" -lt "$deadline" ]; do
        if [ -z "$hung_up$listening" ] || [ "$now" -gt $((deadline - grace / 4)) ]; then
            { kill -HUP -1; } 2>/dev/null
            hung_up=yes
        fi
        nap 10
        read_uptime
    done
    # A clock that is the main process exits with 0 if no process had to be killed.
    if [ -n "$clock_pid" ] && [ "$clock_pid" != "$$" ] && ! others_live; then
        { kill -USR1 "$clock_pid"; } 2>/dev/null
        nap 100
    fi
    { kill -KILL -1; } 2>/dev/null
    exit 0
}

# Whether any process lives other than the init, this one, the clock, and children of the last two;
# `listening` is set if one of them does not ignore TERM.
others_live() {
    live='' listening=''
    for entry in /proc/[0-9]*; do
        case ${entry#/proc/} in 1 | "$$" | "$clock_pid") continue ;; esac
        read_stat "${entry#/proc/}" && [ "$STATE" != Z ] || continue
        case $PARENT in "$$" | "$clock_pid") continue ;; esac
        live=yes
        ignores_term "$ID" || { listening=yes; break; }
    done
    [ -n "$live" ]
}

# The mask is hexadecimal; TERM is bit 14.
ignores_term() {
    mask=''
    {
        while read -r key mask; do
            case $key in SigIgn:) break ;; esac
        done </proc/"$1"/status
    } 2>/dev/null
    case $mask in *[4567cdef]???) ;; *) return 1 ;; esac
}

# Read what the clock knew, for an `end` that runs beside it.
read_status() {
    {
        while read -r key value; do
            case $key in
            clock) is_count "$value" && clock_pid=$value ;;
            cpu_window) cpu_window=${value#-} ;;
            gpu) gpu_state=$value ;;
            seen)
                for pair in $value; do
                    case " $SIGNALS " in *" ${pair%%=*} "*) ;; *) continue ;; esac
                    to_cs "${pair#*=}" && eval "${pair%%=*}_at=\$CS"
                done ;;
            esac
        done <"$folder/status"
    } 2>/dev/null
}
