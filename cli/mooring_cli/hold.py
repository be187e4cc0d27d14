"""hold: prevent the idle stop of sessions for a limited time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mooring import SessionNotFound, SpecError
from mooring_cli import options as opt
from mooring_cli.output import note
from mooring_cli.selection import apply, is_running, select

if TYPE_CHECKING:
    from mooring import Mooring, Session

DEFAULT_S = 2 * 3600.0


def hold(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES... [DURATION]",
            help="Names or patterns, then a duration: 2h (the default), 45m; off cancels a hold.",
            autocompletion=opt.complete_names,
        ),
    ] = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
) -> None:
    """Keep sessions from stopping as idle for a while.

    The maximum duration still applies; a note says so if it ends a session before the hold does.
    """
    from mooring import Mooring, format_duration

    mooring = Mooring()
    names, seconds = _names_and_duration(mooring, list(arguments or []), everything)

    def act(session: Session) -> str:
        mooring.sessions.hold(session, seconds)
        ends_in_s = mooring.sessions.ends_in_s(session)
        if ends_in_s is not None and ends_in_s < seconds:
            note(
                f"{session.name}: its maximum duration still ends it in "
                f"{format_duration(ends_in_s)}; to change that: "
                f"mooring update {session.name} --max-duration DURATION"
            )
        result = f"held for {format_duration(seconds)}" if seconds else "no longer held"
        return f"{session.name} {result}"

    apply(select(mooring, names, everything, yes=yes, verb="hold", fits=is_running), act)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(hold)


def _names_and_duration(
    mooring: Mooring, names: list[str], everything: bool
) -> tuple[list[str], float]:
    """Separate the optional duration from the names before it.

    Returns:
        The names, and the duration in seconds; 0 for ``off``.

    Raises:
        SpecError: the last argument is neither a duration nor a session.
    """
    from mooring import parse_duration

    if not names:
        return names, DEFAULT_S
    *before, last = names
    alone = not before and not everything  # then it is a name, even if it looks like a duration
    try:
        seconds = parse_duration(last)
    except ValueError as error:
        if not alone and not _exists(mooring, last):
            raise SpecError(
                f"duration: {last!r} {error}", "names come first, as in: mooring hold bert 2h"
            ) from None
        return names, DEFAULT_S
    if not alone:
        return before, seconds
    if not _exists(mooring, last):
        raise SpecError(
            f"no session is named, only a duration: {last}", f"as in: mooring hold bert {last}"
        )
    return names, DEFAULT_S


def _exists(mooring: Mooring, name: str) -> bool:
    try:
        return bool(mooring.sessions.find([name]))
    except SessionNotFound:
        return False
