#!/bin/sh
# The session's clock: it ends the container when it is idle or has had its time.
#
# POSIX sh (dash, bash, busybox ash) with sleep, cat, rm and mv beside it; stat or ls,
# stty and date are used where found. It needs an init as PID 1 and its run directory R
# to be the one this file lies in, whatever the environment says.
#
#   sh clock.sh main                  be the session: sample until it ends
#   sh clock.sh main -- CMD ARG…      sample in the background and become CMD
#   sh clock.sh end REASON [DETAIL…]  end the session now
#   sh clock.sh exec ID -- CMD ARG…   become CMD, counted as activity while it lives
#   sh clock.sh shell ROWS COLS [-- CMD ARG…]   size the terminal, become CMD or a shell
#
# Read from R:
#   settings     lines KEY VALUE: idle_timeout_s, max_duration_s (0: never), sample_s,
#                grace_s, warn_s, name, gpus (how many it holds), gpu_node (a file that it
#                can open while it has them); read again at every sample, last good value kept
#   hold         held until this uptime, in seconds
#   k/*/busy     "busy N" or "idle N", N counting requests; ignored beside k/*/exit
#   x/*          "PID STARTTIME" of a live exec; removed here once it is dead
#   exec         another text for every exec that is begun, however short it is
#   kernelhost   first line: the python that runs R/kernelhost.py (output: kernelhost.log)
#   mounts       "DEVICE:INODE PATH" of R, then of each mount, as they were granted; empty
#                where they cannot be told, and without it nothing starts
# Written to R:
#   status       at every sample; complete if its last line is `complete`, else read again
#   gpu          what was last said of the GPUs
#   end          why the session ended, once a run; complete once it has a `signals` line
#   checked      the mounts are what was granted, and the command can be run; nothing of the
#                user's runs before
#   k/*/exit     "lost", for kernels left over from an earlier run
#
# The session ends as idle when no kernel, terminal, exec or hold was seen for the idle
# timeout, none of its GPUs at 5 % or more, and its cgroup used less than 5 % of one core
# over that window, the clock's own use not counted. A probe that fails pauses the idle clock; a gap between samples
# restarts it. Times are uptimes in centiseconds, because dash has integers only; a
# builtin that may fork runs in `command eval`, because a failed fork ends dash otherwise.
#
# shellcheck disable=SC2015 # "A && B || continue" is meant as (A && B) || continue
# shellcheck disable=SC2016 # single quotes: expanded by eval
# shellcheck disable=SC2034 # NAME_at and NAME_warned are used through eval
set -u

# The environment is the spec's. What it has of the names that are used below, a command gets as
# it was (`give_back`): a shell hands on what it has set of an exported variable.
mooring_kept=''
for mooring_name in \
    CS ID NL PARENT PERCENT R SHARE SIGNALS SPAN START STATE TEXT USAGE USED active begun \
    clock_pid code compare cpu cpu_busy cpu_file cpu_last cpu_window deadline detail epoch every \
    exec_at file floor found fractions gpu_asked gpu_at gpu_had_node gpu_node gpu_percent \
    gpu_pid gpu_start gpu_state gpus grace granted hold_at hold_until hung_up identity idle \
    idle_at idle_warned kept kernel_at kernels key known last last_name left length line \
    listening lister margin mask max max_at max_warned memory memory_file mode name names newest \
    node now old_idle others pair part path patience pid previous previous_reading python \
    reading reason ring sample self signal signals start started step terminal_at terminals text \
    top unit unknown usage v1 v1_memory v2 value warn whole writers
do
    eval "[ -n \"\${$mooring_name+set}\" ]" || continue
    eval "mooring_own_$mooring_name=\$$mooring_name"
    mooring_kept="$mooring_kept $mooring_name"
done

give_back() {
    for mooring_name in $mooring_kept; do
        eval "$mooring_name=\$mooring_own_$mooring_name"
    done
}

