"""cp between this machine and a session: what fails on this machine is told as what it is."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mooring.files import copier as module
from mooring.files.copier import Copier
from mooring.files.pack import header
from mooring.files.paths import CopyError

FILE = "file file folder tar"
FOLDER = "folder folder folder tar"
NEW = "missing missing folder tar"
CONTENT = header("x", b"0", os.stat(os.devnull)) + bytes(1024)


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


Box = Callable[..., Copier]


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    """Copies with a session in which `looked` is what a path is, and `process` does the rest."""

    def make(looked: str, process: Process | None = None) -> Copier:
        def start(argv: list[str]) -> Process:
            return Process(looked.encode()) if "look" in argv else process or Process()

        monkeypatch.setattr(module, "Pipe", start)
        monkeypatch.setattr(module, "exec_in", lambda ctx, session, argv, **_: argv[4:])
        ctx: Any = None
        session: Any = SimpleNamespace(name="box")
        return Copier(ctx, session)

    return make


def failing(number: int, name: object = None) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), name)

    return fail


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the folder that one may not read ends the copy with one line that names it."""
    (tmp_path / "secret").write_text("x")
    opened = os.open

    def no_secret(path: Any, *args: Any, **kept: Any) -> int:
        if path == "secret":
            failing(errno.EACCES, path)()
        return opened(path, *args, **kept)

    monkeypatch.setattr(os, "open", no_secret)
    with pytest.raises(CopyError, match=r"^secret: Permission denied "):
        box(NEW).send(str(tmp_path), "there")


def test_a_target_that_cannot_be_opened_is_named(
    tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of another user's, as a target, is one line."""
    copier = box(FILE)
    monkeypatch.setattr(os, "open", failing(errno.EACCES, str(tmp_path)))
    with pytest.raises(CopyError, match=r"^/.*: Permission denied "):
        copier.fetch("x", str(tmp_path))


def test_a_full_disk_is_told_as_one(
    tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is named, and nothing is left in its folder."""
    monkeypatch.setattr(module.Unpacker, "unpack", failing(errno.ENOSPC))
    with pytest.raises(CopyError, match="out: No space left on device "):
        box(FILE).fetch("x", str(tmp_path / "out"))
    assert os.listdir(tmp_path) == []


def test_drafts_that_cannot_be_listed_hinder_no_copy(
    tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing the drafts of other copies is not a condition of a copy."""
    copier = box(FILE, Process(CONTENT))
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", failing(errno.EIO))
        assert copier.fetch("x", str(tmp_path / "out"))
    assert (tmp_path / "out").is_file()


def test_a_stream_that_cannot_be_read_is_told(box: Box) -> None:
    """`mooring cp - NAME:PATH < FOLDER` is an error of the command line, not of mooring's."""
    source: Any = type("Folder", (), {"read": failing(errno.EISDIR)})()
    with pytest.raises(CopyError, match="standard input: Is a directory"):
        box(FOLDER).send_tar(source, "there")


@pytest.mark.parametrize(("looked", "promised"), [(NEW, True), (FOLDER, False)])
def test_nothing_half_is_promised_where_nothing_is_merged(
    tmp_path: Path, box: Box, looked: str, promised: bool
) -> None:
    """The hint of a copy that the session refused says so only where a rename did it all."""
    with pytest.raises(CopyError) as refused:
        box(looked, Process(code=1, complaint="mv: no")).send(str(tmp_path), "there")
    assert ("no file is incomplete" in refused.value.hint) is promised


def test_an_image_without_tar_is_an_error(tmp_path: Path, box: Box) -> None:
    """Copies need tar in the image, in both directions, and the hint says what to install."""
    copier = box("missing missing folder none")
    for copy in (copier.fetch, copier.send):
        with pytest.raises(CopyError, match="image of session box has no tar") as refused:
            copy(str(tmp_path), "there")
        assert refused.value.hint == "install tar or busybox in the image"
