"""ps: list sessions."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import FIELDS, EngineUnavailable, Session, SpecError, State
from mooring_cli import options as opt
from mooring_cli.columns import (
    COLUMNS,
    DEFAULT_COLUMNS,
    ENDED_COLUMNS,
    SHRINK_ORDER,
    cell,
    changed_at,
    heads,
    style,
)
from mooring_cli.output import (
    lines_of,
    note,
    one_line,
    print_error,
    print_in_pages,
    print_json,
    terminal_width,
)

if TYPE_CHECKING:
    from mooring import Mooring

PAGE = 10
ALIVE = (State.RUNNING, State.PAUSED, State.STARTING)
ENDED = (State.STOPPED, State.LOST, State.GONE)

States = Annotated[
    list[str] | None,
    typer.Option("--state", help=f"Only in these states: {', '.join(State)}; repeatable."),
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="KEY=VALUE: a field of --json, and a value or pattern; repeatable. A session must "
        "match every KEY, with any of its VALUEs.",
    ),
]


def ps(
    running: Annotated[bool, typer.Option("--running", help="Only running sessions.")] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only ended sessions, removed ones included.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show all sessions.")] = False,
    last: Annotated[
        int | None, typer.Option("--last", "-n", min=1, metavar="N", help="Show N sessions.")
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Include other users' sessions on this engine.")
    ] = False,
    states: States = None,
    filters: Filters = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help=f"Columns, as in name,gpus, of: {', '.join(COLUMNS)}."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only names.")] = False,
    json_: opt.Json = False,
) -> None:
    """List sessions, most recently changed first.

    Those that run or wait are shown, and others up to ten in all; --all shows all, through a pager
    if they do not fit the terminal. -q and --json print all.
    """
    from mooring import Mooring

    columns = _columns(format_) or _default_columns(dead=dead, all_users=all_users)
    patterns = patterns_of(filters or [], states or [])
    down, sessions = _sessions(Mooring(), dead=dead, all_users=all_users)
    matching = [
        session
        for session in sorted(sessions, key=changed_at, reverse=True)
        if (not running or session.state in ALIVE) and fits(session, patterns)
    ]
    whole = last or everything or quiet or json_
    shown = matching[:last] if whole else first_page(matching)
    if json_:
        print_json([session.to_dict() for session in shown])
    elif quiet:
        for session in shown:
            print(one_line(session.name))
    elif shown or sys.stdout.isatty():
        print_in_pages(table(shown, columns, cut=format_ is None))
    if not (json_ or quiet):
        if len(shown) < len(matching) and not last:
            flags = "--dead " * dead + "--all-users " * all_users
            note(f"{len(matching) - len(shown)} more: mooring ps {flags}--all")
        elif not matching and down is None:
            _note_none(running or dead or bool(patterns))
    if down is not None:
        print_error(down)
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(ps)


def first_page(sessions: Sequence[Session]) -> list[Session]:
    """Return the sessions that have not ended, and as many of the others as fit ``PAGE``."""
    places = PAGE - sum(session.state not in ENDED for session in sessions)
    page = []
    for session in sessions:
        if session.state in ENDED:
            places -= 1
            if places < 0:
                continue
        page.append(session)
    return page


def table(sessions: Sequence[Session], columns: Sequence[str], *, cut: bool = True) -> str:
    """Return the table as text, whose lines fit the width of a terminal.

    Args:
        sessions: the sessions, in order.
        columns: keys of ``COLUMNS``, in order.
        cut: whether columns may be omitted to fit.
    """
    lines = lines_of(
        heads(columns),
        [[cell(session, column) for column in columns] for session in sessions],
        lambda row, column: style(sessions[row], columns[column]),
        shrink=SHRINK_ORDER if cut else [(head, least) for head, least in SHRINK_ORDER if least],
        width=terminal_width() if sys.stdout.isatty() else 0,
    )
    return "".join(f"{line}\n" for line in lines)


def fits(session: Session, patterns: dict[str, list[str]]) -> bool:
    """Return whether, for each key, one of its patterns matches the JSON field of that name."""
    row = session.to_dict() if patterns else {}
    return all(
        any(fnmatchcase(text, pattern) for text in _texts(row[key]) for pattern in any_of)
        for key, any_of in patterns.items()
    )


def _sessions(
    mooring: Mooring, *, dead: bool, all_users: bool
) -> tuple[EngineUnavailable | None, list[Session]]:
    """Return None and the sessions, or the engine's error and the sessions known without it."""
    down = None
    try:
        sessions = mooring.sessions.list(all_users=True) if all_users else mooring.sessions.list()
    except EngineUnavailable as error:
        down, sessions = error, mooring.sessions.unknown()
    return down, mooring.sessions.ended(sessions) if dead else sessions


def _default_columns(*, dead: bool, all_users: bool) -> tuple[str, ...]:
    name, *others = ENDED_COLUMNS if dead else DEFAULT_COLUMNS
    return (name, "owner", *others) if all_users else (name, *others)


def _texts(value: object) -> list[str]:
    """Return the texts of a JSON field to match: one per item of a list; empty for null."""
    if isinstance(value, list):
        return [_texts(item)[0] for item in value] or [""]
    if value is None or isinstance(value, str):
        return [value or ""]
    return [json.dumps(value)]


def _note_none(filtered: bool) -> None:
    if filtered:
        note("no such sessions; to list all: mooring ps")
    else:
        note("no sessions; to create one: mooring create")


def _columns(text: str | None) -> tuple[str, ...]:
    columns = [part.strip() for part in (text or "").split(",") if part.strip()]
    for column in columns:
        if column not in COLUMNS:
            raise SpecError(f"--format: no column {column!r}", f"choose from: {', '.join(COLUMNS)}")
    return tuple(columns)


def patterns_of(filters: Sequence[str], states: Sequence[str]) -> dict[str, list[str]]:
    """Return the patterns of ``--filter`` and ``--state``, by JSON field.

    Raises:
        SpecError: a filter is malformed, or a field or state does not exist.
    """
    patterns: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in FIELDS:
            wrong = f"no field {key!r}" if equals else f"{text!r} is not KEY=VALUE"
            raise SpecError(f"--filter: {wrong}", f"choose from: {', '.join(FIELDS)}")
        patterns.setdefault(key, []).append(value)
    for text in states:
        for state in text.split(","):
            if state not in list(map(str, State)):
                raise SpecError(f"--state: no state {state!r}", f"choose from: {', '.join(State)}")
            patterns.setdefault("state", []).append(state)
    return patterns
