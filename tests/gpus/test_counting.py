"""What counts the faults of a contest sees them: each is committed here on purpose."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.gpus.tickets import ticket_queue_of
from tests.fakes.gpus import FakeGpus
from tests.gpus.contention import leaked, overtaken
from tests.gpus.herd import Outcome, Turn
from tests.gpus.observer import WHOLE, Holding, Observer

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@contextlib.contextmanager
def second_holder(mooring: Mooring, gpu: str) -> Iterator[None]:
    """A container like that of session ``first``, with the same GPU, and not by mooring."""
    name = mooring.sessions.get("first").container
    image = subprocess.check_output(
        ["docker", "inspect", "--format", "{{.Config.Image}}", name], text=True
    ).strip()
    command = ["docker", "run", "--detach", "--network", "none", "--gpus", f'"device={gpu}"']
    command += ["--mount", "type=bind,source=/usr,target=/usr,readonly", image]
    made = subprocess.check_output([*command, "/usr/bin/sleep", "60"], text=True).strip()
    try:
        yield
    finally:
        subprocess.run(["docker", "rm", "--force", made], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.engine
def test_a_gpu_that_is_given_twice_is_seen(
    mooring: Mooring, gpu_engine: Engine, nvml: FakeGpus, project: Path, cli: Cli
) -> None:
    """Two containers with one GPU are a fault by the engine's account; one after the other not."""
    gpu = nvml.uuids[0]
    with Observer(nvml.uuids) as observer:
        cli("create", "-d", "--gpus", "1", "--name", "first", check=0)
        with second_holder(mooring, gpu):
            deadline = time.monotonic() + 20
            while len(observer.holdings) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)  # what is gone cannot be looked at
    assert [one.shares for one in observer.holdings] == [{gpu: WHOLE}] * 2
    assert len(observer.doubled) == 1
    assert gpu in observer.doubled[0]
    with Observer(nvml.uuids) as observer:
        cli("stop", "first", check=0)
        with second_holder(mooring, gpu):
            pass
    assert observer.doubled == []


@pytest.mark.engine
@pytest.mark.skipif(os.getuid() != 0, reason="without root the tests share the engine's queue")
def test_a_gpu_that_is_not_given_back_is_seen(
    mooring: Mooring, gpu_engine: Engine, nvml: FakeGpus, project: Path, cli: Cli
) -> None:
    """A session that runs on, and a ticket's file, are leaks to who expects nothing to be left."""
    assert leaked(nvml) == []
    cli("create", "-d", "--gpus", "0.5", "--name", "first", check=0)
    (ticket_queue_of(mooring.engine).folder / "t-forgotten").touch()
    told = leaked(nvml)
    assert len(told) == 2
    assert nvml.uuids[0] in told[0]
    assert "t-forgotten" in told[1]


def turn(session: str, since: float, granted: float | None, priority: int = 0) -> Turn:
    return Turn(session, "i", (-priority, int(since * 1e9)), WHOLE, since, granted)


def held(session: str, started: float, ended: float) -> Holding:
    return Holding(f"mooring-{session}-{session}", session, {"GPU-0": WHOLE}, started, ended)


def test_who_is_overtaken_is_seen() -> None:
    """One GPU: whoever came later and was served first is told, but not who has priority, and not
    who was served after the one in front was killed."""
    first, second, urgent = turn("a", 10, 30), turn("b", 11, 20), turn("c", 12, 20, priority=5)
    runs = [held("a", 31, 40), held("b", 21, 29), held("c", 21, 29)]
    assert len(overtaken({"a": first, "b": second}, [], runs[:2], 1)) == 1
    assert overtaken({"a": first, "b": second}, [], runs[:2], 2) == []  # enough for both
    assert overtaken({"a": first, "c": urgent}, [], [runs[0], runs[2]], 1) == []
    dead = Outcome("a", 9, -9, 15.0, killed=15.0)
    assert overtaken({"a": turn("a", 10, None), "b": second}, [dead], runs[1:2], 1) == []
