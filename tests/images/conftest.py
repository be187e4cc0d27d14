"""Tests of images and mounts run on the fake engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind
from mooring.host.users import User
from mooring.images.mounts import MountPlan, SessionFolders, plan
from mooring.spec.model import SessionSpec
from tests.support.fake import clock, engine

__all__ = ["clock", "engine"]


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user whose home is empty."""
    home = tmp_path / "home"
    home.mkdir()
    return User(os.getuid(), os.getgid(), (), "ann", str(home))


@pytest.fixture
def folders(tmp_path: Path) -> SessionFolders:
    """A session's own folders."""
    names = ("home", "run", "programs", "secrets", "etc", "empty")
    paths = {name: tmp_path / "session" / name for name in names}
    for path in paths.values():
        path.mkdir(parents=True)
    programs = Bind(str(paths.pop("programs")), "/.mooring-0")
    return SessionFolders(**paths, programs=programs)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """An empty folder that is not in the project."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


Lay = Callable[..., MountPlan]


@pytest.fixture
def lay(project: Path, user: User) -> Lay:
    """``lay(folders, inputs=[…])``: the mount plan of a spec in the project."""

    def make(
        folders: SessionFolders | None = None,
        *,
        at: Path = project,
        cwd: Path | None = None,
        **spec: Any,
    ) -> MountPlan:
        return plan(
            SessionSpec.model_validate(spec), project=at, cwd=cwd or at, user=user, folders=folders
        )

    return make
