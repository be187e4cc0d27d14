"""The files of a stopped session: never mooring's own, never through a link made later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.files.pack import pack
from mooring.files.paths import CopyError
from mooring.files.tree import Tree
from mooring.sessions.folder import SessionFolder
from mooring.sessions.record import Layout


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mooring's own folder, within one that a session has mounted."""
    path = tmp_path / "home" / ".state"
    path.mkdir(parents=True, mode=0o700)
    (path / "key").write_text("secret")
    monkeypatch.setenv("MOORING_STATE_DIR", str(path))
    return path


@pytest.fixture
def tree(tmp_path: Path, own: Path) -> Tree:
    folder = SessionFolder(own / "sessions" / "0123")
    (folder.path / "empty").mkdir(parents=True)
    folder.home.mkdir()
    (folder.home / "kept").write_text("kept")
    layout = Layout(
        workdir="/h",
        binds=(
            (str(folder.home), "/private", False),
            (str(tmp_path / "home"), "/h", False),
            (str(folder.path / "empty"), "/h/.state", False),
            (os.devnull, "/h/socket", False),
            (str(folder.run), "/run/mooring", False),
        ),
        image=("/usr",),
    )
    return Tree("box", folder.home, own, layout)


def text(tree: Tree, path: str) -> str:
    with tree.opened(tree.find(path, follow=True)) as entry:
        file = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=entry.above)
        with os.fdopen(file) as lines:
            return lines.read()


def test_a_private_home_is_there_though_it_lies_in_moorings_own(tree: Tree) -> None:
    """The private home is the one folder of mooring's that can be had."""
    assert text(tree, "/private/kept") == "kept"


@pytest.mark.parametrize(
    "path", [".state/key", "link/key", "moved/key", "socket", "/run/mooring/x", "/usr/bin/env"]
)
def test_moorings_own_cannot_be_had(tree: Tree, tmp_path: Path, own: Path, path: str) -> None:
    """By no path, by no link, and not after a session has given it another name."""
    (tmp_path / "home" / "link").symlink_to(own)
    if path.startswith("moved"):
        own.rename(tmp_path / "home" / "moved")
    with pytest.raises(CopyError, match="box is not running"):
        text(tree, path)


def test_moorings_own_does_not_come_along(tree: Tree, tmp_path: Path, own: Path) -> None:
    """A folder that holds it is copied without it, and that is told."""
    (tmp_path / "home" / "mine").write_text("mine")
    warnings: list[str] = []
    with tree.opened(tree.find(".", follow=True)) as entry:
        out = tree.left_out(("h",))
        chunks = pack(
            entry.above,
            entry.name,
            "x",
            warn=warnings.append,
            progress=lambda _: None,
            left_out=out,
        )
        data = b"".join(chunks)
    assert b"mine" in data
    assert b"secret" not in data
    assert warnings == ["left out: .state is mooring's own folder"]


def test_a_mount_that_became_a_link_is_not_followed(tree: Tree, tmp_path: Path) -> None:
    """The folder that was mounted counts, and no link that took its name."""
    (tmp_path / "home").rename(tmp_path / "was")
    (tmp_path / "home").symlink_to("/etc")
    with pytest.raises((CopyError, OSError)):
        text(tree, "passwd")
