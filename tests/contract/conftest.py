"""The engines that have to keep the contract: the fake ones always, a real one where there is one.

A test of a capability takes ``engine``; its class is skipped, by type, for an engine that lacks
the capability.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.engines.base import ContainerConfig, Engine
from mooring.engines.fake import MemoryEngine, MinimumEngine
from mooring.images.host_image import host_image
from tests.contract.support import SLEEP, Make, play
from tests.support.docker import RUN, this_run

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
    labels = {"mooring.contract": mark, RUN: this_run()}

    def create(script: str = SLEEP, *, start: bool = True, **options: Any) -> str:
        config = ContainerConfig(
            name=f"{mark}-{secrets.token_hex(2)}",
            image=facts.reference,
            argv=("/bin/sh", "-c", script),
            user=f"{os.getuid()}:{os.getgid()}",
            env=dict(facts.env),
            binds=facts.binds,
            network=False,
        )
        config = dataclasses.replace(config, **options)
        container = engine.create(dataclasses.replace(config, labels=labels | config.labels))
        if start:
            engine.start(container)
        return container

    yield create
    for row in engine.list({"mooring.contract": mark}):
        engine.remove(row.id)
