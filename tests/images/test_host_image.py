"""This machine as an image."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.images.environment import PYTHON
from mooring.images.host_image import host_image, root_layout, root_tar


def test_the_host_image_is_imported_once(engine: FakeEngine) -> None:
    """The almost empty root filesystem is imported at the first use, and found afterwards."""
    first = host_image(engine)
    assert host_image(engine) == first
    assert engine.calls.count("import_image") == 1


def test_the_host_image_holds_nothing_of_anybody() -> None:
    """The root filesystem has only folders and links; /sbin is a folder, for an engine's init."""
    with tarfile.open(fileobj=io.BytesIO(root_tar(root_layout()))) as tar:
        entries = {entry.name: entry for entry in tar}
    assert all(entry.isdir() or entry.issym() for entry in entries.values())
    assert entries["sbin"].isdir()
    assert entries["tmp"].mode == 0o1777
    assert not {"sbin/init", "sbin/docker-init"} & entries.keys()
    if os.path.islink("/bin"):
        assert entries["bin"].linkname == "usr/bin"


def test_the_machine_is_read_only(engine: FakeEngine) -> None:
    """The mounts of the host image exist on this machine, and are never writable."""
    binds = host_image(engine).binds
    assert all(bind.read_only for bind in binds)
    assert all(os.path.exists(bind.source) for bind in binds)
    targets = [bind.target for bind in binds]
    assert "/usr" in targets
    assert len(targets) == len(set(targets))


def test_nothing_secret_of_the_machine(engine: FakeEngine) -> None:
    """Passwords, keys and homes of this machine are not mounted."""
    targets = [bind.target for bind in host_image(engine).binds]
    for secret in ("/etc", "/etc/shadow", "/etc/ssh", "/root", "/home", "/var", "/run", "/"):
        assert secret not in targets


def test_the_calling_python_is_there(engine: FakeEngine) -> None:
    """The interpreter that made the session is there by the same path, with its programs; those of
    the session's own environment come first."""
    image = host_image(engine)
    assert image.python == PYTHON
    tops = [bind.target for bind in image.binds]
    for path in {sys.executable, os.path.realpath(sys.executable)}:
        assert any(path.startswith(f"{top}/") for top in tops)
    path = dict(image.env)["PATH"].split(":")
    assert path[:2] == [os.path.dirname(PYTHON), os.path.join(sys.prefix, "bin")]


def test_a_relative_path_of_modules_is_not_mounted(
    engine: FakeEngine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program adds to its module path by a relative path is no mount; all targets are
    absolute, else the search for the mount above them has no end."""
    (project / "src").mkdir()
    monkeypatch.syspath_prepend("src")
    assert all(bind.target.startswith("/") for bind in host_image(engine).binds)


def test_the_folder_that_python_was_started_in_is_not_mounted(
    engine: FakeEngine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder is not mounted, although it is on the module path."""
    monkeypatch.syspath_prepend(str(project))
    assert str(project) not in {bind.source for bind in host_image(engine).binds}
