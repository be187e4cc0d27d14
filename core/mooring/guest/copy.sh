# The session's side of `mooring cp`, in POSIX sh with as little beside it as can be.
#
#   look PATH             KIND WHERE PARENT TAR: what PATH is, what it leads to, whether its
#                         folder is there, whether there is a tar
#   pack FOLDER NAME      a tar stream of NAME in FOLDER; of what is in FOLDER for "."
#   follow FOLDER NAME    the same of what the link NAME leads to
#   unpack FOLDER DRAFT NAME   a tar stream with x, then done, which proves that it came whole:
#                         x becomes NAME in FOLDER; NAME "." merges it into FOLDER
#   begin, place, drop    unpack's own steps, when x comes by other ways
#   take FOLDER           a tar stream as it is
#   read, write, folder, link, facts   one file, folder or link at a time, without tar
#   list PATH             KIND MODE MTIME PATH NUL LINK NUL for all that is in it, PATH first
#
# A draft lies beside what it becomes, so that a rename puts it there whole.
# shellcheck shell=sh
set -u

fail() { printf '%s\n' "$1" >&2; exit 1; }

kind() {
    if [ -h "$1" ]; then echo link
    elif [ -d "$1" ]; then echo folder
    elif [ -f "$1" ]; then echo file
    elif [ -e "$1" ]; then echo special
    else echo missing
    fi
}

is_folder() { [ -d "$1" ] && ! [ -h "$1" ]; }

# each DO NEW OLD: DO, of all that is in folder NEW and what has its name in folder OLD
each() {
    for entry in "$2"/* "$2"/.[!.]* "$2"/..?*; do
        [ -e "$entry" ] || [ -h "$entry" ] || continue
        "$1" "$entry" "$3/${entry##*/}" || return 1
    done
}

# Folders on both sides are merged, and a link gives way; no file takes a folder's place, and no
# folder a file's.
agree() {
    if [ -h "$2" ] || ! [ -e "$2" ]; then return 0; fi
    if is_folder "$1"; then
        [ -d "$2" ] && return 0
        printf '%s is no folder, and one was to take its place\n' "$2" >&2
        return 1
    fi
    [ -d "$2" ] || return 0
    printf '%s is a folder, and a file was to take its place\n' "$2" >&2
    return 1
}

# Whether all agree, before the first is put in place
fits() {
    agree "$1" "$2" || return 1
    if is_folder "$1" && is_folder "$2"; then each fits "$1" "$2"; fi
}

replace() {
    agree "$1" "$2" || return 1
    if is_folder "$1" && is_folder "$2"; then each replace "$1" "$2"; return; fi
    if [ -h "$2" ]; then rm -f -- "$2" || return 1; fi # mv would follow a link to a folder
    if [ -w "$1" ] || ! is_folder "$1"; then mv -f -- "$1" "$2"; return; fi
    # a folder that its owner cannot write to stays where it is
    chmod u+w "$1" && mv -f -- "$1" "$2" && chmod u-w "$2"
}

place() {
    if [ "$3" = . ]; then
        each fits "$1/$2/x" "$1" && each replace "$1/$2/x" "$1"
    else
        fits "$1/$2/x" "$1/$3" && replace "$1/$2/x" "$1/$3"
    fi
}

# A draft for x; what copies that were killed have left beside it goes a day later.
begin() {
    find "$1/." -maxdepth 1 -name '.mooring-cp-????????' -type d -mmin +1440 \
        -exec rm -rf {} \; </dev/null 2>/dev/null
    (umask 077; mkdir "$1/$2")
}

drop() {
    [ -d "$1/$2" ] || return 0
    rm -rf -- "${1:?}/${2:?}" 2>/dev/null || { chmod -R u+rwx "$1/$2"; rm -rf -- "${1:?}/${2:?}"; }
}

describe() {
    set -- "$1" "$(kind "$1")"
    link='' facts='- -'
    case $2 in
    link) link=$(readlink "$1" && echo .) || fail "the image has no readlink: links need it, or tar"
        link=${link%??} ;;
    missing) return ;;
    *) facts=$(stat -c '%a %Y' -- "$1" 2>/dev/null) || facts='- -' ;;
    esac
    printf '%s %s %s\0%s\0' "$2" "$facts" "$1" "$link"
}

list() {
    describe "$1"
    [ -d "$1" ] && ! [ -h "$1" ] || return 0
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -e "$entry" ] || [ -h "$entry" ]; then list "$entry"; fi
    done
}

# set_facts PATH MODE MTIME; a time is left as it is where touch does not take it
set_facts() {
    touch -d "@$3" "$1" 2>/dev/null || :
    chmod "$2" "$1"
}

mode=$1
shift
case $mode in
look)
    where=$(kind "$1/.")
    case $where in missing) if [ -e "$1" ]; then where=$(kind "$1"); fi ;; esac
    if [ -h "$1" ] && [ -f "$1" ]; then where='file'; fi
    parent=folder
    case $1 in ?*/*) [ -d "${1%/*}" ] || parent=none ;; esac
    tar=no
    if command -v tar >/dev/null 2>&1; then tar=tar; fi
    echo "$(kind "$1") $where $parent $tar"
    ;;
pack) cd "$1" || exit 2; exec tar -cf - "./$2" ;;
follow) cd "$1" || exit 2; exec tar -chf - "./$2" ;;
unpack)
    begin "$@" || exit 1
    if tar -xpf - -C "$1/$2" && [ -e "$1/$2/done" ]; then
        place "$@"
        code=$?
    else
        code=1
    fi
    drop "$@" || code=1
    exit $code
    ;;
begin) begin "$@" ;;
place) place "$@"; code=$?; drop "$@"; exit $code ;;
drop) drop "$@" ;;
list) list "$1" ;;
read) exec cat "$1" ;;
write) cat >"$1" && set_facts "$@" ;;
folder) mkdir "$1" ;;
link) ln -s -- "$2" "$1" ;;
facts) set_facts "$@" ;;
take) exec tar -xpf - -C "$1" ;;
*) fail "usage: copy.sh look|pack|…" ;;
esac
