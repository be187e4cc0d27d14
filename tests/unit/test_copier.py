"""cp between this machine and a session: what fails on this machine is told as what it is."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mooring.files import copier as module
from mooring.files import pack, paths
from mooring.files.copier import Copier, Looked
from mooring.files.pack import header
from mooring.files.paths import CopyError


class Process:
    """A process in the session: prints what it is given, takes all, and ends with its code."""

    def __init__(self, output: bytes = b"", code: int = 0, complaint: str = "") -> None:
        self._output, self._code, self.complaint = io.BytesIO(output), code, complaint

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, data: bytes) -> bool:
        return True

    def exactly(self, size: int) -> bytes:
        return self._output.read(size)

    def finish(self) -> int:
        return self._code


class Held(Copier):
    """A session in which these things lie, and that says these things."""

    def __init__(self, looked: Looked, process: Process | None = None) -> None:
        session: Any = SimpleNamespace(name="box")
        super().__init__(session, session)
        self.looked, self.process = looked, process or Process()

    def _look(self, path: str) -> Looked:
        return self.looked

    def _run(self, *words: str) -> Any:
        return self.process


FILE = Looked("file", "file", parent=True, tar=True)
FOLDER = Looked("folder", "folder", parent=True, tar=True)
NEW = Looked("missing", "missing", parent=True, tar=True)
CONTENT = header("x", b"0", os.stat(os.devnull)) + bytes(1024)


def failing(number: int, name: object = None) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), name)

    return fail


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the folder that one may not read ends the copy with one line that names it."""
    (tmp_path / "secret").write_text("x")
    opened = os.open

    def no_secret(path: Any, *args: Any, **kept: Any) -> int:
        if path == "secret":
            failing(errno.EACCES, path)()
        return opened(path, *args, **kept)

    monkeypatch.setattr(pack.os, "open", no_secret)
    with pytest.raises(CopyError, match=r"^secret: Permission denied "):
        Held(NEW).send(str(tmp_path), "there")


def test_a_target_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of another user's, as a target, is one line."""
    monkeypatch.setattr(paths, "_folder", failing(errno.EACCES, str(tmp_path)))
    with pytest.raises(CopyError, match=r"^/.*: Permission denied "):
        Held(FILE).fetch("x", str(tmp_path))


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is named, and nothing is left in its folder."""
    monkeypatch.setattr(module.Unpacker, "unpack", failing(errno.ENOSPC))
    with pytest.raises(CopyError, match="out: No space left on device "):
        Held(FILE).fetch("x", str(tmp_path / "out"))
    assert os.listdir(tmp_path) == []


def test_drafts_that_cannot_be_listed_hinder_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clearing up after others is no condition of a copy."""
    monkeypatch.setattr(paths, "_sweep", failing(errno.EIO))
    assert Held(FILE, Process(CONTENT)).fetch("x", str(tmp_path / "out"))
    assert (tmp_path / "out").is_file()


def test_a_stream_that_cannot_be_read_is_told() -> None:
    """`mooring cp - NAME:PATH < FOLDER` is no fault of mooring's."""
    source: Any = type("Folder", (), {"read": failing(errno.EISDIR)})()
    with pytest.raises(CopyError, match="standard input: Is a directory"):
        Held(FOLDER).send_tar(source, "there")


@pytest.mark.parametrize(("looked", "promised"), [(NEW, True), (FOLDER, False)])
def test_nothing_half_is_promised_where_nothing_is_merged(
    tmp_path: Path, looked: Looked, promised: bool
) -> None:
    """The hint of a copy that the session refused says so only where a rename did it all."""
    with pytest.raises(CopyError) as refused:
        Held(looked, Process(code=1, complaint="mv: no")).send(str(tmp_path), "there")
    assert ("nothing was left half" in refused.value.hint) is promised
