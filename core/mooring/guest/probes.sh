# Sourced by clock.sh: what counts as activity, one probe per signal. Each calls `seen SIGNAL`, or
# `unsure SIGNAL` if it cannot be determined.
# shellcheck shell=sh
# shellcheck disable=SC2015 # "A && B || continue" is meant as (A && B) || continue
# shellcheck disable=SC2016 # single quotes: expanded by eval
# shellcheck disable=SC2034 # clock.sh and end.sh read the results, NAME_at through eval
# shellcheck disable=SC2153,SC2154 # clock.sh assigns settings and times, proc.sh its results

# seen SIGNAL [UPTIME]: it is active now, or was then, after the last sample. unsure PROBE: it failed.
seen() {
    case "$active " in *" $1 "*) ;; *) active="$active $1" ;; esac
    [ "$1" = hold ] || stirred=$now
    at=${2:-$now}
    [ "$at" -le "$now" ] || at=$now
    [ "$at" -ge "$previous" ] || at=$previous
    [ "$at" -lt "$last" ] || last=$at last_name=$1
    eval "$1_at=\$at"
}
unsure() { case "$unknown " in *" $1 "*) ;; *) unknown="$unknown $1" ;; esac }

# Set AT to the uptime of a time in whole seconds since the epoch, or a little later; to now if the
# last sample is not long ago, or the time is not known.
date_of() {
    AT=$now epoch=''
    [ -n "$late" ] && is_count "$1" || return 0
    command eval 'epoch=$(date +%s)' 2>/dev/null
    if is_count "$epoch"; then AT=$((now - (epoch - $1 - 1) * 100)); fi
}

probe_hold() {
    hold_until=0
    [ -e "$folder/hold" ] || return 0
    line=''
    { read -r line _ <"$folder/hold"; } 2>/dev/null
    if ! to_cs "$line"; then unsure hold
    elif [ "$now" -lt "$CS" ]; then hold_until=$CS; seen hold
    elif [ "$CS" -gt "$previous" ]; then seen hold "$CS"
    fi
}

