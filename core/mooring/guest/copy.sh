# The session's side of `mooring cp`, in POSIX sh with tar and few other programs.
#
#   look PATH                  prints KIND TARGET PARENT TAR: what PATH is, what it leads to, whether
#                              its folder exists (folder or none), whether the image has tar
#                              (tar or none)
#   pack FOLDER NAME           writes a tar stream of NAME in FOLDER; NAME "." means FOLDER's contents
#   follow FOLDER NAME         writes a tar stream of the target of the link NAME
#   unpack FOLDER DRAFT NAME   reads a tar stream that holds x and then done, which proves that it
#                              is complete: x becomes NAME in FOLDER; NAME "." merges it into FOLDER
#   take FOLDER                reads a tar stream and unpacks it as it is
#
# A draft is a folder beside the target, so that a rename puts x in place whole.
# shellcheck shell=sh
set -u

fail() { printf '%s\n' "$1" >&2; exit 1; }

TAR=''
for program in tar 'busybox tar'; do
    if command -v "${program%% *}" >/dev/null 2>&1; then TAR=$program; break; fi
done

kind() {
    if [ -h "$1" ]; then echo link
    elif [ -d "$1" ]; then echo folder
    elif [ -f "$1" ]; then echo file
    elif [ -e "$1" ]; then echo special
    else echo missing
    fi
}

look() {
    target=$(kind "$1/.")
    case $target in missing) if [ -e "$1" ]; then target=$(kind "$1"); fi ;; esac
    if [ -h "$1" ] && [ -f "$1" ]; then target='file'; fi
    parent=folder
    case $1 in ?*/*) [ -d "${1%/*}" ] || parent=none ;; esac
    tar=tar
    case $TAR in '') tar=none ;; esac
    echo "$(kind "$1") $target $parent $tar"
}

is_folder() { [ -d "$1" ] && ! [ -h "$1" ]; }

# each FUNCTION NEW OLD: calls FUNCTION with every entry of folder NEW and its path in folder OLD
each() {
    for entry in "$2"/* "$2"/.[!.]* "$2"/..?*; do
        [ -e "$entry" ] || [ -h "$entry" ] || continue
        "$1" "$entry" "$3/${entry##*/}" || return 1
    done
}

# Whether NEW may replace OLD, or be merged into it: two folders are merged, and a link is replaced;
# a file never replaces a folder, nor a folder a file.
agree() {
    if [ -h "$2" ] || ! [ -e "$2" ]; then return 0; fi
    if is_folder "$1"; then
        [ -d "$2" ] && return 0
        printf '%s is not a folder and cannot be replaced by one\n' "$2" >&2
        return 1
    fi
    [ -d "$2" ] || return 0
    printf '%s is a folder and cannot be replaced by a file\n' "$2" >&2
    return 1
}

# Whether all entries agree; checked before the first one is put in place
fits() {
    agree "$1" "$2" || return 1
    if is_folder "$1" && is_folder "$2"; then each fits "$1" "$2"; fi
}

replace() {
    agree "$1" "$2" || return 1
    if is_folder "$1" && is_folder "$2"; then each replace "$1" "$2"; return; fi
    if [ -h "$2" ]; then rm -f -- "$2" || return 1; fi # mv would follow a link to a folder
    if [ -w "$1" ] || ! is_folder "$1"; then mv -f -- "$1" "$2"; return; fi
    # a folder that its owner cannot write to cannot be moved
    chmod u+w "$1" && mv -f -- "$1" "$2" && chmod u-w "$2"
}

place() {
    if [ "$3" = . ]; then
        each fits "$1/$2/x" "$1" && each replace "$1/$2/x" "$1"
    else
        fits "$1/$2/x" "$1/$3" && replace "$1/$2/x" "$1/$3"
    fi
}

# Makes a draft, and removes drafts that killed copies left in the same folder more than a day ago
begin() {
    find "$1/." -maxdepth 1 -name '.mooring-cp-????????' -type d -mmin +1440 \
        -exec rm -rf {} \; </dev/null 2>/dev/null
    (umask 077; mkdir "$1/$2")
}

drop() {
    [ -d "$1/$2" ] || return 0
    rm -rf -- "${1:?}/${2:?}" 2>/dev/null || { chmod -R u+rwx "$1/$2"; rm -rf -- "${1:?}/${2:?}"; }
}

unpack() {
    begin "$@" || return 1
    code=1
    # shellcheck disable=SC2086 # a program, possibly with an applet
    if $TAR -xpf - -C "$1/$2" && [ -e "$1/$2/done" ]; then
        place "$@"
        code=$?
    fi
    drop "$@" || code=1
    return $code
}

mode=$1
shift
# shellcheck disable=SC2086 # as above
case $mode in
look) look "$1" ;;
pack) cd "$1" || exit 2; exec $TAR -cf - "./$2" ;;
follow) cd "$1" || exit 2; exec $TAR -chf - "./$2" ;;
unpack) unpack "$@" ;;
take) exec $TAR -xpf - -C "$1" ;;
*) fail "usage: copy.sh look|pack|follow|unpack|take …" ;;
esac
