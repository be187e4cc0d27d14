"""What `image: host` mounts of this machine, and the policy's `host_paths`."""

from __future__ import annotations

import json
import os
import site
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.images import host_environment as of_host
from mooring.images.host_environment import host_environment, is_system
from tests.policy.support import Plant, refusal

Allow = Callable[..., None]


@pytest.fixture
def allow(plant: Plant, project: Path, monkeypatch: pytest.MonkeyPatch) -> Allow:
    """A policy that allows the project, what this Python is made of, and some folders."""
    own = [project, *(source for _, source in host_environment().sources)]

    def write(*folders: Path) -> None:
        plant(f"host_paths: {json.dumps([str(folder) for folder in (*own, *folders)])}")

    return write


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder that the policy does not allow."""
    folder = tmp_path / "private"
    folder.mkdir()
    return folder


def test_what_this_machine_consists_of_is_implied(
    service: Mooring, declare: Any, allow: Allow
) -> None:
    """A policy that allows the image `host` need not name /usr, /opt and the like."""
    allow()
    service.sessions.create(declare())
    assert is_system("/usr")
    assert is_system("/usr/lib/python3")
    assert is_system("/etc/ssl")
    assert not is_system("/etc")
    assert not is_system("/home")


@pytest.mark.parametrize("spelling", ["plain", "trailing slash", "relative"])
def test_pythonpath_is_held_against_it(
    service: Mooring,
    engine: FakeEngine,
    declare: Any,
    allow: Allow,
    private: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    spelling: str,
) -> None:
    """A folder that PYTHONPATH brings into the host image is refused by that name and by its real
    path, however it is written; on another image it is not mounted and does not matter."""
    text = {"trailing slash": f"{private}/", "relative": os.path.relpath(private)}.get(spelling)
    monkeypatch.setenv("PYTHONPATH", text or str(private))
    monkeypatch.setattr(sys, "path", [*sys.path, str(private)])
    allow()
    error = refusal(lambda: service.sessions.create(declare()))
    assert error.message.startswith(f"image host, PYTHONPATH: {private} is outside the folders")
    assert not engine.containers
    engine.images["other"] = "sha256:1"
    service.sessions.create(declare(image="other", command="sleep 9"))
    allow(private)
    service.sessions.create(declare())


@pytest.mark.parametrize("what", ["prefix", "base_prefix", "user site", "sys.path", "finder"])
def test_the_environment_is_held_against_it(
    service: Mooring,
    declare: Any,
    allow: Allow,
    private: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """So are a virtual environment, the Python below it, the user's own packages, what a .pth file
    adds, and a project whose editable install has a finder."""
    allow()
    if what == "user site":
        monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
        monkeypatch.setattr(site, "getusersitepackages", lambda: str(private))
    elif what == "finder":
        monkeypatch.setattr(of_host, "editable_projects", lambda: [str(private)])
    elif what == "sys.path":
        monkeypatch.setattr(sys, "path", [*sys.path, str(private)])
    else:
        monkeypatch.setattr(sys, what, str(private))
    word = {"user site": "your own Python packages", "sys.path": "sys.path"}.get(what)
    word = "an editable install" if what == "finder" else word
    error = refusal(lambda: service.sessions.create(declare()))
    assert error.message.startswith(f"image host, {word or 'the Python environment'}: {private}")


def test_it_is_asked_at_the_start_as_well(
    service: Mooring,
    declare: Any,
    allow: Allow,
    private: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stopped session whose host image has a folder that is not allowed any more stays so."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(private)])
    allow(private)
    session = service.sessions.create(declare()).session
    service.sessions.stop(session)
    allow()
    assert f"mount at {private}" in refusal(lambda: service.sessions.start(session)).message
    allow(private)
    service.sessions.start(session)


@pytest.mark.parametrize("folder", ["/proc", "/run", "state"])
def test_no_environment_brings_the_machine_in(
    service: Mooring,
    declare: Any,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
) -> None:
    """Without a policy, too, what no spec may mount cannot be mounted by PYTHONPATH."""
    path = str(state) if folder == "state" else folder
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(sys, "path", [*sys.path, path])
    assert refusal(lambda: service.sessions.create(declare())).message.startswith(
        f"image host, PYTHONPATH: {os.path.realpath(path)} "
    )
