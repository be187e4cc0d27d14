"""Starting a container with published ports."""

from __future__ import annotations

import contextlib

from mooring.engines.labels import LABEL_NAME
from mooring.errors import EngineError, PortTaken
from mooring.host.ports import listener, taken
from mooring.sessions.context import Context


def start(ctx: Context, container: str) -> None:
    """Start a container.

    Raises:
        PortTaken: a port is in use; the message names the holder.
        EngineError: as `engine.start`.
    """
    try:
        ctx.engine.start(container)
    except PortTaken as error:
        raise taken(error.port, _holder(ctx, error.port)) from error


def _holder(ctx: Context, port: int) -> str:
    """Return the session, container or process that listens on a port of this machine."""
    with contextlib.suppress(EngineError):
        for row in ctx.engine.list({}):
            if row.state == "running" and any(here == port for here, _ in row.ports):
                name = row.labels.get(LABEL_NAME, "") if ctx.is_own(row) else ""
                return f"session {name}" if name else f"container {row.name}"
    return listener(port)
