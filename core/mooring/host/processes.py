"""Processes of this machine, identified by process id and start time."""

from __future__ import annotations

import os


def stat_fields(pid: int | str) -> list[str]:
    """The fields of ``/proc/PID/stat``, see proc_pid_stat(5).

    The second field, the name, may contain any characters.

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
    """Identify a process as ``PID:START_TIME``; ``PID:gone`` if it does not exist."""
    fields = stat_fields(pid)
    return f"{pid}:{fields[21]}" if len(fields) > 21 else f"{pid}:gone"


def alive(mark: str) -> bool:
    """Whether the process that ``process_mark`` identified still exists."""
    pid = mark.partition(":")[0]
    return pid.isdigit() and not mark.endswith(":gone") and process_mark(int(pid)) == mark


def living_name(pid: int) -> str:
    """The name of a process, which the kernel truncates to 15 bytes.

    Returns:
        The name, which may contain any characters; empty for a process that does not exist or is
        a zombie.
    """
    fields = stat_fields(pid)
    return "" if len(fields) < 3 or fields[2] in ("Z", "X") else fields[1]


def owner_name(pid: int) -> str:
    """The name of a process's user, or ``uid N``; empty if the process does not exist."""
    import pwd

    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
