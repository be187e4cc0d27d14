"""NVML's Python interface (nvidia-ml-py's, as of 13.x) over a JSON file, for tests without a GPU.

``$MOORING_FAKE_NVML`` names the file. Each call looks whether it was replaced, so that devices and
processes come and go while a program looks; ``tests.fakes.gpus`` writes it::

    {"driver": "550.54.15", "devices": [
        {"uuid": "GPU-…", "name": "NVIDIA A100-SXM4-40GB", "memory": 42949672960,
         "memory_used": 0, "use": 0, "processes": [{"pid": 4711, "memory": 1048576}],
         "lost": false, "mig": [{"uuid": "MIG-…", "name": "…", "memory": …, "processes": []}]}]}

Only ``uuid`` must be there. ``memory_used`` is the sum of the processes' where it is absent.
Without ``mig`` it is a model that has no MIG; null is MIG switched off, ``[]`` a device that is
split into nothing yet. Without the variable, or where its file is gone, the library cannot be
found, as on a machine without a driver. An ``"error": 9`` beside the devices is what ``nvmlInit``
then fails with.

Calls that this file lacks do not exist: add them with the real one's behaviour when they are used.
"""

from __future__ import annotations

import json
import os
import string
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

NVML_SUCCESS = 0
NVML_ERROR_UNINITIALIZED = 1
NVML_ERROR_INVALID_ARGUMENT = 2
NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_NO_PERMISSION = 4
NVML_ERROR_NOT_FOUND = 6
NVML_ERROR_DRIVER_NOT_LOADED = 9
NVML_ERROR_TIMEOUT = 10
NVML_ERROR_LIBRARY_NOT_FOUND = 12
NVML_ERROR_FUNCTION_NOT_FOUND = 13
NVML_ERROR_GPU_IS_LOST = 15
NVML_ERROR_RESET_REQUIRED = 16
NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
NVML_ERROR_UNKNOWN = 999

NVML_DEVICE_MIG_DISABLE = 0
NVML_DEVICE_MIG_ENABLE = 1

DEFAULT_NAME = "NVIDIA A100-SXM4-40GB"
DEFAULT_MEMORY = 40 * 1024**3
DEFAULT_DRIVER = "550.54.15"

_initialised = 0


class NVMLError(Exception):
    """What every call fails with; of the class that its code names, as the real one's."""

    value: int
    _classes: dict[int, type[NVMLError]] = {}  # noqa: RUF012 - filled below

    def __new__(cls, value: int = NVML_ERROR_UNKNOWN) -> NVMLError:
        made = Exception.__new__(cls._classes.get(value, cls) if cls is NVMLError else cls)
        made.value = next((code for code, of in cls._classes.items() if of is type(made)), value)
        return made

    def __str__(self) -> str:
        return type(self).__name__.removeprefix("NVMLError_")


def _name_errors() -> None:
    for name, code in list(globals().items()):
        if name.startswith("NVML_ERROR_"):
            words = string.capwords(name.removeprefix("NVML_ERROR_"), "_").replace("_", "")
            made = type(f"NVMLError_{words}", (NVMLError,), {})
            globals()[made.__name__] = NVMLError._classes[code] = made


_name_errors()


@dataclass(frozen=True)
class _Handle:
    """A device, or an instance of one; stays what it was when the device has gone."""

    uuid: str


@dataclass
class _Machine:
    """What the file said when it was last read, and every device by its UUID with its parent."""

    mark: tuple[int, ...] = ()
    said: dict[str, Any] = field(default_factory=dict)
    known: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = field(default_factory=dict)


_machine = _Machine()


def _read() -> _Machine:
    global _machine
    path = os.environ.get("MOORING_FAKE_NVML", "")
    try:
        found = os.stat(path)
        mark = (hash(path), found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        if _machine.mark != mark:
            with open(path, encoding="utf-8") as file:
                said = json.load(file)
            known = {}
            for device in said.get("devices", []):
                known[device["uuid"]] = (device, None)
                known.update({one["uuid"]: (one, device) for one in device.get("mig") or []})
            _machine = _Machine(mark, said, known)
    except OSError:
        raise NVMLError(NVML_ERROR_LIBRARY_NOT_FOUND) from None
    return _machine


def _ready() -> _Machine:
    if not _initialised:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)
    return _read()


def _devices() -> list[dict[str, Any]]:
    devices: list[dict[str, Any]] = _ready().said.get("devices", [])
    return devices


