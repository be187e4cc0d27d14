"""Mount points in the caller's folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.errors import PolicyError
from mooring.images.mount_points import create_mount_points


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_folders_and_files_are_made(home: Path, source: Path) -> None:
    """A mount point is a folder or an empty file, like what is mounted there; its parents are
    folders. Doing it again changes nothing."""
    (source / "file").touch()
    binds = [
        Bind(f"{source}/file", "/home/me/x/file"),
        Bind(str(source), "/home/me/de/ep"),
        Bind(str(home), "/home/me", False),
    ]
    for _ in range(2):
        create_mount_points(binds, "/home/me")
        assert (home / "de" / "ep").is_dir()
        assert (home / "x" / "file").read_text() == ""


def test_a_mount_point_in_another_mount(home: Path, source: Path) -> None:
    """A mount point is made in the innermost mount above it, not in those outside."""
    binds = [Bind(str(home), "/h", False), Bind(str(source), "/h/s", False), Bind("/usr", "/h/s/u")]
    create_mount_points(binds, "/h")
    assert (source / "u").is_dir()
    assert os.listdir(home) == ["s"]
    assert os.listdir(home / "s") == []


def test_what_is_in_the_image_is_the_engines(home: Path, source: Path) -> None:
    """A mount point outside all binds is not made here."""
    create_mount_points([Bind(str(home), "/h", False), Bind(str(source), "/mnt/x")], "/elsewhere")
    assert os.listdir(home) == []


def test_the_working_directory_is_made(home: Path) -> None:
    """A working directory that is missing in a bind is created there."""
    create_mount_points([Bind(str(home), "/h", False)], "/h/a/b")
    assert (home / "a" / "b").is_dir()


def test_a_missing_source_is_the_mount_point_itself(home: Path) -> None:
    """A folder of a bind that is mounted onto itself is created."""
    binds = [Bind(str(home), "/h", False), Bind(f"{home}/new/er", "/h/new/er", False)]
    create_mount_points(binds, "/h")
    assert (home / "new" / "er").is_dir()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
@pytest.mark.parametrize("where", ["x", "x/y"])
def test_no_link_is_followed(home: Path, source: Path, kind: str, where: str) -> None:
    """A link or a file in the place of a folder is an error, and nothing is made behind it."""
    (home / "x").mkdir()
    if where == "x":
        (home / "x").rmdir()
    place = home / where
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(source if kind == "link" else source / "none")
    with pytest.raises(PolicyError, match="a link or a file is in the place of a folder") as caught:
        create_mount_points([Bind(str(home), "/h", False), Bind("/usr", "/h/x/y")], "/h")
    assert str(home) in caught.value.hint
    assert os.listdir(source) == []


def test_a_source_behind_a_link_is_not_followed(home: Path, source: Path, tmp_path: Path) -> None:
    """A folder above a mount's source that became a link is an error, too."""
    (tmp_path / "link").symlink_to(source)
    (source / "inner").mkdir()
    binds = [Bind(f"{tmp_path}/link/inner", "/h", False), Bind("/usr", "/h/x")]
    with pytest.raises(PolicyError, match="link"):
        create_mount_points(binds, "/h")
    assert os.listdir(source / "inner") == []


def test_a_missing_mount_point_in_a_read_only_bind(home: Path) -> None:
    """What is missing in a read-only bind is an error; what is there is not touched."""
    (home / "there").mkdir()
    read_only = Bind(str(home), "/h")
    create_mount_points([read_only, Bind("/usr", "/h/there")], "/h/there")
    for target in ("/h/missing", "/h/missing/er"):
        with pytest.raises(PolicyError, match=f"{target} cannot be mounted in {home}: it is miss"):
            create_mount_points([read_only, Bind("/usr", target)], "/h")
        with pytest.raises(PolicyError, match="it is missing"):
            create_mount_points([read_only], target)
    assert os.listdir(home) == ["there"]


def test_a_mask_over_a_special_file(home: Path) -> None:
    """A file of any kind is a mount point for a file."""
    os.mkfifo(home / "socket")
    create_mount_points([Bind(str(home), "/h"), Bind(os.devnull, "/h/socket")], "/h")


@pytest.mark.parametrize("target", ["/h/../x/y", "/h//x", "/h/./x", "/h/x/"])
def test_only_a_plain_path_is_made(home: Path, source: Path, target: str) -> None:
    """Nothing is made outside of the folder that a mount point lies in."""
    with pytest.raises(PolicyError, match="it is not a plain path"):
        create_mount_points([Bind(str(home), "/h", False), Bind(str(source), target)], "/h")
    assert os.listdir(home) == []
    assert sorted(os.listdir(home.parent)) == ["home", "source"]
