"""Where a session's mounts go."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mooring.host.users import caller
from mooring.images import mounts
from mooring.sessions.record import Folder
from mooring.spec.model import SessionSpec


def test_a_home_that_is_the_project_is_mounted_once(state: Path, tmp_path: Path) -> None:
    """A session made from the home folder has that folder, and no private home over it."""
    user = dataclasses.replace(caller(), home=str(tmp_path))
    folder = Folder.create("0123456789ab", {"id": "0123456789ab"})
    try:
        plan = mounts.plan(SessionSpec(), project=tmp_path, cwd=tmp_path, user=user, folder=folder)
    finally:
        folder.release()
    assert [bind.source for bind in plan.binds if bind.target == user.home] == [str(tmp_path)]


def test_a_home_that_is_not_asked_for_is_private(state: Path, tmp_path: Path) -> None:
    """Without `home: true` and outside the home, the home in the session is its own."""
    user = dataclasses.replace(caller(), home=str(tmp_path / "home"))
    project = tmp_path / "project"
    project.mkdir()
    folder = Folder.create("0123456789ab", {"id": "0123456789ab"})
    try:
        plan = mounts.plan(SessionSpec(), project=project, cwd=project, user=user, folder=folder)
    finally:
        folder.release()
    assert [bind.source for bind in plan.binds if bind.target == user.home] == [str(folder.home)]


def note_of(folder: Path, home: Path, *, asked: bool = False) -> str:
    user = dataclasses.replace(caller(), home=str(home))
    return mounts.plan(SessionSpec(home=asked), project=folder, cwd=folder, user=user).note


@pytest.mark.parametrize("folder", ["/", "/tmp", "/var/tmp", "/usr", "/opt", "/mnt", "/etc"])
def test_a_folder_that_is_not_mounted_is_noted(state: Path, tmp_path: Path, folder: str) -> None:
    """Whose current folder is the system's is told that it is not there, and where one is."""
    told = f"{folder} is not mounted; the working directory is {tmp_path}, "
    assert note_of(Path(folder), tmp_path) == f"{told}a home of its own"
    assert note_of(Path(folder), tmp_path, asked=True) == f"{told}your home"


def test_a_home_that_is_mounted_unasked_is_noted(state: Path, tmp_path: Path) -> None:
    """Whose current folder is or holds the home is told so, unless they asked for their home."""
    home = tmp_path / "me"
    (home / "work").mkdir(parents=True)
    assert note_of(home, home).startswith(f"your home, {home}, is mounted, writable")
    assert note_of(tmp_path, home).startswith(f"your home, {home}, lies in {tmp_path} and so is")
    assert note_of(home, home, asked=True) == ""
    assert note_of(home / "work", home) == ""
