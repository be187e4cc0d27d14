#!/bin/sh
# The session's clock: it ends the container when it is idle or its maximum duration is reached.
# It is always a process of its own, started by init.sh, and never becomes the user's command.
#
#   sh clock.sh                          sample until the session ends
#   sh clock.sh end REASON [DETAIL…]     end the session now
#   sh clock.sh record REASON DETAIL     record why the session did not start
#
# POSIX sh (dash, bash, busybox ash) with sleep, cat and rm; stat or ls, and date, are used if
# found. It needs an init as PID 1, and must be started by its path.
#
# Read from the folder that this file lies in, which the session cannot write to:
#   settings     lines KEY VALUE: idle_timeout_s, max_duration_s (0: never), sample_s,
#                grace_s, warn_s, name, gpus (how many it holds), gpu_node (a file that it
#                can open while it has them); read again at every sample, last good value kept
# Read from run/, a link there to /run/mooring:
#   hold         held until this uptime, in seconds
#   k/*/busy     "busy N" or "idle N", N counting requests; ignored beside k/*/exit
#   x/*          "PID STARTTIME" of a live exec; removed here once it is dead
#   exec         a different text for each exec, however short it is
# Written to it:
#   status       at every sample; complete if its last line is `complete`, else read again
#   gpu          what the GPUs last reported
#   end          why the session ended, once a run; complete once it has a `signals` line
#
# The session ends as idle if, for the idle timeout, no kernel, terminal, exec or hold was seen,
# none of its GPUs was at 5 % or more, and its cgroup used less than 5 % of one core on average,
# without the clock's own use. A probe that fails pauses the idle clock; a gap between samples
# restarts it. While nothing has happened for twelve samples and no deadline is near, they are five
# times as far apart; what happened between two of them is dated by the stamps of files.
# A builtin that may fork runs in `command eval`, because otherwise dash exits if the
# fork fails.
#
# Its environment is PATH and LD_LIBRARY_PATH if init.sh starts it, and the session's for `end`;
# every variable is assigned before it is read, so variables of the environment have no effect.
#
# shellcheck disable=SC2034 # NAME_at and NAME_warned are used through eval
# shellcheck disable=SC2016 # single quotes: expanded by eval
# shellcheck source-path=SCRIPTDIR
set -u +C +e +f # whatever SHELLOPTS says