case $0 in */*) R=${0%/*} ;; *) R=. ;; esac
NL='
'
SIGNALS='kernel terminal exec hold'
kernel_at='' terminal_at='' exec_at='' hold_at='' gpu_at=''
idle=0 max=0 sample=500 grace=1000 warn=60000 name=NAME
now=0 clock_pid='' cpu_window='' ring='' previous_reading='' fractions=yes
gpus=0 gpu_node=/dev/nvidiactl gpu_state='' gpu_percent='' gpu_pid='' gpu_asked='' gpu_had_node=''

# --- numbers -----------------------------------------------------------------------------

# Decimal seconds into CS, rounded up; fails on any other text, at which dash would exit.
to_cs() {
    case $1 in '' | . | *[!0-9.]* | *.*.*) return 1 ;; esac
    whole=${1%%.*} part=''
    [ ${#whole} -le 12 ] || return 1
    while case $whole in 0?*) true ;; *) false ;; esac do whole=${whole#0}; done
    case $1 in *.*) part=${1#*.} ;; esac
    CS=0
    case $part in ??*[1-9]*) CS=1 ;; esac
    part=${part}00
    CS=$((CS + ${whole:-0} * 100 + 1${part%"${part#??}"} - 100))
}

is_count() { case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac }

# Centiseconds as seconds into TEXT; "never" for none.
show() {
    if [ -z "$1" ]; then TEXT=never; return; fi
    TEXT=$(($1 % 100))
    case $TEXT in ?) TEXT=0$TEXT ;; esac
    TEXT=$(($1 / 100)).$TEXT
}

# Centiseconds as a person says them, into SPAN: 2h, 30m, 45s.
span() {
    SPAN=$((($1 + 99) / 100))
    if [ "$SPAN" -gt 0 ] && [ $((SPAN % 3600)) = 0 ]; then SPAN=$((SPAN / 3600))h
    elif [ "$SPAN" -gt 0 ] && [ $((SPAN % 60)) = 0 ]; then SPAN=$((SPAN / 60))m
    else SPAN=${SPAN}s
    fi
}

# --- the machine -------------------------------------------------------------------------

# Uptime goes on through a suspend and knows no change of the wall clock.
read_uptime() {
    text=''
    { read -r text _ </proc/uptime; } 2>/dev/null
    if to_cs "$text"; then now=$CS; fi
}

# /proc/$1/stat into ID, STATE, PARENT, START and USED (ticks of 10 ms, dead children's
# too). `self` is this shell; $$ would be the command whose place its parent took.
read_stat() {
    text=''
    { while read -r part || [ -n "$part" ]; do text="$text $part"; done </proc/"$1"/stat; } 2>/dev/null
    # A command's name may hold spaces, newlines and parentheses: go by the last one.
    case $text in *') '*) ;; *) return 1 ;; esac
    # shellcheck disable=SC2086 # numbers and one letter, to be split
    set -- ${text%%(*} ${text##*) }
    [ $# -gt 20 ] || return 1
    ID=$1 STATE=$2 PARENT=$3 USED=$((${13} + ${14} + ${15} + ${16})) START=${21}
}

# CPU time of the cgroup less the clock's own, in centiseconds, into USAGE. Without one, that
# of all processes, and of the children that they have waited for.
read_usage() {
    key=usage_usec text='' unit=10000
    case $cpu_file in
    /proc)
        usage=0
        for file in /proc/[0-9]*; do
            if read_stat "${file#/proc/}"; then usage=$((usage + USED)); fi
        done
        read_stat self && USAGE=$((usage - USED))
        return
        ;;
    *.usage) unit=10000000; { read -r text <"$cpu_file"; } 2>/dev/null ;;
    *) { read -r key text <"$cpu_file"; } 2>/dev/null ;;
    esac
    [ "$key" = usage_usec ] && is_count "$text" || return 1
    usage=$((text / unit))
    read_stat self && USAGE=$((usage - USED))
}

# The files with the cgroup's CPU time and memory into cpu_file and memory_file. The path in /proc/self/cgroup exists
# under the mount only where the host's whole tree is mounted. The root of a v1 tree, which
# alone has a release_agent, counts the whole machine; rootless engines have no other.
find_cgroup() {
    v1='' v2='' v1_memory='' top=/sys/fs/cgroup
    {
        while IFS=: read -r _ names path; do
            case ,$names, in ,,) v2=$path ;; *,cpuacct,*) v1=$path ;; esac
            case ,$names, in *,memory,*) v1_memory=$path ;; esac
        done </proc/self/cgroup
    } 2>/dev/null
    for memory_file in "$top$v2/memory.current" "$top/memory.current" \
        "$top/memory$v1_memory/memory.usage_in_bytes" "$top/memory/memory.usage_in_bytes" ''; do
        [ -r "$memory_file" ] && ! [ -e "${memory_file%/*}/release_agent" ] || continue
        break
    done
    for cpu_file in "$top$v2/cpu.stat" "$top/cpu.stat" \
        "$top/cpuacct$v1/cpuacct.usage" "$top/cpuacct/cpuacct.usage" \
        "$top/cpu,cpuacct$v1/cpuacct.usage" "$top/cpu,cpuacct/cpuacct.usage"; do
        ! [ -e "${cpu_file%/*}/release_agent" ] || continue
        if read_usage; then return; fi
    done
    cpu_file=/proc
}

# Wait, open to signals; in whole seconds where sleep knows no fractions.
nap() {
    show "$1"
    [ -n "$fractions" ] || TEXT=$((($1 + 99) / 100))
    code=0
    command eval 'sleep "$TEXT" & wait $!' 2>/dev/null || code=$?
    # Above 128 a signal cut it short.
    if [ "$code" != 0 ] && [ "$code" -le 128 ] && [ -n "$fractions" ]; then
        fractions=''
        nap "$1"
    fi
}

# --- settings and signals ----------------------------------------------------------------

read_settings() {
    old_idle=$idle
    {
        while read -r key value || [ -n "$key" ]; do
            case $key in
            idle_timeout_s) to_cs "$value" && idle=$CS ;;
            max_duration_s) to_cs "$value" && max=$CS ;;
            sample_s) to_cs "$value" && sample=$CS ;;
            grace_s) to_cs "$value" && grace=$CS ;;
            warn_s) to_cs "$value" && warn=$CS ;;
            name) name=${value:-NAME} ;;
            gpus) is_count "$value" && gpus=$value ;;
            gpu_node) gpu_node=$value ;;
            esac
        done <"$R/settings"
    } 2>/dev/null
    SIGNALS='kernel terminal exec hold'
    [ "$gpus" = 0 ] || SIGNALS="$SIGNALS gpu"
    # Readings a twelfth of the old window apart say too little of a shorter one.
    [ "$idle" -ge "$old_idle" ] || ring=$previous_reading
    step=$sample
    [ "$idle" = 0 ] || [ $((idle / 4)) -ge "$step" ] || step=$((idle / 4))
    floor=50
    [ -n "$fractions" ] || floor=100
    [ "$step" -ge "$floor" ] || step=$floor
}

# seen SIGNAL: now. unsure PROBE: it failed.
seen() {
    case "$active " in *" $1 "*) ;; *) active="$active $1" ;; esac
    last=$now last_name=$1
    eval "$1_at=\$now"
}
unsure() { case "$unknown " in *" $1 "*) ;; *) unknown="$unknown $1" ;; esac }

probe_hold() {
    hold_until=0
    [ -e "$R/hold" ] || return 0
    text=''
    { read -r text _ <"$R/hold"; } 2>/dev/null
    if ! to_cs "$text"; then unsure hold
    elif [ "$now" -lt "$CS" ]; then hold_until=$CS; seen hold
    fi
}

probe_kernels() {
    found=$NL
    for file in "$R"/k/*/busy; do
        [ -e "$file" ] && ! [ -e "${file%busy}exit" ] || continue
        text=''
        { read -r text <"$file"; } 2>/dev/null
        found=$found$file:$text$NL
        case $text in
        'busy '[0-9]*) seen kernel ;;
        'idle '[0-9]*) case $kernels in *"$NL$file:$text$NL"*) ;; *) seen kernel ;; esac ;;
        *) unsure kernel ;;
        esac
    done
    kernels=$found
}

