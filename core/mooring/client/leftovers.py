"""What mooring keeps of a user on this machine, and would leave behind."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import NamedTuple

from mooring.errors import MooringError, SessionStateError
from mooring.host import trees
from mooring.host.paths import STATE_NAMES
from mooring.host.text import one_line, quoted
from mooring.sessions.context import Context


class StateFiles(NamedTuple):
    """The state folder of an installation.

    Attributes:
        folder: its path.
        size_bytes: the size of mooring's files in it.
        others: the names of what is in it and is not mooring's, sorted.
    """

    folder: Path
    size_bytes: int
    others: tuple[str, ...]


def state_files(ctx: Context) -> StateFiles:
    """Return what is in the state folder; see ``Records.state_files``."""
    folder = ctx.installation.path
    own, others = _names(folder)
    size_bytes = sum(_size(folder / name) for name in own)
    return StateFiles(folder, size_bytes, tuple(others))


def remove_state(ctx: Context) -> None:
    """Delete mooring's files in the state folder; see ``Records.remove_state``."""
    folder = ctx.installation.path
    left = [one.record().identity.name or one.id for one in ctx.folders()]
    if left:
        raise SessionStateError(
            f"{folder} has the files of sessions: {one_line(', '.join(sorted(left)), 200)}",
            "remove them first: mooring rm --all --force",
        )
    failed: OSError | None = None
    for name in _names(folder)[0]:
        try:
            trees.remove_path(folder / name)
        except OSError as error:
            failed = failed or error
    if failed:
        raise MooringError(
            f"cannot delete {one_line(failed.filename or folder)}: {failed.strerror}",
            f"as root: rm -rf -- {quoted(folder)}",
        )
    if not os.listdir(folder) and not folder.is_symlink():
        folder.rmdir()


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """The names of mooring's own files in a state folder, and those of others, sorted."""
    own, others = list[str](), list[str]()
    for name in sorted(os.listdir(folder)):
        is_own = any(fnmatch.fnmatchcase(name, pattern) for pattern in STATE_NAMES)
        (own if is_own else others).append(name)
    return own, others


def _size(path: Path) -> int:
    """The size of a file, or of the files below a folder; links are not followed."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(_size(Path(entry.path)) for entry in entries)
    except OSError:  # deleted meanwhile, or closed to its owner
        return 0
