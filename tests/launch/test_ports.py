"""Published ports: the numbers that a session shows, and the error for one that is taken."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import PortTaken


def test_sessions_tell_their_ports(engine: FakeEngine, service: Mooring, declare: Any) -> None:
    """The session has the real numbers while it runs; a clash names the one that holds it."""
    made = service.sessions.create(declare(name="a", ports=["7001:80", "81"])).session
    assert made.ports[0] == (7001, 80)
    assert made.ports[1][0] > 0
    with pytest.raises(PortTaken, match=r"port 7001 of .* is taken by session a"):
        service.sessions.create(declare(name="b", ports=["7001:80"]))
    service.sessions.stop(service.sessions.get("a"))
    assert service.sessions.get("a").ports == ()
