"""Whether a session created for one kernel of a client is used for anything else.

Such a session is removed with its kernel. If it is also used otherwise, it is kept like any other
session, and its clock ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from mooring.engines.capabilities import SupportsDetachedExec, require
from mooring.errors import EngineError, EngineUnavailable, NotSupported
from mooring.guest.paths import GUEST_RUN
from mooring.kernels.kernelhost import host_lives
from mooring.kernels.listing import kernels_of
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State

POLL_S = 0.05
LOOK_TIMEOUT_S = 10.0
_TERMINAL, _EXEC = 10, 11
# Terminals, and the process behind a pid, can only be seen from inside the container
_LOOK = f"""
for file in /dev/pts/[0-9]*; do
    [ ! -c "$file" ] || exit {_TERMINAL}
done
for file in {GUEST_RUN}/x/*; do
    read -r pid start <"$file" && read -r text <"/proc/$pid/stat" || continue
    set -- ${{text##*)}}
    [ "$1" = Z ] || [ "${{20}}" != "$start" ] || exit {_EXEC}
done 2>/dev/null
exit 0
"""


def used_for(ctx: Context, session: Session, own_kernels: Collection[str]) -> str:
    """Return why a session is kept without the kernel it was created for; empty if it is not.

    Args:
        ctx: the client's context.
        session: the session.
        own_kernels: ids of the kernels to ignore.

    Raises:
        EngineUnavailable
    """
    folder = ctx.folder(session.id)
    if session.state is State.PAUSED:
        return "it is paused"
    if session.state is not State.RUNNING:
        return ""
    if _held(folder):
        return "it is held"
    kernels = kernels_of(folder.guest)
    others = [one for one in kernels if one.exit is None and one.id not in own_kernels]
    if others and host_lives(folder.guest):
        return "another kernel lives in it"
    try:
        code = _look(ctx, session.container)
    except EngineUnavailable:
        raise
    except (EngineError, NotSupported):
        return "what runs in it cannot be seen"
    reasons = {0: "", _TERMINAL: "a terminal is open in it", _EXEC: "a command runs in it"}
    return reasons.get(code, "what runs in it cannot be seen")


def remove_unless_used(
    ctx: Context,
    session: Session,
    lease: Lease,
    remove: Callable[[], None],
    *,
    actor: str,
    keep: str = "",
) -> bool:
    """Remove a session whose launcher has exited, or dissolve its lease if it is used otherwise.

    Called by the launcher's watchdog, and by the reconciler if that has exited too.

    Args:
        ctx: the client's context.
        session: the session.
        lease: the session's lease; the caller holds it, and releases it afterwards.
        remove: removes the session.
        actor: the actor recorded in the history.
        keep: a reason to keep the session in any case; empty for none.

    Returns:
        Whether the session was removed.

    Raises:
        EngineUnavailable: whether it is used cannot be determined; nothing was changed.
    """
    reason = keep or used_for(ctx, session, lease.kernels)
    if reason:
        lease.dissolve()
        ctx.history.add(session.id, "kept", actor, reason)
        return False
    remove()
    return True


def _held(folder: SessionFolder) -> bool:
    try:
        return folder.clock.held_for_s() > 0
    except ValueError:
        return False


def _look(ctx: Context, container: str) -> int:
    """Return the exit code of ``_LOOK`` in a container; -1 on timeout."""
    engine = require(ctx.engine, SupportsDetachedExec)
    process = engine.exec_detached(container, ["/bin/sh", "-c", _LOOK])
    deadline = time.monotonic() + LOOK_TIMEOUT_S
    while time.monotonic() < deadline:
        code = engine.exec_exit_code(process)
        if code is not None:
            return code
        time.sleep(POLL_S)
    return -1
