"""The fakes that the GPU tests stand on: they must not promise what the real things do not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import sys
from types import ModuleType

import pytest

from mooring.gpus.inventory import inventory
from tests.fakes.gpus import GIB, FakeGpus


@pytest.fixture
def real_nvml() -> ModuleType:
    """nvidia-ml-py itself, which the fake stands before; importing it needs no GPU."""
    path = importlib.metadata.distribution("nvidia-ml-py").locate_file("pynvml.py")
    spec = importlib.util.spec_from_file_location("real_pynvml", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_pynvml"] = module
    spec.loader.exec_module(module)
    return module


def test_the_fake_has_the_interface_of_the_real_one(nvml: FakeGpus, real_nvml: ModuleType) -> None:
    """Each function takes what the real one takes; each error has its name, class and code."""
    import pynvml

    assert os.environ["MOORING_FAKE_NVML"]
    compared = 0
    for name, fake in vars(pynvml).items():
        if name.startswith("nvml"):
            real = inspect.unwrap(getattr(real_nvml, name))
            count = len(inspect.signature(real).parameters)
            assert len(inspect.signature(fake).parameters) == count, name
            compared += 1
        elif name.startswith("NVML_"):
            assert fake == getattr(real_nvml, name), name
        elif name.startswith("NVMLError_"):
            real_class = getattr(real_nvml, name)
            assert issubclass(real_class, real_nvml.NVMLError), name
            assert fake().value == real_class().value, name
            assert type(pynvml.NVMLError(fake().value)) is fake
    assert compared > 15


def test_devices_and_processes_come_and_go(nvml: FakeGpus) -> None:
    """A program that runs sees every change of the file at its next look."""
    assert [gpu.uuid for gpu in inventory()] == nvml.uuids
    assert {gpu.memory_bytes for gpu in inventory()} == {40 * GIB}
    nvml.run(3, pid=4711, memory_gib=2)
    nvml.change(3, use=97)
    busy = inventory()[3]
    assert (busy.use_percent, busy.memory_used_bytes) == (97, 2 * GIB)
    assert [process.pid for process in busy.processes] == [4711]
    nvml.end(3, pid=4711)
    assert inventory()[3].processes == ()
    gone = nvml.uuids[0]
    nvml.lose(0)
    assert len(inventory()) == 7
    assert gone not in [gpu.uuid for gpu in inventory()]


def test_a_gpu_that_is_split_has_its_instances_behind_it(nvml: FakeGpus) -> None:
    """MIG instances name their GPU, which itself cannot be claimed any more."""
    parts = nvml.split(2, (5, 20))
    everything = inventory()
    assert [gpu.uuid for gpu in everything if gpu.parent] == parts
    assert [gpu.uuid for gpu in everything if gpu.split] == [nvml.uuids[2]]
    assert everything[3].parent == nvml.uuids[2]


def test_a_gpu_that_does_not_answer_is_left_out(nvml: FakeGpus) -> None:
    """One that fell off its bus keeps nobody from using the others."""
    nvml.change(5, lost=True)
    assert len(inventory()) == 7


def test_without_a_driver_there_are_none(nvml: FakeGpus) -> None:
    """A library that is not there, or does not start, is a machine without GPUs."""
    nvml.file.unlink()
    assert inventory() == ()
    nvml.write()
    assert len(inventory()) == 8
