"""Check whether the engine answers, with at most one request at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from mooring import EngineInfo, EngineUnavailable, Mooring, MooringError
from mooring_server_extension.pools import Pools

# Timeout after which the engine is reported as down
PATIENCE_S = 5.0


class EngineProbe:
    """Queries the engine's kind and version.

    Args:
        mooring: the core, whose engine is queried.
        pools: thread pools for blocking calls.
    """

    def __init__(self, mooring: Mooring, pools: Pools) -> None:
        self._mooring, self._pools = mooring, pools
        self._pending: Future[EngineInfo] | None = None

    async def status(self) -> dict[str, Any]:
        """Return the engine's state; call this on the event loop.

        Returns:
            ``{ok, kind, version, message, hint}``: ``kind`` and ``version`` describe the engine,
            ``message`` and ``hint`` explain why it does not answer; those that do not apply are
            empty.
        """
        try:
            if self._pending is None or self._pending.done():
                self._pending = self._pools.submit("look", self._look)
            pending = asyncio.wrap_future(self._pending)
            info = await asyncio.wait_for(asyncio.shield(pending), PATIENCE_S)
        except asyncio.TimeoutError:
            pending.add_done_callback(lambda late: late.cancelled() or late.exception())
            return _down(EngineUnavailable(f"the engine has not answered for {PATIENCE_S:g} s"))
        except MooringError as error:
            return _down(error)
        return {"ok": True, "kind": info.kind, "version": info.version, "message": "", "hint": ""}

    def _look(self) -> EngineInfo:
        self._mooring.engine.ping()
        return self._mooring.engine.info()


def _down(error: MooringError) -> dict[str, Any]:
    message, hint = error.message, error.hint
    return {"ok": False, "kind": "", "version": "", "message": message, "hint": hint}
