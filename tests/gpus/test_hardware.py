"""The look at real GPUs, tried on those that are not there: it says what it cannot see."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.engines.base import Bind, Engine
from mooring.gpus.claims import Claim
from mooring.gpus.devices import limits
from tests.fakes.gpus import GIB, FakeGpus
from tests.gpus import hardware


def marks(rows: Iterator[hardware.Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for mark, text in rows:
        found.setdefault(mark, []).append(text)
    return found


@pytest.fixture
def tool(tmp_path: Path, nvml: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``nvidia-smi`` that tells what the fake NVML has, as a session's clock asks it."""
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "nvidia-smi"
    path.write_text(f"""#!{sys.executable}
import json, os, sys
devices = json.load(open(os.environ["MOORING_FAKE_NVML"]))["devices"]
for index, one in enumerate(devices):
    if sys.argv[1] == "-L":
        print(index, one["uuid"], *(part["uuid"] for part in one.get("mig") or []))
    elif "utilization" in sys.argv[1]:
        print("[N/A]" if one.get("mig") else one["use"])
    else:
        print(index, one["uuid"], one["name"], one["memory"] >> 20, "550.54.15", sep=", ")
""")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


def test_a_machine_without_gpus_is_told_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing can be seen, it says so, and that is no success."""
    if hardware.inventory():
        pytest.skip("this machine has GPUs: run python -m tests.gpus.hardware")
    assert hardware.main([]) == 2
    assert "NO GPU" in capsys.readouterr().out


def test_fakes_are_not_passed_off_as_hardware(
    nvml: FakeGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the tests' NVML it looks at all it can, and says first and last that none is real."""
    nvml.split(1)
    assert hardware.main([]) == 2
    printed = capsys.readouterr().out
    assert printed.count("NO REAL GPU") == 2
    assert "WRONG  " not in printed
    for unseen in ("sessions, and gpu lost", "MPS", "processes, memory and use under load"):
        assert f"UNSEEN {unseen}" in printed


def test_the_inventory_is_compared_with_the_drivers_tool(
    nvml: FakeGpus, tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that mooring and nvidia-smi tell of differently is wrong."""
    nvml.split(2)
    gpus = hardware.inventory()
    for rows in (hardware.listed(gpus), hardware.costs(gpus), hardware.instances(gpus)):
        found = marks(rows)
        assert set(found) <= {hardware.RIGHT, hardware.SEEN}
    other = [dataclasses.replace(gpus[0], memory_bytes=GIB), *gpus[1:]]
    assert hardware.WRONG in marks(hardware.listed(other))
    lost = [gpu for gpu in gpus if gpu.parent != nvml.uuids[2]]
    assert hardware.WRONG in marks(hardware.instances(lost))


def test_a_process_and_its_use_are_looked_for(nvml: FakeGpus, tool: Path) -> None:
    """A process that computes is right where NVML lists it, and wrong where it does not."""

    @contextlib.contextmanager
    def worker(gpu: str, *steps: str, listed: bool = True) -> Iterator[hardware.Work]:
        command = ["sh", "-c", """echo '{"allocate": 1}'; exec sleep 60"""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            nvml.change(gpu, use=97)
            if listed:
                nvml.run(gpu, process.pid)
            yield hardware.Work(process)
            process.kill()
            if listed:
                nvml.end(gpu, process.pid)

    gpu = hardware.inventory()[3]
    assert set(marks(hardware.processes(gpu, worker))) == {hardware.RIGHT}

    @contextlib.contextmanager
    def hidden(gpu: str, *steps: str) -> Iterator[hardware.Work]:
        with worker(gpu, *steps, listed=False) as work:
            yield work

    wrong = marks(hardware.processes(gpu, hidden))[hardware.WRONG]
    assert "NVML lists []" in wrong[0]


def test_shares_that_are_not_limited_are_wrong(
    nvml: FakeGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a device that has all of it is wrong; one that has half, and no more, is right."""

    class Answers(hardware.Work):
        def __init__(self, answers: list[int]) -> None:
            self.answers = answers

        @property
        def pid(self) -> int:
            return 4711

        def answer(self) -> int:
            if not self.answers:
                raise hardware.CannotWork("cuMemAlloc_v2 failed with 2")
            return self.answers.pop(0)

    gpu = hardware.inventory()[0]
    share = limits(Claim(gpu.uuid, 0.5), gpu)
    assert not share.binds  # no daemon answers here
    assert set(marks(hardware.shares(gpu))) == {hardware.UNSEEN}
    bind = Bind("/somewhere", "/run/nvidia-mps", read_only=False)
    with_daemon = dataclasses.replace(share, binds=(bind,))
    monkeypatch.setattr(hardware, "limits", lambda *_: with_daemon)

    @contextlib.contextmanager
    def limited(gpu: str, *steps: str, env: dict[str, str] | None = None) -> Iterator[Answers]:
        if env is None:
            yield Answers([132])
        else:
            assert env["CUDA_MPS_PIPE_DIRECTORY"] == "/somewhere"
            yield Answers([66, 1] if steps[0] == "units" else [])

    @contextlib.contextmanager
    def unlimited(gpu: str, *steps: str, env: dict[str, str] | None = None) -> Iterator[Answers]:
        yield Answers([132, 1])

    assert set(marks(hardware.shares(gpu, limited))) == {hardware.RIGHT}
    wrong = marks(hardware.shares(gpu, unlimited))[hardware.WRONG]
    assert len(wrong) == 3


def test_a_torch_without_a_gpu_says_nothing_of_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch finds no GPU, a fork that cannot use one is not wrong: it cannot be seen."""
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    is_available = is_initialized = staticmethod(lambda: False)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert set(marks(hardware.forks())) == {hardware.UNSEEN}


@pytest.mark.engine
def test_sessions_are_looked_at_and_removed(real_engine: Engine, nvml: FakeGpus) -> None:
    """A session with a GPU starts; what it cannot do there is wrong, and nothing of it is left."""
    before = {row.id for row in real_engine.list({})}
    found = marks(hardware.sessions(hardware.inventory()[0], ""))
    assert "a session with a GPU starts" in found[hardware.SEEN][0]
    (wrong,) = found[hardware.WRONG]  # the hook that adds devices is a fake, and adds no tool
    assert "mooring exec" in wrong
    assert "nvidia-smi" in wrong
    assert not [
        row for row in real_engine.list({}) if row.id not in before and "hardware" in row.name
    ]
