"""Listing sessions, and finding them by name, id or pattern."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, is_session
from mooring.errors import MooringError, SessionNotFound, SessionStateError
from mooring.host.boot import boot_id
from mooring.host.text import quoted
from mooring.sessions.context import Context
from mooring.sessions.model import (
    REBOOTED,
    Session,
    State,
    from_container,
    from_foreign,
    from_history,
)
from mooring.sessions.queue import ensure_dispatcher, gpu_queue, tickets
from mooring.sessions.reconcile import Repairs, reconcile

if TYPE_CHECKING:
    from mooring.gpus.queue import GpuQueue

GPU_LOST = "gpu lost"
PATTERN_MARKS = "*?["


def list_sessions(ctx: Context, *, all_users: bool = False) -> list[Session]:
    """Run the reconciler and return all sessions, newest first.

    Args:
        ctx: the client's context.
        all_users: also return sessions of other installations on the engine.

    Raises:
        EngineUnavailable
    """
    sessions = list_and_repair(ctx)[0]
    if not all_users:
        return sessions
    mine = ctx.installation.id
    foreign = [
        from_foreign(row)
        for row in ctx.engine.list({LABEL_INSTALLATION: "", LABEL_ID: ""})
        if is_session(row) and row.labels[LABEL_INSTALLATION] != mine
    ]
    return _newest_first([*sessions, *foreign])


def list_and_repair(ctx: Context) -> tuple[list[Session], Repairs]:
    """Return this installation's sessions, newest first, and what the reconciler repaired.

    Raises:
        EngineUnavailable
    """
    sessions, repairs = reconcile(ctx)
    gone = [one for one in repairs.half_created if not ctx.folder(one).exists]
    with contextlib.suppress(MooringError):  # problems with the queue are reported elsewhere
        for session_id in gone:
            tickets(ctx).discard(session_id)
    if any(session.state is State.PENDING for session in sessions):
        with contextlib.suppress(MooringError, OSError):  # so are problems with the policy
            ensure_dispatcher(ctx)
    return _newest_first(_with_gpus(sessions)), repairs


def find(ctx: Context, patterns: Sequence[str]) -> list[Session]:
    """Return the sessions that match names, ids or shell patterns, in that order, each once.

    Raises:
        SessionNotFound: a pattern matches no session.
        EngineUnavailable
    """
    sessions = list_sessions(ctx)
    matches: dict[str, Session] = {}
    for pattern in patterns:
        matching = _matching(sessions, pattern)
        if not matching:
            raise _not_found(ctx, pattern, sessions)
        matches.update({session.id: session for session in matching})
    return list(matches.values())


def get(ctx: Context, name: str) -> Session:
    """Return the session with a name, or whose id begins with it (at least four characters).

    Raises:
        SessionNotFound: no session matches, or several do; the error lists them.
        EngineUnavailable
    """
    matches = find(ctx, [name])
    if len(matches) > 1:
        names = ", ".join(session.name for session in matches)
        raise SessionNotFound(f"{name} matches several sessions: {names}", "name one of them")
    return matches[0]


def get_listed(ctx: Context, session: Session) -> Session:
    """Return what a session is now, found by its id alone.

    Raises:
        SessionNotFound: it is gone.
        EngineUnavailable
    """
    sessions = list_sessions(ctx)
    for current in sessions:
        if current.id == session.id:
            return current
    raise _not_found(ctx, session.name, sessions)


def find_foreign(ctx: Context, name: str) -> list[Session]:
    """Return the sessions of other installations with a name, or whose id begins with it.

    Args:
        ctx: the client's context.
        name: a name, or at least four characters of an id; patterns match nothing.

    Raises:
        EngineUnavailable
    """
    if any(mark in name for mark in PATTERN_MARKS):
        return []
    return _matching([one for one in list_sessions(ctx, all_users=True) if one.foreign], name)


def get_running(ctx: Context, name: str) -> Session:
    """Return a running session, with one small request to the engine and no repairs.

    If the name is not found that way, this falls back to ``get``.

    Raises:
        SessionNotFound: no session has that name.
        SessionStateError: the session does not run; the hint tells how to proceed.
        EngineUnavailable
    """
    rows = ctx.containers(name=name)
    sessions = [from_container(row, ctx.folder(row.labels[LABEL_ID]), boot_id()) for row in rows]
    named = [session for session in sessions if session.name == name]
    session = named[0] if named else get(ctx, name)
    if session.state is not State.RUNNING:
        why = f" ({session.reason})" if session.reason else ""
        hint = {
            State.STOPPED: f"start it again: mooring start {session.name}",
            State.LOST: f"remove what is left: mooring rm {session.name}",
            State.STARTING: "wait until it runs: mooring ps",
            State.PENDING: f"see what it waits for: mooring why {session.name}",
        }.get(session.state, "see its state: mooring ps")
        if session.reason == REBOOTED:
            hint = f"start it again: mooring start {session.name}"
        raise SessionStateError(f"session {session.name} is {session.state}{why}", hint)
    return session


def get_created(ctx: Context, session_id: str, name: str) -> Session:
    """Return a session by its id, with one small request to the engine and no repairs.

    Args:
        ctx: the client's context.
        session_id: the session's id.
        name: the session's name, for the error.

    Raises:
        SessionNotFound: it has no container: it ended and was removed at once.
        EngineError
    """
    rows = ctx.containers(id=session_id)
    if not rows:
        raise SessionNotFound(
            f"session {name} ended and was removed at once",
            f"see what happened: mooring events {name}",
        )
    return from_container(rows[0], ctx.folder(session_id), boot_id())


def refreshed(ctx: Context, session: Session) -> Session:
    """Return the current state of a session; the given one if it is gone."""
    try:
        return get_created(ctx, session.id, session.name)
    except SessionNotFound:
        return session


def ended(ctx: Context, sessions: Sequence[Session]) -> list[Session]:
    """Return those of ``sessions`` that have ended, then those that are only in the history.

    ``end`` is filled in from the history if the clock did not end a session.
    """
    past = {one.id: from_history(one) for one in ctx.history.ended()}
    known = {session.id for session in sessions}
    here = [
        dataclasses.replace(session, end=past[session.id].end)
        if session.end is None and session.id in past
        else session
        for session in sessions
        if session.state in (State.STOPPED, State.LOST)
    ]
    return here + [one for one in past.values() if one.id not in known]


def queue_of(ctx: Context) -> GpuQueue:
    """Return the engine's GPU queue, which runs the reconciler to repair orphaned grants.

    Raises:
        PolicyError: the policy is not valid.
        EngineError: the queue's folder cannot be used.
    """
    return gpu_queue(ctx, repair=lambda: list_and_repair(ctx))


def main_process(ctx: Context, session: Session) -> str:
    """Return how a session's main process is connected: ``terminal``, ``streams`` or ``none``."""
    if session.only_kernels:
        return "none"
    return "terminal" if ctx.folder(session.id).record().identity.tty else "streams"


