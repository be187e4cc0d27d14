"""Ports of this machine that lead into a container."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mooring.engines.capabilities import SupportsPublishedPorts
from mooring.errors import PortTaken
from tests.contract.support import Make


class TestPublishedPorts:
    """Ports that are published while the container runs."""

    capability = SupportsPublishedPorts

    def test_a_port_is_published_while_it_runs(self, engine: Any, make: Make) -> None:
        """On one address, with the engine's number if any will do; a second holder is refused."""
        with socket.create_server((engine.publish_address, 0)) as listening:
            here = int(listening.getsockname()[1])
        first = make(
            ports=((here, 80), (0, 81)), network=True, labels={"mooring.contract.port": "1"}
        )

        def listed() -> tuple[tuple[int, int], ...]:
            (row,) = [row for row in engine.list({"mooring.contract.port": "1"}) if row.id == first]
            return row.ports

        numbers = {there: number for number, there in listed()}
        assert numbers[80] == here
        assert numbers[81] not in (0, here)
        second = make(start=False, ports=((here, 80),), network=True)
        with pytest.raises(PortTaken) as caught:
            engine.start(second)
        assert caught.value.port == here
        engine.stop(first, grace_s=0)
        assert listed() == ()
        engine.start(second)
