"""Which terminals a session has."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mooring.terminals.keeper import protocol as wire
from mooring.terminals.keeper.client import Link
from mooring.terminals.keeper.protocol import MAIN

if TYPE_CHECKING:
    from mooring.sessions.record import Folder


@dataclass(frozen=True)
class TerminalEntry:
    """A terminal of a session, as its keeper tells.

    Attributes:
        id: ``main``, or ``t1``, ``t2``, …
        command: its arguments; empty for a shell.
        since: when it was opened, in seconds since the epoch.
        size: rows and columns.
        clients: how many are attached.
        bytes: printed so far.
        ended: its process has ended; until somebody has seen the rest, it is listed.
        code: its exit code, None while it runs or where nobody knows.
        lost: its keeper was killed, and nothing leads to it any more.
        label: the mark of the door that opened it.
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


def terminals(folder: Folder) -> list[TerminalEntry]:
    """What terminals a session has, the main one first; none where nobody keeps any."""
    try:
        with contextlib.closing(Link.open(folder)) as link:
            link.socket.sendall(wire.said("list"))
            rows = link.hear("terminals")["terminals"]
    except OSError:
        rows = _left_behind(folder)
    found = [_entry(row) for row in rows]
    return sorted(found, key=lambda one: (one.id != MAIN, len(one.id), one.id))


def exec_id_of(folder: Folder, name: str) -> str:
    """The engine's name for a terminal's process; empty for the main one."""
    try:
        about = json.loads((folder.path / "term" / name / "about").read_text())
        return str(about.get("exec", ""))
    except (OSError, ValueError):
        return ""


def _left_behind(folder: Folder) -> list[dict[str, Any]]:
    """What a keeper that was killed has left."""
    rows = []
    for path in sorted((folder.path / "term").glob("*/about")):
        with contextlib.suppress(OSError, ValueError):
            about = json.loads(path.read_text())
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


def unattached(found: Sequence[TerminalEntry], label: str | None = None) -> str:
    """The newest terminal that nobody is attached to; empty for none.

    Args:
        label: only those that were opened with it, to work in. Without, one that has ended is
            taken where there is no other, for the rest of what it printed.
    """
    free = [one for one in found if not one.clients and not one.lost and label in (None, one.label)]
    going = [one for one in free if not one.ended]
    newest = (going or (free if label is None else []))[-1:]
    return newest[0].id if newest else ""
