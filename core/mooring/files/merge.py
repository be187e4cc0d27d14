"""Files that have come whole, put where they belong: by renames, below folders' descriptors.

Links in the target are never followed: one that a file comes to is replaced, one where a folder
comes is an error.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from mooring.errors import MooringError
from mooring.files.unpack import FOLDER, PLAIN_MODE, shown


def place(draft: int, entry: str, folder: int, name: str) -> None:
    """Put an entry into a folder, under a name; ``.`` merges it into the folder itself.

    Folders on both sides are merged, and the one that is there keeps its mode; all else takes
    the place of what is there. Kinds are compared all over before the first is put in place.

    Raises:
        MooringError: a file would take a folder's place, or the other way round; nothing was put
            in place, unless somebody changed it meanwhile.
        OSError: what was put in place before stays.
    """
    _walk(draft, entry, folder, name, lambda *_: None)
    _walk(draft, entry, folder, name, _moved)


def removed(folder: int, name: str) -> None:
    """Delete an entry with all that is in it, also what its owner may neither read nor write."""

    with contextlib.suppress(FileNotFoundError):
        if _kind(folder, name) != "folder":
            os.unlink(name, dir_fd=folder)
            return
        here = _unlocked(folder, name)
        try:
            for each in os.listdir(here):
                removed(here, each)
        finally:
            os.close(here)
        os.rmdir(name, dir_fd=folder)


def _walk(draft: int, entry: str, folder: int, name: str, do: Callable[..., None]) -> None:
    """Do it to whatever is not merged: the draft, the entry, the folder, the name, the kind."""
    if name == ".":
        there = os.dup(folder)
    else:
        kind = _kind(folder, name)
        here_kind = _kind(draft, entry)
        if here_kind != "folder" or kind == "missing":
            if kind == "folder":
                raise MooringError(
                    f"{shown(name)} is a folder here, and what came is none",
                    "remove it, or name another target",
                )
            do(draft, entry, folder, name, here_kind)
            return
        if kind != "folder":
            raise MooringError(
                f"{shown(name)} is a {kind} here, and what came is a folder",
                "remove it, or name another target",
            )
        there = os.open(name, FOLDER, dir_fd=folder)
    try:
        here = _unlocked(draft, entry)
        try:
            for each in os.listdir(here):
                _walk(here, each, there, each, do)
        finally:
            os.close(here)
    finally:
        os.close(there)


def _moved(draft: int, entry: str, folder: int, name: str, kind: str) -> None:
    if kind != "folder":
        os.replace(entry, name, src_dir_fd=draft, dst_dir_fd=folder)
        return
    with _held(draft, entry) as held:
        mode = stat.S_IMODE(os.stat(held).st_mode)
        if not mode & stat.S_IWUSR:  # one that its owner cannot write to stays where it is
            os.chmod(held, mode | stat.S_IWUSR)
        os.replace(entry, name, src_dir_fd=draft, dst_dir_fd=folder)
        if not mode & stat.S_IWUSR:
            os.chmod(held, mode & PLAIN_MODE)


def _unlocked(folder: int, name: str) -> int:
    """A descriptor of a folder that its owner may read and write from now on."""
    with _held(folder, name) as held:
        os.chmod(held, 0o700)
        return os.open(held, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextlib.contextmanager
def _held(folder: int, name: str) -> Iterator[str]:
    """A path that leads to this very folder, whatever takes its name meanwhile.

    Whoever the target is shared with may put a link there, which ``os.chmod`` would follow.
    """
    held = os.open(name, os.O_PATH | FOLDER, dir_fd=folder)
    try:
        yield f"/proc/self/fd/{held}"
    finally:
        os.close(held)


def _kind(folder: int, name: str) -> str:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return "missing"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "file"
