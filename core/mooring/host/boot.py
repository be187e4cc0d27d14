"""This machine's boot: its id, and the time since."""

from __future__ import annotations

import time
from pathlib import Path


def uptime() -> float:
    """Seconds since boot, including time suspended, as in proc_uptime(5)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's random id for this boot, see random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
