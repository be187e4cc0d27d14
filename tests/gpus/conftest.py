"""A machine with GPUs, for tests: an engine that takes requests for them, and what NVML tells.

Where there are none both are fakes, see ``tests/fakes``: of a real engine only the hook that would
make devices of granted requests is one, and of NVML its whole interface.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.engines.base import Engine
from tests.fakes.gpus import HOOK, NVML, FakeGpus
from tests.gpus.observer import why_no_requests


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
def _requests_taken(real_engine: Engine) -> None:
    why = why_no_requests()
    if why and os.environ.get("CI"):
        pytest.fail(f"CI needs an engine that takes requests for GPUs: {why}")
    if why:
        pytest.skip(
            f"the engine takes no requests for GPUs ({why}); start dockerd with "
            f"{HOOK} on its PATH, as tools/ensure-engine does"
        )


@pytest.fixture
def gpu_engine(real_engine: Engine, nvml: FakeGpus, _requests_taken: None) -> Engine:
    """This machine's engine, which takes requests for the fake GPUs."""
    return real_engine
