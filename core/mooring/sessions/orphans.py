"""Kernels whose client was not a server, and has exited without ending them: they end as well.

So do local kernels, which exit when their parent does. A server's kernels wait for the next server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

from mooring.errors import EngineError
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
        EngineError: a kernel has not ended, whether the session is used cannot be determined, or
            it was not removed; the next call tries again.
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
            ended = [_end_kernel(ctx, session, kernel_id) for kernel_id in orphans]
            removed = _end_session(ctx, session, orphans, remove)
            if not removed and not all(ended):
                raise EngineError(f"session {session.name}: a kernel has not ended yet")
    except BaseException:
        for ownership in orphans.values():
            ownership.release()
        raise
    for ownership in orphans.values():
        ownership.forget()


def _end_kernel(ctx: Context, session: Session, kernel_id: str) -> bool:
    """End a kernel; return whether it has ended."""
    with contextlib.closing(ctx.kernel_handle(session.id, kernel_id)) as handle:
        connection = handle.connection()  # None also if the kernel has removed its own file
        if not kill_kernel(handle):
            return False
        name = connection.kernel_name if connection else "kernel"
        detail = f"{name} {kernel_id} ended: its client has exited"
        ctx.history.add(session.id, "kernel", "reconciler", detail)
        handle.forget()
    return True


def _end_session(
    ctx: Context, session: Session, kernels: Collection[str], remove: Callable[[], None]
) -> bool:
    """Remove a session that was made for its kernels, unless it is used; return whether it was."""
    if not ctx.folder(session.id).record().identity.ends_with_kernels:
        return False
    reason = used_for(ctx, session, kernels)
    if reason:
        ctx.history.add(session.id, "kept", "reconciler", reason)
    else:
        remove()
    return not reason
