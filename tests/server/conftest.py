"""Servers of the REST tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from tests.server.inprocess import InProcess

Serve = Callable[..., InProcess]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine of every ``Mooring`` that is made without one."""
    engine = FakeEngine()
    monkeypatch.setattr("mooring.sessions.context.open_engine", lambda: engine)
    return engine


@pytest.fixture
def serve(
    fake: FakeEngine, state: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serve]:
    """Starts servers whose root is the project; they are ended after the test."""
    for name in ("DATA", "RUNTIME", "CONFIG"):
        (state / name.lower()).mkdir()
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(state / name.lower()))
    started: list[InProcess] = []

    def start(**config: Any) -> InProcess:
        started.append(InProcess(project, config))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def server(serve: Serve) -> InProcess:
    return serve()
