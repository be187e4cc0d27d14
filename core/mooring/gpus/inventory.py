"""The GPUs of this machine: NVIDIA's from NVML, else from CDI files; AMD's from sysfs.

No program is run, and no program's output is parsed. For holders see ``mooring.gpus.usage``.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mooring.host.untrusted import parse_json

log = logging.getLogger(__name__)

NVIDIA, AMD = "nvidia", "amd"
CDI_KIND = "nvidia.com/gpu"
CDI_DIRS = (Path("/etc/cdi"), Path("/var/run/cdi"))
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
MAX_CDI_BYTES = 2**22

_T = TypeVar("_T")


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU.

    Attributes:
        pid: its process id on this machine.
        memory_bytes: its memory on the GPU; None if unknown.
    """

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG instance of one.

    Attributes:
        uuid: the id that it is claimed by; for a CDI device without a UUID, its name.
        index: its number on this machine; for an instance, that of its GPU.
        kind: ``nvidia`` or ``amd``.
        memory_bytes: its total memory; 0 if unknown.
        driver: the driver's version; empty if the driver does not answer.
        memory_used_bytes: its used memory; None if unknown.
        use_percent: its recent utilization; None if unknown.
        processes: the processes that compute on it.
        parent: for an instance, the ``uuid`` of its GPU; else empty.
        split: whether it is divided into instances, so that only those can be claimed.
        nodes: the device files that a container needs, if no runtime adds them (AMD).
    """

    uuid: str
    index: int
    kind: str
    model: str
    memory_bytes: int
    driver: str
    memory_used_bytes: int | None = None
    use_percent: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    parent: str = ""
    split: bool = False
    nodes: tuple[str, ...] = ()


def inventory() -> tuple[Gpu, ...]:
    """Return all GPUs of this machine with their current utilization.

    Each MIG instance follows its GPU. Never raises: if the driver does not answer, the result is
    empty, and a GPU that does not answer is omitted.
    """
    nvidia = _nvml()
    if nvidia is None:
        nvidia = tuple(_cdi())
    return nvidia + tuple(_amd())


def _nvml() -> tuple[Gpu, ...] | None:
    """Return the GPUs that NVML lists; None if NVML is not available."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no NVML: %s", error)
        return None
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # this GPU is lost
                gpus += _device(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index), index, driver)
        return tuple(gpus)
    except pynvml.NVMLError as error:
        log.warning("NVML does not list the GPUs: %s", error)
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _device(nvml: Any, handle: Any, index: int, driver: str) -> list[Gpu]:
    """Return a GPU and its instances.

    Raises:
        NVMLError: the GPU does not answer.
    """

    def ask(question: Callable[[Any], _T], of: Any) -> _T | None:
        try:
            return question(of)
        except nvml.NVMLError:  # not supported by this model or driver, or for an instance
            return None

    def one(of: Any, *, parent: str = "", split: bool = False) -> Gpu:
        memory, use = ask(nvml.nvmlDeviceGetMemoryInfo, of), None
        if not split and not parent:
            use = ask(nvml.nvmlDeviceGetUtilizationRates, of)
        running = ask(nvml.nvmlDeviceGetComputeRunningProcesses, of) or []
        return Gpu(
            uuid=_text(nvml.nvmlDeviceGetUUID(of)),
            index=index,
            kind=NVIDIA,
            model=_text(nvml.nvmlDeviceGetName(of)),
            memory_bytes=int(memory.total) if memory else 0,
            driver=driver,
            memory_used_bytes=int(memory.used) if memory else None,
            use_percent=int(use.gpu) if use else None,
            processes=tuple(
                GpuProcess(int(p.pid), None if p.usedGpuMemory is None else int(p.usedGpuMemory))
                for p in running
            ),
            parent=parent,
            split=split,
        )

    mode = ask(nvml.nvmlDeviceGetMigMode, handle)
    if not mode or not mode[0]:
        return [one(handle)]
    whole = one(handle, split=True)
    parts = []
    for number in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        with contextlib.suppress(nvml.NVMLError):  # no instance at that position
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            parts.append(one(part, parent=whole.uuid))
    return [whole, *parts]


def _cdi() -> Iterator[Gpu]:
    """Yield the GPUs that CDI files name, for machines without the driver's library.

    https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
    """
    names = sorted(cdi_names() - {"all"})
    # a device may be listed both by its UUID and by its number
    known = [name for name in names if name.startswith(("GPU-", "MIG-"))] or names
    for index, name in enumerate(known):
        yield Gpu(name, index, NVIDIA, "NVIDIA GPU (known only from CDI)", 0, "")


def cdi_names() -> set[str]:
    """Return the names of the NVIDIA devices in this machine's CDI files."""
    paths = (path for folder in CDI_DIRS for path in sorted(folder.glob("*")))
    return {name for path in paths for name in _cdi_names(path)}


def _cdi_names(path: Path) -> list[str]:
    try:
        if path.suffix not in (".yaml", ".yml", ".json") or path.stat().st_size > MAX_CDI_BYTES:
            return []
        text = path.read_text()
        if path.suffix == ".json":
            content = parse_json(text)
        else:
            import yaml

            content = yaml.safe_load(text)
        if content["kind"] != CDI_KIND:
            return []
        return [str(device["name"]) for device in content["devices"]]
    except Exception as error:  # another program's file, with any content
        log.debug("%s: %s", path, error)
        return []


def _amd() -> Iterator[Gpu]:
    """Yield the AMD GPUs that the kernel's amdkfd driver lists."""
    index = 0
    for node in sorted(KFD_NODES.glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError, ValueError):
            facts = _pairs(node / "properties")
            unique = facts.get("unique_id", 0)
            render = facts.get("drm_render_minor", 0)
            if not facts.get("simd_count") or not render:
                continue  # a CPU
            model = (node / "name").read_text().strip() or "AMD GPU"
            card = Path(f"/sys/class/drm/renderD{render}/device")
            memory = sum(
                bank.get("size_in_bytes", 0)
                for bank in map(_pairs, node.glob("mem_banks/*/properties"))
                if bank.get("heap_type") in (1, 2)  # the frame buffer, public or private
            )
            yield Gpu(
                uuid=f"GPU-{unique:016x}" if unique else f"amd-{render}",
                index=index,
                kind=AMD,
                model=model,
                memory_bytes=memory,
                driver="amdgpu",
                memory_used_bytes=_number(card / "mem_info_vram_used"),
                use_percent=_number(card / "gpu_busy_percent"),
                nodes=("/dev/kfd", f"/dev/dri/renderD{render}"),
            )
            index += 1


def _pairs(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and re.fullmatch("[0-9]+", row[1])}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _text(value: Any) -> str:
    """Return a text from NVML; older versions of the library return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
