"""Select the sessions that a command applies to, by names, id prefixes, patterns, or --all."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mooring import EngineUnavailable, MooringError, SessionNotFound, SpecError
from mooring_cli.output import clean, print_error

if TYPE_CHECKING:
    from mooring import Mooring, Session

MOST_NAMED = 10
PARALLEL = 8  # maximum number of sessions to stop or remove concurrently; they mostly wait
COMMANDS = {"remove": "rm"}


@dataclass(frozen=True)
class Selection:
    """The sessions that a command applies to.

    Attributes:
        sessions: each once, in the order of the names.
        failures: an exit code for each name that matches no session.
    """

    sessions: tuple[Session, ...]
    failures: tuple[int, ...] = ()


def select(
    mooring: Mooring,
    names: Sequence[str] | None,
    everything: bool = False,
    *,
    yes: bool = False,
    verb: str,
    fits: Callable[[Session], bool] = lambda session: True,
    otherwise: str = "",
    others: bool = False,
) -> Selection:
    """Return the sessions that names, id prefixes and patterns match.

    For a name that matches no session an error is printed, and the other names are still used.

    Args:
        mooring: the core.
        names: names, id prefixes and patterns.
        everything: select all sessions that ``fits``, after a confirmation; ``names`` must be
            empty.
        yes: skip the confirmation.
        verb: the action for the confirmation prompt, such as ``stop``: the command's name, or a key
            of ``COMMANDS``.
        fits: returns whether ``everything`` includes a session.
        otherwise: the hint if there are sessions and ``everything`` includes none.
        others: whether a name, but not a pattern, may also match a session of another user, whose
            ``foreign`` is then set.

    Raises:
        SpecError: neither names nor ``everything``, or both; or there is no terminal for the
            confirmation.
        SessionNotFound: ``everything`` is set and no session fits.
        typer.Exit: the user declined.
    """
    command = COMMANDS.get(verb, verb)
    if everything:
        if names:
            raise SpecError("names and --all cannot be combined", "use one of them")
        return Selection(_select_all(mooring, yes, verb, fits, otherwise))
    if not names:
        raise SpecError(
            f"{command} needs the name of a session, or a pattern such as 'bert-*'",
            "to list sessions: mooring ps",
        )
    sessions: dict[str, Session] = {}
    failures = []
    for name in names:
        try:
            matches = _find(mooring, name) if others else mooring.sessions.find([name])
            sessions.update({session.id: session for session in matches})
        except SessionNotFound as error:
            print_error(error)
            failures.append(error.exit_code)
    return Selection(tuple(sessions.values()), tuple(failures))


def apply(selection: Selection, act: Callable[[Session], str | None], *, parallel: int = 1) -> None:
    """Apply an action to each session; after an error the other sessions are still processed.

    Args:
        selection: the sessions.
        act: the action; its result is printed, or the session's name if it is None.
        parallel: maximum number of concurrent actions, each in a thread; output keeps the order.

    Raises:
        typer.Exit: if any failed, with code 1, or with the common exit code if all failed alike.
        EngineUnavailable: immediately, because the other actions would fail too.
    """

    def attempt(session: Session) -> str | MooringError:
        try:
            return act(session) or session.name
        except MooringError as error:
            return error

    failures, successes = list(selection.failures), 0
    for outcome in _map(attempt, selection.sessions, parallel):
        if isinstance(outcome, EngineUnavailable):
            raise outcome
        if isinstance(outcome, MooringError):
            print_error(outcome)
            failures.append(outcome.exit_code)
            continue
        successes += 1
        print(clean(outcome), flush=True)
    if failures:
        alike = not successes and len(set(failures)) == 1
        raise typer.Exit(failures[0] if alike else 1)


def find_each(
    mooring: Mooring, names: Sequence[str]
) -> Iterator[tuple[Session | None, str, MooringError | None]]:
    """Look up names and patterns one by one.

    Yields:
        ``(session, name, None)`` once for each matching session; ``(None, name, error)`` for a name
        that matches no session.
    """
    seen = set()
    for name in names:
        try:
            matches = mooring.sessions.find([name])
        except SessionNotFound as error:
            yield None, name, error
            continue
        for session in matches:
            if session.id not in seen:
                seen.add(session.id)
                yield session, session.name, None


def is_alive(session: Session) -> bool:
    """Return whether a session is running, paused, starting or pending."""
    from mooring import State

    return session.state in (State.RUNNING, State.PAUSED, State.STARTING, State.PENDING)


def is_running(session: Session) -> bool:
    """Return whether a session is running and not paused."""
    from mooring import State

    return session.state is State.RUNNING


def _map(
    act: Callable[[Session], str | MooringError], sessions: Sequence[Session], parallel: int
) -> Iterator[str | MooringError]:
    if parallel == 1 or len(sessions) < 2:
        yield from map(act, sessions)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(parallel, len(sessions))) as pool:
        yield from pool.map(act, sessions)


def _select_all(
    mooring: Mooring, yes: bool, verb: str, fits: Callable[[Session], bool], otherwise: str
) -> tuple[Session, ...]:
    listed = mooring.sessions.list()
    sessions = tuple(filter(fits, listed))
    if not sessions:
        states = Counter(map(str, (session.state for session in listed)))
        others = ", ".join(f"{count} {state}" for state, count in states.items())
        raise SessionNotFound(
            f"there is no session to {verb}" + (f", but {others}" if others else ""),
            (listed and otherwise) or "to list sessions: mooring ps",
        )
    if yes:
        return sessions
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpecError(
            f"{COMMANDS.get(verb, verb)} --all asks for confirmation, and there is no terminal",
            "use --all --yes",
        )
    names = ", ".join(clean(session.name) for session in sessions[:MOST_NAMED])
    more = f" and {len(sessions) - MOST_NAMED} more" if len(sessions) > MOST_NAMED else ""
    noun = "session" if len(sessions) == 1 else "sessions"
    if not typer.confirm(f"{verb} {len(sessions)} {noun}: {names}{more}?", err=True):
        raise typer.Exit(1)
    return sessions


def _find(mooring: Mooring, name: str) -> list[Session]:
    """Return the sessions that a name or pattern matches, else another user's with that name."""
    try:
        return mooring.sessions.find([name])
    except SessionNotFound:
        foreign = mooring.sessions.find_foreign(name)
        if not foreign:
            raise
    if len(foreign) > 1:
        owners = ", ".join(f"{session.id} ({session.owner})" for session in foreign)
        raise SessionNotFound(
            f"{name} matches several sessions of other users: {owners}", "use one of the ids"
        )
    return foreign
