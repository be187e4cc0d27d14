# The session's side of `mooring ssh-proxy`, in POSIX sh: what sshd does before it runs a program.
#
#   login               becomes a login shell
#   command COMMAND     runs a command line in the user's shell
#   sftp PYTHON         becomes an SFTP server: the image's sftp-server, or else python3 with PYTHON
#                       (the text of sftp.py)
#
# All begin in the home. The shell is $SHELL, or else bash or sh.
#
# shellcheck shell=sh
set -u

# Run by the login shell, whose startup files may have set PATH anew (Debian's /etc/profile does):
# the session's own folders stay in front of what they name.
# shellcheck disable=SC2016 # expanded by that shell
AFTER_LOGIN='
rest=$PATH: PATH=$MOORING_PATH
while [ -n "$rest" ]; do
    folder=${rest%%:*} rest=${rest#*:}
    case ":$PATH:" in *":$folder:"*) ;; *) PATH=$PATH:$folder ;; esac
done
export PATH
unset MOORING_PATH MOORING_LOGIN rest folder
exec "$SHELL"'

mode=$1
shift
if ! [ -x "${SHELL:-}" ]; then
    SHELL=$(command -v bash) || SHELL=/bin/sh
fi
export SHELL
cd -- "${HOME:-/}" 2>/dev/null || cd /
unset OLDPWD

case $mode in
login)
    case $SHELL in */csh | */tcsh) exec "$SHELL" -l ;; esac # it takes no command with -l
    export MOORING_PATH="${PATH:-}" MOORING_LOGIN="$AFTER_LOGIN"
    # shellcheck disable=SC2016 # expanded by that shell
    exec "$SHELL" -l -c 'exec /bin/sh -c "$MOORING_LOGIN"' ;;
command) exec "$SHELL" -c "$1" ;;
sftp)
    for folder in /usr/lib/openssh /usr/libexec/openssh /usr/libexec /usr/lib/ssh /usr/lib64/ssh; do
        if [ -x "$folder/sftp-server" ]; then exec "$folder/sftp-server"; fi
    done
    for program in /usr/bin/python3 python3; do
        if command -v "$program" >/dev/null 2>&1; then exec "$program" -ISc "$1"; fi
    done
    echo 'error: the image has neither sftp-server nor python3, one of which sftp needs' >&2
    echo 'hint: use mooring cp, or rsync or scp -O if the image has that program' >&2
    exit 127 ;;
esac
