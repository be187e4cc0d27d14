"""Query the host's GPUs and their holders; concurrent callers share one query."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING

from mooring import EngineUnavailable, Mooring, MooringError

if TYPE_CHECKING:
    from mooring import GpuUse

STATES = ("free", "held", "shared", "draining", "outside", "split")
PATIENCE_S = 5.0
# A result is reused for this long
FRESH_S = 1.0
# The same for scrapes: a query lists the processes of every GPU and all containers, which is too
# expensive for each scrape
SCRAPED_S = 10.0


class GpuUsage:
    """Queries the GPUs, one query at a time.

    Args:
        mooring: the core.
        submit: runs a query in a thread.
    """

    def __init__(
        self,
        mooring: Mooring,
        submit: Callable[[Callable[[], list[GpuUse]]], Future[list[GpuUse]]],
    ) -> None:
        self._mooring, self._submit = mooring, submit
        self._pending: Future[list[GpuUse]] | None = None
        self._began = float("-inf")
        self._last: list[GpuUse] = []

    async def query(self) -> list[GpuUse]:
        """Return every GPU with its holders; call this on the event loop.

        Raises:
            MooringError: the query failed; EngineUnavailable after ``PATIENCE_S``.
        """
        pending = asyncio.wrap_future(self._query(FRESH_S))
        try:
            return await asyncio.wait_for(asyncio.shield(pending), PATIENCE_S)
        except asyncio.TimeoutError:
            pending.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise EngineUnavailable(
                f"the GPUs and their holders could not be determined within {PATIENCE_S:g} s",
                "check that Docker answers: mooring doctor",
            ) from None

    def recent(self, patience_s: float) -> list[GpuUse]:
        """Return the GPUs for a scrape: at most ``SCRAPED_S`` old, or the last known on failure.

        Args:
            patience_s: timeout for a new query, in seconds.
        """
        with contextlib.suppress(NotYet, MooringError, RuntimeError):
            self._last = self._query(SCRAPED_S).result(patience_s)
        return self._last

    def _query(self, fresh_s: float) -> Future[list[GpuUse]]:
        now = time.monotonic()
        pending = self._pending
        stale = now - self._began > fresh_s
        if pending is None or (pending.done() and (pending.exception() or stale)):
            self._began = now
            self._pending = pending = self._submit(self._mooring.gpus.list)
        return pending
