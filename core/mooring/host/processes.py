"""Processes of this machine, told apart from later ones with the same number."""

from __future__ import annotations


def process_mark(pid: int) -> str:
    """A process and when it started, as ``PID:START``; ``PID:gone`` for one that is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return f"{pid}:{file.read().rpartition(b')')[2].split()[19].decode()}"
    except (OSError, IndexError):
        return f"{pid}:gone"


def alive(mark: str) -> bool:
    """Whether the process that ``process_mark`` named lives."""
    pid = mark.partition(":")[0]
    return pid.isdigit() and not mark.endswith(":gone") and process_mark(int(pid)) == mark
