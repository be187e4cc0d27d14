"""The session of a launcher that has exited: removed, unless another launcher takes it over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from mooring.host.processes import alive
from mooring.sessions import lease as leases
from mooring.sessions.context import Context
from mooring.sessions.find import get
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease
from mooring.sessions.lifecycle import remove
from mooring.sessions.usage import remove_unless_used

REMOVE_POLL_S = 0.2


def announce_exit(ctx: Context, session_id: str, holder: str) -> None:
    """Record the exit of a launcher that was killed; see ``Leases.announce_exit``."""
    folder = ctx.folder(session_id)
    with _last_lease(folder, holder) as lease:
        if lease is not None and leases.left_at(folder) is None:
            lease.announce()


def remove_abandoned(
    ctx: Context, session_id: str, holder: str, *, client: str, patience_s: float
) -> None:
    """Wait for a launcher's successor, and remove its session; see ``Leases.remove_abandoned``."""
    folder = ctx.folder(session_id)
    was_stopped = _await_successor(folder, holder, client, patience_s)
    if was_stopped is None:
        return
    with _last_lease(folder, holder) as lease:
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
def _last_lease(folder: SessionFolder, holder: str) -> Iterator[Lease | None]:
    """Acquire a session's lease for the block; yield None unless ``holder`` held it last."""
    lease = Lease.take(folder)
    try:
        yield lease if leases.holder_of(folder) == holder else None
    finally:
        if lease is not None:
            lease.release()
