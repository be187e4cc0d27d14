"""terminals: list the terminals of a session."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from mooring_cli import options as opt
from mooring_cli.columns import ago
from mooring_cli.output import clean, note, print_json, print_rows

if TYPE_CHECKING:
    from mooring import TerminalEntry

HEADS = ("TERMINAL", "STATE", "CLIENTS", "SIZE", "OPENED", "COMMAND")


def terminals(name: opt.Name, json_: opt.Json = False) -> None:
    """List a session's terminals.

    A terminal that has ended is listed until somebody has attached to it and seen the rest of its
    output.
    """
    from mooring import Mooring

    mooring = Mooring()
    session = mooring.sessions.get(name)
    entries = mooring.terminals.list(session)
    if json_:
        print_json([entry.to_dict() for entry in entries])
        return
    if not entries:
        note(f"{session.name} has no terminals; to open one: mooring exec {session.name}")
        return
    rows = [
        [
            entry.id,
            _state(entry),
            str(entry.clients),
            f"{entry.size[0]}x{entry.size[1]}",
            ago(entry.since),
            clean(shlex.join(entry.command)) or "(shell)",
        ]
        for entry in entries
    ]
    print_rows(HEADS, rows, right=["CLIENTS"])


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(terminals)


def _state(entry: TerminalEntry) -> str:
    if entry.lost:
        return "lost"
    if not entry.ended:
        return "running"
    return "ended" if entry.code is None else f"ended ({entry.code})"
