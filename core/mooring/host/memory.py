"""This machine's memory."""

from __future__ import annotations

import os


def total_memory() -> int:
    """The memory of this machine in bytes, without what its kernel reserved at boot."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
