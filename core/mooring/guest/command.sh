# Sourced by init.sh and exec.sh, which become the user's command and therefore assign variables
# in subshells only (see init.sh).
# shellcheck shell=sh
# shellcheck disable=SC2034 # the sourcing script reads code

# Become that command; without one, an interactive shell.
become() {
    [ $# = 0 ] || exec "$@"
    ! command -v bash >/dev/null 2>&1 || exec bash
    exec sh
}

# Whether a command can be run, by a shell's rules; if not, sets the problem and the exit code.
# Checked before `exec`, whose own message would name this script and a line of it.
find_command() {
    file=$1 problem='' code=126
    case $1 in
    */*) ;;
    *)
        file='' rest=${PATH-/usr/local/bin:/usr/bin:/bin}:
        while [ -n "$rest" ]; do
            candidate=${rest%%:*}/$1 rest=${rest#*:}
            [ -f "$candidate" ] || continue
            file=$candidate
            ! [ -x "$file" ] || break
        done
        # busybox has commands without a file
        ! { [ -z "$file" ] && command -v -- "$1" >/dev/null 2>&1; } || return 0 ;;
    esac
    if ! [ -e "$file" ]; then problem='not found' code=127
    elif [ -d "$file" ]; then problem='is a folder'
    elif ! [ -x "$file" ]; then problem='not executable'
    elif [ "$file" = "$1" ] && [ -f "$file" ] && [ -r "$file" ]; then check_first_line "$file"
    fi
    [ -z "$problem" ]
}

# Sets the problem if the first line of a script, `#!/bin/sh`, names a program that there is not. The
# kernel's own "not found" would be told of the script.
check_first_line() {
    IFS= read -r line <"$1" 2>/dev/null || return 0
    case $line in
    '#!'*) ;;
    *) return 0 ;;
    esac
    case $line in
    *"$(printf '\r')")
        problem='its first line ends in a carriage return (Windows line endings)' ;;
    esac
    line=${line#??}
    line=${line#"${line%%[!'	 ']*}"}
    line=${line%%['	 ']*}
    [ -n "$problem" ] || [ -e "${line:-/}" ] ||
        problem="there is no $line here, which its first line names"
}

# Size this terminal, if the image has stty. The engine's own resize comes after the start.
size_terminal() {
    case $1$2 in *[!0-9]*) return 0 ;; esac
    ! command -v stty >/dev/null 2>&1 || stty rows "$1" cols "$2" 2>/dev/null
    return 0
}
