"""How things look: errors, tables, durations. Coloured only where a person watches."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mooring.errors import MooringError
from mooring.quantities import format_duration
from mooring.session import Session, State


def clean(text: str) -> str:
    """Text of others, without control characters: it must not drive the reader's terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def explain(error: MooringError) -> None:
    """One ``error:`` line and one ``hint:`` line on standard error."""
    red, dim, off = ("\033[31m", "\033[2m", "\033[0m") if _colour(sys.stderr) else ("", "", "")
    print(f"{red}error:{off} {clean(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"{dim}hint:{off} {clean(error.hint)}", file=sys.stderr)


def note(text: str) -> None:
    """A line for the person, beside the output: on standard error."""
    dim, off = ("\033[2m", "\033[0m") if _colour(sys.stderr) else ("", "")
    print(f"{dim}{clean(text)}{off}", file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


@contextmanager
def steps() -> Iterator[Any]:
    """A callable that shows the step that goes on now; a spinner where a person watches."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking for the engine") as status:
        yield lambda text: status.update(clean(text))


COLUMNS = {
    "name": "NAME",
    "id": "ID",
    "state": "STATE",
    "reason": "REASON",
    "image": "IMAGE",
    "owner": "OWNER",
    "created": "CREATED",
    "ended": "ENDED",
    "kernels": "KERNELS",
    "stops_in": "STOPS IN",
    "activity": "ACTIVITY",
    "cpu": "CPU",
    "exit": "EXIT",
    "container": "CONTAINER",
}
DEFAULT_COLUMNS = (
    "name",
    "state",
    "image",
    "kernels",
    "activity",
    "stops_in",
    "created",
)
_COLOURS = {
    State.RUNNING: "green",
    State.STARTING: "yellow",
    State.PAUSED: "yellow",
    State.LOST: "red",
    State.UNKNOWN: "magenta",
}


def cell(session: Session, column: str) -> str:
    """One field of a session, as a person reads it."""
    if column == "state":
        return f"{session.state} ({session.reason})" if session.reason else str(session.state)
    if column == "created":
        return ago(session.created_at)
    if column == "ended":
        return ago(session.end.time if session.end else 0.0)
    if column == "kernels":
        live = session.live_kernels
        busy = sum(kernel.busy for kernel in live)
        return f"{len(live)}, {busy} busy" if busy else str(len(live) or "-")
    if column == "stops_in":
        return stops_in(session)
    if column == "activity":
        return activity(session)
    if column == "cpu":
        percent = session.clock.cpu_percent if session.clock else None
        return "-" if percent is None else f"{percent:.0f}%"
    if column == "exit":
        return "-" if session.exit_code is None else str(session.exit_code)
    if column == "container":
        return session.container[:12]
    return str(getattr(session, column))


def ago(at: float) -> str:
    return f"{format_duration(max(0.0, time.time() - at))} ago" if at else "-"


def stops_in(session: Session) -> str:
    """When and why it will end, unless somebody works in it."""
    clock = session.clock
    if clock is None or session.state is not State.RUNNING:
        return "-"
    ends = [(clock.idle_in_s, "idle"), (clock.max_in_s, "max")]
    known = [(seconds, why) for seconds, why in ends if seconds is not None]
    if not known:
        return "never"
    seconds, why = min(known)
    return f"{format_duration(max(0.0, seconds))} ({why})"


def activity(session: Session) -> str:
    clock = session.clock
    if clock is None or session.state is not State.RUNNING:
        return session.waiting or "-"
    if clock.held_for_s > 0:
        return f"held {format_duration(clock.held_for_s)}"
    if clock.unknown:
        return "unknown"
    return ", ".join(clock.active) or "idle"


def table(sessions: Sequence[Session], columns: Sequence[str]) -> None:
    """A table for a person; tab-less aligned text, coloured only on a terminal."""
    rows = [[clean(cell(session, column)) for column in columns] for session in sessions]
    print_rows([COLUMNS[column] for column in columns], rows, _painter(sessions, columns))


def print_rows(heads: Sequence[str], rows: Sequence[Sequence[str]], paint: Any = None) -> None:
    """Aligned columns; on a terminal the widest is shortened until a row fits a line."""
    widths = [max(len(str(r[i])) for r in [heads, *rows]) for i in range(len(heads))]
    if sys.stdout.isatty():
        room = _width() - 2 * (len(heads) - 1)
        while sum(widths) > room and max(widths) > 8:
            widths[widths.index(max(widths))] -= 1
    bold, off = ("\033[1m", "\033[0m") if _colour(sys.stdout) else ("", "")

    def line(cells: Sequence[str]) -> list[str]:
        return [_fit(text, width) for text, width in zip(cells, widths, strict=True)]

    print(bold + "  ".join(line(heads)).rstrip() + off)
    for number, row in enumerate(rows):
        cells = line(row)
        if paint is not None:
            cells = [paint(number, i, text) for i, text in enumerate(cells)]
        print("  ".join(cells).rstrip())


def _painter(sessions: Sequence[Session], columns: Sequence[str]) -> Any:
    if not _colour(sys.stdout) or "state" not in columns:
        return None
    codes = {"green": 32, "yellow": 33, "red": 31, "magenta": 35}
    at = list(columns).index("state")

    def paint(row: int, column: int, text: str) -> str:
        code = codes.get(_COLOURS.get(sessions[row].state, ""), 0)
        return f"\033[{code}m{text}\033[0m" if column == at and code else text

    return paint


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _colour(stream: Any) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(stream.isatty())


def value_text(key: str, value: object) -> str:
    """A value of a spec as a person writes it: ``30m``, ``16 GiB``, ``-`` for nothing."""
    from mooring.quantities import format_duration, format_size

    if key in ("idle_timeout", "max_duration") and isinstance(value, (int, float)):
        return format_duration(value) if value else "never"
    if key in ("memory", "shm", "record") and isinstance(value, int):
        return format_size(value) if value else "off"
    if value is None or value in ([], {}, ()):
        return "-"
    return str(value)
