"""Who else could replace a folder that is known by its name alone, such as one in ``/tmp``."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def flaw_as_roots(status: os.stat_result, owner: int = 0) -> str:
    """Return why a file or folder is not the administrator's alone, as a clause; empty if it is.

    Args:
        status: its status.
        owner: the user id that the administrator has.
    """
    if status.st_uid != owner:
        return "is not owned by root"
    return "is writable by other users" if status.st_mode & _WRITABLE_BY_OTHERS else ""


def distrust(folder: Path) -> str:
    """Return why a folder cannot be trusted to be what its name says.

    It can, if the folder and all folders above it belong to root or to the caller, and nobody else
    can write to them. Above it, folders with the sticky bit are accepted: in ``/tmp``, others can
    create files, but not replace those of root or the caller.

    Args:
        folder: an absolute path. Neither it nor a folder above it may be a symbolic link.

    Returns:
        The reason, as a clause; empty if the folder can be trusted.
    """
    for path in (*reversed(folder.parents), folder):
        try:
            status = path.lstat()
        except OSError as error:
            return f"{path}: {error.strerror}"
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and path != folder
        if stat.S_ISLNK(status.st_mode):
            return f"{path} is a link"
        if not stat.S_ISDIR(status.st_mode):
            return f"{path} is not a folder"
        if status.st_uid not in (0, os.getuid()):
            return f"{path} belongs to user {status.st_uid}"
        if status.st_mode & _WRITABLE_BY_OTHERS and not is_sticky:
            return f"others can write to {path}"
    return ""
