"""Operations on an existing session: stop, remove, hold, update."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from mooring.engines.capabilities import SupportsDetachedExec
from mooring.errors import (
    EngineError,
    MooringError,
    PolicyError,
    SessionStateError,
    SessionTimeout,
)
from mooring.guest.bundle import end_argv
from mooring.guest.paths import programs_folder
from mooring.sessions.containers import remove_container
from mooring.sessions.context import Context
from mooring.sessions.find import refreshed
from mooring.sessions.model import LAUNCHING, Session, State
from mooring.sessions.queue import tickets
from mooring.sessions.removal import remove_session

GRACE_S = 10.0
LAST_GRACE_S = 1.0
CANCEL_PATIENCE_S = 30.0


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Convert an OSError from one of mooring's files, such as disk full, to MooringError."""
    try:
        yield
    except OSError as error:
        raise MooringError(
            f"cannot write mooring's state: {error}", "check that the disk is not full"
        ) from error


def stop(ctx: Context, session: Session, *, grace_s: float = GRACE_S, force: bool = False) -> None:
    """End all processes of a session and keep its files; see ``Sessions.stop``."""
    if session.foreign:
        if not force:
            raise PolicyError(
                f"session {session.name} belongs to {session.owner}",
                f"ask them; to stop it anyway: mooring stop --force {session.name}",
            )
        ctx.engine.stop(session.container, grace_s=_end_inside(ctx, session, grace_s))
        return
    # a stopped session may be in creation too, while it is started again
    if session.state in LAUNCHING or ctx.folder(session.id).in_creation():
        if _cancel(ctx, session):
            return
        session = refreshed(ctx, session)
    if session.state in (State.STOPPED, State.LOST) or not session.container:
        return
    ctx.engine.stop(session.container, grace_s=_end_inside(ctx, session, grace_s))
    detail = ctx.engine.inspect(session.container)
    folder = ctx.folder(session.id)
    with contextlib.suppress(OSError):
        if folder.clock.end() is None:
            folder.clock.write_end("stopped", f"by {ctx.actor}")
        folder.update_state(end_recorded=True, changed_at=time.time())
    ctx.add_event(session.id, "stopped")
    ctx.history.session_ended(
        session.id,
        at=time.time(),
        reason=f"stopped by {ctx.actor}",
        exit_code=detail.exit_code if detail else None,
    )


def remove(ctx: Context, session: Session, *, force: bool = False, because: str = "") -> None:
    """Remove a session with its private files; see ``Sessions.remove``.

    Args:
        ctx, session, force: as there, with the client's context.
        because: the reason for the history; empty if a user asked for the removal.
    """
    if session.foreign:
        raise PolicyError(
            f"session {session.name} belongs to {session.owner}", "only they can remove it"
        )
    launching = session.state in LAUNCHING or ctx.folder(session.id).in_creation()
    if (launching or session.state in (State.RUNNING, State.PAUSED)) and not force:
        ended = session.state in (State.STOPPED, State.LOST)
        raise SessionStateError(
            f"session {session.name} is {'being started' if ended else session.state}",
            f"stop it first, or: mooring rm -f {session.name}",
        )
    if launching:
        if _cancel(ctx, session):
            return
        session = refreshed(ctx, session)
    remove_session(ctx, session, actor=ctx.actor, because=because)


@disk_errors()
def hold(ctx: Context, session: Session, seconds: float) -> None:
    """Suspend a session's idle timeout; see ``Sessions.hold``."""
    from mooring.spec.units import format_duration

    if session.state is not State.RUNNING:
        raise SessionStateError(
            f"session {session.name} is {session.state} and cannot be held",
            f"start it first: mooring start {session.name}",
        )
    ctx.folder(session.id).clock.hold(seconds)
    detail = f"for {format_duration(seconds)}" if seconds else "given up"
    ctx.add_event(session.id, "held", detail)


def ends_in_s(ctx: Context, session: Session) -> float | None:
    """Return the seconds until a session reaches its maximum duration; None if it never does."""
    clock = ctx.folder(session.id).clock
    longest_s, status = clock.deadlines().get("max_duration"), clock.status()
    return max(0.0, longest_s - status.running_for_s) if longest_s and status else None


def _end_inside(ctx: Context, session: Session, grace_s: float) -> float:
    """Tell a session's clock to end it gracefully, and wait until it has.

    Returns:
        The grace period, in seconds, that its main process has left.
    """
    engine = ctx.engine
    if session.state is not State.RUNNING:
        return LAST_GRACE_S
    if not isinstance(engine, SupportsDetachedExec):
        return grace_s
    try:
        folder = ctx.folder(session.id)  # of another installation's session, there is none here
        programs = programs_folder(session.id) if session.foreign else folder.programs_target
        argv = end_argv(programs, "stopped", f"by {ctx.actor}")
        engine.exec_detached(session.container, argv)
    except EngineError:  # nothing can be run where the working directory was deleted
        return grace_s
    with contextlib.suppress(MooringError):
        engine.wait(session.container, timeout_s=grace_s + 2.0)
    return LAST_GRACE_S


def _cancel(ctx: Context, session: Session) -> bool:
    """Cancel a session's creation or start; return whether the session is gone.

    Raises:
        SessionTimeout: the creating process did not cancel within ``CANCEL_PATIENCE_S``.
    """
    folder = ctx.folder(session.id)
    deadline = time.monotonic() + CANCEL_PATIENCE_S
    while folder.exists and folder.in_creation():
        folder.request_cancel()
        if time.monotonic() > deadline:
            raise SessionTimeout(
                f"the process that starts session {session.name} does not end",
                "end that process, and try again",
            )
        time.sleep(0.05)
    if folder.enqueued and not folder.ready and folder.acquire():  # no process is launching it
        try:
            if not folder.ready:  # the launch may have completed before the lock was acquired
                remove_container(ctx, session.id, "")
                tickets(ctx).discard(session.id)
                ctx.add_event(session.id, "cancelled")
                ctx.history.session_ended(
                    session.id, at=time.time(), reason="cancelled before it ran", exit_code=None
                )
                folder.remove()
        finally:
            folder.release()
    return not folder.exists
