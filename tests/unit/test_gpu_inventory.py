"""Which GPUs there are, and what a container is given for them."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.gpus import devices
from mooring.gpus import inventory as machine
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import Gpu
from mooring.sessions.record import Folder

NVML = Path(__file__).parents[1] / "fakes" / "nvml"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without GPUs, whatever this one has; returns the folder that stands for its."""
    monkeypatch.syspath_prepend(str(NVML))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv("MOORING_FAKE_NVML", raising=False)
    monkeypatch.setattr(machine, "CDI_DIRS", (tmp_path / "cdi",))
    monkeypatch.setattr(machine, "KFD_NODES", tmp_path / "nodes")
    yield tmp_path
    sys.modules.pop("pynvml", None)


def test_a_machine_without_gpus() -> None:
    """No driver's library, no CDI file, no AMD node: no GPU, and no error."""
    assert machine.inventory() == ()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "nvidia.yaml",
            "kind: nvidia.com/gpu\ndevices: [{name: 0}, {name: GPU-a}, {name: GPU-b}, {name: all}]",
            ["GPU-a", "GPU-b"],
        ),
        (
            "n.json",
            json.dumps({"kind": "nvidia.com/gpu", "devices": [{"name": "0"}, {"name": "all"}]}),
            ["0"],
        ),
        ("other.yaml", "kind: vendor.com/net\ndevices: [{name: eth0}]\n", []),
        ("broken.yaml", "kind: [", []),
        ("empty.json", "", []),
        ("notes.txt", "kind: nvidia.com/gpu\ndevices: [{name: '0'}]\n", []),
    ],
)
def test_cdi(bare: Path, name: str, content: str, expected: list[str]) -> None:
    """Where NVML is not to be had, CDI's files name the devices; rubbish in them is passed over."""
    (bare / "cdi").mkdir()
    (bare / "cdi" / name).write_text(content)
    assert [gpu.uuid for gpu in machine.inventory()] == expected


def test_amd(bare: Path) -> None:
    """AMD's GPUs are the kernel's compute nodes that can compute, with their device files."""
    for number, facts in {
        0: "cpu_cores_count 8\nsimd_count 0\n",
        1: "simd_count 304\nunique_id 1311768467463790320\ndrm_render_minor 128\n",
    }.items():
        node = bare / "nodes" / str(number)
        (node / "mem_banks" / "0").mkdir(parents=True)
        (node / "properties").write_text(facts)
        (node / "name").write_text("gfx942\n")
        (node / "mem_banks" / "0" / "properties").write_text(
            f"heap_type 1\nsize_in_bytes {2**36}\n"
        )
    found = machine.inventory()
    assert [(gpu.uuid, gpu.kind, gpu.model, gpu.memory_bytes) for gpu in found] == [
        ("GPU-123456789abcdef0", "amd", "gfx942", 2**36)
    ]
    assert found[0].nodes == ("/dev/kfd", "/dev/dri/renderD128")


# what a container is given

A100 = Gpu("GPU-a", 0, "nvidia", "A100", 40 * 2**30, "1")


@pytest.fixture
def folder(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A session's, on a machine with one GPU."""
    monkeypatch.setattr(devices, "inventory", lambda: (A100,))
    made = Folder.create("a" * 12, {"id": "a" * 12, "name": "n"})
    yield made
    made.release()
    made.remove()


def test_without_claims_nothing_is_seen(folder: Folder) -> None:
    """An image that asks for every GPU gets none where the session has none."""
    given = devices.devices_for(folder, ())
    assert given.requested == ()
    assert given.env == {"NVIDIA_VISIBLE_DEVICES": "void"}


def test_whole_devices(folder: Folder) -> None:
    """Devices are asked of the engine by UUID, and told in the environment."""
    given = devices.devices_for(folder, [Claim("GPU-a")])
    assert given.requested == ("GPU-a",)
    assert given.env == {"NVIDIA_VISIBLE_DEVICES": "GPU-a", "MOORING_GPU_UUIDS": "GPU-a"}
    assert given.binds == ()


def test_amd_devices_are_files(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """AMD's devices need no runtime of the engine's: their files are passed on."""
    amd = Gpu("GPU-m", 0, "amd", "MI300", 1, "amdgpu", nodes=("/dev/kfd", "/dev/dri/renderD128"))
    monkeypatch.setattr(devices, "inventory", lambda: (amd,))
    given = devices.devices_for(folder, [Claim("GPU-m")])
    assert (given.requested, given.nodes) == ((), ("/dev/kfd", "/dev/dri/renderD128"))
    assert "NVIDIA_VISIBLE_DEVICES" not in given.env


def test_a_share_without_anything_to_limit_it_says_so(folder: Folder, tmp_path: Path) -> None:
    """Where neither MPS nor an instance holds a session to its share, that is stated."""
    said = devices.limits(Claim("GPU-a", 0.5), A100, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert said.statement.startswith("0.5 of it by agreement: nothing limits the session")
    assert (said.env, said.binds) == ({}, ())
    devices.devices_for(folder, [Claim("GPU-a", 0.5)])
    assert "by agreement" in folder.record()["gpu_sharing"]["GPU-a"]


def test_a_share_by_mps(tmp_path: Path) -> None:
    """Where an MPS daemon answers, its limits are the share."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "control"))
        daemon.listen()
        said = devices.limits(
            Claim("GPU-a", 0.25), A100, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
        )
    assert said.env == {
        "CUDA_MPS_PIPE_DIRECTORY": "/run/nvidia-mps",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10240M",
    }
    assert [(bind.source, bind.target) for bind in said.binds] == [
        (str(tmp_path), "/run/nvidia-mps")
    ]


def test_an_instance_limits_itself() -> None:
    """A MIG instance needs nothing to keep to its share."""
    part = Gpu("MIG-a", 0, "nvidia", "A100 MIG 1g.5gb", 1, "1", parent="GPU-a")
    assert devices.limits(Claim("MIG-a"), part, {}).statement.startswith("a MIG instance")
