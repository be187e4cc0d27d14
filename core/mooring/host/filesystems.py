"""The file systems that are mounted on this machine, see proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_MOUNT_POINT = 4  # the field's index


def mount_points(table: Path = _TABLE) -> tuple[str, ...]:
    """Return the paths at which file systems are mounted, outermost first.

    Args:
        table: a file in the format of ``/proc/self/mountinfo``.

    Returns:
        Each path once; empty on a system that has no such file.
    """
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return ()
    fields = (line.split(b" ") for line in lines)
    points = {_unescaped(words[_MOUNT_POINT]) for words in fields if len(words) > _MOUNT_POINT}
    return tuple(sorted(points, key=lambda point: (point.count("/"), point)))


def mount_point_of(path: str, points: Iterable[str]) -> str:
    """Return the mount point that a path is, or lies below.

    Args:
        path: an absolute path without symbolic links.
        points: the mount points, as ``mount_points`` returns them.
    """
    above = [point for point in points if path == point or path.startswith(point.rstrip("/") + "/")]
    return max(above, key=len, default="/")


def _unescaped(field: bytes) -> str:
    """Decode a field, in which spaces, tabs, newlines and backslashes are octal escapes."""
    return os.fsdecode(_ESCAPE.sub(lambda code: bytes([int(code[1], 8) & 0xFF]), field))
