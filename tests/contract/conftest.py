"""The engines that have to keep the contract: the fake ones always, a real one where there is one.

A test of a capability takes ``engine``; its class is skipped, by type, for an engine that lacks
the capability.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.engines.base import Engine
from mooring.engines.fake import MemoryEngine, MinimumEngine
from mooring.images.host_image import host_image
from tests.contract.support import SLEEP, Make, declare, play

ENGINES = ["fake", pytest.param("docker", marks=pytest.mark.engine)]


def opened(kind: str, request: pytest.FixtureRequest) -> Engine:
    if kind == "minimum":
        image = host_image(FakeEngine()).reference
        return MinimumEngine(images=[image], main=play, execute=play)
    if kind == "fake":
        return MemoryEngine(main=play, execute=play)
    real: Engine = request.getfixturevalue("real_engine")
    return real


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    found = opened(request.param, request)
    needed = getattr(request.cls, "capability", None)
    if needed is not None and not isinstance(found, needed):
        pytest.skip(f"{type(found).__name__} has no {needed.__name__}")
    return found


@pytest.fixture
def make(engine: Engine) -> Iterator[Make]:
    """Creates containers out of the host image and removes them after the test."""
    facts = host_image(engine)
    mark = f"contract-{secrets.token_hex(4)}"

    def create(script: str = SLEEP, *, start: bool = True, **options: Any) -> str:
        plain = declare(f"{mark}-{secrets.token_hex(2)}", script, facts)
        labels = {"mooring.contract": mark, **plain.labels, **options.pop("labels", {})}
        container = engine.create(dataclasses.replace(plain, labels=labels, **options))
        if start:
            engine.start(container)
        return container

    yield create
    for row in engine.list({"mooring.contract": mark}):
        engine.remove(row.id)
