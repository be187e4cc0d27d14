"""The project that a folder belongs to: what is mounted where no spec file says it."""

from __future__ import annotations

import os
from pathlib import Path

from mooring.host.filesystems import is_below
from mooring.host.users import User
from mooring.images.sources import is_mountable

REPOSITORY = (".git", ".hg", ".svn")
MARKERS = (
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "requirements.txt",
    "environment.yml",
    "session.yml",
)


def project_of(folder: Path, user: User, root: Path | None = None) -> Path:
    """Return the folder of the project that a folder belongs to.

    That is the nearest repository that it lies in; without one, the nearest folder with one of
    ``MARKERS``; without either, the folder itself. The user's home, what contains it, and folders
    of other users are never a project of the folders below them.

    Args:
        folder: a resolved path.
        user: the session's owner.
        root: a folder above which no project is looked for, such as a Jupyter server's root;
            None for no such limit.
    """
    home = Path(os.path.realpath(user.home))
    candidates = []
    for candidate in (folder, *folder.parents):
        if is_below(home, candidate) or not is_mountable(candidate) or not _owned(candidate, user):
            break
        candidates.append(candidate)
        if root is not None and candidate == Path(os.path.realpath(root)):
            break
    for names in (REPOSITORY, MARKERS):
        for candidate in candidates:
            if marker_of(candidate, names):
                return candidate
    return folder


def marker_of(folder: Path, names: tuple[str, ...] = REPOSITORY + MARKERS) -> str:
    """Return which of ``names`` a folder contains; empty for none."""
    return next((name for name in names if os.path.lexists(folder / name)), "")


def _owned(folder: Path, user: User) -> bool:
    try:
        return folder.stat().st_uid == user.uid
    except OSError:
        return False
