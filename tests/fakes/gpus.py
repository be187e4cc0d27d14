"""GPUs that are not there: the file that the fake NVML reads, and what makes processes read it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NVML = HERE / "nvml"  # a folder with a `pynvml` in it
HOOK = HERE / "bin"  # and one with the hook that dockerd looks for
GIB = 1024**3


class FakeGpus:
    """The GPUs of a machine, as its NVML tells of them; every change is seen at the next look.

    Args:
        file: where they are written down.
        count: how many there are, of one model.
        memory_gib, name, driver: what each is like.
    """

    def __init__(
        self,
        file: Path,
        count: int = 8,
        *,
        memory_gib: int = 40,
        name: str = "NVIDIA A100-SXM4-40GB",
        driver: str = "550.54.15",
    ) -> None:
        self.file = file
        self.driver = driver
        self._machine = secrets.token_hex(2)  # so that no two tests have a GPU in common
        self.devices: list[dict[str, Any]] = [
            {
                "uuid": f"GPU-{number:08x}-{self._machine}-4000-8000-000000000000",
                "name": name,
                "memory": memory_gib * GIB,
                "use": 0,
                "processes": [],
            }
            for number in range(count)
        ]
        self.write()

    @property
    def uuids(self) -> list[str]:
        return [device["uuid"] for device in self.devices]

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to see them instead of real ones."""
        path = [str(NVML), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return {
            "MOORING_FAKE_NVML": str(self.file),
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        }

    def change(self, gpu: int | str, **what: Any) -> None:
        """Set anything of one GPU, named by its place or UUID: ``change(0, use=97)``."""
        self._device(gpu).update(what)
        self.write()

    def run(self, gpu: int | str, pid: int, memory_gib: float = 1.0) -> None:
        """A process has begun to compute on it."""
        self._device(gpu)["processes"].append({"pid": pid, "memory": int(memory_gib * GIB)})
        self.write()

    def end(self, gpu: int | str, pid: int) -> None:
        """That process is gone."""
        device = self._device(gpu)
        device["processes"] = [one for one in device["processes"] if one["pid"] != pid]
        self.write()

    def split(self, gpu: int | str, parts: Sequence[int] = (5, 5, 10, 20)) -> list[str]:
        """Switch MIG on and make an instance of each size in GiB. Returns their UUIDs."""
        device = self._device(gpu)
        number = self.devices.index(device)
        device["mig"] = [
            {
                "uuid": f"MIG-{number:08x}-{self._machine}-4000-8000-{part:012x}",
                "name": f"{device['name']} MIG {max(1, size // 5)}g.{size}gb",
                "memory": size * GIB,
                "processes": [],
            }
            for part, size in enumerate(parts)
        ]
        self.write()
        return [one["uuid"] for one in device["mig"]]

    def lose(self, gpu: int | str) -> None:
        """It has fallen off the bus, or the driver let go of it."""
        self.devices.remove(self._device(gpu))
        self.write()

    def write(self) -> None:
        """Replace the file whole: whoever reads sees the machine as it was, or as it is."""
        draft = self.file.with_name(f".{self.file.name}.new")
        draft.write_text(json.dumps({"driver": self.driver, "devices": self.devices}, indent=1))
        draft.replace(self.file)

    def _device(self, gpu: int | str) -> dict[str, Any]:
        if isinstance(gpu, int):
            return self.devices[gpu]
        everything = [
            one for device in self.devices for one in (device, *(device.get("mig") or []))
        ]
        return next(one for one in everything if one["uuid"] == gpu)
