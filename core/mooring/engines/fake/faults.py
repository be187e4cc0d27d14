"""Record the calls of a fake engine, and inject errors into them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass
class _Fault:
    method: str
    error: Exception
    times: int
    done: bool


class Faults:
    """The recorded calls of an engine, and the errors to inject into the next ones. Thread-safe."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()

    def add(self, method: str, error: Exception, times: int, done: bool) -> Callable[[], None]:
        """As ``MemoryEngine.fail``."""
        fault = _Fault(method, error, times, done)
        self._faults.append(fault)
        return lambda: self._faults.remove(fault) if fault in self._faults else None

    @contextlib.contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Context manager that records a call, and raises its error before or after the body."""
        with self._lock:
            self.calls.append(method)
            fault = next((f for f in self._faults if f.method in (method, "*")), None)
            if fault is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
        if fault is not None and not fault.done:
            raise fault.error
        yield
        if fault is not None:
            raise fault.error
