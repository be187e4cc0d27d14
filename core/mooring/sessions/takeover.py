"""The session of a launcher that has exited: the next launcher takes it over, or it is removed.

Clients that ignore provisioners restart a kernel by ending one launcher and starting another.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mooring.errors import SessionNotFound
from mooring.host.boot import uptime
from mooring.host.processes import alive
from mooring.sessions import lease as leases
from mooring.sessions.context import Context
from mooring.sessions.find import get
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease
from mooring.sessions.lifecycle import remove
from mooring.sessions.model import Session, State
from mooring.sessions.usage import remove_unless_used

TAKE_POLL_S = 0.02
REMOVE_POLL_S = 0.2


@dataclass(frozen=True)
class Successor:
    """A launcher that may have been started to restart the kernel of an earlier one.

    Attributes:
        key: the key of the earlier launcher's lease, see ``Leases.make``.
        unique: whether only one kernel of the client has this key.
        holder: the launcher's process, in the format of ``process_mark``.
        kernel: mooring's short id of its kernel.
        started_at: the system uptime when its process started, in seconds.
    """

    key: dict[str, Any]
    unique: bool
    holder: str
    kernel: str
    started_at: float


@dataclass(frozen=True)
class RestartTimes:
    """How fast a client replaces a launcher. All times are in seconds.

    Attributes:
        exit_s: how long an earlier launcher may run after its successor has started.
        announced_exit_s: the same for a launcher that has announced its exit.
        restart_s: how long after a launcher's exit its session can be taken over, if the key is
            not unique.
        just_ended_s: how long before its successor's start that launcher may have exited, while
            another launcher with the key still runs; the exit may otherwise be of another notebook.
    """

    exit_s: float
    announced_exit_s: float
    restart_s: float
    just_ended_s: float


def take_over(
    ctx: Context, successor: Successor, times: RestartTimes, start: Callable[[Session], Session]
) -> tuple[Session, Lease] | None:
    """Take over the session of an earlier launcher; see ``Leases.take_over``.

    Args:
        ctx: the client's context.
        successor: the launcher that takes it over.
        times: how fast the client replaces launchers.
        start: starts a stopped session.
    """
    lease = _take(ctx, successor, times)
    if lease is None:
        return None
    try:
        session = get(ctx, lease.session_id)
        if session.state is not State.RUNNING and not successor.unique:
            lease.release()
            return None
        if session.state is not State.RUNNING:
            session = _start_again(ctx, session, lease, start)
        # Not earlier: until the session runs, the earlier launcher's watchdog keeps its files
        lease.hand_to(successor.holder, successor.kernel)
    except SessionNotFound:
        lease.release()
        return None
    except BaseException:
        lease.release()
        raise
    return session, lease


def announce_exit(ctx: Context, session_id: str, holder: str) -> None:
    """Record the exit of a launcher that was killed; see ``Leases.announce_exit``."""
    folder = ctx.folder(session_id)
    with _left_by(folder, holder) as lease:
        if lease is not None and leases.left_at(folder) is None:
            lease.announce()


def remove_left(
    ctx: Context, session_id: str, holder: str, *, client: str, patience_s: float
) -> None:
    """Wait for a launcher's successor, and remove its session; see ``Leases.remove_left``."""
    folder = ctx.folder(session_id)
    was_stopped = _await_successor(folder, holder, client, patience_s)
    if was_stopped is None:
        return
    with _left_by(folder, holder) as lease:
        if lease is None:
            return
        session = get(ctx, session_id)
        # The engine may not run it yet: a start first removes what the clock wrote at the end
        again = was_stopped and (folder.in_creation() or not folder.has_ended)
        remove_unless_used(
            ctx,
            session,
            lease,
            lambda: remove(ctx, session, force=True),
            actor=ctx.actor,
            keep="it was started again" if again else "",
        )


def _take(ctx: Context, successor: Successor, times: RestartTimes) -> Lease | None:
    """Acquire the lease of a session with the successor's key whose launcher has exited.

    If several kernels share the key, the session whose launcher exited last, and recently, is
    chosen. Launchers that still run are given time to exit.
    """
    while True:
        now = uptime()
        running_s = now - successor.started_at
        candidates = _candidates(ctx, successor, times, now)
        waiting = None in candidates.values() and running_s <= times.exit_s
        for session_id, left in sorted(candidates.items(), key=lambda item: -(item[1] or 0.0)):
            if not successor.unique and (
                left is None or (waiting and left < successor.started_at - times.just_ended_s)
            ):
                continue
            lease = Lease.take(ctx.folder(session_id), key=successor.key)
            if lease is not None:
                return lease
            if not successor.unique:
                break  # its launcher is still exiting, and its own restart waits for it
        leaving = any(left is not None for left in candidates.values())
        if not candidates or running_s > (times.announced_exit_s if leaving else times.exit_s):
            return None
        time.sleep(TAKE_POLL_S)


def _candidates(
    ctx: Context, successor: Successor, times: RestartTimes, now: float
) -> dict[str, float | None]:
    """Return the sessions that may be taken over: by id, when their launchers announced an exit.

    Sessions that have ended, or whose launchers exited long ago, are included only if the key is
    unique.
    """
    folders = [folder for folder in ctx.folders() if leases.key_of(folder) == successor.key]
    lefts = {folder.id: leases.left_at(folder) for folder in folders}
    if successor.unique:
        return lefts
    return {
        session_id: left
        for session_id, left in lefts.items()
        if not ctx.folder(session_id).has_ended and (left is None or now - left < times.restart_s)
    }


def _start_again(
    ctx: Context, session: Session, lease: Lease, start: Callable[[Session], Session]
) -> Session:
    """Start a stopped session; its files are kept if that fails."""
    try:
        return start(session)
    except BaseException:
        if not ctx.folder(session.id).has_ended:
            # The watchdog keeps stopped sessions, but this one no longer counts as stopped
            lease.dissolve()
            ctx.add_event(session.id, "kept", "it could not be started")
        raise


def _await_successor(
    folder: SessionFolder, holder: str, client: str, patience_s: float
) -> bool | None:
    """Wait until another launcher has taken over, or none can be expected any more.

    A stopped session, for example after its time limit, uses no resources and its files may be
    needed: the wait lasts for as long as the session stays stopped and the client lives.

    Returns:
        None if another launcher has taken the lease or the session was removed; otherwise whether
        the session was stopped meanwhile.
    """
    until = time.monotonic() + patience_s
    was_stopped = stopped = False
    while time.monotonic() < until or stopped:
        stopped = folder.exists and folder.has_ended
        was_stopped = was_stopped or stopped
        if leases.holder_of(folder) != holder:
            return None
        if not alive(client):
            break  # the client has exited and cannot request a restart
        time.sleep(REMOVE_POLL_S)
    return was_stopped


@contextlib.contextmanager
def _left_by(folder: SessionFolder, holder: str) -> Iterator[Lease | None]:
    """Acquire a session's lease for the block; yield None unless ``holder`` held it last."""
    lease = Lease.take(folder)
    try:
        yield lease if leases.holder_of(folder) == holder else None
    finally:
        if lease is not None:
            lease.release()
