"""Waiting for a session to start, or to end, and recording its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from mooring.errors import SessionNotFound, SessionStateError, SessionTimeout
from mooring.sessions.context import Context
from mooring.sessions.find import get, list_sessions
from mooring.sessions.lifecycle import remove
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


def record_end(ctx: Context, session: Session, code: int) -> int:
    """Record the end of a session, and return its exit code; see ``Sessions.record_end``."""
    list_sessions(ctx)
    past = None if ctx.folder(session.id).exists else ctx.history.find(session.id)
    return code if past is None or past.exit_code is None else past.exit_code


def wait_until_ended(ctx: Context, session: Session) -> int | None:
    """Wait for a session's main process to end; see ``Sessions.wait_until_ended``."""
    try:
        while (now := get(ctx, session.id)).state is State.RUNNING:
            time.sleep(POLL_S)
        return now.exit_code
    except SessionNotFound:
        past = ctx.history.find(session.id)
        return past.exit_code if past else None
