"""Where a session's mounts go."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mooring import mounts
from mooring.folder import Folder
from mooring.spec import SessionSpec
from mooring.users import caller


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
