"""The project that a folder belongs to: what is mounted where no spec file says it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mooring.host.filesystems import is_below
from mooring.host.users import User
from mooring.images.sources import is_mountable, is_sensitive

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
    ``MARKERS``; without either, the folder itself. The user's home, what contains it, the home's
    hidden folders with all that is in them, and folders of other users are never a project of the
    folders below them. In a folder that others can write to, a marker means nothing.

    Args:
        folder: a resolved path.
        user: the session's owner.
        root: a folder above which no project is looked for, such as a Jupyter server's root;
            None for no such limit.
    """
    home = Path(os.path.realpath(user.home))
    hidden = _hidden(home)
    candidates = []
    for candidate in (folder, *folder.parents):
        if is_below(home, candidate) or not is_mountable(candidate):
            break
        info = _own(candidate, user)
        if info is None or _is_hidden(candidate, home, hidden):
            break
        if not _is_shared(candidate, info, user):
            candidates.append(candidate)
        if root is not None and candidate == Path(os.path.realpath(root)):
            break
    for names in (REPOSITORY, MARKERS):
        for candidate in candidates:
            if marker_of(candidate, names):
                return candidate
    return folder


def marker_of(folder: Path, names: tuple[str, ...] = REPOSITORY + MARKERS) -> str:
    """Return which of ``names`` a folder contains; empty for none.

    What belongs to neither the folder's owner nor root does not count.
    """
    for name in names:
        try:
            owner = os.lstat(folder / name).st_uid
            if owner in (0, folder.stat().st_uid):
                return name
        except OSError:
            continue
    return ""


def _own(folder: Path, user: User) -> os.stat_result | None:
    """Return what a folder is; None if it is not the user's."""
    try:
        info = folder.stat()
    except OSError:
        return None
    return info if info.st_uid == user.uid else None


def _hidden(home: Path) -> list[Path]:
    """Return where the links in a home lead whose names are those of folders with credentials."""
    try:
        with os.scandir(home) as entries:
            links = [one.path for one in entries if one.is_symlink()]
    except OSError:
        return []
    return [Path(os.path.realpath(link)) for link in links if is_sensitive(Path(link), home)]


def _is_hidden(folder: Path, home: Path, hidden: Iterable[Path]) -> bool:
    """Return whether a folder is a hidden one of the home, such as ``~/.config``, or is in one."""
    if is_sensitive(folder, home) or any(is_below(folder, top) for top in hidden):
        return True
    return is_below(folder, home) and folder.relative_to(home).parts[0].startswith(".")


def _is_shared(folder: Path, info: os.stat_result, user: User) -> bool:
    """Return whether others can write to a folder: they could rename a file to a marker."""
    if info.st_mode & stat.S_IWOTH:
        return True
    if not info.st_mode & stat.S_IWGRP:
        return False
    # With a umask of 002, all that a user makes is writable by the group that is the user's alone
    import grp

    try:
        group = grp.getgrgid(info.st_gid)
    except KeyError:
        return True
    if (info.st_gid, group.gr_name) != (user.gid, user.name) or set(group.gr_mem) - {user.name}:
        return True
    try:
        os.getxattr(folder, "system.posix_acl_access")
    except OSError:
        return False
    return True  # the group's bits are then those of whoever the list names
