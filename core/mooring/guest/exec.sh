#!/bin/sh
# The program that `mooring exec` runs in a session: it becomes the user's command.
#
#   sh exec.sh counted ID -- CMD ARG…             counted as activity while it lives
#   sh exec.sh terminal ROWS COLS [-- CMD ARG…]   size the terminal first; without CMD, become
#                                                 a shell
#
# Written to run/, a link beside this file to /run/mooring:
#   x/ID         "PID STARTTIME" of the command, for the clock
#
# Like init.sh, it assigns variables and sets options in subshells only, so that the command gets
# the session's environment unchanged.
# shellcheck source-path=SCRIPTDIR

# shellcheck source=command.sh
. "${0%/*}/command.sh"

usage() {
    echo 'mooring: usage: exec.sh counted ID -- CMD ARG… | terminal ROWS COLS [-- CMD ARG…]' >&2
    exit 125
}

# In a subshell, where $$ is still the process that becomes the command
prepare() {
    set -u +C +e +f # bash may have options from the environment
    mode=$1 mark=$2
    [ "$mode" = counted ] || size_terminal "$2" "$3"
    shift 3
    [ "$mode" = counted ] || [ $# = 0 ] || shift
    if [ $# != 0 ] && ! find_command "$1"; then
        printf '%s: %s\n' "$1" "$problem" >&2
        exit "$code"
    fi
    [ "$mode" = counted ] || return 0
    # shellcheck source=proc.sh
    . "${0%/*}/proc.sh"
    # The command runs even if the disk is full.
    { read_stat "$$" && printf '%s\n' "$$ $START" >"${0%/*}/run/x/$mark"; } 2>/dev/null || :
}

case ${1:-}:$#:${3:-}:${4:-} in
counted:[123]:*) usage ;;
counted:*:--:*) case $2 in '' | */* | .*) usage ;; esac ;;
terminal:3:* | terminal:*:--) ;;
*) usage ;;
esac

(prepare "$@") || exit
case $1 in
counted) shift 3 ;;
terminal) shift 3; [ $# = 0 ] || shift ;;
esac
become "$@"
