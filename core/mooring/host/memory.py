"""This machine's memory."""

from __future__ import annotations

import os


def total_memory() -> int:
    """The memory of this machine in bytes, without what its kernel reserved at boot."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def has(size_bytes: int) -> bool:
    """Whether this machine has so much memory.

    One that is sold with 32 GiB has a little less, because its kernel reserves some at boot.
    """
    return size_bytes <= total_memory() * 9 // 8
