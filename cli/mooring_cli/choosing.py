"""Which sessions a command means: names, starts of ids, patterns, or --all after a question."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mooring.errors import EngineUnavailable, MooringError, SessionNotFound, SpecError
from mooring_cli.output import clean, explain

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.model import Session

SHOWN = 10
FEWEST_LETTERS = 4
COMMANDS = {"remove": "rm"}


@dataclass(frozen=True)
class Chosen:
    """The sessions that a command means, each once, and the exit codes of names for nothing."""

    sessions: tuple[Session, ...]
    failures: tuple[int, ...] = ()


def choose(
    mooring: Mooring,
    names: Sequence[str] | None,
    everything: bool = False,
    *,
    yes: bool = False,
    verb: str,
    fits: Callable[[Session], bool] = lambda session: True,
    others: bool = False,
) -> Chosen:
    """The sessions that names, starts of ids and patterns stand for; a bad one costs only itself.

    Args:
        everything: all that ``fits``, after a question; ``names`` must be empty.
        yes: ask nothing.
        verb: what is going to happen to them, for the question: ``stop``; the command's name, or
            one of ``COMMANDS``.
        others: a name, but no pattern, may also be another user's session; it is ``foreign``.

    Raises:
        SpecError: neither names nor ``everything``, both, or a question and nobody to answer it.
        SessionNotFound: ``everything``, and there is none.
        typer.Exit: the answer was no.
    """
    command = COMMANDS.get(verb, verb)
    if everything:
        if names:
            raise SpecError("names and --all are both given", "keep one of them")
        return Chosen(_everything(mooring, yes, verb, fits))
    if not names:
        raise SpecError(
            f"{command} needs the name of a session, or a pattern such as 'bert-*'",
            "mooring ps lists them",
        )
    found: dict[str, Session] = {}
    failures = []
    for name in names:
        try:
            found.update({one.id: one for one in _named(mooring, name, others)})
        except SessionNotFound as error:
            explain(error)
            failures.append(error.exit_code)
    return Chosen(tuple(found.values()), tuple(failures))


def each(chosen: Chosen, act: Callable[[Session], str | None], *, at_once: int = 1) -> None:
    """Do it to each of the sessions; one that fails does not keep the others from it.

    Args:
        act: what it returns is printed, or else the session's name.
        at_once: to so many at a time, each in a thread; what is said keeps the order.

    Raises:
        typer.Exit: 1 when some failed; the one code of all failures when nothing else came of it.
        EngineUnavailable: at once; it would fail for the others too.
    """

    def attempt(session: Session) -> str | MooringError:
        try:
            return act(session) or session.name
        except MooringError as error:
            return error

    failures, done = list(chosen.failures), 0
    for outcome in _mapped(attempt, chosen.sessions, at_once):
        if isinstance(outcome, EngineUnavailable):
            raise outcome
        if isinstance(outcome, MooringError):
            explain(outcome)
            failures.append(outcome.exit_code)
            continue
        done += 1
        print(outcome, flush=True)
    if failures:
        alike = not done and len(set(failures)) == 1
        raise typer.Exit(failures[0] if alike else 1)


def _mapped(
    act: Callable[[Session], str | MooringError], sessions: Sequence[Session], at_once: int
) -> Iterator[str | MooringError]:
    if at_once == 1 or len(sessions) < 2:
        yield from map(act, sessions)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(at_once, len(sessions))) as pool:
        yield from pool.map(act, sessions)


def _everything(
    mooring: Mooring, yes: bool, verb: str, fits: Callable[[Session], bool]
) -> tuple[Session, ...]:
    found = tuple(filter(fits, mooring.sessions()))
    if not found:
        raise SessionNotFound(f"there is no session to {verb}", "mooring ps lists what there is")
    if yes:
        return found
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpecError(
            f"{COMMANDS.get(verb, verb)} --all asks first, and there is no terminal to ask at",
            "say --all --yes",
        )
    names = ", ".join(clean(session.name) for session in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    noun = "session" if len(found) == 1 else "sessions"
    if not typer.confirm(f"{verb} {len(found)} {noun}: {names}{more}?", err=True):
        raise typer.Exit(1)
    return found


def _named(mooring: Mooring, name: str, others: bool) -> list[Session]:
    try:
        return mooring.find([name])
    except SessionNotFound:
        foreign = _foreign(mooring, name) if others else []
        if not foreign:
            raise
    if len(foreign) > 1:
        owners = ", ".join(f"{session.id} ({session.owner})" for session in foreign)
        raise SessionNotFound(
            f"{name} stands for several sessions of others: {owners}", "name one by its id"
        )
    return foreign


def _foreign(mooring: Mooring, name: str) -> list[Session]:
    theirs = [session for session in mooring.sessions(all_users=True) if session.foreign]
    named = [session for session in theirs if session.name == name]
    if named or len(name) < FEWEST_LETTERS:
        return named
    return [session for session in theirs if session.id.startswith(name)]
