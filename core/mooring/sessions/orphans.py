"""Kernels whose client was not a server, and has exited without ending them: they end as well.

So do local kernels, which exit when their parent does. A server's kernels wait for the next server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

from mooring.kernels.killing import kill_kernel
from mooring.sessions.context import Context
from mooring.sessions.kernel_owners import KernelOwners, short_id
from mooring.sessions.model import Session, State
from mooring.sessions.usage import used_for


def end_orphans(ctx: Context, session: Session, remove: Callable[[], None]) -> None:
    """End the kernels in a session whose client has exited, and the session if it was made for one.

    The session is kept if it is also used otherwise. In a session that has ended, there is nothing
    to end, and its files are kept.

    Args:
        ctx: the client's context.
        session: the session.
        remove: removes the session.

    Raises:
        EngineError: whether the session is used cannot be determined, or it was not removed; the
            kernels were killed, and the next call tries again.
    """
    if session.state not in (State.RUNNING, State.STOPPED, State.LOST):
        return
    owners = KernelOwners(ctx.installation)
    orphans = {
        short_id(record.kernel_id): ownership
        for record in owners.of(session.id)
        if not record.root and (ownership := owners.take(record)) is not None
    }
    if not orphans:
        return
    try:
        if session.state is State.RUNNING:
            for kernel_id in orphans:
                _end_kernel(ctx, session, kernel_id)
            _end_session(ctx, session, orphans, remove)
    except BaseException:
        for ownership in orphans.values():
            ownership.release()
        raise
    for ownership in orphans.values():
        ownership.forget()


def _end_kernel(ctx: Context, session: Session, kernel_id: str) -> None:
    with contextlib.closing(ctx.kernel_handle(session.id, kernel_id)) as handle:
        connection = handle.connection()
        if connection is None:
            return
        kill_kernel(handle)
        detail = f"{connection.kernel_name} {kernel_id} ended: its client has exited"
        ctx.history.add(session.id, "kernel", "reconciler", detail)
        handle.forget()


def _end_session(
    ctx: Context, session: Session, kernels: Collection[str], remove: Callable[[], None]
) -> None:
    if not ctx.folder(session.id).record().identity.ends_with_kernels:
        return
    reason = used_for(ctx, session, kernels)
    if reason:
        ctx.history.add(session.id, "kept", "reconciler", reason)
    else:
        remove()
