"""The processes of a container, listed from outside."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.engines.capabilities import SupportsProcessList
from mooring.errors import EngineError
from tests.contract.support import Make


class TestProcessList:
    """What runs in a container, without a process of its own."""

    capability = SupportsProcessList

    def test_its_processes_are_told(self, engine: Any, make: Make) -> None:
        """Each with its command line; those of a container that does not run are an error."""
        container = make("sleep 1234")
        found = engine.processes(container)
        assert any("sleep 1234" in one.command and not one.stopped for one in found)
        engine.stop(container, grace_s=0.0)
        with pytest.raises(EngineError):
            engine.processes(container)
