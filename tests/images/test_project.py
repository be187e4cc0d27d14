"""Which folder is a session's project where no spec file says it."""

from __future__ import annotations

import dataclasses
import grp
import os
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.host.users import User
from mooring.images.mounts import SessionFolders, plan
from mooring.images.project import MARKERS, REPOSITORY, marker_of, project_of
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


@pytest.mark.parametrize("top", [".config", ".ssh", ".local/share/app", ".newthing"])
def test_a_hidden_folder_of_the_home_is_no_project(user: User, top: str) -> None:
    """Settings kept in git make ``~/.config`` a repository; its tokens are not mounted for that."""
    hidden = Path(user.home) / top
    folder = hidden / "nvim" / "lua"
    folder.mkdir(parents=True)
    (hidden / ".git").mkdir()
    (folder.parent / "setup.cfg").touch()
    assert project_of(folder, user) == folder
    assert project_of(hidden, user) == hidden


def test_a_hidden_folder_may_be_a_link(notebooks: Path, user: User) -> None:
    """Of ``~/.config`` the session sees no more where it leads to another folder."""
    (notebooks.parent / ".git").mkdir()
    (Path(user.home) / ".cache").symlink_to(notebooks.parent)
    assert project_of(notebooks, user) == notebooks.parent
    (Path(user.home) / ".config").symlink_to(notebooks.parent)
    assert project_of(notebooks, user) == notebooks


def test_hidden_folders_of_a_project_are_part_of_it(notebooks: Path, user: User) -> None:
    """Only those at the home's top have settings of programs."""
    folder = notebooks / ".github" / "workflows"
    folder.mkdir(parents=True)
    (notebooks / ".git").mkdir()
    assert project_of(folder, user) == notebooks


@pytest.mark.parametrize("marker", [".git", "pyproject.toml"])
def test_another_users_marker_is_none(
    notebooks: Path, user: User, monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    """Whoever can write a file above the folder does not choose what is mounted."""
    real, owner = os.lstat, {"uid": user.uid + 1}

    def lstat(path: Path, **options: int) -> os.stat_result:
        info = real(path, **options)
        is_marker = Path(path).name == marker
        return os.stat_result((*info[:4], owner["uid"], *info[5:])) if is_marker else info

    (notebooks.parent / marker).touch()
    monkeypatch.setattr(os, "lstat", lstat)
    assert project_of(notebooks, user) == notebooks
    assert marker_of(notebooks.parent) == ""
    for uid in (0, user.uid):
        owner["uid"] = uid
        assert project_of(notebooks, user) == notebooks.parent


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757, 0o702])
def test_where_others_can_write_nothing_is_a_marker(notebooks: Path, user: User, mode: int) -> None:
    """They can rename a file of the user to one, also where they can make none."""
    (notebooks.parent / ".git").mkdir()
    notebooks.parent.chmod(mode)
    assert project_of(notebooks, user) == notebooks
    above = notebooks.parents[1] / "above"
    above.mkdir()
    (above / ".git").mkdir()
    notebooks.parent.rename(above / "ds")
    assert project_of(above / "ds" / "notebooks", user) == above


def test_the_users_own_group_is_nobody_else(
    notebooks: Path, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a umask of 002 every folder is writable by a group with the user's name."""
    (notebooks.parent / ".git").mkdir()
    notebooks.parent.chmod(0o775)
    members: list[str] = []
    group = {"name": user.name}

    def getgrgid(gid: int) -> grp.struct_group:
        return grp.struct_group((group["name"], "x", gid, members))

    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    mine = dataclasses.replace(user, gid=notebooks.parent.stat().st_gid)
    assert project_of(notebooks, mine) == notebooks.parent
    assert project_of(notebooks, dataclasses.replace(mine, gid=mine.gid + 1)) == notebooks
    members.append("eve")
    assert project_of(notebooks, mine) == notebooks
    members.clear()
    group["name"] = "lab"
    assert project_of(notebooks, mine) == notebooks


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
