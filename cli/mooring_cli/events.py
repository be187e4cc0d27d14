"""events: the history of sessions."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import EngineUnavailable, SessionNotFound
from mooring_cli import options as opt
from mooring_cli.output import one_line, paint, print_json, terminal_width, width_of, wrapped

if TYPE_CHECKING:
    from mooring import Event, Mooring

POLL_S = 0.5
# Minimum widths of an event's columns
_KIND, _ACTOR = 9, 10


def events(
    names: opt.Names,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new events.")] = False,
    json_: opt.Json = False,
) -> None:
    """Print the history of sessions, from the request to the end.

    Each event has its time, its actor and its reason. Queued and removed sessions have a history
    too.
    """
    from mooring import Mooring

    mooring = Mooring()
    names_by_id: dict[str, str] = {}
    for name in names:
        names_by_id.update(_names_by_id(mooring, name))
    width = max(map(len, names_by_id.values())) if len(names_by_id) > 1 else 0
    printed = dict.fromkeys(names_by_id, 0)  # the number of each session's last printed event
    while True:
        batch = [
            event
            for session_id, after in printed.items()
            for event in mooring.sessions.events(session_id, after=after)
        ]
        for event in sorted(batch, key=lambda event: (event.time, event.number)):
            printed[event.session] = max(printed[event.session], event.number)
            if not json_:
                print_event(event, f"{names_by_id[event.session]:<{width}}  " if width else "")
            elif follow:
                print(json.dumps(vars(event)), flush=True)
        if json_ and not follow:
            print_json([vars(event) for event in batch])
        for event in batch:
            if event.kind == "removed":
                printed.pop(event.session, None)
        if not follow or not printed:
            return
        time.sleep(POLL_S)
        mooring.sessions.list()  # records ends that are not in the history yet
        if not _may_go_on(mooring, printed):
            return


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(events)


def print_event(event: Event, start: str = "") -> None:
    """Print an event; on a terminal it is wrapped between words.

    Args:
        event: the event.
        start: a prefix: an indent, or the session's name.
    """
    stamp = paint(time.strftime("%F %T", time.localtime(event.time)), "quiet")
    kind = f"{one_line(event.kind):<{_KIND}}"
    head = f"{start}{stamp}  {kind}  {one_line(event.actor):<{_ACTOR}}  "
    indent = len(start) + 19 + 2 + len(kind) + 2 + max(_ACTOR, len(event.actor)) + 2
    detail = one_line(event.detail)
    room = terminal_width() - indent
    if not detail or not sys.stdout.isatty() or width_of(detail) <= room:
        print((head + detail).rstrip(), flush=True)
        return
    if max(24, *map(width_of, detail.split())) <= room:
        first, *others = wrapped(detail, room)
    else:  # a long word, such as a UUID: use separate lines
        indent = len(start) + 6
        first, others = "", wrapped(detail, terminal_width() - indent)
    print((head + first).rstrip(), flush=True)
    for line in others:
        print(" " * indent + line, flush=True)


def _names_by_id(mooring: Mooring, name: str) -> dict[str, str]:
    """Return the names, by id, of matching sessions, or of the last removed one of that name."""
    try:
        return {session.id: session.name for session in mooring.sessions.find([name])}
    except (SessionNotFound, EngineUnavailable):
        past = mooring.sessions.past(name)
        if past is None:
            raise
        return {past.id: past.name}


def _may_go_on(mooring: Mooring, printed: dict[str, int]) -> bool:
    """Return whether a session still exists, or has events that are not printed yet.

    Args:
        mooring: the core.
        printed: the number of each session's last printed event, by session id.
    """
    return any(
        mooring.records.exists(session_id) or mooring.sessions.events(session_id, after=after)
        for session_id, after in printed.items()
    )
