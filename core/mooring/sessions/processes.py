"""Starting and signalling processes in a running session, and reading its logs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence

from mooring.engines.base import Stream
from mooring.engines.capabilities import SupportsDetachedExec, SupportsOomEvents, require
from mooring.errors import EngineError, EngineUnavailable
from mooring.guest.bundle import exec_argv
from mooring.guest.paths import GUEST_RUN
from mooring.sessions.context import Context
from mooring.sessions.find import get_running
from mooring.sessions.model import Session, describe_out_of_memory
from mooring.sessions.replaced import refuse_without_workdir

# $0: the signal; $1: the file with the exec's pid, which is missing until the exec has started.
# Each exec is the leader of a process group.
_SIGNAL_EXEC = """
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if read -r pid _ <"$1"; then kill "-$0" "-$pid"; exit; fi
    sleep 0.2
done 2>/dev/null
"""

# $0: a folder; then a command. Checked in the container because an engine's error message names
# engine internals, and replaces the command's output.
_IN_FOLDER = """
if ! CDPATH= cd -- "$0" 2>/dev/null; then
    if [ -d "$0" ]; then printf 'error: no permission to enter %s in the session\\n' "$0"
    elif [ -e "$0" ]; then printf 'error: %s is not a folder in the session\\n' "$0"
    else printf 'error: there is no folder %s in the session\\n' "$0"
    fi >&2
    echo 'hint: create it first, or use another --workdir' >&2
    exit 125
fi
exec "$@"
"""


def exec_in(
    ctx: Context,
    session: Session,
    argv: Sequence[str],
    *,
    stdin: bool,
    env: Mapping[str, str] | None = None,
    workdir: str | None = None,
    mark: str = "",
) -> Stream:
    """Start a process without a terminal in a running session; see ``Sessions.exec``."""
    command = exec_argv(ctx.folder(session.id).programs_target, mark or secrets.token_hex(4), argv)
    return begin(ctx, session, command, tty=False, stdin=stdin, env=env, workdir=workdir)


def begin(
    ctx: Context,
    session: Session,
    command: list[str],
    *,
    tty: bool,
    stdin: bool,
    env: Mapping[str, str] | None,
    workdir: str | None,
    detach_keys: str = "",
) -> Stream:
    """Start a user's command and report it to the session's clock as activity.

    Args:
        ctx: the client's context.
        session: the running session.
        command: the command with its wrapper, as passed to the engine.
        tty: give the process a terminal.
        stdin: keep standard input open.
        env: additional environment variables.
        workdir: working directory in the container; None for the session's default.
        detach_keys: as ``docker exec`` takes them.

    Raises:
        SessionNotFound, SessionStateError: the session has ended meanwhile, or a folder that it
            mounts was replaced on this machine.
        EngineError
    """
    folder = ctx.folder(session.id)
    folder.refuse_unverified()
    refuse_without_workdir(ctx, session)
    folder.clock.mark_exec()
    if workdir:
        command = ["/bin/sh", "-c", _IN_FOLDER, workdir, *command]
    try:
        return ctx.engine.exec(
            session.container, command, tty=tty, stdin=stdin, env=env, detach_keys=detach_keys
        )
    except EngineUnavailable:
        raise
    except EngineError:
        get_running(ctx, session.name)  # raises a more specific error if the session has ended
        raise


def has_program(ctx: Context, session: Session, name: str) -> bool:
    """Return whether a program is on a session's PATH; see ``Sessions.has_program``."""
    from mooring.terminals.pump import exit_code

    ctx.folder(session.id).refuse_unverified()
    argv = ["/bin/sh", "-c", 'command -v "$0"', name]
    with contextlib.closing(ctx.engine.exec(session.container, argv)) as stream:
        while stream.recv(4096):
            pass
        return exit_code(stream) == 0


def send_signal(ctx: Context, session: Session, name: str, mark: str = "") -> None:
    """Send a signal to a process of a session; see ``Sessions.signal``."""
    script = _SIGNAL_EXEC if mark else 'kill -s "$0" 1'
    ctx.folder(session.id).refuse_unverified()
    argv = ["/bin/sh", "-c", script, name, f"{GUEST_RUN}/x/{mark}"]
    require(ctx.engine, SupportsDetachedExec).exec_detached(session.container, argv)


def why_killed(ctx: Context, session: Session, since: float) -> str:
    """Return why a process of a session was killed; see ``Sessions.why_killed``."""
    engine = ctx.engine
    if isinstance(engine, SupportsOomEvents) and engine.out_of_memory(session.container, since):
        return describe_out_of_memory(session.declared)
    return ""


def logs(ctx: Context, session: Session, *, follow: bool, tail: int | None) -> Iterator[bytes]:
    """Yield the output of the main process; see ``Sessions.logs``."""
    tty = ctx.folder(session.id).record().identity.tty
    return ctx.engine.logs(session.container, tty=tty, follow=follow, tail=tail)
