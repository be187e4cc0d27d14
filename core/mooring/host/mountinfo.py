"""The mounts of a process, from ``/proc/PID/mountinfo`` (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class MountPoint:
    """A mount as a process sees it.

    Attributes:
        id, parent: the numbers of the mount, and of the mount that it is on.
        path: where it is, in the process's root folder.
        read_only: whether nothing can be written through it.
    """

    id: int
    parent: int
    path: str
    read_only: bool


def mounts_of(pid: int | str = "self") -> list[MountPoint]:
    """The mounts of a process, in the order in which they were made.

    Args:
        pid: its process id; ``self`` for this process.

    Raises:
        OSError: there is no such process, or the caller may not see its mounts.
    """
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return [_mount_of(line) for line in file.read().splitlines()]


def _mount_of(line: bytes) -> MountPoint:
    mount, _, superblock = line.partition(b" - ")
    fields = mount.split(b" ")
    options = fields[5].split(b",") + superblock.split(b" ")[-1].split(b",")
    path = _OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), fields[4])
    return MountPoint(int(fields[0]), int(fields[1]), os.fsdecode(path), b"ro" in options)
