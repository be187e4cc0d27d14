"""Launch plans: what is refused before anything is made."""

from __future__ import annotations

import pytest

from mooring.client import Mooring
from mooring.errors import NoCapacity
from mooring.host.memory import total_memory


def test_no_more_memory_than_there_is(service: Mooring, declare) -> None:
    """A limit beyond the machine's memory is refused with its origin; what was sold as so much, and
    is a little less, is not."""
    with pytest.raises(NoCapacity) as caught:
        service.sessions.plan(declare(memory=total_memory() * 2))
    assert "flag --memory" in caught.value.message
    assert caught.value.hint == f"request at most {total_memory() >> 30}GiB"
    service.sessions.plan(declare(memory=total_memory() * 33 // 32))
