"""A machine with GPUs for tests: an engine that takes requests for them, and NVML.

No GPU is needed, see ``tests/fakes``: the engine is real but for the hook that would add the
devices, and NVML is a module that reads a file. Tests of the rooms on the fake engine use neither:
no fixture here is automatic.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import DockerException

from mooring.client import Mooring
from mooring.engines import open_engine
from mooring.engines.base import Engine
from mooring.gpus.tickets import TicketQueue
from mooring.spec.resolve import resolve
from tests.fakes.gpus import HOOK, NVML, FakeGpus
from tests.gpus.observer import own_socket, why_no_requests


@pytest.fixture
def ticket_queue(tmp_path: Path) -> TicketQueue:
    """An empty queue that nobody else uses."""
    return TicketQueue(tmp_path)


@pytest.fixture
def nvml(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpus]:
    """Eight fake GPUs, seen by this process and by those that it starts. (``state`` goes first: it
    clears the environment of all that mooring reads.)"""
    folder = state.with_name(f"{state.name}-nvml")
    folder.mkdir()
    gpus = FakeGpus(folder / "gpus.json")
    for name, value in gpus.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(NVML))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield gpus
    sys.modules.pop("pynvml", None)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def refusal_of_requests() -> str:
    try:
        return why_no_requests()
    except DockerException as error:
        return f"no engine: {error}"


@pytest.fixture
def real_engine(
    nvml: FakeGpus, monkeypatch: pytest.MonkeyPatch, refusal_of_requests: str
) -> Iterator[Engine]:
    """This machine's engine, which takes requests for the fake GPUs.

    Who shares an engine shares its queue, and finds it by the path of the engine's socket. So
    that tests do not stand in each other's queues, each has another name for that socket; root
    can give it one.
    """
    if refusal_of_requests and os.environ.get("CI"):
        pytest.fail(f"CI needs an engine that takes requests for GPUs: {refusal_of_requests}")
    if refusal_of_requests:
        pytest.skip(
            f"the engine takes no requests for GPUs ({refusal_of_requests}); start dockerd with "
            f"{HOOK} on its PATH, as tools/ensure-engine does"
        )
    with own_socket() as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        engine = open_engine()
        yield engine
        engine.close()


@pytest.fixture
def gpu_engine(real_engine: Engine) -> Engine:
    """``real_engine``, by the name that says what it is used for."""
    return real_engine


@pytest.fixture
def taken(mooring: Mooring, project: Path) -> str:
    """The name of a session that holds all eight GPUs."""
    made = mooring.sessions.create(resolve(flags={"name": "big", "gpus": 8}), cwd=project)
    return made.session.name