def _found(handle: _Handle) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The device, and the one that it is an instance of."""
    device, parent = _ready().known.get(handle.uuid, (None, None))
    if device is None or (parent or device).get("lost"):
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return device, parent


def _device(handle: _Handle) -> dict[str, Any]:
    return _found(handle)[0]


def nvmlInit() -> None:
    global _initialised
    said = _read().said
    if said.get("error"):
        raise NVMLError(said["error"])
    _initialised += 1


def nvmlShutdown() -> None:
    global _initialised
    if not _initialised:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)
    _initialised -= 1


def nvmlSystemGetDriverVersion() -> str:
    return str(_ready().said.get("driver", DEFAULT_DRIVER))


def nvmlDeviceGetCount() -> int:
    return len(_devices())


def nvmlDeviceGetHandleByIndex(index: int) -> _Handle:
    devices = _devices()
    if not 0 <= index < len(devices):
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    if devices[index].get("lost"):
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return _Handle(devices[index]["uuid"])


def nvmlDeviceGetHandleByUUID(uuid: str | bytes) -> _Handle:
    handle = _Handle(uuid.decode() if isinstance(uuid, bytes) else uuid)
    try:
        _found(handle)
    except NVMLError as error:
        if error.value == NVML_ERROR_GPU_IS_LOST:
            raise NVMLError(NVML_ERROR_NOT_FOUND) from None
        raise
    return handle


def nvmlDeviceGetIndex(handle: _Handle) -> int:
    device, parent = _found(handle)
    within = _devices() if parent is None else parent["mig"]
    return [one["uuid"] for one in within].index(device["uuid"])


def nvmlDeviceGetUUID(handle: _Handle) -> str:
    return str(_device(handle)["uuid"])


def nvmlDeviceGetName(handle: _Handle) -> str:
    device, parent = _found(handle)
    model = (parent or device).get("name", DEFAULT_NAME)
    return str(device.get("name", f"{model} MIG 1g.5gb" if parent else model))


def nvmlDeviceGetMinorNumber(handle: _Handle) -> int:
    return nvmlDeviceGetIndex(handle)


def nvmlDeviceGetMemoryInfo(handle: _Handle, version: int | None = None) -> SimpleNamespace:
    device = _device(handle)
    total = device.get("memory", DEFAULT_MEMORY)
    used = device.get("memory_used")
    if used is None:
        used = sum(process.memory or 0 for process in _processes(device))
    return SimpleNamespace(total=total, used=used, free=total - used)


def nvmlDeviceGetUtilizationRates(handle: _Handle) -> SimpleNamespace:
    device, parent = _found(handle)
    if parent is not None or device.get("mig") is not None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)  # of a device in MIG mode, and of its instances
    return SimpleNamespace(gpu=device.get("use", 0), memory=device.get("memory_use", 0))


def _processes(device: dict[str, Any]) -> list[SimpleNamespace]:
    own = [
        SimpleNamespace(pid=one["pid"], memory=one.get("memory"))
        for one in device.get("processes", [])
    ]
    return own + [one for mig in device.get("mig") or [] for one in _processes(mig)]


def nvmlDeviceGetComputeRunningProcesses(handle: _Handle) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(pid=one.pid, usedGpuMemory=one.memory)
        for one in _processes(_device(handle))
    ]


def nvmlDeviceGetGraphicsRunningProcesses(handle: _Handle) -> list[SimpleNamespace]:
    _device(handle)
    return []


def nvmlDeviceGetMigMode(handle: _Handle) -> list[int]:
    device, parent = _found(handle)
    if parent is not None:
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    if "mig" not in device:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    mode = NVML_DEVICE_MIG_DISABLE if device["mig"] is None else NVML_DEVICE_MIG_ENABLE
    return [mode, mode]


def nvmlDeviceGetMaxMigDeviceCount(handle: _Handle) -> int:
    return 7 if _device(handle).get("mig") is not None else 0


def nvmlDeviceGetMigDeviceHandleByIndex(handle: _Handle, index: int) -> _Handle:
    instances = _device(handle).get("mig") or []
    if index >= nvmlDeviceGetMaxMigDeviceCount(handle):
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    if index >= len(instances):
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return _Handle(instances[index]["uuid"])


def nvmlDeviceIsMigDeviceHandle(handle: _Handle) -> int:
    return int(_found(handle)[1] is not None)


def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle: _Handle) -> _Handle:
    parent = _found(handle)[1]
    if parent is None:
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    return _Handle(parent["uuid"])
