"""The sources of mounts, compared with what is mounted: the same file, or no session."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.engines.mounted import Mounted
from mooring.errors import PolicyError
from mooring.images.pinned import pinned


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "a" / "data"
    folder.mkdir(parents=True)
    return folder


def mounted(path: Path, writable: str = "", mount: int = 0) -> Mounted:
    found = path.stat()
    return Mounted(found.st_dev, found.st_ino, mount or found.st_ino, writable)


def test_the_same_file_is_let_through(data: Path, tmp_path: Path) -> None:
    """Folders, files and devices that are mounted as they were opened are right."""
    (tmp_path / "file").touch()
    paths = [data, tmp_path / "file", Path(os.devnull)]
    with pinned(Bind(str(path), f"/mnt/{path.name}") for path in paths) as sources:
        assert sources.targets == ["/mnt/data", "/mnt/file", "/mnt/null"]
        sources.compare([mounted(path) for path in paths])


@pytest.mark.parametrize("how", ["itself", "above", "gone", "folder"])
def test_what_is_not_at_its_real_path_is_refused(data: Path, tmp_path: Path, how: str) -> None:
    """A source that became a link, lies behind one now, or does not exist, is refused before the
    start; another folder at its path is one."""
    (tmp_path / "outside" / "data").mkdir(parents=True)
    swapped = data if how != "above" else data.parent
    swapped.rename(tmp_path / "aside")
    if how == "folder":
        data.mkdir()
        with pinned([Bind(str(data), "/mnt/data")]):
            return
    if how != "gone":
        swapped.symlink_to(tmp_path / "outside")
    with pytest.raises(PolicyError, match="/mnt/data"), pinned([Bind(str(data), "/mnt/data")]):
        pass


def test_another_file_is_refused(data: Path, tmp_path: Path) -> None:
    """What the engine mounted instead, or did not mount, is told by its target."""
    (tmp_path / "b").mkdir()
    wrong = [None, mounted(tmp_path), mounted(tmp_path / "b")]
    binds = [Bind(str(tmp_path / "b"), "/mnt/b"), Bind(str(data), "/mnt/data")]
    with pinned(binds) as sources:
        for found in wrong:
            with pytest.raises(PolicyError, match="the mount at /mnt/data has changed"):
                sources.compare([mounted(tmp_path / "b"), found])


def test_the_number_of_a_file_is_not_used_again(data: Path, tmp_path: Path) -> None:
    """A source that is removed keeps its inode to itself as long as it is compared."""
    with pinned([Bind(str(data), "/mnt/data")]) as sources:
        inode = data.stat().st_ino
        data.rmdir()
        for number in range(200):
            (tmp_path / str(number)).mkdir()
            assert (tmp_path / str(number)).stat().st_ino != inode
        with pytest.raises(PolicyError):
            sources.compare([mounted(tmp_path / "0")])


def test_what_is_to_be_read_only_is(data: Path) -> None:
    """A file system below an input that can be written to is refused, and named."""
    found = mounted(data, writable="/mnt/data/sub")
    refused = pytest.raises(PolicyError, match=r"^/mnt/data/sub is writable")
    with pinned([Bind(str(data), "/mnt/data")]) as sources, refused:
        sources.compare([found])
    with pinned([Bind(str(data), "/mnt/data", read_only=False)]) as sources:
        sources.compare([found])


def test_nothing_is_left_open(data: Path) -> None:
    """The sources are closed after the block, and when one of them is refused."""

    def opened() -> int:
        links = []
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/self/fd/{entry}"))
        return links.count(str(data))

    with pinned([Bind(str(data), "/mnt/data")] * 50):
        assert opened() == 50
    missing = Bind(str(data / "missing"), "/mnt/missing")
    with pytest.raises(PolicyError), pinned([Bind(str(data), "/mnt/data"), missing]):
        pass
    assert opened() == 0


def test_a_mount_that_is_missing_is_refused(data: Path) -> None:
    """A folder that is mounted onto itself, and seen without that mount, is the same file and not a
    mount point: it could be renamed."""
    binds = [Bind(str(data.parent), "/p", False), Bind(str(data), "/p/data", False)]
    with pinned(binds) as sources:
        sources.compare([mounted(data.parent, mount=7), mounted(data, mount=8)])
        with pytest.raises(PolicyError, match="the mount at /p/data"):
            sources.compare([mounted(data.parent, mount=7), mounted(data, mount=7)])
