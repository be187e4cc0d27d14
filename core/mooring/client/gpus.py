"""``Mooring.gpus``."""

from __future__ import annotations

import builtins

from mooring.gpus.inventory import Gpu, inventory
from mooring.gpus.queue import Waiting
from mooring.gpus.usage import GpuUse
from mooring.sessions.context import Context
from mooring.sessions.find import queue_of


class Gpus:
    """The GPUs of the engine's machine, and the sessions that wait for them."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def inventory(self) -> tuple[Gpu, ...]:
        """Return every GPU of this machine, without its holders; the engine is not called."""
        return inventory()

    def list(self) -> builtins.list[GpuUse]:
        """Return every GPU of the machine with its holders; empty if there are none.

        Raises:
            EngineUnavailable
        """
        return queue_of(self._ctx).uses()

    def list_with_waiting(self) -> tuple[builtins.list[GpuUse], builtins.list[Waiting]]:
        """Return as ``list``, and the waiting sessions in the order in which they are served.

        Raises:
            EngineUnavailable
        """
        return queue_of(self._ctx).uses_and_waiting()
