"""The file systems that are mounted on this machine or for a process; proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_FIELDS = 7  # of a line, at least
LINKS_MAX = 40  # symbolic links that Linux follows in one path, path_resolution(7)


class Mount(NamedTuple):
    """A mounted file system, or a part of one.

    Attributes:
        device: identifies the file system.
        root: the path in the file system that is mounted.
        point: the path at which it is mounted.
        id, parent: the numbers of the mount, and of the mount that it is on.
        read_only: whether nothing can be written through it.
    """

    device: str
    root: str
    point: str
    id: int = 0
    parent: int = 0
    read_only: bool = False


def is_below(path: str | Path, top: str | Path) -> bool:
    """Whether a path is ``top`` or below it; both must be absolute, without symbolic links."""
    return str(path) == str(top) or str(path).startswith(f"{str(top).rstrip('/')}/")


def mounts(table: Path = _TABLE) -> tuple[Mount, ...]:
    """Return what is mounted, in the order of mounting.

    Args:
        table: a file in the format of ``/proc/self/mountinfo``.

    Returns:
        Nothing where there is no such file, or the caller may not read it.
    """
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return ()
    rows = (line.split(b" ") for line in lines)
    return tuple(_mount_of(row) for row in rows if len(row) >= _FIELDS)


def mount_points(table: Path = _TABLE) -> tuple[str, ...]:
    """Return the paths at which file systems are mounted, each once, outermost first.

    Args:
        table: as for ``mounts``.
    """
    points = {mount.point for mount in mounts(table)}
    return tuple(sorted(points, key=lambda point: (point.count("/"), point)))


def mount_point_of(path: str, points: Iterable[str]) -> str:
    """Return the mount point that a path is, or lies below.

    Args:
        path: an absolute path without symbolic links.
        points: the mount points, as ``mount_points`` returns them.
    """
    above = [point for point in points if is_below(path, point)]
    return max(above, key=len, default="/")


def aliases(path: str, mounted: Iterable[Mount]) -> set[str]:
    """Return the other paths of a file or folder, and of parts of it that are mounted elsewhere.

    A bind mount shows a folder at a second path, which resolving links does not tell.

    Args:
        path: an absolute path without symbolic links.
        mounted: what is mounted, as ``mounts`` returns it.

    Returns:
        Paths that exist.
    """
    own = Mount("", "/", "")
    for mount in mounted:  # of several at one point, the last one is visible
        if path.startswith(mount.point) and len(mount.point) >= len(own.point):
            own = mount if is_below(path, mount.point) else own
    place = _joined(own.root, path[len(own.point.rstrip("/")) :])
    found = set()
    for mount in (one for one in mounted if one.device == own.device and one is not own):
        if is_below(place, mount.root):
            other = _joined(mount.point, place[len(mount.root.rstrip("/")) :])
            if other != path and _is_same(path, other):
                found.add(other)
        elif is_below(mount.root, place):
            part = _joined(path, mount.root[len(place.rstrip("/")) :])
            if part != mount.point and _is_same(part, mount.point):
                found.add(mount.point)
    return found


def _mount_of(row: list[bytes]) -> Mount:
    device, root, point = map(_unescaped, row[2:5])
    options = row[5].split(b",") + row[-1].split(b",")  # the mount's, and the file system's
    return Mount(device, root, point, int(row[0]), int(row[1]), b"ro" in options)


def _joined(folder: str, rest: str) -> str:
    return f"{folder.rstrip('/')}/{rest.lstrip('/')}".rstrip("/") or "/"


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # another file system is mounted above it, or it is not the caller's to see
        return False


def _unescaped(field: bytes) -> str:
    """Decode a field, in which spaces, tabs, newlines and backslashes are octal escapes."""
    return os.fsdecode(_ESCAPE.sub(lambda code: bytes([int(code[1], 8) & 0xFF]), field))
