"""List the terminals of a session."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring.host.untrusted import parse_json
from mooring.terminals.keeper.client import Link
from mooring.terminals.keeper.protocol import MAIN


@dataclass(frozen=True)
class TerminalEntry:
    """A terminal of a session, as its keeper lists it.

    Attributes:
        id: ``main``, or ``t1``, ``t2``, …
        command: its argument list, of a long one the beginning and ``…``; empty for a shell.
        since: when it was opened, in seconds since the epoch.
        size: rows and columns.
        clients: number of attached clients.
        bytes: number of bytes of output so far.
        ended: whether its process has ended or it is lost; an ended terminal is listed until a
            client has received the rest of its output.
        code: its exit code; None while it runs, or if the code is not known.
        lost: whether it cannot be reached any more because its keeper was killed.
        label: set by the program that opened it.
    """

    id: str
    command: tuple[str, ...]
    since: float
    size: tuple[int, int]
    clients: int
    bytes: int
    ended: bool
    code: int | None
    lost: bool
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes but the label as JSON, the size as ``rows`` and ``columns``."""
        return {
            "id": self.id,
            "command": list(self.command),
            "since": self.since,
            "rows": self.size[0],
            "columns": self.size[1],
            "clients": self.clients,
            "bytes": self.bytes,
            "ended": self.ended,
            "code": self.code,
            "lost": self.lost,
        }


def terminals(session_dir: Path) -> list[TerminalEntry]:
    """Return a session's terminals, the main one first; empty if no keeper has held any."""
    try:
        with contextlib.closing(Link.open(session_dir)) as link:
            rows = link.list_terminals()
    except OSError:
        rows = _spooled(session_dir)
    return sorted(map(_entry, rows), key=lambda entry: (entry.id != MAIN, len(entry.id), entry.id))


def exec_id_of(session_dir: Path, name: str) -> str:
    """Return the engine's exec id of a terminal's process; empty for the main process."""
    try:
        about = parse_json((session_dir / "term" / name / "about").read_text())
        return str(about.get("exec", ""))
    except (OSError, ValueError):
        return ""


def _spooled(session_dir: Path) -> list[dict[str, Any]]:
    """Return the terminals of a keeper that was killed, from their files."""
    rows = []
    for path in sorted((session_dir / "term").glob("*/about")):
        with contextlib.suppress(OSError, ValueError):
            about = parse_json(path.read_text())
            lost = path.parent.name != MAIN and about.get("code") is None
            rows.append(about | {"id": path.parent.name, "lost": lost})
    return rows


def _entry(row: dict[str, Any]) -> TerminalEntry:
    size = row.get("size") or (24, 80)
    return TerminalEntry(
        id=str(row["id"]),
        command=tuple(map(str, row.get("command") or ())),
        since=float(row.get("since") or 0),
        size=(int(size[0]), int(size[1])),
        clients=int(row.get("clients") or 0),
        bytes=int(row.get("bytes") or 0),
        ended=row.get("code") is not None or bool(row.get("lost")),
        code=row.get("code"),
        lost=bool(row.get("lost")),
        label=str(row.get("label") or ""),
    )


def unattached(entries: Sequence[TerminalEntry], label: str | None = None) -> str:
    """Return the id of the newest terminal without a client; empty if there is none.

    Args:
        entries: a session's terminals, oldest first.
        label: consider only running terminals with this label. If None, all terminals count, and
            an ended one is returned if no other exists, so that its output can be read.
    """
    free = [
        entry
        for entry in entries
        if not entry.clients and not entry.lost and label in (None, entry.label)
    ]
    running = [entry for entry in free if not entry.ended]
    newest = (running or (free if label is None else []))[-1:]
    return newest[0].id if newest else ""
