"""top: the resource use of sessions, updated continuously."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring import EngineUnavailable, MooringError, Session, State
from mooring_cli import options as opt
from mooring_cli.columns import cell, gpu_count, heads, style
from mooring_cli.output import (
    ShrinkOrder,
    clean,
    fitted,
    lines_of,
    note,
    paint,
    print_json,
    terminal_width,
)

if TYPE_CHECKING:
    from mooring import Mooring

COLUMNS = ("name", "state", "cpu", "memory", "gpus", "gpu", "kernels", "activity", "stops_in")
RIGHT = ("CPU", "GPU")
SHRINK_ORDER: ShrinkOrder = (
    ("ACTIVITY", 24),
    ("KERNELS", 0),
    ("ACTIVITY", 12),
    ("ACTIVITY", 0),
    ("STATE", 8),
)
SHOWN = (State.RUNNING, State.PAUSED, State.STARTING, State.PENDING, State.UNKNOWN)
POLL_S = 0.25  # how often the keyboard and the terminal's size are checked

_ENTER = "\033[?1049h\033[?25l"  # the alternate screen, without a cursor
_LEAVE = "\033[?25h\033[?1049l"
_HOME, _REST, _BELOW = "\033[H", "\033[K", "\033[J"


def top(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names or patterns. Default: all.", autocompletion=opt.complete_names),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", "-n", min=0.5, metavar="SECONDS", help="Seconds between updates."
        ),
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
    json_: opt.Json = False,
) -> None:
    """Show what sessions use, updated continuously.

    It shows CPU, memory and GPUs, and when sessions stop. 100% CPU is one core. q or Ctrl-C exits.
    Without a terminal it prints once, as with --once and --json.
    """
    from mooring import Mooring

    mooring = Mooring()
    if json_:
        print_json([session.to_dict() for session in _sessions(mooring, names or [])])
        return
    if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        sessions = _sessions(mooring, names or [])
        for line in lines(sessions, terminal_width() if sys.stdout.isatty() else 0):
            print(line)
        if not sessions:
            note("no session is running; to list all: mooring ps")
        return
    with _screen() as redraw:
        _watch(mooring, names or [], interval, redraw)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(top)


def lines(sessions: Sequence[Session], width: int) -> list[str]:
    """Return the lines of the table, at most ``width`` columns wide; 0 for no limit."""
    return list(
        lines_of(
            heads(COLUMNS),
            [[_cell(session, column) for column in COLUMNS] for session in sessions],
            lambda row, column: _style(sessions[row], COLUMNS[column]),
            shrink=SHRINK_ORDER,
            right=RIGHT,
            width=width,
        )
    )


def _cell(session: Session, column: str) -> str:
    """Return a cell's text, which is shorter than in `ps` if another column has the rest."""
    if column == "gpus":
        return gpu_count(session)
    if column == "state":
        return session.degraded or str(session.state)
    return cell(session, column)


def _style(session: Session, column: str) -> str:
    return style(session, "gpus" if column == "gpu" else column)


def _sessions(mooring: Mooring, names: Sequence[str]) -> list[Session]:
    """Return the named or all live sessions, sorted by name so that lines keep their places."""
    if names:
        sessions = mooring.sessions.find(names)
    else:
        sessions = [session for session in mooring.sessions.list() if session.state in SHOWN]
    return sorted(sessions, key=lambda session: session.name)


def _watch(mooring: Mooring, names: Sequence[str], interval: float, redraw: list[bool]) -> None:
    """Update the screen at each interval, until q is pressed or the input ends.

    Args:
        mooring: the core.
        names: names or patterns; empty for all sessions.
        interval: seconds between updates.
        redraw: not empty if the screen must be redrawn; emptied here.
    """
    while True:
        sessions, error = _try_sessions(mooring, names)
        _draw(sessions, error, interval)
        next_update = time.monotonic() + interval
        size = os.get_terminal_size()
        while (left := next_update - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], min(left, POLL_S))[0]:
                key = os.read(sys.stdin.fileno(), 64)
                if not key or key[:1] in b"qQ\x04":
                    return
                break  # any other key: update now
            if redraw or os.get_terminal_size() != size:
                redraw.clear()
                size = os.get_terminal_size()
                _draw(sessions, error, interval)


def _try_sessions(mooring: Mooring, names: Sequence[str]) -> tuple[list[Session], str]:
    """Return the sessions, or those known without the engine, and an error message."""
    try:
        return _sessions(mooring, names), ""
    except EngineUnavailable as error:
        return mooring.sessions.unknown(), error.message
    except MooringError as error:
        return [], error.message


def _draw(sessions: Sequence[Session], error: str, interval: float) -> None:
    """Draw over the previous screen without clearing it first, to avoid flicker."""
    width, height = os.get_terminal_size()
    running = sum(session.state is State.RUNNING for session in sessions)
    held = sum(claim.share for session in sessions for claim in session.held_claims)
    gpus = f", {held:g} {'GPU' if held == 1 else 'GPUs'} held" if held else ""
    stamp = time.strftime("%T")
    head = f"{stamp}  {running} running of {len(sessions)}{gpus}; every {interval:g} s, q exits"
    screen = [paint(fitted(head, width).rstrip(), "quiet"), *lines(sessions, width)]
    if error:
        screen.insert(1, paint(fitted(clean(error), width).rstrip(), "bad"))
    hidden = len(screen) - height
    if hidden > 0:
        screen[height - 1 :] = [f"… {hidden + 1} more"]
    sys.stdout.write(_HOME + "\n".join(line + _REST for line in screen) + _BELOW)
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[list[bool]]:
    """Use the alternate screen with unbuffered input; restore the terminal at exit and Ctrl-Z.

    Yields:
        A list that is not empty after the process was stopped and continued, to request a redraw.
    """
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    redraw: list[bool] = []

    def enter() -> None:
        tty.setcbreak(sys.stdin, termios.TCSANOW)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()

    def leave() -> None:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()

    def pause(number: int, frame: Any) -> None:
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        enter()
        redraw.append(True)

    handler = signal.signal(signal.SIGTSTP, pause)
    try:
        enter()
        yield redraw
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTSTP, handler)
        leave()
