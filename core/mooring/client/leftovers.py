"""What mooring keeps of a user on this machine, and would leave behind."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from pathlib import Path
from typing import NamedTuple

from mooring.errors import MooringError, SessionStateError
from mooring.host import trees
from mooring.host.paths import STATE_FILES
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
    own, others = _files(folder)
    size_bytes = sum(map(_size, own))
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
    for path in _files(folder)[0]:
        try:
            trees.remove_path(path)
        except OSError as error:
            failed = failed or error
    if failed:
        raise MooringError(
            f"cannot delete {one_line(failed.filename or folder)}: {failed.strerror}",
            f"as root: rm -rf -- {quoted(folder)}",
        )
    for name in sorted(STATE_FILES, reverse=True):  # itself at the end
        with contextlib.suppress(OSError):  # it has other files, or is a link
            (folder / name).rmdir()


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """Mooring's own files in a state folder, and the names of others, sorted."""
    own, others = list[Path](), list[str]()
    for name, patterns in STATE_FILES.items():
        inner = folder / name
        for entry in sorted(os.listdir(inner)) if inner.is_dir() and not _is_link(inner) else ():
            shown = os.path.join(name, entry)
            if any(fnmatch.fnmatchcase(entry, pattern) for pattern in patterns):
                own.append(inner / entry)
            elif name or entry not in STATE_FILES or _is_link(inner / entry):
                others.append(shown)
    return own, sorted(others)


def _is_link(path: Path) -> bool:
    return path.name in STATE_FILES and path.is_symlink()


def _size(path: Path) -> int:
    """The size of a file, or of the files below a folder; links are not followed."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(_size(Path(entry.path)) for entry in entries)
    except OSError:  # deleted meanwhile, or closed to its owner
        return 0
