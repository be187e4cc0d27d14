"""Modes that a container's processes cannot give to files."""

from __future__ import annotations

from typing import Any

from mooring.engines.capabilities import SupportsModeFilter
from tests.contract.support import Make


class TestModeFilter:
    """A filter of system calls."""

    capability = SupportsModeFilter

    def test_a_container_with_a_filter_runs(self, engine: Any, make: Make) -> None:
        """Where the engine filters, a container with denied modes is created and runs."""
        assert engine.why_no_mode_filter() == ""
        container = make(denied_modes=0o6000)
        assert engine.inspect(container).state == "running"
