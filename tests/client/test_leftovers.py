"""What mooring keeps in its state folder, and how it goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import SessionStateError


@pytest.fixture
def used(service: Mooring, declare: Any) -> Mooring:
    """An installation with a history and a session that has been removed."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.remove(session, force=True)
    return service


def test_the_folder_goes_with_all_that_is_mooring_s(used: Mooring, state: Path) -> None:
    files = used.records.state_files()
    assert (files.folder, files.others) == (state, ())
    assert files.size_bytes >= (state / "history.db").stat().st_size > 0
    used.records.remove_state()
    assert not state.exists()


def test_what_is_not_mooring_s_stays(used: Mooring, state: Path, tmp_path: Path) -> None:
    """The folder may be one that the user has chosen, or the home; a link is not followed."""
    (state / "thesis.tex").write_text("x")
    (state / "sessions.bak").mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (state / "consents").rmdir() if (state / "consents").exists() else None
    (state / "consents").symlink_to(precious)
    for name in ("images/cat.png", "queue/next.txt", "sessions/song.mp3", "history.txt"):
        (state / name).parent.mkdir(exist_ok=True, parents=True)
        (state / name).write_text("x")
    others = (
        *("consents", "history.txt", "images/cat.png", "queue/next.txt", "sessions.bak"),
        *("sessions/song.mp3", "thesis.tex"),
    )
    assert used.records.state_files().others == others
    used.records.remove_state()
    assert used.records.state_files() == (state, 0, others)
    assert all(os.path.lexists(state / name) for name in others)
    assert (precious / "file").exists()


def test_not_under_a_session(service: Mooring, state: Path, declare: Any) -> None:
    """Not even one that was created since they were removed."""
    service.sessions.create(declare(command="x"), LaunchOptions(name="train"))
    with pytest.raises(SessionStateError, match="files of sessions: train"):
        service.records.remove_state()
    assert (state / "history.db").exists()