probe_execs() {
    if [ -f "$R/exec" ]; then
        text=''
        { read -r text <"$R/exec"; } 2>/dev/null
        case $text in
        '') unsure exec ;;
        "$begun") ;;
        *) begun=$text; seen exec ;;
        esac
    fi
    for file in "$R"/x/*; do
        [ -e "$file" ] || continue
        pid='' start=''
        { read -r pid start <"$file"; } 2>/dev/null
        if ! is_count "$pid" || ! is_count "$start"; then unsure exec
        elif read_stat "$pid" && [ "$START" = "$start" ] && [ "$STATE" != Z ]; then seen exec
        else command eval 'rm -f -- "$file"' 2>/dev/null
        fi
    done
}

# Reading a terminal sets its atime (in steps of 8 s), writing to it does not.
probe_terminals() {
    set -- /dev/pts/[0-9]*
    [ -c "$1" ] || { terminals=$NL; return 0; }
    ! [ -c /dev/console ] || set -- "$@" /dev/console
    found='' known=$lister
    for lister in ${known:-stat ls none}; do
        case $lister in
        stat) command eval 'found=$(stat -c %X:%n "$@")' 2>/dev/null ;;
        ls) command eval 'found=$(ls -lnu "$@")' 2>/dev/null ;;
        none) return 0 ;;
        esac
        [ -z "$found" ] || break
        # Closed since the glob: that says nothing of the tool.
        [ -c "$1" ] || { lister=$known; return 0; }
    done
    if [ -z "$found" ]; then unsure terminal; return 0; fi
    IFS=$NL
    for line in $found; do
        case $terminals in *"$NL$line$NL"*) ;; *) seen terminal ;; esac
    done
    unset IFS
    terminals=$NL$found$NL
}

# ring: readings "TIME:USAGE", oldest first, a twelfth of the window apart. The first is
# the newest that is as old as the window, or the first of all.
probe_cpu() {
    cpu_busy='' cpu_last=-
    [ -n "$cpu_file" ] || return 0
    if ! read_usage; then unsure cpu; ring='' previous_reading=''; return 0; fi
    kept='' newest=-1
    for reading in $ring; do
        newest=${reading%:*}
        [ "$newest" -gt $((now - idle)) ] || kept=''
        kept="$kept $reading"
    done
    [ "$newest" -ge 0 ] && [ $((now - newest)) -lt $((idle / 12)) ] || kept="$kept $now:$USAGE"
    ring=${kept# }
    share "${previous_reading:-$now:$USAGE}"
    cpu_last=$PERCENT previous_reading=$now:$USAGE
    share "${ring%% *}"
    cpu_window=$PERCENT
    [ "$SHARE" -lt 50 ] || { cpu_busy=yes; active="$active cpu"; }
}

# share TIME:USAGE: use of one core since that reading, as SHARE (thousandths) and PERCENT.
share() {
    SHARE=$((now - ${1%:*}))
    [ "$SHARE" = 0 ] || SHARE=$(((USAGE - ${1#*:}) * 1000 / SHARE))
    [ "$SHARE" -ge 0 ] || SHARE=0
    PERCENT=$((SHARE / 10)).$((SHARE % 10))
}

# A driver may hang whoever asks it, for good: a child asks, the next sample reads its answer,
# and no other is asked while it lives. gpu_state: ok, absent (nobody to ask), lost (the devices
# cannot be opened any more), failed; empty before the first answer.
probe_gpu() {
    [ "$gpus" != 0 ] || return 0
    others=$active
    # What a slow driver needs; less where the window is short
    patience=1000
    [ "$idle" = 0 ] || [ $((idle / 2)) -gt "$patience" ] || patience=$((idle / 2))
    if [ -n "$gpu_pid" ]; then
        if read_stat "$gpu_pid" && [ "$START" = "$gpu_start" ] && [ "$STATE" != Z ]; then
            if [ $((now - gpu_asked)) -ge "$patience" ]; then
                { kill -KILL "$gpu_pid"; } 2>/dev/null
                gpu_state=failed gpu_percent=''
            fi
        else
            code=0
            wait "$gpu_pid" 2>/dev/null || code=$?
            gpu_pid=''
            read_gpu
            [ "$gpu_state" != ok ] || [ "$gpu_percent" -lt 5 ] || seen gpu
        fi
    fi
    case $gpu_state in
    lost | failed) unsure gpu ;;
    ok) [ "$gpu_percent" -lt 5 ] || case "$active " in *' gpu '*) ;; *) active="$active gpu" ;; esac ;;
    esac
    [ -z "$gpu_pid" ] || return 0
    # Asking costs CPU time: often only while the answer decides
    every=3000
    [ "$idle" = 0 ] || [ -n "$others" ] || [ $((idle / 60)) -ge "$every" ] || every=$((idle / 60))
    [ -n "$gpu_asked" ] && [ $((now - gpu_asked)) -lt "$every" ] && return 0
    command eval 'ask_gpu </dev/null >"$R/gpu" 2>/dev/null &' 2>/dev/null || return 0
    gpu_pid=$! gpu_asked=$now gpu_start=''
    if read_stat "$gpu_pid"; then gpu_start=$START; fi
}

# In a child, whose process it becomes: the use of each GPU in percent, a line each. Each
# number is of the last second at most.
ask_gpu() {
    if [ -n "$gpu_had_node" ] && ! true <"$gpu_node"; then echo lost; exit; fi
    found=''
    for file in /sys/class/drm/card*/device/gpu_busy_percent; do
        # All of the machine's are there; those with a node are this container's
        for node in "${file%/*}"/drm/*; do
            [ -e "/dev/dri/${node##*/}" ] && [ -r "$file" ] || continue
            cat "$file" && found=yes
            break
        done
    done
    [ -z "$found" ] || exit 0
    command -v nvidia-smi >/dev/null || { echo absent; exit; }
    exec nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits
}

