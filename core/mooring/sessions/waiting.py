"""Waiting for a session to start, or to end."""

from __future__ import annotations

import time
from collections.abc import Callable

from mooring.errors import SessionNotFound, SessionStateError, SessionTimeout
from mooring.sessions.context import Context
from mooring.sessions.find import get
from mooring.sessions.model import LAUNCHING, Session, State

POLL_S = 0.3


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
                f"come back with: mooring attach {session.name}; "
                f"cancel it: mooring stop {session.name}",
            )
        time.sleep(POLL_S)
        try:
            session = get(ctx, session.id)
        except SessionNotFound:
            past = ctx.history.find(session.id)
            reason = past.reason if past is not None and past.reason else "reason unknown"
            raise SessionStateError(
                f"session {session.name} did not start: {reason}",
                f"mooring events {session.name}",
            ) from None
    return session


def wait_until_ended(ctx: Context, session: Session) -> int | None:
    """Wait for a session's main process to end; see ``Sessions.wait_until_ended``."""
    try:
        while (now := get(ctx, session.id)).state is State.RUNNING:
            time.sleep(POLL_S)
        return now.exit_code
    except SessionNotFound:
        past = ctx.history.find(session.id)
        return past.exit_code if past else None
