"""ps: which sessions there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import EngineUnavailable, SpecError
from mooring.sessions.model import FIELDS, Session, State
from mooring_cli import options as opt
from mooring_cli.cells import (
    COLUMNS,
    DEFAULT_COLUMNS,
    ENDED_COLUMNS,
    GIVE,
    cell,
    changed_at,
    heads,
    style,
)
from mooring_cli.output import columns as terminal_columns
from mooring_cli.output import explain, in_pages, lines_of, note, print_json

if TYPE_CHECKING:
    from mooring.service import Mooring

PAGE = 10
ALIVE = (State.RUNNING, State.PAUSED, State.STARTING)


def ps(
    running: Annotated[bool, typer.Option("--running", help="Only running ones.")] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only ended ones, removed ones too.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All, not the last ten.")] = False,
    last: Annotated[
        int | None,
        typer.Option("--last", "-n", min=1, metavar="N", help="So many, not the last ten."),
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Other people's on this engine, too.")
    ] = False,
    states: Annotated[
        list[str] | None,
        typer.Option("--state", help=f"Only in these states: {', '.join(State)}; repeatable."),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="KEY=VALUE of a JSON field, VALUE may be a pattern; repeatable: any of one key's "
            "values, of each key.",
        ),
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help=f"Columns: {','.join(COLUMNS)}.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only names.")] = False,
    json_: opt.Json = False,
) -> None:
    """List sessions, the newest change first.

    Ten of them; `--all` shows all, through a pager where they do not fit the terminal. `-q` and
    `--json` print all of them.
    """
    from mooring.service import Mooring

    columns = _columns(format_) or _default_columns(dead=dead, all_users=all_users)
    wanted = _wanted(filters or [], states or [])
    down, sessions = _sessions(Mooring(), dead=dead, all_users=all_users)
    chosen = [
        session
        for session in sorted(sessions, key=changed_at, reverse=True)
        if (not running or session.state in ALIVE) and fits(session, wanted)
    ]
    limit = last if last or everything or quiet or json_ else PAGE
    shown = chosen[:limit]
    if json_:
        print_json([session.to_dict() for session in shown])
    elif quiet:
        for session in shown:
            print(session.name)
    else:
        if shown or sys.stdout.isatty():
            in_pages(table(shown, columns, cut=format_ is None))
        if len(shown) < len(chosen) and not last:
            flags = "--dead " * dead + "--all-users " * all_users
            note(f"{len(chosen) - len(shown)} more: mooring ps {flags}--all")
        elif not chosen and down is None:
            _note_none(running or dead or bool(wanted))
    if down is not None:
        explain(down)
        raise typer.Exit(1)


def table(sessions: Sequence[Session], columns: Sequence[str], *, cut: bool = True) -> str:
    """Sessions as lines for a person; on a terminal each fits one.

    Args:
        cut: whether columns may be left out for that.
    """
    lines = lines_of(
        heads(columns),
        [[cell(session, column) for column in columns] for session in sessions],
        lambda row, column: style(sessions[row], columns[column]),
        give=GIVE if cut else [(head, least) for head, least in GIVE if least],
        width=terminal_columns() if sys.stdout.isatty() else 0,
    )
    return "".join(f"{line}\n" for line in lines)


def fits(session: Session, wanted: dict[str, list[str]]) -> bool:
    """Whether for each key one of its patterns fits the session's JSON field of that name."""
    row = session.to_dict() if wanted else {}
    return all(
        any(fnmatchcase(text, pattern) for text in _texts(row[key]) for pattern in patterns)
        for key, patterns in wanted.items()
    )


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command()(ps)


def _sessions(
    mooring: Mooring, *, dead: bool, all_users: bool
) -> tuple[EngineUnavailable | None, list[Session]]:
    down = None
    try:
        sessions = mooring.sessions(all_users=True) if all_users else mooring.sessions()
    except EngineUnavailable as error:
        down, sessions = error, mooring.unknown()
    return down, mooring.ended(sessions) if dead else sessions


def _default_columns(*, dead: bool, all_users: bool) -> tuple[str, ...]:
    name, *others = ENDED_COLUMNS if dead else DEFAULT_COLUMNS
    return (name, "owner", *others) if all_users else (name, *others)


def _texts(value: object) -> list[str]:
    """A JSON field as what it may be compared with: each item of a list; null is empty."""
    if isinstance(value, list):
        return [_texts(item)[0] for item in value] or [""]
    if value is None or isinstance(value, str):
        return [value or ""]
    return [json.dumps(value)]


def _note_none(chosen: bool) -> None:
    note("no such sessions; all: mooring ps" if chosen else "no sessions; make one: mooring create")


def _columns(text: str | None) -> tuple[str, ...]:
    chosen = [part.strip() for part in (text or "").split(",") if part.strip()]
    for part in chosen:
        if part not in COLUMNS:
            raise SpecError(f"--format: no column {part!r}", f"there is: {', '.join(COLUMNS)}")
    return tuple(chosen)


def _wanted(filters: Sequence[str], states: Sequence[str]) -> dict[str, list[str]]:
    """Patterns by JSON field."""
    wanted: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in FIELDS:
            wrong = f"no field {key!r}" if equals else f"{text!r} is not KEY=VALUE"
            raise SpecError(f"--filter: {wrong}", f"there is: {', '.join(FIELDS)}")
        wanted.setdefault(key, []).append(value)
    for text in states:
        for state in text.split(","):
            if state not in list(map(str, State)):
                raise SpecError(f"--state: no state {state!r}", f"there is: {', '.join(State)}")
            wanted.setdefault("state", []).append(state)
    return wanted
