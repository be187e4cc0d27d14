"""events, why: what happened to a session, and what was the reason."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring.errors import EngineUnavailable, MooringError, SessionNotFound
from mooring.sessions.model import Session, State
from mooring.spec.units import format_duration
from mooring_cli import cells
from mooring_cli import options as opt
from mooring_cli.output import (
    clean,
    columns,
    explain,
    one_line,
    paint,
    print_json,
    width_of,
)

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.history import Event

FOLLOW_S = 0.5
# Of an event the kind and the actor stand in columns of so many characters
_KIND, _ACTOR = 9, 10
_HERE = (State.STARTING, State.PENDING)


def events(
    names: opt.Names,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen.")] = False,
    json_: opt.Json = False,
) -> None:
    """Print what happened to sessions, from their request to their end.

    When, by whom and why; also of those that wait, and of those that are gone.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    names_of = {}
    for name in names:
        names_of.update(_ids_of(mooring, name))
    several = len(names_of) > 1
    last = dict.fromkeys(names_of, 0)
    while True:
        found = [
            event
            for session_id, after in last.items()
            for event in mooring.events(session_id, after=after)
        ]
        for event in sorted(found, key=lambda event: (event.time, event.number)):
            last[event.session] = max(last[event.session], event.number)
            if not json_:
                of = f"{names_of[event.session]:<{max(map(len, names_of.values()))}}  "
                print_event(event, of if several else "")
            elif follow:
                print(json.dumps(vars(event)), flush=True)
        if json_ and not follow:
            print_json([vars(event) for event in found])
        for event in found:
            if event.kind == "removed":
                last.pop(event.session, None)
        if not follow or not last:
            return
        time.sleep(FOLLOW_S)
        mooring.sessions()  # an end that no door brought about is written down by looking
        if not _live(mooring, last):
            return


def why(names: opt.Names, json_: opt.Json = False) -> None:
    """Tell why a session ended, why it does not, or what it waits for."""
    from mooring.service import Mooring

    mooring = Mooring()
    documents: list[Any] = []
    failed = False
    for session, name, error in each(mooring, names):
        past = mooring.past(name) if session is None else None
        if session is not None and json_:
            end = session.end
            documents.append(
                session.to_dict()
                | {"detail": end.detail if end else "", "signals": end.signals if end else ""}
            )
        elif session is not None:
            _why(session)
        elif past is None:
            explain(error or SessionNotFound(f"no session named {name}"))
            failed = True
        elif json_:
            documents.append({"state": "gone", "reason": past.reason, "signals": ""})
        else:
            print(f"{past.name} is gone: {clean(past.reason) or 'removed'}")
    if json_ and documents:
        print_json(documents[0] if len(names) == 1 and len(documents) == 1 else documents)
    if failed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    for command in (events, why):
        app.command()(command)


def each(
    mooring: Mooring, names: Sequence[str]
) -> Iterator[tuple[Session | None, str, MooringError | None]]:
    """The sessions that names stand for, each once; None, and why, for one that is not there."""
    seen = set()
    for name in names:
        try:
            found = mooring.find([name])
        except SessionNotFound as error:
            yield None, name, error
            continue
        for session in found:
            if session.id not in seen:
                seen.add(session.id)
                yield session, session.name, None


def _ids_of(mooring: Mooring, name: str) -> dict[str, str]:
    """Names by id, of sessions that are here, or of the last one of that name that was."""
    try:
        return {session.id: session.name for session in mooring.find([name])}
    except (SessionNotFound, EngineUnavailable):
        past = mooring.past(name)
        if past is None:
            raise
        return {past.id: past.name}


def _live(mooring: Mooring, ids: dict[str, int]) -> bool:
    """Whether anything can still happen to one of them: it is here, or has news to be printed."""
    from mooring.sessions.record import Folder

    return any(
        Folder.open(session_id).exists or mooring.events(session_id, after=after)
        for session_id, after in ids.items()
    )


def print_value(start: str, value: str, style: str = "") -> None:
    """A line; on a terminal as many as it takes, each below the first one's value."""
    room = columns() - width_of(start) if sys.stdout.isatty() else 0
    texts = value.splitlines() or ["-"]
    if 0 < room < max(map(width_of, texts)):
        texts = [part for text in texts for part in _wrapped(text, max(room, 20)) or [""]]
    for number, text in enumerate(texts):
        print(((start if number == 0 else " " * width_of(start)) + paint(text, style)).rstrip())


def print_event(event: Event, start: str = "") -> None:
    """A line; on a terminal as many as it takes, and no word of it is broken."""
    stamp = paint(time.strftime("%F %T", time.localtime(event.time)), "quiet")
    kind = f"{one_line(event.kind):<{_KIND}}"
    head = f"{start}{stamp}  {kind}  {one_line(event.actor):<{_ACTOR}}  "
    taken = len(start) + 19 + 2 + len(kind) + 2 + max(_ACTOR, len(event.actor)) + 2
    detail = one_line(event.detail)
    room = columns() - taken
    if not detail or not sys.stdout.isatty() or width_of(detail) <= room:
        print((head + detail).rstrip(), flush=True)
        return
    if max(24, *map(width_of, detail.split())) <= room:
        first, *others = _wrapped(detail, room)
    else:  # a UUID, say: on lines of its own
        taken = len(start) + 6
        first, others = "", _wrapped(detail, columns() - taken)
    print((head + first).rstrip(), flush=True)
    for line in others:
        print(" " * taken + line, flush=True)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def moment(at: float) -> str:
    if not at:
        return "-"
    return f"{time.strftime('%F %T', time.localtime(at))} ({cells.ago(at)})"


# why


def _why(session: Session) -> None:
    end, clock = session.end, session.clock
    if session.state in _HERE:
        print(f"{session.name} is {session.state}, since {moment(cells.changed_at(session))}")
        print_value("  waits    ", clean(session.waiting or "for nothing that is known"))
        return
    if session.state is not State.RUNNING:
        print(f"{session.name} is {session.state}: {clean(session.reason)}")
        if end is not None:
            print(f"  when     {time.strftime('%F %T', time.localtime(end.time))}")
            print_value("  because  ", clean(end.detail))
            if end.signals:
                print_value("  signals  ", clean(end.signals))
        return
    degraded = f" ({session.degraded})" if session.degraded else ""
    print(f"{session.name} is running{degraded}")
    print(f"  activity  {clean(cells.activity(session))}")
    print(f"  stops in  {cells.stops_in(session)}")
    if clock is not None:
        last = format_duration(clock.last_signal_ago_s)
        print(f"  last      {clean(clock.last_signal)}, {last} ago")
        if clock.unknown:
            print(f"  unknown   {clean(', '.join(clock.unknown))}: the idle clock waits")
    unused = cells.unused_for(session)
    if unused is not None:
        print(f"  gpus      {cells.gpus(session).partition(',')[0]}, unused for", end=" ")
        print(format_duration(unused))
