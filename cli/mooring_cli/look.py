"""ps, describe, events, why: what tells and changes nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import EngineUnavailable, SessionNotFound, SpecError
from mooring.session import FIELDS, Session, State
from mooring_cli import options as opt
from mooring_cli.output import (
    COLUMNS,
    DEFAULT_COLUMNS,
    activity,
    ago,
    clean,
    explain,
    note,
    print_json,
    stops_in,
    table,
    value_text,
)

if TYPE_CHECKING:
    from mooring.history import Event
    from mooring.service import Mooring

PAGE = 10
FOLLOW_S = 0.5
ENDED_COLUMNS = ("name", "state", "image", "exit", "ended")
ALIVE = (State.RUNNING, State.PAUSED, State.STARTING)


def ps(
    running: Annotated[bool, typer.Option("--running", help="Only running ones.")] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only ended ones, removed ones too.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All, not the last ten.")] = False,
    format_: Annotated[
        str | None, typer.Option("--format", help=f"Columns: {','.join(COLUMNS)}.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only names.")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="KEY=VALUE of a JSON field; repeatable.")
    ] = None,
    json_: opt.Json = False,
) -> None:
    """List sessions, the newest first."""
    from mooring.service import Mooring

    columns = _columns(format_) or (ENDED_COLUMNS if dead else DEFAULT_COLUMNS)
    wanted = [_filter(text) for text in filters or []]
    mooring = Mooring()
    down: EngineUnavailable | None = None
    try:
        sessions = mooring.sessions()
    except EngineUnavailable as error:
        down, sessions = error, mooring.unknown()
    if dead:
        sessions = mooring.ended(sessions)
    if running:
        sessions = [session for session in sessions if session.state in ALIVE]
    chosen = [session for session in sessions if _fits(session, wanted)]
    if json_:
        print_json([session.to_dict() for session in chosen])
    elif quiet:
        for session in chosen:
            print(session.name)
    else:
        shown = chosen if everything else chosen[:PAGE]
        if shown or sys.stdout.isatty():
            table(shown, columns)
        if len(shown) < len(chosen):
            note(f"{len(chosen) - len(shown)} more: mooring ps {'--dead ' if dead else ''}--all")
        elif not chosen and down is None:
            _note_none(running or dead or bool(wanted))
    if down is not None:
        explain(down)
        raise typer.Exit(1)


def describe(name: opt.Name, json_: opt.Json = False) -> None:
    """Tell all about a session.

    Its spec, its clock, its kernels and its recent events.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    try:
        session = mooring.get(name)
    except SessionNotFound:
        if mooring.past(name) is None:
            raise
        events(name, follow=False, json_=json_)
        return
    history = mooring.events(session.id)
    if json_:
        print_json(
            session.to_dict()
            | {
                "spec": session.spec,
                "kernel_list": [vars(kernel) for kernel in session.kernels],
                "events": [vars(event) for event in history],
            }
        )
        return
    lines = [
        ("name", session.name),
        ("id", session.id),
        ("state", f"{session.state}" + (f" ({session.reason})" if session.reason else "")),
        ("image", session.image),
        ("owner", session.owner),
        ("created", ago(session.created_at)),
        ("container", session.container[:12]),
        ("activity", activity(session)),
        ("stops in", stops_in(session)),
    ]
    if session.exit_code is not None:
        lines.append(("exit code", str(session.exit_code)))
    declared = {key: session.spec[key] for key in session.spec if key not in ("name", "image")}
    for key, value in (declared | mooring.deadlines(session)).items():
        lines.append((key.replace("_", " "), value_text(key, value)))
    for kernel in session.kernels:
        state = "busy" if kernel.busy else "idle"
        state = state if kernel.exit is None and session.state is State.RUNNING else "ended"
        lines.append(("kernel", f"{kernel.id} {state}, {kernel.requests} requests"))
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        print(f"{key:<{width}}  {clean(value)}")
    print(f"{'events':<{width}}  " + ("" if history else "none recorded"))
    for event in history[-10:]:
        print("  " + _event_line(event))


def events(
    name: opt.Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen.")] = False,
    json_: opt.Json = False,
) -> None:
    """Print what happened to a session.

    When, by whom and why; also after it is gone.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    session_id = _id_of(mooring, name)
    last = 0
    while True:
        found = mooring.events(session_id, after=last)
        if json_ and not follow:
            print_json([vars(event) for event in found])
        for event in found:
            last = event.number
            if json_ and follow:
                import json

                print(json.dumps(vars(event)), flush=True)
            elif not json_:
                print(_event_line(event), flush=True)
        if not follow or any(event.kind == "removed" for event in found):
            return
        time.sleep(FOLLOW_S)
        mooring.sessions()  # an end that no door brought about is written down by looking


def why(name: opt.Name, json_: opt.Json = False) -> None:
    """Tell why a session ended, or why it does not."""
    from mooring.service import Mooring

    mooring = Mooring()
    try:
        session = mooring.get(name)
    except SessionNotFound:
        past = mooring.past(name)
        if past is None:
            raise
        if json_:
            print_json({"state": "gone", "reason": past.reason, "signals": ""})
        else:
            print(f"{past.name} is gone: {past.reason or 'removed'}")
        return
    _why(session, json_)


def _why(session: Session, json_: bool) -> None:
    end, clock = session.end, session.clock
    if json_:
        print_json(
            session.to_dict()
            | {"detail": end.detail if end else "", "signals": end.signals if end else ""}
        )
        return
    if session.state is not State.RUNNING:
        print(f"{session.name} is {session.state}: {session.reason}")
        if end is not None:
            print(f"  when     {time.strftime('%F %T', time.localtime(end.time))}")
            print(f"  because  {clean(end.detail)}")
            if end.signals:
                print(f"  signals  {clean(end.signals)}")
        return
    print(f"{session.name} is running")
    print(f"  activity  {activity(session)}")
    print(f"  stops in  {stops_in(session)}")
    if clock is not None:
        from mooring.quantities import format_duration

        last = format_duration(clock.last_signal_ago_s)
        print(f"  last      {clean(clock.last_signal)}, {last} ago")
        if clock.unknown:
            print(f"  unknown   {', '.join(clock.unknown)}: the idle clock waits")


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    for command in (ps, describe, events, why):
        app.command()(command)


def _id_of(mooring: Mooring, name: str) -> str:
    try:
        return str(mooring.get(name).id)
    except (SessionNotFound, EngineUnavailable):
        past = mooring.past(name)
        if past is None:
            raise
        return str(past.id)


def _event_line(event: Event) -> str:
    stamp = time.strftime("%F %T", time.localtime(event.time))
    return clean(f"{stamp}  {event.kind:<9}  {event.actor:<10}  {event.detail}").rstrip()


def _fits(session: Session, wanted: list[tuple[str, str]]) -> bool:
    if not wanted:
        return True
    row = session.to_dict()
    return all(str(row[key]) == value for key, value in wanted)


def _note_none(chosen: bool) -> None:
    note("no such sessions; all: mooring ps" if chosen else "no sessions; make one: mooring create")


def _columns(text: str | None) -> list[str]:
    chosen = [part.strip() for part in (text or "").split(",") if part.strip()]
    for part in chosen:
        if part not in COLUMNS:
            raise SpecError(f"--format: no column {part!r}", f"there is: {', '.join(COLUMNS)}")
    return chosen


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in FIELDS:
        raise SpecError(f"--filter: {text!r} is not KEY=VALUE", f"keys: {', '.join(FIELDS)}")
    return key, value