def _newest_first(sessions: list[Session]) -> list[Session]:
    return sorted(sessions, key=lambda session: session.created_at, reverse=True)


def _with_gpus(sessions: list[Session]) -> list[Session]:
    """Return the sessions, with ``degraded`` set for running ones that have lost a GPU."""
    if not any(session.claims for session in sessions if session.state is State.RUNNING):
        return sessions
    from mooring.gpus.inventory import inventory
    from mooring.gpus.usage import lost

    gpus = inventory()

    def degraded(session: Session) -> bool:
        if session.state is not State.RUNNING or not session.claims:
            return False
        by_clock = session.clock is not None and session.clock.gpu_lost
        return by_clock or lost(session.claims, gpus)

    return [
        dataclasses.replace(session, degraded=GPU_LOST) if degraded(session) else session
        for session in sessions
    ]


def _matching(sessions: list[Session], pattern: str) -> list[Session]:
    named = [session for session in sessions if session.name == pattern]
    if named:
        return named
    if any(mark in pattern for mark in PATTERN_MARKS):
        return [one for one in sessions if fnmatch.fnmatchcase(one.name, pattern)]
    return [one for one in sessions if len(pattern) >= 4 and one.id.startswith(pattern)]


def _not_found(ctx: Context, pattern: str, sessions: list[Session]) -> SessionNotFound:
    names = ", ".join(session.name for session in sessions[:10])
    past = ctx.history.find(pattern)
    if past is not None:
        why = past.reason or "removed"
        return SessionNotFound(
            f"session {pattern} is gone ({why})",
            f"see what happened: mooring events {quoted(pattern)}",
        )
    hint = f"choose from: {names}" if names else "there are no sessions"
    close = difflib.get_close_matches(pattern, [session.name for session in sessions], n=1)
    return SessionNotFound(
        f"no session named {pattern}", f"did you mean {close[0]}?" if close else hint
    )
