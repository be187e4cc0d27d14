"""Files that are replaced whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mooring.host import atomic


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    """The text is there afterwards, in UTF-8, and nothing else is left in the folder."""
    path = tmp_path / "record"
    for text in ("first", "zweite, größer", ""):
        atomic.write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Nobody but its owner can read it, at no moment."""
    before = os.umask(0)
    try:
        atomic.write_text(tmp_path / "record", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["open", "replace"])
def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever fails, the old content stands and no draft is left."""
    path = tmp_path / "record"
    atomic.write_text(path, "old")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    if name == "replace":
        monkeypatch.setattr(Path, "replace", fail)
        text = "new"
    else:
        text = "\ud800"  # no UTF-8: the write itself fails
    with pytest.raises((OSError, UnicodeEncodeError)):
        atomic.write_text(path, text)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    """No folder is made for it."""
    with pytest.raises(FileNotFoundError):
        atomic.write_text(tmp_path / "missing" / "record", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_one_whole_text(tmp_path: Path) -> None:
    """While several write, a reader sees what one of them wrote, and all of that."""
    path = tmp_path / "record"
    texts = [letter * 20_000 for letter in "abc"]
    atomic.write_text(path, texts[0])

    def write(text: str) -> None:
        for _ in range(50):
            atomic.write_text(path, text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_text() in texts
    for thread in threads:
        thread.join()
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]
