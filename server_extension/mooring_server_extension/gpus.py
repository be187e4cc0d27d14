"""The machine's GPUs and who holds them: looked at once for all who ask."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring.errors import EngineUnavailable, MooringError
from mooring.service import Mooring
from mooring_server_extension.base import MooringHandler

if TYPE_CHECKING:
    from mooring.gpus.usage import GpuUse

STATES = ("free", "held", "shared", "draining", "outside", "split")
PATIENCE_S = 5.0
# Who asks again so soon is told the same
FRESH_S = 1.0
# A look asks every GPU for its processes, and the engine for all containers
SCRAPED_S = 10.0


class Gpus:
    """What there is to tell of GPUs, one look at a time.

    Args:
        submit: runs a look in a thread.
    """

    def __init__(
        self,
        mooring: Mooring,
        submit: Callable[[Callable[[], list[GpuUse]]], Future[list[GpuUse]]],
    ) -> None:
        self._mooring, self._submit = mooring, submit
        self._asked: Future[list[GpuUse]] | None = None
        self._began = float("-inf")
        self._last: list[GpuUse] = []

    async def look(self) -> list[GpuUse]:
        """Every GPU with its holders; called on the event loop.

        Raises:
            EngineUnavailable: it does not tell in time.
        """
        asked = asyncio.wrap_future(self._ask(FRESH_S))
        try:
            return await asyncio.wait_for(asyncio.shield(asked), PATIENCE_S)
        except asyncio.TimeoutError:
            asked.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise EngineUnavailable(
                f"the GPUs and their holders could not be told within {PATIENCE_S:g} s",
                "does the engine answer? mooring doctor",
            ) from None

    def lately(self, patience_s: float) -> list[GpuUse]:
        """The same for a scrape: no older than ten seconds if that can be had so soon."""
        with contextlib.suppress(NotYet, MooringError, RuntimeError):  # what was seen last must do
            self._last = self._ask(SCRAPED_S).result(patience_s)
        return self._last

    def _ask(self, fresh_s: float) -> Future[list[GpuUse]]:
        now = time.monotonic()
        asked = self._asked
        if asked is None or (asked.done() and (asked.exception() or now - self._began > fresh_s)):
            self._began = now
            self._asked = asked = self._submit(self._mooring.gpus)
        return asked


class GpusHandler(MooringHandler):
    """The GPUs of the machine."""

    auth_resource = "mooring:gpus"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.say({"gpus": [use.to_dict() for use in await self.extension.gpus.look()]})