# The answer of a child that left with $code, into gpu_state and gpu_percent. No number from
# any, as where a GPU is split, is no failure.
read_gpu() {
    gpu_state=failed gpu_percent=''
    [ "$code" = 0 ] || return 0
    {
        while read -r text; do
            case $text in
            lost) gpu_state=lost ;;
            *[!0-9]* | ????*) [ "$gpu_state" = ok ] || gpu_state=absent ;;
            ?*)
                gpu_state=ok
                [ "$text" -le "${gpu_percent:--1}" ] || gpu_percent=$text ;;
            esac
        done <"$R/gpu"
    } 2>/dev/null
}

# Memory in use into memory, less the page cache that goes when it is needed, as `docker
# stats` tells it; nothing where it cannot be told.
probe_memory() {
    memory='' part='' key=inactive_file
    case $memory_file in
    '') return 0 ;;
    *.usage_in_bytes) key=total_inactive_file ;;
    esac
    {
        read -r memory <"$memory_file"
        while read -r text part; do
            [ "$text" != "$key" ] || break
        done <"${memory_file%/*}/memory.stat"
    } 2>/dev/null
    is_count "$memory" || memory=''
    if [ -n "$memory" ] && is_count "$part" && [ "$part" -lt "$memory" ]; then
        memory=$((memory - part))
    fi
}

