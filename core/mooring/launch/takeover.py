"""A launcher takes over the session of an earlier one.

Clients that ignore provisioners restart a kernel by ending one launcher and starting another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from mooring.errors import SessionNotFound
from mooring.host.boot import uptime
from mooring.launch.start import start
from mooring.launch.wait import Wait
from mooring.sessions import lease as leases
from mooring.sessions.context import Context
from mooring.sessions.find import get
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State

TAKE_POLL_S = 0.02


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
    ctx: Context, successor: Successor, times: RestartTimes, wait: Wait
) -> tuple[Session, Lease] | None:
    """Take over the session of an earlier launcher; see ``Leases.take_over``.

    Args:
        ctx: the client's context.
        successor: the launcher that takes it over.
        times: how fast the client replaces launchers.
        wait: how to wait for the GPUs of a stopped session.
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
            session = _start_again(ctx, session, lease, wait)
        # Not earlier: until the session runs, the earlier launcher's watchdog keeps its files
        lease.hand_to(successor.holder, successor.kernel)
    except SessionNotFound:
        lease.release()
        return None
    except BaseException:
        lease.release()
        raise
    return session, lease


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
    exits = {folder.id: leases.left_at(folder) for folder in folders}
    if successor.unique:
        return exits
    return {
        session_id: left
        for session_id, left in exits.items()
        if not ctx.folder(session_id).has_ended and (left is None or now - left < times.restart_s)
    }


def _start_again(ctx: Context, session: Session, lease: Lease, wait: Wait) -> Session:
    """Start a stopped session; its files are kept if that fails."""
    try:
        return start(ctx, session, wait)
    except BaseException:
        if not ctx.folder(session.id).has_ended:
            # The watchdog keeps stopped sessions, but this one no longer counts as stopped
            lease.dissolve()
            ctx.add_event(session.id, "kept", "it could not be started")
        raise
