"""Which GPUs this machine has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.gpus import inventory as machine

NVML = Path(__file__).parents[1] / "fakes" / "nvml"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without GPUs, whatever this one has; returns the folder that stands for its own."""
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
    """Without NVML the devices are those of the CDI files; rubbish in them is ignored."""
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
    gpus = machine.inventory()
    assert [(gpu.uuid, gpu.kind, gpu.model, gpu.memory_bytes) for gpu in gpus] == [
        ("GPU-123456789abcdef0", "amd", "gfx942", 2**36)
    ]
    assert gpus[0].nodes == ("/dev/kfd", "/dev/dri/renderD128")
