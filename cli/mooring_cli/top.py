"""top: what sessions use, again and again."""

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

from mooring.errors import EngineUnavailable, MooringError, SessionNotFound
from mooring.sessions.model import Session, State
from mooring_cli import options as opt
from mooring_cli.cells import cell, gpu_count, heads, held_by, style
from mooring_cli.output import (
    Giving,
    clean,
    columns,
    fitted,
    lines_of,
    note,
    paint,
    print_json,
)

if TYPE_CHECKING:
    from mooring.service import Mooring

COLUMNS = ("name", "state", "cpu", "memory", "gpus", "gpu", "kernels", "activity", "stops_in")
RIGHT = ("CPU", "GPU")
GIVE: Giving = (
    ("ACTIVITY", 24),
    ("KERNELS", 0),
    ("ACTIVITY", 12),
    ("ACTIVITY", 0),
    ("STATE", 8),
)
SHOWN = (State.RUNNING, State.PAUSED, State.STARTING, State.PENDING, State.UNKNOWN)
LOOK_S = 0.25  # how often the keyboard and the terminal's size are looked at

_ENTER = "\033[?1049h\033[?25l"  # a screen of its own, no cursor
_LEAVE = "\033[?25h\033[?1049l"
_HOME, _REST, _BELOW = "\033[H", "\033[K", "\033[J"


def top(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names or patterns; all without.", autocompletion=opt.complete_names),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", "-n", min=0.5, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and leave.")] = False,
    json_: opt.Json = False,
) -> None:
    """Show what sessions use, again and again: CPU, memory, GPUs, and when they stop.

    Leave with q or Ctrl-C. Without a terminal it looks once, as with `--once` and `--json`.
    CPU is of one core: 800% are eight cores.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    if json_:
        print_json([session.to_dict() for session in _sessions(mooring, names or [])])
        return
    if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        found = _sessions(mooring, names or [])
        for line in lines(found, columns() if sys.stdout.isatty() else 0):
            print(line)
        if not found:
            note("no session runs; all: mooring ps")
        return
    with _screen() as redraw_asked:
        _watch(mooring, names or [], interval, redraw_asked)


def lines(sessions: Sequence[Session], width: int) -> list[str]:
    """The table; ``width`` is the most columns of a line, 0 for any number."""
    return list(
        lines_of(
            heads(COLUMNS),
            [[_cell(session, column) for column in COLUMNS] for session in sessions],
            lambda row, column: _style(sessions[row], COLUMNS[column]),
            give=GIVE,
            right=RIGHT,
            width=width,
        )
    )


def _cell(session: Session, column: str) -> str:
    """As in `ps`, but briefer where another column says the rest."""
    if column == "gpus":
        return gpu_count(session)
    if column == "state":
        return session.degraded or str(session.state)
    return cell(session, column)


def _style(session: Session, column: str) -> str:
    return style(session, "gpus" if column == "gpu" else column)


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command()(top)


def _sessions(mooring: Mooring, names: Sequence[str]) -> list[Session]:
    """Those that are not over, by name: lines that stay where they are can be read."""
    found = mooring.find(names) if names else mooring.sessions()
    if not names:
        found = [session for session in found if session.state in SHOWN]
    return sorted(found, key=lambda session: session.name)


def _watch(mooring: Mooring, names: Sequence[str], interval: float, redraw: list[bool]) -> None:
    """Look, draw, wait; until q is pressed or the input ends."""
    while True:
        found, trouble = _looked(mooring, names)
        _draw(found, trouble, interval)
        next_look = time.monotonic() + interval
        size = os.get_terminal_size()
        while (left := next_look - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], min(left, LOOK_S))[0]:
                key = os.read(sys.stdin.fileno(), 64)
                if not key or key[:1] in b"qQ\x04":
                    return
                break  # any other key: look now
            if redraw or os.get_terminal_size() != size:
                redraw.clear()
                size = os.get_terminal_size()
                _draw(found, trouble, interval)


def _looked(mooring: Mooring, names: Sequence[str]) -> tuple[list[Session], str]:
    """The sessions, or what is known without the engine, and what is wrong."""
    try:
        return _sessions(mooring, names), ""
    except EngineUnavailable as error:
        return mooring.unknown(), error.message
    except SessionNotFound as error:
        return [], error.message
    except MooringError as error:
        return [], error.message


def _draw(sessions: Sequence[Session], trouble: str, interval: float) -> None:
    """One picture over the last one, without blanking it first: nothing flickers."""
    width, height = os.get_terminal_size()
    running = sum(session.state is State.RUNNING for session in sessions)
    held = sum(claim.share for session in sessions for claim in held_by(session))
    gpus = f", {held:g} {'GPU' if held == 1 else 'GPUs'} held" if held else ""
    stamp = time.strftime("%T")
    head = f"{stamp}  {running} running of {len(sessions)}{gpus}; every {interval:g} s, q leaves"
    told = [paint(fitted(head, width).rstrip(), "quiet"), *lines(sessions, width)]
    if trouble:
        told.insert(1, paint(fitted(clean(trouble), width).rstrip(), "bad"))
    hidden = len(told) - height
    if hidden > 0:
        told[height - 1 :] = [f"… {hidden + 1} more"]
    sys.stdout.write(_HOME + "\n".join(line + _REST for line in told) + _BELOW)
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[list[bool]]:
    """The terminal as a screen that keys act on at once; put right in the end, and for Ctrl-Z.

    Yields:
        what is non-empty after a pause: everything is to be drawn anew.
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

    kept = signal.signal(signal.SIGTSTP, pause)
    try:
        enter()
        yield redraw
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTSTP, kept)
        leave()
