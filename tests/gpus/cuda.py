"""Work on a real GPU by the driver's own library: no toolkit and no package is needed.

As a program it takes what it is to do from its arguments, prints a line of JSON for each, and, if
the last is ``wait``, lives until its standard input ends::

    python tests/gpus/cuda.py GPU-… allocate:268435456 use:5 wait

``allocate:BYTES`` keeps that much, ``use:SECONDS`` keeps the device busy for so long, ``units``
tells how many multiprocessors the process may use. A call that fails ends the program with its
name and CUDA's number.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time

LIBRARY = "libcuda.so.1"
BUFFER_BYTES = 1 << 28
MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT


class CudaError(Exception):
    """A call of the driver that failed: its name and CUDA's number for the reason."""


class Cuda:
    """A context on the first device that this process sees."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def allocate(self, count: int) -> int:
        """Allocate so many bytes of the device, until the process ends. Returns their address."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(count))
        return address.value

    def use(self, seconds: float) -> int:
        """Keep the device busy. Returns how many times a buffer was filled."""
        address, times = self.allocate(BUFFER_BYTES), 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(100):
                self._call(
                    "cuMemsetD32_v2",
                    ctypes.c_uint64(address), ctypes.c_uint(0), ctypes.c_size_t(BUFFER_BYTES // 4),
                )  # fmt: skip
            self._call("cuCtxSynchronize")
            times += 100
        return times

    def units(self) -> int:
        """Return how many multiprocessors this process may use."""
        count = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(count), MULTIPROCESSORS, self._device)
        return count.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(f"{name} failed with {code}")


def main() -> int:
    os.environ["CUDA_VISIBLE_DEVICES"] = sys.argv[1]
    steps = sys.argv[2:]
    try:
        cuda = Cuda()
        for step in steps:
            word, _, amount = step.partition(":")
            if word == "wait":
                sys.stdin.read()
                continue
            result = {
                "allocate": lambda n: cuda.allocate(int(n)),
                "use": lambda s: cuda.use(float(s)),
                "units": lambda _: cuda.units(),
            }[word](amount)
            print(json.dumps({word: result}), flush=True)
    except (CudaError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
