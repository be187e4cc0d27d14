"""Networks that come later."""

from __future__ import annotations

from typing import Any

from mooring.engines.capabilities import SupportsLateNetwork
from tests.contract.support import Make


class TestLateNetwork:
    """A container that starts without a network."""

    capability = SupportsLateNetwork

    def test_the_network_can_come_later(self, engine: Any, make: Make) -> None:
        """A container started without a network is given one while it runs."""
        container = make()
        engine.attach_network(container)
        assert engine.inspect(container).state == "running"
