"""Finding and removing the container of a session."""

from __future__ import annotations

import time

from mooring.engines.base import Container
from mooring.sessions.context import Context

#: Seconds that the removal of a listed container may take.
LISTED_S = 5.0


def container_of(ctx: Context, session_id: str) -> Container | None:
    """Return the container of a session, in any state; None if there is none.

    Raises:
        EngineError
    """
    return next(iter(ctx.containers(id=session_id)), None)


def remove_container(
    ctx: Context, session_id: str, container: str, patience_s: float = 0.0
) -> None:
    """Remove a session's container, even if its creation was interrupted before the id was known.

    Args:
        ctx: the client's context.
        session_id: the session's id.
        container: the container's id; empty if unknown.
        patience_s: how long to wait, in seconds, for a container of unknown id to be listed.

    Raises:
        EngineError
    """
    if container:
        ctx.engine.remove(container)
        return
    deadline = time.monotonic() + patience_s
    rows = ctx.containers(id=session_id)
    while not rows and time.monotonic() < deadline:
        time.sleep(0.05)
        rows = ctx.containers(id=session_id)
    deadline = time.monotonic() + LISTED_S
    while rows:
        for row in rows:
            ctx.engine.remove(row.id)
        # Docker lists a container shortly before it can remove it; until then it reports "no such"
        rows = [] if time.monotonic() > deadline else ctx.containers(id=session_id)
