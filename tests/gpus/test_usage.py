"""Who holds which GPU."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.engines.base import ContainerConfig, DeviceRequest
from mooring.engines.labels import LABEL_SPEC
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import GpuProcess
from mooring.gpus.usage import list_uses, lost, requested_uuids
from tests.support.gpus import GPUS, fake_engine, start_holder


@pytest.fixture
def engine() -> FakeEngine:
    return fake_engine()


def test_another_container_has_what_it_asked_for(engine: FakeEngine) -> None:
    """A container that is not a session's holds the devices that it requested."""
    container = engine.create(ContainerConfig("web", "i", ("sh",), "0:0", gpus=("GPU-1",)))
    engine.start(container)
    uses = list_uses(engine, GPUS, [], "here")
    assert [one.state for one in uses] == ["free", "outside", "free", "free"]
    assert uses[1].holders[0].what == "container web"


@pytest.mark.parametrize("label", ["GPU-1", "GPU-0,GPU-1,GPU-2,GPU-3", "GPU-1:0.5", "all"])
def test_a_label_alone_holds_no_gpu(engine: FakeEngine, label: str) -> None:
    """A session's container holds what it requested: an image may have a label with any GPUs."""
    container = engine.containers[start_holder(engine, label)]
    container.config = replace(container.config, gpus=())
    assert [one.state for one in list_uses(engine, GPUS, [], "here")] == ["free"] * 4
    container.config = replace(container.config, gpus=("GPU-2",))
    uses = list_uses(engine, GPUS, [], "here")
    assert [one.state for one in uses] == ["free", "free", "held", "free"]


def test_a_committed_session_is_not_the_session(engine: FakeEngine) -> None:
    """A container of an image that has a session's labels holds what it requested, for itself."""
    session = engine.containers[start_holder(engine, "GPU-1:0.5")]
    config = replace(session.config, name="quirky_hopper", gpus=("GPU-2",))
    engine.start(engine.create(config))
    uses = list_uses(engine, GPUS, [], "here")
    assert [one.state for one in uses] == ["free", "shared", "outside", "free"]
    assert uses[2].holders[0].what == "container quirky_hopper"
    assert uses[2].holders[0].share == 1.0


def test_a_gpu_is_held_by_its_device_file(engine: FakeEngine) -> None:
    """Where no runtime adds the devices, a container holds a GPU by the file that is its alone."""
    files = [("/dev/kfd", f"/dev/dri/renderD{128 + n}") for n in range(2)]
    gpus = [replace(GPUS[n], kind="amd", nodes=files[n]) for n in range(2)]
    session = engine.containers[start_holder(engine, "GPU-0:0.5")]
    session.config = replace(session.config, gpus=(), devices=files[0])
    assert [one.state for one in list_uses(engine, gpus, [], "here")] == ["shared", "free"]
    engine.start(engine.create(ContainerConfig("web", "i", ("sh",), "0:0", devices=files[1])))
    assert [one.state for one in list_uses(engine, gpus, [], "here")] == ["shared", "outside"]


def test_all_gpus_are_their_instances_too(engine: FakeEngine) -> None:
    """A container that requested every GPU holds the instances of a divided one too."""
    gpus = [replace(GPUS[0], split=True), replace(GPUS[1], uuid="MIG-1", parent="GPU-0")]
    for asked in (DeviceRequest(-1, ()), DeviceRequest(1, ()), DeviceRequest(0, ("all",))):
        assert requested_uuids([asked], gpus) == ["GPU-0", "MIG-1"]


def test_a_device_that_is_gone() -> None:
    """A device is lost if the driver lists others but not that; numbers alone do not tell."""
    assert lost([Claim("GPU-0"), Claim("GPU-9")], GPUS)
    assert not lost([Claim("GPU-0")], GPUS)
    assert not lost([Claim("GPU-0")], [])
    assert not lost([Claim("GPU-0")], [replace(GPUS[0], uuid="0", driver="")])


def test_latest_end(engine: FakeEngine) -> None:
    """When a session ends at the latest follows from its maximum duration."""
    start_holder(engine, "GPU-0", **{LABEL_SPEC: '{"max_duration": 3600.0}'})
    for number, rubbish in enumerate(("[rubbish", "[" * 9999, '{"max_duration": 1e300}'), 1):
        start_holder(engine, f"GPU-{number}", f"{number}" * 12, **{LABEL_SPEC: rubbish})
    first, *others = [one.holders[0] for one in list_uses(engine, GPUS, [], "here")]
    assert first.ends_at == pytest.approx(first.since + 3600)
    assert [one.ends_at for one in others] == [None] * 3


@pytest.fixture
def process() -> Iterator[Callable[[], int]]:
    """Starts a process, and kills it in the end."""
    children: list[int] = []

    def start() -> int:
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, 9)
            os.waitpid(child, 0)


def test_a_bare_process_takes_its_gpu(engine: FakeEngine, process: Callable[[], int]) -> None:
    """A process outside all containers holds the GPU that it computes on."""
    pid = process()
    busy = replace(GPUS[0], processes=(GpuProcess(pid, 2**20),))
    found = list_uses(engine, [busy, GPUS[1]], [], "here")
    assert [one.state for one in found] == ["outside", "free"]
    assert found[0].holders[0].what.startswith(f"process {pid} (")
    assert found[0].free_share == 0


def test_a_process_is_named_in_one_line(engine: FakeEngine, tmp_path: Path) -> None:
    """A process's name cannot draw on anybody's terminal."""
    program = tmp_path / "a\nb\x1b[2J"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as running:
        busy = replace(GPUS[0], processes=(GpuProcess(running.pid, 2**20),))
        (use,) = list_uses(engine, [busy], [], "here")
        running.kill()
    assert use.holders[0].what == rf"process {running.pid} (a\nb\x1b[2J)"


def test_a_process_that_is_going_drains(engine: FakeEngine, process: Callable[[], int]) -> None:
    """A GPU is free only when its last process is gone, not when it waits to be reaped."""
    pid = process()
    busy = replace(GPUS[0], processes=(GpuProcess(pid, None),))
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    (use,) = list_uses(engine, [busy], [], "here")
    assert (use.state, use.free_share) == ("draining", 0)


def test_the_daemon_that_shares_a_gpu_does_not_hold_it(engine: FakeEngine, tmp_path: Path) -> None:
    """MPS's server computes for the sessions that share a GPU, and outlives them."""
    server = tmp_path / "nvidia-cuda-mps-server"
    server.symlink_to("/bin/sleep")
    start_holder(engine, "GPU-0:0.5")
    with subprocess.Popen([server, "60"]) as running:
        busy = replace(GPUS[0], processes=(GpuProcess(running.pid, 2**20),))
        found = list_uses(engine, [busy], [], "here")[0]
        running.kill()
    assert (found.state, found.free_share) == ("shared", 0.5)
