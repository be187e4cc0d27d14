"""Paths opened without following a symbolic link, component by component.

A path that was checked by its name may lead elsewhere when the name is used again. What is opened
here is what a resolved path names, or nothing: a link that has been put in the place of one of its
components is an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

# O_PATH needs no right to read a folder, only to pass it; elsewhere than on Linux there is none
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK and O_NOCTTY, because the file may have been replaced by a FIFO or a terminal
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_folder(path: Path, *, create: bool = False) -> int:
    """Open a folder, without following a link in any component of its path.

    Args:
        path: a resolved path.
        create: create the folder and its parents where they do not exist.

    Returns:
        A descriptor that is good for ``dir_fd`` and ``os.fstat``; the caller closes it.

    Raises:
        OSError: it cannot be opened or created; see ``was_replaced``.
    """
    here = os.open(path.anchor, _PASS)
    for name in path.parts[1:]:
        above = here
        try:
            here = enter(above, name, create=create)
        finally:
            os.close(above)
    return here


def open_regular(path: Path) -> int:
    """Open a regular file for reading, without following a link or blocking.

    Devices and FIFOs are not opened, unless one takes the file's place in this very moment.

    Args:
        path: a resolved path.

    Returns:
        The descriptor; the caller closes it.

    Raises:
        OSError: it cannot be opened, or is not a regular file; see ``was_replaced``.
    """
    folder = open_folder(path.parent)
    try:
        _refuse_special(os.stat(path.name, dir_fd=folder, follow_symlinks=False), path)
        descriptor = os.open(path.name, _READ, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _refuse_special(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def was_replaced(error: OSError) -> bool:
    """Whether an error of this module means that a link has taken the place of a component."""
    return error.errno == errno.ELOOP


def real_path(descriptor: int, path: Path) -> Path:
    """Return the resolved path of an open file, whatever its name leads to by now.

    Args:
        descriptor: the open file.
        path: the path by which it was opened; it is resolved anew where the system is not Linux.

    Raises:
        OSError: the path cannot be read.
    """
    if sys.platform != "linux":
        return Path(os.path.realpath(path))
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def enter(above: int, name: str, *, create: bool = False) -> int:
    """Open a folder in another one; as ``open_folder``.

    Args:
        above: a descriptor of the folder that it is in.
        name: its name there.
        create: create it where it does not exist.
    """
    try:
        return os.open(name, _PASS, dir_fd=above)
    except FileNotFoundError:
        if not create:
            raise
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.mkdir(name, dir_fd=above)
        return enter(above, name)
    except NotADirectoryError:  # Linux says of a link only that it is not a folder
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise


def _refuse_special(status: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
