"""This machine's memory."""

from __future__ import annotations

from pathlib import Path

from mooring.host.memory import total_memory


def test_the_memory_is_what_the_kernel_says() -> None:
    """The total is MemTotal of proc_meminfo(5), which counts in KiB."""
    line = Path("/proc/meminfo").read_text().splitlines()[0]
    assert total_memory() == int(line.split()[1]) * 1024
