# Sourced by clock.sh and exec.sh: fixed-point numbers, and data from /proc and the cgroup.
# Times are uptimes in centiseconds, because dash has integers only.
# shellcheck shell=sh
# shellcheck disable=SC2015 # "A && B || continue" is meant as (A && B) || continue
# shellcheck disable=SC2034 # the results are variables that the sourcing script reads

# Convert decimal seconds to CS, rounded up; fails on other texts, for which dash would exit.
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

# Format centiseconds as seconds in TEXT; "never" for an empty argument.
format_seconds() {
    if [ -z "$1" ]; then TEXT=never; return; fi
    TEXT=$(($1 % 100))
    case $TEXT in ?) TEXT=0$TEXT ;; esac
    TEXT=$(($1 / 100)).$TEXT
}

# Format centiseconds as a duration in TEXT: 2h, 30m, 45s.
format_duration() {
    TEXT=$((($1 + 99) / 100))
    if [ "$TEXT" -gt 0 ] && [ $((TEXT % 3600)) = 0 ]; then TEXT=$((TEXT / 3600))h
    elif [ "$TEXT" -gt 0 ] && [ $((TEXT % 60)) = 0 ]; then TEXT=$((TEXT / 60))m
    else TEXT=${TEXT}s
    fi
}

# Set now to the uptime, which continues while suspended and ignores changes of the wall clock.
read_uptime() {
    line=''
    { read -r line _ </proc/uptime; } 2>/dev/null
    if to_cs "$line"; then now=$CS; fi
}

# Read /proc/$1/stat into ID, STATE, PARENT, START and USED (ticks of 10 ms, including those of
# exited children); `self` is this shell.
read_stat() {
    stat='' line=''
    # Emptied each time, because a failed read, as for a process that has just exited, leaves it.
    {
        while read -r line || [ -n "$line" ]; do
            stat="$stat $line" line=''
        done </proc/"$1"/stat
    } 2>/dev/null
    # A command's name may contain spaces, newlines and parentheses: use the last parenthesis.
    case $stat in *') '*) ;; *) return 1 ;; esac
    # shellcheck disable=SC2086 # numbers and one letter, to be split
    set -- ${stat%%(*} ${stat##*) }
    [ $# -gt 20 ] || return 1
    ID=$1 STATE=$2 PARENT=$3 USED=$((${13} + ${14} + ${15} + ${16})) START=${21}
}

# Set USAGE to the CPU time of the cgroup without the clock's own, in centiseconds. Without a cgroup
# it is the time of all processes and of the children that they have waited for.
read_usage() {
    key=usage_usec value='' unit=10000
    case $cpu_file in
    /proc)
        total=0
        for entry in /proc/[0-9]*; do
            if read_stat "${entry#/proc/}"; then total=$((total + USED)); fi
        done
        read_stat self && USAGE=$((total - USED))
        return
        ;;
    *.usage) unit=10000000; { read -r value <"$cpu_file"; } 2>/dev/null ;;
    *) { read -r key value <"$cpu_file"; } 2>/dev/null ;;
    esac
    [ "$key" = usage_usec ] && is_count "$value" || return 1
    total=$((value / unit))
    read_stat self && USAGE=$((total - USED))
}

# Set cpu_file and memory_file to the files with the cgroup's CPU time and memory. The path in
# /proc/self/cgroup exists under the mount only if the host's whole tree is mounted. The root of a
# v1 tree, which alone has a release_agent, counts the whole machine, and is the only one that
# rootless engines have.
find_cgroup() {
    v1='' v2='' v1_memory='' top=/sys/fs/cgroup
    {
        while IFS=: read -r _ controllers path; do
            case ,$controllers, in ,,) v2=$path ;; *,cpuacct,*) v1=$path ;; esac
            case ,$controllers, in *,memory,*) v1_memory=$path ;; esac
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
