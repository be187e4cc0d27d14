"""Why a kernel's process ended, in words for users.

A kernel host writes ``exit`` into a kernel's folder when its process has exited, see
``guest/kernelhost.py``. Programs in the session can write that file too: nothing in it is trusted.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Protocol

from mooring.host.untrusted import parse_json

MAX_SIGNAL, MAX_EXIT_CODE = 64, 255
KILLED = -signal.SIGKILL
# From this share of /dev/shm on, a bus error is put down to it
_FULL = 0.9
_LARGEST = 1 << 60


class ExitLog(Protocol):
    """The part of ``History`` that records a kernel's exit."""

    def add(self, session: str, kind: str, actor: str, detail: str = "", at: float = 0.0) -> None:
        """Add an event; ``at`` is in seconds since the epoch."""


@dataclass(frozen=True)
class Exit:
    """The exit of a kernel's process.

    Attributes:
        code: its exit code, negative for a signal.
        out_of_memory: whether it was killed because the session had used up its memory.
        shm_bytes, shm_used_bytes: the size of /dev/shm and what was used of it, for SIGBUS; 0 if
            unknown.
    """

    code: int
    out_of_memory: bool = False
    shm_bytes: int = 0
    shm_used_bytes: int = 0

    def describe(self, memory_limit: str = "") -> str:
        """Describe it: ``exit code 1``, ``killed by SIGKILL``, ``out of memory``.

        Args:
            memory_limit: of the session, as text; empty for none.
        """
        if self.out_of_memory:
            return f"out of memory (limit {memory_limit})" if memory_limit else "out of memory"
        if self.code >= 0:
            return f"exit code {self.code}"
        names = {int(number): number.name for number in signal.Signals}
        killed = f"killed by {names.get(-self.code, f'signal {-self.code}')}"
        if self.code != -signal.SIGBUS or not self.shm_bytes:
            return killed
        size = _size(self.shm_bytes)
        if self.shm_used_bytes >= _FULL * self.shm_bytes:
            return f"{killed}: /dev/shm is full (limit {size})"
        return f"{killed}: a file in memory was cut short, or /dev/shm was full (limit {size})"

    def hint(self) -> str:
        """Return what a user can do about it; empty for nothing."""
        if self.out_of_memory:
            return "give the session more memory: --memory SIZE, or memory: SIZE in its spec"
        if self.code == -signal.SIGBUS and self.shm_bytes:
            return "give the session more shared memory: --shm SIZE, or shm: SIZE in its spec"
        return ""


def parse_exit(text: str) -> Exit:
    """Read an exit file; what is invalid counts as killed by SIGKILL."""
    try:
        content = parse_json(text)
    except ValueError:
        content = None
    fields: dict[str, Any] = content if isinstance(content, dict) else {}
    code: Any = fields.get("code")
    possible = type(code) is int and -MAX_SIGNAL <= code <= MAX_EXIT_CODE
    shm = fields.get("shm")
    size, used = shm if isinstance(shm, list) and len(shm) == 2 else (0, 0)
    return Exit(code if possible else KILLED, fields.get("oom") is True, _count(size), _count(used))


def _size(size_bytes: int) -> str:
    mib = size_bytes / (1 << 20)
    return f"{mib:.3g} MiB" if mib < 1000 else f"{mib / 1024:.3g} GiB"


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _LARGEST else 0
