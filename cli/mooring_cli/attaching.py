"""attach, terminals: the terminals of a session, which outlive their clients."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import MooringError, SessionNotFound, SessionStateError, SpecError
from mooring_cli import options as opt
from mooring_cli.joining import Shown, forwarding, join
from mooring_cli.later import Rank
from mooring_cli.output import explain, note

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.model import Session
    from mooring.terminals.listing import TerminalEntry
    from mooring.terminals.terminal import Kept

TMUX = ("tmux", "new-session", "-A", "-s", "mooring")


def in_new_terminal(
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
    """Open a terminal that is kept: the exit code of its command, 0 if it was left."""
    from mooring.terminals.pump import raw, terminal_size

    began = time.time()
    terminal = {"TERM": os.environ.get("TERM") or "xterm-256color"}
    # raw from the start: a Ctrl-C that comes while the command starts is the command's
    with raw(None if no_stdin else 0):
        stream = mooring.open_terminal(
            session,
            command,
            size=terminal_size(),
            env=terminal | (variables or {}),
            workdir=workdir,
            label=label,
            detach_keys=detach_keys,
        )
        try:
            code = join(stream, stdin=None if no_stdin else 0, detach_keys=detach_keys)
        except BrokenPipeError:
            return 128 + signal.SIGPIPE
    if code is None:
        _tell_left(session, getattr(stream, "name", ""))
        return 0
    return told_why(mooring, session, code, began)


def _tell_left(session: Session, terminal: str) -> None:
    name = f"{session.name} {terminal}".removesuffix(" main").strip()
    which = f"{terminal} of " if terminal not in ("", "main") else ""
    note(f"left {which}{session.name} running; come back with: mooring attach {name}")


def told_why(mooring: Mooring, session: Session, code: int, began: float) -> int:
    """The exit code; if it was for want of memory, that is said."""
    if code == 128 + signal.SIGKILL and (why := mooring.why_killed(session, began)):
        note(f"killed in {session.name}: {why}")
    return code


def attach(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A session; without: your only running one.", autocompletion=opt.complete_names
        ),
    ] = None,
    terminal: Annotated[
        str | None,
        typer.Argument(
            help="One of its terminals, as `mooring terminals` lists them; without: its main one."
        ),
    ] = None,
    tmux: Annotated[
        bool, typer.Option("--tmux", help="Inside the image's own tmux, if it has one.")
    ] = False,
    replay: Annotated[
        str | None,
        typer.Option(metavar="all|none|SIZE", help="How much of what it printed is shown again."),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(min=0, metavar="OFFSET", help="Show what it printed from that byte on."),
    ] = None,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    rank: Rank = None,
) -> None:
    """Attach to a session's main process, or to another of its terminals.

    It is the terminal as you left it, with what it printed meanwhile. The exit code is the
    command's if it ends. A session without a main terminal gives the newest one that nobody is
    attached to, or a new shell.
    """
    try:
        opt.check_keys(detach_keys)
        shown = _shown(replay, since)
        mooring, session, over = _running(name)
        if over is not None and not tmux and not terminal:
            code = _read_to_the_end(session, over, shown, detach_keys)
        elif over is not None:
            raise SessionStateError(
                f"session {session.name} is {session.state}",
                f"start it again: mooring start {session.name}",
            )
        elif tmux:
            code = in_tmux(mooring, session, detach_keys)
        else:
            code = attach_to(mooring, session, terminal or "", detach_keys, shown)
    except MooringError as error:
        explain(error)
        code = opt.FAILED
    raise typer.Exit(code)


def _running(name: str | None) -> tuple[Mooring, Session, Kept | None]:
    """A running session; or one that has ended, with the rest of what it printed."""
    from mooring.service import Mooring

    mooring = Mooring()
    wanted = name or _only_running(mooring)
    try:
        return mooring, mooring.running(wanted), None
    except SessionStateError:
        session = mooring.get(wanted)
        over = mooring.last_words(session)
        if over is None:
            raise
        return mooring, session, over


def _read_to_the_end(session: Session, terminal: Kept, shown: Shown, detach_keys: str) -> int:
    note(f"session {session.name} has ended meanwhile; this is what its terminal printed last")
    code = join(terminal, detach_keys=detach_keys, shown=shown)
    return code or 0


def _shown(replay: str | None, since: int | None) -> Shown:
    from mooring.spec.units import parse_size

    if replay is None:
        return Shown(since=since)
    if since is not None:
        raise SpecError("--since and --replay both say what is shown", "keep one of them")
    if replay in ("all", "none"):
        return Shown(replay=0 if replay == "none" else None)
    try:
        return Shown(replay=parse_size(replay))
    except ValueError as error:
        raise SpecError(f"flag --replay: {replay!r} {error}", "say all, none or 1MiB") from None


def attach_to(
    mooring: Mooring,
    session: Session,
    terminal: str,
    detach_keys: str,
    shown: Shown | None = None,
) -> int:
    """Be one of a session's terminals; without its id the main one.

    Returns:
        The exit code of its command; 0 if it was left.
    """
    stream = mooring.attach(session, terminal, detach_keys=detach_keys)
    if stream is None:
        from mooring.terminals.listing import unattached

        free = unattached(mooring.terminals(session))
        if not free:
            note(f"{session.name} has kernels and no main terminal; this is a new shell in it")
            return in_new_terminal(mooring, session, [], detach_keys)
        note(f"{session.name} has no main terminal; this is {free}")
        return attach_to(mooring, session, free, detach_keys, shown)
    name = getattr(stream, "name", "main")
    if stream.tty:
        which = "" if name == "main" else f", terminal {name}"
        note(f"session {session.name}{which}; leave it running with {detach_keys}")
    if getattr(stream, "taken_up", False):
        note("nobody has kept this terminal until now: what it printed before may be missing")
    with forwarding(mooring, session, stream):
        code = join(stream, detach_keys=detach_keys, shown=shown)
    if code is None:
        _tell_left(session, name)
        return 0
    if name == "main":
        mooring.sessions()  # writes the end down
    return code


def in_tmux(mooring: Mooring, session: Session, detach_keys: str) -> int:
    """Join the tmux of a session's image, or one of mooring's terminals where it has none.

    Returns:
        The exit code of this client; 0 if it was left.
    """
    from mooring.terminals.listing import unattached
    from mooring.terminals.pump import exit_code

    look = ["sh", "-c", "command -v tmux"]
    looking = mooring.engine.exec(session.container, look)  # no activity of the user's
    with contextlib.closing(looking):
        while looking.socket().recv(4096):
            pass
        missing = exit_code(looking) != 0
    if missing:
        note(f"the image of {session.name} has no tmux; this is a terminal that mooring keeps")
        return attach_to(mooring, session, "", detach_keys)
    free = unattached(mooring.terminals(session), "tmux")
    if free:  # that of a client that was killed: a second one in tmux would share its size
        return attach_to(mooring, session, free, detach_keys)
    return in_new_terminal(mooring, session, list(TMUX), detach_keys, label="tmux")


def terminals(name: opt.Name, json_: opt.Json = False) -> None:
    """List a session's terminals.

    One that has ended stays until somebody has attached to it and seen the rest of its output.
    """
    import shlex

    from mooring.service import Mooring
    from mooring_cli.cells import ago
    from mooring_cli.output import clean, print_json, print_rows

    mooring = Mooring()
    session = mooring.get(name)
    found = mooring.terminals(session)
    if json_:
        print_json([one.to_dict() for one in found])
        return
    if not found:
        note(f"{session.name} has no terminals; open one: mooring exec {session.name}")
        return
    rows = [
        [
            one.id,
            _state_of(one),
            str(one.clients),
            f"{one.size[0]}x{one.size[1]}",
            ago(one.since),
            clean(shlex.join(one.command)) or "(shell)",
        ]
        for one in found
    ]
    heads = ["TERMINAL", "STATE", "CLIENTS", "SIZE", "OPENED", "COMMAND"]
    print_rows(heads, rows, right=["CLIENTS"])


def _state_of(one: TerminalEntry) -> str:
    if one.lost:
        return "lost"
    if not one.ended:
        return "running"
    return "ended" if one.code is None else f"ended ({one.code})"


def _only_running(mooring: Mooring) -> str:
    from mooring.sessions.model import State

    live = [session.name for session in mooring.sessions() if session.state is State.RUNNING]
    if not live:
        raise SessionNotFound("no session is running", "make one: mooring create")
    if len(live) > 1:
        raise SessionNotFound(
            f"{len(live)} sessions are running: {', '.join(live)}",
            f"name one, as in: mooring attach {live[0]}",
        )
    return live[0]


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command()(attach)
    app.command()(terminals)
