"""Processes that were killed for lack of memory."""

from __future__ import annotations

import time
from typing import Any

from mooring.engines.capabilities import SupportsOomEvents
from tests.contract.support import DEADLINE_S, Make


class TestOomEvents:
    """What the engine remembers of the kernel's kills."""

    capability = SupportsOomEvents

    def test_nobody_starved(self, engine: Any, make: Make) -> None:
        """A container that was merely killed was not killed for want of memory."""
        container = make()
        engine.stop(container, grace_s=0.0)
        assert not engine.out_of_memory(container, since=time.time() - DEADLINE_S)
