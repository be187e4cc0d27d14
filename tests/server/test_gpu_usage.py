"""Queries of the GPUs: one serves all who ask."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from mooring_server_extension.gpu_usage import GpuUsage


def test_looks_are_shared() -> None:
    """Who asks while a look goes on, or a moment later, is told the same."""
    asked: list[Future[Any]] = []

    def submit(look: Callable[[], Any]) -> Future[Any]:
        asked.append(Future())
        return asked[-1]

    machine = SimpleNamespace(gpus=SimpleNamespace(list=None))
    gpus = GpuUsage(machine, submit)  # type: ignore[arg-type]
    assert gpus.recent(0.0) == gpus.recent(0.0) == []
    assert len(asked) == 1
    asked[0].set_result(["one"])
    assert gpus.recent(0.0) == gpus.recent(0.0) == ["one"]
    assert len(asked) == 1
