"""What a session has left in its private home."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mooring.host.trees import remove_path
from mooring.sessions.home import LONGEST_S, MOST_FILES, HomeFiles, home_files, removal_detail


def put(home: Path, name: str, text: str = "x") -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_are_counted_and_named(tmp_path: Path) -> None:
    """In order, with the first three named."""
    for name in ("checkpoints/c.pt", "b.csv", "a.csv", "z/y/x"):
        put(tmp_path, name, "12345678")
    files = home_files(tmp_path, 0.0)
    assert files == HomeFiles(4, 32, ("a.csv", "b.csv", "checkpoints/c.pt"))
    assert str(files) == "4 files (32 bytes): a.csv, b.csv, checkpoints/c.pt, …"
    assert bool(files)


def test_settings_and_caches_do_not_count(tmp_path: Path) -> None:
    """Hidden names at the top are programs'; further down they are the user's."""
    for name in (".cache/pip/x", ".bash_history", "work/.env"):
        put(tmp_path, name)
    assert home_files(tmp_path, 0.0).names == ("work/.env",)


def test_what_was_sent_does_not_count_until_it_changes(tmp_path: Path) -> None:
    """The user has those files elsewhere."""
    sent = put(tmp_path, "train.py")
    since = sent.stat().st_ctime + 0.001
    while put(tmp_path, ".probe").stat().st_ctime < since:  # it moves with the kernel's ticks
        pass
    assert not home_files(tmp_path, since)
    sent.write_text("changed")
    assert home_files(tmp_path, since).names == ("train.py",)


def test_only_files_count(tmp_path: Path) -> None:
    """An empty folder, a link and a pipe hold nothing that could be lost."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    files = home_files(tmp_path, 0.0)
    assert not files
    assert str(files) == ""


def test_a_hostile_name_is_one_line(tmp_path: Path) -> None:
    """A session chooses the names that the user reads."""
    put(tmp_path, "a\nb\x1b[2J" + "c" * 200)
    text = str(home_files(tmp_path, 0.0))
    assert text.isprintable()
    assert len(text) < 120


def test_what_cannot_be_read_is_no_error(tmp_path: Path) -> None:
    """Nothing may keep a session from being removed."""
    assert not home_files(tmp_path / "missing", 0.0)
    put(tmp_path, "file")
    assert not home_files(tmp_path / "file", 0.0)
    deep = tmp_path / "deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python's stack
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert home_files(tmp_path, 0.0).count == 1
    remove_path(deep)  # pytest's own clean-up is not up to it


def test_counting_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million files take no longer to describe than ten thousand."""
    monkeypatch.setattr("mooring.sessions.home.MOST_FILES", 5)
    for number in range(20):
        put(tmp_path, f"{number % 10}/{number}")
    files = home_files(tmp_path, 0.0)
    assert 5 <= files.count < 10
    assert str(files).startswith("more than ")
    assert MOST_FILES >= 1000


def test_the_history_says_what_was_removed() -> None:
    """The event has the reason, if there is one, and the files, if there are any."""
    files = HomeFiles(1, 6, ("a.csv",))
    words = "in its private home: 1 file (6 bytes): a.csv"
    assert removal_detail(files) == words
    assert removal_detail(files, "as its creation asked") == f"as its creation asked; {words}"
    assert removal_detail(HomeFiles(), "why") == "why"
    assert removal_detail(HomeFiles()) == ""


def test_folders_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that makes folders in folders with long names holds up nobody (11 s for 16,000
    before, and an hour for all that a file system takes)."""
    top = tmp_path / "home"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(6000):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    began = time.monotonic()
    files = home_files(top, 0.0)
    assert time.monotonic() - began < 2 * LONGEST_S
    monkeypatch.setattr("mooring.sessions.home.MOST_ENTRIES", 100)
    files = home_files(top, 0.0)
    assert files
    assert (files.count, files.complete) == (0, False)
    assert str(files) == "more folders than were looked at"
    put(top, "a")
    assert str(home_files(top, 0.0)).startswith("more than 1 file (")
    remove_path(top)


def test_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found by then is told, as not all."""
    monkeypatch.setattr("mooring.sessions.home.LONGEST_S", -1.0)
    put(tmp_path, "a")
    assert not home_files(tmp_path, 0.0).complete
