"""Processes of this machine, told apart from later ones with the same number."""

from __future__ import annotations


def stat_fields(pid: int | str) -> list[str]:
    """The fields of ``/proc/PID/stat``, see proc_pid_stat(5).

    The second one, the name, may hold anything.

    Args:
        pid: a process id, or ``self``.

    Returns:
        Field N of the manual page at index N - 1; empty for a process that does not exist.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, rest = file.read().decode(errors="replace").rpartition(")")
    except OSError:
        return []
    number, _, name = head.partition(" (")
    return [number, name, *rest.split()]


def process_mark(pid: int) -> str:
    """A process and when it started, as ``PID:START``; ``PID:gone`` if it does not exist."""
    fields = stat_fields(pid)
    return f"{pid}:{fields[21]}" if len(fields) > 21 else f"{pid}:gone"


def alive(mark: str) -> bool:
    """Whether the process that ``process_mark`` named lives."""
    pid = mark.partition(":")[0]
    return pid.isdigit() and not mark.endswith(":gone") and process_mark(int(pid)) == mark
