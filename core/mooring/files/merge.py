"""Move complete files and folders to their target by renames, relative to file descriptors.

Symbolic links in the target are never followed: a file replaces a link, and a folder in place of a
link is an error.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from mooring.errors import MooringError
from mooring.files.unpack import FOLDER, PLAIN_MODE, shown
from mooring.host import trees


def place(draft: int, entry: str, folder: int, name: str) -> None:
    """Move an entry of a draft folder into a folder.

    A folder that exists on both sides is merged, and the target keeps its mode; everything else is
    replaced. All entries are checked before the first one is moved.

    Args:
        draft: a file descriptor of the draft folder.
        entry: a name in it.
        folder: a file descriptor of the target's parent folder.
        name: the entry's new name; `.` merges it into the folder itself.

    Raises:
        MooringError: a file would replace a folder, or a folder a file; nothing was moved, unless
            another process changed the target in the meantime.
        OSError: entries that were already moved remain.
    """
    _walk(draft, entry, folder, name, lambda *_: None)
    _walk(draft, entry, folder, name, _move)


def _walk(draft: int, entry: str, folder: int, name: str, do: Callable[..., None]) -> None:
    """Call `do(draft, entry, folder, name, kind)` for each entry that is not a merged folder."""
    with trees.Cursor(draft) as here, trees.Cursor(folder) as there:
        pending: list[Iterator[tuple[str, str]]] = [iter([(entry, name)])]
        while pending:
            pair = next(pending[-1], None)
            if pair is None:
                pending.pop()
                if pending:
                    here.up()
                    there.up()
                continue
            entry, name = pair
            entry_kind = _kind(here.folder, entry)
            if not _merges(entry_kind, there.folder, name):
                do(here.folder, entry, there.folder, name, entry_kind)
                continue
            there.down(name)
            os.close(trees.opened(here.folder, entry))
            here.down(entry)
            pending.append((each, each) for each in here.names())


def _merges(entry_kind: str, folder: int, name: str) -> bool:
    """Whether an entry is merged into the folder of that name, and does not take its place."""
    if name == ".":
        return True
    kind = _kind(folder, name)
    if entry_kind != "folder" or kind == "missing":
        if kind == "folder":
            raise MooringError(
                f"{shown(name)} is a folder here, and the source is not",
                "remove it, or use another target",
            )
        return False
    if kind != "folder":
        raise MooringError(
            f"{shown(name)} is a {kind} here, and the source is a folder",
            "remove it, or use another target",
        )
    return True


def _move(draft: int, entry: str, folder: int, name: str, kind: str) -> None:
    if kind != "folder":
        os.replace(entry, name, src_dir_fd=draft, dst_dir_fd=folder)
        return
    with _path_of(draft, entry) as path:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if not mode & stat.S_IWUSR:  # a folder that its owner cannot write to cannot be moved
            os.chmod(path, mode | stat.S_IWUSR)
        os.replace(entry, name, src_dir_fd=draft, dst_dir_fd=folder)
        if not mode & stat.S_IWUSR:
            os.chmod(path, mode & PLAIN_MODE)


@contextlib.contextmanager
def _path_of(folder: int, name: str) -> Iterator[str]:
    """A path that refers to this folder even if another file takes its name in the meantime.

    In a shared target another user could put a link there, which `os.chmod` would follow.
    """
    descriptor = os.open(name, os.O_PATH | FOLDER, dir_fd=folder)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _kind(folder: int, name: str) -> str:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return "missing"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "file"
