"""why: why sessions ended, are still running, or are waiting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from mooring import LAUNCHING, Session, SessionNotFound, State, format_duration
from mooring_cli import columns
from mooring_cli import options as opt
from mooring_cli.output import clean, one_line, print_error, print_json, print_value
from mooring_cli.selection import find_each

if TYPE_CHECKING:
    from mooring import Mooring


def why(names: opt.Names, json_: opt.Json = False) -> None:
    """Explain why a session ended, is running, or is waiting."""
    from mooring import Mooring

    mooring = Mooring()
    documents: list[Any] = []
    failed = False
    for session, name, error in find_each(mooring, names):
        past = mooring.sessions.past(name) if session is None else None
        if session is not None and json_:
            end = session.end
            documents.append(
                session.to_dict()
                | {"detail": end.detail if end else "", "signals": end.signals if end else ""}
            )
        elif session is not None:
            _print_why(mooring, session)
        elif past is None:
            print_error(error or SessionNotFound(f"no session named {name}"))
            failed = True
        elif json_:
            documents.append({"state": "gone", "reason": past.reason, "signals": ""})
        else:
            print(f"{one_line(past.name)} is gone: {clean(past.reason) or 'removed'}")
            if files := _deleted(mooring, past.id):
                print_value("  deleted  ", clean(files))
    if json_ and documents:
        print_json(documents[0] if len(names) == 1 and len(documents) == 1 else documents)
    if failed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(why)


def _deleted(mooring: Mooring, session_id: str) -> str:
    """Return what a removed session's private home contained; empty for nothing."""
    details = [
        event.detail for event in mooring.sessions.events(session_id) if event.kind == "removed"
    ]
    return details[-1].partition("in its private home: ")[2] if details else ""


def _print_why(mooring: Mooring, session: Session) -> None:
    if session.state in LAUNCHING:
        since = columns.moment(columns.changed_at(session))
        print(f"{session.name} is {session.state}, since {since}")
        print_value("  waiting  ", clean(session.waiting or "reason unknown"))
    elif session.state is State.RUNNING:
        _print_why_running(session)
        for problem in mooring.kernels.preload_problems(session.id):
            print_value("  preload   ", clean(problem.removeprefix("preload: ")))
        if died := _last_death(mooring, session):
            print_value("  died      ", clean(died))
    else:
        _print_why_ended(session)


def _last_death(mooring: Mooring, session: Session) -> str:
    """Return how and when a kernel of a session died last; empty if none did."""
    for event in reversed(mooring.sessions.events(session.id)):
        if event.kind == "kernel" and " ended: " in event.detail:
            ordinary = event.detail.endswith((": exit code 0", ": killed by SIGKILL"))
            return "" if ordinary else f"{event.detail}, {columns.ago(event.time)}"
    return ""


def _print_why_ended(session: Session) -> None:
    print(f"{session.name} is {session.state}: {clean(session.reason)}")
    end = session.end
    if end is not None:
        print(f"  when     {time.strftime('%F %T', time.localtime(end.time))}")
        print_value("  because  ", clean(end.detail))
        if end.signals:
            print_value("  signals  ", clean(signals_text(end.signals)))


def signals_text(signals: str) -> str:
    """Return the signals of a stop in words: ``kernel 30m ago, terminal never, cpu 0.1%``.

    Args:
        signals: ``NAME=VALUE`` parts; a value is in seconds since the signal was seen, ``never``,
            or another text, such as a percentage.
    """
    texts = []
    for part in signals.split():
        name, equals, value = part.partition("=")
        if value.isdecimal() and len(value) < 10:
            value = f"{format_duration(float(value))} ago"
        texts.append(f"{name} {value}" if equals else part)
    return ", ".join(texts)


def _print_why_running(session: Session) -> None:
    degraded = f" ({session.degraded})" if session.degraded else ""
    print(f"{session.name} is running{degraded}")
    print(f"  activity  {clean(columns.activity(session))}")
    print(f"  stops in  {columns.stops_in(session)}")
    clock = session.clock
    if clock is not None:
        last = format_duration(clock.last_signal_ago_s)
        print(f"  last      {clean(clock.last_signal)}, {last} ago")
        if clock.failed_probes:
            print(f"  unknown   {clean(', '.join(clock.failed_probes))}: the idle timer is paused")
    unused = columns.unused_for(session)
    if unused is not None:
        count = columns.gpu_count(session)
        print(f"  gpus      {count}, unused for {format_duration(unused)}")
