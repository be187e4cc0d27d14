"""Opening what a resolved path names, and nothing that a link leads to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mooring.host import nofollow


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder ``a/b`` with a file, a link to the folder ``a``, and a link to the file."""
    top = Path(os.path.realpath(tmp_path))
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("text")
    (top / "link").symlink_to("a")
    (top / "a" / "b" / "other").symlink_to("file")
    return top


def test_a_file_is_opened(top: Path) -> None:
    """A regular file that lies behind no link is opened for reading, and its path is known even
    after it was renamed."""
    with open(nofollow.open_regular(top / "a" / "b" / "file"), "rb") as file:
        assert file.read() == b"text"
        (top / "a").rename(top / "moved")
        assert nofollow.real_path(file.fileno(), top) == top / "moved" / "b" / "file"


@pytest.mark.parametrize("path", ["link/b/file", "a/b/other", "link/b/other"])
def test_no_link_is_followed_to_a_file(top: Path, path: str) -> None:
    """A link as any component is an error that is told apart from others."""
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r".") as caught:
        nofollow.open_regular(top / path)
    assert nofollow.was_replaced(caught.value)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("path", ["a/b/none", "a/none/file", "a/b", "a/b/fifo", "a/b/file/below"])
def test_what_is_no_regular_file(top: Path, path: str) -> None:
    """What is missing, a folder or a FIFO is an error at once, and none that speaks of links."""
    os.mkfifo(top / "a" / "b" / "fifo")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r".") as caught:
        nofollow.open_regular(top / path)
    assert not nofollow.was_replaced(caught.value)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_folder_is_created_with_its_parents(top: Path) -> None:
    """Missing folders are created, once, and as the caller's umask has it."""
    for _ in range(2):
        folder = nofollow.open_folder(top / "a" / "new" / "er", create=True)
        assert os.path.samestat(os.fstat(folder), os.stat(top / "a" / "new" / "er"))
        os.close(folder)
    os.mkdir(top / "plain")
    assert stat.S_IMODE(os.stat(top / "a" / "new").st_mode) == stat.S_IMODE(
        os.stat(top / "plain").st_mode
    )
    with pytest.raises(FileNotFoundError):
        nofollow.open_folder(top / "a" / "none")


def test_no_folder_is_created_behind_a_link(top: Path) -> None:
    """A link on the way, or in the folder's own place, also one that leads nowhere, is an error."""
    (top / "nowhere").symlink_to("missing")
    for path in ("link/new", "link", "nowhere", "nowhere/new"):
        with pytest.raises(OSError, match=r".") as caught:
            nofollow.open_folder(top / path, create=True)
        assert nofollow.was_replaced(caught.value)
    assert not (top / "missing").exists()
    assert [path.name for path in (top / "a").iterdir()] == ["b"]
