"""``Mooring.gpus``: the machine's GPUs, with and without their holders."""

from __future__ import annotations

import pytest

from mooring import FakeEngine
from mooring.client import Mooring, gpus
from mooring.errors import EngineUnavailable
from mooring.gpus.inventory import Gpu

A100 = Gpu("GPU-0", 0, "nvidia", "A100", 2**35, "1")


def test_the_inventory_needs_no_engine(
    service: Mooring, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU is can be told of a session's own GPUs while the engine is down."""
    monkeypatch.setattr(gpus, "inventory", lambda: (A100,))
    for method in ("list", "info"):
        engine.fail(method, EngineUnavailable("down"), times=99)
    assert service.gpus.inventory() == (A100,)
