#!/bin/sh
# The first program of a session's image: it checks the session's command, starts its clock and the
# parent of its kernels, and becomes the command. The gate has waited until the session's mounts
# were checked (guest/gate.py).
#
#   sh init.sh clock                         become the clock: the session has no command
#   sh init.sh command -- CMD ARG…           start the clock and become CMD
#   sh init.sh terminal ROWS COLS [-- CMD ARG…]   size the terminal first; without CMD, become
#                                            a shell
#
# POSIX sh (dash, bash, busybox ash) with rm and mkdir; env and stty are used if found. It needs an
# init as PID 1, and must be started by its path.
#
# Read from the folder that this file lies in:
#   kernelhost   first line: the python that runs kernelhost.py (output: run/kernelhost.log)
# Written to run/, a link there to /run/mooring:
#   checked      the command can be run; before that no program of the user's runs
#   end          why the session did not start; by clock.sh
#   k/*/exit     "lost", for kernels left over from an earlier run
#
# The command gets the spec's environment unchanged, whatever its names. A shell exports the values
# that it assigns to exported variables, and bash the options that it sets. So this script, like any
# other that becomes a program of the user's, assigns variables and sets options in subshells only.
# shellcheck source-path=SCRIPTDIR
# shellcheck disable=SC2015 # "A && B || continue" is meant as (A && B) || continue

usage() {
    echo 'mooring: usage: init.sh clock | command -- CMD ARG… | terminal ROWS COLS [-- CMD ARG…]' >&2
    exit 125
}

# Check the command, and start what the session needs beside it. Runs in a subshell, so that the init
# becomes the parent of these processes, and the command has only children of its own.
prepare() {
    set -- "$(check "$@")" "$@"
    case $1 in
    :*) ;;
    *) exit "${1:-125}" ;;
    esac
    # First, because the first kernel waits for it.
    if [ "$1" != : ]; then
        "${1#:}" "${0%/*}/kernelhost.py" </dev/null >>"${0%/*}/run/kernelhost.log" 2>&1 &
    fi
    [ "$2" != clock ] || return 0
    # Ignore all signals that a terminal or `pkill sh` sends
    trap '' HUP INT QUIT TERM TSTP TTIN TTOU USR1 USR2 ALRM PIPE
    become_clock </dev/null >/dev/null 2>&1 &
    [ "$2" != terminal ] || (size_terminal "$3" "$4")
}

# Check the command. Prints ":" and the python that runs the kernels' parent, if there is to be one;
# on failure, prints the session's exit code. The tools are the image's own: the spec's PATH is for
# the command only.
check() {
    set -u +C +e +f # bash may have options from the environment
    here=${0%/*} folder=${0%/*}/run problem=''
    case $1 in
    clock) shift ;;
    command) shift 2 ;;
    terminal) shift 3; [ $# = 0 ] || shift ;;
    esac
    [ $# = 0 ] || find_command "$1"
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    unset LD_PRELOAD LD_LIBRARY_PATH
    forget_last_run
    if [ -n "$problem" ]; then
        reason=unrunnable
        [ "$code" != 127 ] || reason=missing
        refuse "$reason" "$1: $problem" "$1: $problem" "$code"
    fi
    python=''
    [ ! -e "$here/kernelhost" ] || read -r python <"$here/kernelhost"
    { echo >"$folder/checked"; } 2>/dev/null || :
    printf %s ":$python"
}

# refuse REASON DETAIL MESSAGE CODE: end before a program of the user's runs.
refuse() {
    (become_clock record "$1" "$2")
    printf '%s\n' "$3" >&2
    printf %s "$4"
    exit
}

# `mooring start` has removed most of it already, so rm is seldom needed.
forget_last_run() {
    for kernel in "$folder"/k/*/; do
        [ -d "$kernel" ] && ! [ -e "${kernel}exit" ] || continue
        echo lost >"${kernel}exit"
    done
    set -- "$folder"/x/*
    for name in end status hold gpu exec; do set -- "$@" "$folder/$name"; done
    for file; do
        if [ -e "$file" ]; then rm -f -- "$@"; break; fi
    done
    [ -d "$folder/x" ] || mkdir "$folder/x"
} 2>/dev/null

# Become clock.sh, with only two variables of the spec's environment: the PATH of the image's tools,
# and the library path for the tool that queries the use of GPUs. In an image without env(1) the
# other variables remain; the clock assigns every variable before it reads it.
become_clock() {
    set -- "PATH=${PATH-}" "LD_LIBRARY_PATH=${LD_LIBRARY_PATH-}" /bin/sh "${0%/*}/clock.sh" "$@"
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}
    unset LD_PRELOAD LD_LIBRARY_PATH
    ! command -v env >/dev/null 2>&1 || exec env -i "$@"
    shift 2
    exec "$@"
}

case ${1:-}:$#:${2:-}:${4:-} in
clock:1:*) ;;
command:[12]:*) usage ;;
command:*:--:*) ;;
terminal:3:* | terminal:*:*:--) ;;
*) usage ;;
esac

# shellcheck source=command.sh
[ "$1" = clock ] || . "${0%/*}/command.sh"
(prepare "$@") || exit
case $1 in
clock) become_clock ;;
command) shift 2 ;;
terminal) shift 3; [ $# = 0 ] || shift ;;
esac
become "$@"
