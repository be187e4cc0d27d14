"""How much memory a process has taken."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def peak_kib(pid: int) -> int:
    """The most memory that the process has held so far, in KiB; 0 if it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found.group(1)) if found else 0
    return 0
