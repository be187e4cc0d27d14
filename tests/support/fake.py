"""Fixtures for mooring on the fake engine, with a clock that only sleeping moves.

A room's conftest.py imports those that its tests use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.spec.resolve import ResolvedSpec, resolve


class FakeClock:
    """Seconds since the epoch; sleeping moves it and takes no time."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock=clock, sleep=clock.sleep)


@pytest.fixture
def service(engine: FakeEngine, state: Path) -> Mooring:
    return Mooring(engine, actor="tester")


Declare = Callable[..., ResolvedSpec]


@pytest.fixture
def declare(project: Path, tmp_path: Path) -> Declare:
    """A spec as flags give it, ``declare(command="x")``, or as a file holds it."""

    def make(text: str | None = None, **flags: Any) -> ResolvedSpec:
        file = None
        if text is not None:
            file = project / "session.yml"
            file.write_text(text)
        return resolve(flags=flags, file=file, environ={}, user_config=tmp_path / "none.yml")

    return make
