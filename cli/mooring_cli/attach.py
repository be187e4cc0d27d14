"""attach: attach to a terminal of a session; terminals outlive their clients."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import MooringError, SessionNotFound, SessionStateError, SpecError
from mooring_cli import options as opt
from mooring_cli.output import FAILED, note, print_error
from mooring_cli.terminal_io import Replay, forwarding, join
from mooring_cli.unsupported import Rank

if TYPE_CHECKING:
    from mooring import Mooring, PersistentTerminal, Session

_KILLED = 128 + signal.SIGKILL
TMUX = ("tmux", "new-session", "-A", "-s", "mooring")


def attach(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A session's name, or the start of its id. Default: the only running one.",
            autocompletion=opt.complete_names,
        ),
    ] = None,
    terminal: Annotated[
        str | None,
        typer.Argument(
            help="A terminal that `mooring terminals` lists. Default: the main terminal."
        ),
    ] = None,
    tmux: Annotated[
        bool, typer.Option("--tmux", help="Attach inside the image's tmux, if it has one.")
    ] = False,
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="all|none|SIZE", help="How much earlier output to show. Default: 256KiB."
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(min=0, metavar="OFFSET", help="Show the output from this byte offset on."),
    ] = None,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    rank: Rank = None,
) -> None:
    """Attach to a session's main process or another terminal.

    The terminal is as you left it, with the output since. If the command ends, its exit code is
    returned. If the session has no main terminal, you get the newest one that nobody is attached
    to, or a new shell.
    """
    try:
        opt.check_keys(detach_keys)
        shown = _replay(replay, since)
        mooring, session, ended = _open(name)
        if ended is not None and not tmux and not terminal:
            code = _show_rest(session, ended, shown, detach_keys)
        elif ended is not None:
            raise SessionStateError(
                f"session {session.name} is {session.state}",
                f"start it again: mooring start {session.name}",
            )
        elif tmux:
            code = attach_in_tmux(mooring, session, detach_keys)
        else:
            code = attach_to(mooring, session, terminal or "", detach_keys, shown)
    except MooringError as error:
        print_error(error)
        code = FAILED
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(attach)


def attach_to(
    mooring: Mooring,
    session: Session,
    terminal: str,
    detach_keys: str,
    replay: Replay | None = None,
) -> int:
    """Attach to a terminal of a session until its command ends or the user detaches.

    Args:
        mooring: the core.
        session: a running session.
        terminal: the terminal's id; empty for the main terminal. If the session has none, the
            newest terminal without a client is used, or a new shell.
        detach_keys: as ``--detach-keys``.
        replay: the earlier output to show.

    Returns:
        The exit code of its command; 0 after detaching.
    """
    from mooring import PersistentTerminal, unattached

    stream = mooring.terminals.attach(session, terminal, detach_keys=detach_keys)
    if stream is None:
        free = unattached(mooring.terminals.list(session))
        if not free:
            note(f"{session.name} runs kernels and has no main terminal; opening a new shell")
            return open_terminal(mooring, session, [], detach_keys)
        note(f"{session.name} has no main terminal; attaching to {free}")
        return attach_to(mooring, session, free, detach_keys, replay)
    name = stream.name if isinstance(stream, PersistentTerminal) else "main"
    if stream.tty:
        which = "" if name == "main" else f", terminal {name}"
        note(f"session {session.name}{which}; detach with {detach_keys}")
    if isinstance(stream, PersistentTerminal) and stream.incomplete:
        note("nothing kept this terminal until now: earlier output may be missing")
    began = time.time()
    with forwarding(mooring, session, stream):
        code = join(stream, detach_keys=detach_keys, replay=replay)
    if code is None:
        _note_detached(session, name)
        return 0
    if name == "main":
        return record_end(mooring, session, code)
    note_if_killed(mooring, session, code, began)
    return code


def attach_in_tmux(mooring: Mooring, session: Session, detach_keys: str) -> int:
    """Attach inside the image's tmux, or to a terminal of the session if it has none.

    Args:
        mooring: the core.
        session: a running session.
        detach_keys: as ``--detach-keys``.

    Returns:
        The exit code of the tmux client or the terminal's command; 0 after detaching.
    """
    from mooring import unattached

    if not mooring.sessions.has_program(session, TMUX[0]):
        note(f"the image of {session.name} has no tmux; attaching to a terminal of the session")
        return attach_to(mooring, session, "", detach_keys)
    free = unattached(mooring.terminals.list(session), "tmux")
    if free:  # left by a killed client; a second tmux client would be limited to its size
        return attach_to(mooring, session, free, detach_keys)
    return open_terminal(mooring, session, list(TMUX), detach_keys, label="tmux")


def open_terminal(
    mooring: Mooring,
    session: Session,
    command: list[str],
    detach_keys: str,
    *,
    workdir: str | None = None,
    variables: dict[str, str] | None = None,
    no_stdin: bool = False,
    label: str = "",
) -> int:
    """Run a command in a new terminal of a session, and attach to that terminal.

    Args:
        mooring: the core.
        session: a running session.
        command: the argument list; empty for a shell.
        detach_keys: as ``--detach-keys``.
        workdir: an absolute path in the session; None for the session's working directory.
        variables: environment variables, added to the command's environment.
        no_stdin: do not forward standard input.
        label: identifies the terminals that one client program has opened.

    Returns:
        The exit code of the command; 0 after detaching.
    """
    from mooring import PersistentTerminal, raw, terminal_size

    began = time.time()
    environ = {"TERM": os.environ.get("TERM") or "xterm-256color"}
    # raw mode from the start, so that Ctrl-C is sent to the command even while it starts
    with raw(None if no_stdin else 0):
        stream = mooring.terminals.open(
            session,
            command,
            size=terminal_size(),
            env=environ | (variables or {}),
            workdir=workdir,
            label=label,
            detach_keys=detach_keys,
        )
        try:
            code = join(stream, stdin=None if no_stdin else 0, detach_keys=detach_keys)
        except BrokenPipeError:
            return 128 + signal.SIGPIPE
    if code is None:
        _note_detached(session, stream.name if isinstance(stream, PersistentTerminal) else "")
        return 0
    note_if_killed(mooring, session, code, began)
    return code


def note_if_killed(mooring: Mooring, session: Session, code: int, began: float) -> None:
    """Print a note if a command ended because it ran out of memory, or because its session ended.

    Args:
        mooring: the core.
        session: the command's session, which ran when the command started.
        code: the command's exit code.
        began: when the command started, in seconds since the epoch.
    """
    ended = mooring.records.has_ended(session.id)
    if code == 0 or (code <= 128 and not ended):
        return
    reason = ""
    try:
        if code == _KILLED and not ended:
            reason = mooring.sessions.why_killed(session, began)
        if cause := "" if reason else mooring.sessions.why_ended(session):
            note(f"session {session.name} is {cause}")
    except MooringError:  # it would tell nothing of how the command ended
        return
    if reason:
        note(f"killed in {session.name}: {reason}")


def record_end(mooring: Mooring, session: Session, code: int) -> int:
    """Record the end of a session whose main process has exited, and print what caused it.

    Args:
        mooring: the core.
        session: the session.
        code: the exit code that this client has received.

    Returns:
        The exit code.
    """
    ending = mooring.sessions.record_end(session, code)
    if ending.cause:
        note(f"session {session.name} is {ending.cause}")
    return ending.exit_code


def _note_detached(session: Session, terminal: str) -> None:
    name = f"{session.name} {terminal}".removesuffix(" main").strip()
    which = f"{terminal} of " if terminal not in ("", "main") else ""
    note(f"detached from {which}{session.name}; to attach again: mooring attach {name}")


def _open(name: str | None) -> tuple[Mooring, Session, PersistentTerminal | None]:
    """Return a running session, or an ended one with its main terminal if it has unread output."""
    from mooring import Mooring

    mooring = Mooring()
    name = name or _only_running(mooring)
    try:
        return mooring, mooring.sessions.get_running(name), None
    except SessionStateError:
        session = mooring.sessions.get(name)
        terminal = mooring.terminals.last_output(session)
        if terminal is None:
            raise
        return mooring, session, terminal


def _show_rest(
    session: Session, terminal: PersistentTerminal, replay: Replay, detach_keys: str
) -> int:
    note(f"session {session.name} has ended ({session.reason}); the last output of its terminal:")
    code = join(terminal, detach_keys=detach_keys, replay=replay)
    return code or 0


def _replay(text: str | None, since: int | None) -> Replay:
    """Parse ``--replay`` and ``--since``."""
    from mooring import parse_size

    if text is None:
        return Replay(since=since)
    if since is not None:
        raise SpecError("--since and --replay cannot be combined", "use one of them")
    if text in ("all", "none"):
        return Replay(last_bytes=0 if text == "none" else None)
    try:
        return Replay(last_bytes=parse_size(text))
    except ValueError:
        raise SpecError(
            f"flag --replay: {text!r} is not a size", "use all, none, or a size such as 1MiB"
        ) from None


def _only_running(mooring: Mooring) -> str:
    from mooring import State

    names = [session.name for session in mooring.sessions.list() if session.state is State.RUNNING]
    if not names:
        raise SessionNotFound("no session is running", "to create one: mooring create")
    if len(names) > 1:
        raise SessionNotFound(
            f"{len(names)} sessions are running: {', '.join(names)}",
            f"name one, as in: mooring attach {names[0]}",
        )
    return names[0]