# --- the loop ----------------------------------------------------------------------------

clock() {
    kernels=$NL terminals=$NL begun='' lister='' idle_warned='' max_warned=''
    read_uptime
    read_stat self
    clock_pid=$ID started=$now last=$now last_name=start previous=$now length=0
    find_cgroup
    read_settings
    ! [ -e "$gpu_node" ] || gpu_had_node=yes
    while :; do
        take_sample
        write_status
        if [ -n "$max_at" ] && [ "$now" -ge "$max_at" ]; then
            span "$max"
            end_session max_duration "reached its maximum duration of $SPAN"
        elif [ -n "$idle_at" ] && [ "$now" -ge "$idle_at" ] && [ -z "$unknown" ]; then
            span "$idle"
            text='no kernel, terminal, exec, hold'
            [ "$gpus" = 0 ] || [ "$gpu_state" = absent ] || text="$text, gpu"
            text="$text for $SPAN; cpu ${cpu_window:-?}% of one core over the window"
            [ "$gpu_state" != absent ] || text="$text; the use of its GPUs cannot be told"
            end_session idle "$text"
        fi
        length=$step
        approach idle "$idle" "$idle_at" "$unknown" "(idle). Keep it: type something here, or run: mooring hold $name 2h"
        approach max "$max" "$max_at" '' '(maximum duration). A hold does not move this.'
        [ "$length" -ge 10 ] || length=10
        nap "$length"
        read_uptime
    done
}

take_sample() {
    read_settings
    active='' unknown='' idle_at='' max_at=''
    if [ $((now - previous)) -gt $((3 * length + 500)) ]; then
        last=$now last_name=resume ring='' previous_reading=''
    fi
    probe_hold
    probe_kernels
    probe_execs
    probe_terminals
    probe_cpu
    probe_gpu
    probe_memory
    if [ -n "$unknown" ]; then
        last=$((last + now - previous))
        [ "$last" -le "$now" ] || last=$now
    fi
    previous=$now
    [ "$max" = 0 ] || max_at=$((started + max))
    [ "$idle" != 0 ] || return 0
    idle_at=$((last + idle))
    [ "$hold_until" -le "$last" ] || idle_at=$((hold_until + idle))
    # Kept by CPU alone: idle once the window has passed without, at the latest.
    [ -z "$cpu_busy" ] || [ "$idle_at" -ge $((now + idle)) ] || idle_at=$((now + idle))
}

