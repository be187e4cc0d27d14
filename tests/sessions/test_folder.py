"""A session's folder: made and removed whole."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.errors import MooringError
from mooring.kernels.listing import kernels_of
from mooring.sessions.folder import SessionFolder
from tests.support.sessions import ID, all_folders, make_folder, session_folder


def test_it_is_the_callers_alone(folder: SessionFolder, state: Path) -> None:
    """Everything on the way to a session's files is closed to others."""
    for path in (state, folder.path, folder.run, folder.home, folder.secrets, folder.run / "k"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_uid == os.getuid()


def test_a_folder_that_cannot_be_made_leaves_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a whole folder or none: no draft, no descriptor."""

    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        make_folder(ID)
    assert list((state / "sessions").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected


def test_remove_takes_everything(folder: SessionFolder, state: Path) -> None:
    """A removed folder leaves nothing, and removing it again is no error."""
    (folder.home / "deep" / "er").mkdir(parents=True)
    (folder.home / "link").symlink_to("/")
    folder.remove()
    folder.remove()
    assert list((state / "sessions").iterdir()) == []
    assert Path("/").exists()


def test_what_cannot_be_deleted_is_told(
    folder: SessionFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that stay are named with what deletes them, not passed over."""

    def refuse(path: Path) -> None:
        raise OSError(1, "Operation not permitted", "fixed")

    monkeypatch.setattr("mooring.host.trees.remove_path", refuse)
    with pytest.raises(MooringError, match=r"cannot delete .*\.gone: fixed: Oper") as refused:
        folder.remove()
    gone = folder.path.with_name(f".{ID}.gone")
    assert refused.value.hint == f"as root: rm -rf -- {gone}"
    assert not folder.exists


def test_hidden_folders_are_no_sessions(folder: SessionFolder, state: Path) -> None:
    """Drafts, files and links beside the sessions are not taken for one."""
    sessions = state / "sessions"
    (sessions / ".draft.new").mkdir()
    (sessions / "file").touch()
    (sessions / "link").symlink_to(folder.path)
    assert [found.id for found in all_folders()] == [ID]


def test_a_session_that_is_gone_has_no_kernels() -> None:
    """A folder that does not exist is empty in every respect."""
    folder = session_folder(ID)
    assert kernels_of(folder.guest) == []
    assert folder.clock.settings() == {}
    assert folder.clock.status() is None
    assert not folder.exists
    assert not folder.in_creation()


def test_what_is_waited_for_is_told_in_any_locale(folder: SessionFolder) -> None:
    """It is UTF-8, whatever the locale; other bytes break no listing."""
    folder.write_waiting("für die Plätze")
    program = (
        "import sys; from pathlib import Path; from mooring.host.paths import Installation; "
        "from mooring.sessions.folder import SessionFolder; "
        "folder = SessionFolder.open(Installation.here(), sys.argv[1]); "
        "print(ascii(folder.waiting()))"
    )
    environ = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    words = [sys.executable, "-c", program, folder.id]
    told = subprocess.run(words, capture_output=True, text=True, env=environ, check=True)
    assert told.stdout == ascii("für die Plätze") + "\n"
    (folder.path / "waiting").write_bytes(b"\xff")
    assert folder.waiting() == "�"


def test_the_lock_follows_the_folder() -> None:
    """A folder that is in the making is held from its first moment until it is let go."""
    folder = make_folder("0123456789ab")
    assert folder.in_creation()
    with open(folder.path / "lock") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder.release()
    assert not folder.in_creation()