here=${0%/*} folder=${0%/*}/run
# The image's own tools come first, so that a sleep or stat on the session's PATH is not used. The
# tool that queries the use of GPUs may need the session's libraries.
gpu_libraries=${LD_LIBRARY_PATH-}
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}
unset LD_PRELOAD LD_LIBRARY_PATH
NL='
'
SIGNALS='kernel terminal exec hold'
kernel_at='' terminal_at='' exec_at='' hold_at='' gpu_at=''
idle=0 max=0 sample=500 grace=1000 warn=60000 session=NAME
now=0 clock_pid='' cpu_window='' ring='' previous_reading='' fractions=yes
gpus=0 gpu_node=/dev/nvidiactl gpu_state='' gpu_percent='' gpu_pid='' gpu_asked='' gpu_had_node=''

# shellcheck source=proc.sh
. "$here/proc.sh"
# shellcheck source=probes.sh
. "$here/probes.sh"
# shellcheck source=end.sh
. "$here/end.sh"

# Sleep, interruptible by signals; in whole seconds if sleep does not support fractions.
nap() {
    format_seconds "$1"
    [ -n "$fractions" ] || TEXT=$((($1 + 99) / 100))
    code=0
    command eval 'sleep "$TEXT" & wait $!' 2>/dev/null || code=$?
    # Above 128: interrupted by a signal.
    if [ "$code" != 0 ] && [ "$code" -le 128 ] && [ -n "$fractions" ]; then
        fractions=''
        nap "$1"
    fi
}

read_settings() {
    old_idle=$idle key=''
    {
        while read -r key value || [ -n "$key" ]; do
            case $key in
            idle_timeout_s) to_cs "$value" && idle=$CS ;;
            max_duration_s) to_cs "$value" && max=$CS ;;
            sample_s) to_cs "$value" && sample=$CS ;;
            grace_s) to_cs "$value" && grace=$CS ;;
            warn_s) to_cs "$value" && warn=$CS ;;
            name) session=${value:-NAME} ;;
            gpus) is_count "$value" && gpus=$value ;;
            gpu_node) gpu_node=$value ;;
            esac
            key='' # a failed read leaves it unchanged
        done <"$here/settings"
    } 2>/dev/null
    SIGNALS='kernel terminal exec hold'
    [ "$gpus" = 0 ] || SIGNALS="$SIGNALS gpu"
    # Readings a twelfth of the old window apart are too coarse for a shorter one.
    [ "$idle" -ge "$old_idle" ] || ring=$previous_reading
    step=$sample
    [ "$idle" = 0 ] || [ $((idle / 4)) -ge "$step" ] || step=$((idle / 4))
    floor=50
    [ -n "$fractions" ] || floor=100
    [ "$step" -ge "$floor" ] || step=$floor
}

sample_until_the_end() {
    kernels=$NL terminals='' last_exec='' late='' recent_share=0 lister='' idle_warned='' max_warned=''
    read_uptime
    clock_pid=$$ started=$now stirred=$now last=$now last_name=start previous=$now length=0
    find_cgroup
    read_settings
    ! [ -e "$gpu_node" ] || gpu_had_node=yes
    while :; do
        take_sample
        write_status
        end_if_due
        length=$step
        slow_down
        approach idle "$idle" "$idle_at" "$unknown" "(idle). Keep it: type something here, or run: mooring hold $session 2h"
        approach max "$max" "$max_at" '' '(maximum duration). A hold does not move this.'
        [ "$length" -ge 10 ] || length=10
        nap "$length"
        read_uptime
    done
}

# Make the nap longer while all is quiet, a hold aside. It ends before a deadline is announced, so
# that all that can put an end off is seen as soon as ever. The use of GPUs is sampled: what it was
# in between would be missed.
slow_down() {
    case $gpus:$active$unknown in 0: | '0: hold') ;; *) return 0 ;; esac
    [ "$recent_share" -lt 50 ] && [ $((now - stirred)) -ge $((step * 12)) ] || return 0
    length=$((step * 5))
    stay_before "$idle" "$idle_at"
    stay_before "$max" "$max_at"
    [ "$length" -ge "$step" ] || length=$step
}

# stay_before TIMEOUT END: end the nap a sample before `approach` announces this end.
stay_before() {
    [ -n "$2" ] || return 0
    margin=$(($1 / 3))
    [ "$margin" -le "$warn" ] || margin=$warn
    left=$(($2 - now - margin - step))
    [ "$left" -ge "$length" ] || length=$left
}

take_sample() {
    late=''
    [ $((now - previous)) -le $((step * 2)) ] || late=yes
    read_settings
    active='' unknown='' idle_at='' max_at=''
    if [ $((now - previous)) -gt $((3 * length + 500)) ]; then
        last=$now stirred=$now last_name=resume ring='' previous_reading=''
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
    # Kept by CPU alone: idle at the latest when a whole window without CPU use has passed.
    [ -z "$cpu_busy" ] || [ "$idle_at" -ge $((now + idle)) ] || idle_at=$((now + idle))
}

write_status() {
    lines="cpu_percent $cpu_last${NL}cpu_window ${cpu_window:--}${NL}seen"
    for signal in $SIGNALS; do
        eval "format_seconds \"\$${signal}_at\""
        lines="$lines $signal=$TEXT"
    done
    [ -z "$memory" ] || lines="$lines${NL}memory_bytes $memory"
    [ -z "$gpu_state" ] || lines="$lines${NL}gpu $gpu_state${NL}gpu_percent ${gpu_percent:--}"
    lines="active$active${NL}unknown$unknown$NL$lines${NL}clock $clock_pid${NL}complete"
    format_seconds "$last"; lines="last_signal $TEXT $last_name$NL$lines"
    format_seconds "$max_at"; lines="max_at $TEXT$NL$lines"
    format_seconds "$idle_at"; lines="idle_at $TEXT$NL$lines"
    format_seconds "$started"; lines="started $TEXT$NL$lines"
    format_seconds "$now"
    { printf '%s\n' "sampled $TEXT$NL$lines" >"$folder/status"; } 2>/dev/null
}

end_if_due() {
    if [ -n "$max_at" ] && [ "$now" -ge "$max_at" ]; then
        format_duration "$max"
        end_session max_duration "reached its maximum duration of $TEXT"
    elif [ -n "$idle_at" ] && [ "$now" -ge "$idle_at" ] && [ -z "$unknown" ]; then
        format_duration "$idle"
        reason='no kernel, terminal, exec, hold'
        [ "$gpus" = 0 ] || [ "$gpu_state" = absent ] || reason="$reason, gpu"
        reason="$reason for $TEXT; cpu ${cpu_window:-?}% of one core over the window"
        [ "$gpu_state" != absent ] || reason="$reason; the use of its GPUs is unavailable"
        end_session idle "$reason"
    fi
}

# approach NAME TIMEOUT END PAUSED ADVICE: shorten the nap so that it does not pass this end,
# and warn once in the last warn_s (or third of the timeout).
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

# A write to a stopped terminal blocks, so children write, for at most 2 s.
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

mode=${1:-sample}
[ $# = 0 ] || shift
case $mode in
sample)
    # Beside a command, init.sh ignores all of these, and a shell cannot trap a signal that was
    # ignored when the shell started.
    trap '' HUP INT QUIT TSTP TTIN TTOU USR2 ALRM PIPE
    trap '[ -e "$folder/end" ] || end_session stopped "asked to stop"' TERM
    trap 'exit 0' USR1
    sample_until_the_end
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
record)
    read_uptime
    write_end "$1" "$2"
    ;;
*)
    echo 'mooring: usage: clock.sh [end REASON [DETAIL…] | record REASON DETAIL]' >&2
    exit 125
    ;;
esac