write_status() {
    text="cpu_percent $cpu_last${NL}cpu_window ${cpu_window:--}${NL}seen"
    for signal in $SIGNALS; do
        eval "show \"\$${signal}_at\""
        text="$text $signal=$TEXT"
    done
    [ -z "$memory" ] || text="$text${NL}memory_bytes $memory"
    [ -z "$gpu_state" ] || text="$text${NL}gpu $gpu_state${NL}gpu_percent ${gpu_percent:--}"
    text="active$active${NL}unknown$unknown$NL$text${NL}clock $clock_pid${NL}complete"
    show "$last"; text="last_signal $TEXT $last_name$NL$text"
    show "$max_at"; text="max_at $TEXT$NL$text"
    show "$idle_at"; text="idle_at $TEXT$NL$text"
    show "$started"; text="started $TEXT$NL$text"
    show "$now"
    { printf '%s\n' "sampled $TEXT$NL$text" >"$R/status"; } 2>/dev/null
}

# approach NAME TIMEOUT END PAUSED ADVICE: shorten the nap to meet this end, and warn of it
# once in the last warn_s (or third of the timeout).
approach() {
    left=$(($2 + 1)) margin=$(($2 / 3))
    [ -z "$3" ] || [ -n "$4" ] || left=$(($3 - now))
    [ "$left" -ge "$length" ] || [ "$2" = 0 ] || length=$left
    [ "$margin" -le "$warn" ] || margin=$warn
    if [ "$left" -gt "$margin" ]; then eval "$1_warned=''"; return 0; fi
    eval "[ -z \"\$$1_warned\" ]" || return 0
    eval "$1_warned=yes"
    left=$(((left + 50) / 100)) unit=s
    if [ "$left" -ge 60 ]; then left=$(((left + 30) / 60)) unit=min; fi
    set -- "this session stops in $left $unit $5"
    command eval 'tell "$1" </dev/null >/dev/null 2>&1 &' 2>/dev/null
}

# A write to a stopped terminal blocks: children write, for 2 s at most.
tell() {
    writers=''
    for file in /dev/pts/[0-9]*; do
        [ -c "$file" ] && [ -w "$file" ] || continue
        (printf '\r\nmooring: %s\r\n' "$1" >"$file") &
        writers="$writers $!"
    done
    sleep 2
    # shellcheck disable=SC2086 # a list of numbers
    [ -z "$writers" ] || kill -KILL $writers
}

# --- the end -----------------------------------------------------------------------------

# The first who writes it is right: -C fails where the file exists.
write_end() {
    signals='' detail=$2 epoch=''
    for signal in $SIGNALS; do
        eval "text=\$${signal}_at"
        if [ -n "$text" ]; then text=$(((now - text) / 100)); else text=never; fi
        [ "$signal:$gpu_state" != gpu:absent ] || text=absent
        signals="$signals $signal=$text"
    done
    while case $detail in *"$NL"*) true ;; *) false ;; esac do
        detail="${detail%%"$NL"*} ${detail#*"$NL"}"
    done
    command eval 'epoch=$(date +%s)' 2>/dev/null
    show "$now"
    set -C
    {
        printf '%s\n' "reason $1" "time ${epoch:-0}" "uptime $TEXT" "detail $detail" \
            "signals$signals cpu=${cpu_window:-?}%" >"$R/end"
    } 2>/dev/null
    set +C
}

# TERM for all, HUP for what is deaf to that (interactive shells) once the others are gone,
# as shells pass a HUP on; KILL after the grace. Linux spares PID 1 and the caller; when the
# session's command is gone the init ends the container.
end_session() {
    trap '' HUP INT QUIT TERM USR1
    write_end "$1" "$2"
    read_stat self
    self=$ID deadline=$((now + grace)) hung_up=''
    # CONT, because a stopped job takes its TERM only when it runs again.
    for signal in TERM CONT; do { kill -$signal -1; } 2>/dev/null; done
    while others_left && [ "$now" -lt "$deadline" ]; do
        if [ -z "$hung_up$listening" ] || [ "$now" -gt $((deadline - grace / 4)) ]; then
            { kill -HUP -1; } 2>/dev/null
            hung_up=yes
        fi
        nap 10
        read_uptime
    done
    # A clock that is the session leaves with 0 if nothing had to be killed.
    if [ -n "$clock_pid" ] && [ "$clock_pid" != "$self" ] && ! others_left; then
        { kill -USR1 "$clock_pid"; } 2>/dev/null
        nap 100
    fi
    { kill -KILL -1; } 2>/dev/null
    exit 0
}

