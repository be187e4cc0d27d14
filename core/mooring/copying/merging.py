"""Files that have come whole, put where they belong: by renames, below folders' descriptors.

Links in the target are never followed: one that a file comes to is replaced, one where a folder
comes is an error.
"""

from __future__ import annotations

import contextlib
import os
import stat

from mooring.copying.unpacking import FOLDER, PLAIN_MODE, shown
from mooring.errors import MooringError


def place(draft: int, entry: str, folder: int, name: str) -> None:
    """Put an entry into a folder, under a name; ``.`` merges it into the folder itself.

    Folders on both sides are merged, and the one that is there keeps its mode; all else takes
    the place of what is there.

    Raises:
        MooringError: a file would take a folder's place, or the other way round; what was put
            in place before stays.
        OSError
    """
    if name == ".":
        there = os.dup(folder)
    else:
        kind = _kind(folder, name)
        here_kind = _kind(draft, entry)
        if here_kind != "folder" or kind in ("missing",):
            if kind == "folder":
                raise MooringError(
                    f"{shown(name)} is a folder here, and what came is none",
                    "remove it, or name another target",
                )
            _moved(draft, entry, folder, name, here_kind)
            return
        if kind != "folder":
            raise MooringError(
                f"{shown(name)} is a {kind} here, and what came is a folder",
                "remove it, or name another target",
            )
        there = os.open(name, FOLDER, dir_fd=folder)
    try:
        here = os.open(entry, FOLDER, dir_fd=draft)
        try:
            os.fchmod(here, 0o700)
            for each in os.listdir(here):
                place(here, each, there, each)
        finally:
            os.close(here)
    finally:
        os.close(there)


def removed(folder: int, name: str) -> None:
    """Delete an entry with all that is in it, also what its owner may not write to."""

    with contextlib.suppress(FileNotFoundError):
        if _kind(folder, name) != "folder":
            os.unlink(name, dir_fd=folder)
            return
        here = os.open(name, FOLDER, dir_fd=folder)
        try:
            os.fchmod(here, 0o700)
            for each in os.listdir(here):
                removed(here, each)
        finally:
            os.close(here)
        os.rmdir(name, dir_fd=folder)


def _moved(draft: int, entry: str, folder: int, name: str, kind: str) -> None:
    mode = None
    if kind == "folder":  # one that its owner cannot write to stays where it is
        mode = stat.S_IMODE(os.stat(entry, dir_fd=draft, follow_symlinks=False).st_mode)
        os.chmod(entry, mode | stat.S_IWUSR, dir_fd=draft)
    os.replace(entry, name, src_dir_fd=draft, dst_dir_fd=folder)
    if mode is not None and not mode & stat.S_IWUSR:
        os.chmod(name, mode & PLAIN_MODE, dir_fd=folder)


def _kind(folder: int, name: str) -> str:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return "missing"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "file"
