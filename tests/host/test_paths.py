"""Where mooring keeps its files on this machine, and who this installation is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.errors import MooringError
from mooring.host import paths
from mooring.host.paths import Installation


def test_a_state_folder_of_somebody_else(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others own is not used, and what others can read is closed to them."""
    os.chmod(state, 0o755)
    assert paths.state_dir().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(MooringError, match="belongs to another user"):
        paths.state_dir()


def test_a_state_folder_that_cannot_be(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder that cannot be made is told with its path and what to set."""
    (state / "file").touch()
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / "file" / "below"))
    with pytest.raises(MooringError, match="cannot create") as caught:
        paths.state_dir()
    assert "MOORING_STATE_DIR" in caught.value.hint


def test_an_installation_has_one_name(state: Path) -> None:
    """An installation's id is made once and kept; two installations have two."""
    first = Installation.here().id
    assert Installation.here().id == first
    assert len(first) == 16
    (state / "installation").unlink()
    assert Installation.here().id != first
    assert [path.name for path in state.glob(".installation*")] == []