# kernels: "FILE:CONTENT" lines of the last sample; a changed count of requests is activity.
probe_kernels() {
    states=$NL
    for file in "$folder"/k/*/busy; do
        [ -e "$file" ] && ! [ -e "${file%busy}exit" ] || continue
        line=''
        { read -r line <"$file"; } 2>/dev/null
        states=$states$file:$line$NL
        case $line in
        'busy '[0-9]*) seen kernel ;;
        'idle '[0-9]*) case $kernels in *"$NL$file:$line$NL"*) ;; *) seen_idle_kernel ;; esac ;;
        *) unsure kernel ;;
        esac
    done
    kernels=$states
}

# It has handled requests since the last sample, and changed its file after the last one.
seen_idle_kernel() {
    stamp=''
    [ -z "$late" ] || command eval 'stamp=$(stat -c %Y "$file")' 2>/dev/null
    date_of "$stamp"
    seen kernel "$AT"
}

probe_execs() {
    if [ -f "$folder/exec" ]; then
        line=''
        { read -r line <"$folder/exec"; } 2>/dev/null
        case $line in
        '') unsure exec ;;
        "$last_exec") ;;
        *)
            last_exec=$line CS=$now
            to_cs "$line" || CS=$now
            seen exec "$CS"
            ;;
        esac
    fi
    for file in "$folder"/x/*; do
        [ -e "$file" ] || continue
        pid='' start=''
        { read -r pid start <"$file"; } 2>/dev/null
        if ! is_count "$pid" || ! is_count "$start"; then unsure exec
        elif read_stat "$pid" && [ "$START" = "$start" ] && [ "$STATE" != Z ]; then seen exec
        else command eval 'rm -f -- "$file"' 2>/dev/null
        fi
    done
}

# Reading from a terminal sets its atime (in steps of 8 s); writing to it does not. lister: the tool
# that shows atimes here, once known. What was read before the first sample is no news.
probe_terminals() {
    set -- /dev/pts/[0-9]*
    [ -c "$1" ] || { terminals=$NL; return 0; }
    ! [ -c /dev/console ] || set -- "$@" /dev/console
    listing='' known=$lister
    for lister in ${known:-stat ls none}; do
        case $lister in
        stat) command eval 'listing=$(stat -c %X:%n "$@")' 2>/dev/null ;;
        ls) command eval 'listing=$(ls -lnu "$@")' 2>/dev/null ;;
        none) return 0 ;;
        esac
        [ -z "$listing" ] || break
        # The terminal was closed after the glob; the tool may work.
        [ -c "$1" ] || { lister=$known; return 0; }
    done
    if [ -z "$listing" ]; then unsure terminal; return 0; fi
    IFS=$NL
    for line in $listing; do
        case $terminals in '' | *"$NL$line$NL"*) continue ;; esac
        # An access time may be that old when it is set
        date_of "${line%%:*}"
        seen terminal $((AT + 800))
    done
    unset IFS
    terminals=$NL$listing$NL
}

# ring: "TIME:USAGE" readings, oldest first, a twelfth of the window apart. The first one is the
# newest that is as old as the window, or the oldest of all.
probe_cpu() {
    cpu_busy='' cpu_last=-
    [ -n "$cpu_file" ] || return 0
    if ! read_usage; then unsure cpu; ring='' previous_reading=''; return 0; fi
    readings='' newest=-1
    for reading in $ring; do
        newest=${reading%:*}
        [ "$newest" -gt $((now - idle)) ] || readings=''
        readings="$readings $reading"
    done
    [ "$newest" -ge 0 ] && [ $((now - newest)) -lt $((idle / 12)) ] || readings="$readings $now:$USAGE"
    ring=${readings# }
    share "${previous_reading:-$now:$USAGE}"
    recent_share=$SHARE cpu_last=$PERCENT previous_reading=$now:$USAGE
    share "${ring%% *}"
    cpu_window=$PERCENT
    [ "$SHARE" -lt 50 ] || { cpu_busy=yes; active="$active cpu"; }
}

# share TIME:USAGE: set SHARE (thousandths) and PERCENT to the use of one core since that reading.
share() {
    SHARE=$((now - ${1%:*}))
    [ "$SHARE" = 0 ] || SHARE=$(((USAGE - ${1#*:}) * 1000 / SHARE))
    [ "$SHARE" -ge 0 ] || SHARE=0
    PERCENT=$((SHARE / 10)).$((SHARE % 10))
}

# A driver may block its callers forever, so a child queries it, the next sample reads the child's
# answer, and there is no second child while the first one lives. gpu_state: ok, absent (nothing to
# query), lost (the devices cannot be opened any more), failed; empty before the first answer.
probe_gpu() {
    [ "$gpus" != 0 ] || return 0
    others=$active
    collect_gpu
    case $gpu_state in
    lost | failed) unsure gpu ;;
    ok) [ "$gpu_percent" -lt 5 ] || case "$active " in *' gpu '*) ;; *) active="$active gpu" ;; esac ;;
    esac
    [ -z "$gpu_pid" ] || return 0
    # Queries cost CPU time: query often only while the answer decides
    interval=3000
    [ "$idle" = 0 ] || [ -n "$others" ] || [ $((idle / 60)) -ge "$interval" ] || interval=$((idle / 60))
    [ -n "$gpu_asked" ] && [ $((now - gpu_asked)) -lt "$interval" ] && return 0
    command eval 'ask_gpu </dev/null >"$folder/gpu" 2>/dev/null &' 2>/dev/null || return 0
    gpu_pid=$! gpu_asked=$now gpu_start=''
    if read_stat "$gpu_pid"; then gpu_start=$START; fi
}

# Read the answer of the querying child if it has exited; kill a child that takes too long.
collect_gpu() {
    [ -n "$gpu_pid" ] || return 0
    if read_stat "$gpu_pid" && [ "$START" = "$gpu_start" ] && [ "$STATE" != Z ]; then
        # As long as a slow driver needs; less if the window is short
        patience=1000
        [ "$idle" = 0 ] || [ $((idle / 2)) -gt "$patience" ] || patience=$((idle / 2))
        [ $((now - gpu_asked)) -ge "$patience" ] || return 0
        { kill -KILL "$gpu_pid"; } 2>/dev/null
        gpu_state=failed gpu_percent=''
        return 0
    fi
    code=0
    wait "$gpu_pid" 2>/dev/null || code=$?
    gpu_pid=''
    read_gpu
    [ "$gpu_state" != ok ] || [ "$gpu_percent" -lt 5 ] || seen gpu
}

# Runs in a child and becomes the tool: prints the use of each GPU in percent, one per line, over at
# most the last second.
ask_gpu() {
    if [ -n "$gpu_had_node" ] && ! true <"$gpu_node"; then echo lost; exit; fi
    answered=''
    for file in /sys/class/drm/card*/device/gpu_busy_percent; do
        # The machine's GPUs are all listed; those with a device node are this container's
        for node in "${file%/*}"/drm/*; do
            [ -e "/dev/dri/${node##*/}" ] && [ -r "$file" ] || continue
            cat "$file" && answered=yes
            break
        done
    done
    [ -z "$answered" ] || exit 0
    command -v nvidia-smi >/dev/null || { echo absent; exit; }
    [ -z "$gpu_libraries" ] || export LD_LIBRARY_PATH="$gpu_libraries"
    exec nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits
}

# Set gpu_state and gpu_percent from the answer of a child that exited with $code. An answer without
# numbers, as for a split GPU, is not a failure.
read_gpu() {
    gpu_state=failed gpu_percent=''
    [ "$code" = 0 ] || return 0
    {
        while read -r line; do
            case $line in
            lost) gpu_state=lost ;;
            *[!0-9]* | ????*) [ "$gpu_state" = ok ] || gpu_state=absent ;;
            ?*)
                gpu_state=ok
                [ "$line" -le "${gpu_percent:--1}" ] || gpu_percent=$line ;;
            esac
        done <"$folder/gpu"
    } 2>/dev/null
}

# Set memory to the memory in use, without the page cache that the kernel can reclaim, as in `docker
# stats`; empty if it cannot be determined.
probe_memory() {
    memory='' value='' name=inactive_file
    case $memory_file in
    '') return 0 ;;
    *.usage_in_bytes) name=total_inactive_file ;;
    esac
    {
        read -r memory <"$memory_file"
        while read -r key value; do
            [ "$key" != "$name" ] || break
        done <"${memory_file%/*}/memory.stat"
    } 2>/dev/null
    is_count "$memory" || memory=''
    if [ -n "$memory" ] && is_count "$value" && [ "$value" -lt "$memory" ]; then
        memory=$((memory - value))
    fi
}