# Whether a process lives that is not the init, this one, the clock, or a child of those
# two; `listening` if one of them does not ignore TERM.
others_left() {
    left='' listening=''
    for file in /proc/[0-9]*; do
        case ${file#/proc/} in 1 | "$self" | "$clock_pid") continue ;; esac
        read_stat "${file#/proc/}" && [ "$STATE" != Z ] || continue
        case $PARENT in "$self" | "$clock_pid") continue ;; esac
        left=yes
        ignores_term "$ID" || { listening=yes; break; }
    done
    [ -n "$left" ]
}

# The mask is in hexadecimal, TERM is its bit 14.
ignores_term() {
    mask=''
    {
        while read -r key mask; do
            case $key in SigIgn:) break ;; esac
        done </proc/"$1"/status
    } 2>/dev/null
    case $mask in *[4567cdef]???) ;; *) return 1 ;; esac
}

# What the clock knew, for an `end` that is run beside it.
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
        done <"$R/status"
    } 2>/dev/null
}

# --- the start ---------------------------------------------------------------------------

# A link that was put in a mount's place after its check shows another file here. R, which
# nobody else can exchange, tells how far the machine's numbers hold in this container: not
# their devices where a virtual machine has its own (or there is no stat), nor any at all.
check_mounts() {
    granted=''
    set --
    {
        [ -f "$R/mounts" ] && while IFS= read -r text; do
            granted="$granted${text%% *} "
            set -- "$@" "${text#* }"
        done <"$R/mounts"
    } 2>/dev/null || refuse 'the list of what was granted is missing'
    if [ $# != 0 ]; then
        identify "$@"
        compare=''
        for text in $found; do
            identity=${granted%% *} granted=${granted#* }
            case ${compare:-first}:$text in
            first:-) refuse 'the image has neither stat nor ls to look at its mounts with' ;;
            first:"$identity") compare=all ;;
            first:*:"${identity#*:}") compare=inode ;;
            first:*) break ;;
            all:"$identity" | inode:*:"${identity#*:}") ;;
            *) refuse "the mount at $1 is not what was checked" ;;
            esac
            shift
        done
    fi
}

# The environment is the spec's: the tools that the check asks are to be the image's own.
check_with_own_tools() {
    set -- "${PATH-}" "${PATH+set}" "${LD_PRELOAD-}" "${LD_PRELOAD+set}" \
        "${LD_LIBRARY_PATH-}" "${LD_LIBRARY_PATH+set}"
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    unset LD_PRELOAD LD_LIBRARY_PATH
    check_mounts
    if [ -n "$2" ]; then PATH=$1; else unset PATH; fi
    [ -z "$4" ] || export LD_PRELOAD="$3"
    [ -z "$6" ] || export LD_LIBRARY_PATH="$5"
}

# Into found, a word for each path: DEVICE:INODE, -:INODE where only ls is, - for nothing.
identify() {
    found=''
    command eval 'found=$(stat -Lc %d:%i "$@")' 2>/dev/null && return
    found=''
    for file; do
        text=''
        command eval 'text=$(stat -Lc %d:%i "$file" || ls -diL "$file")' 2>/dev/null
        case $text in
        '') text=- ;;
        *' '*) text=${text#"${text%%[0-9]*}"} text=-:${text%% *} ;;
        esac
        found="$found $text"
    done
}

refuse() {
    forget_last_run
    read_uptime
    write_end refused "$1"
    fail "refused: $1"
}

