"""Limits that change while a container exists."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.engines.base import ResourceLimits
from mooring.engines.capabilities import SupportsLimits
from mooring.errors import EngineError
from tests.contract.support import Make

GIB = 1 << 30


class TestLimits:
    """CPUs, memory and processes."""

    capability = SupportsLimits

    @pytest.mark.parametrize("start", [True, False])
    def test_up_and_down(self, engine: Any, make: Make, start: bool) -> None:
        """Whether the container runs or not, and whatever its limits were."""
        container = make(start=start)
        for size in (GIB, 2 * GIB, GIB // 2):
            engine.update_limits(container, ResourceLimits(memory_bytes=size))
        engine.update_limits(container, ResourceLimits(0.5, None, 200))
        engine.update_limits(container, ResourceLimits(pids_limit=0))
        assert (engine.inspect(container).state == "running") is start

    def test_none(self, engine: Any) -> None:
        """One of no container is an error."""
        with pytest.raises(EngineError):
            engine.update_limits("nosuch", ResourceLimits(1.0, GIB, 200))
