"""Moving a draft to its target: through no link, over no other kind, and by descriptors."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import MooringError
from mooring.files.merge import place
from mooring.host import trees

NOBODY = 65534
PR_SET_DUMPABLE = 4


class Ground:
    """A draft, the folder that it lies in, and a file outside that must not be touched."""

    def __init__(self, top: Path) -> None:
        self.target, self.draft, self.outside = top / "t", top / "t" / "draft", top / "outside"
        self.draft.mkdir(parents=True)
        self.outside.write_text("precious")
        self.outside.chmod(0o600)

    def place(self, name: str) -> None:
        draft, target = (os.open(each, os.O_RDONLY) for each in (self.draft, self.target))
        try:
            place(draft, "x", target, name)
        finally:
            os.close(draft)
            os.close(target)

    def swap(self, path: Path) -> None:
        """What the session does meanwhile: a link to the file outside, by the folder's name."""
        path.rename(path.with_name("aside"))
        path.symlink_to(self.outside)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_link_put_in_the_drafts_place_is_not_followed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that becomes a link after it was looked at changes no mode of another file."""
    (ground.draft / "x").mkdir(0o500)
    stat_of: Callable[..., os.stat_result] = os.stat
    looked: list[object] = []

    def then_swapped(path: Any, **options: Any) -> os.stat_result:
        info = stat_of(path, **options)
        looked.append(path)
        if looked.count("x") == 2 and path == "x":  # once to compare, once to move
            ground.swap(ground.draft / "x")
        return info

    monkeypatch.setattr(os, "stat", then_swapped)
    with pytest.raises(NotADirectoryError):
        ground.place("new")
    assert mode_of(ground.outside) == 0o600


def test_a_link_put_in_the_targets_place_is_not_followed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that takes the folder's name when it has been put in place."""
    (ground.draft / "x").mkdir(0o500)
    replace: Callable[..., None] = os.replace

    def then_swapped(*args: str, **fds: int) -> None:
        replace(*args, **fds)
        ground.swap(ground.target / "new")

    monkeypatch.setattr(os, "replace", then_swapped)
    ground.place("new")
    assert mode_of(ground.outside) == 0o600
    assert mode_of(ground.target / "aside") == 0o500


def test_a_merge_that_cannot_go_on_to_its_end_does_not_begin(ground: Ground) -> None:
    """Where one file would take a folder's place, however deep, none is put in place."""
    (ground.draft / "x" / "d").mkdir(parents=True)
    (ground.target / "d" / "m").mkdir(parents=True)
    for name in ("a", "d/a", "d/m", "d/z", "z"):
        (ground.draft / "x" / name).write_text("new")
        if name != "d/m":
            (ground.target / name).write_text("old")
    with pytest.raises(MooringError, match="m is a folder here"):
        ground.place(".")
    assert {(ground.target / name).read_text() for name in ("a", "d/a", "d/z", "z")} == {"old"}
    (ground.target / "d" / "m").rmdir()
    ground.place(".")
    assert (ground.target / "d" / "m").read_text() == "new"


def as_a_plain_user(folder: Path, do: Callable[[int], None]) -> int:
    """Call it with the folder's descriptor as a user who owns what is in it; its exit code."""
    descriptor = os.open(folder, os.O_RDONLY)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # /proc/self stays its own
            do(descriptor)
            code = 0
        finally:
            os._exit(code)
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_folder_that_nobody_may_read_is_removed(tmp_path: Path) -> None:
    """A draft with a folder of mode 000 in it goes, whoever it belongs to."""
    below = tmp_path / "draft" / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_text("x")
    if os.getuid() == 0:
        for path in (tmp_path, *(tmp_path / "draft").rglob("*"), tmp_path / "draft"):
            os.chown(path, NOBODY, NOBODY)
    for path in (below, below.parent):
        path.chmod(0)
    assert as_a_plain_user(tmp_path, lambda folder: trees.remove(folder, "draft")) == 0
    assert os.listdir(tmp_path) == []


def test_a_folder_that_nobody_may_read_is_merged(tmp_path: Path) -> None:
    """What is in a folder of mode 000 is put in place all the same."""
    (tmp_path / "x" / "sub").mkdir(parents=True)
    (tmp_path / "there" / "sub").mkdir(parents=True)
    (tmp_path / "x" / "sub" / "file").write_text("x")
    if os.getuid() == 0:
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    (tmp_path / "x" / "sub").chmod(0)
    assert as_a_plain_user(tmp_path, lambda folder: place(folder, "x", folder, "there")) == 0
    assert (tmp_path / "there" / "sub" / "file").read_text() == "x"