# On the way to the first kernel: nothing else is forked before its host. The subshell leaves
# it to the init, so that the session's command has no child that it did not start.
start_kernelhost() {
    for file in "$R"/k/*/; do
        [ -d "$file" ] && ! [ -e "${file}exit" ] || continue
        { echo lost >"${file}exit"; } 2>/dev/null
    done
    [ -e "$R/kernelhost" ] || return 0
    python=''
    { read -r python <"$R/kernelhost"; } 2>/dev/null
    [ -n "$python" ] || return 0
    set -- "$python" "$R/kernelhost.py" "$R/kernelhost.log"
    (give_back; "$1" "$2" </dev/null >>"$3" 2>&1 &)
}

forget_last_run() {
    for file in "$R"/end "$R"/status "$R"/hold "$R"/gpu "$R"/exec "$R"/x/*; do
        if [ -e "$file" ]; then
            rm -f -- "$R/end" "$R/status" "$R/hold" "$R/gpu" "$R/exec" "$R"/x/*
            break
        fi
    done
    [ -d "$R/x" ] || mkdir "$R/x"
} 2>/dev/null

fail() { printf 'mooring: %s\n' "$1" >&2; exit 125; }

# Be that command. What a shell says of one that it cannot be names this script and a line of it.
become() {
    can_be "$1" || leave "$1"
    give_back
    exec "$@"
}

# Whether a command can be run; if not, why, and which exit code tells so, as a shell's.
can_be() {
    mooring_file=$1 mooring_why='' mooring_code=126
    case $1 in
    */*) ;;
    *)
        mooring_file='' mooring_rest=${PATH-/usr/local/bin:/usr/bin:/bin}:
        while [ -n "$mooring_rest" ]; do
            mooring_next=${mooring_rest%%:*}/$1 mooring_rest=${mooring_rest#*:}
            [ -f "$mooring_next" ] || continue
            mooring_file=$mooring_next
            ! [ -x "$mooring_file" ] || break
        done
        # busybox has commands of which no file tells
        ! { [ -z "$mooring_file" ] && command -v -- "$1" >/dev/null 2>&1; } || return 0 ;;
    esac
    if ! [ -e "$mooring_file" ]; then mooring_why='not found' mooring_code=127
    elif [ -d "$mooring_file" ]; then mooring_why='is a folder'
    elif ! [ -x "$mooring_file" ]; then mooring_why='not executable'
    fi
    [ -z "$mooring_why" ]
}

leave() { printf '%s: %s\n' "$1" "$mooring_why" >&2; exit "$mooring_code"; }

mode=${1:-}
[ $# = 0 ] || shift
case $mode in
main)
    check_with_own_tools
    # a terminal's command stands behind a shell of ours that sets its size
    case ${3:-}:${4:-} in "$0":shell) mooring_named=${8:-} ;; *) mooring_named=${2:-} ;; esac
    if [ -n "$mooring_named" ] && ! can_be "$mooring_named"; then
        forget_last_run
        read_uptime
        if [ "$mooring_code" = 127 ]; then reason=missing; else reason=unrunnable; fi
        write_end "$reason" "$mooring_named: $mooring_why"
        leave "$mooring_named"
    fi
    { echo >"$R/checked"; } 2>/dev/null
    start_kernelhost
    forget_last_run
    if [ "${1:-}" = -- ] && [ $# -gt 1 ]; then
        shift
        # Deaf to all that a terminal or a `pkill sh` sends, and a child of the init.
        (
            trap '' HUP INT QUIT TERM TSTP TTIN TTOU USR1 USR2 ALRM PIPE
            clock &
        ) </dev/null >/dev/null 2>&1
        become "$@"
    fi
    trap '' HUP INT QUIT TSTP TTIN TTOU USR2 ALRM PIPE
    trap '[ -e "$R/end" ] || end_session stopped "asked to stop"' TERM
    trap 'exit 0' USR1
    clock
    ;;
end)
    trap '' HUP INT QUIT TERM
    reason=${1:-stopped}
    [ $# = 0 ] || shift
    read_uptime
    read_settings
    read_status
    end_session "$reason" "${*:-asked to stop}"
    ;;
exec)
    case ${1:-} in '' | */* | .*) fail 'exec: ID must be a plain name' ;; esac
    [ "${2:-}" = -- ] && [ $# -gt 2 ] || fail 'usage: clock.sh exec ID -- CMD ARG…'
    if read_stat self; then { printf '%s\n' "$ID $START" >"$R/x/$1"; } 2>/dev/null; fi
    shift 2
    become "$@"
    ;;
shell)
    if is_count "${1:-}" && is_count "${2:-}" && command -v stty >/dev/null 2>&1; then
        stty rows "$1" cols "$2" 2>/dev/null
    fi
    if [ "${3:-}" = -- ] && [ $# -gt 3 ]; then shift 3; become "$@"; fi
    give_back
    if command -v bash >/dev/null 2>&1; then exec bash; fi
    exec sh
    ;;
*) fail 'usage: clock.sh main|end|exec|shell …' ;;
esac
