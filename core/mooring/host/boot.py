"""This machine's boot: which one it is, and how long ago it began."""

from __future__ import annotations

import time
from pathlib import Path


def uptime() -> float:
    """Seconds since boot, suspended time included: proc_uptime(5), the time scale of clocks."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's random id of this boot, see random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
