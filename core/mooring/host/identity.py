"""What tells one folder from another at the same path, also after a restart of the machine."""

from __future__ import annotations

import os
from pathlib import Path

# linux/fs.h: the generation of an inode, which differs when its number is used again
_GET_GENERATION = 0x80087601


def folder_identity(path: Path) -> str:
    """Return the identity of a folder: the same as long as it exists, wherever it is moved.

    Three numbers: the id of its file system, from ``statvfs``, because device numbers change when
    the machine is restarted; its inode; and the inode's generation, because ext4 and others give
    the inode of a deleted folder to the next one. Where a file system has no generations, or the
    folder cannot be read, the last is 0.

    Args:
        path: the folder; links are followed.

    Raises:
        OSError: it does not exist, or is not a folder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it can be passed, and not read
        return f"{os.statvfs(path).f_fsid:x}:{os.stat(path).st_ino:x}:0"
    try:
        system, inode = os.fstatvfs(descriptor).f_fsid, os.fstat(descriptor).st_ino
        return f"{system:x}:{inode:x}:{_generation(descriptor):x}"
    finally:
        os.close(descriptor)


def _generation(descriptor: int) -> int:
    import fcntl

    try:
        answer = fcntl.ioctl(descriptor, _GET_GENERATION, bytes(8))
    except OSError:
        return 0
    return int.from_bytes(answer[:4], "little")
