"""Which folder is a session's project where no spec file says it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.host.users import User
from mooring.images.mounts import SessionFolders, plan
from mooring.images.project import MARKERS, REPOSITORY, project_of
from mooring.spec.model import SessionSpec


@pytest.fixture
def notebooks(user: User) -> Path:
    """``~/ds/notebooks``."""
    folder = Path(user.home) / "ds" / "notebooks"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("marker", [*REPOSITORY, *MARKERS])
def test_a_marker_above_makes_the_project(notebooks: Path, user: User, marker: str) -> None:
    """``../data`` and ``../models`` of a notebook lie in the project (enterprise_gateway#930)."""
    (notebooks.parent / marker).touch()
    assert project_of(notebooks, user) == notebooks.parent


def test_without_a_marker_the_folder_is_the_project(notebooks: Path, user: User) -> None:
    """Nothing else is mounted on a guess."""
    assert project_of(notebooks, user) == notebooks


def test_a_repository_counts_more_than_a_nearer_marker(notebooks: Path, user: User) -> None:
    """A package in a repository needs the repository's data."""
    (notebooks / "requirements.txt").touch()
    assert project_of(notebooks, user) == notebooks
    (notebooks.parent / ".git").mkdir()
    assert project_of(notebooks, user) == notebooks.parent


def test_the_nearest_repository_counts(notebooks: Path, user: User) -> None:
    """A repository in another one, such as a submodule, is a project of its own."""
    (notebooks / ".git").touch()
    (notebooks.parent / ".git").mkdir()
    assert project_of(notebooks, user) == notebooks


def test_a_marker_may_be_a_broken_link(notebooks: Path, user: User) -> None:
    """It need not lead anywhere, as that of a worktree whose repository was moved."""
    (notebooks.parent / ".git").symlink_to("/nowhere")
    assert project_of(notebooks, user) == notebooks.parent


def test_the_home_is_no_project(notebooks: Path, user: User) -> None:
    """Settings kept in git make the home a repository; its keys are not mounted for that."""
    home = Path(user.home)
    (home / ".git").mkdir()
    (home.parent / ".git").mkdir()
    assert project_of(notebooks, user) == notebooks
    assert project_of(home, user) == home


def test_nothing_above_a_servers_root_is_the_project(notebooks: Path, user: User) -> None:
    """A Jupyter server's user sees the root and what is below it."""
    (notebooks.parent / ".git").mkdir()
    assert project_of(notebooks, user, notebooks) == notebooks
    assert project_of(notebooks, user, notebooks.parent) == notebooks.parent
    link = Path(user.home) / "root"
    link.symlink_to(notebooks)
    assert project_of(notebooks, user, link) == notebooks


def test_another_users_repository_is_no_project(notebooks: Path, user: User) -> None:
    """In a folder that others can write to, anybody can put a marker."""
    (notebooks.parent / ".git").mkdir()
    other = dataclasses.replace(user, uid=user.uid + 1)
    assert project_of(notebooks, other) == notebooks


@pytest.mark.parametrize("folder", ["/", "/tmp", "/home", "/usr/lib", "/nowhere/at/all"])
def test_system_folders_are_what_they_are(user: User, folder: str) -> None:
    """A folder that cannot be mounted is left to the plan, which says so."""
    assert project_of(Path(folder), user) == Path(folder)


# The plan


def laid(user: User, folders: SessionFolders, mounted: Path, cwd: Path, **spec: object):  # type: ignore[no-untyped-def]
    declared = SessionSpec.model_validate(spec)
    return plan(declared, project=cwd, cwd=cwd, user=user, mounted=mounted, folders=folders)


def test_the_user_is_told_of_a_project_that_is_more_than_the_folder(
    notebooks: Path, user: User, folders: SessionFolders
) -> None:
    """The working directory stays, and the note says what is mounted and why."""
    (notebooks.parent / "pyproject.toml").touch()
    made = laid(user, folders, notebooks.parent, notebooks)
    assert made.workdir == str(notebooks)
    assert Bind(str(notebooks.parent), str(notebooks.parent), False) in made.binds
    assert made.note == f"your project, {notebooks.parent}, is mounted: it contains pyproject.toml"
    assert made.grants == ()


def test_a_folder_that_only_leads_to_a_mount_is_read_only(
    notebooks: Path, user: User, folders: SessionFolders
) -> None:
    """What is written beside the mount would be deleted with the session."""
    made = laid(user, folders, notebooks, notebooks)
    assert made.leading == (Bind(os.path.realpath(folders.home / "ds"), f"{user.home}/ds", True),)


def test_hidden_folders_stay_writable(user: User, folders: SessionFolders) -> None:
    """Programs keep their settings there, whatever is mounted in one."""
    hidden = Path(user.home) / ".local" / "work"
    hidden.mkdir(parents=True)
    assert laid(user, folders, hidden, hidden).leading == ()


def test_no_folder_leads_to_the_real_home(
    notebooks: Path, user: User, folders: SessionFolders
) -> None:
    """With ``home: true`` all its folders are the user's own."""
    assert laid(user, folders, notebooks, notebooks, home=True).leading == ()


def test_a_project_at_the_homes_top_has_no_way_to_it(user: User, folders: SessionFolders) -> None:
    """A mount in the place of the folder is the folder."""
    top = Path(user.home) / "ds"
    top.mkdir()
    assert laid(user, folders, top, top).leading == ()
    assert laid(user, folders, Path(user.home), top).leading == ()
