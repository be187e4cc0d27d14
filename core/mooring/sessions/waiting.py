"""Waiting for a session to start, or to end, and recording its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from mooring.errors import SessionNotFound, SessionStateError, SessionTimeout
from mooring.sessions.context import Context
from mooring.sessions.find import get, get_listed
from mooring.sessions.lifecycle import remove
from mooring.sessions.model import LAUNCHING, Session, State, from_history

POLL_S = 0.3
# How long a session whose processes have ended may still be listed as running
ENDING_S = 0.5
ENDING_POLL_S = 0.05


class Ending(NamedTuple):
    """The end of a session, as its client reports it.

    Attributes:
        exit_code: of its main process.
        cause: the state and what ended the session, as in ``stopped: by ada``; empty if its main
            process exited by itself.
    """

    exit_code: int
    cause: str


def wait_until_started(
    ctx: Context, session: Session, *, max_wait_s: float, progress: Callable[[str], None]
) -> Session:
    """Wait for a session in the queue to start; see ``Sessions.wait_until_started``."""
    deadline = time.monotonic() + max_wait_s
    while session.state in LAUNCHING:
        progress(session.waiting)
        if time.monotonic() > deadline:
            raise SessionTimeout(
                f"session {session.name} did not start within {max_wait_s:g} s; "
                "it stays in the queue",
                f"to attach to it: mooring attach {session.name}; "
                f"to cancel it: mooring stop {session.name}",
            )
        time.sleep(POLL_S)
        try:
            session = get(ctx, session.id)
        except SessionNotFound:
            past = ctx.history.find(session.id)
            reason = past.reason if past is not None and past.reason else "reason unknown"
            raise SessionStateError(
                f"session {session.name} did not start: {reason}",
                f"see what happened: mooring events {session.name}",
            ) from None
    return session


def wait_or_remove(
    ctx: Context, session: Session, *, max_wait_s: float, progress: Callable[[str], None]
) -> Session:
    """Wait as ``wait_until_started``, and remove the session if the wait is interrupted."""
    try:
        return wait_until_started(ctx, session, max_wait_s=max_wait_s, progress=progress)
    except (KeyboardInterrupt, SystemExit):
        remove(ctx, session, force=True)
        raise


def record_end(ctx: Context, session: Session, code: int) -> Ending:
    """Record the end of a session whose main process has exited; see ``Sessions.record_end``."""
    from mooring.sessions.history import stop_word

    now = _ended(ctx, session)
    recorded = now.exit_code if now.state is State.GONE else None
    own = stop_word(now.reason) == "exited"
    return Ending(code if recorded is None else recorded, "" if own else _cause(now))


def why_ended(ctx: Context, session: Session) -> str:
    """Return what ended a session, or an empty string; see ``Sessions.why_ended``."""
    return _cause(_ended(ctx, session))


def _ended(ctx: Context, session: Session) -> Session:
    """Return a session that has just ended, or that still runs after ``ENDING_S``.

    The engine reports the exit of a container a moment after its streams have ended, and a removal
    goes on after the container is gone.
    """
    deadline = time.monotonic() + ENDING_S
    while True:
        try:
            now = get_listed(ctx, session)
        except SessionNotFound:
            past = ctx.history.find(session.id)
            if past is not None and (past.reason or time.monotonic() > deadline):
                return from_history(past)
            now = session
        known = now.state is State.STOPPED and (now.end is not None or now.exit_code is not None)
        if known or time.monotonic() > deadline:
            return now
        time.sleep(ENDING_POLL_S)


def _cause(now: Session) -> str:
    if now.state in (State.STOPPED, State.LOST, State.GONE):
        return f"{now.state}: {now.reason}"
    return ""


def wait_until_ended(ctx: Context, session: Session) -> int | None:
    """Wait for a session's main process to end; see ``Sessions.wait_until_ended``."""
    try:
        while (now := get(ctx, session.id)).state is State.RUNNING:
            time.sleep(POLL_S)
        return now.exit_code
    except SessionNotFound:
        past = ctx.history.find(session.id)
        return past.exit_code if past else None
