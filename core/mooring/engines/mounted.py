"""What is mounted in a running container, as this machine sees it.

Nothing runs in the container: the kernel shows a process's files in ``/proc/PID/root`` and its
mounts in ``/proc/PID/mountinfo`` to its owner (ptrace(2), PTRACE_MODE_READ_FSCREDS).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mooring.host.filesystems import LINKS_MAX, Mount, mounts

# elsewhere than on Linux there is no O_PATH, and `mooring doctor` has to say so
_AT = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC


class Mounted(NamedTuple):
    """The file or folder at a path in a container.

    Attributes:
        device, inode: its identity on this machine.
        mount: the number of the mount that it is reached through.
        writable: the path of a mount through which it, or something below it, can be written to;
            empty if there is none. Mounts at and below the other paths in question do not count.
        deleted: it has no name on this machine any more.
    """

    device: int
    inode: int
    mount: int
    writable: str
    deleted: bool = False


def mounted_at(pid: int, paths: Sequence[str]) -> list[Mounted | None] | None:
    """Look at paths in the root folder of a process.

    Args:
        pid: the process id.
        paths: absolute paths.

    Returns:
        What is at each path, None for nothing; None if the process is not visible, or not yet.
    """
    with contextlib.ExitStack() as stack:
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, root)
            table = mounts(Path(f"/proc/{pid}/mountinfo"))
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            return None
        if not table:
            return None
        found: list[tuple[os.stat_result, int] | None] = []
        for path in paths:
            try:
                with opened_in(root, path) as descriptor:
                    found.append((os.fstat(descriptor), _mount_id(descriptor)))
            except OSError:
                found.append(None)
    writable = _writable(table, {mount for _, mount in filter(None, found)})
    return [
        None
        if one is None
        else Mounted(
            one[0].st_dev,
            one[0].st_ino,
            one[1],
            writable.get(one[1], ""),
            deleted=one[0].st_nlink == 0,
        )
        for one in found
    ]


def _mount_id(descriptor: int) -> int:
    """The number of the mount that an open file was reached through."""
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _writable(table: Iterable[Mount], tops: set[int]) -> dict[int, str]:
    """The path of a writable mount at or below each of ``tops``, where there is one."""
    writable: dict[int, str] = {}
    numbered = {mount.id: mount for mount in table}
    on_top = {
        mount.parent: mount.id
        for mount in table
        if mount.parent in numbered and mount.point == numbered[mount.parent].point
    }
    for mount in table:
        if mount.read_only or mount.id in on_top:
            continue
        top: Mount | None = mount
        while top is not None and top.id not in tops:
            above = numbered.get(top.parent) if top.parent != top.id else None
            if above is not None and on_top.get(above.id, top.id) != top.id:
                above = None  # it lies in what another mount hides
            top = above
        if top is not None:
            writable.setdefault(top.id, mount.point)
    return writable


@contextlib.contextmanager
def opened_in(root: int, path: str) -> Iterator[int]:
    """Open a path as a process with that root folder would, also where links lead.

    Args:
        root: a descriptor of the root folder.
        path: an absolute path.

    Yields:
        A descriptor of the file or folder, which allows no more than ``fstat`` (O_PATH).

    Raises:
        OSError: there is nothing at the path, or it leads through too many links.
    """
    parts = path.split("/")[::-1]  # the next one is the last
    above, links = [os.dup(root)], 0  # from the root folder to where we are
    try:
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(above) > 1:
                    os.close(above.pop())
                continue
            descriptor = os.open(part, _AT, dir_fd=above[-1])
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                above.append(descriptor)
                continue
            try:
                target = os.readlink("", dir_fd=descriptor)
            finally:
                os.close(descriptor)
            links += 1
            if links > LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                while len(above) > 1:
                    os.close(above.pop())
            parts += target.split("/")[::-1]
        yield above[-1]
    finally:
        for descriptor in above:
            os.close(descriptor)
